//! `sequin accept-loss`: what stands between an engine that refuses and one that goes on.
//!
//! The engine does not go on with a slot that lost changes, since that would hide the loss. Whoever
//! has looked at it says so here, once and for one slot; letters stay.

use anyhow::Context as _;
use store::{Embedded, OpenError};

use crate::cli::AcceptLossArguments;
use crate::{Failure, settings, tell};

pub(crate) fn run(arguments: &AcceptLossArguments) -> Result<(), Failure> {
    let directory = settings::data_dir();
    if !directory.is_dir() {
        let directory = directory.display();
        return Err(Failure::Usage(format!(
            "error: there is no data directory {directory} (SEQUIN_DATA_DIR names it)"
        )));
    }
    let store = Embedded::open(&directory).map_err(|error| match error {
        OpenError::Locked { .. } => {
            Failure::Usage(format!("error: {error}; stop the engine first"))
        }
        other => Failure::Failed(other.into()),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.context("start the runtime")?;
    let slot = &arguments.slot;
    let forgotten = runtime.block_on(store.forget(slot)).context("forget the slot")?;
    let Some(forgotten) = forgotten else {
        tell(&format!(
            "this data directory knows of no slot {slot} that was used. If there is one, the next \
             start reads it from where it stands, whoever read it before; what others had read and \
             not delivered is not sent: backfill what needs it"
        ));
        return Ok(());
    };
    let confirmed = match forgotten.confirmed {
        Some(lsn) => format!("was confirmed up to {lsn}"),
        None => "was never confirmed".to_owned(),
    };
    let sinks = match &forgotten.sinks[..] {
        [] => "no sink".to_owned(),
        sinks => sinks.join(", "),
    };
    tell(&format!(
        "slot {slot} {confirmed}; the progress of {sinks} is forgotten. The next start goes on where \
         the slot stands, or creates it at the present if it may. Rows that changed in between are \
         not sent: backfill what needs them"
    ));
    Ok(())
}
