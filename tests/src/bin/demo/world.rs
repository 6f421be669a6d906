//! The servers of the demo: Postgres, Typesense, a webhook receiver, and the engine.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::{Cluster, Receiver, Sequin, sample, typesense, until};

use crate::say;

/// The application's table. Its features are a JSON list, as applications like to have it; the
/// search index wants them as columns.
const SCHEMA: &str = "
    CREATE TABLE poi (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text NOT NULL,
        description text,
        features jsonb NOT NULL DEFAULT '[]',
        is_public boolean NOT NULL DEFAULT false,
        revision integer NOT NULL DEFAULT 1,
        updated_at timestamptz NOT NULL DEFAULT now()
    )";

/// Everything that runs.
pub(crate) struct World {
    // In the order in which they are dropped: the engine first.
    pub(crate) sequin: Sequin,
    pub(crate) receiver: Receiver,
    pub(crate) typesense: typesense::Server,
    pub(crate) postgres: Cluster,
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
        say("  starting Postgres, Typesense and a webhook receiver in temporary directories …");
        let postgres = Cluster::start().await?;
        postgres.client("postgres").await?.batch_execute(SCHEMA).await?;
        let typesense = typesense::Server::start().await?;
        sample::create_collection(&typesense).await?;
        let receiver = Receiver::start().await?;
        say("  starting the engine with the repository's sequin.yaml …");
        let sequin = sample::engine(&postgres, &typesense, &receiver).quiet().start().await?;
        let streaming = until("the slot to stream", Duration::from_secs(30), async || {
            let connected = sequin.metric("sequin_slot_connected", &[]).await?;
            Ok(if connected == 1.0 { Ok(()) } else { Err("not connected".to_owned()) })
        });
        streaming.await.with_context(|| format!("the engine said:\n{}", sequin.log()))?;
        Ok(Self { sequin, receiver, typesense, postgres })
    }

    /// What there is, and what to try.
    pub(crate) fn introduce(&self) {
        let psql = format!("psql {}", self.postgres.url("postgres"));
        let search = format!(
            "curl -H 'X-TYPESENSE-API-KEY: {}' '{}/collections/poi/documents/search?q=*&query_by=name'",
            self.typesense.api_key(),
            self.typesense.url()
        );
        say("");
        say("  Rows of the table `poi` flow through two WebAssembly plugins, public-rows and");
        say("  feature-flags, into a Typesense collection, and as they are to a webhook.");
        say("");
        say("  Try it in another terminal while this runs:");
        say(&format!("    {psql} \\"));
        say("      -c \"UPDATE poi SET name = 'My camp', revision = revision + 1 WHERE id = 1\"");
        say(&format!("    {search}"));
        say(&format!("    curl {}", self.sequin.metrics_url()));
        say("");
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        let status = self.sequin.terminate().await?;
        ensure!(status.success(), "the engine stopped with {status}:\n{}", self.sequin.log());
        Ok(())
    }
}
