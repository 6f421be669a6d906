//! Questions to the source that a sink cannot go on without.

use std::time::Duration;

use model::backoff::Backoff;
use model::source::SourceError;
use tracing::{info, warn};

use crate::spec::SinkSpec;
use crate::status::SinkStatus;

/// Between attempts: the source is there or comes back, or somebody mends what is wrong.
const RETRY: Backoff = Backoff { first: Duration::from_millis(250), cap: Duration::from_secs(15) };

/// Asks until there is an answer, and says so while there is none. What somebody must act upon is a
/// warning of the sink too, under its own code, as long as it lasts. `what` is what the sink lacks.
pub(crate) async fn patiently<T, F>(
    spec: &SinkSpec,
    status: &SinkStatus,
    what: &str,
    ask: impl Fn() -> F,
) -> T
where
    F: Future<Output = Result<T, SourceError>>,
{
    let mut dice = fastrand::Rng::new();
    let mut attempts = 0;
    let mut raised: Option<&'static str> = None;
    loop {
        let asked = ask().await;
        if let Some(code) = raised.take() {
            status.warnings.clear(code, what);
        }
        let error = match asked {
            Ok(answer) => {
                if attempts > 0 {
                    info!(sink.name = %spec.name, what, "the source answers again");
                    status.waiting.set(None);
                }
                return answer;
            }
            Err(error) => error,
        };
        let text = error.to_string();
        if let SourceError::Definite { code, .. } = error {
            status.warnings.raise(code, what, text.clone());
            raised = Some(code);
        }
        attempts += 1;
        if status.waiting.get().as_deref() != Some(&*text) {
            warn!(sink.name = %spec.name, what, error = text, "no answer from the source; the sink waits");
            status.waiting.set(text);
        }
        let deadline = tokio::time::Instant::now() + RETRY.delay(attempts, dice.f64());
        tokio::time::sleep_until(deadline).await;
    }
}
