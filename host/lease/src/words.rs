//! What goes into the machine and what comes out of it.

use std::time::Duration;

use model::store::Epoch;

/// What is recorded of a slot's leader, at the truth or at the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Rises with each leader; none has had 0.
    pub epoch: Epoch,
    /// For how long it still counts as alive, by the clock of who answers. Zero if it has expired, was
    /// given back, or nobody ever led.
    pub remaining: Duration,
    /// Its leader has given it back: nothing of it is under way any more.
    pub is_released: bool,
}

/// What the truth says to a standby.
pub type Look = Option<Register>;

/// What became of an attempt to take a slot at the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is ours, with this epoch.
    Won(Epoch),
    /// Somebody else was quicker, or its leader lives after all.
    Refused(Register),
}

/// What somebody who was asked to renew says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is renewed.
    Ours,
    /// There is a later leader.
    Superseded(Epoch),
}

/// What happens to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The truth answers a look; None if it could not be reached.
    Looked(Option<Look>),
    /// The truth answers an attempt to take it.
    Taken(Option<Taken>),
    /// The truth answers a renewal.
    TruthRenewed(Option<Told>),
    /// The coordinator answers a look: the epoch it holds, if it holds any.
    CoordinatorLooked(Option<Option<Epoch>>),
    /// The coordinator answers a renewal.
    CoordinatorRenewed(Option<Told>),
    /// A connection to the coordinator can be made: it may be back.
    CoordinatorProbed,
    /// The process is asked to end, or the slot is another node's from now on.
    Stop,
    /// All that was under way has come to an end.
    Drained,
}

/// What is to be done. Whatever is asked is answered by one event, a failure too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// See what the truth holds.
    Look,
    /// See what the coordinator holds.
    LookAtCoordinator,
    /// Take the slot at the truth, if its epoch is still this one and its leader does not live.
    Take(Epoch),
    /// Say at the truth that we live.
    RenewTruth(Epoch),
    /// Say so at the coordinator, which keeps the higher of two epochs.
    RenewCoordinator(Epoch),
    /// Work on the slot with this epoch; the first request goes out no earlier than after this time.
    Lead(Epoch, Duration),
    /// Begin nothing more, finish what is under way.
    Drain(Epoch),
    /// Nothing may go out or be recorded any more, at once.
    Halt(Epoch, Why),
    /// Give it back at both, if it is still ours.
    Release(Epoch),
}

/// Why a leader had to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is a later one, with this epoch.
    Superseded(Epoch),
    /// Neither the truth nor the coordinator could be asked for too long: there may be another.
    Unproven,
    /// What was under way did not end in time.
    DrainedTooLong,
}

/// What a node is to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Another leads, or nobody yet.
    Standby,
    /// It is being taken.
    Acquiring,
    /// It is ours, and everybody who is asked says so.
    Leading,
    /// It is ours as far as can be shown, but somebody who should say so cannot be asked.
    Uncertain,
    /// It is ours, and is being given back.
    Draining,
    /// Given back for good.
    Stopped,
}

impl Phase {
    /// As metrics and the API say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Acquiring => "acquiring",
            Self::Leading => "leading",
            Self::Uncertain => "uncertain",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}
