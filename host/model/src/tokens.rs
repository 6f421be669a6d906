//! Tokens of the API: what each may do, and where they are kept.

use crate::BoxFuture;
use crate::store::Epoch;
use crate::versions::{Deed, VersionsError};

type Answer<'a, T> = BoxFuture<'a, Result<T, VersionsError>>;

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// See what runs and how it is; no rows and no secrets.
    Read,
    /// Change what runs.
    Config,
    /// Push, promote, roll back and roll out plugins.
    Plugins,
    /// See and handle rows: letters, messages, streams, traces, recordings.
    Messages,
    /// All of it, secrets and tokens too.
    Admin,
}

impl Scope {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Self::Read, Self::Config, Self::Plugins, Self::Messages, Self::Admin];

    /// As in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Config => "config",
            Self::Plugins => "plugins",
            Self::Messages => "messages",
            Self::Admin => "admin",
        }
    }

    /// The scope of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// A token, without itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Made for it.
    pub id: String,
    /// Given by its owner, and no other's.
    pub name: String,
    /// The SHA-256 of the token, which is random: nobody finds the token by it.
    pub hash: [u8; 32],
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// In microseconds since 1970.
    pub created_us: i64,
    /// From then on it is refused.
    pub expires_us: Option<i64>,
    /// When it was last shown, within a minute.
    pub used_us: Option<i64>,
}

/// Keeps tokens.
pub trait ApiTokens: Send + Sync {
    /// All of them.
    fn tokens(&self) -> Answer<'_, Vec<ApiToken>>;

    /// Keeps one; refused (`name_taken`) if the name is another's.
    fn add_token(&self, epoch: Epoch, token: ApiToken, deed: Deed) -> Answer<'_, ()>;

    /// Forgets the one of this id.
    fn remove_token(&self, epoch: Epoch, id: String, deed: Deed) -> Answer<'_, ()>;

    /// Records when tokens were last used, by their ids.
    fn used_tokens(&self, epoch: Epoch, used: Vec<(String, i64)>) -> Answer<'_, ()>;
}
