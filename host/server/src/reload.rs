//! Takes up changes of the configuration while the engine runs: on SIGHUP, and when its file or a file
//! that it names has changed.
//!
//! All of it is read, checked and built before anything that runs is touched. One that is wrong
//! changes nothing: what is wrong is logged, and the last good one goes on. The same for one with which
//! a sink that runs could not be started any more. Other sinks that cannot be started stand alone, and
//! are tried again after a while.

pub(crate) mod apply;
pub(crate) mod awaited;
mod lay;
pub(crate) mod moved;
mod operate;
pub(crate) mod resources;
mod shown;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::Spec;
use config::spec::FunctionKind;
use engine::moved::NotMoved;
use engine::run::{Handle, Stopped};
use engine::spec::SlotSpec;
use engine::status::Status;
use engine::supervise::{Supervisor, TaskKind};
use model::backoff::Backoff;
use sha2::{Digest as _, Sha256};
use store::Embedded;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub(crate) use operate::{Ask, Asked, What, now_us, record};
use operate::{bring, made};

use crate::arrivals;
use crate::bindings::Known;
use crate::components::show;
use crate::config_source::{ConfigSource, Read};
use crate::plan::{Change, Loaded, Plan};
use crate::rollouts;
use crate::serve::{check_sinks, streams_of};
use crate::tables;
use crate::tokens::Tokens;
use crate::watch::{Seen, Watch};
use crate::wiring::{self, Wiring};

/// Between looks at the files. A change is taken up at the second look that finds it the same.
const LOOK: Duration = Duration::from_secs(1);

/// Between attempts to start sinks that cannot be, beside those that a change gives rise to.
const RETRY: Backoff = Backoff { first: Duration::from_secs(5), cap: Duration::from_secs(300) };

/// A configuration that was read and built, and nothing more.
pub(crate) struct Ready {
    pub(crate) loaded: Loaded,
    /// As it was written.
    text: String,
    pub(crate) slots: Vec<SlotSpec>,
    pub(crate) warnings: Vec<config::Diagnostic>,
    /// What of it cannot be used, and hinders no sink.
    problems: Vec<String>,
    files: Vec<PathBuf>,
    hash: u64,
    /// What of it had another name.
    due: Option<moved::Due>,
}

/// What is wrong, and the files whose change may mend it.
pub(crate) struct Refused {
    pub(crate) reason: String,
    files: Vec<PathBuf>,
}

/// Reads the configuration, and fetches the components that come with it.
///
/// # Errors
/// What is wrong with it, or that the store cannot be read.
pub(crate) async fn read(
    source: &ConfigSource,
    store: &Arc<Embedded>,
    compile: Duration,
) -> Result<(Read, Known), Refused> {
    let own: Vec<PathBuf> = source.file().map(PathBuf::from).into_iter().collect();
    let read = source.read();
    let mut read = read.map_err(|reason| Refused { reason, files: own.clone() })?;
    read.files = [own, read.files, wiring::files(&read.spec), arrivals::files(&read.spec)].concat();
    let components = std::mem::take(&mut read.components);
    match arrivals::known(&read.spec, components, store, compile).await {
        Ok(known) => Ok((read, known)),
        Err(error) => Err(Refused { reason: error.to_string(), files: read.files }),
    }
}

/// Builds what was read. Starts and sends nothing.
pub(crate) fn load(read: Read, wiring: &Wiring, known: &Known) -> Ready {
    let ready = build(read.spec, &read.text, wiring, known);
    for problem in &ready.problems {
        warn!(problem, "something that no sink uses cannot be used");
    }
    Ready { warnings: read.warnings, files: read.files, ..ready }
}

/// Builds what was read.
fn build(spec: Spec, text: &str, wiring: &Wiring, known: &Known) -> Ready {
    let built = wiring.build(&spec, known);
    let mut hash = Sha256::new();
    hash.update(text);
    for (name, digest) in &built.digests {
        hash.update(name);
        hash.update(digest);
    }
    let digest: [u8; 32] = hash.finalize().into();
    // A float, which is what a metric is, holds 48 bits and more without loss.
    let hash = digest.iter().take(6).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let used = |called: &str| {
        let is_it = |function: &config::spec::Function| match &function.kind {
            FunctionKind::Plugin(plugin) => show(&plugin.component) == *called,
            FunctionKind::Path(_) | FunctionKind::Enrichment(_) => false,
        };
        spec.functions.iter().any(is_it)
    };
    // What is wrong with one that is used is told there.
    let idle = known.problems().iter().filter(|(called, _)| !used(called));
    let idle: Vec<String> = idle.map(|(called, why)| format!("plugin `{called}`: {why}")).collect();
    let versions = known.digests_of(&spec);
    let loaded = Loaded {
        spec,
        digests: built.digests,
        versions,
        chains: built.chains,
        faults: built.faults,
        reads: built.reads,
    };
    let (text, problems) = (text.to_owned(), [built.warnings, idle].concat());
    let (warnings, files) = (Vec::new(), Vec::new());
    Ready { loaded, text, slots: built.slots, warnings, problems, files, hash, due: None }
}

/// Whether all sinks would go by what is no more than a file cut short.
fn cut_short(old: &Loaded, ready: &Ready) -> Option<String> {
    let Spec { databases, sinks, .. } = &ready.loaded.spec;
    let count = old.spec.sinks.len();
    let is_cut =
        count > 0 && databases.is_empty() && sinks.is_empty() && !ready.text.contains("sinks");
    is_cut.then(|| {
        format!(
            "error: the configuration is empty, and all sinks ({count}) would go (fix: write \
             `sinks: []` if that is meant)\n"
        )
    })
}

/// Sinks that run and could not be started with what is new: a line each. Empty if there are none.
fn broken(old: &Loaded, new: &Loaded) -> String {
    let runs = |name: &str| {
        let is_it = |sink: &&config::spec::Sink| sink.name == name;
        let known = old.spec.sinks.iter().find(is_it);
        known.is_some_and(|sink| sink.status != config::spec::Status::Disabled)
            && !old.faults.contains_key(name)
    };
    let broken = new.faults.iter().filter(|(name, _)| runs(name));
    let told = broken
        .map(|(name, fault)| format!("error: {}: {}\n", config::spec::called(name), fault.message));
    told.collect()
}

/// Sinks that do not run because somebody has told them so.
fn disabled(spec: &Spec) -> Vec<Arc<(String, String)>> {
    let sinks = spec.sinks.iter().filter(|sink| sink.status == config::spec::Status::Disabled);
    sinks.map(|sink| Arc::new((sink.id.clone(), sink.name.clone()))).collect()
}

/// Numbers the versions of databases and sinks, for the engine to know what it runs already.
#[derive(Default)]
struct Revisions {
    last: u64,
    databases: HashMap<String, u64>,
    sinks: HashMap<String, u64>,
}

impl Revisions {
    /// Another number for what is another.
    fn number(&mut self, plan: &Plan, slots: &mut [SlotSpec]) {
        self.last += 1;
        for (name, change) in &plan.databases {
            if *change != Change::Removed {
                self.databases.insert(name.clone(), self.last);
            }
        }
        for name in &plan.restarted {
            self.sinks.insert(name.clone(), self.last);
        }
        for slot in slots {
            slot.revision = self.databases.get(&*slot.database).copied().unwrap_or_default();
            for sink in &mut slot.sinks {
                sink.revision = self.sinks.get(&*sink.name).copied().unwrap_or_default();
            }
        }
    }
}

/// What stands beside the engine and follows what it runs.
pub(crate) struct Beside {
    streams: Arc<web::Streams>,
    /// By name of the sink.
    offered: HashMap<Arc<str>, web::Stream>,
    /// Ends the checks of the tables.
    checks: CancellationToken,
    stop: CancellationToken,
}

impl Beside {
    /// Everything ends with `stop`.
    pub(crate) fn new(streams: Arc<web::Streams>, stop: CancellationToken) -> Self {
        Self { streams, offered: HashMap::new(), checks: stop.child_token(), stop }
    }

    /// Offers the streams of the sinks that run. One that goes on is offered as it is: what was
    /// built of it again was not taken up.
    pub(crate) fn offer(&mut self, streams: Vec<web::Stream>, is_new: impl Fn(&str) -> bool) {
        let mut before = std::mem::take(&mut self.offered);
        for stream in streams {
            let kept = before.remove(&stream.name).filter(|_| !is_new(&stream.name));
            self.offered.insert(Arc::clone(&stream.name), kept.unwrap_or(stream));
        }
        self.streams.set(self.offered.values().cloned().collect());
    }

    /// Looks for what the sinks name, and tells what is not there.
    pub(crate) fn check_tables(
        &mut self,
        Loaded { spec, reads, .. }: &Loaded,
        status: &Status,
        supervisor: &Supervisor,
    ) {
        self.checks.cancel();
        self.checks = self.stop.child_token();
        let slots = status.slots.list();
        let sinks = slots.iter().flat_map(|slot| slot.sinks.list());
        let sinks: HashMap<_, _> = sinks.map(|sink| (sink.name.to_string(), sink)).collect();
        for sink in sinks.values() {
            tables::CODES.into_iter().for_each(|code| sink.warnings.clear_code(code));
        }
        for check in tables::checks(spec, reads, wiring::source) {
            let looking = check.run(sinks.clone(), self.checks.clone());
            supervisor.spawn(TaskKind::Check, "tables", looking);
        }
    }
}

/// Takes up changes.
pub(crate) struct Reloader {
    pub(crate) source: ConfigSource,
    pub(crate) wiring: Arc<Wiring>,
    pub(crate) handle: Handle,
    pub(crate) status: Arc<Status>,
    pub(crate) supervisor: Supervisor,
    beside: Beside,
    loaded: Loaded,
    /// What `loaded` was written as.
    text: String,
    revisions: Revisions,
    files: Vec<PathBuf>,
    /// What was said last: once is enough.
    told: Option<String>,
    /// Holds that were told.
    held: BTreeSet<String>,
    store: Arc<Embedded>,
    /// CPU time for the compilation of a component that comes with a configuration.
    compile: Duration,
    tokens: Arc<Tokens>,
    asked: mpsc::Receiver<Asked>,
    configs: mpsc::Receiver<apply::Asked>,
    /// What the engine's own file said last.
    own: Option<String>,
}

impl Reloader {
    /// Of an engine that runs this; its slots have been taken out.
    #[expect(clippy::too_many_arguments, reason = "what it works with, once")]
    pub(crate) fn new(
        source: ConfigSource,
        wiring: Arc<Wiring>,
        handle: Handle,
        status: Arc<Status>,
        supervisor: Supervisor,
        mut beside: Beside,
        ready: Ready,
        (store, compile, tokens, asked, configs): (
            Arc<Embedded>,
            Duration,
            Arc<Tokens>,
            mpsc::Receiver<Asked>,
            mpsc::Receiver<apply::Asked>,
        ),
    ) -> Self {
        let Ready { loaded, text, files, hash, .. } = ready;
        beside.check_tables(&loaded, &status, &supervisor);
        let config = &status.config;
        config.disabled.set(disabled(&loaded.spec));
        config.hash.set(hash);
        config.applied_at.set(now());
        let revisions = Revisions::default();
        let (told, held) = (None, BTreeSet::new());
        let own = source.own_text().ok().map(|(_, text)| text);
        let mut this = Self {
            source,
            wiring,
            handle,
            status,
            supervisor,
            beside,
            loaded,
            text,
            revisions,
            files,
            told,
            held,
            store,
            compile,
            tokens,
            asked,
            configs,
            own,
        };
        this.show_drift();
        this.tell_held();
        this
    }

    /// Works until cancelled.
    pub(crate) async fn run(mut self, mut hangup: Signal, cancelled: CancellationToken) {
        let mut watch = Watch::new(self.look());
        self.follow(None).await;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut attempts, mut dice) = (0, fastrand::Rng::new());
        let mut again = Instant::now() + RETRY.delay(1, dice.f64());
        loop {
            let stand = !self.loaded.faults.is_empty();
            tokio::select! {
                biased;
                () = cancelled.cancelled() => return,
                () = tokio::time::sleep_until(again), if stand => {
                    attempts += 1;
                    again = Instant::now() + RETRY.delay(attempts, dice.f64());
                    if self.reload(true).await.is_err() {
                        return;
                    }
                    continue;
                }
                Some(()) = hangup.recv() => {
                    info!("SIGHUP: reading the configuration again");
                    self.told = None;
                    self.own = None;
                }
                Some(Asked { ask, answer }) = self.asked.recv() => {
                    let done = match self.operate(ask).await {
                        Ok(done) => done,
                        Err(Stopped) => return,
                    };
                    // Whoever asked may be gone.
                    answer.send(done).ok();
                    continue;
                }
                Some(apply::Asked { ask, answer }) = self.configs.recv() => {
                    let is_applied = matches!(ask, apply::Ask::Apply(..) | apply::Ask::Change(_));
                    let done = match self.configure(ask).await {
                        Ok(done) => done,
                        Err(Stopped) => return,
                    };
                    answer.send(done).ok();
                    if is_applied {
                        watch = Watch::new(self.look());
                    }
                    continue;
                }
                _ = looks.tick() => {
                    let seen = tokio::task::block_in_place(|| self.look());
                    if !watch.changed(seen) {
                        continue;
                    }
                    info!("the configuration has changed");
                }
            }
            // Made before it is read: what changes while it is read is seen at the next look.
            watch = Watch::new(self.look());
            // What was applied over the API stays until that is what has changed.
            let own = self.source.own_text().ok().map(|(_, text)| text);
            let is_own = own != std::mem::replace(&mut self.own, own.clone());
            let done = if is_own { self.own_again().await } else { self.reload(false).await };
            if done.is_err() {
                return;
            }
            attempts = 0;
            watch = watch.go_on(self.look());
        }
    }

    fn look(&self) -> Seen {
        Seen::look(self.files.iter().map(PathBuf::as_path))
    }

    /// `quietly`: nobody has asked for it.
    async fn reload(&mut self, quietly: bool) -> Result<(), Stopped> {
        let ready = read(&self.source, &self.store, self.compile).await;
        let ready = ready.and_then(|(read, known)| {
            let due = moved::due(&read.text, &self.loaded.spec).map_err(|what| {
                let reason = format!("error: {}: {what}\n", moved::BOTH);
                Refused { reason, files: read.files.clone() }
            })?;
            let known = moved::known(&due, known);
            // Components are compiled here, on this thread and no other.
            let mut ready = tokio::task::block_in_place(|| load(read, &self.wiring, &known));
            let ran = moved::renamed(&due, &self.loaded);
            let cut = cut_short(&self.loaded, &ready);
            let reason = cut.unwrap_or_else(|| broken(&ran, &ready.loaded));
            ready.due = moved::Due::new(due, &known, &ready.loaded);
            match reason {
                reason if reason.is_empty() => Ok((known, ready)),
                reason => Err(Refused { reason, files: ready.files }),
            }
        });
        let (known, ready) = match ready {
            Ok(ready) => ready,
            Err(Refused { reason, files }) => {
                self.refuse(reason, files);
                return Ok(());
            }
        };
        if quietly && self.plan(&ready).is_empty() {
            return Ok(());
        }
        for warning in &ready.warnings {
            warn!(config = %warning, "the configuration holds something that has no effect");
        }
        let files = ready.files.clone();
        // On record before anything runs with it; what has another name is, with that.
        let recorded = match ready.due {
            None => record(&self.store, &known, &ready.loaded).await,
            Some(_) => bring(&self.store, &known).await,
        };
        if let Err(error) = recorded {
            self.refuse(format!("what sinks are bound to cannot be recorded: {error}"), files);
            return Ok(());
        }
        self.files = files;
        self.told = None;
        if let Err(error) = self.take_up(ready).await? {
            self.refuse(format!("error: {error}"), Vec::new());
        }
        Ok(())
    }

    /// A configuration is wrong: the one that runs goes on.
    fn refuse(&mut self, reason: String, files: Vec<PathBuf>) {
        let config = &self.status.config;
        config.failures.add(1);
        config.problem.set(reason.clone());
        // What runs is watched too: it may come back.
        let all: BTreeSet<_> = files.into_iter().chain(self.files.drain(..)).collect();
        self.files = all.into_iter().collect();
        if self.told.as_ref() != Some(&reason) {
            let reason = reason.trim_end();
            error!("the configuration is wrong, and the last good one goes on:\n{reason}");
        }
        self.told = Some(reason);
    }

    /// Makes what runs what was built. Inside: why what goes by another name does not yet.
    async fn take_up(&mut self, mut ready: Ready) -> Result<Result<(), NotMoved>, Stopped> {
        let config = &self.status.config;
        let plan = self.plan(&ready);
        if plan.is_empty() {
            info!("the configuration is as it was");
        } else {
            info!(%plan, "taking up another configuration");
            let changed = |name: &str| plan.restarted.iter().any(|restarted| restarted == name);
            let (rollouts, spec) = (self.handle.rollouts(), &ready.loaded.spec);
            let refreshed = match Known::read(&self.store).await {
                Ok(known) => tokio::task::block_in_place(|| {
                    rollouts::refresh(rollouts, spec, &self.wiring, &known, &ready.slots, changed)
                }),
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = refreshed {
                config.failures.add(1);
                error!("the configuration is wrong, and the last good one goes on:\n{reason}");
                config.problem.set(reason);
                return Ok(Ok(()));
            }
            self.revisions.number(&plan, &mut ready.slots);
            check_sinks(&self.supervisor, &ready.slots, changed);
            let streams = streams_of(&ready.slots);
            let begun = ready.due.as_ref().map(|due| due.begun(&self.loaded)).unwrap_or_default();
            if let Err(error) = self.hand_over(&mut ready).await? {
                return Ok(Err(error));
            }
            let database_changed = |name: &str| {
                let sinks = &ready.loaded.spec.sinks;
                let sink = sinks.iter().find(|sink| sink.name == name);
                let database = sink.map(|sink| &sink.database);
                database.is_some_and(|it| plan.databases.contains_key(it) || begun.contains(it))
            };
            self.beside.offer(streams, |name| changed(name) || database_changed(name));
            self.beside.check_tables(&ready.loaded, &self.status, &self.supervisor);
            config.reloads.add(1);
            info!("the other configuration runs");
        }
        config.problem.set(None);
        config.disabled.set(disabled(&ready.loaded.spec));
        config.hash.set(ready.hash);
        config.applied_at.set(now());
        self.tokens.declare(&ready.loaded.spec.api_tokens);
        self.loaded = ready.loaded;
        self.text = ready.text;
        self.show_drift();
        self.tell_held();
        self.follow(Some(&plan)).await;
        Ok(Ok(()))
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    since_1970().as_secs()
}

fn since_1970() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "only server reads the clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}
