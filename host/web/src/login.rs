//! A user and a password that a request must show (`Authorization: Basic`, RFC 7617).

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// What is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Login(Vec<u8>);

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(…)")
    }
}

impl Login {
    /// `credentials` is `user:password` in base64.
    #[must_use]
    pub fn new(credentials: &str) -> Self {
        Self(format!("Basic {credentials}").into_bytes())
    }

    /// Whether the request shows it. Takes as long whichever byte is wrong.
    pub(crate) fn is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        let differences = self.0.iter().zip(shown).fold(0, |sum, (a, b)| sum | (a ^ b));
        shown.len() == self.0.len() && differences == 0
    }

    pub(crate) fn refusal() -> Response {
        let asks = [(header::WWW_AUTHENTICATE, "Basic realm=\"metrics\"")];
        (StatusCode::UNAUTHORIZED, asks).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_credentials_will_do() {
        let login = Login::new("dTpw");
        let shows = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            login.is_shown(&headers)
        };
        assert!(shows(Some("Basic dTpw")));
        for other in [None, Some(""), Some("Basic dTpx"), Some("Basic dTpwdTpw"), Some("Basic")] {
            assert!(!shows(other), "{other:?}");
        }
        assert_eq!(format!("{login:?}"), "Login(…)");
    }
}
