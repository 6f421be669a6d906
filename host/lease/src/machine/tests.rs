//! The table of transitions: what each state does with what may happen to it.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Time {
    Duration::from_millis(ms)
}

fn timing() -> Timing {
    Timing { requests_max: 2 * SECOND, ..Timing::default() }
}

fn register(epoch: u64, remaining: Duration, is_released: bool) -> Register {
    Register { epoch: Epoch(epoch), remaining, is_released }
}

fn look(epoch: u64, remaining: Duration) -> Event {
    Event::Looked(Some(Some(register(epoch, remaining, false))))
}

/// A leader with epoch 1 since 0, whom both have said so.
fn leader(has_coordinator: bool) -> Machine {
    let mut machine = Machine::new(timing(), has_coordinator, at(0));
    assert_eq!(machine.on(at(0), Event::Tick, 0), [Action::Look]);
    assert_eq!(machine.on(at(0), Event::Looked(Some(None)), 0), [Action::Take(Epoch(0))]);
    assert_eq!(machine.phase(), Phase::Acquiring);
    let mut led = machine.on(at(0), Event::Taken(Some(Taken::Won(Epoch(1)))), 0);
    assert_eq!(led.remove(0), Action::Lead(Epoch(1), Duration::ZERO), "nobody led before");
    if has_coordinator {
        assert_eq!(led, [Action::RenewCoordinator(Epoch(1))]);
        machine.on(at(0), Event::CoordinatorRenewed(Some(Told::Ours)), 0);
    }
    assert_eq!(machine.phase(), Phase::Leading);
    machine
}

fn truth(told: Option<Told>) -> Event {
    Event::TruthRenewed(told)
}

fn coordinator(told: Option<Told>) -> Event {
    Event::CoordinatorRenewed(told)
}

#[test]
fn a_standby_takes_what_has_expired_and_what_was_given_back() {
    let mut machine = Machine::new(timing(), false, at(0));
    machine.on(at(0), Event::Tick, 0);
    assert_eq!(machine.on(at(0), look(4, 300 * SECOND / 1000), 0), []);
    assert_eq!(machine.wake_at(), Some(at(300)), "it is there when that is over");
    assert_eq!(machine.on(at(300), Event::Tick, 0), [Action::Look]);
    let take = machine.on(at(300), look(4, Duration::ZERO), 0);
    assert_eq!(take, [Action::Take(Epoch(4))]);
    let led = machine.on(at(310), Event::Taken(Some(Taken::Won(Epoch(5)))), 0);
    assert_eq!(led, [Action::Lead(Epoch(5), 2 * SECOND)], "requests of the one before may be out");

    let mut machine = Machine::new(timing(), true, at(0));
    machine.on(at(0), Event::Tick, 0);
    let released = Event::Looked(Some(Some(register(4, Duration::ZERO, true))));
    assert_eq!(machine.on(at(0), released, 0), [Action::Take(Epoch(4))]);
    let led = machine.on(at(1), Event::Taken(Some(Taken::Won(Epoch(5)))), 0);
    assert_eq!(led.first(), Some(&Action::Lead(Epoch(5), Duration::ZERO)));
}

#[test]
fn what_the_coordinator_says_to_a_standby_once_the_truth_has_expired() {
    let (yes, no) = (true, false);
    for (answer, takes) in [
        (None, yes),
        (Some(None), yes),
        // A copy from before.
        (Some(Some(Epoch(3))), yes),
        // Its leader is cut off from the truth, and lives.
        (Some(Some(Epoch(4))), no),
        (Some(Some(Epoch(5))), no),
    ] {
        let mut machine = Machine::new(timing(), true, at(0));
        machine.on(at(0), Event::Tick, 0);
        assert_eq!(machine.on(at(0), look(4, Duration::ZERO), 0), [Action::LookAtCoordinator]);
        let actions = machine.on(at(1), Event::CoordinatorLooked(answer), 0);
        assert_eq!(actions.contains(&Action::Take(Epoch(4))), takes, "{answer:?}");
    }
    let mut machine = Machine::new(timing(), true, at(0));
    machine.on(at(0), Event::Tick, 0);
    machine.on(at(0), look(4, Duration::ZERO), 0);
    let woken = machine.wake_at().unwrap();
    assert_eq!(machine.on(woken, Event::Tick, 0), [Action::Take(Epoch(4))], "it hangs");
}

#[test]
fn a_standby_that_is_refused_or_reaches_nobody_looks_again() {
    let lives = register(5, 9 * SECOND, false);
    for answer in [None, Some(Taken::Refused(lives))] {
        let mut machine = Machine::new(timing(), false, at(0));
        machine.on(at(0), Event::Tick, 0);
        machine.on(at(0), look(4, Duration::ZERO), 0);
        assert_eq!(machine.on(at(1), Event::Taken(answer), 0), []);
        assert_eq!(machine.phase(), Phase::Standby);
        assert_eq!(machine.wake_at(), Some(at(1001)));
        assert_eq!(machine.on(at(1001), Event::Tick, 0), [Action::Look]);
        assert_eq!(machine.on(at(1002), Event::Looked(None), 0), []);
        assert_eq!(machine.on(at(2002), Event::Tick, 0), [Action::Look]);
    }
}

#[test]
fn b214_a_coordinator_that_is_away_for_ever_stops_no_leader() {
    let mut machine = leader(true);
    let mut asked = 0;
    let end = at(3_600_000 * 5);
    let mut now = at(0);
    while now < end {
        now = machine.wake_at().unwrap();
        for action in machine.on(now, Event::Tick, 0) {
            let answer = match action {
                Action::RenewTruth(_) => truth(Some(Told::Ours)),
                Action::RenewCoordinator(_) => {
                    asked += 1;
                    coordinator(None)
                }
                other => panic!("{other:?} at {now:?}"),
            };
            assert_eq!(machine.on(now, answer, 0), []);
        }
        assert!(now < machine.shown_until().unwrap());
    }
    assert_eq!(machine.phase(), Phase::Uncertain);
    assert!((13..25).contains(&asked), "{asked} attempts in five hours");
    let back = machine.on(end, Event::CoordinatorProbed, 0);
    assert!(back.contains(&Action::RenewCoordinator(Epoch(1))), "at once: {back:?}");
    machine.on(end, coordinator(Some(Told::Ours)), 0);
    assert_eq!(machine.phase(), Phase::Leading);
}

#[test]
fn b217_a_leader_that_nobody_answers_stops_before_another_may_begin() {
    for has_coordinator in [false, true] {
        let mut machine = leader(has_coordinator);
        let mut halted = None;
        while halted.is_none() {
            let now = machine.wake_at().unwrap();
            let actions = machine.on(now, Event::Tick, 0);
            halted = actions.contains(&Action::Halt(Epoch(1), Why::Unproven)).then_some(now);
        }
        let timing = timing();
        assert_eq!(halted, Some(timing.ttl - timing.margin));
        assert_eq!((machine.phase(), machine.epoch()), (Phase::Standby, None));
    }
}

#[test]
fn one_of_the_two_is_enough() {
    for lost in [truth as fn(_) -> _, coordinator] {
        let mut machine = leader(true);
        for _ in 0..200 {
            let now = machine.wake_at().unwrap();
            for action in machine.on(now, Event::Tick, 0) {
                let answer = match action {
                    Action::RenewTruth(_) => truth(Some(Told::Ours)),
                    Action::RenewCoordinator(_) => coordinator(Some(Told::Ours)),
                    other => panic!("{other:?}"),
                };
                let is_lost =
                    std::mem::discriminant(&answer) == std::mem::discriminant(&lost(None));
                machine.on(now, if is_lost { lost(None) } else { answer }, 0);
            }
        }
        assert_eq!((machine.phase(), machine.epoch()), (Phase::Uncertain, Some(Epoch(1))));
    }
}

#[test]
fn b216_a_leader_that_slept_stops_whatever_wakes_it() {
    let woken = [
        Event::Tick,
        Event::Stop,
        truth(Some(Told::Ours)),
        coordinator(Some(Told::Ours)),
        Event::CoordinatorProbed,
        Event::Drained,
    ];
    for event in woken {
        let mut machine = leader(true);
        machine.on(at(5_000), Event::Tick, 0);
        let actions = machine.on(at(45_000), event, 0);
        assert_eq!(actions.first(), Some(&Action::Halt(Epoch(1), Why::Unproven)), "{event:?}");
        assert_eq!(machine.phase() == Phase::Stopped, event == Event::Stop);
    }
}

#[test]
fn a_later_leader_ends_an_earlier_one_at_once() {
    for told in [truth as fn(_) -> _, coordinator] {
        let mut machine = leader(true);
        machine.on(at(5_000), Event::Tick, 0);
        let actions = machine.on(at(5_010), told(Some(Told::Superseded(Epoch(2)))), 0);
        let halt = Action::Halt(Epoch(1), Why::Superseded(Epoch(2)));
        assert_eq!(actions, [halt, Action::Look]);
    }
}

#[test]
fn an_answer_counts_from_when_it_was_asked() {
    let mut machine = leader(false);
    let asked = machine.wake_at().unwrap();
    machine.on(asked, Event::Tick, 0);
    machine.on(asked + 2 * SECOND, truth(Some(Told::Ours)), 0);
    let timing = timing();
    assert_eq!(machine.shown_until(), Some(asked + timing.ttl - timing.margin));
    // And one to a question that was given up says nothing.
    machine.on(asked + 3 * SECOND, truth(Some(Told::Ours)), 0);
    assert_eq!(machine.shown_until(), Some(asked + timing.ttl - timing.margin));
}

#[test]
fn b220_what_is_under_way_is_awaited_before_it_is_given_back() {
    let mut machine = leader(false);
    assert_eq!(machine.on(at(10), Event::Stop, 0), [Action::Drain(Epoch(1))]);
    assert_eq!(machine.on(at(11), Event::Stop, 0), []);
    assert_eq!(machine.phase(), Phase::Draining);
    let renewed = machine.on(at(5_000), Event::Tick, 0);
    assert_eq!(renewed, [Action::RenewTruth(Epoch(1))], "it is ours until then");
    machine.on(at(5_001), truth(Some(Told::Ours)), 0);
    assert_eq!(machine.on(at(6_000), Event::Drained, 0), [Action::Release(Epoch(1))]);
    assert_eq!((machine.phase(), machine.wake_at()), (Phase::Stopped, None));

    let timing = Timing { drain_max: SECOND, ..timing() };
    let mut machine = leader(false);
    machine.timing = timing;
    machine.on(at(10), Event::Stop, 0);
    let halt = Action::Halt(Epoch(1), Why::DrainedTooLong);
    assert_eq!(machine.on(at(1_010), Event::Tick, 0), [halt], "and not given back");
    assert_eq!(machine.phase(), Phase::Stopped);
}

#[test]
fn what_is_won_when_nobody_wants_it_any_more_is_given_back() {
    let mut machine = Machine::new(timing(), false, at(0));
    machine.on(at(0), Event::Tick, 0);
    machine.on(at(0), Event::Looked(Some(None)), 0);
    assert_eq!(machine.on(at(1), Event::Stop, 0), []);
    let won = machine.on(at(2), Event::Taken(Some(Taken::Won(Epoch(1)))), 0);
    assert_eq!(won, [Action::Release(Epoch(1))]);
}
