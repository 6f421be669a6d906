//! The decisions.

use std::time::Duration;

use model::store::Epoch;

use crate::timing::Timing;
use crate::words::{Action, Event, Phase, Register, Taken, Told, Why};

/// Since any moment, on a clock that never goes back and does not stand still while the process is
/// stopped or the machine sleeps.
type Time = Duration;

/// The lease of one slot at one node.
///
/// Whoever drives it gives each event with the time at which it was seen, and does what comes out, in
/// that order. Of the truth and of the coordinator one thing is asked at a time: what is asked next gives
/// up what was asked before, whose answer is then not brought any more (it may have been done all the
/// same). Nothing is repeated by the driver: the machine asks again.
#[derive(Debug)]
pub struct Machine {
    timing: Timing,
    has_coordinator: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Standby(Standby),
    Acquiring { since: Time, was: Register },
    Held(Held),
    Stopped,
}

#[derive(Debug)]
struct Standby {
    /// When to look.
    look_at: Time,
    /// Since when the truth is asked.
    asked: Option<Time>,
    /// The truth's answer, while the coordinator is asked.
    free: Option<(Register, Time)>,
}

/// A leader, or one that gives it back.
#[derive(Debug)]
struct Held {
    epoch: Epoch,
    truth: Witness,
    coordinator: Option<Witness>,
    /// Until when what is under way may take.
    draining: Option<Time>,
}

/// Somebody who says that it is ours.
#[derive(Debug)]
struct Witness {
    /// Until when its last answer counts: from when it was asked, not from when it came.
    until: Time,
    renew_at: Time,
    asked: Option<Time>,
    /// How long its answer may take.
    ask_max: Duration,
    /// In a row.
    failures: u32,
}

impl Witness {
    fn new(until: Time, renew_at: Time, ask_max: Duration) -> Self {
        Self { until, renew_at, asked: None, ask_max, failures: 0 }
    }

    /// Whether to ask it now. A question that nobody answered is a failure.
    fn is_due(&mut self, now: Time, timing: &Timing, is_needed: bool) -> bool {
        if self.asked.is_some_and(|asked| now >= asked + self.ask_max) {
            self.failed(now, timing, is_needed);
        }
        let is_due = self.asked.is_none() && now >= self.renew_at;
        if is_due {
            self.asked = Some(now);
        }
        is_due
    }

    fn failed(&mut self, now: Time, timing: &Timing, is_needed: bool) {
        self.asked = None;
        self.failures = self.failures.saturating_add(1);
        self.renew_at = now + timing.pause(self.failures, is_needed);
    }

    /// It has said that it is ours. An answer to a question that was given up says nothing: it is not
    /// known which one it answers.
    fn renewed(&mut self, timing: &Timing, jitter: u8) {
        if let Some(asked) = self.asked.take() {
            self.until = asked + timing.ttl - timing.margin;
            self.renew_at = asked + timing.renew_after(jitter);
            self.failures = 0;
        }
    }

    fn next(&self) -> Time {
        self.asked.map_or(self.renew_at, |asked| asked + self.ask_max)
    }
}

impl Machine {
    /// A standby. With no coordinator, the truth alone is asked.
    #[must_use]
    pub fn new(timing: Timing, has_coordinator: bool, now: Time) -> Self {
        Self { timing, has_coordinator, state: State::Standby(Standby::at(now)) }
    }

    /// What we are to the slot.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Standby(_) => Phase::Standby,
            State::Acquiring { .. } => Phase::Acquiring,
            State::Held(held) if held.draining.is_some() => Phase::Draining,
            State::Held(held) if held.failures() > 0 => Phase::Uncertain,
            State::Held(_) => Phase::Leading,
            State::Stopped => Phase::Stopped,
        }
    }

    /// With which epoch, while it is ours.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        match &self.state {
            State::Held(held) => Some(held.epoch),
            _ => None,
        }
    }

    /// Until when it is ours for certain. Whoever sends or records something looks at this and at the
    /// clock, so that a process which was stopped for a while does nothing before its machine has had a
    /// say.
    #[must_use]
    pub fn shown_until(&self) -> Option<Time> {
        match &self.state {
            State::Held(held) => Some(held.shown_until()),
            _ => None,
        }
    }

    /// When it wants a [`Event::Tick`] at the latest.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        let timing = &self.timing;
        match &self.state {
            State::Standby(standby) => Some(match (standby.asked, standby.free) {
                (Some(asked), _) => asked + timing.truth_max,
                (None, Some((_, asked))) => asked + timing.coordinator_max,
                (None, None) => standby.look_at,
            }),
            State::Acquiring { since, .. } => Some(*since + timing.truth_max),
            State::Held(held) => {
                let coordinator = held.coordinator.as_ref().map(|it| it.next());
                let others = [Some(held.truth.next()), coordinator, held.draining];
                let shown = held.shown_until();
                Some(others.into_iter().flatten().fold(shown, Time::min))
            }
            State::Stopped => None,
        }
    }

    /// Something happened, or time passed. `jitter` is any number.
    pub fn on(&mut self, now: Time, event: Event, jitter: u8) -> Vec<Action> {
        let mut actions = Vec::new();
        // Whoever slept learns that first, whatever woke it: what comes from before its sleep is old.
        if !self.is_late(now, &mut actions) {
            self.take_in(now, event, jitter, &mut actions);
        } else if event == Event::Stop {
            self.state = State::Stopped;
        }
        self.due(now, &mut actions);
        actions
    }

    /// Whether it was ours and cannot be shown to be any more.
    fn is_late(&mut self, now: Time, actions: &mut Vec<Action>) -> bool {
        let State::Held(held) = &self.state else { return false };
        let why = if now >= held.shown_until() {
            Why::Unproven
        } else if held.draining.is_some_and(|until| now >= until) {
            Why::DrainedTooLong
        } else {
            return false;
        };
        self.halt(now, why, actions);
        true
    }

    fn halt(&mut self, now: Time, why: Why, actions: &mut Vec<Action>) {
        let State::Held(held) = &self.state else { return };
        actions.push(Action::Halt(held.epoch, why));
        self.state = match (held.draining, why) {
            (Some(_), _) => State::Stopped,
            // Where it cannot be shown, asking at once is as good as any other time.
            (None, _) => State::Standby(Standby::at(now)),
        };
    }

    fn take_in(&mut self, now: Time, event: Event, jitter: u8, actions: &mut Vec<Action>) {
        match (&mut self.state, event) {
            (State::Standby(standby), Event::Looked(answer)) if standby.asked.is_some() => {
                standby.asked = None;
                self.looked(now, answer, actions);
            }
            (State::Standby(standby), Event::CoordinatorLooked(answer)) => {
                let Some((free, _)) = standby.free.take() else { return };
                // It still hears the leader that the truth does not hear any more. One that holds an
                // older epoch came back from a copy; one that is away says nothing.
                let lives = matches!(answer, Some(Some(epoch)) if epoch >= free.epoch);
                if lives {
                    standby.look_at = now + self.timing.look_every;
                } else {
                    self.take(now, free, actions);
                }
            }
            (State::Acquiring { since, was }, Event::Taken(taken)) => {
                let (since, was) = (*since, *was);
                self.taken(now, (since, was), taken, actions);
            }
            (State::Held(held), Event::TruthRenewed(told)) => match told {
                Some(Told::Superseded(epoch)) if epoch > held.epoch => {
                    self.halt(now, Why::Superseded(epoch), actions);
                }
                Some(Told::Ours) => held.truth.renewed(&self.timing, jitter),
                _ => held.truth_failed(now, &self.timing),
            },
            (State::Held(held), Event::CoordinatorRenewed(told)) => {
                let Some(coordinator) = &mut held.coordinator else { return };
                match told {
                    Some(Told::Superseded(epoch)) if epoch > held.epoch => {
                        self.halt(now, Why::Superseded(epoch), actions);
                    }
                    Some(Told::Ours) => coordinator.renewed(&self.timing, jitter),
                    _ => coordinator.failed(now, &self.timing, held.truth.failures > 0),
                }
            }
            (State::Held(held), Event::CoordinatorProbed) => held.probed(now, &self.timing),
            (State::Held(held), Event::Stop) if held.draining.is_none() => {
                held.draining = Some(now + self.timing.drain_max);
                actions.push(Action::Drain(held.epoch));
            }
            (State::Held(held), Event::Drained) if held.draining.is_some() => {
                actions.push(Action::Release(held.epoch));
                self.state = State::Stopped;
            }
            (State::Standby(_) | State::Acquiring { .. }, Event::Stop) => {
                self.state = State::Stopped;
            }
            // Won, but nobody waits for it any more: the others need not wait until it expires.
            (State::Stopped | State::Standby(_), Event::Taken(Some(Taken::Won(epoch)))) => {
                actions.push(Action::Release(epoch));
            }
            _ => {}
        }
    }

    fn looked(&mut self, now: Time, answer: Option<Option<Register>>, actions: &mut Vec<Action>) {
        let State::Standby(standby) = &mut self.state else { return };
        standby.look_at = now + self.timing.look_every;
        let Some(found) = answer else { return };
        let never = Register { epoch: Epoch(0), remaining: Duration::ZERO, is_released: true };
        let found = found.unwrap_or(never);
        if found.is_released {
            self.take(now, found, actions);
        } else if found.remaining > Duration::ZERO {
            standby.look_at = standby.look_at.min(now + found.remaining);
        } else if self.has_coordinator {
            standby.free = Some((found, now));
            actions.push(Action::LookAtCoordinator);
        } else {
            self.take(now, found, actions);
        }
    }

    fn take(&mut self, now: Time, was: Register, actions: &mut Vec<Action>) {
        actions.push(Action::Take(was.epoch));
        self.state = State::Acquiring { since: now, was };
    }

    fn taken(
        &mut self,
        now: Time,
        (since, was): (Time, Register),
        taken: Option<Taken>,
        actions: &mut Vec<Action>,
    ) {
        let timing = self.timing;
        match taken {
            Some(Taken::Won(epoch)) => {
                let until = since + timing.ttl - timing.margin;
                let truth = Witness::new(until, since + timing.ttl / 3, timing.truth_max);
                // The coordinator has not been told yet, and shows nothing.
                let shows_nothing = || Witness::new(Time::ZERO, now, timing.coordinator_max);
                let coordinator = self.has_coordinator.then(shows_nothing);
                // What was given back left nothing under way.
                let wait = if was.is_released { Duration::ZERO } else { timing.requests_max };
                self.state = State::Held(Held { epoch, truth, coordinator, draining: None });
                actions.push(Action::Lead(epoch, wait));
            }
            Some(Taken::Refused(found)) => {
                let look_at = now + timing.look_every.min(found.remaining);
                self.state = State::Standby(Standby::at(look_at));
            }
            None => self.state = State::Standby(Standby::at(now + timing.look_every)),
        }
    }

    /// What time has made due.
    fn due(&mut self, now: Time, actions: &mut Vec<Action>) {
        let timing = self.timing;
        match &mut self.state {
            State::Standby(standby) => {
                if standby.asked.is_some_and(|asked| now >= asked + timing.truth_max) {
                    standby.asked = None;
                }
                // A coordinator that does not answer is one that is away.
                if let Some((free, asked)) = standby.free {
                    if now >= asked + timing.coordinator_max {
                        standby.free = None;
                        self.take(now, free, actions);
                    }
                } else if standby.asked.is_none() && now >= standby.look_at {
                    standby.asked = Some(now);
                    standby.look_at = now + timing.look_every;
                    actions.push(Action::Look);
                }
            }
            State::Acquiring { since, .. } => {
                if now >= *since + timing.truth_max {
                    // It may have been won, or still be: then its epoch expires, and nobody showed it.
                    self.state = State::Standby(Standby::at(now));
                    self.due(now, actions);
                }
            }
            State::Held(held) => {
                let epoch = held.epoch;
                let failures = held.truth.failures;
                if held.truth.is_due(now, &timing, true) {
                    actions.push(Action::RenewTruth(epoch));
                }
                if held.truth.failures > failures {
                    held.rely_on_coordinator(now);
                }
                let is_needed = held.truth.failures > 0;
                let coordinator = held.coordinator.as_mut();
                if coordinator.is_some_and(|it| it.is_due(now, &timing, is_needed)) {
                    actions.push(Action::RenewCoordinator(epoch));
                }
            }
            State::Stopped => {}
        }
    }
}

impl Standby {
    fn at(look_at: Time) -> Self {
        Self { look_at, asked: None, free: None }
    }
}

impl Held {
    fn shown_until(&self) -> Time {
        let coordinator = self.coordinator.as_ref().map_or(Time::ZERO, |it| it.until);
        self.truth.until.max(coordinator)
    }

    fn truth_failed(&mut self, now: Time, timing: &Timing) {
        self.truth.failed(now, timing, true);
        self.rely_on_coordinator(now);
    }

    /// The coordinator may be back. What was asked while it was away may hang for long; where it is the
    /// only one that is left, a slow answer is better than none.
    fn probed(&mut self, now: Time, timing: &Timing) {
        let is_needed = self.truth.failures > 0;
        let Some(it) = self.coordinator.as_mut().filter(|it| it.failures > 0) else { return };
        it.renew_at = it.renew_at.min(now);
        let hangs = it.asked.is_some_and(|asked| now >= asked + timing.look_every / 2);
        if hangs && !is_needed {
            it.asked = None;
        }
    }

    /// One that nobody needed may not be asked for an hour.
    fn rely_on_coordinator(&mut self, now: Time) {
        if let Some(it) = self.coordinator.as_mut().filter(|it| it.failures > 0) {
            it.renew_at = it.renew_at.min(now);
        }
    }

    fn failures(&self) -> u32 {
        let coordinator = self.coordinator.as_ref().map_or(0, |it| it.failures);
        self.truth.failures.max(coordinator)
    }
}

#[cfg(test)]
mod tests;
