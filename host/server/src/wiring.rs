//! From the configuration to what the engine runs: clients are built, components compiled.
//!
//! Nothing is sent anywhere here, and everything that is wrong is told at once.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use config::Spec;
use config::spec::{
    self, Component, CreatePublication, Database, Destination, FunctionKind, GroupScope, Role,
    Sink, Status, TableEnrichment,
};
use engine::grouping::{GroupColumns, Grouping, Scope};
use engine::spec::{SinkSpec, SlotSpec};
use model::enrich::Enrich;
use model::envelope::{self, Envelope};
use model::lookup::Lookup;
use model::plugin::Plugin;
use sha2::{Digest as _, Sha256};
use sinks::Batching;
use tracing::warn;

use crate::components::Components;

/// Where compiled plugins are kept, in the data directory.
const COMPILED: &str = "compiled-plugins";

/// Builds what is to run, as often as the configuration changes.
pub(crate) struct Wiring {
    data_dir: PathBuf,
    guard: sinks::Guard,
    /// The sandbox is one per process; made when the first function asks for it.
    host: Mutex<Option<Arc<plugin::Host>>>,
}

/// What was built.
pub(crate) struct Built {
    pub(crate) slots: Vec<SlotSpec>,
    /// The digest of each function's component.
    pub(crate) digests: BTreeMap<String, String>,
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
        Self { data_dir: data_dir.to_owned(), guard, host: Mutex::default() }
    }

    /// Builds what the spec describes.
    ///
    /// # Errors
    /// Everything that is wrong, a line each.
    pub(crate) fn build(&self, spec: &Spec) -> Result<Built, String> {
        build(spec, self)
    }

    /// The one function of this configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn function(&self, spec: &Spec) -> Result<Arc<dyn Plugin>, String> {
        let mut wrong = Vec::new();
        let built = plugins(spec, self, &mut wrong).into_values().next();
        built.ok_or_else(|| wrong.join("; "))
    }

    fn host(&self) -> Result<Arc<plugin::Host>, plugin::Error> {
        let mut kept = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = &*kept {
            return Ok(Arc::clone(host));
        }
        let host = Arc::new(host(&self.data_dir)?);
        *kept = Some(Arc::clone(&host));
        Ok(host)
    }
}

fn build(spec: &Spec, wiring: &Wiring) -> Result<Built, String> {
    let mut wrong = Vec::new();
    let plugins = plugins(spec, wiring, &mut wrong);
    let sinks = match sinks::Builder::new(wiring.guard) {
        Ok(builder) => Some(builder),
        Err(error) => {
            wrong.push(error.to_string());
            None
        }
    };
    let mut slots = Vec::new();
    for database in &spec.databases {
        // One session for all sinks of the database, opened when the first of them asks.
        let lookup: Arc<dyn Lookup> = Arc::new(postgres::Lookup::new(source(database)));
        let of_database = spec.sinks.iter().filter(|sink| sink.database == database.name);
        let running = of_database.filter(|sink| sink.status != Status::Disabled);
        let mut specs = Vec::new();
        for sink in running {
            let Some(builder) = &sinks else { continue };
            let lookup = sink.fetch_unchanged.then(|| Arc::clone(&lookup));
            match sink_spec(builder, database, sink, &plugins, lookup) {
                Ok(sink) => specs.push(sink),
                Err(error) => wrong.push(format!("sink `{}`: {error}", sink.name)),
            }
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
    if wrong.is_empty() {
        let digest = |(name, plugin): (&String, &Arc<dyn Plugin>)| {
            (name.clone(), plugin.digest().to_owned())
        };
        let digests = plugins.iter().map(digest).collect();
        Ok(Built { slots, digests })
    } else {
        Err(wrong.iter().map(|line| format!("error: {line}\n")).collect())
    }
}

/// Loads each component and binds it to its configuration.
fn plugins(
    spec: &Spec,
    wiring: &Wiring,
    wrong: &mut Vec<String>,
) -> HashMap<String, Arc<dyn Plugin>> {
    let mut plugins = HashMap::new();
    if spec.functions.is_empty() {
        return plugins;
    }
    let host = match wiring.host() {
        Ok(host) => host,
        Err(error) => {
            wrong.push(error.to_string());
            return plugins;
        }
    };
    let mut components = Components::new(&spec.plugin_dir);
    for function in &spec.functions {
        let FunctionKind::Plugin(given) = &function.kind else { continue };
        let role = match given.role {
            Role::Filter => plugin::Role::Filter,
            Role::Transform => plugin::Role::Transform,
            Role::Route => plugin::Role::Route,
        };
        let name = &function.name;
        let found = match components.find(&given.component) {
            Ok(found) => found,
            Err(error) => {
                wrong.push(format!("function `{name}`: {error}"));
                continue;
            }
        };
        let loaded = host.load(&found.bytes).and_then(|program| {
            host.bind(name, &program, role, &given.sink_type, &given.config_json)
        });
        match loaded {
            Ok(plugin) => {
                plugins.insert(name.clone(), plugin);
            }
            Err(error) => {
                let file = found.path.display();
                wrong.push(format!("function `{name}`, file {file}: {error}"));
            }
        }
    }
    plugins
}

/// A restart does not compile again what was compiled before. That is only for speed, so without a
/// place to keep it the engine starts all the same, more slowly.
fn host(data_dir: &Path) -> Result<plugin::Host, plugin::Error> {
    let new = || plugin::Host::new(plugin::Limits::default());
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

fn sink_spec(
    builder: &sinks::Builder,
    database: &Database,
    sink: &Sink,
    plugins: &HashMap<String, Arc<dyn Plugin>>,
    lookup: Option<Arc<dyn Lookup>>,
) -> anyhow::Result<SinkSpec> {
    let batching = Batching { messages_max: sink.batch_size, linger: sink.batch_timeout };
    let built = match &sink.destination {
        Destination::Webhook(options) => builder.webhook(options.clone(), batching)?,
        Destination::Typesense(options) => builder.typesense(options.clone(), batching)?,
        Destination::SequinStream(options) => sinks::sequin_stream(options, fastrand::u64(..)),
        Destination::File(options) => sinks::file(options.clone(), batching),
        Destination::Stdout(_) => sinks::stdout(batching),
        Destination::Benchmark(_) => sinks::benchmark(batching),
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
    // A name that could not be loaded was told already, and nothing is started then.
    let chain = |names: &[String]| {
        names.iter().filter_map(|name| plugins.get(name)).map(Arc::clone).collect()
    };
    // A session for each: one that is slow holds back none of the others.
    let enrichment = |given: &TableEnrichment| {
        let (name, sql) = (given.function.as_str(), given.sql.as_str());
        let enrich = postgres::Enrichment::new(source(database), name, sql);
        (given.table.clone(), Arc::new(enrich) as Arc<dyn Enrich>)
    };
    let enrichments = sink.enrichments.iter().map(enrichment).collect();
    Ok(SinkSpec {
        id: sink.id.as_str().into(),
        name: sink.name.as_str().into(),
        revision: 0,
        config: config_hash(sink, plugins),
        selection: sink.selection.clone(),
        lookup,
        enrichments,
        filters: chain(&sink.filters),
        routers: chain(&sink.routers),
        transforms: chain(&sink.transforms),
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
    })
}

/// The same for the same configuration and components, also after a restart of this version. It says
/// nothing of secrets: they are not shown here.
fn config_hash(sink: &Sink, plugins: &HashMap<String, Arc<dyn Plugin>>) -> Arc<str> {
    let mut hash = Sha256::new();
    // Pausing is not another configuration.
    hash.update(format!("{:?}", Sink { status: Status::Active, ..sink.clone() }));
    for name in [&sink.filters, &sink.routers, &sink.transforms].into_iter().flatten() {
        hash.update(plugins.get(name).map_or("", |plugin| plugin.digest()));
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

/// How the database is reached, and its primary.
pub(crate) fn source(database: &Database) -> postgres::Options {
    let mut options = server(database);
    options.primary = database.primary.as_ref().map(|primary| {
        let spec::Server { hostname, port, more_hosts, database: name, username, password, tls } =
            primary.clone();
        Box::new(server(&Database {
            hostname,
            port,
            more_hosts,
            database: name,
            username,
            password,
            tls,
            ..database.clone()
        }))
    });
    options
}

fn server(database: &Database) -> postgres::Options {
    let mut options = postgres::Options::new(
        &database.hostname,
        &database.username,
        &database.database,
        &database.slot.name,
        &database.publication.name,
    );
    options.port = database.port;
    let more = database.more_hosts.iter();
    let more = more.map(|(host, port)| postgres::Address { host: host.clone(), port: *port });
    options.more_hosts = more.collect();
    let password = database.password.reveal();
    options.password = (!password.is_empty()).then(|| postgres::Password::new(password));
    options.tls = tls(&database.tls);
    options.slot_create = database.slot.create;
    options.slot_failover = database.slot.failover;
    options.origin = match database.slot.origin {
        spec::Origin::Any => postgres::Origin::Any,
        spec::Origin::None => postgres::Origin::None,
    };
    options.heartbeat = database.heartbeat;
    options.publication_create = database.publication.create.as_ref().map(|create| match create {
        CreatePublication::AllTables { via_partition_root } => {
            postgres::Create::AllTables { via_partition_root: *via_partition_root }
        }
        CreatePublication::Sql(sql) => postgres::Create::Sql(sql.clone()),
    });
    options
}

fn tls(tls: &spec::Tls) -> postgres::Tls {
    postgres::Tls {
        mode: match tls.mode {
            spec::SslMode::Disable => postgres::SslMode::Disable,
            spec::SslMode::Prefer => postgres::SslMode::Prefer,
            spec::SslMode::Require => postgres::SslMode::Require,
            spec::SslMode::VerifyCa => postgres::SslMode::VerifyCa,
            spec::SslMode::VerifyFull => postgres::SslMode::VerifyFull,
        },
        roots: tls.roots.as_ref().map(|roots| match roots {
            spec::Roots::System => postgres::Roots::System,
            spec::Roots::File(path) => postgres::Roots::File(path.clone()),
        }),
        client: tls.client.as_ref().map(|client| postgres::ClientCertificate {
            certificate: client.certificate.clone(),
            key: client.key.clone(),
        }),
        channel_binding: match tls.channel_binding {
            spec::ChannelBinding::Disable => postgres::ChannelBinding::Disable,
            spec::ChannelBinding::Prefer => postgres::ChannelBinding::Prefer,
            spec::ChannelBinding::Require => postgres::ChannelBinding::Require,
        },
    }
}
