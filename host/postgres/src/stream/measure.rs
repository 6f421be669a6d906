//! For benchmarks: the stream without its decoding, and the decoding without its stream.
//!
//! Both go through the same code as a [`super::Connector`]'s stream, so that what is measured is what
//! runs. Nothing is confirmed here, so a slot that was drained can be read again.

use std::sync::Arc;

use bytes::BytesMut;
use model::lsn::Lsn;
use model::source::{Changes, SourceError};
use tokio::time::{Instant, timeout_at};

use super::feedback::Feedback;
use super::pace::Pace;
use super::{open, reader};
use crate::decode::{Decoder, Step};
use crate::error::{self, Phase};
use crate::options::Options;
use crate::relation::Facts;
use crate::wire::cursor::{Cursor, Malformed};
use crate::wire::{self, copy::Message};

/// What a [`drain`] read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Messages of the output plugin.
    pub messages: u64,
    /// Their bytes, with what frames them.
    pub bytes: u64,
}

/// Reads a slot that exists until the stream is at `end`, and gives each frame of the log to `take`,
/// as it came: tag, length and body. Keepalives are answered, nothing is decoded.
///
/// It naps between reads as the stream does, so it wants a thread of its own.
///
/// # Errors
/// As those of a connection's stream.
pub async fn drain(
    options: Options,
    end: Lsn,
    mut take: impl FnMut(&[u8]),
) -> Result<Drained, SourceError> {
    options.check()?;
    let failed = |error: wire::Error, phase| error::wire(&error, phase, &options);
    let (connection, _) = open::login(&options).await?;
    let started = connection.start(&options).await;
    let mut duplex = started.map_err(|error| failed(error, Phase::Start))?;
    let broken = |error: wire::Error| failed(error, Phase::Stream);
    let malformed = |error: Malformed| broken(error.into());

    // The slot's own position is not known here: an update that says zero confirms nothing.
    let mut feedback = Feedback::new(Lsn::ZERO, open::SENDER_TIMEOUT, Instant::now());
    let (mut pace, mut out) = (Pace::default(), BytesMut::new());
    let mut drained = Drained::default();
    let mut reached = Lsn::ZERO;
    loop {
        let now = Instant::now();
        while let Some(frame) = duplex.frames.peek().map_err(malformed)? {
            let len = frame.body.len();
            match frame.tag {
                b'd' => match Message::parse(frame.body).map_err(malformed)? {
                    Message::XLogData { start, clock_us, data } => {
                        drained.messages += 1;
                        feedback.heard(now, clock_us);
                        feedback.received(start);
                        // A commit carries the end of its record.
                        if data.first() == Some(&b'C') {
                            reached = start;
                        }
                        take(duplex.frames.whole(len));
                    }
                    Message::Keepalive { end, clock_us, reply } => {
                        feedback.heard(now, clock_us);
                        feedback.received(end);
                        reached = end;
                        if reply {
                            feedback.ask();
                        }
                    }
                },
                b'N' | b'S' => {}
                b'E' => {
                    let report = wire::report::Report::parse(frame.body).map_err(malformed)?;
                    return Err(broken(wire::Error::Server(report)));
                }
                _ => return Err(error::transient("the server ended the stream")),
            }
            duplex.frames.consume(len);
        }
        if reached >= end {
            return Ok(drained);
        }
        if let Some(nap) = pace.nap() {
            std::thread::park_timeout(nap);
            tokio::task::yield_now().await;
        }
        match timeout_at(feedback.due(), duplex.frames.fill(&mut duplex.receive)).await {
            Ok(Ok(0)) => return Err(broken(wire::Error::Closed)),
            Ok(Ok(bytes)) => {
                drained.bytes += bytes as u64;
                pace.read(bytes, Instant::now());
            }
            Ok(Err(error)) => return Err(broken(error.into())),
            Err(_) => {}
        }
        let now = Instant::now();
        if feedback.due() <= now {
            feedback.status(now).write(&mut out);
            let sent = reader::send(&mut duplex.transmit, &mut out).await;
            sent.map_err(|error| broken(error.into()))?;
        }
    }
}

/// Decodes frames as [`drain`] gave them, one behind the other, into the batches that the stream
/// would hand over while more is there. What only the catalog knows is taken as unknown.
///
/// # Errors
/// The frames are not what a server sends.
pub fn decode(recording: &[u8], mut each: impl FnMut(Changes)) -> Result<(), SourceError> {
    let options = Arc::new(Options::new("/", "", "", "", ""));
    let malformed = |error: Malformed| error::wire(&error.into(), Phase::Stream, &options);
    let mut decoder = Decoder::default();
    let mut frames = Cursor::new(recording, "recording");
    while !frames.rest().is_empty() {
        frames.u8().map_err(malformed)?;
        let len = frames.u32().map_err(malformed)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX).saturating_sub(4);
        let body = frames.take(len).map_err(malformed)?;
        let Message::XLogData { data, .. } = Message::parse(body).map_err(malformed)? else {
            continue;
        };
        let fed =
            |step: Result<Step, _>| step.map_err(|fault| error::fault(&fault, None, &options));
        if let Step::NeedCatalog(question) = fed(decoder.feed(data))? {
            decoder.answer(&question, &Facts::default());
            fed(decoder.feed(data))?;
        }
        if reader::is_full(&decoder) {
            each(decoder.seal());
        }
    }
    each(decoder.seal());
    Ok(())
}
