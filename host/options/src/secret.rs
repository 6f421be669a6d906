//! Values that must not be seen.

use std::fmt;

use serde::Deserialize;
use url::Url;

/// A text that no log, error or plan shows. It can be read from a document, not written to one.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one who sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A URL of which only scheme, host and port are shown: the rest (user, path, query) is where
/// services put their keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self(url)
    }

    /// The whole URL, for the one who sends a request to it.
    #[must_use]
    pub fn reveal(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        match self.0.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b237_secrets_never_show() {
        let secret = Secret::new("hunter2");
        let url = "https://me:hunter2@hooks.test:8443/hunter2?t=hunter2#hunter2";
        let address = Address::new(Url::parse(url).unwrap());
        let shown = format!("{secret} {secret:?} {address} {address:?}");
        assert_eq!(shown, "… Secret(…) https://hooks.test:8443 Address(https://hooks.test:8443)");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
