//! Backfills that a sink's configuration asks for: when the sink is new, and for tables that come
//! later.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use model::backfill::{Catalog, Named, Wanted};
use model::store::BackfillLimits;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::control::{Backfills, Facts};
use super::registry::Registry;
use crate::select::{Choice, Table};

/// Before the source or the store is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// Which of its tables a sink gets as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Initial {
    /// When it is new.
    pub tables: InitialTables,
    /// And tables that it takes later, because they were created, renamed, or chosen.
    pub later: bool,
    /// How.
    pub limits: BackfillLimits,
}

/// The predecessor's `initial_backfill`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum InitialTables {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// These, or parts of them.
    Some(Vec<InitialTable>),
}

/// A table of an initial backfill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialTable {
    /// The table.
    pub table: Table,
    /// By this column, from this value on.
    pub from: Option<(Arc<str>, Option<Arc<str>>)>,
}

type Name = (Arc<str>, Arc<str>);

/// Begins them.
pub(super) struct Initials {
    backfills: Backfills,
    database: Arc<str>,
    catalog: Arc<dyn Catalog>,
    registry: Arc<Registry>,
    /// Sinks that nothing more is to be begun for, as they are.
    done: HashSet<(Arc<str>, u64)>,
    /// Sinks, as they are, whose tables were looked for once.
    looked: HashSet<(Arc<str>, u64)>,
    due: Option<Instant>,
    told: bool,
}

impl Initials {
    pub(super) fn new(
        backfills: Backfills,
        database: Arc<str>,
        catalog: Arc<dyn Catalog>,
        registry: Arc<Registry>,
    ) -> Self {
        let (done, looked) = (HashSet::new(), HashSet::new());
        Self { backfills, database, catalog, registry, done, looked, due: None, told: false }
    }

    /// Begins what there is to begin. Some time if it has to be tried again then.
    pub(super) async fn look(&mut self) -> Option<Instant> {
        let sinks = self.backfills.sinks();
        let mut tables: Option<Vec<Named>> = None;
        let mut again = false;
        let mut pending: Vec<(Facts, u64, Initial)> = Vec::new();
        for facts in sinks.iter().filter(|facts| facts.database == self.database) {
            let Some(view) = self.registry.view(&facts.name) else { continue };
            let revision = view.spec.revision;
            if !self.done.contains(&(Arc::clone(&facts.name), revision)) {
                pending.push((facts.clone(), revision, view.spec.initial.clone()));
            }
        }
        // What comes later is looked for now and then, and once a sink is another.
        let is_later = |(facts, revision, initial): &(Facts, u64, Initial)| {
            initial.later && self.looked.contains(&(Arc::clone(&facts.name), *revision))
        };
        if pending.iter().all(is_later) && self.due.is_some_and(|due| due > Instant::now()) {
            return None;
        }
        for (facts, revision, initial) in pending {
            match self.begin(&facts, &initial, &mut tables).await {
                Ok(()) => {
                    self.told = false;
                    let looked = if initial.later { &mut self.looked } else { &mut self.done };
                    looked.insert((facts.name, revision));
                }
                Err(reason) => {
                    again = true;
                    if !std::mem::replace(&mut self.told, true) {
                        warn!(sink.name = %facts.name, reason, "its initial backfill cannot begin yet; trying again");
                    }
                }
            }
        }
        self.due = Some(Instant::now() + Duration::from_secs(9));
        again.then(|| {
            self.due = None;
            Instant::now() + RETRY
        })
    }

    async fn begin(
        &self,
        sink: &Facts,
        initial: &Initial,
        tables: &mut Option<Vec<Named>>,
    ) -> Result<(), String> {
        let store = self.backfills.store();
        let known = store.begun(&sink.name).await.map_err(|error| error.to_string())?;
        let is_new = known.is_none();
        let wants_any = is_new && initial.tables != InitialTables::None;
        let mut fresh: Vec<Name> = Vec::new();
        let mut wanted: Vec<Wanted> = Vec::new();
        if wants_any || initial.later {
            if tables.is_none() {
                let found = self.catalog.tables().await.map_err(|error| error.to_string())?;
                *tables = Some(found);
            }
            let known: HashSet<Name> = known.unwrap_or_default().into_iter().collect();
            for table in tables.iter().flatten().filter(|table| takes(sink, table)) {
                let name = (Arc::clone(&table.schema), Arc::clone(&table.table));
                if known.contains(&name) {
                    continue;
                }
                if is_new {
                    wanted.extend(of(&initial.tables, table));
                } else {
                    info!(sink.name = %sink.name, schema = %table.schema, table = %table.table, "a table is new to the sink");
                    wanted.push(whole(table));
                }
                fresh.push(name);
            }
            if is_new {
                tell_missing(sink, &initial.tables, &wanted);
            }
        }
        if !is_new && fresh.is_empty() {
            return Ok(());
        }
        let new = |wanted| self.backfills.record(sink, wanted, initial.limits);
        let records: Vec<_> = wanted.into_iter().map(new).collect();
        store
            .begin(self.backfills.epoch(), &sink.name, fresh, records.clone())
            .await
            .map_err(|error| error.to_string())?;
        for record in records {
            let Wanted { schema, table, .. } = &record.wanted;
            info!(sink.name = %sink.name, %schema, %table, backfill = %record.id, "a backfill begins");
            self.backfills.add(record);
        }
        Ok(())
    }
}

/// Whether it is one that the sink reads as a whole: a partition is read with the table above it.
fn takes(sink: &Facts, table: &Named) -> bool {
    let relation = super::relation_of(table.oid, &table.schema, &table.table);
    let is_chosen = sink.selection.choice(&relation) == Choice::Wanted;
    let by_name = matches!(&sink.selection.tables.tables, crate::select::Names::Only(_));
    is_chosen && (!table.is_partition || by_name)
}

fn whole(table: &Named) -> Wanted {
    let (schema, name) = (Arc::clone(&table.schema), Arc::clone(&table.table));
    Wanted { schema, table: name, ranges: 1, ..Wanted::default() }
}

fn is_it(asked: &InitialTable, table: &Named) -> bool {
    asked.table.is_of(&super::relation_of(table.oid, &table.schema, &table.table))
}

fn of(tables: &InitialTables, table: &Named) -> Option<Wanted> {
    match tables {
        InitialTables::None => None,
        InitialTables::All => Some(whole(table)),
        InitialTables::Some(some) => {
            let asked = some.iter().find(|asked| is_it(asked, table))?;
            let (sort_column, from) = asked.from.clone().unzip();
            Some(Wanted { sort_column, from: from.flatten(), ..whole(table) })
        }
    }
}

/// What was asked for and is not there is said: nothing comes of it.
fn tell_missing(sink: &Facts, tables: &InitialTables, wanted: &[Wanted]) {
    let InitialTables::Some(some) = tables else { return };
    for asked in some {
        let Table::Named { schema, table } = &asked.table else { continue };
        let is_wanted = |wanted: &Wanted| *wanted.schema == **schema && *wanted.table == **table;
        if !wanted.iter().any(is_wanted) {
            error!(
                sink.name = %sink.name, schema, table, code = "backfill_table_missing",
                "there is no such table among those of the sink: it is not backfilled; start it by \
                 hand once it is there"
            );
        }
    }
}
