//! The present state of the fake log's table, as told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use model::BoxFuture;
use model::lookup::Lookup;
use model::page::{Builder, Extent, Row, Value};
use model::relation::Relation;
use model::source::SourceError;

/// A table of key and value. Asked, it fails as often as told, then answers.
#[derive(Default)]
pub(crate) struct Table {
    values: Mutex<HashMap<String, Option<String>>>,
    failures: AtomicUsize,
    /// How many rows each question was about.
    asked: Mutex<Vec<usize>>,
}

impl Table {
    pub(crate) fn new<'a>(values: impl IntoIterator<Item = (u64, Option<&'a str>)>) -> Arc<Self> {
        let values = values.into_iter();
        let values = values.map(|(key, value)| (key.to_string(), value.map(str::to_owned)));
        Arc::new(Self { values: Mutex::new(values.collect()), ..Self::default() })
    }

    pub(crate) fn fail(&self, times: usize) {
        self.failures.store(times, Ordering::Relaxed);
    }

    pub(crate) fn asked(&self) -> Vec<usize> {
        self.asked.lock().unwrap().clone()
    }

    fn answer(&self, rows: &[Row]) -> Vec<Option<Row>> {
        let values = self.values.lock().unwrap();
        let mut builder = Builder::default();
        let spans: Vec<_> = rows
            .iter()
            .map(|row| {
                let Value::Text(key) = row.value(0) else { panic!("a row without a key") };
                let value = values.get(key)?;
                let first = builder.begin_row();
                match value {
                    None => builder.null(),
                    Some(value) => {
                        let written: Result<(), ()> = builder.value(|out| {
                            out.push_str(value);
                            Ok(())
                        });
                        written.unwrap();
                    }
                }
                Some(builder.end_row(first, Extent::Full))
            })
            .collect();
        let mut found = builder.into_rows(spans.iter().flatten().copied()).into_iter();
        spans.iter().map(|span| span.and_then(|_| found.next())).collect()
    }
}

impl Lookup for Table {
    fn fetch<'a>(
        &'a self,
        _relation: &'a Arc<Relation>,
        rows: &'a [Row],
        columns: &'a [usize],
    ) -> BoxFuture<'a, Result<Vec<Option<Row>>, SourceError>> {
        assert_eq!(columns, [1], "only what was not sent is asked for");
        let failures = self.failures.load(Ordering::Relaxed);
        self.failures.store(failures.saturating_sub(1), Ordering::Relaxed);
        let answer = if failures > 0 {
            Err(SourceError::Transient("away".into()))
        } else {
            self.asked.lock().unwrap().push(rows.len());
            Ok(self.answer(rows))
        };
        Box::pin(async { answer })
    }
}
