//! A page's rows, handed over at its mark.

use std::sync::Arc;

use model::change::Transaction;
use model::position::Position;
use model::source::Mark;
use tokio::time::Instant;

use super::registry::{Arrived, HandedPage, Judged, Registry};
use crate::fan_out::{Handed, Outlet};

/// A mark has come: the rows of the page that waits for it go to its sink, at the mark's place.
pub(crate) fn arrive(registry: &Registry, mark: &Mark, outlets: &mut [Outlet], now_us: i64) {
    let Some(Judged { mut page, reply }) = registry.arrive(&mark.text, mark.xid) else {
        return;
    };
    let outlet = outlets.iter_mut().find(|outlet| outlet.spec.name == page.sink);
    let Some(outlet) = outlet.and_then(|outlet| outlet.takes_reads().then_some(outlet)) else {
        // Whoever read it may be gone.
        reply.send(Arrived::NoRoom(page)).ok();
        return;
    };
    let commit_lsn = mark.position.commit_lsn;
    let transaction = Arc::new(Transaction::new(commit_lsn, mark.xid, now_us));
    let evicted = page.evicted;
    let mut rows = Vec::with_capacity(page.rows.len());
    let mut changes = Vec::with_capacity(page.rows.len());
    let first = mark.position.ordinal + 1;
    for (ordinal, (mut change, key)) in (first..).zip(page.rows.drain(..)) {
        change.position = Position::new(commit_lsn, ordinal);
        change.transaction = Arc::clone(&transaction);
        rows.push((change.position, key));
        changes.push(change);
    }
    if !changes.is_empty() {
        let picks = (0..changes.len()).collect();
        let (read_at, bytes) = (Instant::now(), page.bytes);
        let handed = Handed { changes, read_at, bytes, _charge: page.charge };
        registry.add_reads(&page.sink, handed.changes.len() as u64);
        let refused = outlet.hand_over_picks(&Arc::new(handed), picks);
        debug_assert!(refused.is_empty(), "it had room this very moment");
        if !refused.is_empty() {
            // Never without a word: it is read again.
            reply.send(Arrived::Invalid).ok();
            return;
        }
    }
    reply.send(Arrived::Handed(HandedPage { rows, evicted })).ok();
}
