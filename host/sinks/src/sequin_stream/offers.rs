//! The messages that a stream offers, and who holds which.
//!
//! An offer is visible, or leased until a time. The lease it had last is good to acknowledge it by
//! even when its time is over, as long as nobody else has it. No clock: time comes in as an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use model::message::Message;
use model::pull::{LeaseId, Leased};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A receiver gets no more bytes at once, but always one message.
const BYTES_MAX: usize = 16 << 20;

/// An offer, by the order in which they came. One that is there again keeps its place.
pub(super) type OfferId = u64;

/// How an offer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Acknowledged,
    TakenBack,
}

#[derive(Debug)]
pub(super) struct Offers {
    offers: BTreeMap<OfferId, Offer>,
    visible: BTreeSet<OfferId>,
    leases: HashMap<LeaseId, OfferId>,
    ends: BTreeSet<(Instant, OfferId)>,
    /// Leases that were not over when their messages were taken back.
    taken_back: HashSet<LeaseId>,
    offered: OfferId,
    leased: u64,
    seed: u64,
}

#[derive(Debug)]
struct Offer {
    message: Arc<Message>,
    end: oneshot::Sender<End>,
    lease: Option<LeaseId>,
    /// None: visible.
    until: Option<Instant>,
}

impl Offers {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            offers: BTreeMap::new(),
            visible: BTreeSet::new(),
            leases: HashMap::new(),
            ends: BTreeSet::new(),
            taken_back: HashSet::new(),
            offered: 0,
            leased: 0,
            seed,
        }
    }

    /// Offers a message, behind those that are there.
    pub(super) fn offer(&mut self, message: Arc<Message>) -> (OfferId, oneshot::Receiver<End>) {
        let id = self.offered;
        self.offered += 1;
        let (end, ended) = oneshot::channel();
        self.offers.insert(id, Offer { message, end, lease: None, until: None });
        self.visible.insert(id);
        (id, ended)
    }

    /// Leases the oldest messages that are visible.
    pub(super) fn lease(&mut self, max: usize, now: Instant, time: Duration) -> Vec<Leased> {
        self.end_leases(now);
        let (mut leased, mut bytes) = (Vec::new(), 0);
        while leased.len() < max
            && let Some(id) = self.visible.first().copied()
            && let Some(offer) = self.offers.get_mut(&id)
        {
            bytes += offer.message.payload.len();
            if bytes > BYTES_MAX && !leased.is_empty() {
                break;
            }
            self.visible.remove(&id);
            let lease = LeaseId::new(u128::from(self.seed) << 64 | u128::from(self.leased));
            self.leased += 1;
            let until = now + time;
            offer.until = Some(until);
            if let Some(former) = offer.lease.replace(lease) {
                self.leases.remove(&former);
            }
            self.leases.insert(lease, id);
            self.ends.insert((until, id));
            leased.push(Leased { id: lease, message: Arc::clone(&offer.message) });
        }
        leased
    }

    /// When the next lease is over.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// The message is done with. A lease that is not known is passed over.
    pub(super) fn acknowledge(&mut self, lease: LeaseId) {
        if let Some(id) = self.leases.get(&lease) {
            self.end(*id, End::Acknowledged);
        }
    }

    /// Makes the message visible, unless it is.
    pub(super) fn give_back(&mut self, lease: LeaseId) {
        let Some(id) = self.leases.get(&lease).copied() else { return };
        if let Some(until) = self.offers.get_mut(&id).and_then(|offer| offer.until.take()) {
            self.ends.remove(&(until, id));
            self.visible.insert(id);
        }
    }

    /// Whether the message of this lease was taken back from who held it.
    pub(super) fn was_taken_back(&self, lease: LeaseId) -> bool {
        self.taken_back.contains(&lease)
    }

    /// Takes an offer back, if it is still there.
    pub(super) fn take_back(&mut self, id: OfferId) {
        let lease = self.offers.get(&id).and_then(|offer| offer.lease);
        self.end(id, End::TakenBack);
        self.taken_back.extend(lease);
    }

    /// Takes all offers back.
    pub(super) fn take_all_back(&mut self) {
        self.taken_back.clear();
        while let Some((id, _)) = self.offers.first_key_value() {
            self.take_back(*id);
        }
    }

    fn end(&mut self, id: OfferId, end: End) {
        let Some(offer) = self.offers.remove(&id) else { return };
        self.visible.remove(&id);
        if let Some(lease) = offer.lease {
            self.leases.remove(&lease);
        }
        if let Some(until) = offer.until {
            self.ends.remove(&(until, id));
        }
        // Where nobody listens any more the delivery is gone, and the message comes again.
        offer.end.send(end).ok();
    }

    fn end_leases(&mut self, now: Instant) {
        while let Some((until, id)) = self.ends.first().copied()
            && until <= now
        {
            self.ends.pop_first();
            self.visible.insert(id);
            if let Some(offer) = self.offers.get_mut(&id) {
                offer.until = None;
            }
        }
    }
}
