//! Another version of one function of one sink, on its way into use: in the shadow of live traffic,
//! for a share of the rows, for all of them, or taken back.
//!
//! Which version a row takes depends on nothing but its position, its key and the record that is kept
//! here, so it is the same again after a kill.

pub mod diff;
mod rules;
mod steps;

pub use rules::{AutoPromote, Rules, RulesError};
pub use steps::{Step, bucket, row_key};

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::position::Position;

/// What is kept of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its id, a UUID: part of the salt of its shares.
    pub id: Arc<str>,
    /// The sink's id.
    pub sink_id: Arc<str>,
    /// The sink's name.
    pub sink: Arc<str>,
    /// The function, by its name in the configuration.
    pub function: Arc<str>,
    /// The version, as it was asked for: `NAME@VERSION` or a digest.
    pub component: Arc<str>,
    /// Its digest.
    pub digest: Arc<str>,
    /// The digest of what the configuration names: what rows take that do not take the new version.
    pub base: Arc<str>,
    /// What became of it.
    pub state: RolloutState,
    /// Why it ended, or was taken back.
    pub why: Option<String>,
    /// Of a hundred groups of rows, how many are to take the new version.
    pub percent: u8,
    /// From where on which share took it, in the order in which that was decided.
    pub steps: Vec<Step>,
    /// What takes it back, and what promotes it.
    pub rules: Rules,
    /// No row that may come again takes the new version: it is not needed any more.
    pub drained: bool,
    /// How often a new process went on with it: what is counted began anew each time.
    pub resumed: u64,
    /// When it was asked for, in microseconds since 1970.
    pub created_us: i64,
    /// When anything of this was last another.
    pub updated_us: i64,
}

/// What became of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// It sees what passes; nothing that it says is delivered.
    Shadow,
    /// A share of the rows takes it.
    Canary,
    /// All rows take it, until the configuration names it.
    Promoted,
    /// No row takes it from a position on.
    RolledBack,
    /// It ended in the shadow.
    Aborted,
    /// The configuration names the new version by now.
    Completed,
    /// The sink, its function, or what the configuration names is another by now.
    Superseded,
}

impl RolloutState {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Completed => "completed",
            Self::Superseded => "superseded",
        }
    }

    /// Whether it may still become another by what people or rules say.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Shadow | Self::Canary | Self::Promoted)
    }
}

impl Rollout {
    /// Whether rows may still need its version, or are shown to it.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.state.is_open() || self.state == RolloutState::RolledBack && !self.drained
    }

    /// The share that was decided last and that no position is known of yet.
    #[must_use]
    pub fn pending(&self) -> Option<u8> {
        let now = self.steps.last().map_or(0, |step| step.percent);
        (self.is_attached() && now != self.percent).then_some(self.percent)
    }

    /// Whether a step of this stream may begin at `from`: steps of one stream rise.
    #[must_use]
    pub fn may_step(&self, origin: &str, from: Position) -> bool {
        let last = self.steps.iter().rev().find(|step| *step.origin == *origin);
        last.is_none_or(|last| from > last.from())
    }

    /// From `from` on the share is what was decided last.
    pub fn step(&mut self, origin: &Arc<str>, from: Position, at_us: i64) {
        let percent = self.percent;
        self.steps.push(Step::new(origin, from, percent, at_us));
        self.updated_us = at_us;
    }

    /// Whether the row of this key at this position takes the new version.
    #[must_use]
    pub fn takes(&self, origin: &str, position: Position, key: u64) -> bool {
        self.is_in(steps::percent_at(&self.steps, origin, position), key)
    }

    /// Whether a row of this key takes the new version by what was decided last.
    #[must_use]
    pub fn takes_now(&self, key: u64) -> bool {
        self.is_in(self.percent, key)
    }

    fn is_in(&self, percent: u8, key: u64) -> bool {
        match percent {
            0 => false,
            100.. => true,
            percent => bucket(&self.sink_id, &self.id, key) < u32::from(percent) * 100,
        }
    }

    /// As it is kept.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Nothing in it can fail to be JSON: texts and numbers.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What was kept.
    ///
    /// # Errors
    /// It is none, or of a newer version.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("it is no record of a rollout: {error}"))
    }

    /// The last position at which the version changed, if any row takes it or took it.
    #[must_use]
    pub fn effective(&self) -> Option<&Step> {
        self.steps.last()
    }
}

#[cfg(test)]
mod tests;
