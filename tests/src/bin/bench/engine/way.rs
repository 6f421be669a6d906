//! What is measured: an engine with one configuration and what it sends to.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{Sequin, repository, sequin, typesense};

use super::target::Target;
use crate::server::Server;

/// Sinks of the way with many.
const TWELVE: usize = 12;

/// A configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Into a sink that counts and forgets.
    Null,
    /// The same, through a filter and a transform.
    Plugins,
    /// The same, for twelve sinks with one filter and one transform.
    Twelve,
    /// Through both into a webhook.
    Webhook,
    /// Through both into Typesense.
    Typesense,
}

/// What a way sends to.
pub(crate) enum Destination {
    Nothing,
    Webhook(Target),
    Typesense(typesense::Server),
}

impl Way {
    pub(crate) const ALL: [Self; 5] =
        [Self::Null, Self::Plugins, Self::Twelve, Self::Webhook, Self::Typesense];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Plugins => "plugins",
            Self::Twelve => "twelve",
            Self::Webhook => "webhook",
            Self::Typesense => "typesense",
        }
    }

    pub(crate) fn sinks(self) -> usize {
        if self == Self::Twelve { TWELVE } else { 1 }
    }

    /// Whether this machine has what it takes.
    pub(crate) async fn is_possible(self) -> Result<()> {
        if self == Self::Typesense {
            typesense::Server::start().await?;
        }
        if self != Self::Null {
            for plugin in ["public-rows", "feature-flags"] {
                let file = repository().join(format!("plugins/{plugin}.wasm"));
                ensure!(file.is_file(), "{plugin} is not built: `cargo x plugins` does");
            }
        }
        Ok(())
    }

    /// Starts what it sends to.
    pub(crate) async fn destination(self) -> Result<Destination> {
        Ok(match self {
            Self::Null | Self::Plugins | Self::Twelve => Destination::Nothing,
            Self::Webhook => Destination::Webhook(Target::start().await?),
            Self::Typesense => {
                let server = typesense::Server::start().await?;
                // What is searched is indexed, the rest is only kept.
                let fields = json!([{"name": "name", "type": "string"}]);
                server.create_collection(&json!({"name": "poi", "fields": fields})).await?;
                Destination::Typesense(server)
            }
        })
    }

    /// An engine on a slot of the server, not started yet.
    pub(crate) fn engine(self, server: &Server, slot: &str, to: &Destination) -> sequin::Builder {
        let destination = match to {
            Destination::Nothing => "{type: benchmark}".to_owned(),
            Destination::Webhook(_) => "{type: webhook, http_endpoint: target}".to_owned(),
            Destination::Typesense(server) => format!(
                "{{type: typesense, endpoint_url: {}, collection_name: poi, api_key: {}, \
                 batch_size: 500}}",
                server.url(),
                server.api_key()
            ),
        };
        let url = match to {
            Destination::Webhook(target) => target.url(),
            Destination::Nothing | Destination::Typesense(_) => "http://127.0.0.1:9".to_owned(),
        };
        let roles = if self == Self::Null { "" } else { "filter: public, transform: flags," };
        let sinks: String = (0..self.sinks())
            .map(|number| {
                format!(
                    "  - {{name: sink-{number}, database: bench, {roles} batch_size: 500, \
                     batch_timeout_ms: 0, source: {{include_tables: [poi]}}, destination: {destination}}}\n"
                )
            })
            .collect();
        let plugin = |name: &str| repository().join(format!("plugins/{name}.wasm"));
        let flags: Vec<String> = (0..20).map(|number| format!("feature{number}")).collect();
        let yaml = format!(
            "databases:
  - name: bench
    hostname: 127.0.0.1
    port: {port}
    database: postgres
    username: postgres
    ssl: false
    slot: {{name: {slot}}}
    publication: {{name: bench}}
http_endpoints:
  - {{name: target, url: {url}}}
functions:
  - {{name: public, type: filter, file: {filter}, config: {{column: is_public}}}}
  - {{name: flags, type: transform, file: {transform},
     config: {{column: features, flags: [{flags}], prefix: has_}}}}
sinks:
{sinks}",
            port = server.port(),
            filter = plugin("public-rows").display(),
            transform = plugin("feature-flags").display(),
            flags = flags.join(", "),
        );
        Sequin::builder().config(&yaml).env("SEQUIN_BIND", "127.0.0.1").quiet()
    }
}
