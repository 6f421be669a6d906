//! Whole tables, page by page.

mod keys;
mod marks;
mod partial;
mod partitions;
mod places;
mod snapshots;
mod standby;

use std::sync::Arc;
use std::time::Duration;

use model::backfill::{Ask, Page, Range, Survey, Tables as _, Wanted};
use model::page::{Row, Value};
use model::relation::Relation;
use model::source::SourceError;
use postgres::{Options, Tables};
use tokio::time::timeout;

use crate::cluster::{Database, PATIENCE};

/// What was read of a table.
pub(super) struct Read {
    pub(super) survey: Survey,
    pub(super) rows: Vec<(Arc<Relation>, Row)>,
    pub(super) pages: usize,
}

pub(super) fn tables(db: &Database) -> Tables {
    Tables::new(options(db), None)
}

/// The slot means nothing to it.
pub(super) fn options(db: &Database) -> Options {
    Options { slot: "unused".into(), ..db.options() }
}

pub(super) fn wanted(table: &str) -> Wanted {
    Wanted { schema: "public".into(), table: table.into(), ranges: 1, ..Wanted::default() }
}

pub(super) fn ask(wanted: &Wanted, survey: &Survey, range: &Range, rows_max: usize) -> Ask {
    Ask {
        wanted: wanted.clone(),
        order: survey.order,
        range: range.clone(),
        after: None,
        rows_max,
        bytes_max: usize::MAX,
        timeout: PATIENCE,
    }
}

pub(super) async fn survey(tables: &Tables, wanted: &Wanted) -> Survey {
    let survey = timeout(PATIENCE, tables.survey(wanted)).await.expect("a survey comes");
    survey.unwrap_or_else(|error| panic!("{error}"))
}

pub(super) async fn page(tables: &Tables, ask: &Ask) -> Page {
    let page = timeout(PATIENCE, tables.page(ask)).await.expect("a page comes");
    page.unwrap_or_else(|error| panic!("{error}"))
}

/// Reads all ranges in pages of so many rows.
pub(super) async fn read(tables: &Tables, wanted: &Wanted, rows_max: usize) -> Read {
    let survey = survey(tables, wanted).await;
    let (mut rows, mut pages) = (Vec::new(), 0);
    for range in &survey.ranges {
        let mut ask = ask(wanted, &survey, range, rows_max);
        loop {
            let page = page(tables, &ask).await;
            pages += 1;
            assert!(page.rows.len() <= rows_max);
            rows.extend(page.rows.into_iter().map(|row| (Arc::clone(&page.relation), row)));
            ask.after = page.next;
            if ask.after.is_none() {
                break;
            }
        }
    }
    Read { survey, rows, pages }
}

/// The texts of one column; a null is `null`.
pub(super) fn column(read: &Read, index: usize) -> Vec<String> {
    let text = |(_, row): &(_, Row)| match row.value(index) {
        Value::Text(text) => text.to_owned(),
        Value::Null => "null".to_owned(),
        Value::Unchanged => "?".to_owned(),
    };
    read.rows.iter().map(text).collect()
}

pub(super) fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

/// Each number from 1 to `last`, sorted as text.
pub(super) fn numbers(last: usize) -> Vec<String> {
    sorted((1..=last).map(|n| n.to_string()).collect())
}

pub(super) fn code<T>(result: Result<T, SourceError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(SourceError::Definite { code, .. }) => code,
        Err(SourceError::Transient(_)) => "transient",
    }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
