//! TLS to the broker.

use super::settings::MqttSettings;
use super::stream::Stream;
use super::trouble::Trouble;
use crate::tls::TlsFiles;
use crate::tls::tokio_rustls::TlsConnector;
use crate::tls::tokio_rustls::rustls::pki_types::ServerName;
use std::io;
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
