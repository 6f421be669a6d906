//! Putting messages aside for good.

use std::sync::Arc;
use std::time::Duration;

use model::change::Change;
use model::plugin::{Plugin, PluginError};
use model::store::{Epoch, Letter, Letters};
use tracing::{error, warn};

use crate::encode;
use crate::spec::SinkSpec;
use crate::status::SinkStatus;

/// How long to wait before the store is asked again: it is a local file or our own database.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Where letters of one sink go.
#[derive(Clone)]
pub(crate) struct Burial {
    pub(crate) letters: Arc<dyn Letters>,
    pub(crate) epoch: Epoch,
    pub(crate) origin: Arc<str>,
    pub(crate) spec: Arc<SinkSpec>,
    pub(crate) status: Arc<SinkStatus>,
}

impl Burial {
    /// Keeps the letters, trying until the store does. They are on disk when this returns: only
    /// then may their messages be settled.
    pub(crate) async fn bury(&self, letters: Vec<Letter>) {
        let Some(first) = letters.first() else { return };
        // One line for all of them: a plugin that fails on every row must not flood the log.
        warn!(
            sink.name = %self.spec.name,
            count = letters.len(),
            lsn = %first.position.commit_lsn,
            ordinal = first.position.ordinal,
            reason = first.reason,
            error = first.error,
            "messages are put aside; the first of them is shown"
        );
        let count = letters.len() as u64;
        while let Err(error) = self.letters.bury(self.epoch, letters.clone()).await {
            error!(sink.name = %self.spec.name, %error, "dead letters cannot be stored; trying again");
            tokio::time::sleep_until(tokio::time::Instant::now() + STORE_RETRY).await;
        }
        self.status.buried.add(count);
        if let Some(reason) = self.status.trip.buried(self.spec.letter_limit, count) {
            error!(
                sink.name = %self.spec.name, code = "too_many_letters", reason, "the sink stopped itself"
            );
        }
    }

    /// The letter of a change that a plugin failed on: which of the sink's plugins it was is named.
    pub(crate) fn plugin_letter(
        &self,
        change: &Change,
        plugin: &dyn Plugin,
        error: &PluginError,
    ) -> Letter {
        let input = encode::input(&self.spec, change);
        let text = format!("{}: {}", plugin.name(), error.message);
        let mut letter = self.letter(change, input, error.fault.as_str(), text);
        letter.plugin = Some(plugin.digest().to_owned());
        letter
    }

    /// The letter of a change that could not be encoded.
    pub(crate) fn letter(
        &self,
        change: &Change,
        input: String,
        reason: &str,
        error: String,
    ) -> Letter {
        Letter {
            origin: self.origin.to_string(),
            sink: self.spec.name.to_string(),
            position: change.position,
            output: 0,
            input,
            reason: reason.to_owned(),
            error,
            plugin: None,
            attempts: 0,
        }
    }
}
