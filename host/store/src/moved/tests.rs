use std::sync::Arc;

use model::acks::Settled;
use model::chunk::{Chunk, RelationHash, Writer};
use model::lsn::Lsn;
use model::page::{Builder, Extent, Value};
use model::position::Position;
use model::relation::{Column, Identity, Kind, Relation, Rendered};
use model::rollout::RolloutState;
use model::store::{Address, ChangeLog, ChangeLogs as _, Part, Progress as _, Rollouts as _};
use model::versions::{BindingName, Generation, How, Role, Versions as _};
use rusqlite::Connection;

use super::*;
use crate::rollouts::tests::canary;

fn rename(what: Renamed, from: &str, to: &str) -> Rename {
    let named = |name: &str| (name.to_owned(), format!("id of {name}"));
    Rename { what, from: named(from), to: named(to) }
}

async fn renamed(store: &Embedded, renames: Vec<Rename>) -> Result<(), VersionsError> {
    store.rename(store.epoch(), Renames { renames, ..Renames::default() }).await
}

/// The tables that have a column of this name, but for what has its own meaning of it.
fn tables(connection: &Connection, column: &str) -> Vec<String> {
    let sql = "
        SELECT t.name FROM sqlite_schema t, pragma_table_info(t.name) c
        WHERE t.type = 'table' AND c.name = ?1 AND t.name <> 'log_names' ORDER BY t.name";
    let mut tables = connection.prepare(sql).unwrap();
    tables.query_map([column], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// A row of a table with some value in each column that needs one.
fn fill(connection: &Connection, table: &str, column: &str, name: &str, salt: usize) {
    let sql = "SELECT name, type, dflt_value IS NULL FROM pragma_table_info(?1)";
    let mut columns = connection.prepare(sql).unwrap();
    let columns: Vec<(String, String)> = columns
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let value = |(known, kind): &(String, String)| match (known.as_str(), kind.as_str()) {
        _ if known == column => format!("'{name}'"),
        ("record", _) => {
            let (id, sink) = (format!("id {salt}").into(), name.into());
            format!("'{}'", Rollout { id, sink, ..canary() }.to_json())
        }
        ("letter", _) => format!("(SELECT max(id) FROM letters WHERE sink = '{name}')"),
        ("id", "INTEGER") => "NULL".to_owned(),
        (_, "INTEGER") => salt.to_string(),
        (_, "BLOB") => "x''".to_owned(),
        (other, _) => format!("'{other} {salt}'"),
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    connection.execute(&format!("INSERT INTO {table} VALUES ({})", values.join(",")), ()).unwrap();
}

#[tokio::test]
async fn all_that_is_kept_of_a_sink_is_kept_under_its_new_name() {
    let directory = tempfile::tempdir().unwrap();
    drop(Embedded::open(directory.path()).unwrap());
    let connection = Connection::open(directory.path().join(crate::embedded::FILE)).unwrap();
    let tables = tables(&connection, "sink");
    assert!(tables.len() >= 11, "{tables:?}");
    // Letters first: others refer to them.
    let ordered = tables.iter().filter(|it| *it == "letters");
    for table in ordered.chain(tables.iter().filter(|it| *it != "letters")) {
        fill(&connection, table, "sink", "old", 1);
        if table != "rollouts" {
            // What was left of another one that had the name.
            fill(&connection, table, "sink", "new", if table == "backfills" { 2 } else { 1 });
        }
        fill(&connection, table, "sink", "other", 3);
    }
    for entity in ["sink_consumer/id of old", "sink_consumer/id of new"] {
        let since = "INSERT INTO erroring (entity, since_us) VALUES (?1, length(?1))";
        connection.execute(since, [entity]).unwrap();
    }
    let count = |table: &str, name: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table} WHERE sink = ?1");
        connection.query_row(&sql, [name], |row| row.get(0)).unwrap()
    };
    let store = Embedded::open(directory.path()).unwrap();
    for _ in 0..2 {
        // The second time nothing is there any more.
        renamed(&store, vec![rename(Renamed::Sink, "old", "new")]).await.unwrap();
        for table in &tables {
            assert_eq!(count(table, "old"), 0, "{table}");
            let both = ["letters", "letter_keys", "backfills"].contains(&table.as_str());
            assert_eq!(count(table, "new"), if both { 2 } else { 1 }, "{table}");
            assert_eq!(count(table, "other"), 1, "{table}");
        }
    }
    let foreign = "SELECT count(*) FROM letters WHERE sink = 'new' AND origin LIKE 'before %'";
    let foreign: i64 = connection.query_row(foreign, (), |row| row.get(0)).unwrap();
    assert_eq!(foreign, 1, "of the same change of another sink");
    let erroring = "SELECT group_concat(entity) FROM erroring";
    let erroring: String = connection.query_row(erroring, (), |row| row.get(0)).unwrap();
    assert_eq!(erroring, "sink_consumer/id of new");
}

#[tokio::test]
async fn a_rollout_that_is_over_follows_and_one_under_way_cuts_rows_as_it_did() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    let mut over = canary();
    (over.id, over.state, over.drained) = ("over".into(), RolloutState::Aborted, true);
    for rollout in [canary(), over] {
        store.save(store.epoch(), rollout).await.unwrap();
    }
    let renames = vec![rename(Renamed::Sink, "s", "t"), rename(Renamed::Function, "f", "g")];
    renamed(&store, renames).await.unwrap();
    let all = model::store::Rollouts::all(&store).await.unwrap();
    let told = all.iter().map(|it| (&*it.id, &*it.sink, &*it.sink_id, &*it.function));
    assert_eq!(told.collect::<Vec<_>>(), [("over", "t", "id of t", "g"), ("r", "t", "i", "g")]);
}

#[tokio::test]
async fn values_of_a_function_and_slots_of_a_database_follow() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(directory.path()).unwrap());
    store.remember(store.epoch(), "d.x/s").await.unwrap();
    store.remember(store.epoch(), "d/s").await.unwrap();
    let values = |function: &str| crate::FunctionStore::new(Arc::clone(&store), function);
    use model::grants::KeyValue as _;
    values("f").write([("k".to_owned(), Some(b"v".to_vec()))].into()).await.unwrap();
    let renames = vec![rename(Renamed::Function, "f", "g"), rename(Renamed::Database, "d", "e")];
    renamed(&store, renames).await.unwrap();
    assert_eq!(values("g").get("k").await.unwrap(), Some(b"v".to_vec()));
    assert_eq!(values("f").get("k").await.unwrap(), None);
    for (slot, known) in [("e/s", true), ("d/s", false), ("d.x/s", true)] {
        assert_eq!(store.is_known(slot).await.unwrap(), known, "{slot}");
    }
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    let rows = vec![("old".to_owned(), Settled::default())];
    store.record(store.epoch(), "o", rows, None).await.unwrap();
    let name = BindingName { sink: "new".to_owned(), role: Role::Filter };
    let generation = Generation {
        number: 7,
        links: Vec::new(),
        how: How::Apply,
        by: String::new(),
        reason: String::new(),
        at_us: 0,
        behind: None,
    };
    let made = vec![Made { name, generation, hold: false, refused: false }];
    let renames = vec![rename(Renamed::Sink, "old", "new")];
    let ran = [("sink".to_owned(), "new".to_owned())].into();
    let all = Renames { renames, made, ran, ..Renames::default() };
    let refused = store.rename(store.epoch(), all.clone()).await.unwrap_err();
    assert!(matches!(refused, VersionsError::Refused { code: "conflict", .. }), "{refused}");
    assert!(store.load("o", "old").await.unwrap().is_some());
    assert!(store.ran().await.unwrap().is_empty());
    assert!(store.deeds(None, 10).await.unwrap().is_empty());
    store.rename(store.epoch(), Renames { made: Vec::new(), ..all.clone() }).await.unwrap();
    assert!(store.load("o", "new").await.unwrap().is_some());
    assert_eq!(store.ran().await.unwrap(), all.ran);
}

/// A chunk of one change, owed by these.
fn chunk(lsn: u64, sinks: &[&str]) -> model::chunk::Written {
    let relation = Arc::new(Relation {
        oid: 7,
        schema: "public".into(),
        table: "t".into(),
        ancestors: Vec::new(),
        identity: Identity::Default,
        columns: vec![Column {
            name: "id".into(),
            kind: Kind::Text,
            type_name: "text".into(),
            key: true,
        }],
        rendered: Rendered::default(),
    });
    let mut builder = Builder::default();
    let first = builder.begin_row();
    builder.copy(Value::Text("1"));
    let row = builder.end_row(first, Extent::Full);
    let transaction = Arc::new(model::change::Transaction::new(Lsn(lsn), 1, 0));
    let position = Position::new(Lsn(lsn), 0);
    let insert = model::change::Operation::Insert;
    builder.change(position, insert, relation, transaction, None, Some(row));
    let mut writer = Writer::new(sinks.iter().map(|sink| (*sink).into()).collect());
    let change = builder.finish().remove(0);
    writer.push(&change, 0..sinks.len(), |it| RelationHash::of(&it.to_bytes()));
    writer.finish().unwrap()
}

/// The LSNs that a sink owes.
async fn owed(log: &Arc<dyn ChangeLog>, sink: &str) -> Vec<u64> {
    let (mut all, mut at) = (Vec::new(), Address::default());
    while let Some(logged) = log.read(Part::Stream, at).await.unwrap() {
        at = logged.next;
        let positions = Chunk::open(&logged.bytes).unwrap().positions_of(sink).unwrap();
        all.extend(positions.iter().map(|it| it.commit_lsn.0));
    }
    all
}

#[tokio::test]
async fn what_a_sink_owes_of_the_log_it_owes_under_every_later_name() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    let open =
        async |store: &Embedded| store.open(store.epoch(), "o", Lsn(99), None).await.unwrap();
    let progress = async |store: &Embedded, sink: &str| {
        let rows = vec![(sink.to_owned(), Settled::default())];
        store.record(store.epoch(), "o", rows, None).await.unwrap();
    };
    let append = async |log: &Arc<dyn ChangeLog>, lsn: u64, sinks: &[&str]| {
        log.append(Part::Stream, chunk(lsn, sinks)).await.unwrap();
    };
    let log = open(&store).await;
    // A sink `b` was there, and has gone.
    append(&log, 1, &["b", "a"]).await;
    progress(&store, "a").await;
    drop(log);
    renamed(&store, vec![rename(Renamed::Sink, "a", "b")]).await.unwrap();
    let log = open(&store).await;
    assert_eq!((owed(&log, "b").await, owed(&log, "a").await), (vec![1], vec![]));
    // Another one gets the name that is free.
    append(&log, 2, &["a"]).await;
    append(&log, 3, &["b", "a"]).await;
    assert_eq!((owed(&log, "b").await, owed(&log, "a").await), (vec![1, 3], vec![2, 3]));
    // The log may still be open, for a moment.
    renamed(&store, vec![rename(Renamed::Sink, "b", "c")]).await.unwrap();
    append(&log, 4, &["b"]).await;
    drop((log, store));
    let store = Embedded::open(directory.path()).unwrap();
    let log = open(&store).await;
    assert_eq!((owed(&log, "c").await, owed(&log, "a").await), (vec![1, 3], vec![2, 3]));
    assert_eq!(owed(&log, "b").await, [4], "of yet another one");
    // A log that is forgotten begins anew, and knows nothing of it.
    drop(log);
    model::store::ChangeLogs::forget(&store, store.epoch(), "o").await.unwrap();
    drop(open(&store).await);
    let log = open(&store).await;
    append(&log, 5, &["a", "b"]).await;
    assert_eq!((owed(&log, "a").await, owed(&log, "c").await), (vec![5], vec![]));
}
