//! What requests about letters say.

use axum::http::StatusCode;
use engine::desk::MessageId;
use model::lsn::Lsn;
use model::position::Position;
use model::store::{self, LetterId, LetterQuery, LetterState};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bad;
use crate::reply::{self, Refused};

/// Letters of a page, unless asked for otherwise, and at most.
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 1_000;

/// Which letters.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Its name or id.
    pub(super) sink: Option<String>,
    /// `open`, `superseded`, `replayed` or `discarded`; without it, what is open.
    pub(super) state: Option<String>,
    /// Exactly this one.
    pub(super) reason: Option<String>,
    /// `schema.table`.
    pub(super) table: Option<String>,
    /// In the error, the input or the message.
    pub(super) text: Option<String>,
    /// ISO 8601: the last attempt was then or later.
    pub(super) since: Option<String>,
    /// ISO 8601: the last attempt was before.
    pub(super) until: Option<String>,
    /// What the page before gave as `next`.
    pub(super) after: Option<LetterId>,
    /// Letters of a page: 50 unless said, 1,000 at most.
    pub(super) limit: Option<usize>,
}

impl Filter {
    pub(super) fn query(self) -> Result<LetterQuery, Refused> {
        let known = |word: &str| LetterState::ALL.into_iter().find(|state| state.as_str() == word);
        let state = match self.state.as_deref() {
            None => None,
            Some(word) => Some(known(word).ok_or_else(|| {
                bad("`state` is open, superseded, replayed or discarded; without it, what is open")
            })?),
        };
        Ok(LetterQuery {
            sink: self.sink,
            state,
            reason: self.reason,
            table: self.table,
            text: self.text,
            since: self.since,
            until: self.until,
            after: self.after.unwrap_or_default(),
            limit: self.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX),
            whole: false,
        })
    }
}

/// Which letters, and through which version: `letters`, or `all` with filters.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    /// These.
    pub(super) letters: Option<Vec<LetterId>>,
    /// All that fit the filters.
    #[serde(default)]
    pub(super) all: bool,
    /// Only tell what would be sent.
    #[serde(default)]
    pub(super) dry_run: bool,
    /// The function that another version is taken of.
    pub(super) function: Option<String>,
    /// That version: `NAME@VERSION` or `sha256:…`.
    pub(super) plugin: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) table: Option<String>,
    pub(super) text: Option<String>,
    pub(super) since: Option<String>,
    pub(super) until: Option<String>,
}

impl Replay {
    pub(super) fn filter(&self) -> Filter {
        Filter {
            reason: self.reason.clone(),
            table: self.table.clone(),
            text: self.text.clone(),
            since: self.since.clone(),
            until: self.until.clone(),
            ..Filter::default()
        }
    }
}

/// How much is traced.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Trace {
    /// So many rows.
    pub(super) rows: u64,
    /// So long at most.
    #[serde(default = "minutes")]
    pub(super) seconds: u64,
}

fn minutes() -> u64 {
    300
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct After {
    /// The number of the last event that was seen.
    #[serde(default)]
    pub(super) after: u64,
}

/// What is to be sent instead, either of them; JSON as it stands.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    /// The row, as the functions get it.
    pub(super) input: Option<Box<RawValue>>,
    /// The message, as the sink gets it.
    pub(super) message: Option<Box<RawValue>>,
}

impl Edit {
    pub(super) fn told(self) -> Result<store::Edit, Refused> {
        let text = |raw: Box<RawValue>| raw.get().to_owned();
        match self {
            Self { input: Some(input), message: None } => Ok(store::Edit::Input(text(input))),
            Self { input: None, message: Some(message) } => Ok(store::Edit::Message(text(message))),
            _ => Err(bad("give either `input` or `message`")),
        }
    }
}

/// Nobody discards without saying why.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    /// Kept with what is discarded.
    #[schemars(length(min = 1))]
    reason: String,
}

impl Reason {
    pub(super) fn told(self) -> Result<String, Refused> {
        if self.reason.trim().is_empty() {
            return Err(bad("say why: `reason` is kept with what is discarded"));
        }
        Ok(self.reason)
    }
}

/// `LSN-ORDINAL-OUTPUT`, in decimal.
pub(super) fn message_id(text: &str) -> Result<MessageId, Refused> {
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let mut next = || parts.next().flatten();
    let id = next().zip(next()).zip(next().and_then(|output| u32::try_from(output).ok()));
    let told = || {
        let told = format!("Not found: there is no message `{text:.50}`");
        reply::error(StatusCode::NOT_FOUND, told)
    };
    let ((lsn, ordinal), output) = id.ok_or_else(told)?;
    Ok(MessageId { position: Position::new(Lsn(lsn), ordinal), output })
}
