//! The tables of the fake log, read page by page: by its primary, or by standbys that are behind.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::BoxFuture;
use model::backfill::{
    Ask, Catalog, Cursor, Named, Order, Page, Range, Snapshot, Survey, Tables, Wanted,
};
use model::page::{Builder, Extent};
use model::source::SourceError;
use tokio::time::Instant;

use super::log::{Log, push, xid};
use crate::backfill::Source;

/// How a page is read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// How long it takes.
    pub(crate) takes: Duration,
    /// So many transactions have not come there yet.
    pub(crate) behind: usize,
    /// Of the last so many each third is not shown.
    pub(crate) hides: usize,
    /// It fails.
    pub(crate) fails: bool,
    /// The mark that comes next is lost.
    pub(crate) loses_mark: bool,
}

type Script = Box<dyn FnMut(&Ask) -> Reading + Send>;

/// The tables; clones share them.
#[derive(Clone)]
pub(crate) struct Readable {
    log: Log,
    script: Arc<Mutex<Script>>,
    pub(crate) order: Arc<Mutex<Order>>,
    pub(crate) asked: Arc<Mutex<Vec<Ask>>>,
    pub(crate) named: Arc<Mutex<Vec<Named>>>,
    lose_marks: Arc<Mutex<usize>>,
}

impl Readable {
    pub(crate) fn new(log: &Log, script: impl FnMut(&Ask) -> Reading + Send + 'static) -> Self {
        let table =
            Named { oid: 1, schema: "public".into(), table: "t".into(), is_partition: false };
        Self {
            log: log.clone(),
            script: Arc::new(Mutex::new(Box::new(script))),
            order: Arc::new(Mutex::new(Order::Key)),
            asked: Arc::default(),
            named: Arc::new(Mutex::new(vec![table])),
            lose_marks: Arc::default(),
        }
    }

    pub(crate) fn source(&self) -> Source {
        Source { tables: Arc::new(self.clone()), catalog: Arc::new(self.clone()) }
    }

    /// The next marks are written and never come.
    pub(crate) fn lose_marks(&self, count: usize) {
        *self.lose_marks.lock().unwrap() = count;
    }

    fn read(&self, ask: &Ask, reading: Reading) -> Page {
        let count = self.log.count();
        let hidden = |index: usize| index + reading.hides >= count && index.is_multiple_of(3);
        let seen = self.log.see(reading.behind, hidden);
        let (low, high) = ask.range.0.split_once("..").unwrap();
        let low: u64 = low.parse().unwrap();
        let high: u64 = high.parse().unwrap();
        let after: Option<u64> = ask.after.as_ref().map(|after| after.0.parse().unwrap());
        let mut builder = Builder::default();
        let mut spans = Vec::new();
        let mut keys = Vec::new();
        let is_behind = |key: u64| after.is_none_or(|after| key > after);
        let rows =
            seen.rows.iter().filter(|(key, _)| (low..high).contains(*key) && is_behind(**key));
        for (key, value) in rows.take(ask.rows_max) {
            let first = builder.begin_row();
            push(&mut builder, &key.to_string());
            push(&mut builder, value);
            spans.push(builder.end_row(first, Extent::Full));
            keys.push(*key);
        }
        let bytes = builder.bytes();
        let rows = builder.into_rows(spans);
        let full = keys.len() == ask.rows_max;
        let next = keys.last().filter(|_| full).map(|key| Cursor(key.to_string().into()));
        let in_progress: Vec<u64> =
            seen.hidden.iter().map(|index| u64::from(xid(*index))).collect();
        let xmax = u64::from(xid(seen.count));
        let xmin = in_progress.first().copied().unwrap_or(xmax);
        let snapshot = Snapshot { xmin, xmax, in_progress };
        Page { relation: seen.relation, rows, bytes, snapshot, next, took: reading.takes }
    }
}

impl Tables for Readable {
    fn survey<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<Survey, SourceError>> {
        // Keys are small: 64 of them in each range.
        let count = wanted.ranges.max(1) as u64;
        let range = |n: u64| {
            let end = if n + 1 == count { u64::MAX } else { (n + 1) * 64 };
            Range(format!("{}..{end}", n * 64).into())
        };
        let order = *self.order.lock().unwrap();
        let ranges = (0..count).map(range).collect();
        Box::pin(async move { Ok(Survey { oid: 1, order, rows_estimate: Some(100), ranges }) })
    }

    fn page<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Page, SourceError>> {
        Box::pin(async move {
            let reading = (self.script.lock().unwrap())(ask);
            self.asked.lock().unwrap().push(ask.clone());
            let half = reading.takes / 2;
            tokio::time::sleep_until(Instant::now() + half).await;
            if reading.takes > ask.timeout {
                let (message, help) = ("it took too long".to_owned(), String::new());
                return Err(SourceError::Definite { code: "backfill_timeout", message, help });
            }
            if reading.fails {
                return Err(SourceError::Transient("cut".into()));
            }
            if reading.loses_mark {
                self.lose_marks(1);
            }
            let page = self.read(ask, reading);
            tokio::time::sleep_until(Instant::now() + half).await;
            Ok(page)
        })
    }

    fn mark<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let mut lose = self.lose_marks.lock().unwrap();
            if *lose > 0 {
                *lose -= 1;
            } else {
                self.log.mark(text);
            }
            Ok(())
        })
    }
}

impl Catalog for Readable {
    fn tables(&self) -> BoxFuture<'_, Result<Vec<Named>, SourceError>> {
        let named = self.named.lock().unwrap().clone();
        Box::pin(async move { Ok(named) })
    }
}
