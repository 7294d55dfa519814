//! TLS to the broker, and the verification of its certificate.
//!
//! A broker in a home often has a self-signed certificate. Where `caFile` contains exactly that
//! certificate, the broker is accepted, although webpki rejects a certificate authority's
//! certificate as a server's; its dates and names are verified all the same.
//!
//! A certificate that no file names is never trusted.

use super::certificates::{self, Trusted};
use super::settings::MqttSettings;
use super::stream::Stream;
use super::trouble::Trouble;
use rumqttc::tokio_rustls::{TlsConnector, rustls};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Establishes TLS over a stream.
///
/// # Errors
/// Returns an error with the file or the certificate that prevents it.
pub(super) async fn secure(
    settings: &MqttSettings,
    host: &str,
    stream: Stream,
) -> Result<Stream, Trouble> {
    let server = || settings.server.clone();
    let files = TlsFiles {
        ca_file: settings.ca_file.clone(),
        client_certificate: settings.client_certificate.clone(),
    };
    // Files may lie on a slow disk, so they are read off the loop.
    let config = match tokio::task::spawn_blocking(move || files.load()).await {
        Ok(config) => config?,
        Err(error) => {
            let source = io::Error::other(error);
            return Err(Trouble::Unreachable { server: server(), source });
        }
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Trouble::ServerName { host: host.to_owned() })?;
    match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(source) => Err(match Trouble::from_stream(&settings.server, source) {
            Trouble::Closed { server } => Trouble::ClosedInHandshake { server },
            trouble => trouble,
        }),
    }
}

/// The files are read at each attempt, so that renewed ones are used at the next reconnection.
struct TlsFiles {
    ca_file: Option<PathBuf>,
    client_certificate: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    fn load(&self) -> Result<ClientConfig, Trouble> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(Trouble::TlsSetup)?
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
    fn trusted(&self) -> Result<Trusted, Trouble> {
        if let Some(path) = &self.ca_file {
            return Ok(certificates::trusted(path)?);
        }
        let mut authorities = RootCertStore::empty();
        authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if authorities.is_empty() {
            return Err(Trouble::NoRoots);
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
    fn new(trusted: Trusted) -> Result<Self, Trouble> {
        let provider = Arc::new(ring::default_provider());
        let authorities = Arc::new(trusted.authorities);
        let webpki = WebPkiServerVerifier::builder_with_provider(authorities, provider)
            .build()
            .map_err(|error| Trouble::TlsSetup(rustls::Error::General(error.to_string())))?;
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
