//! What every sink must do, whatever its destination. One test per rule, each run for every sink.

pub(crate) mod fake;
mod local;

use std::sync::Arc;
use std::time::Duration;

use model::batch::{Batch, Grouping};
use model::groups::{GroupKey, Groups};
use model::lsn::Lsn;
use model::message::{Effect, Message, idempotency_key};
use model::position::Position;
use model::sink::{Failure, Retry, Sink, SinkError, Verdict};
use options::{Address, Secret};
use url::Url;

use crate::{Batching, Builder, Guard};
use fake::{Answer, Fake, Raw, Seen};

/// Longer than an answer in the same process takes, short enough to wait for.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(400);
/// In everything that must not be seen.
const SECRET: &str = "hunter2";
pub(crate) const BATCHING: Batching = Batching { messages_max: 10, linger: Duration::ZERO };

/// A sink under test, and how its destination answers when all is well.
struct Subject {
    name: &'static str,
    build: fn(&str) -> Arc<dyn Sink>,
    well: fn(&Seen) -> Answer,
}

const SUBJECTS: [Subject; 2] = [
    Subject {
        name: "webhook",
        build: |url| {
            Builder::new(Guard::default()).unwrap().webhook(webhook(url, true), BATCHING).unwrap()
        },
        well: |_| Answer::new(200, ""),
    },
    Subject {
        name: "typesense",
        build: |url| {
            Builder::new(Guard::default()).unwrap().typesense(typesense(url), BATCHING).unwrap()
        },
        well: typesense_well,
    },
];

pub(crate) fn webhook(url: &str, batch: bool) -> options::webhook::Ready {
    let url = Url::parse(&format!("{url}/{SECRET}?token={SECRET}")).unwrap();
    let header = |name: &str| (name.to_owned(), Secret::new(SECRET));
    options::webhook::Ready {
        endpoint_url: Address::new(url.clone()),
        url: Address::new(url),
        headers: vec![header("Authorization")],
        signing_keys: Vec::new(),
        batch,
        request_timeout: TIMEOUT,
        body_bytes_max: None,
    }
}

pub(crate) fn typesense(url: &str) -> options::typesense::Ready {
    options::typesense::Ready {
        url: Address::new(Url::parse(url).unwrap()),
        collection_name: "poi".to_owned(),
        api_key: Secret::new(SECRET),
        batch_size: 40,
        timeout: TIMEOUT,
        action: options::typesense::Action::Emplace,
        dirty_values: None,
    }
}

/// As 0.24.1 does: a line per document, and the removed document.
pub(crate) fn typesense_well(seen: &Seen) -> Answer {
    let lines = vec![r#"{"success":true}"#; seen.body.lines().count()];
    Answer::new(200, &lines.join("\n"))
}

pub(crate) fn message(number: u64, effect: Effect) -> Arc<Message> {
    let position = Position::new(Lsn(number), 0);
    let payload = match effect {
        Effect::Write | Effect::Complete => {
            format!(r#"{{"id":"{number}","name":"row-data-{number}"}}"#)
        }
        Effect::Remove => String::new(),
    };
    Arc::new(Message {
        position,
        output: 0,
        groups: Groups::One(GroupKey(number)),
        effect,
        key: Some(number.to_string().into()),
        payload: payload.into(),
        rows: Groups::None,
        relation: None,
        operation: None,
        partial: false,
        route: None,
        idempotency_key: idempotency_key(position, 0),
        scope: "0123456789abcdef".into(),
    })
}

pub(crate) fn writes(numbers: std::ops::RangeInclusive<u64>) -> Batch {
    Batch::new(numbers.map(|number| message(number, Effect::Write)).collect()).unwrap()
}

/// The error must be one that another attempt may not meet, and show neither secrets nor rows.
#[track_caller]
pub(crate) fn harmless(name: &str, result: Result<Vec<Verdict>, SinkError>) -> SinkError {
    let error = result.expect_err(name);
    assert!(matches!(error.retry, Retry::Later { .. }), "{name}: {error:?}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(SECRET), "{name} shows a secret: {shown}");
    assert!(!shown.contains("row-data"), "{name} shows a row: {shown}");
    assert!(shown.contains("127.0.0.1"), "{name} does not say where: {shown}");
    error
}

#[tokio::test]
async fn a_batch_is_judged_message_by_message() {
    for subject in SUBJECTS {
        let fake = Fake::start(subject.well).await;
        let sink = (subject.build)(&fake.url);
        let policy = sink.batch_policy();
        assert!(policy.messages_max > 0 && policy.requests_max > 0 && policy.bytes_max > 0);
        let verdicts = sink.deliver(&writes(1..=3)).await.unwrap();
        assert_eq!(verdicts, vec![Verdict::Delivered; 3], "{}", subject.name);
        assert_eq!(fake.seen().len(), 1, "{}: one attempt", subject.name);
        if policy.grouping == Grouping::Together {
            fake.next(Answer::new(500, ""));
            harmless(subject.name, sink.deliver(&writes(1..=3)).await);
        }
    }
}

#[tokio::test]
async fn b118_2xx_is_delivered_and_everything_else_is_tried_again() {
    for subject in SUBJECTS {
        for status in [301, 302, 307, 308, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503] {
            let fake = Fake::start(subject.well).await;
            let elsewhere = format!("{}/elsewhere", fake.url);
            let said = format!("no\r\n{}", "x".repeat(10_000));
            fake.next(Answer::new(status, &said).header("location", &elsewhere));
            let sink = (subject.build)(&fake.url);
            let error = harmless(subject.name, sink.deliver(&writes(1..=2)).await);
            assert!(error.message.contains(&status.to_string()), "{error}");
            assert!(error.message.len() < 400, "{error}");
            assert_eq!(
                fake.seen().len(),
                1,
                "{}: {status} is neither followed nor repeated by us",
                subject.name
            );
            let verdicts = sink.deliver(&writes(1..=2)).await.unwrap();
            assert_eq!(verdicts, vec![Verdict::Delivered; 2], "{}", subject.name);
        }
    }
}

/// Sends as the engine does: what is refused as too large goes again in halves.
pub(crate) async fn in_halves(sink: &dyn Sink, messages: &[Arc<Message>]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut parts = vec![messages];
    while let Some(part) = parts.pop() {
        match (sink.deliver(&Batch::new(part.to_vec()).unwrap()).await, part) {
            (Ok(judged), _) => verdicts.extend(judged),
            (Err(error), _) if error.failure != Failure::TooLarge => panic!("{error}"),
            (Err(SinkError { message: error, retry, .. }), [_]) => {
                verdicts.push(Verdict::Rejected { retry, error });
            }
            (Err(_), several) => {
                let (first, second) = several.split_at(several.len() / 2);
                parts.extend([second, first]);
            }
        }
    }
    verdicts
}

/// Too large is judged for each message: the others of the batch are not held up by it.
#[tokio::test]
async fn b105_b131_a_message_that_is_too_large_is_parked_and_the_others_go() {
    for subject in SUBJECTS {
        let fake = Fake::start(subject.well).await;
        let sink = (subject.build)(&fake.url);
        for _ in 0..3 {
            // 1 to 4, 1 and 2, 1.
            fake.next(Answer::new(413, "<html>Request Entity Too Large row-data</html>"));
        }
        let verdicts = in_halves(&*sink, writes(1..=4).messages()).await;
        let [parked, rest @ ..] = &verdicts[..] else { panic!("{}", subject.name) };
        let Verdict::Rejected { retry: Retry::Never, error } = parked else { panic!("{parked:?}") };
        assert!(error.contains("bytes") && error.contains("413"), "{error}");
        assert!(!error.contains(SECRET), "{error}");
        assert_eq!(rest, vec![Verdict::Delivered; 3], "{}", subject.name);
        assert_eq!(fake.seen().len(), 5, "{}", subject.name);
    }
}

/// Whether others would have met it: the engine holds a sink back for an outage, not for a message.
#[tokio::test]
async fn b120_b121_an_outage_is_told_from_a_refusal() {
    for subject in SUBJECTS {
        let fake = Fake::start(subject.well).await;
        let sink = (subject.build)(&fake.url);
        for (status, failure) in [
            (400, Failure::Refused),
            (401, Failure::Misconfigured),
            (403, Failure::Misconfigured),
            (404, Failure::Misconfigured),
            (301, Failure::Misconfigured),
            (408, Failure::Unreachable),
            (409, Failure::Refused),
            (429, Failure::Unreachable),
            (500, Failure::Unreachable),
            (503, Failure::Unreachable),
        ] {
            fake.next(Answer::new(status, ""));
            let error = harmless(subject.name, sink.deliver(&writes(1..=2)).await);
            assert_eq!(error.failure, failure, "{}: {status}", subject.name);
        }
        fake.next(Answer::never());
        let error = harmless(subject.name, sink.deliver(&writes(1..=1)).await);
        assert_eq!(error.failure, Failure::Unreachable, "{}: no answer", subject.name);
        let sink = (subject.build)(&fake::nobody().await);
        let error = harmless(subject.name, sink.deliver(&writes(1..=1)).await);
        assert_eq!(error.failure, Failure::Unreachable, "{}: no connection", subject.name);
    }
}

#[tokio::test]
async fn b119_the_delay_a_destination_asks_for_is_handed_on() {
    for subject in SUBJECTS {
        let fake = Fake::start(subject.well).await;
        let sink = (subject.build)(&fake.url);
        for (status, seconds) in [(429, Some(7)), (503, Some(7)), (500, None)] {
            fake.next(Answer::new(status, "").header("retry-after", "7"));
            let error = harmless(subject.name, sink.deliver(&writes(1..=1)).await);
            let after = seconds.map(Duration::from_secs);
            assert_eq!(error.retry, Retry::Later { after }, "{}: {status}", subject.name);
        }
    }
}

#[tokio::test]
async fn b120_a_refused_connection_is_tried_again() {
    for subject in SUBJECTS {
        let url = fake::nobody().await;
        let sink = (subject.build)(&url);
        let error = harmless(subject.name, sink.deliver(&writes(1..=1)).await);
        assert!(error.message.contains("refused"), "{}: {error}", subject.name);
        sink.check().await.expect_err(subject.name);
    }
}

#[tokio::test]
async fn b120_a_name_that_does_not_resolve_is_tried_again() {
    for subject in SUBJECTS {
        let sink = (subject.build)("http://nowhere.invalid:1");
        let error = sink.deliver(&writes(1..=1)).await.expect_err(subject.name);
        assert!(matches!(error.retry, Retry::Later { .. }), "{error:?}");
        assert!(error.message.contains("nowhere.invalid"), "{}: {error}", subject.name);
        assert!(!error.message.contains(SECRET), "{}: {error}", subject.name);
    }
}

#[tokio::test]
async fn b120_a_failed_tls_handshake_is_tried_again() {
    for subject in SUBJECTS {
        let fake = Fake::start(subject.well).await;
        let sink = (subject.build)(&fake.url.replace("http:", "https:"));
        let error = harmless(subject.name, sink.deliver(&writes(1..=1)).await);
        assert!(error.message.contains("cannot connect"), "{}: {error}", subject.name);
        assert_eq!(fake.seen().len(), 0);
    }
}

#[tokio::test]
async fn b121_a_slow_answer_is_tried_again() {
    for subject in SUBJECTS {
        let fake = Fake::start(subject.well).await;
        fake.next(Answer::never());
        let sink = (subject.build)(&fake.url);
        let begin = tokio::time::Instant::now();
        let error = harmless(subject.name, sink.deliver(&writes(1..=1)).await);
        assert!(error.message.contains("within 400ms"), "{}: {error}", subject.name);
        let took = begin.elapsed();
        assert!(took >= TIMEOUT && took < 10 * TIMEOUT, "{}: {took:?}", subject.name);
        sink.deliver(&writes(1..=1)).await.expect(subject.name);
    }
}

#[tokio::test]
async fn b130_a_connection_closed_between_requests_is_opened_anew() {
    for subject in SUBJECTS {
        let well = (subject.well)(&Seen::body(r#"{"id":"1"}"#));
        // Kept alive by its headers, then closed all the same.
        let raw = Raw::start(vec![Some(well.clone()), Some(well)]).await;
        let sink = (subject.build)(&raw.url);
        sink.deliver(&writes(1..=1)).await.expect(subject.name);
        raw.closed(1).await;
        sink.deliver(&writes(1..=1)).await.expect(subject.name);
        assert_eq!(raw.seen().len(), 2, "{}", subject.name);
    }
}

#[tokio::test]
async fn a_lost_answer_is_tried_again_with_the_same_payload() {
    for subject in SUBJECTS {
        let well = (subject.well)(&Seen::body(r#"{"id":"1"}"#));
        let raw = Raw::start(vec![None, Some(well)]).await;
        let sink = (subject.build)(&raw.url);
        let batch = writes(1..=1);
        harmless(subject.name, sink.deliver(&batch).await);
        assert_eq!(raw.seen().len(), 1, "{}: not repeated by the client", subject.name);
        sink.deliver(&batch).await.expect(subject.name);
        let [first, second] = &raw.seen()[..] else { panic!("{}", subject.name) };
        assert!(first.contains("row-data-1"), "{first}");
        assert_eq!(first, second, "{}", subject.name);
    }
}

#[tokio::test]
async fn a_check_writes_nothing() {
    for subject in SUBJECTS {
        let fake = Fake::start(|_| Answer::new(200, "{}")).await;
        (subject.build)(&fake.url).check().await.expect(subject.name);
        assert!(fake.seen().iter().all(|seen| seen.method == "GET"), "{}", subject.name);
    }
}
