//! The loop against a scripted server, with paused time.

use bytes::BufMut as _;
use tokio::io::{AsyncReadExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::wire::frame::Frames;

/// Of paused time, so that a reader that waits for nothing fails its test.
const PATIENCE: Duration = Duration::from_secs(600);

/// The server's end, and the engine's.
struct Rig {
    receive: ReadHalf<DuplexStream>,
    transmit: WriteHalf<DuplexStream>,
    events: mpsc::Receiver<Result<Event, SourceError>>,
    closing: CancellationToken,
    confirmed: Arc<super::super::Confirmed>,
}

/// A reader whose queue takes one event, and its rig.
fn rig() -> (Reader<DuplexStream>, Rig) {
    let options = Arc::new(Options::new("h", "u", "d", "s", "p"));
    // Room for all that a test sends: nobody waits for the other.
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (receive, transmit) = tokio::io::split(ours);
    let duplex = Duplex { receive, transmit, frames: Frames::default() };
    let (events_sender, events) = mpsc::channel(1);
    let link = Link {
        stop: CancellationToken::new(),
        closing: CancellationToken::new(),
        confirmed: Arc::default(),
        held: model::source::Held::default(),
        lineages: Arc::default(),
        trail: Arc::default(),
        claim: tokio::sync::watch::channel(None).1,
        events: events_sender,
    };
    let (closing, confirmed) = (link.closing.clone(), Arc::clone(&link.confirmed));
    let feedback = Feedback::new(Lsn(8), Duration::from_secs(60), Instant::now());
    let catalog = Catalog::unopened(Arc::clone(&options));
    let reader = Reader::new(options, duplex, catalog, feedback, link);
    let (receive, transmit) = tokio::io::split(theirs);
    (reader, Rig { receive, transmit, events, closing, confirmed })
}

impl Rig {
    async fn send(&mut self, frames: &[u8]) {
        self.transmit.write_all(frames).await.unwrap();
    }

    /// The next status update: received, confirmed, and whether an answer is wanted.
    async fn status(&mut self) -> (u64, u64, bool) {
        let mut frame = [0; 39];
        timeout(PATIENCE, self.receive.read_exact(&mut frame)).await.unwrap().unwrap();
        let lsn = |at: usize| u64::from_be_bytes(frame[at..at + 8].try_into().unwrap());
        assert_eq!((frame[0], frame[5], lsn(14)), (b'd', b'r', lsn(22)));
        (lsn(6), lsn(14), frame[38] != 0)
    }

    async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap().unwrap()
    }
}

fn copy(body: &[u8]) -> Vec<u8> {
    let mut out = vec![b'd'];
    out.put_u32(u32::try_from(body.len() + 4).unwrap());
    out.extend(body);
    out
}

fn data(lsn: u64, message: &[u8]) -> Vec<u8> {
    let mut body = vec![b'w'];
    body.put_u64(lsn);
    body.put_u64(lsn);
    body.put_i64(77);
    body.extend(message);
    copy(&body)
}

fn keepalive(lsn: u64, reply: bool) -> Vec<u8> {
    let mut body = vec![b'k'];
    body.put_u64(lsn);
    body.put_i64(77);
    body.put_u8(u8::from(reply));
    copy(&body)
}

fn begin(lsn: u64) -> Vec<u8> {
    let mut body = vec![b'B'];
    body.put_u64(lsn);
    body.put_i64(0);
    body.put_u32(1);
    data(lsn - 8, &body)
}

fn commit(lsn: u64) -> Vec<u8> {
    let mut body = vec![b'C', 0];
    body.put_u64(lsn);
    body.put_u64(lsn + 8);
    body.put_i64(0);
    data(lsn + 8, &body)
}

/// Runs the script beside the reader; the script's end ends the test.
async fn play(script: impl AsyncFnOnce(&mut Rig)) -> Option<Result<(), SourceError>> {
    let (reader, mut rig) = rig();
    let mut script = std::pin::pin!(script(&mut rig));
    let mut run = std::pin::pin!(reader.run());
    let outcome = tokio::select! {
        biased;
        ended = &mut run => ended,
        () = &mut script => return None,
    };
    script.await;
    Some(outcome)
}

#[tokio::test(start_paused = true)]
async fn b031_a_full_queue_stops_neither_the_clock_nor_an_answer() {
    play(async |rig| {
        // Two batches for a queue of one: the second one waits in the reader.
        let batch = |first: u64| {
            (0..256).flat_map(move |n| [begin(first + n * 16), commit(first + n * 16)].concat())
        };
        rig.send(&batch(64).collect::<Vec<u8>>()).await;
        rig.send(&batch(8192).collect::<Vec<u8>>()).await;
        // Ten minutes, which the paused clock jumps over.
        for _ in 0..600 {
            let (_, confirmed, _) = rig.status().await;
            assert_eq!(confirmed, 8, "nothing was confirmed");
        }
        let before = Instant::now();
        rig.confirmed.raise(Lsn(100));
        let (_, confirmed, _) = rig.status().await;
        assert_eq!(confirmed, 100);
        assert!(before.elapsed() <= Duration::from_millis(101), "{:?}", before.elapsed());
        let mut commits = 0;
        while commits < 512 {
            if let Event::Changes(batch) = rig.event().await {
                commits += batch.commits.len();
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn b031_a_keepalive_that_asks_is_answered_at_once() {
    play(async |rig| {
        let before = Instant::now();
        rig.send(&keepalive(64, true)).await;
        assert_eq!(rig.status().await, (64, 8, false));
        assert_eq!(before.elapsed(), Duration::ZERO);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn b033_idle_comes_after_what_was_before_and_not_inside_a_transaction() {
    play(async |rig| {
        rig.send(&[begin(64), commit(64), keepalive(80, false)].concat()).await;
        assert!(matches!(rig.event().await, Event::Changes(batch) if batch.commits.len() == 1));
        assert!(matches!(rig.event().await, Event::Idle(Lsn(80))));
        // A transaction began since, or is open: neither says anything.
        rig.send(&[keepalive(90, false), begin(96), keepalive(97, true)].concat()).await;
        rig.status().await;
        rig.send(&commit(96)).await;
        assert!(matches!(rig.event().await, Event::Changes(batch) if batch.commits.len() == 1));
        rig.send(&keepalive(112, false)).await;
        assert!(matches!(rig.event().await, Event::Idle(Lsn(112))));
    })
    .await;
}

/// Each batch wakes the engine, so a hot stream is not handed over read by read; what ends a burst
/// is, and what comes alone.
#[tokio::test(start_paused = true)]
async fn what_a_hot_stream_sends_within_a_nap_is_one_batch() {
    // A message outside of transactions, as long as a read that is followed by another at once.
    let mut long = vec![b'M', 0];
    long.put_u64(8);
    long.put_u8(0);
    long.put_u32(100_000);
    long.resize(long.len() + 100_000, b'x');
    let long = data(8, &long);
    play(async |rig| {
        rig.send(&[begin(64), commit(64)].concat()).await;
        assert!(matches!(rig.event().await, Event::Changes(batch) if batch.commits.len() == 1));
        // The clock is paused: this is hot.
        rig.send(&[&long[..], &begin(96), &commit(96)].concat()).await;
        tokio::task::yield_now().await;
        rig.send(&[begin(128), commit(128)].concat()).await;
        assert!(matches!(rig.event().await, Event::Changes(batch) if batch.commits.len() == 2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn b029_a_corrupt_frame_ends_the_stream_after_its_events() {
    for corrupt in [copy(b"?"), data(72, b"Z"), vec![b'd', 0, 0, 0, 1], vec![b'x', 0, 0, 0, 4]] {
        let outcome = play(async |rig| {
            rig.send(&[begin(64), commit(64)].concat()).await;
            assert!(matches!(rig.event().await, Event::Changes(batch) if batch.commits.len() == 1));
            rig.send(&corrupt).await;
            let error = rig.events.recv().await.unwrap().unwrap_err();
            assert!(matches!(error, SourceError::Transient(_)), "{error}");
        })
        .await;
        assert!(matches!(outcome, Some(Err(SourceError::Transient(_)))));
    }
}

/// What comes twice would be delivered twice, or under the position of another change.
#[tokio::test(start_paused = true)]
async fn b030_a_transaction_below_the_last_commit_ends_the_stream_behind_it() {
    for again in [64, 32] {
        let outcome = play(async |rig| {
            rig.send(&[begin(64), commit(64)].concat()).await;
            assert!(matches!(rig.event().await, Event::Changes(batch) if batch.commits.len() == 1));
            rig.send(&[begin(again), commit(again), begin(128), commit(128)].concat()).await;
            let error = rig.events.recv().await.unwrap().unwrap_err();
            assert!(error.to_string().contains("opened again at the confirmed"), "{error}");
            assert!(rig.events.recv().await.is_none(), "and nothing behind it");
        })
        .await;
        assert!(matches!(outcome, Some(Err(SourceError::Transient(_)))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_asked_and_then_given_up() {
    let start = Instant::now();
    play(async |rig| {
        let (.., asked) = rig.status().await;
        assert!(asked, "a sign of life is asked for");
        let Rig { receive, events, .. } = rig;
        let mut updates = [0; 1024];
        let error = loop {
            tokio::select! {
                // The reader is gone, and its socket with it, once the error is there.
                biased;
                event = events.recv() => break event.unwrap().unwrap_err(),
                read = receive.read(&mut updates) => assert!(read.unwrap() > 0),
            }
        };
        assert!(error.to_string().contains("a minute"), "{error}");
    })
    .await;
    assert!(start.elapsed() >= Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn the_goodbye_carries_the_last_position_and_waits_for_its_arrival() {
    let outcome = play(async |rig| {
        rig.send(&[begin(64), commit(64)].concat()).await;
        assert!(matches!(rig.event().await, Event::Changes(_)));
        rig.confirmed.raise(Lsn(72));
        rig.closing.cancel();
        while rig.status().await != (72, 72, false) {}
        let mut rest = [0; 5];
        rig.receive.read_exact(&mut rest).await.unwrap();
        assert_eq!(rest, *b"c\0\0\0\x04", "CopyDone");
        // What is still under way is dropped.
        rig.send(&begin(128)).await;
        rig.send(b"c\0\0\0\x04C\0\0\0\x0BCOPY 0\0Z\0\0\0\x05I").await;
        rig.receive.read_exact(&mut rest).await.unwrap();
        assert_eq!(rest, *b"X\0\0\0\x04", "Terminate");
    })
    .await;
    assert!(matches!(outcome, None | Some(Ok(()))));
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_that_nobody_hears_is_an_error_in_the_end() {
    let (reader, rig) = rig();
    rig.closing.cancel();
    let start = Instant::now();
    assert!(matches!(reader.run().await, Err(SourceError::Transient(_))));
    assert_eq!(start.elapsed(), CLOSE_TIMEOUT);
}
