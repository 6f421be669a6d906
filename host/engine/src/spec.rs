//! What the engine is to run, valid by construction: ports are built, names are resolved.

use std::sync::Arc;

use model::backoff::Backoff;
use model::enrich::Enrich;
use model::envelope::Envelope;
use model::lookup::Lookup;
use model::plugin::Plugin;
use model::sink::Sink;
use model::source::Connect;

use crate::grouping::Grouping;
use crate::select::{Selection, Table};

/// One slot and the sinks it feeds.
pub struct SlotSpec {
    /// The slot's name on the server.
    pub name: Arc<str>,
    /// The database's name in the configuration.
    pub database: Arc<str>,
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
    /// Which changes it gets.
    pub selection: Selection,
    /// Completes rows with values that Postgres did not send; None: they stay unsaid.
    pub lookup: Option<Arc<dyn Lookup>>,
    /// What the source is asked about the rows of a table, for each table where it is: the first
    /// that names the table.
    pub enrichments: Vec<(Table, Arc<dyn Enrich>)>,
    /// Decides which of them go on.
    pub filter: Option<Arc<dyn Plugin>>,
    /// Reshapes them.
    pub transform: Option<Arc<dyn Plugin>>,
    /// What its messages share.
    pub envelope: Envelope,
    /// Where they go.
    pub sink: Arc<dyn Sink>,
    /// Which messages keep their order.
    pub grouping: Grouping,
    /// Collects messages and sends none.
    pub paused: bool,
    /// Delays between attempts.
    pub backoff: Backoff,
    /// After this many attempts a message is put aside; None: never.
    pub attempts_max: Option<u32>,
}
