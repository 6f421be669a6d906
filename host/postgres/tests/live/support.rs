//! What the tests share: reading a source, and changes as texts.

use std::fmt::Write as _;

use model::change::Change;
use model::page::{Extent, Row, Value};
use model::relation::Relation;
use model::source::{Commit, Connect as _, Event, Missing, Source, SourceError};
use postgres::{Connector, Options};
use tokio::time::timeout;

use crate::cluster::PATIENCE;

pub(crate) async fn connect(options: Options) -> Box<dyn Source> {
    try_connect(options).await.unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) async fn try_connect(options: Options) -> Result<Box<dyn Source>, SourceError> {
    let connector = Connector::new(options);
    timeout(PATIENCE, connector.connect(Missing::Create)).await.expect("connecting is bounded")
}

pub(crate) async fn next(source: &mut dyn Source) -> Event {
    let event = timeout(PATIENCE, source.next()).await.expect("an event comes");
    event.unwrap_or_else(|error| panic!("{error}"))
}

/// The error that ends the stream.
pub(crate) async fn broken(source: &mut dyn Source) -> SourceError {
    let end = timeout(PATIENCE, async {
        loop {
            if let Err(error) = source.next().await {
                return error;
            }
        }
    });
    end.await.expect("the stream ends")
}

/// Reads until so many transactions have ended.
pub(crate) async fn read(
    source: &mut dyn Source,
    transactions: usize,
) -> (Vec<Change>, Vec<Commit>) {
    let (mut changes, mut commits) = (Vec::new(), Vec::new());
    while commits.len() < transactions {
        if let Event::Changes(batch) = next(source).await {
            assert!(batch.bytes > 0 || batch.changes.is_empty());
            changes.extend(batch.changes);
            commits.extend(batch.commits);
        }
    }
    assert_eq!(commits.len(), transactions);
    (changes, commits)
}

/// Reads so many transactions as texts.
pub(crate) async fn read_texts(source: &mut dyn Source, transactions: usize) -> Vec<String> {
    read(source, transactions).await.0.iter().map(text).collect()
}

/// `update t (1, a) -> (1, b)`. A key alone is `[1, _]`, an unchanged value `?`.
pub(crate) fn text(change: &Change) -> String {
    let mut out = format!("{} {}", change.operation.as_str(), change.relation.table);
    if let Some(before) = &change.before {
        push_row(&mut out, &change.relation, before);
    }
    if change.before.is_some() && change.after.is_some() {
        out.push_str(" ->");
    }
    if let Some(after) = &change.after {
        push_row(&mut out, &change.relation, after);
    }
    out
}

fn push_row(out: &mut String, relation: &Relation, row: &Row) {
    let key = row.extent() == Extent::Key;
    out.push_str(if key { " [" } else { " (" });
    for (index, column) in relation.columns.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        match row.value(index) {
            Value::Null if key && !column.key => out.push('_'),
            Value::Null => out.push_str("null"),
            Value::Unchanged => out.push('?'),
            Value::Text(text) => write!(out, "{text}").unwrap(),
        }
    }
    out.push(if key { ']' } else { ')' });
}

/// The columns of a change's key.
pub(crate) fn key(change: &Change) -> Vec<&str> {
    change.relation.key().map(|index| &*change.relation.columns[index].name).collect()
}
