//! What most tests need: a Postgres, a webhook receiver, and an engine between them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{Cluster, Receiver, Sequin, sequin, until};
use tokio_postgres::Client;

/// How long anything may take that takes milliseconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// For what takes seconds: retries with back-off, restarts under load.
pub(crate) const LATER: Duration = Duration::from_secs(120);

/// A database with a slot and one webhook sink named `hook`.
pub(crate) struct World {
    pub(crate) sequin: Sequin,
    pub(crate) receiver: Receiver,
    pub(crate) client: Client,
    pub(crate) postgres: Cluster,
}

impl World {
    /// Runs `schema`, then starts an engine with [`yaml`] and `sink`, the options of the sink.
    pub(crate) async fn start(schema: &str, sink: &str) -> Result<Self> {
        let postgres = Cluster::start().await?;
        let client = postgres.client("postgres").await?;
        client.batch_execute(schema).await.context("create the schema")?;
        let receiver = Receiver::start().await?;
        let config = yaml(postgres.port(), &receiver.url(), &hook("hook", "", sink));
        let sequin = engine(&config).start().await?;
        streaming(&sequin).await?;
        Ok(Self { sequin, receiver, client, postgres })
    }

    /// Runs statements, and waits until the receiver has `count` messages in all.
    pub(crate) async fn messages_after(&self, sql: &str, count: usize) -> Result<Vec<Value>> {
        self.client.batch_execute(sql).await.context("run the statements")?;
        let messages = self.receiver.until_messages(count, SOON).await;
        messages.with_context(|| format!("the engine said:\n{}", self.sequin.log()))
    }

    /// Waits until the source's slot is confirmed past everything written so far.
    pub(crate) async fn settled(&self) -> Result<()> {
        settled(&self.client).await
    }
}

/// Waits until the slot of this source is confirmed past everything written so far.
pub(crate) async fn settled(client: &Client) -> Result<()> {
    let row = client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?;
    let target: String = row.get(0);
    let sql = "SELECT confirmed_flush_lsn::text, confirmed_flush_lsn >= $1::text::pg_lsn
               FROM pg_replication_slots WHERE slot_name = 'sequin_it'";
    until("the slot to be confirmed", LATER, async || {
        let row = client.query_one(sql, &[&target]).await?;
        let (confirmed, reached): (String, bool) = (row.get(0), row.get(1));
        Ok(if reached { Ok(()) } else { Err(format!("{confirmed} of {target}")) })
    })
    .await
}

/// An engine with this configuration.
pub(crate) fn engine(config: &str) -> sequin::Builder {
    Sequin::builder().config(config).env("SEQUIN_BIND", "127.0.0.1")
}

/// A configuration with one database and these sinks and functions.
pub(crate) fn yaml(postgres: u16, webhook: &str, rest: &str) -> String {
    format!(
        "databases:
  - name: source
    hostname: 127.0.0.1
    port: {postgres}
    database: postgres
    username: postgres
    password: postgres
    slot: {{name: sequin_it, create_if_not_exists: true}}
    publication: {{name: sequin_it, create_if_not_exists: true}}
http_endpoints:
  - name: receiver
    url: {webhook}
    headers: {{x-from: sequin}}
    encrypted_headers: {{authorization: Bearer hidden-token}}
{rest}"
    )
}

/// A webhook sink. `options` are lines of the sink's YAML, indented by four.
pub(crate) fn hook(name: &str, path: &str, options: &str) -> String {
    format!(
        "sinks:
  - name: {name}
    database: source
    retry_backoff: {{first_ms: 100, cap_ms: 1000}}
    destination: {{type: webhook, http_endpoint: receiver, http_endpoint_path: '{path}'}}
{options}"
    )
}

/// Waits until the engine reads the slot.
pub(crate) async fn streaming(sequin: &Sequin) -> Result<()> {
    let connected = until("the slot to stream", LATER, async || {
        let connected = sequin.metric("sequin_slot_connected", &[]).await?;
        Ok(if connected == 1.0 { Ok(()) } else { Err("not connected".to_owned()) })
    });
    connected.await.with_context(|| format!("the engine said:\n{}", sequin.log()))
}

/// The absolute path of a built plugin.
pub(crate) fn plugin(name: &str) -> String {
    let root = tests::repository();
    let first_party = root.join("plugins").join(format!("{name}.wasm"));
    let path = if first_party.exists() {
        first_party
    } else {
        root.join("plugins/target/bad").join(format!("{name}.wasm"))
    };
    assert!(path.exists(), "{name} is not built: run `cargo x plugins`");
    path.display().to_string()
}
