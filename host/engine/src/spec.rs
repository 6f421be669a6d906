//! What the engine is to run, valid by construction: ports are built, names are resolved.

use std::sync::Arc;

use model::backoff::Backoff;
use model::envelope::Envelope;
use model::lookup::Lookup;
use model::plugin::Plugin;
use model::sink::Sink;
use model::source::Connect;

use crate::select::Selection;

/// One slot and the sinks it feeds.
pub struct SlotSpec {
    /// The slot's name on the server.
    pub name: Arc<str>,
    /// The database's name in the configuration; unique.
    pub database: Arc<str>,
    /// Another number if anything but the sinks is not as it was: the slot's run is then another.
    pub revision: u64,
    /// Opens the slot.
    pub connect: Arc<dyn Connect>,
    /// The sinks; names are unique.
    pub sinks: Vec<SinkSpec>,
}

/// One sink.
pub struct SinkSpec {
    /// Its id in messages and metrics.
    pub id: Arc<str>,
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Another number if anything but `paused` is not as it was: it is then started anew.
    pub revision: u64,
    /// Which changes it gets.
    pub selection: Selection,
    /// Completes rows with values that Postgres did not send; None: they stay unsaid.
    pub lookup: Option<Arc<dyn Lookup>>,
    /// Decides which of them go on.
    pub filter: Option<Arc<dyn Plugin>>,
    /// Reshapes them.
    pub transform: Option<Arc<dyn Plugin>>,
    /// What its messages share.
    pub envelope: Envelope,
    /// Where they go.
    pub sink: Arc<dyn Sink>,
    /// Whether messages of one row keep their order.
    pub grouped: bool,
    /// Collects messages and sends none.
    pub paused: bool,
    /// Delays between attempts.
    pub backoff: Backoff,
    /// After this many attempts a message is put aside; None: never.
    pub attempts_max: Option<u32>,
}
