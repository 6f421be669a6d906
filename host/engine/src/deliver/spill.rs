//! Lanes that let go of what waits behind a message that failed, and get it back once its turn comes.
//!
//! It is no part of what is promised: each of these changes is open in the ledger, and is kept in the
//! change log or comes from the slot again. What is on the disk here only saves memory, so that
//! other groups of the sink are not held up by those that wait.

use std::sync::Arc;
use std::time::Duration;

use model::store::{Scrap, Scratch, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{Deliver, Done, State};
use crate::budget::{Budget, Charge, Share, ShareCharge};
use crate::intake::BESIDE_BYTES;
use crate::lane::{Run, Ticket, Wanted};
use crate::spilled::{Shared, Writer};

/// What is written or read back at once, in bytes; less where the sink's share is small.
const BYTES_MAX: usize = 1 << 20;
/// Between looks that found little.
const INTERVAL: Duration = Duration::from_millis(100);
/// Between attempts while the disk takes nothing.
const RETRY: Duration = Duration::from_secs(1);

/// What waits stays in memory.
const UNWRITABLE: &str = "spill_unwritable";

/// Where messages go that wait.
pub(crate) struct Room {
    pub(crate) scratch: Arc<dyn Scratch>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) share: Arc<Share>,
    /// No more of all sinks may be there, in bytes.
    pub(crate) bytes_max: u64,
}

/// What goes there and comes from there now.
#[derive(Default)]
pub(super) struct Spill {
    is_writing: bool,
    is_reading: bool,
    /// Nothing is looked for before.
    next: Option<Instant>,
    /// The first message of what was read back last for which there was no room.
    overdraft: Option<Ticket>,
    /// For what is there: it takes some memory all the same.
    charged: (usize, Option<(Charge, ShareCharge)>),
    shared: Shared,
    /// Why something cannot be read back.
    broken: Option<String>,
}

/// A run, and where it stands among what was written.
pub(super) struct Written {
    run: Run,
    from: u64,
    bytes: usize,
}

/// What was read back of one gap.
pub(super) type Back = (Wanted, Vec<u8>);

impl Room {
    /// A part of the share, so that what comes back is never much more than there is room for.
    fn bytes_at_once(&self) -> usize {
        (self.share.bytes_max() / 4).clamp(1, BYTES_MAX)
    }
}

impl Deliver {
    /// Brings what waits to the disk while memory is short, and what may go on back from there.
    /// Returns when to look again, if only time keeps something back.
    pub(super) fn spill(&self, state: &mut State) -> Option<Instant> {
        self.read_back(state);
        self.charge(state);
        if state.spill.is_writing || !self.room.share.is_pressed() {
            return None;
        }
        // Nobody waits for a next attempt, so nobody waits for long behind one.
        state.lanes.next_retry()?;
        let now = Instant::now();
        if let Some(next) = state.spill.next.filter(|next| *next > now) {
            return Some(next);
        }
        let bytes_max = self.room.bytes_at_once();
        let (runs, bytes) = state.lanes.spillable(bytes_max);
        // A few at a time cost more than they give, but where there is no room any more.
        let bytes_min = if self.room.share.has_room() { bytes_max } else { 1 };
        if bytes < bytes_min {
            state.spill.next = Some(now + INTERVAL);
            return state.spill.next;
        }
        let there = self.room.scratch.bytes();
        if there + bytes as u64 > self.room.bytes_max {
            let why = format!(
                "{there} bytes of messages wait there, and SEQUIN_CHANGE_LOG_MB allows no more"
            );
            self.refused(state, &why);
            return state.spill.next;
        }
        let mut writer = Writer::new(&mut state.spill.shared);
        let written = runs.into_iter().map(|run| {
            let from = writer.len();
            state.lanes.write(&run, &mut writer);
            Written { run, from: from as u64, bytes: writer.len() - from }
        });
        let written: Vec<Written> = written.collect();
        let bytes = writer.finish();
        let scratch = Arc::clone(&self.room.scratch);
        let charge = self.room.budget.charge(bytes.len());
        state.spill.is_writing = true;
        state.under_way.push(Box::pin(async move {
            let scrap = scratch.put(bytes).await;
            drop(charge);
            Done::Spilled { written, scrap }
        }));
        None
    }

    pub(super) fn spilled(
        &self,
        state: &mut State,
        written: &[Written],
        scrap: Result<Arc<dyn Scrap>, StoreError>,
    ) {
        state.spill.is_writing = false;
        let scrap = match scrap {
            Ok(scrap) => scrap,
            Err(error) => {
                self.refused(state, &error.to_string());
                return;
            }
        };
        self.status.warnings.clear(UNWRITABLE, &self.spec.name);
        for Written { run, from, bytes } in written {
            if state.lanes.spill(run, Arc::clone(&scrap), *from, *bytes) {
                self.status.spills.add(run.len() as u64);
            }
        }
    }

    /// What waits stays in memory for now.
    fn refused(&self, state: &mut State, why: &str) {
        let problem = format!(
            "messages that wait behind a failed one of their group stay in memory: {why}. Once the \
             sink's share of it is full, its other groups wait too: make room on the disk of the data \
             directory, or see to the messages that fail"
        );
        if self.status.warnings.raise(UNWRITABLE, &self.spec.name, problem) {
            warn!(sink.name = %self.spec.name, code = UNWRITABLE, why, "messages that wait stay in memory");
        }
        state.spill.next = Some(Instant::now() + RETRY);
    }

    /// Reads back what nothing is before any more. While there is no room, one piece at a time: it
    /// may be what the others wait for.
    fn read_back(&self, state: &mut State) {
        if state.spill.is_reading || !state.lanes.is_wanting() {
            return;
        }
        let has_room = self.room.share.has_room();
        let is_moving = |ticket| state.lanes.is_moving(ticket);
        if !has_room && state.spill.overdraft.is_some_and(is_moving) {
            return;
        }
        let wanted = state.lanes.wanted(if has_room { self.room.bytes_at_once() } else { 1 });
        state.spill.overdraft = wanted.last().filter(|_| !has_room).map(|it| it.piece.first());
        state.spill.is_reading = true;
        state.under_way.push(Box::pin(async move {
            let mut back: Vec<Back> = Vec::with_capacity(wanted.len());
            for wanted in wanted {
                let piece = &wanted.piece;
                match piece.scrap.get(piece.from, piece.bytes).await {
                    Ok(bytes) => back.push((wanted, bytes)),
                    Err(error) => return Done::ReadBack(Err(error.to_string())),
                }
            }
            Done::ReadBack(Ok(back))
        }));
    }

    pub(super) fn came_back(&self, state: &mut State, back: Result<Vec<Back>, String>) {
        state.spill.is_reading = false;
        let back = match back {
            Ok(back) => back,
            Err(why) => {
                state.spill.broken = Some(why);
                return;
            }
        };
        for (wanted, bytes) in back {
            let Some(messages) = state.spill.shared.read(&bytes) else {
                state.spill.broken = Some("other bytes than were written".to_owned());
                return;
            };
            let charged = messages.into_iter().map(|(ticket, message)| {
                let bytes = message.bytes() + BESIDE_BYTES;
                let charges = (self.room.budget.charge(bytes), self.room.share.charge(bytes));
                (ticket, Arc::new(message), Some(charges))
            });
            if !state.lanes.fill(&wanted, charged.collect()) {
                state.spill.broken = Some("other messages than were written".to_owned());
            }
        }
    }

    /// True if something cannot be read back. Nothing is lost by that: the sink is started anew, and
    /// gets all that it owes from the change log.
    pub(super) fn is_broken(&self, state: &mut State, cancelled: &CancellationToken) -> bool {
        let Some(why) = state.spill.broken.take() else { return false };
        let problem = format!("messages that waited on the disk cannot be read back: {why}");
        error!(sink.name = %self.spec.name, problem, "the sink gets them from the change log");
        self.status.stopped.set(problem);
        cancelled.cancel();
        true
    }

    fn charge(&self, state: &mut State) {
        self.status.spilled.set(state.lanes.spilled() as u64);
        if state.lanes.spilled() == 0 && !state.spill.is_writing {
            state.spill.shared = Shared::default();
        }
        let cost = state.lanes.spilled_cost();
        if state.spill.charged.0 != cost {
            let charges =
                (cost > 0).then(|| (self.room.budget.charge(cost), self.room.share.charge(cost)));
            state.spill.charged = (cost, charges);
        }
    }
}
