//! Change retentions: whether changes can be kept where they are to be, and how the API shows them.

use std::time::Duration;

use config::Spec;
use config::spec::{Retention, Sink, Status, called};
use futures_util::stream::{self, StreamExt as _};
use model::BoxFuture;
use model::source::SourceError;
use postgres::{Finding, Outcome};
use serde_json::{Value, json};
use sinks::Batching;

use crate::wiring;

/// Destinations that are looked at together: a server that does not answer takes 20 s.
const LOOKS_MAX: usize = 8;

/// Changes cannot be kept until somebody acts.
pub(crate) struct Unusable {
    pub(crate) code: &'static str,
    pub(crate) what: String,
}

/// What is to be said of where these keep changes: that it does not answer now.
///
/// # Errors
/// What of it is wrong.
pub(crate) async fn doubtful(spec: &Spec) -> Result<Vec<String>, Unusable> {
    let mut all = Vec::new();
    let running = spec.sinks.iter().filter(|sink| sink.status != Status::Disabled);
    let looks: Vec<_> = running.cloned().map(look).collect();
    let mut looks = stream::iter(looks).buffered(LOOKS_MAX);
    while let Some((sink, findings)) = looks.next().await {
        for Finding { outcome, .. } in findings {
            let Outcome::Bad(error) = outcome else { continue };
            let what = format!("{}: destination: {error}", called(&sink.name));
            match error {
                SourceError::Definite { code, .. } => return Err(Unusable { code, what }),
                SourceError::Transient(_) => all.push(what),
            }
        }
    }
    Ok(all)
}

fn look(sink: Sink) -> BoxFuture<'static, (Sink, Vec<Finding>)> {
    Box::pin(async move {
        let findings = examined(&sink).await;
        (sink, findings)
    })
}

/// The destination, part by part; nothing of what is no change retention.
pub(crate) async fn examined(sink: &Sink) -> Vec<Finding> {
    let Some(retention) = sink.retention() else { return Vec::new() };
    // Nothing is written.
    let batching = Batching { messages_max: 1, linger: Duration::ZERO };
    wiring::change_table(retention, batching).examine().await
}

/// What holds where nothing was written.
pub(crate) fn shown(sink: &Sink) -> Value {
    let Some(Retention { schema, create, .. }) = sink.retention() else { return json!({}) };
    json!({
        "status": status(sink.status),
        "source_table_schema": "public",
        "destination_table_schema": schema,
        "create_if_not_exists": create,
        "actions": ["insert", "update", "delete"],
        "filters": [],
    })
}

/// As configurations have it.
pub(crate) const fn status(status: Status) -> &'static str {
    match status {
        Status::Active => "active",
        Status::Paused => "paused",
        Status::Disabled => "disabled",
    }
}
