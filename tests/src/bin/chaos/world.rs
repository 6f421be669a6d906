//! What runs: Postgres behind a proxy, receivers, a file, Typesense, and an engine with so little
//! memory that what a sink owes goes to the change log within seconds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{Cluster, Proxy, Receiver, Sequin, typesense, until};

use crate::disk::Disk;
use crate::load::{SCHEMA, SEARCHED};
use crate::say;

const MEMORY_MB: &str = "4";

/// Until the slot streams for the first time.
const START: Duration = Duration::from_secs(60);

/// Webhook sinks, each with a receiver of its own.
pub(crate) const HOOKS: [&str; 4] = ["steady", "rough", "picky", "guest"];
pub(crate) const ROUGH: usize = 1;
pub(crate) const PICKY: usize = 2;

/// What edits of the configuration change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edits {
    pub(crate) batch_size: u32,
    /// Whether there is a fourth webhook sink, which comes and goes.
    pub(crate) guest: bool,
    /// Whether the rough sink is paused.
    pub(crate) paused: bool,
}

pub(crate) struct World {
    // In the order in which they are dropped: the engine first.
    pub(crate) sequin: Sequin,
    pub(crate) proxy: Proxy,
    pub(crate) receivers: Vec<Receiver>,
    /// None where it cannot be had.
    pub(crate) typesense: Option<typesense::Server>,
    pub(crate) postgres: Cluster,
    pub(crate) edits: Edits,
    /// None where it cannot be had.
    pub(crate) disk: Option<Disk>,
    files: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
        let postgres = Cluster::start().await?;
        postgres.client("postgres").await?.batch_execute(SCHEMA).await.context("make tables")?;
        let proxy = Proxy::start(postgres.port()).await?;
        let mut receivers = Vec::new();
        for _ in HOOKS {
            receivers.push(Receiver::start().await?);
        }
        let typesense = match typesense::Server::start().await {
            Ok(server) => {
                let fields = json!([{"name": "version", "type": "int64"}]);
                server.create_collection(&json!({"name": "rows", "fields": fields})).await?;
                Some(server)
            }
            Err(error) => {
                say(&format!("Typesense is left out: {error:#}"));
                None
            }
        };
        let disk = match Disk::mount() {
            Ok(disk) => Some(disk),
            Err(error) => {
                say(&format!("full disks are left out: {error:#}"));
                None
            }
        };
        let files = tempfile::Builder::new().prefix("sequin-chaos-").tempdir()?;
        let edits = Edits { batch_size: 10, guest: false, paused: false };
        let mut builder = Sequin::builder()
            .env("SEQUIN_BIND", "127.0.0.1")
            .env("SEQUIN_MEMORY_MB", MEMORY_MB)
            .quiet();
        if let Some(disk) = &disk {
            builder = builder.env("SEQUIN_DATA_DIR", &disk.path().to_string_lossy());
        }
        let sequin = builder.prepare()?;
        let mut world = Self { sequin, proxy, receivers, typesense, postgres, edits, disk, files };
        world.write_config()?;
        world.sequin.restart().await?;
        until("the slot to stream", START, async || {
            let connected = world.sequin.metric("sequin_slot_connected", &[]).await?;
            Ok(if connected == 1.0 { Ok(()) } else { Err("not connected".to_owned()) })
        })
        .await
        .with_context(|| format!("the engine said:\n{}", world.sequin.log()))?;
        Ok(world)
    }

    /// Where the file sink writes.
    pub(crate) fn archive(&self) -> PathBuf {
        self.files.path().join("archive.ndjson")
    }

    pub(crate) fn write_config(&self) -> Result<()> {
        self.sequin.write_config(&self.config())
    }

    /// The engine is there again: it answers, whatever it says.
    pub(crate) async fn until_answers(&mut self) -> Result<()> {
        let mut ended = None;
        until("the engine to answer", START, async || {
            ended = self.sequin.exited()?;
            if ended.is_some() {
                return Ok(Ok(()));
            }
            self.sequin.health().await.map(|_| Ok(()))
        })
        .await?;
        ensure!(ended.is_none(), "the engine ended at its start: {ended:?}");
        Ok(())
    }

    /// The names of the sinks that must have everything.
    pub(crate) fn sinks(&self) -> Vec<&'static str> {
        let mut sinks = HOOKS.get(..HOOKS.len() - 1).unwrap_or_default().to_vec();
        sinks.push("archive");
        sinks.extend(self.typesense.as_ref().map(|_| "search"));
        sinks
    }

    fn config(&self) -> String {
        let Edits { batch_size, guest, paused } = self.edits;
        let mut yaml = format!(
            "databases:
  - name: source
    hostname: 127.0.0.1
    port: {}
    database: postgres
    username: postgres
    password: postgres
    ssl: false
    slot: {{name: chaos, create_if_not_exists: true}}
    publication: {{name: chaos}}
http_endpoints:
",
            self.proxy.port()
        );
        for (name, receiver) in HOOKS.iter().zip(&self.receivers) {
            yaml += &format!("  - {{name: {name}, url: {}}}\n", receiver.url());
        }
        yaml += "sinks:\n";
        for name in HOOKS.iter().filter(|name| guest || **name != "guest") {
            let status = if paused && *name == "rough" { "status: paused, " } else { "" };
            yaml += &format!(
                "  - {{name: {name}, database: source, batch_size: {batch_size}, {status}{RETRY}, \
                 destination: {{type: webhook, http_endpoint: {name}}}}}\n"
            );
        }
        yaml += &sink("archive", &format!("{{type: file, path: {}}}", display(&self.archive())));
        if let Some(server) = &self.typesense {
            let (url, key) = (server.url(), server.api_key());
            let line = format!(
                "{{type: typesense, endpoint_url: {url}, collection_name: rows, api_key: {key}}}, \
                 source: {{include_tables: [public.{SEARCHED}]}}"
            );
            yaml += &sink("search", &line);
        }
        yaml
    }
}

const RETRY: &str = "retry_backoff: {first_ms: 100, cap_ms: 1000}";

fn sink(name: &str, destination: &str) -> String {
    format!("  - {{name: {name}, database: source, {RETRY}, destination: {destination}}}\n")
}

fn display(path: &Path) -> std::path::Display<'_> {
    path.display()
}
