//! What the API of plugins does: versions, what sinks are bound to, and who did what.

pub(crate) mod upload;

use std::sync::Arc;
use std::time::Duration;

use model::BoxFuture;
use model::position::Position;
use model::store::StoreError;
use model::versions::{Deed, Generation, Hold, Link, Role, Version, Versions as _, VersionsError};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::Embedded;
use tokio::sync::{mpsc, oneshot};
use web::{Audited, ByHand, Upload};

use crate::config_source::ConfigSource;
use crate::reload::{Ask, Asked, What, now_us};

/// Answers for the platform.
#[derive(Clone)]
pub(crate) struct Platform {
    store: Arc<Embedded>,
    asks: mpsc::Sender<Asked>,
    source: ConfigSource,
    /// CPU time for the compilation of an upload.
    compile: Duration,
}

type Answer = BoxFuture<'static, Result<Value, VersionsError>>;

impl Platform {
    pub(crate) fn new(
        store: Arc<Embedded>,
        asks: mpsc::Sender<Asked>,
        source: ConfigSource,
        compile: Duration,
    ) -> Self {
        Self { store, asks, source, compile }
    }

    /// Who may sign what, as `sequin.yaml` says now.
    fn policy(&self) -> Result<Option<config::spec::Signatures>, VersionsError> {
        // Without it nobody knows whether a signature is needed.
        let unreadable = |reason| {
            let what = format!("sequin.yaml cannot be read, which says who may sign: {reason}");
            VersionsError::refused("config_unreadable", what)
        };
        Ok(self.source.read().map_err(unreadable)?.spec.signatures)
    }

    async fn upload(&self, upload: Upload, bytes: Vec<u8>) -> Result<Value, VersionsError> {
        let policy = self.policy()?;
        let checked =
            tokio::task::spawn_blocking(move || upload::check(upload, bytes, policy.as_ref()));
        let fault = |error: tokio::task::JoinError| {
            StoreError::Unavailable(format!("a fault while it was looked at: {error}"))
        };
        let (mut version, bytes) = checked.await.map_err(fault)??;
        let known = self.store.versions().await?;
        let same = |it: &&Version| it.name == version.name && it.version == version.version;
        let there = known.iter().find(same).map(|known| known.digest == version.digest);
        version.at_us = now_us();
        // Of what is refused anyway nothing is kept.
        if there != Some(false) {
            if there.is_none() {
                // Beside the data path: in a process of its own, which may die of it.
                let described = upload::describe(&bytes, self.compile).await?;
                version.metadata = upload::with(&version.metadata, described)?;
            }
            let (store, digest) = (Arc::clone(&self.store), version.digest.clone());
            let kept = tokio::task::spawn_blocking(move || store.keep(&digest, &bytes));
            kept.await.map_err(fault)??;
        }
        let created = self.store.add(self.store.epoch(), version.clone()).await?;
        if let (false, Some(known)) = (created, known.into_iter().find(|it| same(&it))) {
            version = known;
        }
        let mut told = told(&version);
        if let Value::Object(told) = &mut told {
            told.insert("created".to_owned(), created.into());
        }
        Ok(told)
    }

    async fn bindings(&self, sink: Option<String>) -> Result<Value, VersionsError> {
        let names = Names(self.store.versions().await?);
        let Some(sink) = sink else {
            let all = self.store.bindings().await?.into_iter();
            let shown = all.map(|binding| {
                let mut told = names.generation(&binding.current);
                if let Value::Object(told) = &mut told {
                    told.insert("sink".to_owned(), binding.name.sink.clone().into());
                    told.insert("role".to_owned(), binding.name.role.as_str().into());
                    told.insert("hold".to_owned(), json!(binding.hold.as_ref().map(hold)));
                }
                told
            });
            return Ok(web::list_of(shown.collect()));
        };
        let holds = self.store.bindings().await?;
        let shown = self.store.history(&sink).await?.into_iter().map(|(role, generation)| {
            let mut told = names.generation(&generation);
            let held = holds.iter().filter(|it| it.name.sink == sink && it.name.role == role);
            let mut held = held.filter_map(|it| it.hold.as_ref());
            let held = held.find(|hold| hold.generation == generation.number);
            if let Value::Object(told) = &mut told {
                told.insert("role".to_owned(), role.as_str().into());
                told.insert("hold".to_owned(), json!(held.map(hold)));
            }
            told
        });
        Ok(web::list_of(shown.collect()))
    }

    async fn ask(&self, ask: Ask) -> Result<Value, VersionsError> {
        let gone = || StoreError::Unavailable("the engine stops".to_owned());
        let (answer, answered) = oneshot::channel();
        self.asks.send(Asked { ask, answer }).await.map_err(|_| gone())?;
        let made = answered.await.map_err(|_| gone())??;
        let names = Names(self.store.versions().await?);
        Ok(match &made[..] {
            [generation] => names.generation(generation),
            _ => json!({"released": true}),
        })
    }
}

impl web::Plugins for Platform {
    fn versions(&self) -> Answer {
        let this = self.clone();
        Box::pin(async move {
            Ok(web::list_of(this.store.versions().await?.iter().map(told).collect()))
        })
    }

    fn upload(&self, upload: Upload, bytes: Vec<u8>) -> Answer {
        let this = self.clone();
        Box::pin(async move { this.upload(upload, bytes).await })
    }

    fn remove(&self, name: String, version: String, audited: Audited) -> Answer {
        let this = self.clone();
        Box::pin(async move {
            let deed = deed("delete", &format!("{name}@{version}"), audited);
            this.store.remove(this.store.epoch(), &name, &version, deed).await?;
            Ok(json!({"deleted": true}))
        })
    }

    fn collect(&self, audited: Audited) -> Answer {
        let this = self.clone();
        Box::pin(async move {
            let deed = deed("collect", "bytes that nothing names", audited);
            let removed = this.store.collect(this.store.epoch(), deed).await?;
            Ok(json!({"removed": removed}))
        })
    }

    fn bindings(&self, sink: Option<String>) -> Answer {
        let this = self.clone();
        Box::pin(async move { this.bindings(sink).await })
    }

    fn by_hand(&self, sink: String, role: Option<Role>, what: ByHand, audited: Audited) -> Answer {
        let this = self.clone();
        let what = match what {
            ByHand::Promote { to, function, config } => What::Promote { to, function, config },
            ByHand::Rollback { to } => What::Rollback { to },
            ByHand::Release => What::Release,
        };
        let Audited { by, reason } = audited;
        Box::pin(async move { this.ask(Ask { sink, role, what, by, reason }).await })
    }

    fn deeds(&self, below: Option<i64>, limit: usize) -> Answer {
        let this = self.clone();
        Box::pin(async move {
            let deeds = this.store.deeds(below, limit).await?;
            let next = deeds.last().filter(|_| deeds.len() == limit).map(|deed| deed.id);
            let shown = deeds.into_iter().map(|deed| {
                let Deed { id, at_us, by, what, subject, digest, detail } = deed;
                json!({
                    "id": id, "at": time(at_us), "by": by, "what": what, "subject": subject,
                    "digest": digest, "detail": detail,
                })
            });
            Ok(json!({"data": shown.collect::<Vec<_>>(), "next": next}))
        })
    }
}

fn deed(what: &str, subject: &str, Audited { by, reason }: Audited) -> Deed {
    Deed {
        at_us: now_us(),
        by,
        what: what.to_owned(),
        subject: subject.to_owned(),
        detail: reason,
        ..Deed::default()
    }
}

fn told(version: &Version) -> Value {
    let Version { name, version, digest, bytes, metadata, signatures, comment, by, at_us } =
        version;
    let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
    json!({
        "name": name, "version": version, "digest": digest, "bytes": bytes, "comment": comment,
        "uploaded_by": by, "uploaded_at": time(*at_us), "signatures": signatures.len(),
        "metadata": metadata,
    })
}

fn hold(hold: &Hold) -> Value {
    json!({"by": hold.by, "reason": hold.reason, "at": time(hold.at_us)})
}

/// What digests are called.
struct Names(Vec<Version>);

impl Names {
    fn generation(&self, generation: &Generation) -> Value {
        let Generation { number, links, how, by, reason, at_us, behind } = generation;
        let plugins: Vec<Value> = links.iter().map(|link| self.link(link)).collect();
        let behind = behind.map(|Position { commit_lsn, ordinal }| {
            json!({"commit_lsn": commit_lsn.to_string(), "ordinal": ordinal})
        });
        json!({
            "generation": number, "plugins": plugins, "how": how.as_str(), "by": by,
            "reason": reason, "at": time(*at_us), "behind": behind,
        })
    }

    /// Its config may hold secrets: only a hash of it is told.
    fn link(&self, link: &Link) -> Value {
        let named = self.0.iter().filter(|version| version.digest == link.digest);
        let named = named.map(|version| format!("{}@{}", version.name, version.version));
        let hash: [u8; 32] = Sha256::digest(&link.config).into();
        let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        json!({
            "function": link.function, "digest": link.digest,
            "versions": named.collect::<Vec<_>>(), "config_hash": hash,
        })
    }
}

/// ISO 8601.
pub(crate) fn time(us: i64) -> String {
    let mut text = String::new();
    model::json::timestamp(&mut text, us);
    text
}
