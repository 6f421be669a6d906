//! Messages that wait on the disk: followers of one that failed and waits for its next attempt.
//!
//! What stands there of a lane is a *gap* in it, in the place of its messages: it holds the lane like
//! them, and is filled again from its beginning once nothing is before it. Nothing that was tried, is
//! being sent, or belongs to several groups leaves memory.

use std::collections::VecDeque;
use std::sync::Arc;

use model::groups::{GroupKey, Groups};
use model::message::Message;
use model::position::Position;
use model::store::Scrap;
use tokio::time::Instant;

use super::{Entry, Lanes, Ticket};
use crate::budget::{Charge, ShareCharge};
use crate::spilled::Writer;

/// What a gap, a piece and a message on the disk take in memory, about: in the lanes, in what reads
/// them back, and in the ledger, which knows each of them.
const GAP_BYTES: usize = 160;
const PIECE_BYTES: usize = 112;
const MESSAGE_BYTES: usize = 8;

/// Messages of one lane that stand behind each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    key: GroupKey,
    tickets: Vec<Ticket>,
}

/// Of one run what is on the disk.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// What it stands in.
    pub(crate) scrap: Arc<dyn Scrap>,
    /// Its first byte there.
    pub(crate) from: u64,
    /// How many it has.
    pub(crate) bytes: usize,
    first: Ticket,
    messages: usize,
}

/// A message that was read back, and what it is charged with.
type Returned = (Ticket, Arc<Message>, Option<(Charge, ShareCharge)>);

/// A gap that may be filled from its beginning.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Names it.
    pub(crate) gap: Ticket,
    /// What comes first in it.
    pub(crate) piece: Piece,
}

#[derive(Debug)]
pub(super) struct Gap {
    /// In order; none of them is empty.
    pieces: VecDeque<Piece>,
    /// The latest position in it.
    pub(super) last: Position,
    /// When its messages were admitted, at the latest.
    admitted: Instant,
}

impl Run {
    /// How many there are.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.tickets.len()
    }
}

impl Piece {
    /// Its first message.
    pub(crate) fn first(&self) -> Ticket {
        self.first
    }
}

impl Entry {
    /// Nothing is known of it but what its message says.
    fn is_fresh(&self) -> bool {
        matches!(self.message.groups, Groups::One(_))
            && !self.in_flight
            && self.attempts == 0
            && self.doubted.is_none()
            && self.due.is_none()
            && self.together_max == usize::MAX
    }
}

impl Lanes {
    /// How many messages are on the disk.
    #[must_use]
    pub(crate) fn spilled(&self) -> usize {
        self.spilled
    }

    /// What they take in memory all the same, in bytes.
    #[must_use]
    pub(crate) fn spilled_cost(&self) -> usize {
        self.gaps.len() * GAP_BYTES + self.pieces * PIECE_BYTES + self.spilled * MESSAGE_BYTES
    }

    /// What may leave memory, up to about so many bytes: who waits behind a message that waits for its
    /// next attempt, longest first.
    pub(crate) fn spillable(&self, bytes_max: usize) -> (Vec<Run>, usize) {
        let (mut runs, mut bytes) = (Vec::new(), 0);
        for (_, head) in self.delayed.iter().rev() {
            let Some(head) = self.entries.get(head) else { continue };
            for key in head.message.groups.keys() {
                let mut tickets = Vec::new();
                for ticket in self.lanes.get(&key).into_iter().flatten().skip(1) {
                    if bytes >= bytes_max {
                        break;
                    }
                    let entry = self.entries.get(ticket).filter(|entry| entry.is_fresh());
                    if let Some(entry) = entry {
                        bytes += entry.message.bytes();
                        tickets.push(*ticket);
                    } else if !tickets.is_empty() {
                        runs.push(Run { key, tickets: std::mem::take(&mut tickets) });
                    }
                }
                if !tickets.is_empty() {
                    runs.push(Run { key, tickets });
                }
                if bytes >= bytes_max {
                    return (runs, bytes);
                }
            }
        }
        (runs, bytes)
    }

    /// Writes a run.
    pub(crate) fn write(&self, run: &Run, writer: &mut Writer<'_>) {
        for ticket in &run.tickets {
            if let Some(entry) = self.entries.get(ticket) {
                writer.push(*ticket, &entry.message);
            }
        }
    }

    /// The run is on the disk: it leaves memory, if it still waits behind one that failed, as it did
    /// when it was written. Otherwise it stays, and what was written is for nothing.
    pub(crate) fn spill(
        &mut self,
        run: &Run,
        scrap: Arc<dyn Scrap>,
        from: u64,
        bytes: usize,
    ) -> bool {
        let Run { key, tickets } = run;
        let (Some(lane), Some(first)) = (self.lanes.get_mut(key), tickets.first()) else {
            return false;
        };
        let blocked = lane.front().and_then(|head| Some((self.entries.get(head)?.due?, *head)));
        if blocked.is_none_or(|head| !self.delayed.contains(&head)) {
            return false;
        }
        // Tickets rise along a lane.
        let Ok(at) = lane.binary_search(first) else { return false };
        let is_fresh = |ticket| self.entries.get(ticket).is_some_and(Entry::is_fresh);
        if !lane.iter().skip(at).take(tickets.len()).eq(tickets) || !tickets.iter().all(is_fresh) {
            return false;
        }
        lane.drain(at..at + tickets.len());
        let before = at.checked_sub(1).and_then(|before| lane.get(before)).copied();
        let before = before.filter(|before| self.gaps.contains_key(before));
        if before.is_none() {
            lane.insert(at, *first);
        }
        let gap = self.gaps.entry(before.unwrap_or(*first)).or_insert_with(|| Gap {
            pieces: VecDeque::with_capacity(1),
            last: Position::ZERO,
            admitted: Instant::now(),
        });
        let messages = tickets.len();
        gap.pieces.push_back(Piece { scrap, from, bytes, first: *first, messages });
        for ticket in tickets {
            if let Some(entry) = self.entries.remove(ticket) {
                self.bytes -= entry.message.bytes();
                gap.last = gap.last.max(entry.message.position);
                gap.admitted = gap.admitted.max(entry.admitted);
            }
        }
        self.pieces += 1;
        self.spilled += messages;
        true
    }

    /// Whether it may be sent, or is under way: its place moves by itself.
    pub(crate) fn is_moving(&self, ticket: Ticket) -> bool {
        self.entries.get(&ticket).is_some_and(|entry| entry.due.is_none())
    }

    /// Whether there is a gap that may be filled.
    #[must_use]
    pub(crate) fn is_wanting(&self) -> bool {
        !self.wanting.is_empty()
    }

    /// Gaps that nothing is before, the oldest first, up to about so many bytes and at least one.
    /// They are to be filled with what comes first in them.
    pub(crate) fn wanted(&mut self, bytes_max: usize) -> Vec<Wanted> {
        let (mut wanted, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some(gap) = self.wanting.pop_first()
        {
            let piece = self.gaps.get(&gap).and_then(|gap| gap.pieces.front()).cloned();
            if let Some(piece) = piece {
                bytes += piece.bytes;
                wanted.push(Wanted { gap, piece });
            }
        }
        wanted
    }

    /// Fills a gap from its beginning. False if these are not the messages that came first in it.
    pub(crate) fn fill(&mut self, wanted: &Wanted, messages: Vec<Returned>) -> bool {
        let Wanted { gap: name, piece } = wanted;
        let keys = |(_, message, _): &Returned| message.groups.keys().next();
        let key = messages.first().and_then(keys);
        let is_it = messages.len() == piece.messages
            && messages.first().is_some_and(|(ticket, ..)| *ticket == piece.first)
            && messages.is_sorted_by(|(one, ..), (other, ..)| one < other)
            && messages.iter().all(|message| keys(message) == key);
        let Some(key) = key.filter(|_| is_it) else { return false };
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.front() == Some(name)) else {
            return false;
        };
        let Some(mut gap) = self.gaps.remove(name) else { return false };
        lane.pop_front();
        gap.pieces.pop_front();
        let admitted = gap.admitted;
        if let Some(next) = gap.pieces.front() {
            lane.push_front(next.first);
            self.gaps.insert(next.first, gap);
        }
        self.pieces -= 1;
        self.spilled -= piece.messages;
        for (ticket, ..) in messages.iter().rev() {
            lane.push_front(*ticket);
        }
        for (ticket, message, charges) in messages {
            self.bytes += message.bytes();
            let behind = u8::from(ticket != piece.first);
            // How long it took is another's matter: it waited.
            let entry = Entry { tried: true, behind, ..Entry::new(message, charges, admitted) };
            self.entries.insert(ticket, entry);
        }
        self.offer(piece.first);
        true
    }
}

#[cfg(test)]
mod tests;
