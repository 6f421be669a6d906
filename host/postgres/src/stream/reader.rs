//! The reader: one loop that owns the stream.

use std::future::{pending, ready};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::{BoxFuture, FutureExt as _};
use model::lsn::Lsn;
use model::source::{Changes, Event, SourceError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::Link;
use super::feedback::Feedback;
use super::pace::Pace;
use super::pulse::Pulse;
use crate::catalog::{Catalog, Look, Words};
use crate::decode::{Decoder, Step};
use crate::error::{self, Phase};
use crate::options::Options;
use crate::relation::{Facts, Question};
use crate::wire::copy::Message;
use crate::wire::report::Report;
use crate::wire::{self, Duplex};

/// A batch is handed over with so many changes,
const BATCH_CHANGES_MAX: usize = 256;

/// or so many bytes, or when nothing more is here: whichever comes first.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// For the goodbye, after which the position may or may not have arrived.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads, decodes and hands over; keeps the server informed.
pub(super) struct Reader<S> {
    options: Arc<Options>,
    duplex: Duplex<S>,
    /// Written to the socket as it takes it.
    out: BytesMut,
    /// Whether something of `out` may not have left yet.
    unsent: bool,
    decoder: Decoder,
    feedback: Feedback,
    pace: Pace,
    pulse: Pulse,
    catalog: Knowledge,
    /// A question waits until the catalog is back.
    question_waits: bool,
    /// The server takes no sessions any more.
    server_closes: bool,
    /// Sealed, and handed over before anything more is decoded.
    sealed: Option<Changes>,
    /// Where an idle server is, once what waits was handed over.
    idle: Option<Lsn>,
    link: Link,
}

/// Where the catalog is.
enum Knowledge {
    Here(Catalog),
    /// Answering; the message that needs it stays in the buffer.
    Asked(BoxFuture<'static, Box<Answer>>),
    /// Looking after the server. Reading goes on.
    Looking(BoxFuture<'static, Box<Looked>>),
    /// Between the two.
    Gone,
}

/// The catalog is back.
struct Answer {
    catalog: Catalog,
    question: Question,
    facts: Result<Facts, SourceError>,
}

/// The catalog is back from a look.
struct Looked {
    catalog: Catalog,
    words: Words,
    look: Look,
}

/// The catalog is back.
enum Back {
    Answer(Box<Answer>),
    Looked(Box<Looked>),
}

/// Why the loop woke up.
enum Wake {
    Closing,
    Claimed,
    Sent(io::Result<()>),
    Due,
    Confirmed,
    Back(Back),
    HandedOver,
    Abandoned,
    Read(io::Result<usize>),
    NothingMore,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Reader<S> {
    pub(super) fn new(
        options: Arc<Options>,
        duplex: Duplex<S>,
        catalog: Catalog,
        feedback: Feedback,
        link: Link,
    ) -> Self {
        let pulse = Pulse::new(options.heartbeat, Instant::now());
        Self {
            options,
            duplex,
            out: BytesMut::new(),
            unsent: false,
            decoder: Decoder::new(Arc::clone(&link.lineages)),
            feedback,
            pace: Pace::default(),
            pulse,
            catalog: Knowledge::Here(catalog),
            question_waits: false,
            server_closes: false,
            sealed: None,
            idle: None,
            link,
        }
    }

    /// Runs until it is told to close, or the stream breaks: the error is handed over behind the
    /// last event.
    pub(super) async fn run(mut self) -> Result<(), SourceError> {
        let mut timer = std::pin::pin!(sleep_until(self.feedback.due()));
        let broken = loop {
            match self.step(timer.as_mut()).await {
                Ok(true) => {}
                Ok(false) => return self.goodbye().await,
                Err(error) => break error,
            }
        };
        tracing::debug!(slot.name = self.options.slot, error = %broken, "the stream broke");
        if self.server_closes {
            // Best effort: what does not arrive is sent again.
            self.goodbye().await.ok();
        }
        // The server has not to wait for us, however long the engine takes no events.
        let Self { link, duplex, .. } = self;
        drop(duplex);
        tokio::select! {
            biased;
            () = link.closing.cancelled() => Err(broken),
            room = link.events.reserve() => {
                // Nobody listens to a stream that was dropped.
                if let Ok(room) = room {
                    room.send(Err(broken));
                }
                Err(error::transient("the stream broke before it was closed"))
            }
        }
    }

    /// One turn of the loop. False when it is time to close.
    async fn step(&mut self, timer: std::pin::Pin<&mut Sleep>) -> Result<bool, SourceError> {
        self.decode()?;
        if self.can_read() {
            self.keep_pace().await;
        }
        match self.wake(timer).await {
            Wake::Closing | Wake::Abandoned => return Ok(false),
            Wake::Sent(sent) => {
                sent.map_err(|error| self.broken(error.into()))?;
                self.unsent = false;
            }
            Wake::Due => {
                let now = Instant::now();
                if self.pulse.due() <= now {
                    self.look(now);
                }
                if self.feedback.due() <= now {
                    self.send_status()?;
                }
            }
            Wake::Confirmed => self.feedback.confirm(self.link.confirmed.get()),
            Wake::Claimed => self.pulse.claim_anew(Instant::now()),
            Wake::Back(Back::Answer(answer)) => {
                let Answer { catalog, question, facts } = *answer;
                self.catalog = Knowledge::Here(catalog);
                self.decoder.answer(&question, &facts?);
            }
            Wake::Back(Back::Looked(looked)) => self.looked(*looked)?,
            Wake::HandedOver => {}
            Wake::Read(Ok(0)) => return Err(self.broken(wire::Error::Closed)),
            Wake::Read(read) => {
                let bytes = read.map_err(|error| self.broken(error.into()))?;
                self.pace.read(bytes, Instant::now());
            }
            Wake::NothingMore if self.pace.expects_more() => {}
            Wake::NothingMore => self.sealed = Some(self.decoder.seal()),
        }
        Ok(true)
    }

    /// On a hot stream: hands over what was held for long enough, or lets more come in.
    async fn keep_pace(&mut self) {
        if self.pace.hand_over(self.decoder.waiting() > 0, Instant::now()) {
            self.sealed = Some(self.decoder.seal());
        } else if let Some(nap) = self.pace.nap() {
            // The thread is the reader's own, and the runtime's timer is too coarse for this.
            std::thread::park_timeout(nap);
            // The runtime looks at the socket only when it gets a turn.
            tokio::task::yield_now().await;
        }
    }

    /// Waits for the next thing to do. All branches are cancel-safe: what they did is in `self`.
    async fn wake(&mut self, mut timer: std::pin::Pin<&mut Sleep>) -> Wake {
        let due = self.feedback.due().min(self.pulse.due());
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        let (can_read, waiting) = (self.can_read(), self.decoder.waiting() > 0);
        // Being idle is said behind everything else, and once: the newest position.
        let can_hand_over = self.sealed.is_some() || (self.idle.is_some() && !waiting);
        let Self { duplex, out, unsent, catalog, sealed, idle, link, .. } = self;
        let Duplex { receive, transmit, frames } = duplex;
        tokio::select! {
            biased;
            // 1: told to close.
            () = link.closing.cancelled() => Wake::Closing,
            // 2: what is to be sent is sent; a new status update waits until then.
            sent = send(transmit, out), if *unsent => Wake::Sent(sent),
            // 3: the server is to be told how far we are, and looked after, whatever else there is.
            () = timer, if !*unsent => Wake::Due,
            () = link.confirmed.raised.notified() => Wake::Confirmed,
            Ok(()) = link.claim.changed() => Wake::Claimed,
            // 4: the catalog answers.
            back = back(catalog) => Wake::Back(back),
            // 5: the engine takes what there is for it.
            room = link.events.reserve(), if can_hand_over => {
                let changes = sealed.take().map(Event::Changes);
                match (room, changes.or_else(|| idle.take().map(Event::Idle))) {
                    (Ok(room), Some(event)) => {
                        room.send(Ok(event));
                        Wake::HandedOver
                    }
                    _ => Wake::Abandoned,
                }
            }
            // 6: more to decode.
            read = frames.fill(receive), if can_read => Wake::Read(read),
            // 7: nothing more is here: what was decoded does not wait, but for a nap.
            () = ready(()), if can_read && waiting => Wake::NothingMore,
        }
    }

    /// Back-pressure and open questions stop reading, and nothing else.
    fn can_read(&self) -> bool {
        let knows = match self.catalog {
            Knowledge::Here(_) => true,
            Knowledge::Looking(_) => !self.question_waits,
            Knowledge::Asked(_) | Knowledge::Gone => false,
        };
        self.sealed.is_none() && knows
    }

    /// Decodes what is in the buffer, until a batch is full or the catalog is needed.
    fn decode(&mut self) -> Result<(), SourceError> {
        let now = Instant::now();
        while self.can_read() {
            let malformed = |error: wire::cursor::Malformed| {
                error::wire(&error.into(), Phase::Stream, &self.options)
            };
            let Some(frame) = self.duplex.frames.peek().map_err(malformed)? else { return Ok(()) };
            let len = frame.body.len();
            match frame.tag {
                b'd' => match Message::parse(frame.body).map_err(malformed)? {
                    Message::XLogData { start, clock_us, data } => {
                        let commit = self.decoder.open_commit();
                        let step = self.decoder.feed(data);
                        match step.map_err(|fault| error::fault(&fault, commit, &self.options))? {
                            Step::Taken => {}
                            Step::NeedCatalog(question) => {
                                self.ask(question);
                                return Ok(());
                            }
                        }
                        self.feedback.heard(now, clock_us);
                        self.feedback.received(start);
                        if self.decoder.take_heartbeats() {
                            self.link.held.beat(now.into_std());
                        }
                        if self.decoder.in_transaction() {
                            self.idle = None;
                            self.pulse.changes(now);
                        }
                    }
                    Message::Keepalive { end, clock_us, reply } => {
                        self.feedback.heard(now, clock_us);
                        self.feedback.received(end);
                        if reply {
                            self.feedback.ask();
                        }
                        if !self.decoder.in_transaction() {
                            self.idle = Some(end);
                        }
                    }
                },
                b'N' => self.notice(frame.body)?,
                // Changed settings.
                b'S' => {}
                b'E' => {
                    let report = Report::parse(frame.body).map_err(malformed)?;
                    return Err(error::stopped(&report, self.decoder.open_commit(), &self.options));
                }
                // CopyDone, or what follows it: a server that shuts down in order.
                _ => return Err(error::transient("the server ended the stream")),
            }
            self.duplex.frames.consume(len);
            if is_full(&self.decoder) {
                self.sealed = Some(self.decoder.seal());
            }
        }
        Ok(())
    }

    fn ask(&mut self, question: Question) {
        self.catalog = match std::mem::replace(&mut self.catalog, Knowledge::Gone) {
            Knowledge::Here(mut catalog) => {
                let answer = async move {
                    let facts = catalog.ask(&question).await;
                    Box::new(Answer { catalog, question, facts })
                };
                Knowledge::Asked(answer.boxed())
            }
            // Asked again when it is back: the message stays in the buffer.
            busy @ (Knowledge::Asked(_) | Knowledge::Looking(_) | Knowledge::Gone) => {
                self.question_waits = true;
                busy
            }
        };
    }

    /// Begins to look after the server. If the catalog is asked just now, it is there.
    fn look(&mut self, now: Instant) {
        let heartbeat = self.pulse.begin(now);
        if !matches!(self.catalog, Knowledge::Here(_)) {
            // It answers just now, so the server is there. What is to be written waits.
            return;
        }
        let claim = self.link.claim.borrow().clone();
        let claim = claim.filter(|_| self.pulse.claim(now));
        let words = Words { heartbeat, claim };
        self.catalog = match std::mem::replace(&mut self.catalog, Knowledge::Gone) {
            Knowledge::Here(mut catalog) => {
                let look = async move {
                    let look = catalog.look(&words).await;
                    Box::new(Looked { catalog, words, look })
                };
                Knowledge::Looking(look.boxed())
            }
            busy @ (Knowledge::Asked(_) | Knowledge::Looking(_) | Knowledge::Gone) => busy,
        };
    }

    fn looked(&mut self, looked: Looked) -> Result<(), SourceError> {
        let Looked { catalog, words, look } = looked;
        self.catalog = Knowledge::Here(catalog);
        self.question_waits = false;
        if words.claim.is_some() && !matches!(look, Look::Fine) {
            // With the next look, which is soon enough.
            self.pulse.claim_again();
        }
        if words.heartbeat
            && self.pulse.beaten(!matches!(look, Look::Fine))
            && let Look::Failed(reason) = &look
        {
            tracing::warn!(slot.name = self.options.slot, reason, "no heartbeat can be written");
        }
        match look {
            Look::Fine => Ok(()),
            Look::Failed(reason) => {
                tracing::debug!(slot.name = self.options.slot, reason, "the server was not asked");
                Ok(())
            }
            Look::Closed => {
                self.server_closes = true;
                Err(error::transient("the server is shutting down"))
            }
        }
    }

    /// The server says something beside the stream.
    fn notice(&self, body: &[u8]) -> Result<(), SourceError> {
        let report = Report::parse(body);
        let report = report.map_err(|error| self.broken(wire::Error::Malformed(error)))?;
        if error::skips_publication(&report) {
            return Err(self.broken(wire::Error::Server(report)));
        }
        tracing::debug!(slot.name = self.options.slot, %report, "the server noted");
        Ok(())
    }

    fn send_status(&mut self) -> Result<(), SourceError> {
        let now = Instant::now();
        if !self.can_read() {
            self.feedback.deaf(now);
        } else if self.feedback.is_silent(now) {
            return Err(error::transient(format!(
                "{}:{} has not answered for a minute",
                self.options.host, self.options.port
            )));
        }
        self.feedback.confirm(self.link.confirmed.get());
        self.feedback.status(now).write(&mut self.out);
        self.unsent = true;
        Ok(())
    }

    /// Sends the last confirmed position and ends the stream; what the server still sends is
    /// dropped. Its CopyDone answers ours, and it takes messages in order: then the position has
    /// arrived.
    async fn goodbye(&mut self) -> Result<(), SourceError> {
        self.feedback.confirm(self.link.confirmed.get());
        self.feedback.status(Instant::now()).write(&mut self.out);
        postgres_protocol::message::frontend::copy_done(&mut self.out);
        let mut arrived = false;
        let ended = timeout(CLOSE_TIMEOUT, self.end(&mut arrived)).await;
        if let Knowledge::Here(mut catalog) = std::mem::replace(&mut self.catalog, Knowledge::Gone)
        {
            let claim = self.link.claim.borrow().clone();
            if let Some(claim) = claim {
                catalog.say(&claim).await;
            }
            catalog.close().await;
        }
        match ended {
            _ if arrived => Ok(()),
            Ok(Err(error)) => Err(error::wire(&error, Phase::Stream, &self.options)),
            Ok(Ok(())) | Err(_) => Err(error::transient(
                "the server did not acknowledge the end of the stream: the last confirmed position \
                 may not have arrived",
            )),
        }
    }

    async fn end(&mut self, arrived: &mut bool) -> Result<(), wire::Error> {
        let Duplex { receive, transmit, frames } = &mut self.duplex;
        send(transmit, &mut self.out).await?;
        loop {
            let Some(frame) = frames.peek()? else {
                match frames.fill(receive).await? {
                    0 => return Err(wire::Error::Closed),
                    _ => continue,
                }
            };
            let len = frame.body.len();
            match frame.tag {
                b'c' => *arrived = true,
                b'E' => return Err(wire::Error::Server(Report::parse(frame.body)?)),
                // ReadyForQuery: the slot is free again.
                b'Z' => break,
                _ => {}
            }
            frames.consume(len);
        }
        postgres_protocol::message::frontend::terminate(&mut self.out);
        send(transmit, &mut self.out).await?;
        transmit.shutdown().await?;
        Ok(())
    }

    fn broken(&self, error: wire::Error) -> SourceError {
        error::wire(&error, Phase::Stream, &self.options)
    }
}

/// Whether what waits in the decoder is a batch, also if more is there.
pub(super) fn is_full(decoder: &Decoder) -> bool {
    decoder.waiting() >= BATCH_CHANGES_MAX || decoder.bytes() >= BATCH_BYTES_MAX
}

/// Writes out what is there. Cancel-safe: what left is no longer in `out`.
pub(super) async fn send<W: AsyncWrite + Unpin>(
    transmit: &mut W,
    out: &mut BytesMut,
) -> io::Result<()> {
    transmit.write_all_buf(out).await?;
    transmit.flush().await
}

/// The catalog, if it is away.
async fn back(catalog: &mut Knowledge) -> Back {
    match catalog {
        Knowledge::Asked(answer) => Back::Answer(answer.await),
        Knowledge::Looking(look) => Back::Looked(look.await),
        Knowledge::Here(_) | Knowledge::Gone => pending().await,
    }
}

#[cfg(test)]
mod tests;
