//! The repository's `sequin.yaml`, the camping app, against private servers: for the demo and for the
//! tests that prove what it shows.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::{Cluster, Receiver, Sequin, repository, sequin, typesense};

/// The tables of the app.
pub const SCHEMA: &str = include_str!("../../demo/schema.sql");

/// The collection of the points of interest.
pub const COLLECTION: &str = "poi";

/// Creates the collections that its sinks write to.
pub async fn create_collections(typesense: &typesense::Server) -> Result<()> {
    let (name, location) = (
        json!({"name": "name", "type": "string"}),
        json!({"name": "location", "type": "geopoint"}),
    );
    let rest = json!({"name": ".*", "type": "auto"});
    let collections = [
        (COLLECTION, json!([name, location, rest])),
        ("poi_map", json!([name, location])),
        ("review", json!([{"name": "body", "type": "string"}, rest])),
    ];
    for (collection, fields) in collections {
        typesense.create_collection(&json!({"name": collection, "fields": fields})).await?;
    }
    Ok(())
}

/// The servers around an engine with the sample.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    pub postgres: &'a Cluster,
    /// Where Typesense is, and its key; None: its sinks are off.
    pub typesense: Option<(&'a str, &'a str)>,
    pub receiver: &'a Receiver,
    /// Where its file sink writes.
    pub audit: &'a Path,
}

/// An engine with the sample, reading and writing these servers.
pub fn engine(around: Around<'_>) -> sequin::Builder {
    let builder = Sequin::builder()
        .config_file(&repository().join("sequin.yaml"))
        .env("PG_HOST", "127.0.0.1")
        .env("PG_PORT", &around.postgres.port().to_string())
        .env("WEBHOOK_URL", &around.receiver.url())
        .env("AUDIT_FILE", &around.audit.to_string_lossy())
        .env("SEQUIN_BIND", "127.0.0.1");
    match around.typesense {
        Some((url, key)) => builder.env("TYPESENSE_URL", url).env("TYPESENSE_API_KEY", key),
        None => builder.env("SEARCH", "disabled"),
    }
}
