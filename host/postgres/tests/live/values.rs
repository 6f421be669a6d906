//! Every type's text, through the server's own output functions, as the JSON that is made of it.
//!
//! Each table runs on the oldest and the newest major that there is.

mod arrays;
mod composed;
mod documents;
mod encodings;
mod large;
mod numbers;
mod others;
mod published;
mod settings;
mod texts;
mod times;
mod vectors;

use std::path::PathBuf;
use std::sync::Arc;

use model::change::Change;
use model::relation::Kind;

use crate::cluster::{Cluster, Database, majors};
use crate::support::{connect, read};

/// Type, literal, kind, JSON.
pub(super) type Value<'a> = (&'a str, &'a str, Kind, &'a str);

/// The oldest and the newest server.
pub(super) fn ends() -> Vec<PathBuf> {
    let majors = majors();
    let mut ends: Vec<_> = [majors.first(), majors.last()].into_iter().flatten().cloned().collect();
    ends.dedup();
    ends
}

/// A database on a server of its own.
pub(super) async fn database(bin: PathBuf) -> Database {
    Database::create_in(Arc::new(Cluster::start_with(bin, &["wal_level=logical"], &[]).await)).await
}

/// Streams the values, which may need some statements before, and compares.
pub(super) async fn check(setup: &str, values: &[Value<'_>]) {
    for bin in ends() {
        check_in(&mut database(bin).await, setup, values).await;
    }
}

pub(super) async fn check_in(db: &mut Database, setup: &str, values: &[Value<'_>]) {
    db.sql.run(setup).await;
    let columns: Vec<String> =
        values.iter().enumerate().map(|(n, (kind, ..))| format!("c{n} {kind}")).collect();
    db.sql.run(&format!("create table t ({})", columns.join(", "))).await;
    db.sql.run("alter table t replica identity full").await;
    let mut source = connect(db.options()).await;
    let literals: Vec<String> =
        values.iter().map(|(_, text, ..)| format!("'{}'", text.replace('\'', "''"))).collect();
    db.sql.run(&format!("insert into t values ({})", literals.join(", "))).await;
    let (changes, _) = read(&mut *source, 1).await;
    for (n, (type_name, literal, kind, expected)) in values.iter().enumerate() {
        let what = format!("{type_name} '{literal}'");
        assert_eq!(json(&changes[0], n), *expected, "{what}");
        assert_eq!(changes[0].relation.columns[n].kind, *kind, "{what}");
    }
    source.close().await.unwrap();
}

/// A value of the new row as JSON.
pub(super) fn json(change: &Change, column: usize) -> String {
    let mut out = String::new();
    let row = change.after.as_ref().expect("a change with a new row");
    model::json::value(&mut out, change.relation.columns[column].kind, row.value(column));
    out
}
