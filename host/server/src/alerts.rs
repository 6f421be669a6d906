//! `SEQUIN_ALERT_URL`: whoever is to be called is told what is wrong, once, and when it is over.
//!
//! What health tells (an error that has lasted, and its end) and versions that their rules took back are
//! posted as JSON, one at a time and in their order, again and again until somebody takes them in.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use engine::health::{Flip, Problem};
use engine::rollout::Rollouts;
use engine::status::Status;
use model::backoff::Backoff;
use model::rollout::Rollout;
use reqwest::{Client, Url};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Between looks for something to tell.
const LOOK: Duration = Duration::from_secs(1);
/// For an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Between attempts.
const AGAIN: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// What nobody has taken in by then is dropped, the oldest first.
const WAITING_MAX: usize = 2_000;

/// Where to tell.
pub(crate) struct Hook {
    /// It may hold a secret: it is never shown.
    pub(crate) url: Url,
    /// `SEQUIN_ALERT_TOKEN`, as a bearer.
    pub(crate) token: Option<String>,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook(…)")
    }
}

/// Tells.
pub(crate) struct Alerts {
    hook: Hook,
    client: Client,
    status: Arc<Status>,
    rollouts: Rollouts,
    /// Flips that were looked at.
    flips: u64,
    /// Rollouts that their rules ended, likewise.
    ended: usize,
    waiting: VecDeque<Value>,
}

impl Alerts {
    /// # Errors
    /// No client can be made.
    pub(crate) fn new(hook: Hook, status: Arc<Status>, rollouts: Rollouts) -> anyhow::Result<Self> {
        // An error means that one is installed already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .user_agent(concat!("sequin/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER);
        let client = client.build().context("make an HTTP client for SEQUIN_ALERT_URL")?;
        let (flips, ended, waiting) = (0, 0, VecDeque::new());
        Ok(Self { hook, client, status, rollouts, flips, ended, waiting })
    }

    /// Works until cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut attempts, mut dice) = (0, fastrand::Rng::new());
        let mut next = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = looks.tick() => self.look(),
            }
            while Instant::now() >= next
                && let Some(event) = self.waiting.front()
            {
                let sent = tokio::select! {
                    () = stop.cancelled() => return,
                    sent = self.send(event) => sent,
                };
                match sent {
                    Ok(()) => {
                        if attempts > 0 {
                            info!(attempts, "SEQUIN_ALERT_URL takes alerts in again");
                        }
                        attempts = 0;
                        self.waiting.pop_front();
                    }
                    Err(why) => {
                        if attempts == 0 {
                            warn!(
                                why,
                                "SEQUIN_ALERT_URL does not take an alert in; it is tried again"
                            );
                        }
                        attempts += 1;
                        next = Instant::now() + AGAIN.delay(attempts, dice.f64());
                    }
                }
            }
        }
    }

    fn look(&mut self) {
        let (flips, told, missed) = self.status.health.flips_after(self.flips);
        self.flips = told;
        self.waiting.extend(flips.iter().map(of_flip));
        let ended = self.rollouts.ended_by_rules(self.ended);
        self.ended += ended.len();
        self.waiting.extend(ended.iter().map(|report| of_rollout(&report.record)));
        let too_many = self.waiting.len().saturating_sub(WAITING_MAX);
        self.waiting.drain(..too_many);
        if too_many > 0 || missed > 0 {
            let dropped = too_many as u64 + missed;
            warn!(
                dropped,
                "too many alerts wait for SEQUIN_ALERT_URL: /api/health has what is wrong now"
            );
        }
    }

    async fn send(&self, event: &Value) -> Result<(), String> {
        let asked = self.client.post(self.hook.url.clone());
        let asked = asked.header("content-type", "application/json").body(event.to_string());
        let asked = match &self.hook.token {
            Some(token) => asked.bearer_auth(token),
            None => asked,
        };
        let answer = asked.send().await.map_err(|error| error.without_url().to_string())?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(format!("it answers {status}")) }
    }
}

fn of_flip(flip: &Flip) -> Value {
    let Flip { at_us, kind, id, name, is_alert, level, problem, erroring_since_us } = flip;
    let event = if *is_alert { "alert" } else { "resolve" };
    let error = problem
        .as_ref()
        .map(|Problem { code, message, .. }| json!({"code": code, "message": message}));
    let what = match problem {
        Some(Problem { message, .. }) if *is_alert => format!("{}: {message}", level.as_str()),
        _ => level.as_str().to_owned(),
    };
    json!({
        "event": event,
        // The same however often it is sent.
        "id": format!("{}/{id}/{event}/{at_us}", kind.as_str()),
        "at": crate::platform::time(*at_us),
        "entity_kind": kind.as_str(), "entity_id": id, "name": name, "status": level.as_str(),
        "erroring_since": crate::platform::time(*erroring_since_us),
        "error": error,
        "text": format!("sequin: {} {name} is {what}", kind.as_str()),
    })
}

fn of_rollout(rollout: &Rollout) -> Value {
    let Rollout { id, sink_id, sink, function, component, digest, state, why, .. } = rollout;
    let why = why.as_deref().unwrap_or_default();
    json!({
        "event": "rollback",
        "id": format!("rollout/{id}/{}", state.as_str()),
        "at": crate::platform::time(rollout.updated_us),
        "entity_kind": "sink_consumer", "entity_id": sink_id, "name": sink, "status": state.as_str(),
        "function": function, "version": component, "digest": digest,
        "error": {"code": format!("rollout_{}", state.as_str()), "message": why},
        "text": format!("sequin: {component} for function {function} of sink {sink} is {}: {why}", state.as_str()),
    })
}
