//! What is done to bindings by hand while the engine runs: promote, go back, release.
//!
//! The new chain is opened and checked like any configuration, then recorded with its hold, and only
//! then handed to the engine. A kill before the record has changed nothing; one behind it starts with
//! what was recorded.

use std::sync::Arc;

use config::Spec;
use engine::run::Stopped;
use engine::status::SinkStatus;
use engine::supervise::TaskKind;
use model::versions::{
    BindingName, Deed, Generation, How, Link, Made, Role, Versions as _, VersionsError,
};
use store::Embedded;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Reloader, broken, build};
use crate::bindings::{self, Brought, Chains, Known};
use crate::components::Components;
use crate::plan::{Change, Loaded, Plan};
use crate::versions;

/// Something to be done, and where to answer.
pub(crate) struct Asked {
    pub(crate) ask: Ask,
    pub(crate) answer: oneshot::Sender<Result<Vec<Generation>, VersionsError>>,
}

/// What is to be done to a binding.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// Its name or its id.
    pub(crate) sink: String,
    /// Needed if the sink has more than one chain.
    pub(crate) role: Option<Role>,
    pub(crate) what: What,
    pub(crate) by: String,
    pub(crate) reason: String,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Promote {
        /// `name@version` or a digest.
        to: String,
        /// Needed if the chain has more than one.
        function: Option<String>,
        /// Another config, too: a JSON object.
        config: Option<String>,
    },
    Rollback {
        /// Else the newest that was other than what runs.
        to: Option<u64>,
    },
    Release,
}

type Done = Result<Vec<Generation>, VersionsError>;

fn refused<T>(code: &'static str, what: impl Into<String>) -> Result<T, VersionsError> {
    Err(VersionsError::refused(code, what))
}

impl Reloader {
    pub(super) async fn operate(&mut self, ask: Ask) -> Result<Done, Stopped> {
        match self.prepare(&ask).await {
            Ok(None) => {
                // The file decides again.
                info!(sink.name = ask.sink, by = ask.by, "a hold is released");
                self.told = None;
                self.reload(false).await?;
                Ok(Ok(Vec::new()))
            }
            Ok(Some((made, ready))) => {
                let generation = made.generation.clone();
                if let Err(error) = self.store.bind(self.store.epoch(), vec![made]).await {
                    return Ok(Err(error));
                }
                // Nothing of it has another name.
                self.take_up(ready).await?.ok();
                Ok(Ok(vec![generation]))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// What is to be recorded and to run; None if a hold was released.
    async fn prepare(&self, ask: &Ask) -> Result<Option<(Made, super::Ready)>, VersionsError> {
        let spec = &self.loaded.spec;
        let is_it = |sink: &&config::spec::Sink| sink.name == ask.sink || sink.id == ask.sink;
        let Some(sink) = spec.sinks.iter().find(is_it) else {
            return refused("unknown_sink", format!("there is no sink `{:.200}`", ask.sink));
        };
        let known = Known::read(&self.store).await?;
        let name =
            BindingName { sink: sink.name.clone(), role: self.role(&known, &sink.name, ask)? };
        let now = now_us();
        if let What::Release = ask.what {
            let deed = Deed {
                at_us: now,
                by: ask.by.clone(),
                what: "release".to_owned(),
                subject: name.to_string(),
                detail: ask.reason.clone(),
                ..Deed::default()
            };
            if !self.store.release(self.store.epoch(), name.clone(), deed).await? {
                return refused("not_held", format!("nothing holds the {name}"));
            }
            return Ok(None);
        }
        let current = known.bindings.get(&name);
        let Some(current) = current.map(|binding| &binding.current) else {
            return refused(
                "no_binding",
                format!("the {name} has no plugin: name one in sequin.yaml"),
            );
        };
        let (links, how) = match &ask.what {
            What::Promote { to, function, config } => {
                let links = promoted(spec, &known, &name, &current.links, (to, function, config))?;
                (links, How::Promote)
            }
            What::Rollback { to } => {
                let history = self.store.history(&name.sink).await?;
                let mut of_role = history.into_iter().filter(|(role, _)| *role == name.role);
                let wanted = of_role.find(|(_, generation)| match to {
                    Some(number) => generation.number == *number,
                    None => generation.links != current.links,
                });
                let Some((_, generation)) = wanted else {
                    let what = match to {
                        Some(number) => format!("the {name} never had a generation {number}"),
                        None => format!("the {name} was never anything else"),
                    };
                    return refused("unknown_generation", what);
                };
                (generation.links, How::Rollback)
            }
            What::Release => (current.links.clone(), How::Apply),
        };
        if links == current.links {
            return refused("unchanged", format!("that is what the {name} runs"));
        }
        let generation = Generation {
            number: current.number + 1,
            links,
            how,
            by: ask.by.clone(),
            reason: ask.reason.clone(),
            at_us: now,
            behind: None,
        };
        let mut made = Made { name, generation, hold: true, refused: false };
        let mut known = known.having(&made);
        // A file that has changed meanwhile is the next reload's.
        known.pins.clone_from(&self.loaded.digests);
        let build = || build(spec.clone(), &self.text, &self.wiring, &known);
        let ready = tokio::task::block_in_place(build);
        let wrong = broken(&self.loaded, &ready.loaded);
        if !wrong.is_empty() {
            return refused("plugin_refused", wrong.trim_end().to_owned());
        }
        if let Some(fault) = ready.loaded.faults.get(&made.name.sink) {
            return refused("plugin_refused", fault.message.clone());
        }
        let chain = ready.loaded.chains.get(&made.name);
        made.refused = chain.is_some_and(|chain| chain.refused.is_some());
        Ok(Some((made, ready)))
    }

    /// The role that is meant: the one that was said, or the only one that has anything.
    fn role(&self, known: &Known, sink: &str, ask: &Ask) -> Result<Role, VersionsError> {
        if let Some(role) = ask.role {
            return Ok(role);
        }
        let has = |role: &Role| {
            let binding = known.bindings.get(&BindingName { sink: sink.to_owned(), role: *role });
            binding.is_some_and(|binding| match ask.what {
                What::Promote { .. } => !binding.current.links.is_empty(),
                What::Rollback { .. } => true,
                What::Release => binding.hold.is_some(),
            })
        };
        let roles: Vec<Role> = Role::ALL.into_iter().filter(has).collect();
        match roles[..] {
            [role] => Ok(role),
            [] if matches!(ask.what, What::Release) => {
                refused("not_held", format!("nothing holds sink `{sink}`"))
            }
            [] => refused("no_binding", format!("sink `{sink}` has no plugin")),
            _ => {
                let words: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
                let what = format!("sink `{sink}` has {}: say which role", words.join(" and "));
                refused("which_role", what)
            }
        }
    }

    /// Says what holds keep from being done, each once.
    pub(super) fn tell_held(&mut self) {
        let mut told = std::collections::BTreeSet::new();
        let mut shown = Vec::new();
        for (name, chain) in &self.loaded.chains {
            let Some(hold) = &chain.refused else { continue };
            let text = bindings::held(name, hold);
            if !self.held.contains(&text) {
                warn!(sink.name = name.sink, code = "held", "{text}");
            }
            told.insert(text);
            shown.push(Arc::new((name.sink.clone(), name.role.to_string())));
        }
        self.held = told;
        self.status.config.held.set(shown);
    }

    /// Records from where on the generations of these sinks are in effect, once that is known; of
    /// all sinks without a plan.
    pub(super) async fn follow(&self, plan: Option<&Plan>) {
        let meant = |sink: &str| match plan {
            None => true,
            Some(plan) => plan.sinks.get(sink).is_some_and(|change| *change != Change::Removed),
        };
        let known = match Known::read(&self.store).await {
            Ok(known) => known,
            Err(error) => return warn!(%error, "what sinks are bound to cannot be read"),
        };
        let slots = self.status.slots.list();
        for sink in slots.iter().flat_map(|slot| slot.sinks.list()) {
            let bindings = known.bindings.values();
            let begins =
                bindings.filter(|it| *it.name.sink == *sink.name && it.current.behind.is_none());
            let begins: Vec<_> = begins.map(|it| (it.name.clone(), it.current.number)).collect();
            if begins.is_empty() || !meant(&sink.name) {
                continue;
            }
            let revision = self.revisions.sinks.get(&*sink.name).copied().unwrap_or_default();
            let (store, stop) = (Arc::clone(&self.store), self.beside.stop.clone());
            let name = Arc::clone(&sink.name);
            self.supervisor.spawn(TaskKind::Check, &name, async move {
                stop.run_until_cancelled(begun(store, sink, revision, begins)).await;
            });
        }
    }
}

async fn begun(
    store: Arc<Embedded>,
    sink: Arc<SinkStatus>,
    revision: u64,
    begins: Vec<(BindingName, u64)>,
) {
    let mut watch = sink.begun.subscribe();
    let is_it = |begun: &Option<(u64, _)>| begun.is_some_and(|(begun, _)| begun >= revision);
    let Ok(Some((_, behind))) = watch.wait_for(is_it).await.map(|begun| *begun) else { return };
    for (name, number) in begins {
        if let Err(error) = store.begun(store.epoch(), name, number, behind).await {
            warn!(%error, sink.name = %sink.name, "where a generation began cannot be recorded");
        }
    }
}

/// The chain with another plugin in it.
fn promoted(
    spec: &Spec,
    known: &Known,
    name: &BindingName,
    links: &[Link],
    (to, function, config): (&str, &Option<String>, &Option<String>),
) -> Result<Vec<Link>, VersionsError> {
    let component =
        versions::parse(to).map_err(|what| VersionsError::refused("unknown_version", what))?;
    let found = Components::new(&spec.plugin_dir, known).find(&component);
    let found = found.map_err(|what| VersionsError::refused("unknown_version", what))?;
    let inspected = plugin::inspect(&found.bytes, &plugin::Limits::default());
    let inspected =
        inspected.map_err(|error| VersionsError::refused("plugin_refused", error.to_string()))?;
    // It is gone back to by its digest, wherever it came from.
    known.keep(&inspected.digest, &found.bytes)?;
    let called = |digest: &str, wanted: &str| known.names(digest).any(|it| it.name == wanted);
    let named = to.rsplit_once('@').map(|(name, _)| name);
    let is_it = |link: &&Link| match (function, named) {
        (Some(function), _) => link.function == *function,
        (None, _) if links.len() == 1 => true,
        (None, Some(named)) => called(&link.digest, named),
        (None, None) => false,
    };
    let mut meant = links.iter().filter(is_it);
    let (Some(link), None) = (meant.next(), meant.next()) else {
        let functions: Vec<&str> = links.iter().map(|link| link.function.as_str()).collect();
        let what = format!(
            "the {name} is made of {}: say which function is to run {to}",
            if functions.is_empty() { "nothing".to_owned() } else { functions.join(", ") }
        );
        return refused("which_function", what);
    };
    let replaced = |old: &Link| {
        if old != link {
            return old.clone();
        }
        let config = config.clone().unwrap_or_else(|| old.config.clone());
        Link { function: old.function.clone(), digest: inspected.digest.clone(), config }
    };
    Ok(links.iter().map(replaced).collect())
}

/// Records what a configuration brings, and what it makes of the bindings.
///
/// # Errors
/// It cannot be written: nothing of it may run.
pub(crate) async fn record(
    store: &Arc<Embedded>,
    known: &Known,
    loaded: &Loaded,
) -> Result<(), VersionsError> {
    let now = now_us();
    bring(store, known).await?;
    for (name, chain) in &loaded.chains {
        if let Some(hold) = chain.refused.as_ref().filter(|hold| !hold.refused) {
            let deed = Deed {
                at_us: now,
                by: "sequin.yaml".to_owned(),
                what: "held".to_owned(),
                subject: name.to_string(),
                detail: bindings::held(name, hold),
                ..Deed::default()
            };
            store.refused(store.epoch(), name.clone(), deed).await?;
        }
        if !chain.met {
            continue;
        }
        info!(sink.name = name.sink, role = %name.role, "sequin.yaml says what was held: the hold is over");
        let deed = Deed {
            at_us: now,
            by: "sequin.yaml".to_owned(),
            what: "hold_met".to_owned(),
            subject: name.to_string(),
            ..Deed::default()
        };
        store.release(store.epoch(), name.clone(), deed).await?;
    }
    let made = made(known, loaded, now);
    if made.is_empty() { Ok(()) } else { store.bind(store.epoch(), made).await }
}

/// Keeps the components that come with a configuration.
///
/// # Errors
/// They cannot be written, or one has a name that is another's.
pub(super) async fn bring(store: &Arc<Embedded>, known: &Known) -> Result<(), VersionsError> {
    for Brought { digest, bytes, version, .. } in known.brought() {
        tokio::task::block_in_place(|| store.keep(digest, bytes))?;
        if let Some(version) = version {
            store.add(store.epoch(), version.clone()).await?;
        }
    }
    Ok(())
}

/// The generations that a configuration makes of the bindings.
pub(super) fn made(known: &Known, loaded: &Loaded, now: i64) -> Vec<Made> {
    let mut chains: Chains = loaded.chains.clone();
    // A sink that is gone runs nothing. What is held of it stays, should it come back.
    for (name, binding) in &known.bindings {
        let gone = !loaded.spec.sinks.iter().any(|sink| sink.name == name.sink);
        if gone && binding.hold.is_none() {
            chains.entry(name.clone()).or_default();
        }
    }
    known.made(&chains, now)
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    let now = super::since_1970();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
