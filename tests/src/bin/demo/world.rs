//! The servers of the demo: Postgres, Typesense, a webhook receiver, and the engine.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::sample::{self, Around};
use tests::{Cluster, Receiver, Sequin, http, typesense, until};

use crate::say;

/// Everything that runs.
pub(crate) struct World {
    // In the order in which they are dropped: the engine first.
    pub(crate) sequin: Sequin,
    pub(crate) receiver: Receiver,
    /// None where it cannot be had.
    pub(crate) typesense: Option<typesense::Server>,
    pub(crate) postgres: Cluster,
    http: reqwest::Client,
    files: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
        say("  starting Postgres, Typesense and a webhook receiver in temporary directories …");
        let postgres = Cluster::start().await?;
        postgres.client("postgres").await?.batch_execute(sample::SCHEMA).await?;
        let typesense = match typesense::Server::start().await {
            Ok(server) => {
                sample::create_collections(&server).await?;
                Some(server)
            }
            Err(error) => {
                say(&format!("  Typesense cannot be had, its sinks are off: {error:#}"));
                None
            }
        };
        let receiver = Receiver::start().await?;
        let files = tempfile::Builder::new().prefix("sequin-demo-").tempdir()?;
        say("  starting the engine with the repository's sequin.yaml …");
        let url = typesense.as_ref().map(|server| (server.url(), server.api_key()));
        let around = Around {
            postgres: &postgres,
            typesense: url.as_ref().map(|(url, key)| (url.as_str(), *key)),
            receiver: &receiver,
            audit: &files.path().join("audit.ndjson"),
        };
        let sequin = sample::engine(around).quiet().start().await?;
        let streaming = until("the slot to stream", Duration::from_secs(30), async || {
            let connected = sequin.metric("sequin_slot_connected", &[]).await?;
            Ok(if connected == 1.0 { Ok(()) } else { Err("not connected".to_owned()) })
        });
        streaming.await.with_context(|| format!("the engine said:\n{}", sequin.log()))?;
        Ok(Self { sequin, receiver, typesense, postgres, http: http::client()?, files })
    }

    /// Where the file sink writes.
    pub(crate) fn audit(&self) -> PathBuf {
        self.files.path().join("audit.ndjson")
    }

    /// Fetches the next job of the pull stream, waiting for it, and says that it is done.
    pub(crate) async fn next_job(&self) -> Result<Value> {
        let url = format!("{}/api/sequin_streams/jobs", self.sequin.url());
        let ask = |call: &str, body: Value| {
            let request = self.http.post(format!("{url}/{call}"));
            request.header("content-type", "application/json").body(body.to_string()).send()
        };
        let received = ask("receive", serde_json::json!({"wait_for": "20s"})).await?.text().await?;
        let received: Value = serde_json::from_str(&received).context("read the job")?;
        let job = received["data"][0].clone();
        ensure!(!job.is_null(), "no job came: {received}");
        let acked = ask("ack", serde_json::json!({"ack_ids": [job["ack_id"]]})).await?;
        ensure!(acked.status().is_success(), "the job was not acknowledged: {}", acked.status());
        Ok(job["data"].clone())
    }

    /// What there is, and what to try.
    pub(crate) fn introduce(&self) {
        let psql = format!("psql {}", self.postgres.url("postgres"));
        say("");
        say(
            "  A camping app: points of interest, their translations, and reviews. sequin.yaml fans",
        );
        say(
            "  their rows out to twelve sinks through WebAssembly plugins: three search collections,",
        );
        say("  webhooks for translators, phones, partners, moderators and a cache, a file, and a");
        say("  stream of jobs that workers pull.");
        say("");
        say("  Try it in another terminal while this runs:");
        say(&format!("    {psql}"));
        say("      UPDATE poi SET name = 'My camp' WHERE id = 1;");
        say("      UPDATE poi SET is_public = false WHERE id = 1;");
        if let Some(typesense) = &self.typesense {
            say(&format!(
                "    curl -H 'X-TYPESENSE-API-KEY: {}' \\\n      \
                 '{}/collections/poi/documents/search?q=*&query_by=name'",
                typesense.api_key(),
                typesense.url()
            ));
        }
        say(&format!("    tail -f {}", self.audit().display()));
        say(&format!(
            "    curl -X POST '{}/api/sequin_streams/jobs/receive?batch_size=5'",
            self.sequin.url()
        ));
        say(&format!("    curl {}", self.sequin.metrics_url()));
        say("");
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        let status = self.sequin.terminate().await?;
        ensure!(status.success(), "the engine stopped with {status}:\n{}", self.sequin.log());
        Ok(())
    }
}
