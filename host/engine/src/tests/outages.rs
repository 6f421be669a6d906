//! A destination that is away, and one that only one message brings down.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::batch::Grouping;
use model::sink::SinkError;
use tokio::time::Instant;

use crate::fake::log::{Log, Row};
use crate::fake::sink::{Answer, Recording};
use crate::fake::store::Store;
use crate::fake::{engine, run_until, sink_spec};
use crate::spec::SinkSpec;
use crate::status::{SinkStatus, Status};

const MIB: usize = 1 << 20;
const AWAY: Duration = Duration::from_secs(3_000);

fn status_of(status: &Status) -> Arc<SinkStatus> {
    Arc::clone(&status.slots.list()[0].sinks.list()[0])
}

fn failed(error: SinkError) -> Answer {
    Answer { after: Duration::from_millis(20), error: Some(error), ..Answer::default() }
}

/// For fifty minutes, with few attempts allowed: only single messages are tried meanwhile, and none
/// of it counts. When it is back, all goes at full speed at once.
#[tokio::test(start_paused = true)]
async fn b123_b124_an_outage_costs_no_attempts_and_little_traffic_and_ends_at_once() {
    type Fail = fn(&str) -> SinkError;
    let unreachable: Fail = |text| SinkError::unreachable(text);
    let misconfigured: Fail = |text| SinkError::misconfigured(text);
    for (fail, code, grouping) in [
        (unreachable, "destination_unreachable", Grouping::Apart),
        (misconfigured, "destination_misconfigured", Grouping::Together),
    ] {
        let log = Log::new();
        log.commit((0..200).map(|n| Row::update(n % 50, n)).collect());
        let start = Instant::now();
        let times: Arc<Mutex<Vec<(Duration, usize)>>> = Arc::default();
        let seen = Arc::clone(&times);
        let sink = Recording::new(grouping, 10, move |batch| {
            seen.lock().unwrap().push((start.elapsed(), batch.messages().len()));
            if start.elapsed() < AWAY { failed(fail("no")) } else { Answer::default() }
        });
        let store = Arc::<Store>::default();
        let spec = SinkSpec { attempts_max: Some(2), ..sink_spec("a", &sink) };
        let (engine, status, _) = engine(&log, vec![spec], &store, MIB);
        let shown = status_of(&status);
        let (mut codes, mut longest) = (Vec::new(), Duration::ZERO);
        run_until(engine, || {
            if let Some(away) = shown.breaker.get() {
                assert_eq!(away.error, "no");
                let next = away.next_probe.expect("it is tried again");
                longest = longest.max(next.saturating_duration_since(Instant::now()));
                codes = shown.warnings.list();
                assert!(shown.next_retry.remaining().is_some());
            }
            log.settled()
        })
        .await;
        assert_eq!(store.letters().len(), 0);
        assert_eq!(codes.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [code]);
        assert!(longest > Duration::from_secs(20) && longest <= Duration::from_secs(30));
        let times = times.lock().unwrap();
        let (before, after): (Vec<_>, Vec<_>) = times.iter().partition(|(at, _)| *at < AWAY);
        assert!((100..130).contains(&before.len()), "{} requests", before.len());
        assert!(before[10..].iter().all(|(_, messages)| *messages == 1), "probes");
        let end = after.last().unwrap().0;
        assert!(end < AWAY + Duration::from_secs(31), "{end:?}");
        assert!(after[1..].iter().any(|(_, messages)| *messages == 10), "{after:?}");
        assert_eq!((shown.breaker.get(), shown.warnings.list()), (None, Vec::new()));
        assert_eq!(sink.len(), 200);
    }
}

/// A receiver fails on one message as it would in an outage, and takes the others: the message has as
/// many attempts as are allowed.
#[tokio::test(start_paused = true)]
async fn b122_a_message_that_its_receiver_fails_on_is_put_aside_while_others_get_through() {
    for (grouping, batch) in
        [(Grouping::Together, 1), (Grouping::Together, 5), (Grouping::Apart, 5)]
    {
        let log = Log::new();
        log.commit(vec![Row::update(1_000, "poison"), Row::update(1_000, "next")]);
        let poison = |payload: &str| payload.contains("\"value\":\"poison\"");
        let sink = Recording::new(grouping, batch, move |batch| {
            match batch.messages().iter().any(|message| poison(&message.payload)) {
                true => failed(SinkError::unreachable("500")),
                false => Answer::default(),
            }
        });
        let store = Arc::<Store>::default();
        let spec = SinkSpec { attempts_max: Some(3), ..sink_spec("a", &sink) };
        let (engine, _, _) = engine(&log, vec![spec], &store, MIB);
        let mut next = (Instant::now(), 0);
        run_until(engine, || {
            if next.0 <= Instant::now() && next.1 < 600 {
                log.commit(vec![Row::update(next.1, next.1)]);
                next = (Instant::now() + Duration::from_millis(100), next.1 + 1);
            }
            next.1 == 600 && log.settled()
        })
        .await;
        let letters = store.letters();
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        assert_eq!((letter.attempts, &*letter.error), (3, "out of attempts: 500"));
        assert!(poison(&letter.input), "{}", letter.input);
        assert_eq!(sink.len(), 601, "its group goes on, and the others");
    }
}

/// It is all that there is, so it cannot be told from an outage; what comes later does not wait for
/// the next probe.
#[tokio::test(start_paused = true)]
async fn b090_a_message_that_looks_like_an_outage_holds_back_no_other() {
    let log = Log::new();
    log.commit(vec![Row::update(0, "poison")]);
    let sink = Recording::new(Grouping::Together, 10, |batch| {
        match batch.messages().iter().any(|message| message.payload.contains("\"poison\"")) {
            true => failed(SinkError::unreachable("500")),
            false => Answer::default(),
        }
    });
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    let shown = status_of(&status);
    let (mut sent, mut longest) = (None, Duration::ZERO);
    let mut key = 0;
    let mut was_away = 0;
    run_until(engine, || {
        match sent {
            Some((at, count)) if sink.len() == count => {
                longest = longest.max(Instant::now() - at);
                sent = None;
            }
            None if shown.breaker.get().is_some() => {
                was_away += 1;
                key += 1;
                log.commit(vec![Row::update(key, key)]);
                sent = Some((Instant::now(), sink.len() + 1));
            }
            _ => {}
        }
        key >= 10 && sent.is_none()
    })
    .await;
    assert!(was_away >= 10);
    assert!(longest < Duration::from_millis(200), "{longest:?}");
}
