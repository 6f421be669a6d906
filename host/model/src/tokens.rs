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

/// What a token is for, by kind and name: `sink:poi-*`, or a name of any kind: `poi-*`. `*` stands for
/// any text, also none. Empty: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limits(pub Vec<String>);

impl Limits {
    /// Kinds that a pattern may name.
    pub const KINDS: [&str; 6] =
        ["sink", "database", "http_endpoint", "function", "plugin", "change_retention"];

    /// Patterns as they are written, or what is wrong with one of them.
    ///
    /// # Errors
    /// A pattern is no name with stars, or its kind is none of those that there are.
    pub fn new(patterns: Vec<String>) -> Result<Self, String> {
        let of_name = |it: char| it.is_ascii_alphanumeric() || "_-.*".contains(it);
        for pattern in &patterns {
            let (kind, name) = pattern.split_once(':').unwrap_or(("", pattern));
            if !kind.is_empty() && !Self::KINDS.contains(&kind) {
                let kinds = Self::KINDS.join(", ");
                return Err(format!("`{pattern:.100}` is of no kind that there is: {kinds}"));
            }
            if name.is_empty() || name.len() > 200 || !name.chars().all(of_name) {
                return Err(format!(
                    "`{pattern:.100}` is no pattern: a name in which `*` stands for any text, with or \
                     without a kind before it: `sink:poi-*`"
                ));
            }
        }
        Ok(Self(patterns))
    }

    /// Whether it is for everything.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is for this one.
    #[must_use]
    pub fn allow(&self, kind: &str, name: &str) -> bool {
        let fits = |pattern: &String| match pattern.split_once(':') {
            Some((of, pattern)) => of == kind && is_like(pattern, name),
            None => is_like(pattern, name),
        };
        self.is_none() || self.0.iter().any(fits)
    }
}

/// Whether a name is like a pattern in which `*` stands for any text.
fn is_like(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.split_at(at + part.len()).1;
    }
    rest.ends_with(last)
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
    /// And to what.
    pub limits: Limits,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_what_its_patterns_say() {
        for (pattern, kind, name, expected) in [
            ("sink:poi-*", "sink", "poi-search", true),
            ("sink:poi-*", "sink", "poi-", true),
            ("sink:poi-*", "sink", "poi", false),
            ("sink:poi-*", "function", "poi-search", false),
            ("poi-*", "function", "poi-search", true),
            ("*", "database", "main", true),
            ("main", "database", "main", true),
            ("main", "database", "main2", false),
            ("a*b*c", "sink", "a-b-b-c", true),
            ("a*b*c", "sink", "abc", true),
            ("a*b*c", "sink", "a-c-b", false),
            // What stands for the beginning is not taken for the end as well.
            ("ab*b", "sink", "ab", false),
            ("", "sink", "", true),
            ("", "sink", "a", false),
        ] {
            let limits = Limits(vec!["other".to_owned(), pattern.to_owned()]);
            assert_eq!(limits.allow(kind, name), expected, "{pattern} {kind}:{name}");
        }
        assert!(Limits::default().allow("sink", "any"));
        for bad in ["", "sink:", "sinks:a", "a b", "a:b:c", ":a b"] {
            assert!(Limits::new(vec![bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(Limits::new(vec!["sink:poi-*".to_owned(), "*".to_owned()]).is_ok());
    }
}
