//! The repository's `sequin.yaml`, against private servers: for the demo and for the tests that
//! prove what it shows.

use anyhow::Result;
use serde_json::json;

use crate::{Cluster, Receiver, Sequin, repository, sequin, typesense};

/// The collection that the sample writes to.
pub const COLLECTION: &str = "poi";

/// Creates the sample's collection.
pub async fn create_collection(typesense: &typesense::Server) -> Result<()> {
    let fields = json!([{"name": "name", "type": "string"}, {"name": ".*", "type": "auto"}]);
    typesense.create_collection(&json!({"name": COLLECTION, "fields": fields})).await
}

/// An engine with the sample, reading and writing these servers.
pub fn engine(
    postgres: &Cluster,
    typesense: &typesense::Server,
    receiver: &Receiver,
) -> sequin::Builder {
    Sequin::builder()
        .config_file(&repository().join("sequin.yaml"))
        .env("PG_HOST", "127.0.0.1")
        .env("PG_PORT", &postgres.port().to_string())
        .env("WEBHOOK_URL", &receiver.url())
        .env("TYPESENSE_URL", &typesense.url())
        .env("TYPESENSE_API_KEY", typesense.api_key())
        .env("SEQUIN_BIND", "127.0.0.1")
}
