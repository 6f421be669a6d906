//! A TCP proxy that does harm: between the engine and Postgres, or anything else.
//!
//! In-process, on 127.0.0.1. It forwards until told otherwise: it stalls or delays one way or both,
//! cuts all connections and refuses new ones, until it is healed. It knows just enough of Postgres'
//! framing to corrupt replication data rather than a query.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// What to do to the next replication data that comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Every byte becomes 0xFF: no frame any more.
    Garbage,
    /// The frame is whole, what is in it is not: the bytes after its header become 0xFF.
    Payload,
    /// Half of it arrives, then the connection ends.
    Truncate,
    /// It arrives twice: what it begins has begun, or has been committed already.
    Repeat,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From those who connected to the proxy.
    ToServer,
    /// To them.
    ToClient,
    Both,
}

impl Way {
    fn is(self, other: Self) -> bool {
        self == Self::Both || self == other
    }
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
    line: watch::Sender<Line>,
    accepting: JoinHandle<()>,
}

/// How the line is, of all connections.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    stalled: Option<Way>,
    delayed: Option<(Way, Duration)>,
    /// New connections are refused.
    closed: bool,
    /// How often all connections were cut.
    cuts: usize,
}

impl Line {
    fn is_stalled(&self, way: Way) -> bool {
        self.stalled.is_some_and(|stalled| stalled.is(way))
    }

    fn delay(&self, way: Way) -> Duration {
        self.delayed.filter(|(delayed, _)| delayed.is(way)).map_or(Duration::ZERO, |(_, by)| by)
    }
}

#[derive(Default)]
struct State {
    harm: Mutex<Option<Harm>>,
    done: AtomicUsize,
    refused: AtomicUsize,
}

impl Proxy {
    /// Listens on a port of its own for connections to `127.0.0.1:upstream`.
    pub async fn start(upstream: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("bind the proxy")?;
        let address = listener.local_addr()?;
        let state: Arc<State> = Arc::default();
        let line = watch::Sender::new(Line::default());
        #[expect(
            clippy::disallowed_methods,
            reason = "the proxy's own task; it ends with the value"
        )]
        let accepting =
            tokio::spawn(accept(listener, upstream, Arc::clone(&state), line.subscribe()));
        Ok(Self { address, state, line, accepting })
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

    /// Bytes stop, and connections stay open, new ones too. What was read already (64 KiB a
    /// connection) waits here.
    pub fn stall(&self, way: Way) {
        self.line.send_modify(|line| line.stalled = Some(way));
    }

    /// What is read is sent on only so much later, piece by piece.
    pub fn delay(&self, way: Way, by: Duration) {
        self.line.send_modify(|line| line.delayed = Some((way, by)));
    }

    /// All connections end, and new ones are closed as soon as they come.
    pub fn cut(&self) {
        self.line.send_modify(|line| {
            line.cuts += 1;
            line.closed = true;
        });
    }

    /// How many connections were closed as they came.
    pub fn refused(&self) -> usize {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// Forwards again. What was cut stays so.
    pub fn heal(&self) {
        self.line.send_modify(|line| *line = Line { cuts: line.cuts, ..Line::default() });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    upstream: u16,
    state: Arc<State>,
    line: watch::Receiver<Line>,
) {
    let mut pumps = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let cuts = line.borrow().cuts;
        if line.borrow().closed {
            state.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let pump = |way| Pump { way, cuts, line: line.clone(), state: Arc::clone(&state) };
        pumps.spawn(pump(Way::ToServer).run(from_client, to_server));
        pumps.spawn(pump(Way::ToClient).run(from_server, to_client));
    }
}

/// One direction of one connection.
struct Pump {
    way: Way,
    /// How often connections had been cut when this one came.
    cuts: usize,
    line: watch::Receiver<Line>,
    state: Arc<State>,
}

impl Pump {
    /// Forwards until one side ends, or the line is cut.
    async fn run(self, from: OwnedReadHalf, to: OwnedWriteHalf) {
        let (mut line, cuts) = (self.line.clone(), self.cuts);
        tokio::select! {
            _ = line.wait_for(|line| line.cuts > cuts) => {}
            () = self.forward(from, to) => {}
        }
    }

    async fn forward(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            self.flowing().await;
            let Ok(read) = from.read(&mut buffer).await else { return };
            let Some(chunk) = buffer.get_mut(..read).filter(|chunk| !chunk.is_empty()) else {
                return;
            };
            let due = Instant::now() + self.line.borrow().delay(self.way);
            // Nothing comes: the time itself is what is awaited.
            timeout_at(due, std::future::pending::<()>()).await.ok();
            self.flowing().await;
            let harm = if self.way == Way::ToClient { self.state.take_for(chunk) } else { None };
            let mut times = 1;
            let mut keep = chunk.len();
            match harm {
                None => {}
                Some(Harm::Garbage) => chunk.fill(0xFF),
                Some(Harm::Payload) => {
                    chunk.iter_mut().skip(HEADER).for_each(|byte| *byte = 0xFF);
                }
                Some(Harm::Truncate) => keep /= 2,
                Some(Harm::Repeat) => times = 2,
            }
            let kept = chunk.get(..keep).unwrap_or_default();
            for _ in 0..times {
                if to.write_all(kept).await.is_err() {
                    return;
                }
            }
            if harm == Some(Harm::Truncate) {
                return;
            }
        }
    }

    /// Waits while the line is stalled.
    async fn flowing(&mut self) {
        let way = self.way;
        // The proxy is gone, and this with it, if nobody can tell any more.
        self.line.wait_for(|line| !line.is_stalled(way)).await.ok();
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
