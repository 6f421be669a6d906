//! Messages that may be sent now, by their route where a request has but one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use model::message::Message;
use model::route::Route;

use super::Ticket;

/// Which messages may ride together; None for all that have no route, or where it does not matter.
pub(super) type Together = Option<Arc<Route>>;

/// Tickets of messages, in order.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Whether the messages of one request must have one route.
    one_route: bool,
    /// None of them is empty.
    routes: HashMap<Together, BTreeSet<Ticket>>,
    /// The first of each route.
    firsts: BTreeMap<Ticket, Together>,
}

impl Ready {
    pub(super) fn new(one_route: bool) -> Self {
        Self { one_route, ..Self::default() }
    }

    /// With which others the message may ride.
    pub(super) fn together(&self, message: &Message) -> Together {
        message.route.as_ref().filter(|_| self.one_route).map(Arc::clone)
    }

    /// The oldest of all.
    pub(super) fn first(&self) -> Option<Ticket> {
        self.firsts.first_key_value().map(|(ticket, _)| *ticket)
    }

    /// The oldest of those behind this one.
    pub(super) fn after(&self, ticket: Ticket) -> Option<Ticket> {
        let behind = (Bound::Excluded(ticket), Bound::Unbounded);
        self.routes.values().filter_map(|tickets| tickets.range(behind).next().copied()).min()
    }

    pub(super) fn insert(&mut self, ticket: Ticket, message: &Message) {
        let together = self.together(message);
        let tickets = self.routes.entry(together.clone()).or_default();
        let before = tickets.first().copied();
        tickets.insert(ticket);
        if before.is_none_or(|before| ticket < before) {
            if let Some(before) = before {
                self.firsts.remove(&before);
            }
            self.firsts.insert(ticket, together);
        }
    }

    pub(super) fn remove(&mut self, ticket: Ticket, message: &Message) {
        let together = self.together(message);
        let Some(tickets) = self.routes.get_mut(&together) else { return };
        tickets.remove(&ticket);
        let next = tickets.first().copied();
        if next.is_none() {
            self.routes.remove(&together);
        }
        if self.firsts.remove(&ticket).is_some()
            && let Some(next) = next
        {
            self.firsts.insert(next, together);
        }
    }

    /// The tickets that may ride together, those of the oldest first.
    pub(super) fn batches(&self) -> impl Iterator<Item = (&Together, &BTreeSet<Ticket>)> {
        self.firsts.values().filter_map(|together| self.routes.get_key_value(together))
    }
}
