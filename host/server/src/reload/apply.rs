//! Configurations that come over the API: planned, applied, exported, compared with the engine's own
//! file.
//!
//! One is laid over what runs, by the names of its resources, built and checked as a whole, recorded,
//! and then taken up like any other. A kill before the record has changed nothing; behind it the next
//! process starts with what was recorded. A plan is named by a hash of what runs and of what would: what
//! is applied by that name is what was looked at, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use config::portable::{Action, Around, Declared, Difference, Id, Portable};
use config::spec::called;
use config::{Diagnostic, Spec};
use engine::run::Stopped;
use model::applied::{Applied, AppliedConfigs as _};
use model::tokens::Limits;
use model::versions::{Deed, Versions as _, VersionsError};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::Embedded;
use tokio::sync::oneshot;
use tracing::{info, warn};
use web::ConfigRefused;

use super::awaited::Awaited;
use super::lay::Laid;
use super::resources::{Edit, Wanted};
use super::shown::{actions, change, resource};
use super::{Ready, Reloader, bring, broken, build, moved, now_us, record};
use crate::arrivals::{self, Arrivals};
use crate::bindings::{Brought, Known};
use crate::config_source::{APPLIED, ConfigSource, Own};
use crate::configuration;
use crate::plan::{Loaded, Plan};
use crate::settings::environment;
use crate::{retentions, tables, wiring};

/// What is asked of the configuration, and where to answer.
pub(crate) struct Asked {
    pub(crate) ask: Ask,
    pub(crate) answer: oneshot::Sender<Result<Value, ConfigRefused>>,
}

pub(crate) enum Ask {
    Plan(Proposal),
    /// If it is still the plan of this hash.
    Apply(Proposal, Option<String>),
    /// Which databases are to be waited for.
    Awaited(Proposal, oneshot::Sender<Vec<Awaited>>),
    Export {
        with_secrets: bool,
    },
    Drift,
    /// Resources of a kind, or one.
    Resources(Wanted),
    /// Creates, changes or deletes one.
    Change(Edit),
}

/// What is to run.
#[derive(Clone, Default)]
pub(crate) struct Proposal {
    /// Nothing is to be filled in.
    pub(crate) text: String,
    /// Components that came with it.
    pub(crate) brought: Vec<Brought>,
    pub(crate) prune: bool,
    pub(crate) prune_databases: bool,
    /// What is to go, whoever owns it.
    pub(crate) remove: Vec<Id>,
    pub(crate) owner: String,
    pub(crate) by: String,
    pub(crate) reason: String,
    /// What whoever asks may change.
    pub(crate) limits: Limits,
}

/// A proposal that could be done.
struct Proposed {
    merged: Portable,
    ready: Ready,
    known: Known,
    plan: Plan,
    differences: Vec<Difference>,
    owners: BTreeMap<String, String>,
    warnings: Vec<String>,
    hash: String,
}

type Refused = ConfigRefused;

pub(super) fn refused(status: u16, code: &'static str, summary: impl Into<String>) -> Refused {
    Refused::new(status, code, summary)
}

fn invalid(diagnostics: &[Diagnostic]) -> Refused {
    let errors: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    let summary = errors.first().map_or("it is wrong", String::as_str).trim_end().to_owned();
    Refused { errors, ..refused(422, "invalid_config", summary) }
}

/// A failure of the store, or a refusal of it.
pub(crate) fn stored(error: VersionsError) -> Refused {
    match error {
        VersionsError::Refused { code, what } => refused(422, code, what),
        VersionsError::Store(error) => refused(503, "store_unavailable", error.to_string()),
    }
}

impl Reloader {
    pub(super) async fn configure(&mut self, ask: Ask) -> Result<Result<Value, Refused>, Stopped> {
        Ok(match ask {
            Ask::Plan(proposal) => match self.propose(&proposal).await {
                Ok(proposed) => Ok(proposed.told()),
                Err(refused) => Err(refused),
            },
            Ask::Apply(proposal, plan) => return self.apply(proposal, plan).await,
            Ask::Awaited(proposal, answer) => {
                // Whoever asked may be gone.
                answer.send(self.awaited(&proposal).await).ok();
                Ok(Value::Null)
            }
            Ask::Resources(wanted) => self.resources(&wanted),
            Ask::Change(edit) => return self.edit(edit).await,
            Ask::Export { with_secrets } => self.portable().map(|portable| {
                let text =
                    if with_secrets { portable.text() } else { portable.text_without_secrets() };
                json!({"yaml": text})
            }),
            Ask::Drift => self.drift().map(|differences| {
                let changes: Vec<Value> =
                    differences.iter().flatten().map(|it| change(it, None)).collect();
                json!({
                    "drift": !changes.is_empty(),
                    "applied": self.source.applied().is_some(),
                    "own_file": differences.is_some(),
                    "changes": changes,
                })
            }),
        })
    }

    /// What runs.
    pub(super) fn portable(&self) -> Result<Portable, Refused> {
        let name = match self.source.applied() {
            Some(_) => APPLIED.into(),
            None => self.source.file().unwrap_or(Path::new(APPLIED)).to_owned(),
        };
        self.portable_of(&name, &self.text).map(Portable::as_it_runs)
    }

    /// A text of the engine's own, with components as they run.
    fn portable_of(&self, name: &Path, text: &str) -> Result<Portable, Refused> {
        let around = Around {
            env: Some(&environment),
            base_dir: name.parent().unwrap_or(Path::new("")),
            read_file: &|path| std::fs::read_to_string(path),
            component: &|function, path| match self.loaded.digests.get(function) {
                Some(digest) => Ok(digest.clone()),
                None => std::fs::read(path).map(|bytes| bundle::digest(&bytes)),
            },
            // What it is runs, whatever became of where it came from.
            version: &|declared| {
                let called = format!("{}@{}", declared.name, declared.version);
                let known = self.loaded.versions.get(&called).cloned();
                known.map_or_else(|| digest_of(declared), Ok)
            },
        };
        let read = Portable::read(&name.display().to_string(), text, &around);
        read.map_err(|wrong| {
            let Refused { summary, errors, .. } = invalid(&wrong);
            let summary = format!("what runs cannot be compared: {summary}");
            Refused { errors, ..refused(409, "running_config_unreadable", summary) }
        })
    }

    /// What runs otherwise than the engine's own file says; None if it has none.
    fn drift(&self) -> Result<Option<Vec<Difference>>, Refused> {
        if *self.source.own() == Own::Nothing {
            return Ok(None);
        }
        let (name, text) = self.source.own_text().map_err(|what| refused(409, "own_file", what))?;
        let own = Portable::read(
            &name.display().to_string(),
            &text,
            &Around {
                env: Some(&environment),
                base_dir: name.parent().unwrap_or(Path::new("")),
                read_file: &|path| std::fs::read_to_string(path),
                component: &|_, path| std::fs::read(path).map(|bytes| bundle::digest(&bytes)),
                version: &digest_of,
            },
        );
        let own = own.map_err(|wrong| invalid(&wrong))?;
        Ok(Some(self.portable()?.differences(&own)))
    }

    /// Shows whether what runs is what the engine's own file says.
    pub(super) fn show_drift(&self) {
        let drifted = self.source.applied().is_some()
            && self.drift().is_ok_and(|drift| drift.is_some_and(|it| !it.is_empty()));
        self.status.config.drift.set(u64::from(drifted));
    }

    /// What would run, as far as its text tells.
    pub(super) async fn proposed_spec(&self, proposal: &Proposal) -> Result<Spec, Refused> {
        let Laid { merged, .. } = self.lay(proposal).await?;
        Ok(checked(&merged.text(), &proposal.text)?.0)
    }

    /// Checks and builds. Nothing is written.
    async fn propose(&self, proposal: &Proposal) -> Result<Proposed, Refused> {
        let Proposal { text, brought, .. } = proposal;
        let Laid { base, due, merged, owners, declared } = self.lay(proposal).await?;
        let differences = merged.differences_after(&base, &due);
        let limits = &proposal.limits;
        let mut changed = differences.iter().map(|it| &it.id).chain(due.iter().map(|it| &it.from));
        if let Some(id) = changed.find(|id| !limits.allow(&id.kind, &id.name)) {
            let limits = limits.0.join(", ");
            let what = format!("{id} is not among what the token may change: {limits:.500}");
            return Err(refused(403, "limited", what));
        }
        let merged_text = merged.text();
        let (spec, told) = checked(&merged_text, text)?;
        let policy = &self.loaded.spec.signatures;
        if policy.is_some() && *policy != spec.signatures && !self.source.signatures_change() {
            let what = "who must have signed plugins is not changed over the API: change it in the \
                        engine's own file, or let its operator set SEQUIN_API_CHANGES_SIGNATURES=true";
            return Err(refused(403, "signatures_fixed", what));
        }
        if spec.api_tokens != self.loaded.spec.api_tokens {
            let what = "who may use the API is not changed over it: `api_tokens` are for the engine's own \
                        file; `sequin token create` makes others";
            return Err(refused(403, "tokens_fixed", what));
        }
        let known = moved::known(&due, self.with_versions(&spec, brought, &declared).await?);
        let work = || build(spec, &merged_text, &self.wiring, &known);
        // Components are compiled here, on this thread and no other.
        let mut ready = tokio::task::block_in_place(work);
        let ran = moved::renamed(&due, &self.loaded);
        let wrong = broken(&ran, &ready.loaded);
        if !wrong.is_empty() {
            return Err(refused(422, "sink_would_stop", wrong.trim_end().to_owned()));
        }
        let is_new = |name: &str| !ran.spec.sinks.iter().any(|sink| sink.name == name);
        let mut faults = ready.loaded.faults.iter();
        if let Some((sink, fault)) = faults.find(|(name, _)| is_new(name)) {
            let what = format!("{} could not be started: {}", called(sink), fault.message);
            return Err(refused(422, fault.code, what));
        }
        ready.due = moved::Due::new(due, &known, &ready.loaded);
        let plan = self.plan(&ready);
        let mut warnings: Vec<String> = told.iter().map(ToString::to_string).collect();
        warnings.extend(ready.problems.iter().cloned());
        warnings.extend(missing(&ready.loaded, &plan).await?);
        let hash = hash(&base.text(), &merged_text, &plan);
        Ok(Proposed { merged, ready, known, plan, differences, owners, warnings, hash })
    }

    /// What is known of versions with what came, as if it had been recorded. What others declared, and
    /// what is wrong with that, is no concern of this proposal.
    async fn with_versions(
        &self,
        spec: &Spec,
        brought: &[Brought],
        declared: &BTreeSet<String>,
    ) -> Result<Known, Refused> {
        let known = Known::read(&self.store).await.map_err(stored)?;
        let versions = self.store.versions().await.map_err(stored)?;
        let arrivals = Arrivals { brought: brought.to_vec(), ..Arrivals::default() };
        let is_ours =
            |it: &config::spec::Version| declared.contains(&format!("{}@{}", it.name, it.version));
        let mut spec = spec.clone();
        spec.versions.retain(is_ours);
        let arrivals =
            arrivals::declared(&spec, arrivals, &self.store, &versions, self.compile).await;
        if let Some((version, why)) = arrivals.problems.first_key_value() {
            return Err(refused(422, "plugin_version", format!("plugin `{version}`: {why}")));
        }
        if let Some(declared) = arrivals::absent(&spec, &arrivals.brought, &versions) {
            let config::spec::Version { name, version, .. } = declared;
            let what = format!(
                "plugin `{name}@{version}` did not come with the configuration, and was not uploaded"
            );
            return Err(refused(422, "plugin_version", what));
        }
        Ok(known.trying(arrivals.brought))
    }

    pub(super) async fn apply(
        &mut self,
        proposal: Proposal,
        plan: Option<String>,
    ) -> Result<Result<Value, Refused>, Stopped> {
        let proposed = match self.propose(&proposal).await {
            Ok(proposed) => proposed,
            Err(refused) => return Ok(Err(refused)),
        };
        if plan.is_some_and(|plan| plan != proposed.hash) {
            let what = "what runs, or what is to run, is not what was planned: plan again";
            return Ok(Err(refused(409, "stale_plan", what)));
        }
        let mut told = proposed.told();
        let resources: Vec<Value> = proposed.merged.shown().map(resource).collect();
        let is_nothing = proposed.differences.is_empty() && proposed.plan.is_empty();
        if let Value::Object(told) = &mut told {
            told.insert("resources".to_owned(), resources.into());
            told.insert("applied".to_owned(), (!is_nothing).into());
        }
        if is_nothing {
            return Ok(Ok(told));
        }
        let mut proposed = proposed;
        let is_moved = proposed.ready.due.is_some();
        if let Err(refused) = self.recorded(&proposal, &mut proposed).await {
            return Ok(Err(refused));
        }
        let Proposed { merged, ready, .. } = proposed;
        let before = self.source.applied();
        let text: Arc<str> = merged.text().into();
        self.source.set_applied(Some(Arc::clone(&text)));
        self.told = None;
        self.files = ready.files.clone();
        self.files.extend(self.source.file().map(Path::to_owned));
        let moved = self.take_up(ready).await?;
        if *self.text != *text {
            // It was refused at the last moment, and what ran goes on.
            self.source.set_applied(before);
            if let Err(error) = moved {
                return Ok(Err(moved::not_moved(&error)));
            }
            let why = self.status.config.problem.get().unwrap_or_default().to_string();
            if is_moved {
                // It would have been recorded with the names.
                return Ok(Err(refused(422, "refused", why)));
            }
            let deed = done(&proposal.by, "apply_refused", why.clone());
            if let Err(error) = self.store.withdraw(self.store.epoch(), deed).await {
                warn!(%error, "what was refused cannot be taken back: the next start takes it up");
            }
            return Ok(Err(refused(422, "refused", why)));
        }
        Ok(Ok(told))
    }

    /// Keeps what a proposal brings, and that it is to run.
    async fn recorded(&self, proposal: &Proposal, proposed: &mut Proposed) -> Result<(), Refused> {
        let Proposal { brought, by, reason, .. } = proposal;
        let (store, epoch) = (&self.store, self.store.epoch());
        match proposed.ready.due {
            None => record(store, &proposed.known, &proposed.ready.loaded).await,
            Some(_) => bring(store, &proposed.known).await,
        }
        .map_err(stored)?;
        let of_it = brought.iter().flat_map(|it| {
            it.signatures.iter().map(|signature| (it.digest.clone(), signature.clone()))
        });
        let applied = Applied {
            text: proposed.merged.text(),
            owners: proposed.owners.clone(),
            digests: proposed.ready.loaded.digests.values().cloned().collect(),
            by: by.clone(),
            at_us: now_us(),
        };
        let deed = done(by, "apply", detail(reason, &proposed.differences));
        if let Some(due) = &mut proposed.ready.due {
            // All of it with the names, once nobody writes under the old ones.
            due.renames.applied = Some((applied, of_it.collect()));
            due.renames.deed = deed;
            return Ok(());
        }
        store.apply(epoch, applied, of_it.collect(), deed).await.map_err(stored)
    }

    /// The engine's own file was changed, or somebody asks for it: it takes the place of what was
    /// applied, if it is right.
    pub(super) async fn own_again(&mut self) -> Result<(), Stopped> {
        let Some(applied) = self.source.applied().filter(|_| self.source.own_wins()) else {
            return self.reload(false).await;
        };
        self.source.set_applied(None);
        self.reload(false).await?;
        if self.told.is_some() {
            self.source.set_applied(Some(applied));
            return Ok(());
        }
        warn!(
            "the engine's own configuration has taken the place of what was applied over the API; a \
             start with SEQUIN_APPLIED_CONFIG_WINS=true brings that back"
        );
        Ok(())
    }
}

/// What a version is that the engine's own configuration declares: no registry is asked.
fn digest_of(declared: &Declared<'_>) -> std::io::Result<String> {
    if let Some(digest) = declared.digest {
        return Ok(digest.to_owned());
    }
    let here = arrivals::here(&declared.source);
    let fetched = here.unwrap_or_else(|| Err("its digest is not given".to_owned()));
    Ok(bundle::digest(&fetched.map_err(std::io::Error::other)?.bytes))
}

/// What was done to the configuration, for the audit.
fn done(by: &str, what: &str, detail: String) -> Deed {
    Deed {
        at_us: now_us(),
        by: by.to_owned(),
        what: what.to_owned(),
        subject: "the configuration".to_owned(),
        detail,
        ..Deed::default()
    }
}

/// What counts at a start: what was applied, where the engine has no file of its own or that does not
/// win.
pub(crate) async fn begin(
    store: &Arc<Embedded>,
    source: &ConfigSource,
) -> Result<(), VersionsError> {
    let Some(applied) = store.applied().await? else { return Ok(()) };
    let Applied { text, by, .. } = applied;
    if *source.own() == Own::Nothing || !source.own_wins() {
        info!(by, "what was applied last over the API runs");
        source.set_applied(Some(text.into()));
        return Ok(());
    }
    warn!(
        by,
        "the engine's own configuration takes the place of what was applied over the API; \
         a start with SEQUIN_APPLIED_CONFIG_WINS=true brings that back"
    );
    Ok(())
}

/// What came as a text.
pub(super) fn sent(text: &str) -> Result<Portable, Refused> {
    let nothing_here = |path: &Path| {
        let path = path.display();
        std::io::Error::other(format!(
            "{path} does not come with a YAML text: apply it with `sequin config apply`, or send a bundle"
        ))
    };
    let around = Around {
        env: None,
        base_dir: Path::new(""),
        read_file: &|path| Err(nothing_here(path)),
        component: &|_, path| Err(nothing_here(path)),
        version: &|_| Err(nothing_here(Path::new("its source"))),
    };
    let read = Portable::read("sequin.yaml", text, &around);
    Ok(read.map_err(|wrong| invalid(&wrong))?.filled_in())
}

/// Whether what new and changed sinks name is in their databases: what is to be said of it. Tables may
/// be created later.
///
/// # Errors
/// A table that is there has no column that one names, or changes cannot be kept where they are to be.
async fn missing(loaded: &Loaded, plan: &Plan) -> Result<Vec<String>, Refused> {
    let mut spec = loaded.spec.clone();
    spec.sinks.retain(|sink| plan.restarted.contains(&sink.name));
    let (missing, silent) = tables::missing(&spec, &loaded.reads, wiring::source).await;
    let is_column = |it: &&(String, &str, String)| it.1 == tables::COLUMN_MISSING;
    if let Some((sink, code, what)) = missing.iter().find(is_column) {
        return Err(refused(422, code, format!("{}: {what}", called(sink))));
    }
    let told = missing.iter().map(|(sink, _, what)| format!("{}: {what}", called(sink)));
    let silent = silent.iter().map(|database| {
        format!(
            "database `{database}` does not answer: whether it has what its sinks name is not known"
        )
    });
    let doubtful = retentions::doubtful(&spec).await;
    let doubtful =
        doubtful.map_err(|retentions::Unusable { code, what }| refused(422, code, what))?;
    Ok(told.chain(silent).chain(doubtful).collect())
}

/// The specification, or what is wrong: with places in the text that was sent, where they are there.
fn checked(merged: &str, sent: &str) -> Result<(Spec, Vec<Diagnostic>), Refused> {
    let wrong = match configuration::check(Path::new(APPLIED), merged) {
        Ok(read) => return Ok(read),
        Err(wrong) => wrong,
    };
    // Alone it may miss what the rest has: only if nothing of it is wrong does the whole count.
    let alone = configuration::check(Path::new("sequin.yaml"), &sent.replace('$', "$$"));
    Err(invalid(&alone.err().unwrap_or(wrong)))
}

fn hash(base: &str, merged: &str, plan: &Plan) -> String {
    let mut hash = Sha256::new();
    for part in [base, merged, &plan.to_string()] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    hash.iter().take(16).fold(String::new(), |mut text, byte| {
        // Into a text.
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn detail(reason: &str, differences: &[Difference]) -> String {
    let all = differences.iter().map(|it| format!("{} {}", it.action.as_str(), it.id));
    let all: Vec<String> = all.collect();
    if reason.is_empty() { all.join(", ") } else { format!("{reason}: {}", all.join(", ")) }
}

impl Proposed {
    fn told(&self) -> Value {
        let changes = self.differences.iter().map(|it| change(it, self.effect(it)));
        let actions = actions(&self.ready.loaded.spec, &self.plan, &self.differences);
        let actions = actions.into_iter().map(|description| json!({"description": description}));
        json!({
            "changes": changes.collect::<Vec<_>>(),
            "actions": actions.collect::<Vec<_>>(),
            "warnings": self.warnings,
            "hash": self.hash,
        })
    }

    /// What an update does to what runs.
    fn effect(&self, difference: &Difference) -> Option<&'static str> {
        let Difference { id, action, .. } = difference;
        let is_restarted = match id.kind.as_str() {
            "sink" | "change_retention" => self.plan.restarted.contains(&id.sink()),
            "database" => self.plan.databases.contains_key(&id.name),
            _ => return None,
        };
        let in_place = if is_restarted { "restart" } else { "in_place" };
        (*action == Action::Update).then_some(in_place)
    }
}
