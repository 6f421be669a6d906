//! `signing_secret`: the keys that webhooks are signed with, in the notation of Standard Webhooks 1.0
//! (<https://github.com/standard-webhooks/standard-webhooks>): `whsec_` and 24 to 64 bytes in base64.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::{Problem, Secret};

/// The standard's bounds on a key.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// More than a rotation needs. Each is one more signature in every request.
const KEYS_MAX: usize = 5;

/// One secret, or a list of them, as a user writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(pub Vec<Secret>);

/// A key that signatures are made with. Nothing shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Vec<u8>);

impl SigningKey {
    /// Reads `whsec_…`; None if it is no such key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix("whsec_")?).ok()?;
        KEY_BYTES.contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The bytes themselves, for the one who signs.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl Secrets {
    pub(crate) fn keys(&self, field: &'static str) -> Result<Vec<SigningKey>, Problem> {
        if self.0.len() > KEYS_MAX {
            return Err(Problem::new(field, format!("holds more than {KEYS_MAX} secrets")));
        }
        let keys = self.0.iter().map(|secret| SigningKey::parse(secret.reveal()));
        keys.collect::<Option<_>>().ok_or_else(|| {
            Problem::new(field, "is not `whsec_` and 24 to 64 bytes in base64")
                .help("make one with `echo whsec_$(openssl rand -base64 32)`")
        })
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretsVisitor;

        impl<'de> Visitor<'de> for SecretsVisitor {
            type Value = Secrets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret, or a list of secrets")
            }

            fn visit_unit<E: Error>(self) -> Result<Secrets, E> {
                Ok(Secrets::default())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Secrets, E> {
                Ok(Secrets(vec![Secret::new(text)]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Secrets, A::Error> {
                let mut secrets = Vec::new();
                while let Some(secret) = list.next_element()? {
                    secrets.push(secret);
                }
                Ok(Secrets(secrets))
            }
        }

        deserializer.deserialize_any(SecretsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b237_keys_are_read_and_never_shown() {
        // The example of the standard.
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(key.reveal().len(), 24);
        assert_eq!(format!("{key:?}"), "SigningKey(…)");
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        let long = format!("whsec_{}", STANDARD.encode([0; 65]));
        for text in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_hunter2", "whsec_", "", &long] {
            let problem = Secrets(vec![Secret::new(text)]).keys("signing_secret").unwrap_err();
            assert!(problem.help.is_some());
            assert!(!format!("{problem:?} {problem}").contains("hunter2"));
        }
        let many = Secrets(vec![Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"); 6]);
        assert!(many.keys("signing_secret").is_err());
    }
}
