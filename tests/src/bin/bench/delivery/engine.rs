//! An engine of a part, and how far it and its slot are.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::{Sequin, until};

use super::Peaks;
use crate::proc;
use crate::server::Server;

const START: Duration = Duration::from_secs(60);

/// A million rows take a minute or two.
pub(super) const LONG: Duration = Duration::from_secs(1_800);

/// The engine of one table, which is also the name of its slot.
pub(super) struct Engine {
    pub(super) sequin: Sequin,
    pub(super) table: &'static str,
    peak_kib: u64,
}

impl Engine {
    /// Prepares it; the sinks are named `sink-0` and on, and send to these addresses.
    pub(super) fn prepare(
        server: &Server,
        table: &'static str,
        memory_mb: u32,
        urls: &[String],
    ) -> Result<Self> {
        let mut yaml = format!(
            "databases:
  - name: bench
    hostname: 127.0.0.1
    port: {}
    database: postgres
    username: postgres
    ssl: false
    slot: {{name: {table}}}
    publication: {{name: {table}}}
http_endpoints:
",
            server.port()
        );
        for (number, url) in urls.iter().enumerate() {
            yaml += &format!("  - {{name: door-{number}, url: {url}}}\n");
        }
        yaml += "sinks:\n";
        for number in 0..urls.len() {
            yaml += &format!(
                "  - {{name: sink-{number}, database: bench, batch_size: 500, batch_timeout_ms: 0, \
                 retry_backoff: {{first_ms: 100, cap_ms: 1000}}, \
                 source: {{include_tables: [{table}]}}, \
                 destination: {{type: webhook, http_endpoint: door-{number}}}}}\n"
            );
        }
        let builder = Sequin::builder().config(&yaml).env("SEQUIN_BIND", "127.0.0.1");
        let builder = builder.env("SEQUIN_MEMORY_MB", &memory_mb.to_string());
        Ok(Self { sequin: builder.quiet().prepare()?, table, peak_kib: 0 })
    }

    /// Starts it and waits until it streams.
    pub(super) async fn start(&mut self, server: &Server) -> Result<()> {
        self.sequin.launch()?;
        until("the slot to stream", START, async || {
            Ok(server.sender(self.table).await?.ok_or_else(|| "nobody reads it".to_owned()))
        })
        .await
        .with_context(|| format!("the engine said:\n{}", self.sequin.log()))?;
        Ok(())
    }

    /// Looks at its memory; before it ends, for then nobody knows.
    pub(super) fn look(&mut self) {
        let peak = self.sequin.pid().and_then(proc::rss_peak_kib);
        self.peak_kib = self.peak_kib.max(peak.unwrap_or(0));
    }

    pub(super) async fn kill(&mut self) -> Result<()> {
        self.look();
        self.sequin.kill9().await
    }

    /// Stops it, and drops its slot.
    pub(super) async fn stop(
        mut self,
        server: &Server,
        part: &'static str,
        peaks: &mut Peaks,
    ) -> Result<()> {
        self.look();
        let status = self.sequin.terminate().await?;
        ensure!(status.success(), "the engine stopped with {status}:\n{}", self.sequin.log());
        peaks.push((part, self.peak_kib));
        server.drop_slot(self.table).await
    }

    /// Where the slot stands, in bytes from the log's end so far.
    pub(super) async fn behind(&self, server: &Server, end: &str) -> Result<i64> {
        let sql = "SELECT pg_wal_lsn_diff($1::text::pg_lsn, confirmed_flush_lsn)::bigint
                   FROM pg_replication_slots WHERE slot_name = $2";
        Ok(server.client.query_one(sql, &[&end, &self.table]).await?.get(0))
    }

    pub(super) async fn metric(&self, name: &str) -> Result<f64> {
        self.sequin.metric(name, &[]).await
    }
}

/// The end of the source's log.
pub(super) async fn log_end(server: &Server) -> Result<String> {
    Ok(server.client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?.get(0))
}
