//! What operators ask of the lanes.

use std::sync::Arc;

use model::groups::Groups;
use model::message::Message;
use model::position::Position;
use tokio::time::Instant;

use super::{Lanes, Ticket};

impl Lanes {
    /// Messages that were tried in vain, in order.
    #[must_use]
    pub fn failed(&self) -> Vec<Ticket> {
        let failed = self.entries.iter().filter(|(_, entry)| entry.attempts > 0);
        let mut failed: Vec<Ticket> = failed.map(|(ticket, _)| *ticket).collect();
        failed.sort_unstable();
        failed
    }

    /// The first message that is like this.
    pub fn find(&self, is_it: impl Fn(&Message) -> bool) -> Option<Ticket> {
        let found = self.entries.iter().filter(|(_, entry)| is_it(&entry.message));
        found.map(|(ticket, _)| *ticket).min()
    }

    /// When a message whose attempt failed may be tried again.
    #[must_use]
    pub fn due_at(&self, ticket: Ticket) -> Option<Instant> {
        self.delayed.iter().find(|(_, other)| *other == ticket).map(|(due, _)| *due)
    }

    /// Whether it is being sent, or put aside.
    #[must_use]
    pub fn is_in_flight(&self, ticket: Ticket) -> bool {
        self.entries.get(&ticket).is_some_and(|entry| entry.in_flight)
    }

    /// The next attempt is now. False if it waits for none.
    pub fn hurry(&mut self, ticket: Ticket, now: Instant) -> bool {
        let Some(due) = self.due_at(ticket) else { return false };
        self.delayed.remove(&(due, ticket));
        self.delayed.insert((due.min(now), ticket));
        self.wake(now);
        true
    }

    /// The message is not sent any more, and stays in its place until it is settled. False if it is
    /// under way.
    pub fn take_out(&mut self, ticket: Ticket) -> bool {
        let due = self.due_at(ticket);
        let Some(entry) = self.entries.get_mut(&ticket).filter(|entry| !entry.in_flight) else {
            return false;
        };
        entry.in_flight = true;
        self.ready.remove(ticket, &entry.message);
        if let Some(due) = due {
            self.delayed.remove(&(due, ticket));
        }
        true
    }

    /// Whether there is a message of one of its groups, or about one of its rows, of a later position.
    #[must_use]
    pub fn has_newer(&self, message: &Message, position: Position) -> bool {
        if message.groups == Groups::None {
            // Nothing keeps its order here, so all have to be looked at.
            let about =
                |other: &Arc<Message>| other.key == message.key && other.position > position;
            return self.entries.values().any(|entry| about(&entry.message));
        }
        let newer = |ticket: &Ticket| {
            let gap = self.gaps.get(ticket).map(|gap| gap.last);
            let here = || self.entries.get(ticket).map(|entry| entry.message.position);
            gap.or_else(here).is_some_and(|at| at > position)
        };
        let lanes = message.groups.keys().filter_map(|key| self.lanes.get(&key));
        let held = |ticket: &&Ticket| {
            let groups = self.entries.get(ticket).map(|entry| entry.message.groups);
            groups
                .into_iter()
                .flat_map(Groups::keys)
                .any(|key| message.groups.keys().any(|own| own == key))
        };
        lanes.flatten().any(newer) || self.held.iter().filter(held).any(newer)
    }
}
