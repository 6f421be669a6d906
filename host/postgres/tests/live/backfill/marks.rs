//! Marks in the stream.

use model::backfill::Tables as _;
use model::source::{Event, Mark, Source};

use super::{code, tables};
use crate::cluster::Database;
use crate::support::{connect, next};

/// Reads until so many marks came: each with the number of changes before it.
async fn marks(source: &mut dyn Source, due: usize) -> Vec<(usize, Mark)> {
    let (mut changes, mut marks) = (0, Vec::new());
    while marks.len() < due {
        if let Event::Changes(batch) = next(source).await {
            marks.extend(batch.marks.into_iter().map(|mark| (changes + mark.before, mark)));
            changes += batch.changes.len();
        }
    }
    marks
}

#[tokio::test]
async fn b176_a_mark_stands_in_the_stream_where_it_was_written() {
    let mut db = Database::create().await;
    db.sql.run("create table t (id int primary key)").await;
    let mut source = connect(db.options()).await;
    let tables = tables(&db);
    tables.mark("alone").await.unwrap();
    let first = marks(&mut *source, 1).await.remove(0);
    assert_eq!((first.0, &*first.1.text), (0, "alone"), "nothing else has to come");
    db.sql.run("insert into t values (1), (2)").await;
    tables.mark("{\"n\": 1}").await.unwrap();
    db.sql.run("insert into t values (3)").await;
    tables.mark("ž").await.unwrap();
    let later = marks(&mut *source, 2).await;
    let told: Vec<_> = later.iter().map(|(before, mark)| (*before, &*mark.text)).collect();
    assert_eq!(told, [(2, "{\"n\": 1}"), (3, "ž")]);
    assert!(first.1.position < later[0].1.position && later[0].1.position < later[1].1.position);
    assert_eq!(later[0].1.position.ordinal, 0);
    source.close().await.unwrap();
}

/// Whoever else writes with the prefix gets in nobody's way.
#[tokio::test]
async fn b176_marks_of_somebody_else_do_no_harm() {
    let mut db = Database::create().await;
    db.sql.run("create table t (id int primary key)").await;
    let mut source = connect(db.options()).await;
    db.sql
        .run(
            "begin; insert into t values (1);
             select pg_logical_emit_message(true, 'sequin:mark', 'theirs');
             select pg_logical_emit_message(true, 'sequin:mark', '\\xff'::bytea);
             select pg_logical_emit_message(true, 'sequin:mark', repeat('x', 100000));
             select pg_logical_emit_message(true, 'sequin:marks', 'another');
             select pg_logical_emit_message(false, 'sequin:mark', 'outside');
             insert into t values (2); commit",
        )
        .await;
    let tables = tables(&db);
    tables.mark("ours").await.unwrap();
    let marks = marks(&mut *source, 2).await;
    let told: Vec<_> = marks.iter().map(|(n, it)| (*n, it.position.ordinal, &*it.text)).collect();
    assert_eq!(told, [(1, 1, "theirs"), (2, 0, "ours")]);
    assert_eq!(code(tables.mark(&"x".repeat(2_000)).await), "transient", "would not be read");
    source.close().await.unwrap();
}
