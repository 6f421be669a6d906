//! Transforms that give none, one or many messages for a row.

use std::sync::Arc;
use std::time::Duration;

use model::batch::Grouping;
use model::plugin::Outcome;

use crate::fake::log::{Log, Row};
use crate::fake::plugin::{document, function};
use crate::fake::sink::{Answer, Recording, refusal};
use crate::fake::{engine, run_until, sink_spec};

const MIB: usize = 1 << 20;

/// Delivers the log to a sink that takes so many messages at once and refuses every third request;
/// payload and idempotency key of each message, in the order of arrival.
async fn delivered(log: &Log, batch: usize) -> Vec<(Box<str>, Box<str>)> {
    let mut requests = 0;
    let sink = Recording::new(Grouping::Together, batch, move |_| {
        requests += 1;
        let error = if requests % 3 == 0 { refusal() } else { None };
        Answer { after: Duration::from_millis(3), error, ..Answer::default() }
    });
    let mut spec = sink_spec("a", &sink);
    spec.transforms = vec![function(|change| {
        let ordinal = change.position.ordinal;
        let json = |part: u64| document(&format!("[{ordinal},{part}]"));
        Ok(match ordinal % 4 {
            0 => Outcome::Drop,
            1 => Outcome::Replace(json(0)),
            2 => Outcome::Many(vec![json(0)]),
            _ => Outcome::Many((0..3).map(json).collect()),
        })
    })];
    let (engine, _, _) = engine(log, vec![spec], &Arc::default(), MIB);
    run_until(engine, || sink.len() == 500).await;
    let received = sink.received();
    let told = |message: &model::message::Message| {
        (message.payload.clone(), message.idempotency_key.clone())
    };
    received.iter().map(|message| told(message)).collect()
}

#[tokio::test(start_paused = true)]
async fn b274_none_one_or_many_outputs_keep_their_order_and_have_keys_of_their_own() {
    let log = || {
        let log = Log::new();
        log.commit((0..400).map(|n| Row::update(1, n)).collect());
        log
    };
    let found = delivered(&log(), 7).await;
    let payloads: Vec<&str> = found.iter().map(|(payload, _)| &**payload).collect();
    let of_four = |four: u64| {
        let [one, single, many] = [1, 2, 3].map(|n| four * 4 + n);
        [(one, 0), (single, 0), (many, 0), (many, 1), (many, 2)]
    };
    let expected = (0..100).flat_map(of_four).map(|(row, part)| format!("[{row},{part}]"));
    assert_eq!(payloads, expected.collect::<Vec<_>>());
    let mut keys: Vec<_> = found.iter().map(|(_, key)| key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 500, "each its own");
    // Another node, another cut.
    assert_eq!(delivered(&log(), 64).await, found);
}
