//! Read-only sessions for pages, a few at once.
//!
//! A session is opened when a reader needs one and kept for the next. Whoever drops a reader while
//! the server works for it has that work ended at the server, and the session is not used again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::source::SourceError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::table::Known;
use crate::error;
use crate::options::Options;
use crate::sql::{Sql, cancel};

/// For the request that ends a query, at most: its own time limit ends it, too.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// The sessions of one server.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) options: Arc<Options>,
    room: Arc<Semaphore>,
    idle: Mutex<Vec<Session>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) sql: Sql,
    /// What the catalog said of tables a moment ago, by their ids.
    pub(super) known: HashMap<u32, Known>,
}

/// A session in somebody's hands.
pub(super) struct Held {
    sessions: Arc<Sessions>,
    session: Option<Session>,
    /// Whether it was opened for this one.
    pub(super) fresh: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Sessions {
    pub(super) fn new(options: Options, at_once: usize) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(at_once.max(1)));
        Arc::new(Self { options: Arc::new(options), room, idle: Mutex::default() })
    }

    /// Waits for room, then takes an idle session or opens one. With `anew` it opens one, and closes
    /// the idle ones: what cut one session cut them all.
    pub(super) async fn take(self: &Arc<Self>, anew: bool) -> Result<Held, SourceError> {
        // Never closed.
        let permit = Arc::clone(&self.room).acquire_owned().await.ok();
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if anew {
                idle.clear();
            }
            idle.pop()
        };
        let fresh = idle.is_none();
        let session = match idle {
            Some(session) => session,
            None => self.open().await?,
        };
        Ok(Held { sessions: Arc::clone(self), session: Some(session), fresh, _permit: permit })
    }

    async fn open(&self) -> Result<Session, SourceError> {
        let limit = self.options.connect_timeout;
        let opened = timeout(limit, Sql::open(&self.options)).await;
        let sql = opened.unwrap_or_else(|_| {
            let seconds = limit.as_secs_f32();
            Err(error::transient(format!("could not open an SQL session within {seconds} s")))
        })?;
        Ok(Session { sql, known: HashMap::new() })
    }
}

impl Held {
    /// Its session.
    ///
    /// # Errors
    /// It was given back, which only its owner does.
    pub(super) fn session(&mut self) -> Result<&mut Session, SourceError> {
        self.session.as_mut().ok_or_else(|| error::transient("a session was given back already"))
    }

    /// Gives the session back for the next one: no transaction is open on it.
    pub(super) fn keep(mut self) {
        if let Some(session) = self.session.take() {
            self.sessions.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // The server may be in the middle of a query, and would notice that nobody listens only when
        // it has rows to send.
        let token = session.sql.canceller();
        drop(session);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let options = Arc::clone(&self.sessions.options);
        runtime.spawn(async move {
            timeout(CANCEL_TIMEOUT, cancel(token, &options)).await.ok();
        });
    }
}
