//! From the configuration to what the engine runs: clients are built, components compiled.
//!
//! Nothing is sent anywhere here. What cannot be built as the surroundings are (a component that is not
//! there, an address that is not allowed) is the fault of the sinks that need it, and of no others.

mod policy;
mod source;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use config::Spec;
use config::spec::{
    self, Component, Database, Destination, FunctionKind, GroupScope, Role, Sink, Status,
    TableEnrichment,
};
use engine::grouping::{GroupColumns, Grouping, Scope};
use engine::spec::{SinkSpec, SlotSpec};
use engine::status::Fault;
use model::conditions::Conditions;
use model::enrich::Enrich;
use model::envelope::{self, Envelope};
use model::grants::{Capability, Grants};
use model::lookup::Lookup;
use model::plugin::Plugin;
use model::versions::{BindingName, Link};
use plugin::{Metering, Own, Terms};
use sha2::{Digest as _, Sha256};
use sinks::Batching;
use tokio::runtime::Handle;
use tracing::warn;

use crate::bindings::{self, Chain, Chains, Known};
use crate::components::Components;
use crate::tables::Reads;
use crate::{grants, signatures};
use policy::with_policy;
pub(crate) use source::{change_table, source};

/// Where compiled plugins are kept, in the data directory.
const COMPILED: &str = "compiled-plugins";

/// Builds what is to run, as often as the configuration changes.
pub(crate) struct Wiring {
    data_dir: PathBuf,
    guard: sinks::Guard,
    /// Where plugins have their questions answered that go beyond this machine; none if nothing runs.
    runtime: Option<Handle>,
    /// Whether what guests do is counted.
    counts_fuel: bool,
    /// The sandbox is one per process; made when the first function asks for it.
    host: Mutex<Option<Arc<plugin::Host>>>,
}

/// Where a plugin runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// With the others.
    Usual,
    /// Where it takes nothing from the others.
    Aside,
}

/// What was built.
pub(crate) struct Built {
    pub(crate) slots: Vec<SlotSpec>,
    /// The digest of each function's component.
    pub(crate) digests: BTreeMap<String, String>,
    /// What the sinks run.
    pub(crate) chains: Chains,
    /// Sinks that cannot be started, by name.
    pub(crate) faults: BTreeMap<String, Fault>,
    /// What the sinks' plugins read.
    pub(crate) reads: Reads,
    /// What is wrong and hinders no sink.
    pub(crate) warnings: Vec<String>,
}

/// What is wrong with functions, by name.
type Wrong = BTreeMap<String, String>;

/// The code of a sink whose plugin cannot be used.
const PLUGIN: &str = "plugin_unusable";

/// The code of a sink whose destination cannot be used.
const DESTINATION: &str = "destination_unusable";

/// What to do about either.
const HELP: &str = "once that is mended it starts by itself, with all that it missed: it is tried again \
                    when the configuration or a component changes, on SIGHUP, and every few minutes";

/// A function's component, ready to run.
#[derive(Clone)]
struct Ready {
    link: Link,
    plugin: Arc<dyn Plugin>,
    /// Granted, and not wanted.
    unused: Vec<Capability>,
}

/// The files and directories that hold the components of a configuration: a change there is a change
/// of it. Certificates are not among them: they are read anew with each connection.
pub(crate) fn files(spec: &Spec) -> Vec<PathBuf> {
    let file = |function: &spec::Function| match &function.kind {
        FunctionKind::Plugin(plugin) => Some(match &plugin.component {
            Component::File(path) => path.clone(),
            Component::Named { .. } | Component::Digest(_) => spec.plugin_dir.clone(),
        }),
        FunctionKind::Path(_) | FunctionKind::Enrichment(_) => None,
    };
    spec.functions.iter().filter_map(file).collect()
}

impl Wiring {
    pub(crate) fn new(data_dir: &Path, guard: sinks::Guard) -> Self {
        let (data_dir, host) = (data_dir.to_owned(), Mutex::default());
        Self { data_dir, guard, runtime: None, counts_fuel: false, host }
    }

    /// As it is run.
    pub(crate) fn with_runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// As its operator says (`SEQUIN_PLUGIN_FUEL`).
    pub(crate) fn counting_fuel(mut self, counts_fuel: bool) -> Self {
        self.counts_fuel = counts_fuel;
        self
    }

    /// Builds what the spec describes.
    pub(crate) fn build(&self, spec: &Spec, known: &Known) -> Built {
        build(spec, self, known)
    }

    /// The one function of this configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn function(
        &self,
        spec: &Spec,
        known: &Known,
        place: Place,
    ) -> Result<Arc<dyn Plugin>, String> {
        let (plugins, wrong) = plugins(spec, self, known, place);
        let built = plugins.into_values().next().map(|ready| ready.plugin);
        let why = || wrong.into_values().next();
        built.ok_or_else(|| why().unwrap_or_else(|| "there is no such plugin".to_owned()))
    }

    fn grants(
        &self,
        name: &str,
        given: &spec::Plugin,
        spec: &Spec,
        known: &Known,
    ) -> Result<Grants, String> {
        grants::grants(name, &given.grants, spec, known, self.guard, self.runtime.as_ref())
    }

    fn host(&self) -> Result<Arc<plugin::Host>, plugin::Error> {
        let mut kept = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = &*kept {
            return Ok(Arc::clone(host));
        }
        let host = Arc::new(host(&self.data_dir, self.counts_fuel)?);
        *kept = Some(Arc::clone(&host));
        Ok(host)
    }
}

fn build(spec: &Spec, wiring: &Wiring, known: &Known) -> Built {
    let (mut plugins, wrong) = plugins(spec, wiring, known, Place::Usual);
    let mut chains = Chains::new();
    let sinks = sinks::Builder::new(wiring.guard);
    let (mut faults, mut reads) = (BTreeMap::new(), Reads::new());
    let mut slots = Vec::new();
    for database in &spec.databases {
        // One session for all sinks of the database, opened when the first of them asks.
        let lookup: Arc<dyn Lookup> = Arc::new(postgres::Lookup::new(source(database)));
        let of_database = spec.sinks.iter().filter(|sink| sink.database == database.name);
        let running = of_database.filter(|sink| sink.status != Status::Disabled);
        let mut specs = Vec::new();
        for sink in running {
            let lookup = sink.fetch_unchanged.then(|| Arc::clone(&lookup));
            let mut bound = Bound::default();
            let mut why = Vec::new();
            for role in model::versions::Role::ALL {
                let name = BindingName { sink: sink.name.clone(), role };
                let missing = bindings::functions(sink, role).iter();
                let missing: Vec<_> = missing.filter_map(|name| wrong.get(name)).collect();
                let chain = if missing.is_empty() {
                    chain(&name, sink, &plugins, known)
                } else if let Some(held) = known.held(&name) {
                    // Whoever holds it needs nothing of what the file names.
                    held
                } else {
                    // What it ran stays on record as it was.
                    why.extend(missing.into_iter().cloned());
                    continue;
                };
                for link in &chain.links {
                    match ready(spec, wiring, known, &name, sink, link, &mut plugins) {
                        Ok(plugin) => bound.of(role).push(plugin),
                        Err(error) => why.push(format!("{name}: {error}")),
                    }
                }
                chains.insert(name, chain);
            }
            if let Some(retention) = sink.retention()
                && !retention.conditions.is_empty()
            {
                bound.filters.push(Arc::new(Conditions::new(retention.conditions.clone())));
            }
            why.dedup();
            let read = bound.of_the_source().flat_map(|plugin| plugin.reads());
            reads.insert(sink.name.clone(), read.collect());
            let no_plugin = (!why.is_empty()).then(|| unusable(PLUGIN, why.join("; ")));
            let sink = sink_spec(&sinks, database, sink, (bound, no_plugin), lookup);
            if let Some(fault) = &sink.fault {
                faults.insert(sink.name.to_string(), fault.clone());
            }
            specs.push(sink);
        }
        let connect = Arc::new(postgres::Connector::new(source(database)));
        slots.push(SlotSpec {
            name: database.slot.name.as_str().into(),
            database: database.name.as_str().into(),
            revision: 0,
            on_mismatch: match database.slot.on_mismatch {
                spec::OnMismatch::Fail => engine::spec::OnMismatch::Fail,
                spec::OnMismatch::ContinueFromSlot => engine::spec::OnMismatch::ContinueFromSlot,
            },
            connect,
            backfill: Some(engine::backfill::Source {
                tables: Arc::new(tables(database)),
                catalog: Arc::new(postgres::Published::new(source(database))),
            }),
            sinks: specs,
        });
    }
    let of_spec = plugins.iter().filter_map(|(key, ready)| match key {
        Key::Function(name) => Some((name.clone(), ready.link.digest.clone())),
        Key::Link(..) => None,
    });
    let digests = of_spec.collect();
    let used = |name: &str| spec.sinks.iter().any(|sink| sink.functions().any(|used| used == name));
    let unused = wrong.into_iter().filter(|(name, _)| !used(name));
    let mut warnings: Vec<String> = unused.map(|(_, why)| why).collect();
    warnings.extend(idle_grants(&plugins));
    Built { slots, digests, chains, faults, reads, warnings }
}

fn idle_grants(plugins: &Plugins) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (key, Ready { unused, .. }) in plugins {
        if let (Key::Function(name), false) = (key, unused.is_empty()) {
            let names: Vec<&str> = unused.iter().map(|it| it.as_str()).collect();
            let names = names.join(", ");
            all.push(format!(
                "function `{name}` is granted {names}, which its plugin does not want"
            ));
        }
    }
    all.sort();
    all
}

fn unusable(code: &'static str, message: String) -> Fault {
    Fault { code, message, help: HELP.to_owned() }
}

/// The plugins of one sink.
#[derive(Default)]
struct Bound {
    filters: Vec<Arc<dyn Plugin>>,
    routers: Vec<Arc<dyn Plugin>>,
    transforms: Vec<Arc<dyn Plugin>>,
}

impl Bound {
    fn of(&mut self, role: model::versions::Role) -> &mut Vec<Arc<dyn Plugin>> {
        match role {
            model::versions::Role::Filter => &mut self.filters,
            model::versions::Role::Route => &mut self.routers,
            model::versions::Role::Transform => &mut self.transforms,
        }
    }

    /// Those that are shown rows as the source has them: what a transform sets, the ones behind it read.
    fn of_the_source(&self) -> impl Iterator<Item = &Arc<dyn Plugin>> {
        self.filters.iter().chain(&self.routers).chain(self.transforms.first())
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn Plugin>> {
        self.filters.iter().chain(&self.routers).chain(&self.transforms)
    }
}

/// What was bound already.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// As the spec has it, by its name.
    Function(String),
    /// As a hold has it, for a role and a kind of destination.
    Link(Link, plugin::Role, String),
}

type Plugins = HashMap<Key, Ready>;

/// What a sink runs for a role. A function that could not be loaded was told already.
fn chain(name: &BindingName, sink: &Sink, plugins: &Plugins, known: &Known) -> Chain {
    let wanted = bindings::functions(sink, name.role).iter();
    let wanted = wanted.filter_map(|function| plugins.get(&Key::Function(function.clone())));
    known.decide(name, wanted.map(|ready| ready.link.clone()).collect())
}

/// The plugin of a link: the spec's function, or what somebody holds in its place.
fn ready(
    spec: &Spec,
    wiring: &Wiring,
    known: &Known,
    name: &BindingName,
    sink: &Sink,
    link: &Link,
    plugins: &mut Plugins,
) -> Result<Arc<dyn Plugin>, String> {
    let function = Key::Function(link.function.clone());
    if let Some(ready) = plugins.get(&function).filter(|ready| ready.link == *link) {
        return Ok(Arc::clone(&ready.plugin));
    }
    let role = match name.role {
        model::versions::Role::Filter => plugin::Role::Filter,
        model::versions::Role::Route => plugin::Role::Route,
        model::versions::Role::Transform => plugin::Role::Transform,
    };
    // Only these can be routed.
    let sink_type = match (role, &sink.destination) {
        (plugin::Role::Route, Destination::Typesense(_)) => "typesense",
        (plugin::Role::Route, Destination::RedisStream(_)) => "redis_stream",
        (plugin::Role::Route, _) => "webhook",
        _ => "",
    };
    let key = Key::Link(link.clone(), role, sink_type.to_owned());
    if let Some(ready) = plugins.get(&key) {
        return Ok(Arc::clone(&ready.plugin));
    }
    let host = wiring.host().map_err(|error| error.to_string())?;
    let component = Component::Digest(link.digest.clone());
    let found = Components::new(&spec.plugin_dir, known).find(&component)?;
    signatures::check_found(spec.signatures.as_ref(), &component, &found, known)?;
    // What the configuration says of the function, whatever version of it runs.
    let given = given(spec, &link.function);
    let grants =
        given.map(|given| wiring.grants(&link.function, given, spec, known)).transpose()?;
    let function = &link.function;
    let limits = given.map(own).unwrap_or_default();
    let terms = Terms { grants: grants.unwrap_or_default(), limits };
    let loaded = host.load(&found.bytes).and_then(|program| {
        host.bind_granted(function, &program, role, sink_type, &link.config, terms)
    });
    let plugin = loaded.map_err(|error| format!("{}: {error}", found.whence))?.plugin;
    let plugin = with_policy(plugin, given.map(|given| given.on_error).unwrap_or_default());
    let unused = Vec::new();
    plugins.insert(key, Ready { link: link.clone(), plugin: Arc::clone(&plugin), unused });
    Ok(plugin)
}

fn own(given: &spec::Plugin) -> Own {
    let spec::PluginLimits { memory_bytes, batch_cpu, row_cpu } = given.limits;
    let memory_bytes_max = memory_bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    Own { memory_bytes_max, batch_cpu_max: batch_cpu, row_cpu_max: row_cpu }
}

fn given<'a>(spec: &'a Spec, function: &str) -> Option<&'a spec::Plugin> {
    match &spec.functions.iter().find(|known| known.name == function)?.kind {
        FunctionKind::Plugin(plugin) => Some(plugin),
        FunctionKind::Path(_) | FunctionKind::Enrichment(_) => None,
    }
}

/// Loads each component and binds it to its configuration.
fn plugins(spec: &Spec, wiring: &Wiring, known: &Known, place: Place) -> (Plugins, Wrong) {
    let (mut plugins, mut wrong) = (Plugins::new(), Wrong::new());
    let mut components = Components::new(&spec.plugin_dir, known);
    for function in &spec.functions {
        let FunctionKind::Plugin(given) = &function.kind else { continue };
        let name = &function.name;
        match load(spec, (name, given), (wiring, known, place), &mut components) {
            Ok(ready) => _ = plugins.insert(Key::Function(name.clone()), ready),
            Err(error) => _ = wrong.insert(name.clone(), format!("function `{name}`{error}")),
        }
    }
    (plugins, wrong)
}

/// # Errors
/// What is wrong, to be put behind the name of the function.
fn load(
    spec: &Spec,
    (name, given): (&str, &spec::Plugin),
    (wiring, known, place): (&Wiring, &Known, Place),
    components: &mut Components<'_>,
) -> Result<Ready, String> {
    let role = match given.role {
        Role::Filter => plugin::Role::Filter,
        Role::Transform => plugin::Role::Transform,
        Role::Route => plugin::Role::Route,
    };
    let host = wiring.host().map_err(|error| format!(": {error}"))?;
    let pinned = known.pins.get(name).cloned().map(Component::Digest);
    let component = pinned.as_ref().unwrap_or(&given.component);
    let found = components.find(component).and_then(|mut found| {
        if let Component::File(path) = &given.component {
            // Its signature is beside it, also where its bytes of before are meant.
            found.path = Some(path.clone());
        }
        signatures::check_found(spec.signatures.as_ref(), component, &found, known)?;
        Ok(found)
    });
    let found = found.map_err(|error| format!(": {error}"))?;
    let grants = wiring.grants(name, given, spec, known).map_err(|error| format!(": {error}"))?;
    let terms = Terms { grants, limits: own(given) };
    let loaded = host.load(&found.bytes).and_then(|program| {
        let (sink, config) = (&given.sink_type, &given.config_json);
        match place {
            Place::Usual => host.bind_granted(name, &program, role, sink, config, terms),
            Place::Aside => host.bind_aside(name, &program, role, sink, config, terms),
        }
    });
    let loaded = loaded.map_err(|error| format!(", {}: {error}", found.whence))?;
    let (plugin, unused) = (loaded.plugin, loaded.unused);
    let digest = plugin.digest().to_owned();
    if let Err(error) = known.keep(&digest, &found.bytes) {
        warn!(%error, function = name, "what runs now cannot be kept: nobody can go back to it later");
    }
    let link = Link { function: name.to_owned(), digest, config: given.config_json.clone() };
    Ok(Ready { link, plugin: with_policy(plugin, given.on_error), unused })
}

/// A restart does not compile again what was compiled before. That is only for speed, so without a
/// place to keep it the engine starts all the same, more slowly.
pub(crate) fn host(data_dir: &Path, counts_fuel: bool) -> Result<plugin::Host, plugin::Error> {
    let metering = if counts_fuel { Metering::EpochsAndFuel } else { Metering::Epochs };
    let new = || plugin::Host::new(plugin::Limits { metering, ..plugin::Limits::default() });
    // With the usual mode: only what is below must be ours alone. If it cannot be made, the store
    // says why.
    std::fs::create_dir_all(data_dir).ok();
    match new()?.with_cache(&data_dir.join(COMPILED)) {
        Err(error @ plugin::Error::Cache { .. }) => {
            warn!(%error, "plugins are compiled at each start");
            new()
        }
        host => host,
    }
}

/// What cannot be built of a sink is its fault; then what stands there is never run.
fn sink_spec(
    builder: &Result<sinks::Builder, sinks::BuildError>,
    database: &Database,
    sink: &Sink,
    (bound, no_plugin): (Bound, Option<Fault>),
    lookup: Option<Arc<dyn Lookup>>,
) -> SinkSpec {
    let batching = Batching { messages_max: sink.batch_size, linger: sink.batch_timeout };
    let (built, no_destination) = match destination(builder, sink, batching) {
        Ok(built) => (built, None),
        Err(error) => (sinks::benchmark(batching), Some(unusable(DESTINATION, error))),
    };
    let consumer =
        envelope::Consumer { id: &sink.id, name: &sink.name, annotations: &sink.annotations };
    let from = envelope::Database {
        id: &database.id,
        name: &database.name,
        annotations: &database.annotations,
        database: &database.database,
        hostname: &database.hostname,
    };
    // A session for each: one that is slow holds back none of the others.
    let enrichment = |given: &TableEnrichment| {
        let (name, sql) = (given.function.as_str(), given.sql.as_str());
        let enrich = postgres::Enrichment::new(source(database), name, sql);
        (given.table.clone(), Arc::new(enrich) as Arc<dyn Enrich>)
    };
    let enrichments = sink.enrichments.iter().map(enrichment).collect();
    SinkSpec {
        id: sink.id.as_str().into(),
        name: sink.name.as_str().into(),
        revision: 0,
        config: config_hash(sink, &bound),
        fault: no_plugin.or(no_destination),
        selection: sink.selection.clone(),
        lookup,
        enrichments,
        filters: bound.filters,
        routers: bound.routers,
        transforms: bound.transforms,
        path: sink.path.clone(),
        envelope: Envelope::new(&consumer, &from).with_timestamps(sink.timestamps),
        sink: built,
        grouping: grouping(sink),
        paused: sink.status == Status::Paused,
        backoff: sink.backoff,
        on_full: sink.on_full,
        attempts_max: sink.max_retry_count,
        rate_limit: sink.rate_limit,
        letter_limit: Some(sink.letter_limit),
        initial: sink.initial.clone(),
    }
}

/// # Errors
/// It cannot be built: what is wrong.
fn destination(
    builder: &Result<sinks::Builder, sinks::BuildError>,
    sink: &Sink,
    batching: Batching,
) -> Result<Arc<dyn model::sink::Sink>, String> {
    let builder = || builder.as_ref().map_err(ToString::to_string);
    Ok(match &sink.destination {
        Destination::Webhook(options) => {
            builder()?.webhook(options.clone(), batching).map_err(|error| error.to_string())?
        }
        Destination::Typesense(options) => {
            builder()?.typesense(options.clone(), batching).map_err(|error| error.to_string())?
        }
        Destination::RedisStream(options) => {
            sinks::redis_stream(options.clone(), batching).map_err(|error| error.to_string())?
        }
        Destination::Retention(retention) => Arc::new(change_table(retention, batching)),
        Destination::SequinStream(options) => sinks::sequin_stream(options, fastrand::u64(..)),
        Destination::File(options) => sinks::file(options.clone(), batching),
        Destination::Stdout(_) => sinks::stdout(batching),
        Destination::Benchmark(_) => sinks::benchmark(batching),
    })
}

/// The same for the same configuration and components, also after a restart of this version. It says
/// nothing of secrets: they are not shown here.
fn config_hash(sink: &Sink, bound: &Bound) -> Arc<str> {
    let mut hash = Sha256::new();
    // Pausing is not another configuration.
    hash.update(format!("{:?}", Sink { status: Status::Active, ..sink.clone() }));
    for plugin in bound.all() {
        hash.update(plugin.digest());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    hex.into()
}

fn grouping(sink: &Sink) -> Grouping {
    if !sink.message_grouping {
        return Grouping::Off;
    }
    let tables = sink
        .groups
        .iter()
        .map(|group| GroupColumns { table: group.table.clone(), columns: group.columns.clone() });
    let scope = match sink.group_scope {
        GroupScope::Table => Scope::Table,
        GroupScope::Sink => Scope::Sink,
    };
    Grouping::On { scope, tables: tables.collect() }
}

/// Whole tables of the database.
fn tables(database: &Database) -> postgres::Tables {
    let source = source(database);
    let primary = source.primary.as_deref().cloned();
    let tables = postgres::Tables::new(source, primary);
    // Of several hosts, the one that is read need not be the one that streams.
    if database.more_hosts.is_empty() { tables.of_the_stream() } else { tables }
}
