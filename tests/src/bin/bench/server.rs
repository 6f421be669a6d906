//! The server of a benchmark: one log, and a slot of its own for every reader.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tests::postgres::Setup;
use tests::{Cluster, until};
use tokio_postgres::Client;

use crate::backlog::{self, Transactions};

/// The slot that stands before the log and is copied.
const TEMPLATE: &str = "bench_template";

/// A background process that writes is only noise here; the log is kept by the slot.
const SETTINGS: [(&str, &str); 6] = [
    ("autovacuum", "off"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "1h"),
    ("wal_sender_timeout", "60s"),
    ("shared_buffers", "256MB"),
    ("synchronous_commit", "off"),
];

/// A reader that ended may hold its slot for so long: its walsender has to notice.
const RELEASE: Duration = Duration::from_secs(60);

/// How a reader reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Unix,
    Tcp,
    Tls,
}

impl Transport {
    pub(crate) const ALL: [Self; 3] = [Self::Unix, Self::Tcp, Self::Tls];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// A private server with a log to read.
pub(crate) struct Server {
    cluster: Cluster,
    pub(crate) client: Client,
    /// As it names itself.
    pub(crate) version: String,
}

/// A log, and how many rows it has.
pub(crate) struct Log {
    pub(crate) rows: u64,
    /// Where it ends.
    pub(crate) end: String,
}

impl Server {
    /// Starts it; `major` is 16, 17, 18 or none, for the first version found.
    pub(crate) async fn start(major: Option<u32>) -> Result<Self> {
        let setup = Setup { major, settings: &SETTINGS, tls: true, plain: true, password: None };
        let cluster = Cluster::start_as(setup).await?;
        let client = cluster.client("postgres").await?;
        backlog::prepare(&client).await?;
        let version = client.query_one("SHOW server_version", &[]).await?.get(0);
        Ok(Self { cluster, client, version })
    }

    /// The server's port.
    pub(crate) fn port(&self) -> u16 {
        self.cluster.port()
    }

    /// Another session.
    pub(crate) async fn another_client(&self) -> Result<Client> {
        self.cluster.client("postgres").await
    }

    /// The connection string of libpq and of ours.
    pub(crate) fn url(&self, transport: Transport) -> String {
        let port = self.port();
        match transport {
            Transport::Unix => {
                let dir = self.cluster.socket_dir().display();
                format!("postgres://postgres@/postgres?host={dir}&port={port}")
            }
            Transport::Tcp => {
                format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable")
            }
            Transport::Tls => {
                format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=require")
            }
        }
    }

    /// Writes the log, in place of the one before.
    pub(crate) async fn write(&self, rows: u64, by: Transactions) -> Result<Log> {
        self.drop_slot(TEMPLATE).await?;
        self.client.batch_execute("TRUNCATE poi; CHECKPOINT").await?;
        let create = format!("SELECT pg_create_logical_replication_slot('{TEMPLATE}', 'pgoutput')");
        self.client.batch_execute(&create).await?;
        let end = backlog::write(&self.client, rows, by).await?;
        Ok(Log { rows, end })
    }

    /// A slot that stands before the log.
    pub(crate) async fn copy_slot(&self, name: &str) -> Result<()> {
        let copy = format!("SELECT pg_copy_logical_replication_slot('{TEMPLATE}', '{name}')");
        self.client.batch_execute(&copy).await.with_context(|| format!("copy the slot to {name}"))
    }

    /// Drops a slot, if it is there, as soon as nobody reads it.
    pub(crate) async fn drop_slot(&self, name: &str) -> Result<()> {
        let drop = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
             WHERE slot_name = '{name}'"
        );
        until("a slot to be released", RELEASE, async || {
            Ok(self.client.batch_execute(&drop).await.map_err(|error| format!("{error:?}")))
        })
        .await
    }

    /// The walsender of a slot, once it streams.
    pub(crate) async fn sender(&self, slot: &str) -> Result<Option<u32>> {
        let query = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1";
        let row = self.client.query_opt(query, &[&slot]).await?;
        let pid = row.and_then(|row| row.get::<_, Option<i32>>(0));
        Ok(pid.and_then(|pid| u32::try_from(pid).ok()))
    }
}
