//! What goes by another name than what runs (`moved`): compared as the same thing, and renamed in what
//! is kept before the engine runs it under its new name.
//!
//! One transaction has the names, the configuration that was applied, the generations of bindings and
//! what is to run. A kill before it leaves the old names and the old configuration; behind it, the new
//! ones of both. The engine's own file is not kept: at a start its entries are held against what ran
//! last, which is in the same transaction, so each is done once.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use config::Spec;
use config::moved::{self, Moved};
use config::portable::Id;
use config::spec::{FunctionKind, resource_of};
use engine::moved::{MovedSink, Moving, Names, NotMoved};
use model::versions::{Deed, VersionsError};
use store::{Embedded, Rename, Renamed, Renames};
use tracing::{info, warn};

use web::ConfigRefused;

use super::apply::refused;
use super::{Ready, Reloader, now_us, record};
use crate::bindings::Known;
use crate::plan::{self, Change, Loaded, Plan};
use crate::settings::environment;

/// The code of an entry whose old and new name both run.
pub(super) const BOTH: &str = "moved_both";

/// What a text renames of what runs.
///
/// # Errors
/// Old and new name of something both run.
pub(super) fn due(text: &str, spec: &Spec) -> Result<Vec<Moved>, String> {
    let runs = ran(spec).into_iter().map(|(kind, name)| Id { kind, name }).collect();
    moved::due(&entries(text), &runs)
}

/// The entries of a text, with those of what runs as a sink under another name.
fn entries(text: &str) -> Vec<Moved> {
    let mut moved = moved::of("sequin.yaml", text, &environment);
    for it in moved.iter_mut().filter(|it| it.from.kind == "change_retention") {
        for id in [&mut it.from, &mut it.to] {
            *id = Id::new("sink", &id.sink());
        }
    }
    moved
}

/// The id of a sink of this name, as the configuration gives it.
fn sink_id(name: &str) -> String {
    let (kind, name) = resource_of(name);
    Id::new(kind, name).uuid()
}

/// All that runs and is kept by its name, by kind and name.
pub(crate) fn ran(spec: &Spec) -> BTreeSet<(String, String)> {
    let sinks = spec.sinks.iter().map(|it| ("sink", &it.name));
    let functions = spec.functions.iter().map(|it| ("function", &it.name));
    let databases = spec.databases.iter().map(|it| ("database", &it.name));
    let all = sinks.chain(functions).chain(databases);
    all.map(|(kind, name)| (kind.to_owned(), name.clone())).collect()
}

/// Before anything of the engine's own configuration runs: what it renames of what ran last.
///
/// # Errors
/// Old and new name of something both ran, or the store fails.
pub(crate) async fn at_start(store: &Embedded, text: &str) -> Result<(), VersionsError> {
    let moved = entries(text);
    if moved.is_empty() {
        return Ok(());
    }
    let ran = store.ran().await?;
    let ids = ran.iter().map(|(kind, name)| Id { kind: kind.clone(), name: name.clone() });
    let due = moved::due(&moved, &ids.collect());
    let due = due.map_err(|what| VersionsError::refused(BOTH, what))?;
    if due.is_empty() {
        return Ok(());
    }
    let now = |(kind, name): (String, String)| {
        let id = Id { kind, name };
        let to = due.iter().find(|it| it.from == id).map_or(&id, |it| &it.to);
        (to.kind.clone(), to.name.clone())
    };
    let ran = ran.into_iter().map(now).collect();
    let renames = Renames { renames: renames(&due), ran, deed: deed(&due), ..Renames::default() };
    store.rename(store.epoch(), renames).await?;
    info!(what = told(&due), "renamed, with what is kept of it");
    Ok(())
}

/// What is to be renamed, for the store. References are kept nowhere.
fn renames(due: &[Moved]) -> Vec<Rename> {
    let named = |id: &Id| {
        let uuid = if id.kind == "sink" { sink_id(&id.name) } else { id.uuid() };
        (id.name.clone(), uuid)
    };
    let all = due.iter().filter_map(|Moved { from, to }| {
        let what = match from.kind.as_str() {
            "sink" => Renamed::Sink,
            "function" => Renamed::Function,
            "database" => Renamed::Database,
            _ => return None,
        };
        Some(Rename { what, from: named(from), to: named(to) })
    });
    all.collect()
}

fn told(due: &[Moved]) -> String {
    let all: Vec<String> =
        due.iter().map(|it| format!("{} to `{}`", it.from, it.to.name)).collect();
    all.join(", ")
}

fn deed(due: &[Moved]) -> Deed {
    Deed {
        at_us: now_us(),
        by: "sequin.yaml".to_owned(),
        what: "rename".to_owned(),
        subject: "the configuration".to_owned(),
        detail: told(due),
        ..Deed::default()
    }
}

/// The name that something has by now.
fn name(due: &[Moved], kind: &str, name: &mut String) {
    let is_it = |it: &&Moved| it.from.kind == kind && it.from.name == *name;
    if let Some(it) = due.iter().find(is_it) {
        name.clone_from(&it.to.name);
    }
}

/// What ran, as if it had had the new names.
pub(super) fn renamed<'a>(due: &[Moved], loaded: &'a Loaded) -> Cow<'a, Loaded> {
    if due.is_empty() {
        return Cow::Borrowed(loaded);
    }
    let mut all = loaded.clone();
    for database in &mut all.spec.databases {
        name(due, "database", &mut database.name);
        database.id = Id::new("database", &database.name).uuid();
    }
    for function in &mut all.spec.functions {
        name(due, "function", &mut function.name);
        if let FunctionKind::Plugin(plugin) = &mut function.kind
            && let Some(lookup) = &mut plugin.grants.lookup
        {
            name(due, "database", &mut lookup.database);
        }
    }
    for sink in &mut all.spec.sinks {
        name(due, "sink", &mut sink.name);
        sink.id = sink_id(&sink.name);
        name(due, "database", &mut sink.database);
        for chain in [&mut sink.filters, &mut sink.routers, &mut sink.transforms] {
            chain.iter_mut().for_each(|function| name(due, "function", function));
        }
        for enrichment in &mut sink.enrichments {
            name(due, "function", &mut enrichment.function);
        }
    }
    let keyed = |kind, mut key: String| {
        name(due, kind, &mut key);
        key
    };
    let digests = std::mem::take(&mut all.digests).into_iter();
    all.digests = digests.map(|(key, it)| (keyed("function", key), it)).collect();
    let faults = std::mem::take(&mut all.faults).into_iter();
    all.faults = faults.map(|(key, it)| (keyed("sink", key), it)).collect();
    let chains = std::mem::take(&mut all.chains).into_iter();
    all.chains = chains
        .map(|(mut key, mut chain)| {
            name(due, "sink", &mut key.sink);
            chain.links.iter_mut().for_each(|link| name(due, "function", &mut link.function));
            (key, chain)
        })
        .collect();
    Cow::Owned(all)
}

/// What is kept of bindings, as if it had been renamed already.
pub(super) fn known(due: &[Moved], mut known: Known) -> Known {
    if due.is_empty() {
        return known;
    }
    let mut all = std::mem::take(&mut known.bindings);
    for gone in due.iter().filter(|it| it.to.kind == "sink") {
        // Of another sink that had the name: it gives way.
        all.retain(|key, _| key.sink != gone.to.name);
    }
    known.bindings = all
        .into_iter()
        .map(|(mut key, mut binding)| {
            name(due, "sink", &mut key.sink);
            let links = &mut binding.current.links;
            links.iter_mut().for_each(|link| name(due, "function", &mut link.function));
            binding.name = key.clone();
            (key, binding)
        })
        .collect();
    known
}

/// What is other than what runs, names among it.
pub(super) fn diff(due: &[Moved], old: &Loaded, new: &Loaded) -> Plan {
    let mut plan = plan::diff(&renamed(due, old), new);
    for Moved { from, to } in due {
        let changes = match from.kind.as_str() {
            "sink" => &mut plan.sinks,
            "function" => &mut plan.functions,
            "database" => &mut plan.databases,
            _ => continue,
        };
        let change = changes.entry(to.name.clone()).or_insert(Change::Changed(Vec::new()));
        if let Change::Changed(what) = change {
            what.insert(0, format!("name `{}` → `{}`", from.name, to.name));
        }
        if from.kind == "sink" && !plan.restarted.contains(&to.name) {
            plan.restarted.push(to.name.clone());
        }
    }
    plan
}

/// What whoever asked is told.
pub(super) fn not_moved(error: &NotMoved) -> ConfigRefused {
    match error {
        NotMoved::Busy(what) => refused(409, "busy", what.clone()),
        NotMoved::NotRecorded(_) => refused(503, "store_unavailable", error.to_string()),
    }
}

/// What is to be renamed before it runs.
pub(super) struct Due {
    pub(super) moved: Vec<Moved>,
    pub(super) renames: Renames,
}

impl Due {
    /// None if nothing that is kept goes by another name. `known` has the new names.
    pub(super) fn new(moved: Vec<Moved>, known: &Known, loaded: &Loaded) -> Option<Self> {
        let renames = renames(&moved);
        (!renames.is_empty()).then(|| {
            let made = super::made(known, loaded, now_us());
            let (ran, deed) = (ran(&loaded.spec), deed(&moved));
            let renames = Renames { renames, made, ran, deed, applied: None };
            Self { moved, renames }
        })
    }

    /// The databases whose slots write under one of the names, as they were called.
    pub(super) fn stopped(&self, ran: &Loaded) -> BTreeSet<String> {
        let is_moved = |kind: &str, name: &str| {
            self.moved.iter().any(|it| it.from.kind == kind && it.from.name == name)
        };
        let sinks = ran.spec.sinks.iter().filter(|sink| {
            is_moved("sink", &sink.name) || sink.functions().any(|it| is_moved("function", it))
        });
        let databases = ran.spec.databases.iter().filter(|it| is_moved("database", &it.name));
        let names = databases.map(|it| &it.name).chain(sinks.map(|it| &it.database));
        names.cloned().collect()
    }

    /// The same databases, by their names from now on.
    pub(super) fn begun(&self, ran: &Loaded) -> BTreeSet<String> {
        let now = |mut stopped: String| {
            name(&self.moved, "database", &mut stopped);
            stopped
        };
        self.stopped(ran).into_iter().map(now).collect()
    }

    fn names(&self) -> Names {
        let of = |kind: &str| {
            let all = self.moved.iter().filter(|it| it.from.kind == kind);
            let all = all.map(|it| (it.from.name.as_str().into(), it.to.name.as_str().into()));
            all.collect::<Vec<(Arc<str>, Arc<str>)>>()
        };
        let sinks = of("sink").into_iter().map(|(from, to)| {
            let id = sink_id(&to).into();
            MovedSink { from, to, id }
        });
        let sinks = sinks.collect();
        Names { sinks, functions: of("function"), databases: of("database") }
    }

    /// What the engine is asked for, of what runs and is to run.
    pub(super) fn moving(self, store: &Arc<Embedded>, old: &Loaded, new: &Loaded) -> Moving {
        let stop = self.stopped(old).iter().map(|it| it.as_str().into()).collect();
        let names = self.names();
        let (store, new, renames) = (Arc::clone(store), new.clone(), self.renames);
        let record = async move {
            let renamed = store.rename(store.epoch(), renames).await;
            renamed.map_err(|error| error.to_string())?;
            // Holds are under their new names by now. Bindings went with the names.
            let noted = match Known::read(&store).await {
                Ok(known) => record(&store, &known, &new).await,
                Err(error) => Err(error),
            };
            if let Err(error) = noted {
                warn!(%error, "what became of holds is not recorded: the next edit or start does it");
            }
            Ok(())
        };
        Moving { stop, names, record: Box::new(|| Box::pin(record)) }
    }
}

impl Reloader {
    /// What is other in what was built than in what runs.
    pub(super) fn plan(&self, ready: &Ready) -> Plan {
        let due = ready.due.as_ref().map_or(&[][..], |due| &due.moved);
        diff(due, &self.loaded, &ready.loaded)
    }

    /// Has the engine run this, under its new names where it has some.
    pub(super) async fn hand_over(
        &self,
        ready: &mut Ready,
    ) -> Result<Result<(), NotMoved>, engine::run::Stopped> {
        let slots = std::mem::take(&mut ready.slots);
        let Some(due) = ready.due.take() else {
            // So that the next start knows what ran.
            let runs = self.store.runs(self.store.epoch(), ran(&ready.loaded.spec)).await;
            if let Err(error) = runs {
                warn!(%error, "what runs is not recorded: the next start may not know what was renamed");
            }
            return self.handle.apply(slots).await.map(Ok);
        };
        let what = told(&due.moved);
        let moving = due.moving(&self.store, &self.loaded, &ready.loaded);
        let done = self.handle.apply_moved(slots, moving).await?;
        if done.is_ok() {
            info!(what, "renamed, with what is kept of it");
        }
        Ok(done)
    }
}
