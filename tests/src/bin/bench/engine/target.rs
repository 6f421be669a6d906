//! A webhook's other end, as cheap as can be: it takes everything in and looks at nothing, or for the
//! rows that are timed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// When each timed row came in.
type Arrivals = Arc<Mutex<HashMap<i64, Instant>>>;

pub(crate) struct Target {
    port: u16,
    arrivals: Arrivals,
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
    record: Record,
}

#[derive(Deserialize)]
struct Record {
    id: i64,
}

impl Target {
    /// Looks at nothing.
    pub(crate) async fn start() -> Result<Self> {
        Self::serve(Router::new().fallback(async |_: Bytes| ()), Arrivals::default()).await
    }

    /// Remembers when each row came in.
    pub(crate) async fn start_watching() -> Result<Self> {
        let arrivals = Arrivals::default();
        let app = Router::new().fallback(watch).with_state(Arc::clone(&arrivals));
        Self::serve(app, arrivals).await
    }

    async fn serve(app: Router, arrivals: Arrivals) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("listen")?;
        let port = listener.local_addr()?.port();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            axum::serve(listener, app).await.ok();
        });
        Ok(Self { port, arrivals, _serving: serving })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// When the row came in first.
    pub(crate) fn arrival(&self, id: i64) -> Option<Instant> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }
}

async fn watch(State(arrivals): State<Arrivals>, body: Bytes) {
    let now = Instant::now();
    let Ok(messages) = serde_json::from_slice::<Messages>(&body) else { return };
    let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    for message in messages.data {
        arrivals.entry(message.record.id).or_insert(now);
    }
}
