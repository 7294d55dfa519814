//! TLS to a server, and the verification of its certificate.
//!
//! A server in a home often has a self-signed certificate. Where `caFile` contains exactly that
//! certificate, the server is accepted, although webpki rejects a certificate authority's
//! certificate as a server's; its dates and names are verified all the same.
//!
//! A certificate that no file names is never trusted.

pub mod certificates;

pub use rumqttc::tokio_rustls;

use certificates::{FileError, Trusted};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_rustls::rustls;

/// Explains why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
    #[error("the system holds no certificate authorities: name one with `caFile`")]
    NoRoots,
}

/// The files are read at each attempt, so that renewed ones are used at the next reconnection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate authorities in PEM; `None` uses the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and key in PEM; both or none.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Reads the files. They may lie on a slow disk.
    ///
    /// # Errors
    /// Returns an error with the file that cannot be used.
    pub fn load(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(self.trusted()?)?));
        Ok(match &self.client_certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let client = certificates::client(certificate, key, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(client)))
            }
        })
    }

    /// The file's authorities alone, or the system's. Single ones of the system's that cannot be
    /// read are skipped, as every TLS client does.
    fn trusted(&self) -> Result<Trusted, TlsError> {
        if let Some(path) = &self.ca_file {
            return Ok(certificates::trusted(path)?);
        }
        let mut authorities = RootCertStore::empty();
        authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if authorities.is_empty() {
            return Err(TlsError::NoRoots);
        }
        Ok(Trusted { authorities, named: Vec::new() })
    }
}

/// Trusts what webpki trusts, and exactly the certificates that the file contains.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(trusted: Trusted) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let authorities = Arc::new(trusted.authorities);
        let webpki = WebPkiServerVerifier::builder_with_provider(authorities, provider)
            .build()
            .map_err(|error| TlsError::Setup(rustls::Error::General(error.to_string())))?;
        Ok(Self { webpki, named: trusted.named })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            Err(error) if self.named.contains(end_entity) && is_want_of_issuer(&error) => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&certificate, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Whether the issuer is the only thing wrong with a certificate. webpki checks the dates before
/// that, so they are valid then.
fn is_want_of_issuer(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}
