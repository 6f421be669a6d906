//! `sequin serve`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use engine::health::monitor::Monitor;
use engine::run::{Engine, Settings as EngineSettings, Stores};
use engine::spec::SlotSpec;
use engine::supervise::{Supervisor, TaskKind};
use model::versions::VersionsError;
use store::Embedded;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::Failure;
use crate::alerts::Alerts;
use crate::audit::Audit;
use crate::bindings::Known;
use crate::cli::ServeArguments;
use crate::config_source::{ConfigSource, Own};
use crate::configuring::Configuring;
use crate::memory;
use crate::platform::Platform;
use crate::reload::{self, Beside, Ready, Reloader};
use crate::rollouts;
use crate::settings::{self, Settings, environment};
use crate::telemetry;
use crate::tokens::Tokens;
use crate::versions;
use crate::wiring::Wiring;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// For requests under way after a stop. Kubernetes and most service managers kill after 30 s.
const DRAIN_DEADLINE: Duration = Duration::from_secs(25);

/// What is asked of bindings and waits for what was asked before.
const ASKS_MAX: usize = 8;

/// For writes to disks and pipes that did not end by themselves when everything else had stopped.
const LAST_WRITES: Duration = Duration::from_secs(1);

pub(crate) fn run(arguments: &ServeArguments) -> Result<(), Failure> {
    // All that is wrong is told at once: settings and configuration.
    let settings = Settings::read(&environment);
    let source = ConfigSource::find(arguments.config.as_deref(), &environment)
        .map_err(|reason| format!("error: {reason}\n"));
    let (mut settings, source) = match (settings, source) {
        (Ok(settings), Ok(source)) => (settings, source),
        (settings, source) => {
            let config = source.and_then(|source| source.read().map(drop));
            let wrong = [settings.err(), config.err()].into_iter().flatten().collect();
            return Err(Failure::Usage(wrong));
        }
    };
    telemetry::start(&mut settings);
    // Before anything is written: what is wrong with the text needs no state to be told.
    source.read().map_err(Failure::Usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("engine")
        .build()
        .context("start the runtime")?;
    let wiring = Wiring::new(&settings.data_dir, settings.http_guard)
        .counting_fuel(settings.plugin_fuel)
        .with_runtime(runtime.handle().clone());
    let store = Arc::new(Embedded::open(&settings.data_dir).map_err(anyhow::Error::from)?);
    let begun = runtime.block_on(reload::apply::begin(&store, &source));
    begun.context("read what was applied over the API")?;
    if *source.own() == Own::Nothing && source.applied().is_none() {
        warn!(
            "there is no configuration (--config, CONFIG_FILE_PATH, CONFIG_FILE_YAML): nothing runs \
             until one is applied over the API (`sequin config apply`)"
        );
    }
    let text = source.read().map_err(Failure::Usage)?.text;
    let moved = runtime.block_on(reload::moved::at_start(&store, &text));
    moved.map_err(|error| match error {
        VersionsError::Refused { code, what } => Failure::Usage(format!("error: {code}: {what}\n")),
        error @ VersionsError::Store(_) => anyhow::Error::from(error).into(),
    })?;
    let read = runtime.block_on(reload::read(&source, &store, settings.plugin_compile));
    let (read, known) = read.map_err(|refused| {
        // Nobody can edit it: a file can take its place.
        let help = match source.applied() {
            Some(_) => {
                "help: that was applied over the API: start with --config FILE to run something else"
            }
            None => "",
        };
        Failure::Usage(format!("{}{help}", refused.reason))
    })?;
    let ready = reload::load(read, &wiring, &known);
    for warning in &ready.warnings {
        warn!(config = %warning, "the configuration holds something that has no effect");
    }
    let not_needed = settings::not_needed(&environment);
    if !not_needed.is_empty() {
        info!(
            variables = not_needed.join(", "),
            "settings of the predecessor that nothing here needs"
        );
    }
    let recorded = runtime.block_on(reload::record(&store, &known, &ready.loaded));
    recorded.context("record what sinks are bound to")?;
    let ran = reload::moved::ran(&ready.loaded.spec);
    runtime.block_on(store.runs(store.epoch(), ran)).context("record what runs")?;
    let served = runtime.block_on(serve(settings, source, wiring, ready, store));
    // A write to a pipe that nobody reads would be waited for without end.
    runtime.shutdown_timeout(LAST_WRITES);
    Ok(served?)
}

async fn serve(
    settings: Settings,
    source: ConfigSource,
    wiring: Wiring,
    mut ready: Ready,
    store: Arc<Embedded>,
) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;

    let bind = async |address, name| {
        TcpListener::bind(address).await.with_context(|| format!("bind {name} to {address}"))
    };
    let api = bind(settings.api, "SERVER_PORT").await?;
    let metrics = bind(settings.metrics, "SEQUIN_METRICS_PORT").await?;
    let supervisor = Supervisor::default();
    let stores = Stores {
        progress: Arc::<Embedded>::clone(&store),
        letters: Arc::<Embedded>::clone(&store),
        owners: Arc::<Embedded>::clone(&store),
        logs: Arc::<Embedded>::clone(&store),
        backfills: Arc::<Embedded>::clone(&store),
        rollouts: Arc::<Embedded>::clone(&store),
        scratch: Arc::<Embedded>::clone(&store),
        epoch: store.epoch(),
    };
    let budget = memory::budget(settings.memory_bytes_max);
    let keep = memory::keep(settings.memory_bytes_max, Arc::clone(&budget), stop.clone());
    supervisor.spawn(TaskKind::Health, "memory", keep);
    let change_log_bytes_max = settings.change_log_bytes_max;
    let limits = EngineSettings { drain_deadline: DRAIN_DEADLINE, change_log_bytes_max, clock_us };
    let slots = std::mem::take(&mut ready.slots);
    check_sinks(&supervisor, &slots, |_| true);
    let streams = Arc::new(web::Streams::default());
    let access = web::Access::new(settings.api_token.clone(), api.local_addr()?.ip());
    tell_access(&slots, &access);
    let tokens = Tokens::read(Arc::clone(&store)).await.map_err(anyhow::Error::from)?;
    let tokens = Arc::new(tokens);
    tokens.declare(&ready.loaded.spec.api_tokens);
    let recording = Arc::clone(&tokens).record(stop.clone());
    let declaring = Arc::clone(&tokens);
    supervisor.spawn(TaskKind::Check, "tokens", recording);
    let audit = Arc::new(Audit::new(Arc::clone(&store)));
    let door = web::Door { access, tokens, audit };
    let mut beside = Beside::new(Arc::clone(&streams), stop.clone());
    beside.offer(streams_of(&slots), |_| true);
    let mut engine = Engine::new(slots, budget, stores, limits, supervisor.clone());
    let status = engine.status();
    let known = Known::read(&store).await.map_err(anyhow::Error::from)?;
    let unfit = rollouts::restore(&mut engine, &ready.loaded.spec, &wiring, &known).await?;
    ready.loaded.faults.extend(unfit);

    info!(
        version = VERSION,
        api = %api.local_addr()?,
        metrics = %metrics.local_addr()?,
        data_dir = %settings.data_dir.display(),
        "sequin is up"
    );
    let (records, epoch) = (Arc::<Embedded>::clone(&store), store.epoch());
    let monitor =
        Monitor::new(Arc::clone(&status), Arc::<Embedded>::clone(&records), epoch, clock_us);
    supervisor.spawn(TaskKind::Health, "health", monitor.run(stop.clone()));
    let healths = web::Healths { status: Arc::clone(&status), records, epoch };
    let http = CancellationToken::new();
    let wiring = Arc::new(wiring);
    let letters = web::Letters {
        handle: engine.handle(),
        status: Arc::clone(&status),
        resolve: versions::resolve(source.clone(), Arc::clone(&wiring), Arc::clone(&store)),
    };
    let retaining = versions::retain(Arc::clone(&store), settings.letters, stop.clone());
    supervisor.spawn(TaskKind::Check, "letters", retaining);
    let rollouts = web::Rollouts {
        rollouts: engine.handle().rollouts().clone(),
        status: Arc::clone(&status),
        open: versions::open(source.clone(), Arc::clone(&wiring), Arc::clone(&store)),
    };
    if let Some(hook) = settings.alerts {
        let alerts = Alerts::new(hook, Arc::clone(&status), rollouts.rollouts.clone())?;
        supervisor.spawn(TaskKind::Health, "alerts", alerts.run(stop.clone()));
    }
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let compile = settings.plugin_compile;
    let platform = Platform::new(Arc::clone(&store), asks, source.clone(), compile);
    let (asks, configs) = mpsc::channel(ASKS_MAX);
    let configuring =
        Arc::new(Configuring { store: Arc::clone(&store), asks, source: source.clone(), compile });
    let of = web::Api {
        streams,
        letters,
        healths,
        backfills: engine.handle().backfills().clone(),
        plugins: Arc::new(platform),
        configs: Arc::<Configuring>::clone(&configuring),
        resources: configuring,
        rollouts: rollouts.clone(),
        stop: http.clone(),
    };
    let routes = [
        (api, web::api(VERSION, of, door)),
        (metrics, web::metrics(Arc::clone(&status), rollouts, settings.metrics_login.clone())),
    ];
    for (listener, router) in routes {
        let serving = web::serve(listener, router, http.clone().cancelled_owned());
        supervisor.spawn(TaskKind::Serve, "http", async move {
            if let Err(error) = serving.await {
                error!(%error, "the HTTP listener broke");
            }
        });
    }
    let by_hand = (store, compile, declaring, asked, configs);
    let (handle, watched) = (engine.handle(), supervisor.clone());
    let reloader = Reloader::new(source, wiring, handle, status, watched, beside, ready, by_hand);
    supervisor.spawn(TaskKind::Reload, "config", reloader.run(hangup, stop.clone()));
    let running = engine.run(stop.clone());
    let mut running = std::pin::pin!(running);
    let mut ended = false;
    tokio::select! {
        () = &mut running => ended = true,
        _ = terminate.recv() => info!("SIGTERM: stopping"),
        _ = interrupt.recv() => info!("SIGINT: stopping"),
        () = supervisor.fatal().cancelled() => error!("stopping because of a fault"),
    }
    stop.cancel();
    tokio::select! {
        () = running, if !ended => info!("stopped in order"),
        () = std::future::ready(()), if ended => warn!("nothing is left to run"),
        _ = terminate.recv() => warn!("stopped at once by a second signal"),
        _ = interrupt.recv() => warn!("stopped at once by a second signal"),
    }
    http.cancel();
    anyhow::ensure!(!supervisor.fatal().is_cancelled(), "stopped because of a fault, see the log");
    Ok(())
}

/// The streams of these slots, for the API.
pub(crate) fn streams_of(slots: &[SlotSpec]) -> Vec<web::Stream> {
    let sinks = slots.iter().flat_map(|slot| &slot.sinks);
    sinks
        .filter_map(|sink| {
            let pull = Arc::clone(&sink.sink).pull()?;
            let (id, name) = (Arc::clone(&sink.id), Arc::clone(&sink.name));
            Some(web::Stream { id, name, pull })
        })
        .collect()
}

/// Says who can fetch from streams, where that is not who has a token.
fn tell_access(slots: &[SlotSpec], access: &web::Access) {
    if streams_of(slots).is_empty() {
        return;
    }
    match access {
        web::Access::Token(_) => {}
        web::Access::Local => {
            warn!("SEQUIN_API_TOKEN is not set: every user of this machine can fetch from streams");
        }
        web::Access::Nobody => warn!(
            "SEQUIN_API_TOKEN is not set: nobody can fetch from streams; set it, or SEQUIN_BIND to \
             127.0.0.1"
        ),
    }
}

/// Tells early what would fail later. A destination that is away is no reason not to start.
pub(crate) fn check_sinks(
    supervisor: &Supervisor,
    slots: &[SlotSpec],
    is_meant: impl Fn(&str) -> bool,
) {
    let all = slots.iter().flat_map(|slot| &slot.sinks);
    // One that is not started was told of already.
    for sink in all.filter(|sink| sink.fault.is_none() && is_meant(&sink.name)) {
        let (name, port) = (Arc::clone(&sink.name), Arc::clone(&sink.sink));
        supervisor.spawn(TaskKind::Check, &sink.name, async move {
            match port.check().await {
                Ok(()) => info!(sink.name = %name, "the destination answers"),
                Err(error) => warn!(sink.name = %name, %error, "the destination does not answer"),
            }
        });
    }
}

/// The time of day, in microseconds since 1970.
fn clock_us() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the clock is read here")]
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
