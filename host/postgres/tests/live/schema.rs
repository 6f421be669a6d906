//! Tables that change while rows of them wait, and transactions of every kind in one backlog.

use std::sync::Arc;

use model::change::Change;
use model::relation::Kind;
use postgres::{ColumnsOf, Options, inventory};

use crate::cluster::{Cluster, Database, majors};
use crate::support::{connect, key, read, read_texts, text};

/// `insert t (1) of public.t by id`.
fn described(change: &Change) -> String {
    let relation = &change.relation;
    let (schema, table) = (&relation.schema, &relation.table);
    format!("{} of {schema}.{table} by {}", text(change), key(change).join(" "))
}

#[tokio::test]
async fn b012_b013_b014_b015_transactions_of_every_kind_in_one_backlog() {
    let mut db = Database::create().await;
    db.sql.run("create table t (n int primary key); create table quiet (n int)").await;
    db.sql.run("create publication p for table t").await;
    let options = Options { publication: "p".to_owned(), ..db.options() };
    connect(options.clone()).await.close().await.unwrap();
    let mut other = db.cluster.session(&db.name).await;
    db.sql.run("begin; insert into t values (1);").await;
    other.run("begin; insert into t values (2); rollback;").await;
    other.run("begin; insert into t values (3); savepoint s; insert into t values (4);").await;
    db.sql.run("insert into t values (5)").await;
    other
        .run("savepoint u; insert into t values (6); rollback to s; insert into t values (7);")
        .await;
    other.run("savepoint v; insert into t values (8); release v; commit;").await;
    // Nothing of it is published.
    other.run("begin; insert into quiet values (1); commit;").await;
    db.sql.run("insert into t values (9); commit;").await;
    let mut source = connect(options).await;
    let (changes, commits) = read(&mut *source, 2).await;
    assert_eq!(
        changes.iter().map(text).collect::<Vec<_>>(),
        [
            "insert t (3)",
            "insert t (7)",
            "insert t (8)",
            "insert t (1)",
            "insert t (5)",
            "insert t (9)"
        ]
    );
    let ordinals: Vec<u64> = changes.iter().map(|change| change.position.ordinal).collect();
    assert_eq!(ordinals, [0, 1, 2, 0, 1, 2]);
    assert!(commits[0].commit_lsn < commits[1].commit_lsn);
    source.close().await.unwrap();
}

/// Nothing at `PREPARE`, however the stream is opened again, everything once at the end.
#[tokio::test]
async fn b018_a_prepared_transaction_comes_once_when_it_is_committed() {
    for bin in majors() {
        let settings = ["wal_level=logical", "max_prepared_transactions=10"];
        let cluster = Arc::new(Cluster::start_with(bin, &settings, &[]).await);
        let mut db = Database::create_in(cluster).await;
        db.sql.run("create table t (n int primary key, v text)").await;
        let mut source = connect(db.options()).await;
        let prepare = |name: &str, n: u32| {
            format!("begin; insert into t values ({n}, '{name}'); prepare transaction '{name}';")
        };
        db.sql.run(&prepare("kept", 1)).await;
        db.sql.run(&prepare("dropped", 2)).await;
        db.sql.run("insert into t values (3, 'between')").await;
        let (changes, commits) = read(&mut *source, 1).await;
        assert_eq!(changes.iter().map(text).collect::<Vec<_>>(), ["insert t (3, between)"]);
        // Confirmed past both, and opened anew: they are still to come.
        source.confirm(commits[0].end_lsn);
        source.close().await.unwrap();
        let mut source = connect(db.options()).await;
        db.sql.run("rollback prepared 'dropped'").await;
        db.sql.run("insert into t values (4, 'before')").await;
        db.sql.run("commit prepared 'kept'").await;
        db.sql.run("insert into t values (5, 'after')").await;
        let (changes, commits) = read(&mut *source, 3).await;
        let expected = ["insert t (4, before)", "insert t (1, kept)", "insert t (5, after)"];
        assert_eq!(changes.iter().map(text).collect::<Vec<_>>(), expected);
        source.confirm(commits[1].end_lsn);
        source.close().await.unwrap();
        // And not again, from a backlog or otherwise.
        db.sql.run(&prepare("late", 6)).await;
        db.sql.run("commit prepared 'late'").await;
        let mut source = connect(db.options()).await;
        let texts = read_texts(&mut *source, 2).await;
        assert_eq!(texts, ["insert t (5, after)", "insert t (6, late)"]);
        source.close().await.unwrap();
    }
}

/// Postgres says where a replayed transaction came from, and names the types that are not built in,
/// between the messages that matter.
#[tokio::test]
async fn b026_b027_rows_behind_origins_and_types_are_what_they_are() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create type mood as enum ('sad', 'ok');
             create domain grade as int check (value > 0);
             create type pair as (a int, b text);
             create table plain (n int primary key);
             create table typed (n grade primary key, m mood, p pair, ms mood[]);",
        )
        .await;
    connect(db.options()).await.close().await.unwrap();
    let mut replayed = db.cluster.session(&db.name).await;
    replayed.run(&format!("select pg_replication_origin_create('elsewhere_{}')", db.name)).await;
    let session = format!("select pg_replication_origin_session_setup('elsewhere_{}')", db.name);
    replayed.run(&session).await;
    db.sql.run("insert into plain values (1)").await;
    replayed
        .run(
            "begin; select pg_replication_origin_xact_setup('0/1234', now());
             insert into plain values (2); insert into typed values (1, 'ok', (1, 'x'), '{sad}');
             insert into plain values (3); commit;",
        )
        .await;
    db.sql.run("alter type mood add value 'elated'").await;
    db.sql.run("begin; insert into typed values (2, 'elated', null, '{ok,elated}');").await;
    db.sql.run("insert into plain values (4); commit;").await;
    let mut source = connect(db.options()).await;
    let (changes, commits) = read(&mut *source, 3).await;
    let got: Vec<_> =
        changes.iter().map(|change| (change.position.ordinal, text(change))).collect();
    let expected = [
        (0, "insert plain (1)"),
        (0, "insert plain (2)"),
        (1, "insert typed (1, ok, (1,x), [\"sad\"])"),
        (2, "insert plain (3)"),
        (0, "insert typed (2, elated, null, [\"ok\",\"elated\"])"),
        (1, "insert plain (4)"),
    ];
    assert_eq!(got, expected.map(|(ordinal, text)| (ordinal, text.to_owned())));
    for (change, commit) in changes.iter().zip([0, 1, 1, 1, 2, 2]) {
        assert_eq!(change.position.commit_lsn, commits[commit].commit_lsn);
    }
    let kinds: Vec<Kind> = changes[2].relation.columns.iter().map(|column| column.kind).collect();
    assert_eq!(kinds, [Kind::Integer, Kind::Text, Kind::Text, Kind::Json]);
}

#[tokio::test]
async fn b077_a_column_of_another_type_is_read_by_the_type_of_its_time() {
    let mut db = Database::create().await;
    db.sql.run("create table t (id int primary key, v int)").await;
    connect(db.options()).await.close().await.unwrap();
    for statement in [
        "insert into t values (1, 7)",
        "alter table t alter v type text",
        "insert into t values (2, 'x')",
        "alter table t alter v type jsonb using to_jsonb(v)",
        "insert into t values (3, '{\"a\": 1}')",
    ] {
        db.sql.run(statement).await;
    }
    let mut source = connect(db.options()).await;
    let (changes, _) = read(&mut *source, 3).await;
    let got: Vec<_> =
        changes.iter().map(|change| (text(change), change.relation.columns[1].kind)).collect();
    let expected = [
        ("insert t (1, 7)", Kind::Integer),
        ("insert t (2, x)", Kind::Text),
        ("insert t (3, {\"a\": 1})", Kind::Json),
    ];
    assert_eq!(got, expected.map(|(text, kind)| (text.to_owned(), kind)));
}

/// One oid under all its names, each at its place; another table may take a name meanwhile.
#[tokio::test]
async fn b078_b079_b080_b081_a_backlog_of_names_and_keys() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create table t (a int primary key, b int not null); create schema archive;
             create table whole (n int primary key); alter table whole replica identity full;",
        )
        .await;
    let oid: u32 = db.sql.value("select 't'::regclass::oid").await.parse().unwrap();
    connect(db.options()).await.close().await.unwrap();
    for statement in [
        "insert into t values (1, 1)",
        "alter table t rename to u",
        "insert into u values (2, 2)",
        "alter table u set schema archive",
        "insert into archive.u values (3, 3)",
        "create table t (a int primary key, b int)",
        "insert into t values (4, 4)",
        "alter table archive.u drop constraint t_pkey, add primary key (b)",
        "insert into archive.u values (5, 5)",
        "alter table archive.u drop constraint u_pkey, add primary key (a, b)",
        "insert into archive.u values (6, 6)",
        "insert into whole values (7)",
        "drop table whole",
    ] {
        db.sql.run(statement).await;
    }
    let mut source = connect(db.options()).await;
    let (changes, _) = read(&mut *source, 7).await;
    let got: Vec<_> =
        changes.iter().map(|change| (described(change), change.relation.oid == oid)).collect();
    let expected = [
        ("insert t (1, 1) of public.t by a", true),
        ("insert u (2, 2) of public.u by a", true),
        ("insert u (3, 3) of archive.u by a", true),
        ("insert t (4, 4) of public.t by a", false),
        ("insert u (5, 5) of archive.u by b", true),
        ("insert u (6, 6) of archive.u by a b", true),
        ("insert whole (7) of public.whole by ", false),
    ];
    assert_eq!(got, expected.map(|(text, same)| (text.to_owned(), same)));
}

#[tokio::test]
async fn b082_a_table_created_later_is_in_a_publication_of_all() {
    let mut db = Database::create().await;
    let mut source = connect(db.options()).await;
    for name in ["one", "two"] {
        db.sql.run(&format!("create table {name} (n int primary key)")).await;
        db.sql.run(&format!("insert into {name} values (1)")).await;
        assert_eq!(read_texts(&mut *source, 1).await, [format!("insert {name} (1)")]);
    }
    source.close().await.unwrap();
    db.sql.run("create table three (n int primary key)").await;
    db.sql.run("insert into three values (1)").await;
    let mut source = connect(db.options()).await;
    let texts = read_texts(&mut *source, 3).await;
    assert_eq!(texts, ["insert one (1)", "insert two (1)", "insert three (1)"]);
}

#[tokio::test]
async fn b083_a_table_added_later_comes_with_its_later_rows() {
    let mut db = Database::create().await;
    db.sql.run("create table a (n int primary key); create table b (n int primary key)").await;
    db.sql.run("create publication p for table a").await;
    let options = Options { publication: "p".to_owned(), ..db.options() };
    // Once as they come, and once as a backlog.
    for round in [1, 2] {
        let source = connect(options.clone()).await;
        let live = if round == 1 {
            Some(source)
        } else {
            drop(source.close().await);
            None
        };
        let n = round * 10;
        db.sql.run(&format!("insert into b values ({n}); insert into a values ({n});")).await;
        db.sql.run("alter publication p add table b").await;
        db.sql.run(&format!("insert into b values ({n} + 1)")).await;
        db.sql.run("alter publication p drop table b").await;
        db.sql
            .run(&format!("insert into b values ({n} + 2); insert into a values ({n} + 2)"))
            .await;
        let mut source = match live {
            Some(source) => source,
            None => connect(options.clone()).await,
        };
        let (changes, commits) = read(&mut *source, 3).await;
        let expected = [
            format!("insert a ({n})"),
            format!("insert b ({})", n + 1),
            format!("insert a ({})", n + 2),
        ];
        assert_eq!(changes.iter().map(text).collect::<Vec<_>>(), expected);
        source.confirm(commits[2].end_lsn);
        source.close().await.unwrap();
    }
}

/// Also before a login could stream: no slot and no publication are needed.
#[tokio::test]
async fn b247_b249_tables_are_listed_with_the_columns_that_were_asked_for() {
    let mut db = Database::create().await;
    db.sql
        .run(
            r#"create schema "Sales";
                create table "Sales"."Order Lines" (id int, gone int, "Upper" text);
                alter table "Sales"."Order Lines" drop column gone;
                create table a (id int) partition by range (id);
                create table a_1 partition of a for values from (0) to (10);
                create table bare (); create view v as select 1 as one"#,
        )
        .await;
    let columns_of = ColumnsOf {
        oids: vec![4_000_000_000],
        names: vec![
            ("Sales".to_owned(), "Order Lines".to_owned()),
            ("public".to_owned(), "bare".to_owned()),
            ("public".to_owned(), "missing".to_owned()),
        ],
    };
    let tables = inventory(&db.options(), &columns_of).await.unwrap();
    let shown: Vec<String> = tables
        .iter()
        .map(|table| {
            let columns = table.columns.as_ref().map(|columns| columns.join(","));
            let columns = columns.unwrap_or_else(|| "-".to_owned());
            format!("{}.{} {columns}", table.schema, table.table)
        })
        .collect();
    let expected = ["Sales.Order Lines id,Upper", "public.a -", "public.a_1 -", "public.bare "];
    assert_eq!(shown, expected);
    let a = tables.iter().find(|table| table.table == "a").unwrap();
    let by_oid = ColumnsOf { oids: vec![a.oid], names: Vec::new() };
    let tables = inventory(&db.options(), &by_oid).await.unwrap();
    let a = tables.iter().find(|table| table.table == "a").unwrap();
    assert_eq!(a.columns.as_deref(), Some(["id".to_owned()].as_slice()));
}
