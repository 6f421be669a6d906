//! Databases that an apply waits for (`await_database`): new ones, before anything is recorded.
//!
//! The reloader only says which: whoever asks does the waiting, so that nothing else waits with it.

use std::time::Duration;

use config::spec::Await;
use postgres::{ColumnsOf, inventory};
use tokio::time::Instant;
use web::ConfigRefused;

use super::Reloader;
use super::apply::{Proposal, refused};
use crate::wiring;

/// A database, and how long it is waited for.
pub(crate) struct Awaited {
    name: String,
    source: postgres::Options,
    patience: Await,
}

impl Reloader {
    /// The new databases of a proposal that are to be waited for. What is wrong with it is told where it
    /// is applied.
    pub(super) async fn awaited(&self, proposal: &Proposal) -> Vec<Awaited> {
        let Ok(spec) = self.proposed_spec(proposal).await else { return Vec::new() };
        let known = &self.loaded.spec.databases;
        let new = spec.databases.iter().filter(|it| !known.iter().any(|old| old.name == it.name));
        let awaited = new.filter_map(|database| {
            let patience = *spec.awaited.get(&database.name)?;
            let (name, source) = (database.name.clone(), wiring::source(database));
            Some(Awaited { name, source, patience })
        });
        awaited.collect()
    }
}

impl Awaited {
    /// Waits until it answers.
    ///
    /// # Errors
    /// It did not in time.
    pub(crate) async fn wait(&self) -> Result<(), ConfigRefused> {
        let Self { name, source, patience: Await { timeout, interval } } = self;
        let deadline = Instant::now() + *timeout;
        let mut why = "no answer".to_owned();
        let columns = ColumnsOf::default();
        loop {
            let look = inventory(source, &columns);
            match tokio::time::timeout_at(deadline, look).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => {}
            }
            let next = Instant::now() + *interval;
            if next >= deadline {
                let what = format!(
                    "database `{name}` did not answer within {} s (`await_database`), and nothing was \
                     applied: {why}",
                    Duration::as_secs_f64(timeout)
                );
                return Err(refused(503, "database_unreachable", what));
            }
            tokio::time::sleep_until(next).await;
        }
    }
}
