//! What the engine is to run, valid by construction: ports are built, names are resolved.

use std::sync::Arc;

use model::backoff::Backoff;
use model::enrich::Enrich;
use model::envelope::Envelope;
use model::lookup::Lookup;
use model::path::Path;
use model::plugin::Plugin;
use model::sink::Sink;
use model::source::Connect;

use crate::backfill;
use crate::grouping::Grouping;
use crate::select::{Selection, Table};
use crate::status::Fault;
use crate::trip::LetterLimit;

pub use crate::deliver::RateLimit;

/// One slot and the sinks it feeds.
#[derive(Clone)]
pub struct SlotSpec {
    /// The slot's name on the server.
    pub name: Arc<str>,
    /// The database's name in the configuration; unique.
    pub database: Arc<str>,
    /// Another number if anything but the sinks is not as it was: the slot's run is then another.
    pub revision: u64,
    /// What to do where the slot is not where it was left.
    pub on_mismatch: OnMismatch,
    /// Opens the slot.
    pub connect: Arc<dyn Connect>,
    /// Reads its tables as a whole. None: there are no backfills.
    pub backfill: Option<backfill::Source>,
    /// The sinks; names are unique.
    pub sinks: Vec<SinkSpec>,
}

/// What to do where the slot stands beyond what is recorded here, was read by others, or is on
/// another server: what lies between is lost to the sinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMismatch {
    /// Nothing is read until an operator has accepted the loss.
    #[default]
    Fail,
    /// It is read from where it stands; the log tells what is lost.
    ContinueFromSlot,
}

/// One sink.
#[derive(Clone)]
pub struct SinkSpec {
    /// Its id in messages and metrics.
    pub id: Arc<str>,
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Another number if anything but `paused` is not as it was: it is then started anew.
    pub revision: u64,
    /// A hash of its configuration, the same after a restart: letters tell it.
    pub config: Arc<str>,
    /// Why it cannot be started as its surroundings are; None if it can. Then it stands and shows that:
    /// its changes are kept in the change log until another version of it can start, and of what is
    /// built for it nothing is used.
    pub fault: Option<Fault>,
    /// Which changes it gets.
    pub selection: Selection,
    /// Completes rows with values that Postgres did not send; None: they stay unsaid.
    pub lookup: Option<Arc<dyn Lookup>>,
    /// What the source is asked about the rows of a table, for each table where it is: the first
    /// that names the table.
    pub enrichments: Vec<(Table, Arc<dyn Enrich>)>,
    /// Decide which of them go on: the first that does not keep a row decides.
    pub filters: Vec<Arc<dyn Plugin>>,
    /// Say where each is sent, by the row as the filters saw it: of a key that several give, the
    /// last one's value counts.
    pub routers: Vec<Arc<dyn Plugin>>,
    /// Reshape them: each sees the row as those before it left it. Documents that one of them gives
    /// in the place of a row pass the others as they are.
    pub transforms: Vec<Arc<dyn Plugin>>,
    /// What is sent of a message: its value at this place. It is a transform of its own and stands
    /// alone; were there others, it would apply to rows that they gave no documents for.
    pub path: Option<Path>,
    /// What its messages share.
    pub envelope: Envelope,
    /// Where they go.
    pub sink: Arc<dyn Sink>,
    /// Which messages keep their order.
    pub grouping: Grouping,
    /// Which of its tables it gets as a whole.
    pub initial: backfill::Initial,
    /// Collects messages and sends none.
    pub paused: bool,
    /// Delays between attempts.
    pub backoff: Backoff,
    /// What becomes of its changes when the change log is full.
    pub on_full: OnFull,
    /// After this many attempts a message is put aside; None: never.
    pub attempts_max: Option<u32>,
    /// It sends no more than this; None: as much as its destination takes.
    pub rate_limit: Option<RateLimit>,
    /// It stops if more are put aside; None: never.
    pub letter_limit: Option<LetterLimit>,
}

/// What becomes of a sink's changes when the change log has reached its limit and the sink still has to
/// read the oldest of it. The predecessor's `load_shedding_policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Nothing more is read from the slot until it has.
    #[default]
    Pause,
    /// The oldest are thrown away and counted.
    Discard,
}
