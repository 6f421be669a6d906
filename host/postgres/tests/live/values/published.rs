//! What a publication leaves out, and what an update does not send.

use model::page::Value;

use super::{database, ends, json};
use crate::cluster::Database;
use crate::support::{connect, next, read, read_texts, text};
use model::source::Event;
use postgres::Options;

fn options(db: &Database) -> Options {
    Options { publication: "p".to_owned(), ..db.options() }
}

#[tokio::test]
async fn b067_generated_columns_neither_shift_nor_break_a_row() {
    for bin in ends() {
        let mut db = database(bin).await;
        db.sql
            .run(
                "create table t (
                     a int generated always as (id * 2) stored, id int primary key, name text,
                     b text generated always as (name || '!') stored, last int);
                 alter table t drop column last; alter table t add last int;
                 create publication p for table t;",
            )
            .await;
        let mut source = connect(options(&db)).await;
        db.sql.run("insert into t (id, name, last) values (1, 'x', 7)").await;
        db.sql.run("update t set id = 2, name = 'y'").await;
        db.sql.run("delete from t").await;
        assert_eq!(
            read_texts(&mut *source, 3).await,
            ["insert t (1, x, 7)", "update t [1, _, _] -> (2, y, 7)", "delete t [2, _, _]",]
        );
    }
}

#[tokio::test]
async fn b067_generated_columns_are_not_in_the_whole_old_row_either() {
    // Newer servers refuse the update.
    let mut db = database(ends().remove(0)).await;
    db.sql
        .run(
            "create table t (
                 a int generated always as (id * 2) stored, id int primary key, name text);
             alter table t replica identity full; create publication p for table t;",
        )
        .await;
    let mut source = connect(options(&db)).await;
    db.sql.run("insert into t (id, name) values (1, 'x'); update t set name = 'y'").await;
    let texts = read_texts(&mut *source, 1).await;
    assert_eq!(texts, ["insert t (1, x)", "update t (1, x) -> (1, y)"]);
}

#[tokio::test]
async fn b067_published_generated_columns_are_columns_like_others() {
    // Postgres 18 made them.
    let mut db = database(ends().pop().unwrap()).await;
    db.sql
        .run(
            "create table t (
                 a int generated always as (id * 2) stored, id int primary key,
                 v int generated always as (id * 3) virtual, name text,
                 b text generated always as (name || '!') stored);
             create publication p for table t with (publish_generated_columns = stored);",
        )
        .await;
    let mut source = connect(options(&db)).await;
    db.sql.run("insert into t (id, name) values (1, 'x')").await;
    db.sql.run("update t set id = 2, name = 'y'").await;
    db.sql.run("delete from t").await;
    let (changes, _) = read(&mut *source, 3).await;
    let names: Vec<_> = changes[0].relation.columns.iter().map(|c| c.name.to_string()).collect();
    assert_eq!(names, ["a", "id", "name", "b"]);
    let texts: Vec<_> = changes.iter().map(text).collect();
    assert_eq!(
        texts,
        [
            "insert t (2, 1, x, x!)",
            "update t [_, 1, _, _] -> (4, 2, y, y!)",
            "delete t [_, 2, _, _]",
        ]
    );
}

#[tokio::test]
async fn b068_only_published_columns_and_rows_come() {
    for bin in ends() {
        let mut db = database(bin).await;
        db.sql
            .run(
                "create table listed (secret text, name text, id int primary key, more int);
                 create table filtered (id int primary key, name text);
                 create table whole (id int primary key, name text);
                 alter table whole replica identity full;
                 create publication p for table listed (id, name), filtered where (id < 10),
                     whole where (name <> 'out');",
            )
            .await;
        let mut source = connect(options(&db)).await;
        db.sql.run("insert into listed values ('s', 'a', 1, 7)").await;
        db.sql.run("update listed set secret = 't', name = 'b'").await;
        db.sql.run("update listed set id = 2").await;
        db.sql.run("delete from listed").await;
        db.sql.run("insert into filtered values (1, 'a'), (11, 'b')").await;
        // Leaves the set, enters it, stays in it, stays out.
        db.sql.run("update filtered set id = 21 where id = 1").await;
        db.sql.run("update filtered set id = 2 where id = 11").await;
        db.sql.run("update filtered set id = 3 where id = 2").await;
        db.sql
            .run("update filtered set id = 22 where id = 21; delete from filtered where id = 22")
            .await;
        db.sql.run("insert into whole values (1, 'in')").await;
        db.sql.run("update whole set name = 'out'").await;
        db.sql.run("update whole set name = 'back'").await;
        db.sql.run("insert into whole values (0, 'in')").await;
        let mut texts = Vec::new();
        while texts.last().is_none_or(|text| text != "insert whole (0, in)") {
            // What publishes nothing is a transaction too, which older servers tell of.
            if let Event::Changes(batch) = next(&mut *source).await {
                texts.extend(batch.changes.iter().map(text));
            }
        }
        assert_eq!(
            texts,
            [
                "insert listed (a, 1)",
                "update listed (b, 1)",
                "update listed [_, 1] -> (b, 2)",
                "delete listed [_, 2]",
                "insert filtered (1, a)",
                "delete filtered [1, _]",
                "insert filtered (2, b)",
                "update filtered [2, _] -> (3, b)",
                "insert whole (1, in)",
                "delete whole (1, in)",
                "insert whole (1, back)",
                "insert whole (0, in)",
            ]
        );
    }
}

#[tokio::test]
async fn b072_b073_a_new_long_value_is_whole_and_no_text_is_taken_for_a_marker() {
    for bin in ends() {
        let mut db = database(bin).await;
        db.sql
            .run(
                "create table t (id int primary key, n int, long text, other text, doc jsonb);
                 alter table t alter long set storage external, alter other set storage external;
                 insert into t select 1, 1, repeat('x', 9000), repeat('y', 9000),
                     jsonb_agg(md5(n::text)) from generate_series(1, 1000) n;",
            )
            .await;
        let mut source = connect(db.options()).await;
        db.sql.run("update t set long = repeat('z', 1000000)").await;
        // What other engines write in the place of a value that was not sent, and what ours is made of.
        let markers = [
            "__debezium_unavailable_value",
            "unchanged_toast",
            "unchanged-toast-datum",
            "?",
            "u",
            "",
            "null",
        ];
        for marker in markers {
            db.sql.run(&format!("update t set long = '{marker}', n = n + 1")).await;
        }
        let (changes, _) = read(&mut *source, 1 + markers.len()).await;
        let value = |n: usize, column| changes[n].after.as_ref().unwrap().value(column);
        assert!(value(0, 2) == Value::Text(&"z".repeat(1_000_000)));
        assert_eq!((value(0, 3), value(0, 4)), (Value::Unchanged, Value::Unchanged));
        for (n, marker) in markers.into_iter().enumerate() {
            assert_eq!(value(1 + n, 2), Value::Text(marker));
            assert_eq!(value(1 + n, 3), Value::Unchanged);
            assert_eq!(json(&changes[1 + n], 2), format!("{marker:?}"));
        }
    }
}
