//! TLS, Unix sockets and websockets.

use crate::common::broker::{Broker, free_port};
use crate::common::client::{Client, VERSIONS, at_least_once, publication, settings};
use async_tungstenite::tokio::accept_hdr_async;
use async_tungstenite::tungstenite::handshake::server::{Request, Response};
use async_tungstenite::tungstenite::http::HeaderValue;
use async_tungstenite::tungstenite::{Bytes, Message as WsMessage};
use iotmonitor::mqtt::settings::{MqttSettings, ProtocolChoice, Server};
use iotmonitor_core::monitor::event::{Connection, LossReason};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// A private authority, a broker's certificate for `localhost`, and a client's.
struct Certificates {
    directory: TempDir,
}

impl Certificates {
    fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        std::fs::write(at.join("server.ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            .unwrap();
        std::fs::write(at.join("client.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
        for ca in ["ca", "stranger"] {
            openssl(
                at,
                &format!(
                    "req -x509 -newkey rsa:2048 -nodes -days 30 -keyout {ca}.key -out {ca}.crt -subj /CN={ca}"
                ),
            );
        }
        for name in ["server", "client"] {
            openssl(
                at,
                &format!(
                    "req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
                ),
            );
            openssl(
                at,
                &format!(
                    "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile {name}.ext -out {name}.crt"
                ),
            );
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Lines for a listener of mosquitto's that uses these.
    fn listener_lines(&self) -> String {
        format!(
            "cafile {}\ncertfile {}\nkeyfile {}\n",
            self.path("ca.crt").display(),
            self.path("server.crt").display(),
            self.path("server.key").display()
        )
    }
}

fn openssl(directory: &Path, arguments: &str) {
    let made = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("openssl is installed");
    assert!(made.success(), "openssl {arguments}");
}

/// A broker with a second listener; gives its port.
fn with_listener(lines: &str) -> (Broker, u16) {
    let second = free_port();
    let mut broker = Broker::with(&format!("allow_anonymous true\nlistener {second}\n{lines}"));
    broker.wait_for(second);
    (broker, second)
}

/// More than one read and more than one record of TLS or frame of a websocket; not much more,
/// because mosquitto passes 4 KiB each 100 ms over a websocket.
const ROUND_TRIP_BYTES: u32 = 40_000;

async fn round_trip(settings: MqttSettings) {
    let mut client = Client::new(Connection::Watch, settings);
    client.connected().await;
    assert_eq!(client.subscribe(vec![at_least_once("a/#")]).await, []);
    let payload: Vec<u8> = (0..ROUND_TRIP_BYTES).map(|i| u8::try_from(i % 253).unwrap()).collect();
    client.handle.publish(publication(Connection::Watch, "a/b", &payload));
    assert_eq!(client.message().await.1.payload, payload);
    client.close().await;
}

async fn failure(settings: MqttSettings) -> String {
    match Client::new(Connection::Watch, settings).disconnected().await {
        LossReason::Other(sentence) => sentence,
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn tls_with_a_private_authority() {
    let certificates = Certificates::make();
    let (_broker, port) = with_listener(&certificates.listener_lines());
    for (choice, _) in VERSIONS {
        for host in ["localhost", "127.0.0.1"] {
            round_trip(MqttSettings {
                server: Server::Tls { host: host.into(), port },
                ca_file: Some(certificates.path("ca.crt")),
                ..settings(port, choice)
            })
            .await;
        }
    }
}

#[tokio::test]
async fn tls_with_a_client_certificate() {
    let certificates = Certificates::make();
    let lines = format!("{}require_certificate true\n", certificates.listener_lines());
    let (_broker, port) = with_listener(&lines);
    for (choice, _) in VERSIONS {
        let without = MqttSettings {
            server: Server::Tls { host: "localhost".into(), port },
            ca_file: Some(certificates.path("ca.crt")),
            ..settings(port, choice)
        };
        let sentence = failure(without.clone()).await;
        assert!(sentence.contains("check `certFile` and `keyFile`"), "{sentence}");
        let client = (certificates.path("client.crt"), certificates.path("client.key"));
        round_trip(MqttSettings { client_certificate: Some(client), ..without }).await;
    }
}

#[tokio::test]
async fn tls_that_fails_says_why() {
    let certificates = Certificates::make();
    let (broker, port) = with_listener(&certificates.listener_lines());
    let good = MqttSettings {
        server: Server::Tls { host: "localhost".into(), port },
        ca_file: Some(certificates.path("ca.crt")),
        ..settings(port, ProtocolChoice::Auto)
    };
    let stranger = certificates.path("stranger.crt");
    let sentence = failure(MqttSettings { ca_file: Some(stranger), ..good.clone() }).await;
    assert!(sentence.contains("with `caFile` in [mqtt]"), "{sentence}");

    let missing = certificates.path("missing.crt");
    let sentence = failure(MqttSettings { ca_file: Some(missing.clone()), ..good.clone() }).await;
    assert!(sentence.contains(missing.to_str().unwrap()), "{sentence}");

    let no_certificate = certificates.path("ca.key");
    let sentence = failure(MqttSettings { ca_file: Some(no_certificate), ..good.clone() }).await;
    assert!(sentence.contains("ca.key holds no certificate"), "{sentence}");

    let plain = Server::Tls { host: "localhost".into(), port: broker.port() };
    let sentence = failure(MqttSettings { server: plain, ..good.clone() }).await;
    assert!(sentence.contains(&format!("localhost:{}", broker.port())), "{sentence}");

    let other_name = Server::Tls { host: "127.0.0.2".into(), port };
    let sentence = failure(MqttSettings { server: other_name, ..good }).await;
    assert!(sentence.contains("a name that the broker's certificate holds"), "{sentence}");
}

#[tokio::test]
async fn plain_mqtt_to_a_port_for_tls_says_so() {
    let certificates = Certificates::make();
    let (_broker, port) = with_listener(&certificates.listener_lines());
    let sentence = failure(settings(port, ProtocolChoice::Auto)).await;
    assert!(sentence.contains("does it want TLS?"), "{sentence}");
}

#[tokio::test]
async fn a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broker.sock");
    let port = free_port();
    // The port comes last, so that both listen when it does.
    let config =
        format!("listener 0 DIR/broker.sock\nlistener {port} 127.0.0.1\nallow_anonymous true\n");
    let _broker = Broker::with_config(directory, port, &config);
    for (choice, _) in VERSIONS {
        round_trip(MqttSettings {
            server: Server::Unix { path: path.clone() },
            ..settings(port, choice)
        })
        .await;
    }
}

#[tokio::test]
async fn websockets_plain_and_with_tls() {
    let certificates = Certificates::make();
    let secure = free_port();
    let (mut broker, plain) = with_listener(&format!(
        "protocol websockets\nlistener {secure}\nprotocol websockets\n{}",
        certificates.listener_lines()
    ));
    broker.wait_for(secure);
    for (choice, _) in VERSIONS {
        round_trip(MqttSettings {
            server: Server::WebSocket { url: format!("ws://127.0.0.1:{plain}/mqtt") },
            ..settings(plain, choice)
        })
        .await;
        round_trip(MqttSettings {
            server: Server::WebSocketTls { url: format!("wss://localhost:{secure}/mqtt") },
            ca_file: Some(certificates.path("ca.crt")),
            ..settings(secure, choice)
        })
        .await;
    }
}

#[tokio::test]
async fn pings_of_the_websocket_are_no_mqtt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = Client::new(
        Connection::Watch,
        MqttSettings {
            server: Server::WebSocket { url: format!("ws://127.0.0.1:{port}/mqtt") },
            ..settings(port, ProtocolChoice::V311)
        },
    );
    let (stream, _) = listener.accept().await.unwrap();
    #[expect(clippy::result_large_err, reason = "the library's own signature")]
    let choose = |_: &Request, mut response: Response| {
        response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, choose).await.unwrap();
    socket.send(WsMessage::Ping(Bytes::new())).await.unwrap();
    socket.send(WsMessage::Ping(Bytes::from_static(b"no MQTT"))).await.unwrap();
    socket.send(WsMessage::Binary(Bytes::new())).await.unwrap();
    socket.send(WsMessage::Binary(Bytes::from_static(&[0x20, 2, 0, 0]))).await.unwrap();
    client.connected().await;
    socket.send(WsMessage::Close(None)).await.unwrap();
    let LossReason::Other(sentence) = client.disconnected().await else {
        panic!("the closing was to be named");
    };
    assert!(sentence.contains("closed the connection"), "{sentence}");
}

#[tokio::test]
async fn a_port_without_websockets_says_so() {
    let broker = Broker::start();
    let port = broker.port();
    let sentence = failure(MqttSettings {
        server: Server::WebSocket { url: format!("ws://127.0.0.1:{port}/mqtt") },
        ..settings(port, ProtocolChoice::Auto)
    })
    .await;
    assert!(
        sentence.contains(&format!("no websocket for MQTT at ws://127.0.0.1:{port}")),
        "{sentence}"
    );
}
