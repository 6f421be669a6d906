//! How slots and sinks are: checks in the predecessor's words, each with what is wrong and what to
//! do, and one status for each entity.
//!
//! Judged from what the engine shows of itself ([`crate::status`]), beside the data path: nothing
//! waits for it. What has an error is told once when it begins and once when it is over, with the
//! time since which it has it, which a restart does not forget.

pub mod monitor;
mod sink;
mod slot;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::status::Counter;

/// The last flips that are kept: a database that goes takes all of its sinks along at once.
const FLIPS_MAX: usize = 2_000;
/// Of them, for people.
const FLIPS_SHOWN: usize = 100;

/// How an entity is, or a check of it; a worse one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Healthy,
    /// Something to know, which stops nothing and is not counted against the entity.
    Notice,
    /// Not known yet, or not before something else is mended.
    Waiting,
    /// It gets worse if nobody acts.
    Warning,
    /// Nothing gets through.
    Error,
    /// Somebody has told it to stand still.
    Paused,
}

impl Level {
    /// The predecessor's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Notice => "notice",
            Self::Waiting => "waiting",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Paused => "paused",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its stable name.
    pub slug: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// How it stands.
    pub level: Level,
    /// What is wrong, if anything.
    pub problem: Option<Problem>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its stable name.
    pub code: &'static str,
    /// What is wrong, and what to do about it.
    pub message: String,
    /// What it is about, if there are several: such a notice can be dismissed.
    pub subject: Option<String>,
}

impl Check {
    fn new(slug: &'static str, name: &'static str, level: Level) -> Self {
        Self { slug, name, level, problem: None }
    }

    /// What a dismissal of it names; None if it cannot be dismissed.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        let subject = self.problem.as_ref()?.subject.as_ref()?;
        Some(format!("{}:{subject}", self.slug))
    }

    fn with(self, level: Level, code: &'static str, message: impl Into<String>) -> Self {
        let problem = Some(Problem { code, message: message.into(), subject: None });
        Self { level, problem, ..self }
    }
}

/// What an entity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A slot.
    Slot,
    /// A sink.
    Sink,
}

impl Kind {
    /// The predecessor's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slot => "postgres_replication_slot",
            Self::Sink => "sink_consumer",
        }
    }
}

/// A slot or a sink, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// What it is.
    pub kind: Kind,
    /// Its id in metrics and the API.
    pub id: String,
    /// Its name in the configuration.
    pub name: String,
    /// The worst of its checks.
    pub level: Level,
    /// Since when it has an error, in microseconds since 1970.
    pub erroring_since_us: Option<i64>,
    /// Its checks.
    pub checks: Vec<Check>,
}

impl Entity {
    /// Notices do not count; a paused one is paused whatever its checks say.
    fn new(kind: Kind, id: String, name: String, is_paused: bool, checks: Vec<Check>) -> Self {
        let worst = checks.iter().map(|check| check.level).max().unwrap_or(Level::Healthy);
        let level = match worst {
            _ if is_paused => Level::Paused,
            Level::Notice => Level::Healthy,
            // An error of one check is no less one because others wait for it.
            other => other,
        };
        Self { kind, id, name, level, erroring_since_us: None, checks }
    }

    /// What is recorded under: kind and id.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.kind.as_str(), self.id)
    }

    /// The first of its checks that has an error.
    #[must_use]
    pub fn error(&self) -> Option<&Problem> {
        let erring = self.checks.iter().find(|check| check.level == Level::Error);
        erring.and_then(|check| check.problem.as_ref())
    }
}

/// An entity got an error, or is without again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// What it is.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is one to act upon, or the end of one.
    pub is_alert: bool,
    /// How it is now.
    pub level: Level,
    /// What is wrong, of an alert.
    pub problem: Option<Problem>,
    /// Since when it had the error.
    pub erroring_since_us: i64,
}

/// How all of it was when it was last judged.
#[derive(Debug, Default)]
pub struct Health {
    shown: Mutex<Shown>,
    /// Alerts told, and their ends.
    pub alerts: Counter,
    /// Ends of alerts told.
    pub resolved: Counter,
}

#[derive(Debug, Default)]
struct Shown {
    entities: Vec<Entity>,
    flips: VecDeque<Flip>,
    /// How many there were by now.
    told: u64,
    /// Keys of entities, and the notices that nobody wants to see.
    dismissed: BTreeSet<(String, String)>,
}

impl Health {
    /// All entities, slots before sinks.
    #[must_use]
    pub fn entities(&self) -> Vec<Entity> {
        self.lock().entities.clone()
    }

    /// The last flips, the newest first.
    #[must_use]
    pub fn flips(&self) -> Vec<Flip> {
        self.lock().flips.iter().rev().take(FLIPS_SHOWN).cloned().collect()
    }

    /// Those after so many, the oldest first; how many there were by now; and how many of them are not
    /// kept any more.
    #[must_use]
    pub fn flips_after(&self, seen: u64) -> (Vec<Flip>, u64, u64) {
        let shown = self.lock();
        let new = shown.told.saturating_sub(seen);
        let kept = shown.flips.len().min(usize::try_from(new).unwrap_or(usize::MAX));
        let flips = shown.flips.iter().skip(shown.flips.len() - kept).cloned().collect();
        (flips, shown.told, new - kept as u64)
    }

    /// Does not show a notice any more, or shows it again. It is kept by whoever calls this.
    pub fn dismiss(&self, entity: &str, notice: &str, is_dismissed: bool) {
        let key = (entity.to_owned(), notice.to_owned());
        let mut shown = self.lock();
        if is_dismissed {
            shown.dismissed.insert(key);
        } else {
            shown.dismissed.remove(&key);
        }
    }

    fn is_dismissed(&self, entity: &str, notice: &str) -> bool {
        self.lock().dismissed.contains(&(entity.to_owned(), notice.to_owned()))
    }

    fn show(&self, entities: Vec<Entity>) {
        self.lock().entities = entities;
    }

    fn tell(&self, flip: Flip) {
        if flip.is_alert { &self.alerts } else { &self.resolved }.add(1);
        let mut shown = self.lock();
        if shown.flips.len() >= FLIPS_MAX {
            shown.flips.pop_front();
        }
        shown.flips.push_back(flip);
        shown.told += 1;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
