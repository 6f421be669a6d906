//! Putting messages aside for good.

use std::sync::Arc;
use std::time::Duration;

use model::change::Change;
use model::groups::{GroupKey, Groups};
use model::message::Message;
use model::plugin::{Plugin, PluginError};
use model::position::Position;
use model::recorded;
use model::sink::SinkKind;
use model::store::{Epoch, Letter, LetterId, Letters, Stage};
use tracing::{error, warn};

use crate::encode;
use crate::lettered::Lettered;
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
    /// Rows that may have letters.
    pub(crate) lettered: Arc<Lettered>,
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
        // At once: while the disk takes them more would be on their way.
        if let Some(reason) = self.status.trip.buried(self.spec.letter_limit, count) {
            error!(
                sink.name = %self.spec.name, code = "too_many_letters", reason, "the sink stopped itself"
            );
        }
        // Before anybody can settle what is newer.
        if self.spec.sink.kind() == SinkKind::State {
            letters
                .iter()
                .flat_map(|letter| &letter.keys)
                .for_each(|key| self.lettered.insert(*key));
        }
        let letters: Arc<[Letter]> = letters.into();
        while let Err(error) = self.letters.bury(self.epoch, Arc::clone(&letters)).await {
            error!(sink.name = %self.spec.name, %error, "dead letters cannot be stored; trying again");
            tokio::time::sleep_until(tokio::time::Instant::now() + STORE_RETRY).await;
        }
        self.status.buried.add(count);
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
            table: format!("{}.{}", change.relation.schema, change.relation.table),
            input,
            relation: Some(recorded::table(&change.relation)),
            keys: Groups::of(change).keys().collect(),
            reason: reason.to_owned(),
            error,
            config: self.spec.config.to_string(),
            ..Letter::default()
        }
    }

    /// The letter of a message that could not be delivered; with its change, if that is still there.
    pub(crate) fn message_letter(
        &self,
        message: &Message,
        change: Option<&Change>,
        reason: &str,
        error: String,
        attempts: u32,
    ) -> Letter {
        let relation = message.relation.as_ref();
        let input = match change {
            Some(change) => encode::input(&self.spec, change),
            None => sent(message),
        };
        Letter {
            origin: self.origin.to_string(),
            sink: self.spec.name.to_string(),
            position: message.position,
            output: message.output,
            stage: Stage::Message,
            table: relation.map_or_else(String::new, |it| format!("{}.{}", it.schema, it.table)),
            input,
            relation: change.map(|change| recorded::table(&change.relation)),
            message: Some(model::outgoing::write(message)),
            keys: keys(message).collect(),
            reason: reason.to_owned(),
            error,
            plugin: None,
            config: self.spec.config.to_string(),
            attempts,
        }
    }

    /// Rows of these messages that may have letters.
    pub(crate) fn lettered<'a>(
        &self,
        messages: impl Iterator<Item = &'a Message>,
    ) -> Vec<(GroupKey, Position)> {
        if self.spec.sink.kind() == SinkKind::Log {
            return Vec::new();
        }
        let of = |message: &'a Message| keys(message).map(|key| (key, message.position));
        messages.flat_map(of).filter(|(key, _)| self.lettered.may_have(*key)).collect()
    }

    /// Marks the letters that newer state of these rows supersedes, trying until the store does it:
    /// on disk when this returns, and only then may the newer state be settled. Otherwise a replay
    /// after a kill would put back what was there before.
    pub(crate) async fn supersede(&self, rows: Vec<(GroupKey, Position)>) -> Vec<LetterId> {
        if rows.is_empty() {
            return Vec::new();
        }
        let (origin, sink) = (&self.origin, &self.spec.name);
        loop {
            let rows = rows.clone();
            match self.letters.supersede(self.epoch, origin, sink, rows).await {
                Ok(marked) => {
                    self.status.superseded.add(marked.len() as u64);
                    return marked;
                }
                Err(error) => {
                    error!(sink.name = %sink, %error, "letters cannot be marked; trying again");
                    tokio::time::sleep_until(tokio::time::Instant::now() + STORE_RETRY).await;
                }
            }
        }
    }

    /// Learns which rows have letters of earlier processes.
    pub(crate) async fn learn(&self) {
        if self.spec.sink.kind() == SinkKind::Log {
            return;
        }
        let mut after = Some(0);
        while let Some(letter) = after {
            match self.letters.keys(&self.spec.name, letter).await {
                Ok((keys, next)) => {
                    keys.into_iter().for_each(|key| self.lettered.insert(key));
                    after = next;
                }
                Err(error) => {
                    error!(sink.name = %self.spec.name, %error, "letters cannot be read; trying again");
                    tokio::time::sleep_until(tokio::time::Instant::now() + STORE_RETRY).await;
                }
            }
        }
    }
}

/// The rows and the document that a message is about.
fn keys(message: &Message) -> impl Iterator<Item = GroupKey> {
    let document = message.key.as_deref().map(GroupKey::of_document);
    message.rows.keys().chain(document)
}

/// What was to be sent; of a removal, which document it was about.
fn sent(message: &Message) -> String {
    match &message.key {
        Some(key) if message.payload.is_empty() => {
            let mut text = String::from("{\"id\":");
            model::json::string(&mut text, key);
            text.push('}');
            text
        }
        _ => message.payload.to_string(),
    }
}
