//! How a connection is encrypted, and whom it trusts, in the words of libpq.

use std::path::PathBuf;
use std::str::FromStr;

/// TLS of a connection over TCP. A Unix socket has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `sslmode`.
    pub mode: SslMode,
    /// `sslrootcert`: who may vouch for the server. If it is given, every mode that encrypts
    /// verifies by whom the certificate was issued, as libpq does.
    pub roots: Option<Roots>,
    /// `sslcert` and `sslkey`: who we are.
    pub client: Option<ClientCertificate>,
    /// `channel_binding`.
    pub channel_binding: ChannelBinding,
}

/// `sslmode`. libpq's `allow` is missing: it encrypts only what the server refuses otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server has it.
    #[default]
    Prefer,
    /// TLS, with any certificate unless `roots` are given.
    Require,
    /// TLS with a certificate that one of `roots` issued, for whatever name.
    VerifyCa,
    /// TLS with a certificate that one of `roots` issued for the host's name.
    VerifyFull,
}

/// Whose certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Those that the operating system trusts.
    System,
    /// Those of a PEM file.
    File(PathBuf),
}

/// A certificate with its chain, and its key, as PEM files. They are read for each connection, so
/// that a renewed one is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// `sslcert`.
    pub certificate: PathBuf,
    /// `sslkey`, not encrypted.
    pub key: PathBuf,
}

/// Whether the login proves that both ends see the same TLS session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// If the server can.
    #[default]
    Prefer,
    /// Or not at all. Only SCRAM over TLS can.
    Require,
}

impl FromStr for SslMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            "allow" => Err("sslmode `allow` is not supported: use `prefer`".to_owned()),
            _ => {
                Err("sslmode is none of disable, prefer, require, verify-ca and verify-full"
                    .to_owned())
            }
        }
    }
}

impl FromStr for ChannelBinding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            _ => Err("channel_binding is none of disable, prefer and require".to_owned()),
        }
    }
}

impl From<&str> for Roots {
    /// As `sslrootcert` gives them: `system`, or a file.
    fn from(text: &str) -> Self {
        if text == "system" { Self::System } else { Self::File(text.into()) }
    }
}

impl Tls {
    /// What does not fit together, in words.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let verifies = matches!(self.mode, SslMode::VerifyCa | SslMode::VerifyFull);
        if verifies && self.roots.is_none() {
            return Err("sslmode verify-ca and verify-full need sslrootcert: a file with the \
                        certificate of whom to trust, or `system`");
        }
        // Anybody gets a certificate of a public authority, for a name of his own.
        if self.roots == Some(Roots::System) && self.mode != SslMode::VerifyFull {
            return Err("sslrootcert `system` goes with sslmode verify-full alone");
        }
        let binds = self.channel_binding == ChannelBinding::Require;
        if binds && self.mode == SslMode::Disable {
            return Err("channel_binding `require` needs TLS, and sslmode is disable");
        }
        Ok(())
    }
}
