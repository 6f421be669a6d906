//! A server on the other end of a socket, played from the input.
//!
//! The first byte of the input says what is played and how we are set up; the second how many bytes
//! a read gets. The rest is what the server says.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::decode::{Decoder, Step};
use crate::options::{ChannelBinding, Options, Password};
use crate::relation::Facts;
use crate::wire::copy::Message;
use crate::wire::frame::Frames;
use crate::wire::report::Report;
use crate::wire::socket::{BoxSocket, Security};
use crate::wire::{Connection, Duplex, tls};

/// What an empty buffer may take: twice what is asked of a socket at once.
const BUFFER_BYTES: usize = 512 * 1024;

/// What the buffer may take for each byte that came.
const BUFFER_BYTES_PER_BYTE: usize = 4;

/// Before the server's nonce stands ours.
const NONCE_BYTES: usize = 24;

/// What stands before the nonce in what we say, and in what the server says.
const OUR_NONCE: &[u8] = b",,n=,r=";
const THEIR_NONCE: &[u8] = b"r=";

/// What is played, in the lowest bits of the first byte.
const PLAYS: u8 = 4;

pub(super) fn run(input: &[u8]) -> Vec<String> {
    let [setup, chunk, bytes @ ..] = input else { return Vec::new() };
    let cut = play(*setup, bytes, usize::from(*chunk).max(1));
    let whole = play(*setup, bytes, usize::MAX);
    // Each time other words, once our nonce is among them.
    if let (Some(cut), Some(whole)) = (&cut, &whole) {
        assert_eq!(cut, whole, "it does not matter how it is cut up");
    }
    whole.unwrap_or_default()
}

/// What came of it. None if it depends on our nonce, which is another one each time.
fn play(setup: u8, bytes: &[u8], chunk: usize) -> Option<Vec<String>> {
    let nonce_at = find(bytes, THEIR_NONCE).unwrap_or(bytes.len());
    let nonced = Arc::new(AtomicBool::new(false));
    let script = Script {
        unread: bytes.to_vec(),
        at: 0,
        chunk,
        nonce_at,
        nonced: Arc::clone(&nonced),
        said: Vec::new(),
    };
    let mut log = Vec::new();
    let played = match setup % PLAYS {
        0 | 1 => converse(setup, script, &mut log).now_or_never(),
        2 => stream(&mut Frames::default(), &mut { script }, &mut log).now_or_never(),
        _ => {
            log.push(format!("{:?}", tls::end_point::of(bytes)));
            Some(())
        }
    };
    assert!(played.is_some(), "it waits although there is always something to read");
    (!nonced.load(Ordering::Relaxed)).then_some(log)
}

fn options(setup: u8) -> Options {
    let mut options = Options::new("host", "user", "database", "slot", "publication");
    options.password = (setup & 4 != 0).then(|| Password::new("hunter2"));
    options.tls.channel_binding = match setup >> 3 & 3 {
        0 => ChannelBinding::Disable,
        1 => ChannelBinding::Prefer,
        _ => ChannelBinding::Require,
    };
    options
}

/// From the login to the end of the stream, as far as the server lets us.
async fn converse(setup: u8, script: Script, log: &mut Vec<String>) {
    let security = match setup & 32 != 0 {
        true => Security::Tls { end_point: Some(vec![7; 32]) },
        false => Security::Plain,
    };
    let socket = BoxSocket::new(script, security);
    let options = options(setup);
    let ended = async {
        let mut connection = Connection::login(socket, &options).await?;
        log.push(format!("version {:?}", connection.major_version()));
        log.push(format!("{:?}", connection.identify_system().await?));
        if setup % PLAYS == 1 {
            log.push(format!("{:?}", connection.create_temporary_slot(&options.slot).await?));
        }
        connection.start(&options).await
    };
    match ended.await {
        Ok(Duplex { mut receive, mut frames, .. }) => {
            stream(&mut frames, &mut receive, log).await;
        }
        Err(error) => log.push(error.to_string()),
    }
}

/// Frames until the stream ends or breaks, as the reader takes them.
async fn stream<R: AsyncRead + Unpin>(frames: &mut Frames, receive: &mut R, log: &mut Vec<String>) {
    let mut decoder = Decoder::default();
    let mut received = frames.len();
    loop {
        let frame = match frames.peek() {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                match frames.fill(receive).await {
                    Ok(0) => return,
                    Ok(bytes) => received += bytes,
                    Err(error) => return log.push(error.to_string()),
                }
                let most = BUFFER_BYTES + received * BUFFER_BYTES_PER_BYTE;
                assert!(frames.capacity() <= most, "a length was believed");
                continue;
            }
            Err(malformed) => return log.push(malformed.to_string()),
        };
        log.push(format!("{:?} of {} bytes", char::from(frame.tag), frame.body.len()));
        let len = frame.body.len();
        match frame.tag {
            b'd' => match Message::parse(frame.body) {
                Ok(Message::XLogData { start, clock_us, data }) => {
                    log.push(format!("{start} {clock_us}"));
                    if let Err(fault) = take(&mut decoder, data) {
                        return log.push(fault);
                    }
                }
                Ok(keepalive @ Message::Keepalive { .. }) => log.push(format!("{keepalive:?}")),
                Err(malformed) => return log.push(malformed.to_string()),
            },
            b'E' => match Report::parse(frame.body) {
                Ok(report) => return log.push(report.to_string()),
                Err(malformed) => return log.push(malformed.to_string()),
            },
            _ => {}
        }
        frames.consume(len);
    }
}

fn take(decoder: &mut Decoder, data: &[u8]) -> Result<(), String> {
    let mut step = decoder.feed(data).map_err(|fault| fault.to_string())?;
    if let Step::NeedCatalog(question) = &step {
        decoder.answer(question, &Facts::default());
        step = decoder.feed(data).map_err(|fault| fault.to_string())?;
    }
    assert_eq!(step, Step::Taken, "answered and asked again");
    Ok(())
}

/// The server's end: says what it has to say, whatever it is told.
struct Script {
    unread: Vec<u8>,
    at: usize,
    /// So many bytes a read.
    chunk: usize,
    /// Where it answers to our nonce: nobody can before knowing it, so a read ends here.
    nonce_at: usize,
    /// Whether our nonce stands there.
    nonced: Arc<AtomicBool>,
    /// What it was told.
    said: Vec<u8>,
}

impl Script {
    /// Puts our nonce where the script has another: else no answer to it is ever looked at.
    fn learn_nonce(&mut self) {
        let Some(start) = find(&self.said, OUR_NONCE) else { return };
        let place = self.nonce_at..self.nonce_at + NONCE_BYTES;
        if let Some(nonce) = self.said.get(start..start + NONCE_BYTES)
            && let Some(theirs) = self.unread.get_mut(place)
        {
            theirs.copy_from_slice(nonce);
            self.nonced.store(true, Ordering::Relaxed);
        }
    }
}

/// Where something that is in a text ends.
fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what).map(|at| at + what.len())
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let end = if self.at < self.nonce_at { self.nonce_at } else { self.unread.len() };
        let rest = self.unread.get(self.at..end).unwrap_or_default();
        let len = rest.len().min(self.chunk).min(buffer.remaining());
        buffer.put_slice(rest.get(..len).unwrap_or_default());
        self.at += len;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.said.extend_from_slice(bytes);
        if self.at <= self.nonce_at {
            self.learn_nonce();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
