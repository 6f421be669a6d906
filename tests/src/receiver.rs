//! A webhook receiver that remembers everything and misbehaves on request.
//!
//! Runs in this process, on a runtime of its own, so that stopping it cuts every connection at once,
//! whatever the test's runtime does. It listens on the same port as long as the value lives, again
//! after a stop. It judges nothing: what was delivered and what must have been is for tests to compare.

mod answer;
mod behaviour;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::http::HeaderMap;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub use behaviour::Behaviour;

use crate::{ports, until};
use behaviour::Policy;

/// How long a stop waits for the tasks it cut off.
const STOP: Duration = Duration::from_secs(5);

/// A request, as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: HeaderMap,
    /// As it was before a `content-encoding: gzip`. `Null` if it is not JSON; `bytes` has it as it
    /// came.
    pub body: Value,
    pub bytes: bytes::Bytes,
    /// When its body was complete.
    pub at: std::time::Instant,
    pub outcome: Outcome,
}

impl Request {
    /// A header's value, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The messages in the body: the items of `data`, or the body itself.
    pub fn messages(&self) -> Vec<Value> {
        match &self.body {
            Value::Object(body) => match body.get("data") {
                Some(Value::Array(messages)) => messages.clone(),
                _ => vec![self.body.clone()],
            },
            Value::Array(messages) => messages.clone(),
            Value::Null => Vec::new(),
            other => vec![other.clone()],
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered 2xx.
    Accepted,
    /// Taken in as if accepted, but the sender was told of a failure, or nothing.
    Lost,
    /// Answered with this status, nothing taken in.
    Refused(u16),
    /// The connection was closed without an answer, nothing taken in.
    Dropped,
    /// Not answered yet; stays so if the sender does not wait for the answer.
    Waiting,
}

impl Outcome {
    /// Whether the receiver has it, whatever the sender knows.
    pub fn is_taken_in(self) -> bool {
        matches!(self, Self::Accepted | Self::Lost)
    }
}

/// What handlers share with the tests.
#[derive(Default)]
struct State {
    requests: Vec<Request>,
    policy: Policy,
}

struct Shared(Mutex<State>);

impl Shared {
    /// A test that panicked elsewhere must not hide why.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A receiver, listening unless it was stopped.
pub struct Receiver {
    shared: Arc<Shared>,
    port: u16,
    runtime: Option<Runtime>,
}

impl Receiver {
    /// Starts to listen; accepts everything until told otherwise.
    pub async fn start() -> Result<Self> {
        let shared = Arc::new(Shared(Mutex::new(State::default())));
        let mut receiver = Self { shared, port: ports::free()?, runtime: None };
        receiver.restart().await?;
        Ok(receiver)
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From the next request on, behaves so; counts begin anew.
    pub fn set(&self, behaviour: Behaviour) {
        self.shared.lock().policy.set(behaviour);
    }

    /// Answers the requests for whose body this returns a status with that status, before any other
    /// behaviour.
    pub fn set_predicate(&self, predicate: impl Fn(&Value) -> Option<u16> + Send + 'static) {
        self.shared.lock().policy.predicate = Some(Box::new(predicate));
    }

    pub fn clear_predicate(&self) {
        self.shared.lock().policy.predicate = None;
    }

    /// All requests, in the order in which their bodies were complete.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Forgets all requests.
    pub fn forget(&self) {
        self.shared.lock().requests.clear();
    }

    /// The requests that were taken in: those answered 2xx, and those whose answer was lost.
    pub fn accepted(&self) -> Vec<Request> {
        let state = self.shared.lock();
        state.requests.iter().filter(|request| request.outcome.is_taken_in()).cloned().collect()
    }

    /// The messages of the accepted requests, in order, repeats included.
    pub fn messages(&self) -> Vec<Value> {
        self.accepted().iter().flat_map(Request::messages).collect()
    }

    /// Waits until at least so many messages were accepted.
    pub async fn until_messages(&self, count: usize, deadline: Duration) -> Result<Vec<Value>> {
        until(&format!("{count} messages at the receiver"), deadline, async || {
            let messages = self.messages();
            let requests = self.requests();
            let last = requests.last().map(|request| request.outcome);
            Ok(if messages.len() >= count {
                Ok(messages)
            } else {
                let (have, total) = (messages.len(), requests.len());
                Err(format!("{have} messages in {total} requests, the last one {last:?}"))
            })
        })
        .await
    }

    /// Cuts every connection and refuses new ones.
    pub fn stop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        // On a thread of its own: a runtime may not be waited for inside another.
        std::thread::scope(|scope| {
            scope.spawn(move || runtime.shutdown_timeout(STOP));
        });
    }

    /// Listens again, on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("receiver")
            .enable_all()
            .build()
            .context("start the receiver's runtime")?;
        let app = answer::router(Arc::clone(&self.shared));
        let port = self.port;
        let (bound, result) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(listener) => {
                    bound.send(Ok(())).ok();
                    axum::serve(listener, app).await
                }
                Err(error) => {
                    bound.send(Err(error)).ok();
                    Ok(())
                }
            }
        });
        self.runtime = Some(runtime);
        result.await.context("start the receiver")?.context("listen for requests")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}
