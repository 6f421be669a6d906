//! `sequin serve`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use engine::budget::Budget;
use engine::run::{Engine, Settings as EngineSettings, Stores};
use engine::spec::SlotSpec;
use engine::status::Status;
use engine::supervise::{Supervisor, TaskKind};
use store::Embedded;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::Failure;
use crate::cli::ServeArguments;
use crate::configuration;
use crate::settings::{Settings, environment};
use crate::tables;
use crate::telemetry;
use crate::wiring;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// For requests under way after a stop. Kubernetes and most service managers kill after 30 s.
const DRAIN_DEADLINE: Duration = Duration::from_secs(25);

/// For writes to disks and pipes that did not end by themselves when everything else had stopped.
const LAST_WRITES: Duration = Duration::from_secs(1);

pub(crate) fn run(arguments: &ServeArguments) -> Result<(), Failure> {
    let mut settings = Settings::read(&environment).map_err(Failure::Usage)?;
    let spec = configuration::read(&arguments.config)?;
    telemetry::start(&mut settings);
    for warning in &spec.1 {
        warn!(config = %warning, "the configuration holds something that has no effect");
    }
    let slots =
        wiring::build(&spec.0, &settings.data_dir, settings.http_guard).map_err(Failure::Usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("engine")
        .build()
        .context("start the runtime")?;
    let checks = tables::checks(&spec.0, wiring::source);
    let served = runtime.block_on(serve(settings, slots, checks));
    // A write to a pipe that nobody reads would be waited for without end.
    runtime.shutdown_timeout(LAST_WRITES);
    Ok(served?)
}

async fn serve(
    settings: Settings,
    slots: Vec<SlotSpec>,
    checks: Vec<tables::Check>,
) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;

    let bind = async |address, name| {
        TcpListener::bind(address).await.with_context(|| format!("bind {name} to {address}"))
    };
    let api = bind(settings.api, "SERVER_PORT").await?;
    let metrics = bind(settings.metrics, "SEQUIN_METRICS_PORT").await?;
    let store = Arc::new(Embedded::open(&settings.data_dir)?);

    let supervisor = Supervisor::default();
    let stores = Stores {
        progress: Arc::<Embedded>::clone(&store),
        letters: Arc::<Embedded>::clone(&store),
        epoch: store.epoch(),
    };
    let budget = Budget::new(settings.memory_bytes_max);
    let limits = EngineSettings { drain_deadline: DRAIN_DEADLINE };
    check_sinks(&supervisor, &slots);
    let streams = Arc::new(web::Streams::default());
    streams.set(streams_of(&slots));
    let access = web::Access::new(settings.api_token.clone(), api.local_addr()?.ip());
    tell_access(&slots, &access);
    let engine = Engine::new(slots, budget, stores, limits, supervisor.clone());
    let status = engine.status();
    check_tables(&supervisor, checks, &status, &stop);

    info!(
        version = VERSION,
        api = %api.local_addr()?,
        metrics = %metrics.local_addr()?,
        data_dir = %settings.data_dir.display(),
        "sequin is up"
    );
    let http = CancellationToken::new();
    let routes = [(api, web::api(VERSION, streams, access)), (metrics, web::metrics(status))];
    for (listener, router) in routes {
        let serving = web::serve(listener, router, http.clone().cancelled_owned());
        supervisor.spawn(TaskKind::Serve, "http", async move {
            if let Err(error) = serving.await {
                error!(%error, "the HTTP listener broke");
            }
        });
    }
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
fn streams_of(slots: &[SlotSpec]) -> Vec<web::Stream> {
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

/// Tells what sinks name and is not there.
fn check_tables(
    supervisor: &Supervisor,
    checks: Vec<tables::Check>,
    status: &Status,
    stop: &CancellationToken,
) {
    let sinks = status.slots.iter().flat_map(|slot| &slot.sinks);
    let sinks: HashMap<_, _> =
        sinks.map(|sink| (sink.name.to_string(), Arc::clone(sink))).collect();
    for check in checks {
        let looking = check.run(sinks.clone(), stop.clone());
        supervisor.spawn(TaskKind::Check, "tables", looking);
    }
}

/// Tells early what would fail later. A destination that is away is no reason not to start.
fn check_sinks(supervisor: &Supervisor, slots: &[SlotSpec]) {
    for sink in slots.iter().flat_map(|slot| &slot.sinks) {
        let (name, port) = (Arc::clone(&sink.name), Arc::clone(&sink.sink));
        supervisor.spawn(TaskKind::Check, &sink.name, async move {
            match port.check().await {
                Ok(()) => info!(sink.name = %name, "the destination answers"),
                Err(error) => warn!(sink.name = %name, %error, "the destination does not answer"),
            }
        });
    }
}
