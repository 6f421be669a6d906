//! Whether a server's certificate is good, as far as `sslmode` asks.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Verifies what can be verified. In every mode the server has to prove that it holds the
/// certificate's key: channel binding rests on it.
#[derive(Debug)]
pub(super) struct Verifier {
    /// None: anybody is trusted.
    roots: Option<(RootCertStore, Vec<CertificateDer<'static>>)>,
    /// Whether the certificate must be for the host.
    names: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(
        roots: Option<Vec<CertificateDer<'static>>>,
        names: bool,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, Error> {
        let roots = match roots {
            None => None,
            Some(certificates) => {
                let mut store = RootCertStore::empty();
                // A system's list may hold some that cannot be read; the others are as good.
                let (added, _) = store.add_parsable_certificates(certificates.iter().cloned());
                if added == 0 {
                    return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
                }
                Some((store, certificates))
            }
        };
        Ok(Self { roots, names, algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some((store, certificates)) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let verified = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            store,
            intermediates,
            now,
            self.algorithms.all,
        );
        match verified {
            // `openssl req -x509` makes a self-signed certificate an authority, and an authority
            // may not be a server for webpki, while it may for libpq. If it is the very
            // certificate that is trusted, that is enough. Its dates were looked at before.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if certificates.iter().any(|trusted| trusted == end_entity) => {}
            other => other?,
        }
        if self.names {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
