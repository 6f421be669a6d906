//! Versions of plugins, what sinks are bound to, and who changed it.
//!
//! A *version* is immutable: bytes named by their digest, which `name@version` points to for good. A
//! *binding* is what one role of a sink is made of: the chain of its plugins with their configs. Each
//! change of it is a *generation*. A *hold* keeps a binding as somebody made it by hand, whatever
//! `sequin.yaml` says.

use std::fmt;

use crate::BoxFuture;
use crate::position::Position;
use crate::store::{Epoch, StoreError};

/// What a chain of plugins is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Decides which rows go on.
    Filter,
    /// Says where they go.
    Route,
    /// Reshapes them.
    Transform,
}

impl Role {
    /// All there are, in the order that a row meets them.
    pub const ALL: [Self; 3] = [Self::Filter, Self::Route, Self::Transform];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Route => "route",
            Self::Transform => "transform",
        }
    }

    /// What a word means; `routing` is how a sink calls it.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let word = if word == "routing" { "route" } else { word };
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One version of a plugin, as it was uploaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Lower case.
    pub name: String,
    /// Three numbers, and what is before a release.
    pub version: String,
    /// `sha256:` and 64 digits.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
    /// What was found in it, as a JSON object.
    pub metadata: String,
    /// Detached signatures of its bytes, in base64.
    pub signatures: Vec<String>,
    /// What its uploader said of it.
    pub comment: String,
    /// Who uploaded it.
    pub by: String,
    /// When, in microseconds since 1970.
    pub at_us: i64,
}

/// One plugin of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// The name of the function.
    pub function: String,
    /// `sha256:` and 64 digits.
    pub digest: String,
    /// A JSON object. It may hold secrets: it is not shown.
    pub config: String,
}

/// Whose chain it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BindingName {
    /// The name of the sink.
    pub sink: String,
    /// Which of its chains.
    pub role: Role,
}

impl fmt::Display for BindingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of sink `{}`", self.role, self.sink)
    }
}

/// How a generation came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// `sequin.yaml` says so.
    Apply,
    /// Somebody promoted a version.
    Promote,
    /// Somebody went back.
    Rollback,
    /// A rule went back.
    Automatic,
}

impl How {
    const ALL: [Self; 4] = [Self::Apply, Self::Promote, Self::Rollback, Self::Automatic];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Promote => "promote",
            Self::Rollback => "rollback",
            Self::Automatic => "automatic",
        }
    }

    /// What a word means.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|how| how.as_str() == word)
    }
}

/// What a binding is, or was, from one position on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Rises by one with each.
    pub number: u64,
    /// In the order that a row meets them; empty: none.
    pub links: Vec<Link>,
    /// How it came about.
    pub how: How,
    /// Who made it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// The slot had handed out everything up to here to the one before. None: not known yet.
    pub behind: Option<Position>,
}

/// Why a binding stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// It has kept an apply from being done.
    pub refused: bool,
    /// The generation that stays.
    pub generation: u64,
    /// Who has set it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in microseconds since 1970.
    pub at_us: i64,
}

/// What a binding is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Whose.
    pub name: BindingName,
    /// The newest generation.
    pub current: Generation,
    /// Whether it stays whatever `sequin.yaml` says.
    pub hold: Option<Hold>,
}

/// A generation to be recorded, and whether it is to stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Whose.
    pub name: BindingName,
    /// What it is from now on. Its number is that of the one before and one.
    pub generation: Generation,
    /// It stays whatever `sequin.yaml` says; what held before does not any more.
    pub hold: bool,
    /// `sequin.yaml` says something else already.
    pub refused: bool,
}

/// Who did what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deed {
    /// Rises.
    pub id: i64,
    /// In microseconds since 1970.
    pub at_us: i64,
    /// Who.
    pub by: String,
    /// What: a stable word.
    pub what: String,
    /// To what.
    pub subject: String,
    /// The component that it was about.
    pub digest: Option<String>,
    /// More of it, for people.
    pub detail: String,
}

/// What was asked for is not done.
#[derive(Debug, thiserror::Error)]
pub enum VersionsError {
    /// It cannot be done.
    #[error("{code}: {what}")]
    Refused {
        /// Stable, for programs.
        code: &'static str,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl VersionsError {
    /// A refusal.
    #[must_use]
    pub fn refused(code: &'static str, what: impl Into<String>) -> Self {
        Self::Refused { code, what: what.into() }
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, VersionsError>>;

/// Keeps versions, bindings and deeds.
pub trait Versions: Send + Sync {
    /// The bytes of a component that is kept, checked against its digest. Blocks its thread for the
    /// disk.
    ///
    /// # Errors
    /// `unknown_digest`, `damaged`, or they cannot be read.
    fn bytes(&self, digest: &str) -> Result<Vec<u8>, VersionsError>;

    /// Keeps the bytes of a component; they are on disk when this returns. Blocks its thread.
    ///
    /// # Errors
    /// They cannot be written.
    fn keep(&self, digest: &str, bytes: &[u8]) -> Result<(), VersionsError>;

    /// Records a version, whose bytes are kept already. False if it was there.
    ///
    /// # Errors
    /// `version_taken`, `name_too_close`; the store cannot be written.
    fn add(&self, epoch: Epoch, version: Version) -> Answer<'_, bool>;

    /// All versions, by name and version.
    ///
    /// # Errors
    /// The store cannot be read.
    fn versions(&self) -> Answer<'_, Vec<Version>>;

    /// Forgets a version. Its name stays taken by its digest; its bytes stay until
    /// [`Versions::collect`].
    ///
    /// # Errors
    /// `unknown_version`, `in_use`; the store cannot be written.
    fn remove<'a>(
        &'a self,
        epoch: Epoch,
        name: &'a str,
        version: &'a str,
        deed: Deed,
    ) -> Answer<'a, ()>;

    /// Removes the bytes that no version and no generation names; tells which.
    ///
    /// # Errors
    /// The store cannot be read; some may be gone.
    fn collect(&self, epoch: Epoch, deed: Deed) -> Answer<'_, Vec<String>>;

    /// What all bindings are now.
    ///
    /// # Errors
    /// The store cannot be read.
    fn bindings(&self) -> Answer<'_, Vec<Binding>>;

    /// All generations of a sink, each role by itself, the newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    fn history<'a>(&'a self, sink: &'a str) -> Answer<'a, Vec<(Role, Generation)>>;

    /// Records all of these, or none, with their deeds.
    ///
    /// # Errors
    /// `conflict` if another generation was made meanwhile; the store cannot be written.
    fn bind(&self, epoch: Epoch, made: Vec<Made>) -> Answer<'_, ()>;

    /// From where on a generation is in effect, if that is not known yet.
    ///
    /// # Errors
    /// The store cannot be written.
    fn begun(
        &self,
        epoch: Epoch,
        name: BindingName,
        number: u64,
        behind: Position,
    ) -> Answer<'_, ()>;

    /// A hold has kept an apply from being done.
    ///
    /// # Errors
    /// The store cannot be written.
    fn refused(&self, epoch: Epoch, name: BindingName, deed: Deed) -> Answer<'_, ()>;

    /// Takes a hold away; false if there was none.
    ///
    /// # Errors
    /// The store cannot be written.
    fn release(&self, epoch: Epoch, name: BindingName, deed: Deed) -> Answer<'_, bool>;

    /// Notes a deed.
    ///
    /// # Errors
    /// The store cannot be written.
    fn note(&self, epoch: Epoch, deed: Deed) -> Answer<'_, ()>;

    /// Deeds below an id, the newest first; from the newest without.
    ///
    /// # Errors
    /// The store cannot be read.
    fn deeds(&self, below: Option<i64>, limit: usize) -> Answer<'_, Vec<Deed>>;
}

/// Why this is no name of a plugin, if it is none: lower case, so that no two look alike to people or
/// to file systems.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let allowed = |byte: u8| plain(byte) || b"-_.".contains(&byte);
    let bytes = name.as_bytes();
    let begins = bytes.first().is_some_and(u8::is_ascii_lowercase);
    let ends = bytes.last().is_some_and(|byte| plain(*byte));
    let double = bytes.windows(2).any(|pair| pair.iter().all(|byte| !plain(*byte)));
    if begins && ends && !double && bytes.len() <= 64 && bytes.iter().all(|byte| allowed(*byte)) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name of a plugin: 1 to 64 lower case letters, digits and single `-`, `_`, `.` \
         between them, a letter first"
    ))
}

/// Why this is no version, if it is none: as SemVer has it, without build metadata, which would give
/// two versions the same rank.
///
/// # Errors
/// What is wrong with it.
pub fn check_version(version: &str) -> Result<(), String> {
    let (core, pre) = match version.split_once('-') {
        Some((core, pre)) => (core, Some(pre)),
        None => (version, None),
    };
    let number = |part: &str| {
        (1..=9).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let identifier = |part: &str| {
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && (!digits || number(part))
    };
    let numbers = core.split('.').filter(|part| number(part)).count();
    let good = numbers == 3
        && core.split('.').count() == 3
        && pre.is_none_or(|pre| pre.split('.').all(identifier))
        && version.len() <= 64;
    good.then_some(()).ok_or_else(|| {
        format!("{version:?} is no version: `1.2.3` or `1.2.3-beta.1`, without `+build`")
    })
}

/// What of a name is compared to tell it from others: what separates its words is not.
#[must_use]
pub fn skeleton(name: &str) -> String {
    name.chars().filter(|letter| !"-_.".contains(*letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_plain() {
        for good in ["a", "public-rows", "acme.x_1", &"a".repeat(64)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        let long = "a".repeat(65);
        for bad in
            ["", "A", "1a", "-a", "a-", "a--b", "a/b", "a b", "ä", "a@1", "../a", "a\0", &long]
        {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert_eq!(skeleton("public-rows"), skeleton("public_ro.ws"));
    }

    #[test]
    fn versions_are_semver_without_builds() {
        for good in ["0.0.0", "1.2.3", "1.2.3-beta.1", "10.20.30-a-b.0"] {
            assert_eq!(check_version(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "01.2.3",
            "1.2.3-",
            "1.2.3-01",
            "1.2.3+b",
            "v1.2.3",
            "1.2.x",
            "latest",
            "1.2.3-a..b",
            "1.2.3-ü",
            "1.-2.3",
        ] {
            assert!(check_version(bad).is_err(), "{bad}");
        }
    }
}
