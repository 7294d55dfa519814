//! The byte stream below MQTT: TCP, TLS, websocket, Unix socket.
//!
//! Certificate files are read at each attempt, so that renewed ones are used at the next
//! reconnection. Deliberately absent: MQTT, retries, time-outs.

use super::dial::Addresses;
use super::settings::{MqttSettings, Server};
use super::trouble::Trouble;
use super::websocket::WebSocket;
use super::wire::MAX_PACKET_BYTES;
use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::http::HeaderValue;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use rumqttc::tokio_rustls::TlsConnector;
use rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject;
use rumqttc::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rumqttc::tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use rumqttc_core::{split_url_with_default_port, validate_response_headers};
use std::io;
use std::os::fd::AsFd;
use std::os::linux::net::TcpStreamExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixStream;

/// What MQTT is spoken over.
pub(super) type Stream = Box<dyn rumqttc_core::AsyncReadWrite>;

/// A stream that MQTT can be spoken over.
pub(super) struct Opened {
    pub stream: Stream,
    /// Where there is TCP below it.
    pub receipts: Option<Receipts>,
}

/// TCP's own acknowledgements of a connection, which the kernel holds back for up to 40 ms.
///
/// A broker that writes its small packets one by one, and does not set `TCP_NODELAY` (mosquitto
/// sets it only where it is told to), sends none while the one before it is unacknowledged.
pub(super) struct Receipts(std::net::TcpStream);

impl Receipts {
    /// Sends what is held back (`TCP_QUICKACK` in tcp(7)), and lets the kernel hold back again: else
    /// it would acknowledge each small packet, and the broker send each by itself.
    pub(super) fn send_now(&self) {
        // It is a matter of speed alone, and a socket that is broken says so when it is read.
        let _sent = self.0.set_quickack(true).and_then(|()| self.0.set_quickack(false));
    }
}

/// A connection below TLS and websockets.
pub(super) struct Dialled {
    stream: Stream,
    receipts: Option<Receipts>,
}

/// Connects to the socket that the settings name.
///
/// # Errors
/// With the address that stands in the way.
pub(super) async fn dial(
    settings: &MqttSettings,
    addresses: &mut Addresses,
) -> Result<Dialled, Trouble> {
    let unreachable = |source| Trouble::Unreachable { server: settings.server.clone(), source };
    let (host, port) = match &settings.server {
        Server::Tcp { host, port } | Server::Tls { host, port } => (host.clone(), *port),
        Server::WebSocket { url } => host_and_port(settings, url, 80)?,
        Server::WebSocketTls { url } => host_and_port(settings, url, 443)?,
        Server::Unix { path } => {
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            return Ok(Dialled { stream: Box::new(stream), receipts: None });
        }
    };
    let stream = addresses.dial(&host, port).await.map_err(unreachable)?;
    // Packets are gathered before they are written, so waiting for more would only delay alerts.
    stream.set_nodelay(true).map_err(unreachable)?;
    let same = stream.as_fd().try_clone_to_owned().map_err(unreachable)?;
    Ok(Dialled { stream: Box::new(stream), receipts: Some(Receipts(same.into())) })
}

/// Makes a connection one that MQTT can be spoken over: TLS and websocket, as the settings say.
///
/// # Errors
/// With the file, certificate or address that stands in the way.
pub(super) async fn open(settings: &MqttSettings, dialled: Dialled) -> Result<Opened, Trouble> {
    let Dialled { stream, receipts } = dialled;
    let stream = match &settings.server {
        Server::Tcp { .. } | Server::Unix { .. } => stream,
        Server::Tls { host, .. } => secure(settings, host, stream).await?,
        Server::WebSocket { url } => upgrade(settings, url, stream).await?,
        Server::WebSocketTls { url } => {
            let (host, _) = host_and_port(settings, url, 443)?;
            let tls = secure(settings, &host, stream).await?;
            upgrade(settings, url, tls).await?
        }
    };
    Ok(Opened { stream, receipts })
}

fn host_and_port(
    settings: &MqttSettings,
    url: &str,
    default_port: u16,
) -> Result<(String, u16), Trouble> {
    let default = if url_has_port(url) { None } else { Some(default_port) };
    split_url_with_default_port(url, default).map_err(|error| Trouble::WebSocket {
        server: settings.server.clone(),
        reason: error.to_string(),
    })
}

fn url_has_port(url: &str) -> bool {
    url.parse::<async_tungstenite::tungstenite::http::Uri>()
        .is_ok_and(|uri| uri.port_u16().is_some())
}

async fn upgrade(settings: &MqttSettings, url: &str, stream: Stream) -> Result<Stream, Trouble> {
    let trouble = |reason: String| Trouble::WebSocket { server: settings.server.clone(), reason };
    let mut request = url.into_client_request().map_err(|error| trouble(error.to_string()))?;
    // MQTT 5, 6: the subprotocol is `mqtt` for all versions.
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    // A frame may hold the largest packet; a bound there is, because memory is taken for a frame as
    // soon as its length is known.
    let most = Some(MAX_PACKET_BYTES as usize);
    let config = WebSocketConfig::default().max_message_size(most).max_frame_size(most);
    let (socket, response) =
        async_tungstenite::tokio::client_async_with_config(request, stream, Some(config))
            .await
            .map_err(|error| trouble(error.to_string()))?;
    validate_response_headers(&response).map_err(|error| trouble(error.to_string()))?;
    Ok(Box::new(WebSocket::new(socket)))
}

async fn secure(settings: &MqttSettings, host: &str, stream: Stream) -> Result<Stream, Trouble> {
    let files = TlsFiles {
        ca_file: settings.ca_file.clone(),
        client_certificate: settings.client_certificate.clone(),
    };
    // Files may lie on a slow disk: read them off the loop.
    let config = match tokio::task::spawn_blocking(move || files.load()).await {
        Ok(config) => config?,
        Err(error) => {
            return Err(Trouble::Unreachable {
                server: settings.server.clone(),
                source: io::Error::other(error),
            });
        }
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Trouble::ServerName { host: host.to_owned() })?;
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(source) => Err(Trouble::from_stream(&settings.server, source)),
    }
}

struct TlsFiles {
    ca_file: Option<PathBuf>,
    client_certificate: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    fn load(&self) -> Result<Arc<ClientConfig>, Trouble> {
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| Trouble::ClientCertificate {
                path: self.ca_file.clone().unwrap_or_default(),
                source,
            })?
            .with_root_certificates(self.roots()?);
        let config = match &self.client_certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(|source| Trouble::ClientCertificate {
                    path: certificate.clone(),
                    source,
                })?,
        };
        Ok(Arc::new(config))
    }

    /// The file's authorities alone, or the system's. Single ones of the system's that cannot be
    /// read are passed over, as every TLS client does.
    fn roots(&self) -> Result<RootCertStore, Trouble> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(path) => {
                roots.add_parsable_certificates(certificates(path)?);
                if roots.is_empty() {
                    return Err(Trouble::Pem { path: path.clone(), what: "usable certificate" });
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(Trouble::NoRoots);
                }
            }
        }
        Ok(roots)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    std::fs::read(path).map_err(|source| Trouble::File { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let missing = || Trouble::Pem { path: path.to_owned(), what: "certificate" };
    let found = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| missing())?;
    if found.is_empty() { Err(missing()) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Trouble> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| Trouble::Pem { path: path.to_owned(), what: "private key" })
}
