//! A TCP proxy that does harm: between the engine and Postgres, or anything else.
//!
//! In-process, on 127.0.0.1. It forwards until told otherwise and knows just enough of Postgres'
//! framing to hit replication data rather than a query.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What to do to the next replication data that comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Every byte becomes 0xFF: no frame any more.
    Garbage,
    /// The frame is whole, what is in it is not: the bytes after its header become 0xFF.
    Payload,
    /// Half of it arrives, then the connection ends.
    Truncate,
}

/// A `CopyData` frame that carries WAL data: type, length, then `w`.
const COPY_DATA: u8 = b'd';
const WAL_DATA: u8 = b'w';
/// Bytes from the start of the frame to the pgoutput message: type, length, `w`, two positions and
/// a time.
const HEADER: usize = 1 + 4 + 1 + 8 + 8 + 8;

/// The proxy. Dropping it ends it and its connections.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    harm: Mutex<Option<Harm>>,
    done: AtomicUsize,
}

impl Proxy {
    /// Listens on a port of its own for connections to `127.0.0.1:upstream`.
    pub async fn start(upstream: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("bind the proxy")?;
        let address = listener.local_addr()?;
        let state: Arc<State> = Arc::default();
        #[expect(
            clippy::disallowed_methods,
            reason = "the proxy's own task; it ends with the value"
        )]
        let accepting = tokio::spawn(accept(listener, upstream, Arc::clone(&state)));
        Ok(Self { address, state, accepting })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Harms the next replication data, once.
    pub fn harm(&self, harm: Harm) {
        *lock(&self.state.harm) = Some(harm);
    }

    /// How often it did.
    pub fn harms_done(&self) -> usize {
        self.state.done.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, upstream: u16, state: Arc<State>) {
    let mut pumps = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        pumps.spawn(pump(from_client, to_server, None));
        pumps.spawn(pump(from_server, to_client, Some(Arc::clone(&state))));
    }
}

/// Forwards until one side ends. With a state, harms what comes by.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: Option<Arc<State>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        let Some(chunk) = buffer.get_mut(..read) else { break };
        let harm = state.as_ref().and_then(|state| state.take_for(chunk));
        let keep = match harm {
            None => chunk.len(),
            Some(Harm::Garbage) => {
                chunk.fill(0xFF);
                chunk.len()
            }
            Some(Harm::Payload) => {
                chunk.iter_mut().skip(HEADER).for_each(|byte| *byte = 0xFF);
                chunk.len()
            }
            Some(Harm::Truncate) => chunk.len() / 2,
        };
        let kept = chunk.get(..keep).unwrap_or_default();
        if to.write_all(kept).await.is_err() || harm == Some(Harm::Truncate) {
            break;
        }
    }
}

impl State {
    fn take_for(&self, chunk: &[u8]) -> Option<Harm> {
        let is_wal = chunk.first() == Some(&COPY_DATA) && chunk.get(5) == Some(&WAL_DATA);
        let harm = if is_wal { lock(&self.harm).take() } else { None };
        self.done.fetch_add(usize::from(harm.is_some()), Ordering::Relaxed);
        harm
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
