//! A destination that can be shut, and that knows when each row it takes in was written.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

#[derive(Default)]
struct Inside {
    shut: AtomicBool,
    /// Messages taken in, repeats included.
    count: AtomicU64,
    /// Rows from this id on are timed.
    timed_from: AtomicI64,
    taken_us: Mutex<Vec<u64>>,
}

pub(super) struct Door {
    port: u16,
    inside: Arc<Inside>,
    /// Ends with its value.
    _serving: JoinSet<()>,
}

/// What is read of a body.
#[derive(Deserialize)]
struct Messages {
    data: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    action: String,
    record: Record,
}

#[derive(Deserialize)]
struct Record {
    id: i64,
    at: i64,
}

impl Door {
    /// Open, and nothing is timed.
    pub(super) async fn start() -> Result<Self> {
        let inside = Arc::<Inside>::default();
        inside.timed_from.store(i64::MAX, Ordering::Relaxed);
        let app = Router::new().fallback(take).with_state(Arc::clone(&inside));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("listen")?;
        let port = listener.local_addr()?.port();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            axum::serve(listener, app).await.ok();
        });
        Ok(Self { port, inside, _serving: serving })
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers 503 from now on, or 200.
    pub(super) fn shut(&self, shut: bool) {
        self.inside.shut.store(shut, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.inside.count.load(Ordering::Relaxed)
    }

    /// Times rows from this id on.
    pub(super) fn time_from(&self, id: i64) {
        self.inside.timed_from.store(id, Ordering::Relaxed);
    }

    /// How long the timed rows took, so far; they are forgotten.
    pub(super) fn taken_us(&self) -> Vec<u64> {
        std::mem::take(&mut *self.inside.taken_us.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn timed(&self) -> usize {
        self.inside.taken_us.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

async fn take(State(inside): State<Arc<Inside>>, body: Bytes) -> StatusCode {
    if inside.shut.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let Ok(messages) = serde_json::from_slice::<Messages>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    let (now, from) = (now_us(), inside.timed_from.load(Ordering::Relaxed));
    inside.count.fetch_add(messages.data.len() as u64, Ordering::Relaxed);
    // A backfill reads live rows again, long after they were written.
    let live = messages.data.into_iter().filter(|message| message.action == "insert");
    let timed = live.map(|message| message.record).filter(|record| record.id >= from);
    let taken = timed.map(|record| now.saturating_sub(u64::try_from(record.at).unwrap_or(0)));
    inside.taken_us.lock().unwrap_or_else(PoisonError::into_inner).extend(taken);
    StatusCode::OK
}

/// On the clock that the server writes into rows: it is this machine's.
#[expect(clippy::disallowed_methods, reason = "rows are timed by the clock of the machine")]
fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
