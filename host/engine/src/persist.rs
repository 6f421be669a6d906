//! What becomes of rows that a plugin fails on, where its owner does not want them put aside: the
//! sink tries again, or stands until somebody has looked.

use std::sync::Arc;

use model::change::Change;
use model::plugin::{OnError, Plugin};
use tokio::time::Instant;
use tracing::warn;

use crate::intake::Intake;
use crate::rollout::{Judged, Rolled};

impl Intake {
    /// Runs a plugin, as often as its owner wants for the rows that it fails on; `keys` are those of
    /// [`Rolled::keys`]. While it waits, nothing behind them is taken in: order is kept. A replay asks
    /// once.
    pub(crate) async fn persist<'a>(
        &self,
        rolled: &'a Rolled,
        plugin: &'a Arc<dyn Plugin>,
        changes: Vec<Change>,
        keys: &[u64],
    ) -> Vec<Judged<'a>> {
        let policy = plugin.on_error();
        if !self.is_live || matches!(policy, OnError::DeadLetter | OnError::Pass) {
            return rolled.call(plugin, changes, keys).await;
        }
        let mut results = rolled.call(plugin, changes.clone(), keys).await;
        let mut dice = fastrand::Rng::new();
        for attempts in 1.. {
            let open: Vec<usize> = failed(&results).collect();
            let first = open.first().and_then(|at| results.get(*at));
            let Some(Judged { by, outcome: Err(error) }) = first else { break };
            self.status.plugin_failures.add(open.len() as u64);
            let (name, rows) = (by.name(), open.len());
            let told = format!("{rows} rows fail in function `{name}`: {error}");
            if policy == OnError::Stop {
                warn!(sink.name = %self.spec.name, "the sink stops: {told}");
                self.status.trip.stop(format!("{told}. Mend it, and resume the sink"), None);
                self.status.trip.clear().await;
            } else {
                if attempts == 1 {
                    warn!(sink.name = %self.spec.name, "tried again: {told}");
                }
                self.status.waiting.set(told);
                let delay = self.spec.backoff.delay(attempts, dice.f64());
                tokio::time::sleep_until(Instant::now() + delay).await;
            }
            let again = open.iter().filter_map(|at| changes.get(*at).cloned()).collect();
            let keys: Vec<u64> = open.iter().filter_map(|at| keys.get(*at)).copied().collect();
            for (at, result) in open.into_iter().zip(rolled.call(plugin, again, &keys).await) {
                if let Some(place) = results.get_mut(at) {
                    *place = result;
                }
            }
        }
        if policy == OnError::Retry {
            self.status.waiting.set(None);
        }
        results
    }
}

fn failed(results: &[Judged<'_>]) -> impl Iterator<Item = usize> {
    results.iter().enumerate().filter(|(_, result)| result.outcome.is_err()).map(|(at, _)| at)
}
