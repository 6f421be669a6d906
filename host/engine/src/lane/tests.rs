use std::time::Duration;

use model::lsn::Lsn;
use model::message::Effect;
use model::position::Position;
use model::route::{Route, RouteValue};
use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::from_secs(1000);

struct Bench {
    lanes: Lanes,
    policy: BatchPolicy,
    start: Instant,
    sent: u64,
}

impl Bench {
    fn new(messages_max: usize, grouping: Grouping) -> Self {
        let policy = BatchPolicy {
            messages_max,
            bytes_max: 1_000,
            message_bytes_max: None,
            request_overhead: 0,
            message_overhead: 0,
            linger: Duration::ZERO,
            requests_max: 8,
            grouping,
            one_route: false,
        };
        Self { lanes: Lanes::default(), policy, start: Instant::now(), sent: 0 }
    }

    /// Of a sink whose requests have one route each.
    fn routed(messages_max: usize, grouping: Grouping) -> Self {
        let mut bench = Self::new(messages_max, grouping);
        bench.policy.one_route = true;
        bench.lanes = Lanes::new(&bench.policy);
        bench
    }

    fn admit_to(&mut self, groups: Groups, route: Option<&str>) {
        self.sent += 1;
        let now = self.now();
        let message = Message { route: route.map(to), ..message(self.sent, groups) };
        self.lanes.admit(Arc::new(message), None, now, now);
    }

    fn now(&self) -> Instant {
        self.start + NOW
    }

    fn admit(&mut self, groups: Groups) {
        self.sent += 1;
        let now = self.now();
        self.lanes.admit(Arc::new(message(self.sent, groups)), None, now, now);
    }

    /// Numbers of the messages of the next batch, counted from 1 in the order of admission.
    fn take(&mut self) -> Vec<u64> {
        let now = self.now();
        let taken = self.lanes.take(&self.policy, now);
        taken.map_or_else(Vec::new, |taken| {
            taken.tickets.iter().map(|ticket| ticket.0 + 1).collect()
        })
    }

    fn settle(&mut self, number: u64) {
        self.lanes.settle(Ticket(number - 1));
    }

    fn put_back(&mut self, number: u64) {
        self.lanes.put_back(Ticket(number - 1));
    }

    fn fail(&mut self, number: u64, after: Duration) {
        let due = self.now() + after;
        self.lanes.fail(Ticket(number - 1), due);
    }
}

fn message(number: u64, groups: Groups) -> Message {
    Message {
        position: Position::new(Lsn(number), 0),
        output: 0,
        groups,
        effect: Effect::Write,
        key: None,
        payload: "0123456789".into(),
        rows: Groups::None,
        relation: None,
        operation: None,
        partial: false,
        route: None,
        idempotency_key: "".into(),
        scope: "".into(),
    }
}

/// A route of its own for each call, as good as any that is equal.
fn to(topic: &str) -> Arc<Route> {
    Arc::new(Route::new([("topic".into(), RouteValue::Text(topic.into()))]))
}

fn one(group: u64) -> Groups {
    Groups::One(GroupKey(group))
}

#[test]
fn b089_nothing_overtakes_a_message_in_back_off() {
    for grouping in [Grouping::Apart, Grouping::Together] {
        let mut bench = Bench::new(1, grouping);
        bench.admit(one(1));
        assert_eq!(bench.take(), [1]);
        bench.admit(one(1));
        bench.fail(1, Duration::from_secs(5));
        bench.admit(one(1));
        assert_eq!(bench.take(), [] as [u64; 0]);
        let due = bench.now() + Duration::from_secs(5);
        assert_eq!(bench.lanes.next_deadline(&bench.policy, true), Some(due));
        bench.lanes.wake(due);
        assert_eq!(bench.take(), [1]);
    }
}

#[test]
fn b090_other_groups_flow_past_a_blocked_one() {
    let mut bench = Bench::new(1, Grouping::Apart);
    bench.admit(one(1));
    assert_eq!(bench.take(), [1]);
    bench.fail(1, Duration::from_secs(5));
    for _ in 0..3 {
        bench.admit(one(1));
        bench.admit(one(2));
    }
    for expected in [3, 5, 7] {
        assert_eq!(bench.take(), [expected]);
        bench.settle(expected);
    }
    assert_eq!(bench.take(), [] as [u64; 0]);
}

#[test]
fn b091_the_rest_of_a_group_follows_at_once() {
    let mut bench = Bench::new(1, Grouping::Apart);
    for _ in 0..3 {
        bench.admit(one(1));
    }
    assert_eq!(bench.take(), [1]);
    bench.fail(1, Duration::from_secs(5));
    bench.lanes.wake(bench.now() + Duration::from_secs(5));
    for expected in [1, 2, 3] {
        assert_eq!(bench.take(), [expected]);
        bench.settle(expected);
    }
    assert!(bench.lanes.is_empty());
    assert!(bench.lanes.lanes.is_empty(), "no lane is left behind");
}

/// What is before it is put aside meanwhile, or delivered: the delay is the message's own.
#[test]
fn b089_b119_a_message_that_failed_behind_another_waits_once_it_is_the_first() {
    let mut bench = Bench::new(9, Grouping::Together);
    for _ in 0..3 {
        bench.admit(one(1));
    }
    assert_eq!(bench.take(), [1, 2, 3]);
    bench.fail(2, Duration::from_secs(5));
    bench.put_back(3);
    bench.settle(1);
    assert_eq!(bench.take(), [] as [u64; 0], "not before its time");
    let due = bench.now() + Duration::from_secs(5);
    assert_eq!(bench.lanes.next_retry(), Some(due));
    bench.lanes.wake(due);
    assert_eq!(bench.take(), [2, 3]);
}

#[test]
fn parted_messages_go_with_fewer_others_and_in_order() {
    for grouping in [Grouping::Together, Grouping::Apart] {
        let mut bench = Bench::new(8, grouping);
        for n in 0..8 {
            bench.admit(one(if grouping == Grouping::Together { 1 } else { n }));
        }
        assert_eq!(bench.take(), [1, 2, 3, 4, 5, 6, 7, 8]);
        for number in 1..=8 {
            bench.lanes.part(Ticket(number - 1), if number > 4 { 2 } else { 3 });
            bench.put_back(number);
        }
        bench.admit(one(1));
        let mut taken = Vec::new();
        while let batch @ [_, ..] = &*bench.take() {
            for number in batch {
                bench.settle(*number);
            }
            taken.push(batch.to_vec());
        }
        assert_eq!(taken, [vec![1, 2, 3], vec![4, 5], vec![6, 7], vec![8, 9]], "{grouping:?}");
    }
}

#[test]
fn an_outage_is_forgotten_and_what_was_refused_before_is_not() {
    let mut bench = Bench::new(2, Grouping::Apart);
    for n in 0..4 {
        bench.admit(one(n));
    }
    let (up, now) = (bench.now(), bench.now() + Duration::from_secs(1));
    let due = now + Duration::from_secs(60);
    assert_eq!((bench.take(), bench.take()), (vec![1, 2], vec![3, 4]));
    bench.lanes.fail_in_doubt(Ticket(0), None, up, due);
    bench.lanes.fail_in_doubt(Ticket(0), Some(up), now, due);
    bench.lanes.part(Ticket(1), 1);
    bench.lanes.wait_in_doubt(Ticket(1), now, due);
    bench.lanes.fail(Ticket(2), due);
    bench.lanes.fail_in_doubt(Ticket(3), None, up, due);
    bench.lanes.absolve(Some(up));
    let attempts = [0, 1, 2, 3].map(|n| bench.lanes.get(Ticket(n)).unwrap().1);
    assert_eq!(attempts, [1, 0, 1, 1], "what was doubtful before it was up counts");
    assert_eq!(bench.take(), [1, 2], "at once, and together");
    bench.lanes.wake(due);
    assert_eq!(bench.take(), [3, 4]);
}

#[test]
fn a_hot_group_rides_together_only_where_a_request_fails_as_a_whole() {
    let mut together = Bench::new(3, Grouping::Together);
    let mut apart = Bench::new(3, Grouping::Apart);
    for bench in [&mut together, &mut apart] {
        for _ in 0..4 {
            bench.admit(one(1));
        }
    }
    assert_eq!(together.take(), [1, 2, 3]);
    assert_eq!(apart.take(), [1]);
    assert_eq!(together.take(), [] as [u64; 0], "the fourth waits for the three");
    for number in 1..=3 {
        together.fail(number, Duration::ZERO);
    }
    together.lanes.wake(together.now());
    assert_eq!(together.take(), [1, 2, 3], "the run is sent again in order");
    for number in 1..=3 {
        together.settle(number);
    }
    assert_eq!(together.take(), [4]);
}

#[test]
fn a_key_change_waits_for_both_groups_and_both_wait_for_it() {
    let mut bench = Bench::new(9, Grouping::Apart);
    bench.admit(one(1));
    bench.admit(one(2));
    bench.admit(Groups::Two(GroupKey(1), GroupKey(2)));
    bench.admit(one(1));
    bench.admit(one(2));
    bench.admit(one(3));
    assert_eq!(bench.take(), [1, 2, 6]);
    bench.settle(1);
    assert_eq!(bench.take(), [] as [u64; 0]);
    bench.settle(2);
    assert_eq!(bench.take(), [3]);
    bench.settle(3);
    assert_eq!(bench.take(), [4, 5]);
}

/// The bulk of a group may go at once although each message has another group of its own.
#[test]
fn b100_a_message_of_several_groups_rides_behind_all_that_is_before_it() {
    let groups = |keys: [u64; 3]| {
        Groups::among([keys[0], keys[1], keys[2], keys[0]].map(|key| Some(GroupKey(key))))
    };
    let mut bench = Bench::new(9, Grouping::Together);
    bench.admit(groups([1, 10, 10]));
    bench.admit(groups([1, 11, 11]));
    bench.admit(groups([1, 10, 12]));
    bench.admit(groups([2, 12, 13]));
    bench.admit(groups([1, 2, 14]));
    assert_eq!(bench.take(), [1, 2, 3, 4, 5]);
    for number in 1..=5 {
        bench.fail(number, Duration::from_secs(if number == 4 { 5 } else { 0 }));
    }
    bench.lanes.wake(bench.now());
    assert_eq!(bench.take(), [1, 2, 3, 4, 5], "in order again, by the first of them");

    let mut bench = Bench::new(9, Grouping::Together);
    bench.admit(one(1));
    bench.admit(one(2));
    assert_eq!(bench.take(), [1, 2]);
    bench.fail(1, Duration::from_secs(5));
    bench.put_back(2);
    bench.admit(groups([1, 2, 2]));
    bench.admit(one(2));
    assert_eq!(bench.take(), [2], "the first group waits, and what is behind it in the other");
}

#[test]
fn everything_waits_for_a_barrier_and_it_for_everything() {
    let mut bench = Bench::new(9, Grouping::Apart);
    bench.admit(one(1));
    bench.admit(Groups::All);
    bench.admit(Groups::All);
    bench.admit(one(2));
    bench.admit(Groups::None);
    for expected in [1, 2, 3] {
        assert_eq!(bench.take(), [expected]);
        bench.settle(expected);
    }
    assert_eq!(bench.take(), [4, 5]);
}

#[test]
fn batches_are_cut_by_count_bytes_and_time() {
    let mut bench = Bench::new(2, Grouping::Apart);
    for _ in 0..3 {
        bench.admit(Groups::None);
    }
    assert_eq!(bench.take(), [1, 2]);
    bench.policy.linger = Duration::from_millis(5);
    assert_eq!(bench.take(), [] as [u64; 0], "one of two, and time is not up");
    let due = bench.now() + Duration::from_millis(5);
    assert_eq!(bench.lanes.next_deadline(&bench.policy, true), Some(due));
    assert!(bench.lanes.take(&bench.policy, due).is_some());

    bench.policy = BatchPolicy { messages_max: 9, bytes_max: 25, ..bench.policy };
    for _ in 0..3 {
        bench.admit(Groups::None);
    }
    assert_eq!(bench.take(), [4, 5], "ten bytes each, 25 at most");
    bench.policy.bytes_max = 5;
    assert_eq!(bench.take(), [6], "a message larger than the limit goes alone");
}

#[test]
fn a_request_has_one_route_and_the_oldest_goes_first() {
    let mut bench = Bench::routed(9, Grouping::Apart);
    for (group, route) in
        [(1, Some("b")), (2, Some("a")), (3, Some("b")), (4, None), (5, Some("a")), (6, Some("b"))]
    {
        bench.admit_to(one(group), route);
    }
    assert_eq!(bench.take(), [1, 3, 6]);
    assert_eq!(bench.take(), [2, 5]);
    assert_eq!(bench.take(), [4], "without a route is one of its own");
    assert_eq!(bench.take(), [] as [u64; 0]);

    let mut mixed = Bench::new(9, Grouping::Apart);
    mixed.admit_to(one(1), Some("b"));
    mixed.admit_to(one(2), Some("a"));
    assert_eq!(mixed.take(), [1, 2], "where it does not matter they ride together");
}

#[test]
fn a_full_batch_of_one_route_does_not_wait_for_another_route_and_none_starves() {
    let mut bench = Bench::routed(2, Grouping::Apart);
    bench.policy.linger = Duration::from_secs(60);
    bench.admit_to(Groups::None, Some("seldom"));
    for _ in 0..5 {
        bench.admit_to(Groups::None, Some("often"));
    }
    assert_eq!(bench.take(), [2, 3]);
    assert_eq!(bench.take(), [4, 5]);
    assert_eq!(bench.take(), [] as [u64; 0], "neither full nor old");
    let due = bench.now() + Duration::from_secs(60);
    assert_eq!(bench.lanes.next_deadline(&bench.policy, true), Some(due));
    // However many come meanwhile, the oldest is the first once its time is up.
    for _ in 0..5 {
        bench.admit_to(Groups::None, Some("often"));
    }
    let taken = bench.lanes.take(&bench.policy, due).unwrap();
    assert_eq!(taken.tickets, [Ticket(0)]);
}

#[test]
fn a_group_that_changes_its_route_keeps_its_order() {
    for grouping in [Grouping::Apart, Grouping::Together] {
        let mut bench = Bench::routed(9, grouping);
        for route in ["a", "a", "b", "a"] {
            bench.admit_to(one(1), Some(route));
        }
        bench.admit_to(one(2), Some("b"));
        let first = if grouping == Grouping::Together { vec![1, 2] } else { vec![1] };
        assert_eq!(bench.take(), first, "{grouping:?}");
        assert_eq!(bench.take(), [5], "the other group does not notice");
        assert_eq!(bench.take(), [] as [u64; 0]);
        for number in &first {
            bench.fail(*number, Duration::ZERO);
        }
        bench.lanes.wake(bench.now());
        assert_eq!(bench.take(), first, "{grouping:?}: after a failure too");
        let mut next = first;
        for _ in 0..3 {
            for number in next {
                bench.settle(number);
            }
            next = bench.take();
        }
        assert!(next.is_empty() || next == [4], "{next:?}");
        for number in next {
            bench.settle(number);
        }
        bench.settle(5);
        assert!(bench.lanes.is_empty() && bench.lanes.ready.first().is_none());
    }
}

/// What a run does next.
#[derive(Clone, Debug)]
enum Step {
    Admit(u8, Option<(u8, u8)>),
    Take,
    Finish(u8, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u8..4, proptest::option::weighted(0.3, (0_u8..4, 0_u8..4))).prop_map(|(a, b)| Step::Admit(a, b)),
        3 => Just(Step::Take),
        3 => (any::<u8>(), any::<bool>()).prop_map(|(n, ok)| Step::Finish(n, ok)),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    /// Whatever sizes messages have and whatever comes back, no request has more bytes than the
    /// destination takes, but one that is a single message.
    #[test]
    fn b104_no_request_exceeds_the_bytes_of_its_sink(
        sizes in proptest::collection::vec((0_usize..400, 0_u64..6, 0_u8..4), 1..60),
        together: bool, request_overhead in 0_usize..20, message_overhead in 0_usize..4,
    ) {
        let grouping = if together { Grouping::Together } else { Grouping::Apart };
        let mut bench = Bench::new(7, grouping);
        bench.policy = BatchPolicy { request_overhead, message_overhead, ..bench.policy };
        let mut outcomes = HashMap::new();
        for (number, (size, group, outcome)) in (1..).zip(&sizes) {
            let payload = "x".repeat(*size).into();
            let message = Message { payload, ..message(number, one(*group)) };
            let now = bench.now();
            bench.lanes.admit(Arc::new(message), None, now, now);
            outcomes.insert(Ticket(number - 1), *outcome);
        }
        let mut rounds = 0;
        while !bench.lanes.is_empty() {
            rounds += 1;
            prop_assert!(rounds < 1_000);
            let now = bench.now();
            bench.lanes.wake(now);
            let Some(taken) = bench.lanes.take(&bench.policy, now) else { continue };
            let payloads: usize = taken.messages.iter().map(|message| message.payload.len()).sum();
            let body = request_overhead + payloads + message_overhead * taken.messages.len();
            prop_assert!(body <= 1_000 || taken.messages.len() == 1, "{} bytes", body);
            for ticket in taken.tickets {
                let outcome = outcomes.get_mut(&ticket).unwrap();
                match std::mem::replace(outcome, outcome.saturating_sub(1)) {
                    0 => bench.lanes.settle(ticket),
                    1 => { bench.lanes.fail(ticket, now); }
                    2 => bench.lanes.put_back(ticket),
                    _ => bench.lanes.wait(ticket, now),
                }
            }
        }
    }

    /// Whatever fails whenever: in each group messages settle in the order of admission, and all
    /// settle in the end.
    #[test]
    fn order_within_a_group_holds_for_any_schedule(
        steps in steps(), together: bool, messages_max in 1_usize..5, one_route: bool,
    ) {
        let grouping = if together { Grouping::Together } else { Grouping::Apart };
        let mut bench = Bench::new(messages_max, grouping);
        bench.policy.one_route = one_route;
        bench.lanes = Lanes::new(&bench.policy);
        let mut flying: Vec<Vec<Ticket>> = Vec::new();
        let mut last: HashMap<GroupKey, u64> = HashMap::new();
        let drain = (0..2000).flat_map(|n| [Step::Take, Step::Finish(n as u8, true)]);
        for step in steps.into_iter().chain(drain) {
            let now = bench.now();
            match step {
                Step::Admit(a, None) => {
                    let routes = [None, Some("x"), Some("y")];
                    let route = routes[usize::from(a) % 3 * (bench.sent % 2) as usize];
                    bench.admit_to(one(a.into()), route);
                }
                Step::Admit(a, Some((b, c))) if a != b => {
                    let keys = [a, b, c].map(|key| Some(GroupKey(key.into())));
                    bench.admit(Groups::among([keys[0], keys[1], keys[2], None]));
                }
                Step::Admit(..) => bench.admit(Groups::All),
                Step::Take => {
                    bench.lanes.wake(now);
                    let taken = bench.lanes.take(&bench.policy, now);
                    if let Some(taken) = &taken {
                        let mut routes = taken.messages.iter().map(|message| &message.route);
                        let first = routes.next().unwrap();
                        prop_assert!(!one_route || routes.all(|route| route == first));
                    }
                    flying.extend(taken.map(|taken| taken.tickets));
                }
                Step::Finish(n, ok) if !flying.is_empty() => {
                    let batch = flying.remove(usize::from(n) % flying.len());
                    for ticket in batch {
                        if ok {
                            let (message, _) = bench.lanes.get(ticket).unwrap();
                            let number = message.position.commit_lsn.0;
                            for key in message.groups.keys() {
                                let before = last.insert(key, number).unwrap_or(0);
                                prop_assert!(before < number, "{number} after {before}");
                            }
                            bench.lanes.settle(ticket);
                        } else {
                            bench.lanes.fail(ticket, now);
                        }
                    }
                }
                Step::Finish(..) => {}
            }
        }
        prop_assert_eq!(bench.lanes.len(), 0);
        prop_assert_eq!(bench.lanes.bytes(), 0);
    }
}
