//! Passes by what a sink would rather lose than hold up (`discard_on_full`), and counts it.

use model::chunk::Chunk;
use model::store::{Part, StoreError};
use tracing::warn;

use super::{Owner, Spool};

/// Changes were thrown away because the change log was full.
const DISCARDED: &str = "change_log_discarded";

/// Brings a sink's place in the log behind what is to be thrown away. By its reader, which must not
/// hand over what is passed here; where it has none, because it cannot run, by who looks after the log.
pub(super) async fn pass(spool: &Spool, owner: &Owner) {
    let Owner { sink, status, backlog, .. } = owner;
    let mut count = 0;
    loop {
        let at = backlog.at(|| spool.log.end(Part::Stream));
        if at >= backlog.discarded() {
            break;
        }
        match spool.log.read(Part::Stream, at).await {
            Ok(Some(logged)) => {
                let chunk = Chunk::open(&logged.bytes);
                let positions = chunk.and_then(|chunk| chunk.positions_of(sink));
                let owes = owner.owes(&logged);
                count +=
                    positions.unwrap_or_default().iter().filter(|at| owes(**at)).count() as u64;
                backlog.passed(logged.next);
            }
            // It is lost either way.
            Err(StoreError::Damaged { next, .. }) if next > at => backlog.passed(next),
            // The next look tries again.
            Ok(None) | Err(_) => break,
        }
    }
    if count > 0 {
        status.discarded.add(count);
        let total = status.discarded.get();
        let problem = format!(
            "{total} changes were thrown away, the oldest first, because the change log was full \
             (load_shedding_policy: discard_on_full)"
        );
        status.warnings.clear(DISCARDED, sink);
        status.warnings.raise(DISCARDED, sink, problem);
        warn!(sink.name = %sink, code = DISCARDED, count, total, "changes are thrown away: the change log is full");
    }
}
