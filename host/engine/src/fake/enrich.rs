//! What the source knows of rows of the fake log's table, as told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use model::BoxFuture;
use model::enrich::{Enrich, Enriched};
use model::page::{Row, Value};
use model::relation::Relation;
use model::source::SourceError;

type Answer = Box<dyn Fn(u64) -> Enriched + Send + Sync>;

/// Knows of each key what a function says. Asked, it fails as often as told, then answers.
pub(crate) struct Facts {
    answer: Answer,
    failures: AtomicUsize,
    /// The keys that each question was about.
    asked: Mutex<Vec<Vec<u64>>>,
}

impl Facts {
    pub(crate) fn new(answer: impl Fn(u64) -> Enriched + Send + Sync + 'static) -> Arc<Self> {
        let answer: Answer = Box::new(answer);
        Arc::new(Self { answer, failures: AtomicUsize::new(0), asked: Mutex::default() })
    }

    /// The next questions, or the check at the start, fail.
    pub(crate) fn fail(&self, times: usize) {
        self.failures.store(times, Ordering::Relaxed);
    }

    pub(crate) fn asked(&self) -> Vec<Vec<u64>> {
        self.asked.lock().unwrap().clone()
    }

    fn refuse(&self) -> Result<(), SourceError> {
        let failures = self.failures.load(Ordering::Relaxed);
        self.failures.store(failures.saturating_sub(1), Ordering::Relaxed);
        if failures == 0 {
            return Ok(());
        }
        let (message, help) = ("no such column".to_owned(), "correct the SQL".to_owned());
        Err(SourceError::Definite { code: "enrichment_sql", message, help })
    }
}

impl Enrich for Facts {
    fn name(&self) -> &str {
        "facts"
    }

    fn check(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        let answer = self.refuse();
        Box::pin(async { answer })
    }

    fn enrich<'a>(
        &'a self,
        _relation: &'a Arc<Relation>,
        rows: &'a [Row],
    ) -> BoxFuture<'a, Result<Vec<Enriched>, SourceError>> {
        let key = |row: &Row| {
            let Value::Text(key) = row.value(0) else { panic!("a row without a key") };
            key.parse::<u64>().unwrap()
        };
        let answer = self.refuse().map(|()| {
            let keys: Vec<u64> = rows.iter().map(key).collect();
            let found = keys.iter().map(|key| (self.answer)(*key)).collect();
            self.asked.lock().unwrap().push(keys);
            found
        });
        Box::pin(async { answer })
    }
}
