//! Rows of partitions: under which name they come, and whose partition they are.

use std::cell::{Cell, RefCell};

use model::change::Change;
use model::page::Value;
use model::source::{Connect as _, Event, Missing, Source};
use postgres::{Connector, Options};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::cluster::{Cluster, Database, PATIENCE, majors};
use crate::log;
use crate::support::{connect, next, read, text};

const TREE: &str = "
    create table root (id int primary key, note text) partition by range (id);
    create table low partition of root for values from (0) to (10);
    create table high partition of root for values from (10) to (20) partition by range (id);
    create table deep partition of high for values from (10) to (20);
    create schema elsewhere;
    create table elsewhere.root (id int primary key, note text);";

/// A database with these tables and a publication of all of them.
async fn database(db: Database, via_root: bool) -> (Database, Options) {
    let mut db = db;
    db.sql.run(TREE).await;
    let publication = format!(
        "create publication p for all tables with (publish_via_partition_root = {via_root})"
    );
    db.sql.run(&publication).await;
    let options = Options { publication: "p".to_owned(), ..db.options() };
    (db, options)
}

/// `insert deep (11, a) in high in root`.
fn placed(change: &Change) -> String {
    let above = change.relation.ancestors.iter();
    let above: Vec<_> = above.map(|it| format!(" in {}.{}", it.schema, it.table)).collect();
    format!("{}{}", text(change), above.concat())
}

#[tokio::test]
async fn b084_b085_b087_a_backlog_of_partitions_of_both_kinds_on_every_major() {
    for bin in majors() {
        let cluster = Cluster::start_with(bin, &["wal_level=logical"], &[]).await;
        let cluster = std::sync::Arc::new(cluster);
        for via_root in [true, false] {
            let db = Database::create_in(std::sync::Arc::clone(&cluster)).await;
            let (mut db, options) = database(db, via_root).await;
            connect(options.clone()).await.close().await.unwrap();
            db.sql
                .run("insert into root values (1, 'a'); insert into deep values (11, 'b');")
                .await;
            db.sql.run("insert into elsewhere.root values (1, 'c')").await;
            // The row moves to another partition, and back.
            db.sql.run("update root set id = 12 where id = 1").await;
            db.sql.run("begin; update root set note = 'd' where id = 12;").await;
            db.sql.run("update root set id = 2 where id = 12; commit;").await;
            let mut source = connect(options).await;
            let (changes, _) = read(&mut *source, 4).await;
            let got: Vec<_> = changes.iter().map(placed).collect();
            let expected = if via_root {
                [
                    "insert root (1, a)",
                    "insert root (11, b)",
                    "insert root (1, c)",
                    "delete root [1, _]",
                    "insert root (12, a)",
                    "update root (12, d)",
                    "delete root [12, _]",
                    "insert root (2, d)",
                ]
            } else {
                [
                    "insert low (1, a) in public.root",
                    "insert deep (11, b) in public.high in public.root",
                    "insert root (1, c)",
                    "delete low [1, _] in public.root",
                    "insert deep (12, a) in public.high in public.root",
                    "update deep (12, d) in public.high in public.root",
                    "delete deep [12, _] in public.high in public.root",
                    "insert low (2, d) in public.root",
                ]
            };
            assert_eq!(got, expected, "via root: {via_root}");
            assert!(changes.is_sorted_by(|a, b| a.position < b.position));
            let root = db.sql.value("select 'public.root'::regclass::oid").await;
            let oids = changes.iter().map(|change| change.relation.root_oid().to_string());
            let strangers: Vec<usize> =
                oids.enumerate().filter(|(_, oid)| *oid != root).map(|(index, _)| index).collect();
            assert_eq!(strangers, [2], "all but the table of another schema are the root's");
            source.close().await.unwrap();
        }
    }
}

/// Somebody writes to a table all the time, and each row says whether the table was a partition
/// then, while it is attached and detached again and again.
#[tokio::test]
async fn b086_attribution_is_right_before_and_after_under_load() {
    for via_root in [true, false] {
        let (mut db, options) = database(Database::create().await, via_root).await;
        db.sql.run("create table part (id int primary key, note text)").await;
        let mut source = connect(options).await;
        let mut writer = db.cluster.session(&db.name).await;
        // What the last row that was told rightly says, and whether the world goes on.
        let (state, moved, done) = (RefCell::new(String::new()), Notify::new(), Cell::new(false));
        let write = async {
            // The lock on the table is taken before the statement's snapshot: the note is the truth.
            let sql = "insert into part select coalesce(max(id) + 1, 100), coalesce((
                           select 'root' from pg_inherits where inhrelid = 'part'::regclass
                       ), 'part') from part";
            while !done.get() {
                writer.run(sql).await;
            }
            // The end.
            writer.run("insert into elsewhere.root values (1, 'end')").await;
        };
        let toggle = async {
            let until_read = async |wanted: &str| {
                while *state.borrow() != wanted {
                    moved.notified().await;
                }
            };
            until_read("part").await;
            for _ in 0..5 {
                let sql =
                    "alter table root attach partition part for values from (100) to (maxvalue)";
                db.sql.run(sql).await;
                until_read("root").await;
                db.sql.run("alter table root detach partition part").await;
                until_read("part").await;
            }
            done.set(true);
        };
        // Table, ancestors and truth of each row.
        let reading = async {
            let mut rows: Vec<(String, String, String)> = Vec::new();
            loop {
                let Event::Changes(batch) = next(&mut *source).await else { continue };
                for Change { relation, after, .. } in &batch.changes {
                    let Value::Text(truth) = after.as_ref().unwrap().value(1) else {
                        panic!("{relation:?}")
                    };
                    if truth == "end" {
                        return rows;
                    }
                    let above: Vec<&str> = relation.ancestors.iter().map(|it| &*it.table).collect();
                    let name = relation.table.to_string();
                    rows.push((name, above.join(" "), truth.to_owned()));
                    let is_root = &*relation.table == "root" || !above.is_empty();
                    let told = if is_root { "root" } else { "part" };
                    if told == truth {
                        truth.clone_into(&mut state.borrow_mut());
                    }
                }
                moved.notify_one();
            }
        };
        let world = async { tokio::join!(write, toggle, reading).2 };
        let rows = timeout(PATIENCE * 2, world).await.expect("it comes to its end");
        let mut turns = 0;
        let mut told_before = "part";
        for (index, (table, above, truth)) in rows.iter().enumerate() {
            let told = match (table.as_str(), above.as_str(), via_root) {
                ("part", "", _) => "part",
                ("root", "", true) | ("part", "root", false) => "root",
                _ => panic!("row {index}: {table} in {above}"),
            };
            turns += usize::from(told != told_before);
            told_before = told;
            // Where Postgres says it, it is exact. Where the catalog does, no row of the root is
            // missed, and what was under way at the turn may count as its own, too.
            let in_doubt = !via_root && truth == "part";
            assert!(told == truth || in_doubt, "row {index} of {truth} is told as {told}");
        }
        assert_eq!(turns, 10, "each attachment is one stretch of the {} rows", rows.len());
        source.close().await.unwrap();
    }
}

/// The catalog knows only the present. What was met before, on whatever connection, is still known
/// for the rows of its time; what was not is told in the log, and delivered as it came.
#[tokio::test]
async fn b086_a_backlog_of_a_partition_that_is_none_any_more() {
    log::listen();
    let (mut db, options) = database(Database::create().await, false).await;
    // It met the partition.
    let acquainted = Connector::new(options.clone());
    db.sql.run("create table gone partition of root for values from (20) to (30)").await;
    let open = async |connector: &Connector| {
        timeout(PATIENCE, connector.connect(Missing::Create)).await.unwrap().unwrap()
    };
    let mut source = open(&acquainted).await;
    db.sql.run("insert into root values (1, 'a'), (21, 'b')").await;
    let (_, commits) = read(&mut *source, 1).await;
    source.confirm(commits[0].end_lsn);
    source.close().await.unwrap();

    db.sql.run("insert into root values (2, 'c'), (22, 'd')").await;
    db.sql.run("alter table root detach partition low").await;
    db.sql.run("insert into low values (3, 'e')").await;
    db.sql.run("drop table gone").await;
    let backlog = async |mut source: Box<dyn Source>| {
        let (changes, _) = read(&mut *source, 2).await;
        source.close().await.unwrap();
        changes.iter().map(placed).collect::<Vec<_>>()
    };
    let told = || log::lines("whether it was a partition").len();
    assert_eq!(
        backlog(open(&acquainted).await).await,
        [
            "insert low (2, c) in public.root",
            "insert gone (22, d) in public.root",
            "insert low (3, e) in public.root",
        ],
        "nobody knows when it was detached: in doubt it is the root's"
    );
    assert_eq!(told(), 0, "nothing was unknown");
    // One that starts now cannot know.
    let stranger = Connector::new(options);
    assert_eq!(
        backlog(open(&stranger).await).await,
        ["insert low (2, c)", "insert gone (22, d)", "insert low (3, e)"]
    );
    assert_eq!(told(), 2, "{:?}", log::lines("whether it was a partition"));
}

/// Postgres does not say that the root of a partition was renamed before it describes the partition
/// anew: the oid is what stays, and the next connection has the name.
#[tokio::test]
async fn b079_a_renamed_root_keeps_its_oid_and_has_its_name_on_the_next_connection() {
    for via_root in [true, false] {
        let (mut db, options) = database(Database::create().await, via_root).await;
        let root = db.sql.value("select 'root'::regclass::oid").await;
        let mut source = connect(options.clone()).await;
        db.sql.run("insert into root values (1, 'a')").await;
        db.sql.run("alter table root rename to trunk").await;
        db.sql.run("insert into trunk values (2, 'b')").await;
        let (changes, commits) = read(&mut *source, 2).await;
        for change in &changes {
            assert_eq!(change.relation.root_oid().to_string(), root, "{}", placed(change));
        }
        source.confirm(commits[1].end_lsn);
        source.close().await.unwrap();
        db.sql.run("insert into trunk values (3, 'c')").await;
        let mut source = connect(options).await;
        let (changes, _) = read(&mut *source, 1).await;
        let expected =
            if via_root { "insert trunk (3, c)" } else { "insert low (3, c) in public.trunk" };
        assert_eq!(changes.iter().map(placed).collect::<Vec<_>>(), [expected]);
        assert_eq!(changes[0].relation.root_oid().to_string(), root);
        source.close().await.unwrap();
    }
}
