//! What the API of the configuration does before and after the reloader: looks at what came, and hands
//! it over.

use std::sync::Arc;
use std::time::Duration;

use bundle::Bundle;
use config::portable::Id;
use model::versions::Versions as _;
use serde_json::{Value, json};
use store::Embedded;
use tokio::sync::{mpsc, oneshot};
use web::{ConfigRefused, Content};

use crate::arrivals;
use crate::bindings::Brought;
use crate::config_source::ConfigSource;
use crate::doctor;
use crate::reload::apply::{Ask, Asked, Proposal, stored};
use crate::reload::resources::{Edit, Wanted};
use crate::retentions;
use crate::wiring;

/// Answers for the configuration.
#[derive(Clone)]
pub(crate) struct Configuring {
    pub(crate) store: Arc<Embedded>,
    pub(crate) asks: mpsc::Sender<Asked>,
    pub(crate) source: ConfigSource,
    /// CPU time for the compilation of a component.
    pub(crate) compile: Duration,
}

type Told = Result<Value, ConfigRefused>;
type Answer = model::BoxFuture<'static, Told>;

impl Configuring {
    async fn ask(&self, ask: Ask) -> Told {
        let gone = || ConfigRefused::new(503, "stopping", "the engine stops");
        let (answer, answered) = oneshot::channel();
        self.asks.send(Asked { ask, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// What came, looked at.
    async fn proposal(&self, proposal: web::Proposal) -> Result<Proposal, ConfigRefused> {
        let web::Proposal { content, prune, prune_databases, owner, by, reason, limits } = proposal;
        let (text, brought) = match content {
            Content::Yaml(text) => (text, Vec::new()),
            Content::Bundle(bytes) => self.bundle(bytes, &by).await?,
        };
        let remove = Vec::new();
        Ok(Proposal { text, brought, prune, prune_databases, remove, owner, by, reason, limits })
    }

    async fn bundle(
        &self,
        bytes: Vec<u8>,
        by: &str,
    ) -> Result<(String, Vec<Brought>), ConfigRefused> {
        let bad = |error: bundle::Refused| ConfigRefused::new(422, "bad_bundle", error.to_string());
        let bundle = Bundle::from_bytes(&bytes).map_err(bad)?;
        drop(bytes);
        if bundle.is_template {
            let what = "its variables are not filled in: apply it with `sequin config apply`, which \
                        fills them in from its own environment";
            return Err(ConfigRefused::new(422, "template", what));
        }
        let policy = self.source.read().map(|read| read.spec.signatures);
        let policy = policy.map_err(|what| ConfigRefused::new(409, "config_unreadable", what))?;
        let versions = self.store.versions().await.map_err(stored)?;
        let mut brought = Vec::new();
        for component in bundle.components {
            let (policy, store) = (policy.as_ref(), &self.store);
            let looked = arrivals::look(component, by, policy, store, &versions, self.compile);
            brought.push(looked.await.map_err(stored)?);
        }
        Ok((bundle.config, brought))
    }
}

impl Configuring {
    /// A change retention that keeps changes in the database of this name or id, if nothing is read
    /// from that.
    fn kept_in(&self, which: &str) -> Result<Option<config::spec::Sink>, ConfigRefused> {
        let read = self.source.read();
        let spec = read.map_err(|what| ConfigRefused::new(409, "config_unreadable", what))?.spec;
        let is_it = |name: &str| name == which || Id::new("database", name).uuid() == which;
        if spec.databases.iter().any(|it| is_it(&it.name)) {
            return Ok(None);
        }
        let mut sinks = spec.sinks.into_iter();
        Ok(sinks.find(|it| it.retention().is_some_and(|retention| is_it(&retention.database))))
    }

    /// How a database of what runs is reached, by its name or id.
    fn database(&self, which: &str) -> Result<postgres::Options, ConfigRefused> {
        let read = self.source.read();
        let spec = read.map_err(|what| ConfigRefused::new(409, "config_unreadable", what))?.spec;
        let is_it = |it: &&config::spec::Database| it.name == which || it.id == which;
        let found = spec.databases.iter().find(is_it).map(wiring::source);
        found.ok_or_else(|| {
            ConfigRefused::new(404, "not_found", format!("there is no database `{which:.200}`"))
        })
    }
}

impl web::Configs for Configuring {
    fn plan(&self, proposal: web::Proposal) -> Answer {
        let this = self.clone();
        Box::pin(async move { this.ask(Ask::Plan(this.proposal(proposal).await?)).await })
    }

    fn apply(&self, proposal: web::Proposal, plan: Option<String>) -> Answer {
        let this = self.clone();
        Box::pin(async move {
            let proposal = this.proposal(proposal).await?;
            let (answer, awaited) = oneshot::channel();
            this.ask(Ask::Awaited(proposal.clone(), answer)).await?;
            for database in awaited.await.unwrap_or_default() {
                database.wait().await?;
            }
            this.ask(Ask::Apply(proposal, plan)).await
        })
    }

    fn export(&self, with_secrets: bool) -> Answer {
        let this = self.clone();
        Box::pin(async move { this.ask(Ask::Export { with_secrets }).await })
    }

    fn drift(&self) -> Answer {
        let this = self.clone();
        Box::pin(async move { this.ask(Ask::Drift).await })
    }
}

impl web::Resources for Configuring {
    fn look(&self, kind: &'static str, which: Option<String>, with_secrets: bool) -> Answer {
        let this = self.clone();
        let wanted = Wanted { kind, which, with_secrets };
        Box::pin(async move { this.ask(Ask::Resources(wanted)).await })
    }

    fn change(&self, change: web::Change) -> Answer {
        let this = self.clone();
        let web::Change { kind, which, body, if_match, is_repeatable, by, limits } = change;
        let edit = Edit { kind, which, body, if_match, is_repeatable, by, limits };
        Box::pin(async move { this.ask(Ask::Change(edit)).await })
    }

    fn test(&self, database: String) -> Answer {
        let this = self.clone();
        Box::pin(async move {
            if let Some(sink) = this.kept_in(&database)? {
                return Ok(doctor::tested(retentions::examined(&sink).await));
            }
            let options = this.database(&database)?;
            Ok(doctor::tested(postgres::examine(&options).await))
        })
    }

    fn tables(&self, database: String) -> Answer {
        let this = self.clone();
        Box::pin(async move {
            let options = this.database(&database)?;
            let found = postgres::inventory(&options, &postgres::ColumnsOf::default()).await;
            let found = found.map_err(|error| {
                ConfigRefused::new(502, "source_unreachable", error.to_string())
            })?;
            let tables = found.iter().map(|it| format!("{}.{}", it.schema, it.table));
            Ok(json!({"success": true, "tables": tables.collect::<Vec<_>>()}))
        })
    }
}
