//! What requests about letters say.

use axum::http::StatusCode;
use engine::desk::MessageId;
use model::lsn::Lsn;
use model::position::Position;
use model::store::{LetterId, LetterQuery, LetterState};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::bad;
use crate::reply::{self, Refused};

/// Letters of a page, unless asked for otherwise, and at most.
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 1_000;

/// Which letters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    pub(super) sink: Option<String>,
    pub(super) state: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) table: Option<String>,
    pub(super) text: Option<String>,
    pub(super) since: Option<String>,
    pub(super) until: Option<String>,
    pub(super) after: Option<LetterId>,
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    pub(super) letters: Option<Vec<LetterId>>,
    #[serde(default)]
    pub(super) all: bool,
    #[serde(default)]
    pub(super) dry_run: bool,
    pub(super) function: Option<String>,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trace {
    pub(super) rows: u64,
    #[serde(default = "minutes")]
    pub(super) seconds: u64,
}

fn minutes() -> u64 {
    300
}

#[derive(Debug, Deserialize)]
pub(super) struct After {
    #[serde(default)]
    pub(super) after: u64,
}

/// What is to be sent instead; JSON as it stands.
pub(super) struct Edited {
    pub(super) input: Option<String>,
    pub(super) message: Option<String>,
}

pub(super) fn edit(body: &[u8]) -> Result<Edited, Refused> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        input: Option<Box<RawValue>>,
        message: Option<Box<RawValue>>,
    }
    let Body { input, message } = self::body(body)?;
    let text = |raw: Option<Box<RawValue>>| raw.map(|raw| raw.get().to_owned());
    Ok(Edited { input: text(input), message: text(message) })
}

/// Nobody discards without saying why.
pub(super) fn reason(body: &[u8]) -> Result<String, Refused> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        reason: String,
    }
    let Body { reason } = self::body(body)?;
    if reason.trim().is_empty() {
        return Err(bad("say why: `reason` is kept with what is discarded"));
    }
    Ok(reason)
}

pub(super) fn body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body)
        .map_err(|error| reply::error(StatusCode::BAD_REQUEST, format!("the body: {error}")))
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
