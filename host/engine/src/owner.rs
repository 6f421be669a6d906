//! Whether a slot is ours to read: what is on record of it here against what the server says.
//!
//! Two data directories that read one slot in turn lose what the other has confirmed, and a data
//! directory that was emptied, restored or copied is another one. So each engine claims its slot in
//! the server's log ([`Claim`]), and reads the claims that others wrote. What is found wrong is told
//! once and stops the slot until somebody acts: nothing that is lost is passed in silence.

use std::sync::Arc;

use model::lsn::Lsn;
use model::source::{Claim, Source, SourceError};
use model::store::Accepted;
use tracing::warn;

use crate::spec::OnMismatch;

/// The slot was read by another data directory.
const ANOTHER: &str = "slot_of_another";
/// The data directory has a twin, or is an older copy of itself.
const COPIED: &str = "data_directory_copied";

/// Judges the claims of one slot.
#[derive(Debug)]
pub(crate) struct Owner {
    claim: Claim,
    accepted: Option<Accepted>,
    on_mismatch: OnMismatch,
    /// Our own has come.
    seen: bool,
}

impl Owner {
    pub(crate) fn new(claim: Claim, accepted: Option<Accepted>, on_mismatch: OnMismatch) -> Self {
        Self { claim, accepted, on_mismatch, seen: false }
    }

    /// What we say.
    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// A slot that nothing is known of here, but that somebody has read.
    ///
    /// # Errors
    /// Nobody has accepted that.
    pub(crate) fn first_meeting(&self, source: &dyn Source) -> Result<(), SourceError> {
        let Some(decoded) = source.decoded_before().filter(|decoded| *decoded > 0) else {
            return Ok(());
        };
        let slot = &self.claim.slot;
        let message = format!(
            "slot {slot} was read before ({decoded} transactions), and this data directory knows \
             nothing of it: it is empty or another one. What its reader had confirmed and not yet \
             delivered is not in the slot any more; it stands at {}",
            source.slot_position()
        );
        self.unless_accepted(ANOTHER, message)
    }

    /// The claims of a batch. Returns where our own came for the first time, if what was accepted
    /// ends there.
    ///
    /// # Errors
    /// Another engine has read the slot, or reads it in turn with us.
    pub(crate) fn judge(&mut self, claims: &[(Lsn, Claim)]) -> Result<Option<Lsn>, SourceError> {
        let mut ends = None;
        for (at, claim) in claims.iter().filter(|(_, claim)| claim.slot == self.claim.slot) {
            if claim.instance == self.claim.instance && claim.run == self.claim.run {
                self.seen = true;
                if let Some(accepted @ Accepted { until: None }) = &mut self.accepted {
                    accepted.until = Some(*at);
                    ends = Some(*at);
                }
                continue;
            }
            let is_ours = claim.instance == self.claim.instance;
            // An earlier process of this data directory.
            if is_ours && claim.epoch < self.claim.epoch {
                continue;
            }
            let is_accepted = self.accepted.is_some_and(|accepted| match accepted.until {
                Some(until) => *at < until,
                None => !self.seen,
            });
            if is_accepted {
                continue;
            }
            let slot = &self.claim.slot;
            if is_ours {
                let Claim { epoch, .. } = self.claim;
                let message = format!(
                    "slot {slot} was read at {at} by a process that opened a copy of this data \
                     directory as its {}th; we are the {epoch}th: the directory was copied, or an \
                     older copy was put in its place",
                    claim.epoch
                );
                return Err(self.refusal(COPIED, message));
            }
            let message = format!(
                "slot {slot} was claimed at {at} by another engine, whose data directory has the id \
                 {}; ours has {}: what it has confirmed is not in the slot any more",
                claim.instance, self.claim.instance
            );
            return Err(self.refusal(ANOTHER, message));
        }
        Ok(ends)
    }

    /// A stream that is new here, beside the one of this slot that was read last.
    ///
    /// # Errors
    /// The slot stands beyond what was read there, or the server is another one.
    pub(crate) fn other_stream(
        &self,
        source: &dyn Source,
        last: &str,
        confirmed: Lsn,
    ) -> Result<(), SourceError> {
        let (Some(before), Some(now)) = (Origin::of(last), Origin::of(source.origin())) else {
            return Ok(());
        };
        // Another database or publication: that is another configuration.
        if before.rest != now.rest {
            return Ok(());
        }
        let (slot, at) = (&self.claim.slot, source.slot_position());
        if before.system != now.system {
            let message = format!(
                "slot {slot} was last read on the server with system id {}, up to {confirmed}; this \
                 one has {}: it is another server, or was upgraded or made anew. What was not read \
                 there is lost to the sinks; here the slot stands at {at}",
                before.system, now.system
            );
            return self.unless_accepted("server_replaced", message);
        }
        if before.timeline > now.timeline {
            let message = format!(
                "slot {slot} was last read on timeline {} of the server, up to {confirmed}; this one \
                 is on timeline {}: it is the primary from before a failover, or was restored",
                before.timeline, now.timeline
            );
            return Err(self.refusal("timeline_set_back", message));
        }
        if at > confirmed {
            let message = format!(
                "the server was promoted to timeline {} without slot {slot} as it was: it stands at \
                 {at}, beyond {confirmed}, the last position confirmed on timeline {}. The changes \
                 of the {} bytes of log between are lost to the sinks",
                now.timeline,
                before.timeline,
                at.0.saturating_sub(confirmed.0)
            );
            return self.unless_accepted("slot_moved", message);
        }
        Ok(())
    }

    /// An error, unless an operator has accepted it, or the configuration does.
    pub(crate) fn unless_accepted(
        &self,
        code: &'static str,
        message: String,
    ) -> Result<(), SourceError> {
        let slot = &self.claim.slot;
        if self.accepted.is_some_and(|accepted| accepted.until.is_none()) {
            warn!(slot.name = %slot, code, message, "going on: an operator has accepted it");
            return Ok(());
        }
        if self.on_mismatch == OnMismatch::ContinueFromSlot {
            warn!(
                slot.name = %slot, code, message,
                "going on from where the slot stands: `on_mismatch` says so"
            );
            return Ok(());
        }
        Err(self.refusal(code, message))
    }

    fn refusal(&self, code: &'static str, message: String) -> SourceError {
        let slot: Arc<str> = Arc::clone(&self.claim.slot);
        SourceError::Definite {
            code,
            message,
            help: format!(
                "make sure that no other engine reads the slot, and put the right data directory or \
                 server in place; to go on from where the slot stands, stop the engine, run `sequin \
                 accept-loss {slot}`, start it, and backfill the tables of its sinks"
            ),
        }
    }
}

/// Whether nothing but somebody's act mends it: the slot is not opened again by itself.
pub(crate) fn is_final(error: &SourceError) -> bool {
    matches!(error, SourceError::Definite { code: ANOTHER | COPIED, .. })
}

/// The parts of [`Source::origin`].
struct Origin<'a> {
    system: &'a str,
    timeline: u64,
    /// Database, slot, publication and what else tells streams apart.
    rest: &'a str,
}

impl<'a> Origin<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let (system, timeline, rest) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { system, timeline: timeline.parse().ok()?, rest })
    }
}

#[cfg(test)]
mod tests {
    use model::BoxFuture;
    use model::source::Event;

    use super::*;

    fn claim(instance: &str, epoch: u64, run: u64) -> Claim {
        Claim { slot: "s".into(), instance: instance.into(), epoch, run }
    }

    fn owner(accepted: Option<Accepted>) -> Owner {
        Owner::new(claim("ours", 5, 1), accepted, OnMismatch::Fail)
    }

    fn code(judged: Result<Option<Lsn>, SourceError>) -> Result<Option<Lsn>, &'static str> {
        judged.map_err(|error| match error {
            SourceError::Definite { code, .. } => code,
            SourceError::Transient(text) => panic!("{text}"),
        })
    }

    #[test]
    fn b193_claims_of_others_and_of_copies_are_refused_and_our_own_are_not() {
        let judge = |claim| code(owner(None).judge(&[(Lsn(9), claim)]));
        assert_eq!(judge(claim("ours", 5, 1)), Ok(None));
        assert_eq!(judge(claim("ours", 4, 2)), Ok(None), "before a restart");
        assert_eq!(judge(claim("ours", 5, 2)), Err(COPIED), "a twin");
        assert_eq!(judge(claim("ours", 7, 2)), Err(COPIED), "we are an older copy");
        assert_eq!(judge(claim("theirs", 1, 2)), Err(ANOTHER));
        let elsewhere = Claim { slot: "t".into(), ..claim("theirs", 1, 2) };
        assert_eq!(judge(elsewhere), Ok(None));
    }

    /// A stream that is not read.
    struct Opened {
        origin: &'static str,
        at: u64,
        decoded: Option<u64>,
    }

    impl Source for Opened {
        fn origin(&self) -> &str {
            self.origin
        }

        fn server_position(&self) -> Option<Lsn> {
            Some(Lsn(1_000))
        }

        fn slot_position(&self) -> Lsn {
            Lsn(self.at)
        }

        fn decoded_before(&self) -> Option<u64> {
            self.decoded
        }

        fn next(&mut self) -> BoxFuture<'_, Result<Event, SourceError>> {
            Box::pin(std::future::pending())
        }

        fn confirm(&mut self, _flushed: Lsn) {}

        fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>> {
            Box::pin(async { Ok(()) })
        }
    }

    fn opened(origin: &'static str, at: u64, decoded: Option<u64>) -> Opened {
        Opened { origin, at, decoded }
    }

    fn refused(judged: Result<(), SourceError>) -> Option<&'static str> {
        code(judged.map(|()| None)).err()
    }

    #[test]
    fn b186_another_timeline_or_system_is_named_and_a_gap_is_not_passed() {
        let judge = |owner: &Owner, origin, at| {
            refused(owner.other_stream(&opened(origin, at, None), "7/3/db/s/p", Lsn(50)))
        };
        let fails = owner(None);
        assert_eq!(judge(&fails, "7/4/db/s/p", 50), None, "promoted with the slot");
        assert_eq!(judge(&fails, "7/4/db/s/p", 51), Some("slot_moved"));
        assert_eq!(judge(&fails, "7/2/db/s/p", 40), Some("timeline_set_back"));
        assert_eq!(judge(&fails, "8/3/db/s/p", 40), Some("server_replaced"));
        assert_eq!(judge(&fails, "8/3/db/s/q", 40), None, "another publication: as configured");
        let accepted = owner(Some(Accepted { until: None }));
        let goes_on = Owner { on_mismatch: OnMismatch::ContinueFromSlot, ..owner(None) };
        for owner in [accepted, goes_on] {
            assert_eq!(judge(&owner, "7/4/db/s/p", 51), None);
            assert_eq!(judge(&owner, "8/3/db/s/p", 40), None);
            // Positions begin to mean something else: nothing covers that.
            assert_eq!(judge(&owner, "7/2/db/s/p", 40), Some("timeline_set_back"));
        }
    }

    #[test]
    fn b193_a_slot_that_is_not_known_here_must_not_have_been_read() {
        let judge = |owner: &Owner, decoded| {
            refused(owner.first_meeting(&opened("7/3/db/s/p", 9, decoded)))
        };
        assert_eq!(judge(&owner(None), Some(3)), Some(ANOTHER));
        for fresh in [Some(0), None] {
            assert_eq!(judge(&owner(None), fresh), None);
        }
        assert_eq!(judge(&owner(Some(Accepted { until: None })), Some(3)), None);
    }

    #[test]
    fn b193_what_is_accepted_ends_at_our_own_claim() {
        let mut ours = owner(Some(Accepted { until: None }));
        let theirs = || claim("theirs", 8, 3);
        assert_eq!(
            code(ours.judge(&[(Lsn(1), theirs()), (Lsn(2), claim("ours", 9, 9))])),
            Ok(None)
        );
        assert_eq!(code(ours.judge(&[(Lsn(3), claim("ours", 5, 1))])), Ok(Some(Lsn(3))));
        assert_eq!(code(ours.judge(&[(Lsn(2), theirs())])), Ok(None), "sent again");
        assert_eq!(code(ours.judge(&[(Lsn(4), theirs())])), Err(ANOTHER));
        // As the next process finds it.
        let mut next = owner(Some(Accepted { until: Some(Lsn(3)) }));
        assert_eq!(code(next.judge(&[(Lsn(2), theirs())])), Ok(None));
        assert_eq!(code(next.judge(&[(Lsn(4), theirs())])), Err(ANOTHER));
    }
}
