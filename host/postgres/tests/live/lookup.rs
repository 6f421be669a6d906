//! Values that an update did not send, read from the table as it is now.

use model::change::Change;
use model::lookup::Lookup as _;
use model::page::{Row, Value};
use model::source::SourceError;
use postgres::{Lookup, Options};
use tokio::time::timeout;

use crate::cluster::{Database, PATIENCE};
use crate::support::{connect, read};

/// Columns that are kept out of line, a literal for each, and what the key has.
const COLUMNS: &[(&str, &str)] = &[
    ("text", "repeat('x', 9000)"),
    ("varchar", "repeat('\"\\ž', 3000)"),
    ("char(5000)", "'ab'"),
    ("json", "('{\"b\":1, \"a\": [' || repeat('1e400, ', 2000) || '2]}')::json"),
    ("jsonb", "('{\"b\":1, \"a\": \"' || repeat('y', 9000) || '\"}')::jsonb"),
    ("bytea", "decode(repeat('00ff5c', 3000), 'hex')"),
    ("numeric", "('0.' || repeat('123456789', 900) || '0')::numeric"),
    ("text[]", "array_fill('a,\"{} \\ NULL'::text, array[900])"),
    ("timestamptz[]", "array_fill(timestamptz '2024-01-02 03:04:05+02', array[900])"),
    ("interval[]", "array_fill(interval '1 mon -2 days', array[900])"),
    ("float8[]", "array_fill(float8 '0.1', array[1900])"),
    ("boolean[]", "array_fill(true, array[9000])"),
    ("pair", "row(null, repeat('z', 9000))::pair"),
    ("pairs", "array[row(1, repeat('z', 9000))::pair]"),
    ("tsvector", "array_to_tsvector(array(select 'word' || n from generate_series(1, 900) n))"),
    ("xml", "('<a>' || repeat('b', 9000) || '</a>')::xml"),
];

/// A table with a key of several types and all of the columns, one row, and a first update of it
/// that leaves them alone.
async fn world(db: &mut Database) -> (Box<dyn model::source::Source>, Change, Change) {
    db.sql.run("create type pair as (n int, t text); create domain pairs as pair[]").await;
    db.sql.run("create type mood as enum ('sad', 'ok')").await;
    let columns: Vec<_> =
        COLUMNS.iter().enumerate().map(|(n, (kind, _))| format!("\"C {n}\" {kind}")).collect();
    let columns = columns.join(", ");
    db.sql
        .run(&format!(
            "create table \"T a\" (id bigint, flag boolean, at timestamptz, mood mood, code char(3),
                 raw bytea, n int, {columns}, primary key (id, flag, at, mood, code, raw))"
        ))
        .await;
    for n in 0..COLUMNS.len() {
        db.sql.run(&format!("alter table \"T a\" alter \"C {n}\" set storage external")).await;
    }
    let mut source = connect(db.options()).await;
    let values: Vec<_> = COLUMNS.iter().map(|(_, literal)| *literal).collect();
    let key = "7, true, '2024-01-02 03:04:05.678+02', 'ok', 'a', '\\x00ff'";
    db.sql.run(&format!("insert into \"T a\" values ({key}, 1, {})", values.join(", "))).await;
    db.sql.run("update \"T a\" set n = 2").await;
    let (changes, _) = read(&mut *source, 2).await;
    let [inserted, updated] = <[Change; 2]>::try_from(changes).unwrap();
    (source, inserted, updated)
}

async fn ask(
    lookup: &Lookup,
    change: &Change,
    columns: &[usize],
) -> Result<Option<Row>, SourceError> {
    let rows: Vec<Row> = change.after.iter().cloned().collect();
    let answer = lookup.fetch(&change.relation, &rows, columns);
    let mut answer = timeout(PATIENCE, answer).await.expect("an answer comes")?;
    assert_eq!(answer.len(), 1);
    Ok(answer.remove(0))
}

fn options(db: &Database) -> Options {
    Options { slot: "unused".into(), ..db.options() }
}

#[tokio::test]
async fn b071_a_fetched_value_is_what_would_have_been_sent() {
    let mut db = Database::create().await;
    let (source, inserted, updated) = world(&mut db).await;
    let columns: Vec<usize> = updated.unsent().collect();
    assert_eq!(columns, (7..7 + COLUMNS.len()).collect::<Vec<_>>(), "all are out of line");
    let lookup = Lookup::new(options(&db));
    let found = ask(&lookup, &updated, &columns).await.unwrap().expect("the row is there");
    let sent = inserted.after.unwrap();
    for (at, column) in columns.iter().enumerate() {
        assert_eq!(found.value(at), sent.value(*column), "{}", COLUMNS[at].0);
    }
    let filled = updated.filled(&columns, &found);
    assert_eq!(filled.unsent().count(), 0);
    source.close().await.unwrap();
}

/// Many rows in one question, some of them not there, one asked for twice; an answer of null.
#[tokio::test]
async fn b071_rows_are_told_by_their_keys() {
    let mut db = Database::create().await;
    db.sql.run("create table t (id int primary key, n int, long text)").await;
    db.sql.run("alter table t alter long set storage external").await;
    let mut source = connect(db.options()).await;
    db.sql
        .run("insert into t select n, 0, repeat(n::text, 9000) from generate_series(1, 50) n")
        .await;
    db.sql.run("update t set n = 1; ").await;
    let (changes, _) = read(&mut *source, 2).await;
    db.sql.run("delete from t where id > 40; update t set long = null where id = 3").await;
    let updates = &changes[50..];
    let mut rows: Vec<Row> = updates.iter().filter_map(|change| change.after.clone()).collect();
    rows.push(rows[6].clone());
    let lookup = Lookup::new(options(&db));
    let found = lookup.fetch(&changes[0].relation, &rows, &[2]).await.unwrap();
    assert_eq!(found.len(), 51);
    for (row, found) in rows.iter().zip(&found) {
        let Value::Text(id) = row.value(0) else { panic!() };
        let long = id.repeat(9000);
        let expected = match id.parse::<u32>().unwrap() {
            3 => Some(Value::Null),
            41.. => None,
            _ => Some(Value::Text(&long)),
        };
        assert_eq!(found.as_ref().map(|found| found.value(0)), expected, "{id}");
    }
    source.close().await.unwrap();
}

/// Whatever became of the table since: the value of another column is never taken for this one's.
#[tokio::test]
async fn b071_a_table_that_changed_gives_no_wrong_value() {
    let mut db = Database::create().await;
    let (source, _, updated) = world(&mut db).await;
    let lookup = Lookup::new(options(&db));
    let text = async |columns: &[usize]| {
        let found = ask(&lookup, &updated, columns).await.unwrap();
        found.map(|row| match row.value(0) {
            Value::Text(text) => text.chars().take(3).collect(),
            other => format!("{other:?}"),
        })
    };
    assert_eq!(text(&[7]).await.as_deref(), Some("xxx"));
    db.sql
        .run("create schema s; alter table \"T a\" rename to b; alter table b set schema s")
        .await;
    assert_eq!(text(&[7]).await.as_deref(), Some("xxx"), "another name, the same table");
    // Of another type: not even if it was asked for a moment ago.
    db.sql.run("alter table s.b alter \"C 0\" type json using to_json(\"C 0\")").await;
    assert_eq!(text(&[7]).await.as_deref(), Some("Unchanged"));
    db.sql.run("alter table s.b alter \"C 0\" type text using \"C 0\"::text").await;
    assert_eq!(text(&[7]).await.as_deref(), Some("\"xx"), "text again");
    db.sql.run("alter table s.b rename \"C 0\" to c").await;
    assert_eq!(text(&[7, 8]).await.as_deref(), Some("Unchanged"));
    db.sql.run("alter table s.b rename id to ident").await;
    assert_eq!(text(&[8]).await, None, "no key, no row");
    db.sql.run("drop table s.b").await;
    assert_eq!(text(&[8]).await, None);
    source.close().await.unwrap();
}

#[tokio::test]
async fn b071_what_stands_in_the_way_is_named_and_can_be_mended() {
    let mut db = Database::create().await;
    let (source, _, updated) = world(&mut db).await;
    let role = format!("r_{}", updated.relation.oid);
    db.sql.run(&format!("create role {role} login")).await;
    let lookup = Lookup::new(Options { user: role.clone(), ..options(&db) });
    let error = ask(&lookup, &updated, &[7]).await.unwrap_err();
    let SourceError::Definite { code, help, .. } = &error else { panic!("{error}") };
    assert_eq!(*code, "privilege");
    assert!(help.contains("SELECT on public.T a"), "{help}");
    db.sql.run(&format!("grant select on \"T a\" to {role}")).await;
    assert!(ask(&lookup, &updated, &[7]).await.unwrap().is_some());
    // The session is cut while nobody looks.
    db.sql
        .run(&format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'"
        ))
        .await;
    assert!(ask(&lookup, &updated, &[7]).await.unwrap().is_some());
    db.sql.run(&format!("drop owned by {role}; drop role {role}")).await;
    source.close().await.unwrap();
}
