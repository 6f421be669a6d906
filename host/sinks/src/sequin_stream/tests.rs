use std::task::Poll;

use model::message::Effect;

use super::*;
use crate::conformance::message;

const VISIBILITY: Duration = Duration::from_secs(30);
const NOW: Duration = Duration::ZERO;

fn stream() -> Arc<SequinStream> {
    let options = Ready { visibility_timeout: VISIBILITY, ack_pending_max: 10, waiting_max: 2 };
    Arc::new(SequinStream::new(&options, 7))
}

/// Delivers a message; it is on offer when this returns.
async fn deliver(stream: &Arc<SequinStream>, number: u64) -> BoxFuture<'static, Vec<Verdict>> {
    let batch = Batch::new(vec![message(number, Effect::Write)]).unwrap();
    let stream = Arc::clone(stream);
    let mut delivery: BoxFuture<'static, _> =
        Box::pin(async move { stream.deliver(&batch).await.unwrap() });
    assert!(futures_util::poll!(&mut delivery).is_pending());
    delivery
}

/// Receives at once: the numbers of the messages, and their leases.
async fn receive(stream: &SequinStream, max: usize) -> (Vec<u64>, Vec<LeaseId>) {
    let leased = stream.receive(max, NOW).await.unwrap();
    leased.iter().map(|it| (it.message.position.commit_lsn.0, it.id)).unzip()
}

#[tokio::test(start_paused = true)]
async fn b151_receive_waits_for_messages_and_ends_empty_at_the_deadline() {
    let stream = stream();
    let begin = Instant::now();
    let none = stream.receive(10, Duration::from_secs(60)).await.unwrap();
    assert!(none.is_empty());
    assert_eq!(begin.elapsed(), Duration::from_secs(60));

    let mut waiting = pin!(stream.receive(10, Duration::from_secs(60)));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let _delivery = deliver(&stream, 1).await;
    let Poll::Ready(Ok(leased)) = futures_util::poll!(&mut waiting) else { panic!("it waits") };
    assert_eq!(leased.len(), 1);
    assert_eq!(begin.elapsed(), Duration::from_secs(60), "it returns at once");
}

#[tokio::test(start_paused = true)]
async fn b152_what_is_not_acknowledged_in_time_is_offered_again_in_its_place() {
    let stream = stream();
    let mut first = deliver(&stream, 1).await;
    let _second = deliver(&stream, 2).await;
    let (numbers, leases) = receive(&stream, 1).await;
    assert_eq!(numbers, [1]);
    tokio::time::advance(VISIBILITY - Duration::from_millis(1)).await;
    assert_eq!(receive(&stream, 1).await.0, [2]);
    assert!(receive(&stream, 1).await.0.is_empty());
    // Whoever waits gets it when its time is over.
    let again = stream.receive(10, Duration::from_secs(5)).await.unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].message.position.commit_lsn.0, 1);
    assert_ne!(again[0].id, leases[0]);
    // Somebody else has it: the former lease is over, and says so to nobody.
    stream.ack(&leases).unwrap();
    stream.nack(&leases);
    assert!(receive(&stream, 10).await.0.is_empty());
    assert!(futures_util::poll!(&mut first).is_pending());
    stream.ack(&[again[0].id]).unwrap();
    assert_eq!(first.await, [Verdict::Delivered]);
}

#[tokio::test(start_paused = true)]
async fn b152_a_late_acknowledgement_counts_while_nobody_else_has_the_message() {
    let stream = stream();
    let delivery = deliver(&stream, 1).await;
    let (_, leases) = receive(&stream, 1).await;
    tokio::time::advance(2 * VISIBILITY).await;
    stream.ack(&leases).unwrap();
    assert_eq!(delivery.await, [Verdict::Delivered]);
    assert!(receive(&stream, 10).await.0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn b152_nack_offers_at_once_and_in_its_place() {
    let stream = stream();
    let _one = deliver(&stream, 1).await;
    let _two = deliver(&stream, 2).await;
    let (_, leases) = receive(&stream, 1).await;
    let mut waiting = pin!(stream.receive(10, VISIBILITY / 2));
    let Poll::Ready(Ok(second)) = futures_util::poll!(&mut waiting) else { panic!("it waits") };
    let mut waiting = pin!(stream.receive(10, VISIBILITY / 2));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    stream.nack(&leases);
    // Twice is once.
    stream.nack(&leases);
    let begin = Instant::now();
    let again = waiting.await.unwrap();
    assert_eq!(begin.elapsed(), NOW);
    assert_eq!(again[0].message.position.commit_lsn.0, 1);
    stream.nack(&[second[0].id, again[0].id]);
    assert_eq!(receive(&stream, 10).await.0, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn b153_no_message_is_held_by_two() {
    let stream = stream();
    let mut deliveries = Vec::new();
    for number in 1..=6 {
        deliveries.push(deliver(&stream, number).await);
    }
    let (first, second) = (receive(&stream, 4).await, receive(&stream, 4).await);
    assert_eq!((first.0, second.0), (vec![1, 2, 3, 4], vec![5, 6]));
    // Groups are the engine's: it offers one message of a group at a time.
    let policy = stream.batch_policy();
    assert_eq!((policy.messages_max, policy.grouping), (1, Grouping::Apart));
}

#[tokio::test(start_paused = true)]
async fn b154_an_acknowledgement_is_idempotent() {
    let (stream, other) = (stream(), stream());
    let mut delivery = deliver(&stream, 1).await;
    let mut elsewhere = deliver(&other, 1).await;
    let (_, leases) = receive(&stream, 1).await;
    // Unknown, of another stream, repeated, given back after all.
    stream.ack(&[LeaseId::new(5)]).unwrap();
    other.ack(&leases).unwrap();
    assert!(futures_util::poll!(&mut delivery).is_pending());
    assert!(futures_util::poll!(&mut elsewhere).is_pending());
    stream.ack(&leases).unwrap();
    stream.ack(&leases).unwrap();
    stream.nack(&leases);
    assert_eq!(delivery.await, [Verdict::Delivered]);
    assert!(receive(&stream, 10).await.0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_while_waiting_takes_nothing_along() {
    let stream = stream();
    let mut gone = Box::pin(stream.receive(10, VISIBILITY));
    assert!(futures_util::poll!(&mut gone).is_pending());
    let _delivery = deliver(&stream, 1).await;
    drop(gone);
    assert_eq!(receive(&stream, 10).await.0, [1]);
}

#[tokio::test(start_paused = true)]
async fn so_many_may_wait_and_no_more() {
    let stream = stream();
    let poll = |stream: &Arc<SequinStream>| {
        let stream = Arc::clone(stream);
        Box::pin(async move { stream.receive(1, VISIBILITY).await })
    };
    let (mut one, mut two, mut three) = (poll(&stream), poll(&stream), poll(&stream));
    assert!(futures_util::poll!(&mut one).is_pending());
    assert!(futures_util::poll!(&mut two).is_pending());
    let Poll::Ready(Err(error)) = futures_util::poll!(&mut three) else { panic!("it waits") };
    assert_eq!(error, PullError::Waiting { waiting_max: 2 });
    // Who does not wait is served, and a place that is left is free.
    assert!(receive(&stream, 1).await.0.is_empty());
    drop(one);
    assert!(futures_util::poll!(&mut poll(&stream)).is_pending());
}

#[tokio::test(start_paused = true)]
async fn b124_a_stop_takes_messages_back_uncounted_and_tells_who_acknowledges_them() {
    let stream = stream();
    let (held, free, done) =
        (deliver(&stream, 1).await, deliver(&stream, 2).await, deliver(&stream, 3).await);
    let (_, leases) = receive(&stream, 1).await;
    let (_, rest) = receive(&stream, 2).await;
    stream.nack(&rest[..1]);
    stream.ack(&rest[1..]).unwrap();
    stream.stop();
    assert_eq!(held.await, [Verdict::Untried]);
    assert_eq!(free.await, [Verdict::Untried]);
    assert_eq!(done.await, [Verdict::Delivered]);
    assert_eq!(stream.ack(&leases), Err(PullError::Stopped));
    assert_eq!(stream.ack(&rest[1..]), Ok(()));
    assert!(receive(&stream, 10).await.0.is_empty());
    // Another run of the sink.
    let _again = deliver(&stream, 1).await;
    let (numbers, leases) = receive(&stream, 10).await;
    assert_eq!(numbers, [1]);
    stream.ack(&leases).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_dropped_takes_its_offer_back() {
    let stream = stream();
    let delivery = deliver(&stream, 1).await;
    drop(delivery);
    assert!(receive(&stream, 10).await.0.is_empty());
}
