//! The queues of one sink: what may be sent now, in which order, in which batch.
//!
//! Invariants: a message is sent only while it is the first of every group it belongs to (or rides
//! behind all that is before it there, in a request that fails as a whole); a message that waits for
//! its next attempt stays first, so nothing of its group overtakes it; other groups do not notice.
//! Where a request has one route, the batch of the oldest message that is due goes first, and a full
//! batch of another route does not wait for it.
//! No I/O, no clock: time comes in as an argument.

mod operate;
mod ready;
mod spill;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use model::batch::{BatchPolicy, Grouping};
use model::groups::{GroupKey, Groups};
use model::message::Message;
use tokio::time::Instant;

use crate::budget::{Charge, ShareCharge};
use ready::{Ready, Together};
use spill::Gap;
pub(crate) use spill::{Run, Wanted};

/// Names a message inside its sink; rises in the order of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// All messages that a sink still has to deliver.
#[derive(Debug, Default)]
pub struct Lanes {
    entries: HashMap<Ticket, Entry>,
    /// Tickets of one group in order; the first is the only one that may be sent.
    lanes: HashMap<GroupKey, VecDeque<Ticket>>,
    /// May be sent now.
    ready: Ready,
    /// First of their groups, waiting for their next attempt.
    delayed: BTreeSet<(Instant, Ticket)>,
    /// A message that everything else must wait for, and what came after it.
    barrier: Option<Ticket>,
    held: VecDeque<Ticket>,
    next: u64,
    bytes: usize,
    /// What stands on the disk, by the ticket that holds its place in its lane.
    gaps: HashMap<Ticket, Gap>,
    /// Of these, the ones that nothing is before.
    wanting: BTreeSet<Ticket>,
    /// Of all of them, and the messages in these.
    pieces: usize,
    spilled: usize,
}

#[derive(Debug)]
struct Entry {
    message: Arc<Message>,
    _charges: Option<(Charge, ShareCharge)>,
    /// When its change was read.
    read_at: Instant,
    /// Whether a request had it.
    tried: bool,
    admitted: Instant,
    attempts: u32,
    /// Of these, the last ones, which an outage of the destination may explain.
    doubtful: u32,
    /// When the last of them was.
    doubted: Option<Instant>,
    /// In a request with at most so many messages: with more it was refused.
    together_max: usize,
    /// In how many of its groups another message is before it.
    behind: u8,
    /// Not before, once it is the first of its groups.
    due: Option<Instant>,
    in_flight: bool,
}

impl Entry {
    /// Of a message that nothing is known of.
    fn new(
        message: Arc<Message>,
        charges: Option<(Charge, ShareCharge)>,
        admitted: Instant,
    ) -> Self {
        Self {
            message,
            _charges: charges,
            read_at: admitted,
            tried: false,
            admitted,
            attempts: 0,
            doubtful: 0,
            doubted: None,
            together_max: usize::MAX,
            behind: 0,
            due: None,
            in_flight: false,
        }
    }
}

/// A batch that was taken, to be sent at once.
#[derive(Debug)]
pub struct Taken {
    /// In order.
    pub tickets: Vec<Ticket>,
    /// The messages of the tickets.
    pub messages: Vec<Arc<Message>>,
}

impl Lanes {
    /// Of a sink that wants its batches cut like this.
    #[must_use]
    pub fn new(policy: &BatchPolicy) -> Self {
        Self { ready: Ready::new(policy.one_route), ..Self::default() }
    }

    /// How many messages there are, in memory and on the disk.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() + self.spilled
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of those in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The message of a ticket, and how often it was tried.
    #[must_use]
    pub fn get(&self, ticket: Ticket) -> Option<(&Arc<Message>, u32)> {
        self.entries.get(&ticket).map(|entry| (&entry.message, entry.attempts))
    }

    /// When the oldest of these that were never tried was read.
    #[must_use]
    pub fn read_at(&self, tickets: &[Ticket]) -> Option<Instant> {
        let entries = tickets.iter().filter_map(|ticket| self.entries.get(ticket));
        // Tickets rise with the time of reading.
        entries.filter(|entry| !entry.tried).map(|entry| entry.read_at).next()
    }

    /// Takes in the next message, behind everything of its groups.
    pub fn admit(
        &mut self,
        message: Arc<Message>,
        charges: Option<(Charge, ShareCharge)>,
        read_at: Instant,
        now: Instant,
    ) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.bytes += message.bytes();
        let entry = Entry { read_at, ..Entry::new(message, charges, now) };
        self.entries.insert(ticket, entry);
        if self.barrier.is_some() {
            self.held.push_back(ticket);
        } else {
            self.enqueue(ticket);
        }
        ticket
    }

    /// A batch that is due: full, or its oldest message has waited for the linger time.
    pub fn take(&mut self, policy: &BatchPolicy, now: Instant) -> Option<Taken> {
        let batch = self.due(policy, now)?;
        let mut tickets = batch.tickets;
        tickets.sort_unstable();
        Some(self.carried(tickets))
    }

    /// A message that may be sent, whatever the time: the first behind `last`, or of all. So one
    /// after the other has its turn.
    #[must_use]
    pub fn next_one(&self, last: Option<Ticket>) -> Option<Ticket> {
        last.and_then(|last| self.ready.after(last)).or_else(|| self.ready.first())
    }

    /// Takes one that may be sent.
    pub fn take_one(&mut self, ticket: Ticket) -> Taken {
        self.carried(vec![ticket])
    }

    /// They are under way from now on.
    fn carried(&mut self, tickets: Vec<Ticket>) -> Taken {
        let mut messages = Vec::with_capacity(tickets.len());
        for ticket in &tickets {
            if let Some(entry) = self.entries.get_mut(ticket) {
                self.ready.remove(*ticket, &entry.message);
                entry.in_flight = true;
                entry.due = None;
                messages.push(Arc::clone(&entry.message));
            }
        }
        Taken { tickets, messages }
    }

    /// Whether there is a message that may be sent now.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.ready.first().is_some()
    }

    /// The first batch that is due.
    fn due(&self, policy: &BatchPolicy, now: Instant) -> Option<Assembled> {
        let due = |batch: &Assembled| {
            batch.full || batch.oldest.is_some_and(|oldest| oldest + policy.linger <= now)
        };
        let batches = self.ready.batches();
        let mut batches =
            batches.map(|(together, tickets)| self.assemble(policy, together, tickets));
        batches.find(due)
    }

    /// When the next message whose attempt failed may be tried again.
    #[must_use]
    pub fn next_retry(&self) -> Option<Instant> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// When [`Lanes::take`] (if `can_send`) or [`Lanes::wake`] may have something to do; None if
    /// only a new message or the end of a request can change that.
    #[must_use]
    pub fn next_deadline(&self, policy: &BatchPolicy, can_send: bool) -> Option<Instant> {
        // Tickets rise with the time of admission, so the first is the oldest.
        let oldest = self.ready.first().filter(|_| can_send);
        let oldest = oldest.and_then(|ticket| self.entries.get(&ticket));
        let lingering = oldest.map(|entry| entry.admitted + policy.linger);
        [lingering, self.next_retry()].into_iter().flatten().min()
    }

    /// Makes messages ready whose delay is over.
    pub fn wake(&mut self, now: Instant) {
        while let Some((due, ticket)) = self.delayed.first().copied()
            && due <= now
        {
            self.delayed.pop_first();
            if let Some(entry) = self.entries.get_mut(&ticket) {
                entry.due = None;
                self.ready.insert(ticket, &entry.message);
            }
        }
    }

    /// The message is settled: it leaves, and what waited behind it may move.
    pub fn settle(&mut self, ticket: Ticket) {
        let Some(entry) = self.entries.remove(&ticket) else { return };
        self.bytes -= entry.message.bytes();
        self.ready.remove(ticket, &entry.message);
        if let Some(due) = entry.due {
            self.delayed.remove(&(due, ticket));
        }
        for key in entry.message.groups.keys() {
            self.leave(key, ticket);
        }
        if self.barrier == Some(ticket) {
            self.barrier = None;
            while self.barrier.is_none()
                && let Some(held) = self.held.pop_front()
            {
                self.enqueue(held);
            }
        }
        self.release_barrier();
    }

    /// An attempt failed: the message stays where it is, first of its groups, until `due`. One that
    /// is behind another waits as long once it is the first. Returns how often it was tried by now.
    pub fn fail(&mut self, ticket: Ticket, due: Instant) -> u32 {
        let Some(entry) = self.entries.get_mut(&ticket) else { return 0 };
        entry.attempts = entry.attempts.saturating_add(1);
        let attempts = entry.attempts;
        self.wait(ticket, due);
        attempts
    }

    /// As [`Lanes::fail`], where it may be an outage of the destination that speaks. `up` is when the
    /// destination took a message the last time: what was doubtful before counts.
    pub fn fail_in_doubt(
        &mut self,
        ticket: Ticket,
        up: Option<Instant>,
        now: Instant,
        due: Instant,
    ) {
        if let Some(entry) = self.entries.get_mut(&ticket) {
            if entry.doubted <= up {
                entry.doubtful = 0;
            }
            entry.doubtful = entry.doubtful.saturating_add(1);
            entry.doubted = Some(now);
        }
        self.fail(ticket, due);
    }

    /// When the last attempt was that an outage may explain.
    #[must_use]
    pub fn doubted(&self, ticket: Ticket) -> Option<Instant> {
        self.entries.get(&ticket)?.doubted
    }

    /// A request that failed as a whole with the message says nothing about it: no attempt counts. It
    /// stays where it is until `due`.
    pub fn wait(&mut self, ticket: Ticket, due: Instant) {
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        (entry.in_flight, entry.tried) = (false, true);
        entry.due = Some(due);
        self.offer(ticket);
    }

    /// From now on the message goes with so many others at the most, itself among them.
    pub fn part(&mut self, ticket: Ticket, together_max: usize) {
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.together_max = entry.together_max.min(together_max);
        }
    }

    /// It was an outage, and no message's matter: what was doubtful since the destination took a
    /// message the last time is forgotten, parted messages go together again, none waits for itself.
    pub fn absolve(&mut self, up: Option<Instant>) {
        for (ticket, entry) in &mut self.entries {
            let doubtful = std::mem::take(&mut entry.doubtful);
            let doubted = entry.doubted.take();
            if doubted.is_none() || doubted <= up {
                continue;
            }
            entry.attempts = entry.attempts.saturating_sub(doubtful);
            entry.together_max = usize::MAX;
            if let Some(due) = entry.due.take()
                && self.delayed.remove(&(due, *ticket))
            {
                self.ready.insert(*ticket, &entry.message);
            }
        }
    }

    /// As [`Lanes::wait`] after a request of several messages that an outage may explain.
    pub fn wait_in_doubt(&mut self, ticket: Ticket, now: Instant, due: Instant) {
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.doubted = Some(now);
        }
        self.wait(ticket, due);
    }

    /// The message was not tried after all, or got through only behind one that did not: it is sent
    /// again in its place, and the attempt does not count.
    pub fn put_back(&mut self, ticket: Ticket) {
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        (entry.in_flight, entry.tried) = (false, true);
        self.offer(ticket);
    }

    /// If nothing is before the message it may be sent, at once or when its time has come.
    fn offer(&mut self, ticket: Ticket) {
        let Some(entry) = self.entries.get(&ticket) else { return };
        if entry.behind > 0 || entry.in_flight {
            return;
        }
        match entry.due {
            Some(due) => {
                self.delayed.insert((due, ticket));
            }
            None => self.ready.insert(ticket, &entry.message),
        }
    }

    fn enqueue(&mut self, ticket: Ticket) {
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        if entry.message.groups == Groups::All {
            self.barrier = Some(ticket);
            entry.behind = 1;
            self.release_barrier();
            return;
        }
        let mut behind = 0;
        for key in entry.message.groups.keys() {
            let lane = self.lanes.entry(key).or_default();
            if !lane.is_empty() {
                behind += 1;
            }
            lane.push_back(ticket);
        }
        entry.behind = behind;
        self.offer(ticket);
    }

    /// A barrier is ready once nothing else is left before it.
    fn release_barrier(&mut self) {
        let Some(barrier) = self.barrier else { return };
        if self.len() == self.held.len() + 1
            && let Some(entry) = self.entries.get_mut(&barrier)
            && entry.behind > 0
        {
            entry.behind = 0;
            self.ready.insert(barrier, &entry.message);
        }
    }

    /// Removes a ticket from a lane; if it was the first, the next one has one less before it.
    fn leave(&mut self, key: GroupKey, ticket: Ticket) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let was_first = lane.front() == Some(&ticket);
        if was_first {
            lane.pop_front();
        } else {
            lane.retain(|other| *other != ticket);
        }
        let first = lane.front().copied();
        if first.is_none() {
            self.lanes.remove(&key);
        }
        if let (true, Some(first)) = (was_first, first) {
            if let Some(entry) = self.entries.get_mut(&first) {
                entry.behind = entry.behind.saturating_sub(1);
                self.offer(first);
            } else {
                self.wanting.insert(first);
            }
        }
    }

    /// The batch of these that could be sent now.
    fn assemble(
        &self,
        policy: &BatchPolicy,
        together: &Together,
        ready: &BTreeSet<Ticket>,
    ) -> Assembled {
        let mut batch = Assembled::default();
        for ticket in ready {
            if !batch.add(policy, *ticket, self.entries.get(ticket)) {
                return batch;
            }
            if policy.grouping == Grouping::Together
                && !self.add_followers(&mut batch, policy, together, *ticket)
            {
                return batch;
            }
        }
        batch
    }

    /// Adds what may ride behind `first`: messages of its route before which nothing is left in any
    /// of their groups but what the batch carries. False if the batch is full.
    fn add_followers(
        &self,
        batch: &mut Assembled,
        policy: &BatchPolicy,
        together: &Together,
        first: Ticket,
    ) -> bool {
        let mut keys: Vec<GroupKey> = self.carry(batch, first).collect();
        while let Some(key) = keys.last().copied() {
            let Some((ticket, entry)) = self.next_behind(batch, key) else {
                keys.pop();
                continue;
            };
            // One that is being put aside stays where it is, and so does what is behind it.
            let rides = !entry.in_flight
                && self.ready.together(&entry.message) == *together
                && entry.message.groups.keys().all(|key| {
                    self.next_behind(batch, key).is_some_and(|(next, _)| next == ticket)
                });
            if !rides {
                keys.pop();
                continue;
            }
            if !batch.add(policy, ticket, Some(entry)) {
                return false;
            }
            keys.extend(self.carry(batch, ticket));
        }
        true
    }

    /// Notes in which groups the batch carries one more. Only groups in which another message waits
    /// count; the others are given back by nobody.
    fn carry(&self, batch: &mut Assembled, ticket: Ticket) -> impl Iterator<Item = GroupKey> {
        let groups = self.entries.get(&ticket).map(|entry| entry.message.groups);
        let keys = groups.into_iter().flat_map(Groups::keys);
        let keys = keys.filter(|key| self.lanes.get(key).is_some_and(|lane| lane.len() > 1));
        let keys: Vec<GroupKey> = keys.collect();
        for key in &keys {
            *batch.carried.entry(*key).or_default() += 1;
        }
        keys.into_iter()
    }

    /// The first message of a group that the batch does not carry.
    fn next_behind(&self, batch: &Assembled, key: GroupKey) -> Option<(Ticket, &Entry)> {
        let carried = batch.carried.get(&key).copied().unwrap_or(0);
        let ticket = *self.lanes.get(&key)?.get(carried)?;
        Some((ticket, self.entries.get(&ticket)?))
    }
}

#[derive(Debug)]
struct Assembled {
    tickets: Vec<Ticket>,
    /// How many from the front of a lane are among them, where others wait behind.
    carried: HashMap<GroupKey, usize>,
    bytes: usize,
    /// The least of theirs.
    together_max: usize,
    oldest: Option<Instant>,
    full: bool,
}

impl Default for Assembled {
    fn default() -> Self {
        Self {
            tickets: Vec::new(),
            carried: HashMap::new(),
            bytes: 0,
            together_max: usize::MAX,
            oldest: None,
            full: false,
        }
    }
}

impl Assembled {
    /// False if it did not fit or nothing more does.
    fn add(&mut self, policy: &BatchPolicy, ticket: Ticket, entry: Option<&Entry>) -> bool {
        let Some(entry) = entry else { return true };
        let message = entry.message.payload.len();
        let bytes = self.bytes.saturating_add(message).saturating_add(policy.message_overhead);
        let room = policy.bytes_max.saturating_sub(policy.request_overhead);
        let is_too_large = policy.message_bytes_max.is_some_and(|max| message > max);
        let alone = if is_too_large { 1 } else { usize::MAX };
        let together_max = self.together_max.min(entry.together_max).min(alone);
        // One message always goes, however large: who cannot take it says so, or its policy does.
        if !self.tickets.is_empty() && (bytes > room || self.tickets.len() >= together_max) {
            self.full = true;
            return false;
        }
        self.tickets.push(ticket);
        self.bytes = bytes;
        self.together_max = together_max;
        self.oldest = Some(self.oldest.map_or(entry.admitted, |oldest| oldest.min(entry.admitted)));
        self.full = self.tickets.len() >= policy.messages_max.min(together_max) || bytes >= room;
        !self.full
    }
}

#[cfg(test)]
mod tests;
