//! The byte stream below MQTT: TCP, TLS, websocket, Unix socket.
//!
//! Retries and timeouts belong to the callers.

use super::dial::Addresses;
use super::settings::{BrokerAddress, MqttSettings};
use super::stream::Stream;
use super::tcp::{TcpConnection, TcpOptions};
use super::tls::secure;
use super::trouble::Trouble;
use super::websocket::WebSocket;
use super::wire::MAX_PACKET_BYTES;
use async_tungstenite::tungstenite;
use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::error::ProtocolError;
use async_tungstenite::tungstenite::http::{HeaderValue, StatusCode, Uri};
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use rumqttc_core::{split_url_with_default_port, validate_response_headers};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// A stream that can carry MQTT.
pub(super) struct OpenStream {
    pub stream: Stream,
    /// Where the stream runs over TCP.
    pub tcp: Option<TcpOptions>,
}

/// A connection below TLS and websockets.
pub(super) struct Dialled {
    stream: Stream,
    tcp: Option<TcpOptions>,
}

impl Dialled {
    /// Has the kernel give the connection up after this long without TCP's acknowledgement. A socket
    /// on the same machine has no network that could hold anything back.
    pub(super) fn give_up_after(&self, after: Duration) {
        if let Some(tcp) = &self.tcp {
            tcp.give_up_after(after);
        }
    }
}

/// Connects to the socket that the settings name.
///
/// # Errors
/// Returns an error with the address that failed.
pub(super) async fn dial(
    settings: &MqttSettings,
    addresses: &mut Addresses,
) -> Result<Dialled, Trouble> {
    let unreachable = |source| Trouble::Unreachable { server: settings.server.clone(), source };
    let (host, port) = match &settings.server {
        BrokerAddress::Tcp { host, port } | BrokerAddress::Tls { host, port } => {
            (host.clone(), *port)
        }
        BrokerAddress::WebSocket { url } => host_and_port(settings, url, 80)?,
        BrokerAddress::WebSocketTls { url } => host_and_port(settings, url, 443)?,
        BrokerAddress::Unix { path } => {
            let closed = || {
                let (server, path) = (settings.server.clone(), path.clone());
                Trouble::SocketClosed { server, path }
            };
            let stream = UnixStream::connect(path).await.map_err(|source| {
                let is_closed = source.kind() == std::io::ErrorKind::PermissionDenied;
                if is_closed { closed() } else { unreachable(source) }
            })?;
            return Ok(Dialled { stream: Box::new(stream), tcp: None });
        }
    };
    let stream = addresses.dial(&host, port).await.map_err(unreachable)?;
    let OpenStream { stream, tcp } = over_tcp(stream).map_err(unreachable)?;
    Ok(Dialled { stream, tcp })
}

/// A stream over this connection.
///
/// # Errors
/// Returns the errors of the socket.
pub(super) fn over_tcp(stream: TcpStream) -> std::io::Result<OpenStream> {
    let (connection, tcp) = TcpConnection::new(stream)?;
    Ok(OpenStream { stream: Box::new(connection), tcp: Some(tcp) })
}

/// Prepares a connection to carry MQTT: TLS and websocket, as the settings require.
///
/// # Errors
/// Returns an error with the file, certificate or address that prevents it.
pub(super) async fn open(settings: &MqttSettings, dialled: Dialled) -> Result<OpenStream, Trouble> {
    let Dialled { stream, tcp } = dialled;
    let stream = match &settings.server {
        BrokerAddress::Tcp { .. } | BrokerAddress::Unix { .. } => stream,
        BrokerAddress::Tls { host, .. } => secure(settings, host, stream).await?,
        BrokerAddress::WebSocket { url } => upgrade(settings, url, stream).await?,
        BrokerAddress::WebSocketTls { url } => {
            let (host, _) = host_and_port(settings, url, 443)?;
            let tls = secure(settings, &host, stream).await?;
            upgrade(settings, url, tls).await?
        }
    };
    Ok(OpenStream { stream, tcp })
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
    url.parse::<Uri>().is_ok_and(|uri| uri.port_u16().is_some())
}

async fn upgrade(settings: &MqttSettings, url: &str, stream: Stream) -> Result<Stream, Trouble> {
    let trouble = |reason: String| Trouble::WebSocket { server: settings.server.clone(), reason };
    let mut request = url.into_client_request().map_err(|error| trouble(error.to_string()))?;
    // MQTT 5, 6: the subprotocol is `mqtt` for all versions.
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    // A frame may hold the largest packet. The size is bounded because memory is allocated for a
    // frame as soon as its length is known.
    let most = Some(MAX_PACKET_BYTES as usize);
    let config = WebSocketConfig::default().max_message_size(most).max_frame_size(most);
    let (socket, response) =
        async_tungstenite::tokio::client_async_with_config(request, stream, Some(config))
            .await
            .map_err(|error| trouble(format!("{error}{}", upgrade_hint(&error, url))))?;
    validate_response_headers(&response).map_err(|error| trouble(error.to_string()))?;
    Ok(Box::new(WebSocket::new(socket)))
}

fn upgrade_hint(error: &tungstenite::Error, url: &str) -> &'static str {
    match error {
        tungstenite::Error::Http(response) if response.status() == StatusCode::NOT_FOUND => {
            let path = url.parse::<Uri>().map(|uri| uri.path().to_owned()).unwrap_or_default();
            if path == "/mqtt" {
                "; the broker's configuration says at which path it offers them"
            } else {
                "; most brokers offer them at the path `/mqtt`"
            }
        }
        tungstenite::Error::Io(_)
        | tungstenite::Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            "; are websockets offered at this port, and does it want TLS (`wss://`)?"
        }
        _ => "",
    }
}
