//! TLS: asks the server for it, and shakes hands as `sslmode` demands.

pub(crate) mod end_point;
mod verify;

use std::error::Error as _;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::socket::Unreached;
use crate::options::{ClientCertificate, Roots, SslMode, Tls};
use verify::Verifier;

/// Why there is no TLS. Nothing of it passes by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the server does not take TLS connections")]
    Refused,
    #[error("the server and we agree on no version or cipher of TLS: {0}")]
    Incompatible(String),
    #[error("the server's certificate has expired or is not valid yet ({0})")]
    Expired(String),
    #[error("the server's certificate is for another host ({0})")]
    OtherHost(String),
    #[error("the server's certificate comes from nobody we trust ({0})")]
    Untrusted(String),
    #[error("the server asks for a client certificate, or does not accept ours ({0})")]
    Client(String),
    #[error("{0}")]
    Setting(String),
}

/// What the server said to the question for TLS.
pub(super) enum Answer {
    Encrypted { stream: Box<TlsStream<TcpStream>>, end_point: Option<Vec<u8>> },
    Refused(TcpStream),
}

impl From<Failure> for Unreached {
    fn from(failure: Failure) -> Self {
        Self::Tls(failure)
    }
}

/// Asks for TLS and shakes hands. `options` do not say `disable`.
pub(super) async fn negotiate(
    mut socket: TcpStream,
    host: &str,
    options: &Tls,
) -> Result<Answer, Unreached> {
    let config = config(options)?;
    let name = match ServerName::try_from(host) {
        Ok(name) => name.to_owned(),
        Err(_) if options.mode == SslMode::VerifyFull => {
            let text = format!("no certificate can be for the host {host:?}");
            return Err(Failure::Setting(text).into());
        }
        // It is not looked at, and an address is not sent to the server either.
        Err(_) => ServerName::from(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).await?;
    // One byte and no more: what an attacker put behind it must not count as encrypted.
    match socket.read_u8().await? {
        b'S' => {}
        b'N' => return Ok(Answer::Refused(socket)),
        _ => return Err(io::Error::other("the question for TLS was not answered").into()),
    }
    let shaken = TlsConnector::from(config).connect(name, socket).await;
    let stream = shaken.map_err(|error| match Failure::of(&error) {
        Some(failure) => failure.into(),
        None => Unreached::Io(error),
    })?;
    if options.mode == SslMode::Require && options.roots.is_none() {
        tracing::warn!(
            host,
            "THE SERVER'S IDENTITY IS NOT VERIFIED: the connection is encrypted, but whoever \
             stands between can read and change everything. Give sslrootcert, or sslmode \
             verify-full with sslrootcert `system`"
        );
    }
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let end_point = certificate.and_then(|certificate| end_point::of(certificate));
    Ok(Answer::Encrypted { stream: Box::new(stream), end_point })
}

fn config(options: &Tls) -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let roots = options.roots.as_ref().map(roots).transpose()?;
    let verifier = Verifier::new(roots, options.mode == SslMode::VerifyFull, algorithms)
        .map_err(|error| Failure::Setting(format!("sslrootcert cannot be used: {error}")))?;
    let setting = |error: rustls::Error| Failure::Setting(error.to_string());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(setting)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &options.client {
        None => config.with_no_client_auth(),
        Some(ClientCertificate { certificate, key }) => {
            let chain = certificates(certificate, "sslcert")?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| unreadable("sslkey", key, &error.to_string()))?;
            config.with_client_auth_cert(chain, key).map_err(|error| {
                Failure::Setting(format!("sslcert and sslkey cannot be used: {error}"))
            })?
        }
    };
    Ok(Arc::new(config))
}

fn roots(roots: &Roots) -> Result<Vec<CertificateDer<'static>>, Failure> {
    match roots {
        Roots::File(path) => certificates(path, "sslrootcert"),
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                let text = "sslrootcert is `system`, and the system trusts nobody: install its \
                            package of certificates (ca-certificates)";
                return Err(Failure::Setting(text.to_owned()));
            }
            Ok(found.certs)
        }
    }
}

fn certificates(path: &Path, option: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(unreadable(option, path, "no certificate is in it"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unreadable(option, path, &error.to_string())),
    }
}

fn unreadable(option: &str, path: &Path, why: &str) -> Failure {
    Failure::Setting(format!("{option} {} cannot be read: {why}", path.display()))
}

impl Failure {
    /// What an I/O error says about TLS. Under TLS 1.3 a server's verdict about our certificate
    /// comes after the handshake, with the first read.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        let text = error.to_string();
        Some(match error {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired(text),
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::OtherHost(text),
                _ => Self::Untrusted(text),
            },
            rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity,
            ) => Self::Incompatible(text),
            // OpenSSL's for a missing certificate under TLS 1.2.
            rustls::Error::AlertReceived(
                AlertDescription::HandshakeFailure
                | AlertDescription::CertificateRequired
                | AlertDescription::NoCertificate
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied,
            ) => Self::Client(text),
            _ => return None,
        })
    }

    /// The same, of an error with causes.
    pub(crate) fn behind(error: &tokio_postgres::Error) -> Option<Self> {
        Self::of(error.source()?.downcast_ref()?)
    }
}
