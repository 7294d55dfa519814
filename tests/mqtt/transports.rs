//! TLS, Unix sockets and websockets.

use crate::certificates::{Certificates, openssl};
use crate::common::broker::{Broker, free_port};
use crate::common::client::{Client, VERSIONS, at_least_once, publication, settings};
use async_tungstenite::tokio::accept_hdr_async;
use async_tungstenite::tungstenite::handshake::server::{Request, Response};
use async_tungstenite::tungstenite::http::HeaderValue;
use async_tungstenite::tungstenite::{Bytes, Message as WsMessage};
use iotmonitor::mqtt::settings::{BrokerAddress, MqttSettings, ProtocolChoice};
use iotmonitor_core::model::message::{Connection, LossReason};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Lines for a listener of mosquitto's that uses these.
fn listener_lines(certificates: &Certificates) -> String {
    format!(
        "cafile {}\ncertfile {}\nkeyfile {}\n",
        certificates.path("ca.crt").display(),
        certificates.path("server.crt").display(),
        certificates.path("server.key").display()
    )
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
    let (_broker, port) = with_listener(&listener_lines(&certificates));
    for (choice, _) in VERSIONS {
        for host in ["localhost", "127.0.0.1"] {
            round_trip(MqttSettings {
                server: BrokerAddress::Tls { host: host.into(), port },
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
    let lines = format!("{}require_certificate true\n", listener_lines(&certificates));
    let (_broker, port) = with_listener(&lines);
    for (choice, _) in VERSIONS {
        let without = MqttSettings {
            server: BrokerAddress::Tls { host: "localhost".into(), port },
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
    let (broker, port) = with_listener(&listener_lines(&certificates));
    let good = MqttSettings {
        server: BrokerAddress::Tls { host: "localhost".into(), port },
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
    assert!(sentence.contains("ca.key holds a private key instead of a certificate"), "{sentence}");

    let neither = certificates.path("server.ext");
    let sentence = failure(MqttSettings { ca_file: Some(neither), ..good.clone() }).await;
    assert!(sentence.contains("server.ext holds no certificate in PEM format"), "{sentence}");

    let plain = BrokerAddress::Tls { host: "localhost".into(), port: broker.port() };
    let sentence = failure(MqttSettings { server: plain, ..good.clone() }).await;
    assert!(sentence.contains(&format!("localhost:{}", broker.port())), "{sentence}");

    let other_name = BrokerAddress::Tls { host: "127.0.0.2".into(), port };
    let sentence = failure(MqttSettings { server: other_name, ..good }).await;
    assert!(sentence.contains("a name that the broker's certificate holds"), "{sentence}");
}

/// What mosquitto offers with this certificate.
fn with_certificate(at: &TempDir, name: &str) -> (Broker, u16) {
    let at = at.path().display();
    with_listener(&format!("certfile {at}/{name}.crt\nkeyfile {at}/{name}.key\n"))
}

/// Makes a certificate that signs itself, with its key beside it.
fn self_signed(at: &TempDir, name: &str, more: &str) {
    openssl(
        at.path(),
        &format!(
            "req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.crt -subj /CN={name} {more}"
        ),
    );
}

fn tls_to(host: &str, port: u16, ca_file: PathBuf) -> MqttSettings {
    MqttSettings {
        server: BrokerAddress::Tls { host: host.into(), port },
        ca_file: Some(ca_file),
        ..settings(port, ProtocolChoice::Auto)
    }
}

#[tokio::test]
async fn a_broker_that_signed_its_own_certificate_is_trusted_where_it_is_named() {
    let at = tempfile::tempdir().unwrap();
    // openssl makes it that of an authority.
    self_signed(&at, "own", "-days 30 -addext subjectAltName=DNS:localhost");
    self_signed(&at, "other", "-days 30 -addext subjectAltName=DNS:localhost");
    let (_broker, port) = with_certificate(&at, "own");
    round_trip(tls_to("localhost", port, at.path().join("own.crt"))).await;

    let sentence = failure(tls_to("127.0.0.1", port, at.path().join("own.crt"))).await;
    assert!(sentence.contains("a name that the broker's certificate holds"), "{sentence}");
    let sentence = failure(tls_to("localhost", port, at.path().join("other.crt"))).await;
    assert!(sentence.contains("name that very certificate with `caFile`"), "{sentence}");
}

#[tokio::test]
async fn the_dates_of_a_named_certificate_count() {
    let at = tempfile::tempdir().unwrap();
    for (name, from, to, hint) in [
        ("old", "20200101000000Z", "20210101000000Z", "the broker needs a new certificate"),
        ("young", "20900101000000Z", "20910101000000Z", "is the clock of this machine right?"),
    ] {
        self_signed(&at, "authority", "-days 30 -addext subjectAltName=DNS:localhost");
        openssl(
            at.path(),
            &format!("req -new -key authority.key -out {name}.csr -subj /CN={name}"),
        );
        std::fs::write(at.path().join("index"), "").unwrap();
        std::fs::write(
            at.path().join("ca.cnf"),
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\n\
             default_md=sha256\npolicy=p\nx509_extensions=x\n[p]\ncommonName=supplied\n\
             [x]\nbasicConstraints=CA:TRUE\nsubjectAltName=DNS:localhost\n",
        )
        .unwrap();
        openssl(
            at.path(),
            &format!(
                "ca -batch -config ca.cnf -selfsign -keyfile authority.key -in {name}.csr -out {name}.crt -startdate {from} -enddate {to}"
            ),
        );
        std::fs::copy(at.path().join("authority.key"), at.path().join(format!("{name}.key")))
            .unwrap();
        let (_broker, port) = with_certificate(&at, name);
        let file = at.path().join(format!("{name}.crt"));
        let sentence = failure(tls_to("localhost", port, file)).await;
        assert!(sentence.contains(hint), "{sentence}");
    }
}

#[tokio::test]
async fn only_the_very_certificate_that_is_named_is_trusted_without_its_authority() {
    let certificates = Certificates::make();
    let (_broker, port) = with_listener(&listener_lines(&certificates));
    round_trip(tls_to("localhost", port, certificates.path("server.crt"))).await;
    // Of the same authority, but another one's.
    let sentence = failure(tls_to("localhost", port, certificates.path("client.crt"))).await;
    assert!(sentence.contains("or that certificate itself, with `caFile`"), "{sentence}");
}

/// The command in a sentence, run as a shell runs it.
fn run_advice(sentence: &str, add: &str) {
    let command = sentence.split('`').find(|part| part.starts_with("openssl ")).unwrap();
    let made = Command::new("sh")
        .args(["-c", &format!("{command} {add}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success(), "{command}");
}

#[tokio::test]
async fn a_certificate_without_names_is_refused_with_a_remedy() {
    let at = tempfile::tempdir().unwrap();
    self_signed(&at, "localhost", "-days 30");
    let named = |name: &str| at.path().join(format!("{name}.crt"));
    let (_broker, port) = with_certificate(&at, "localhost");
    let sentence = failure(tls_to("localhost", port, named("localhost"))).await;
    assert!(sentence.contains("subjectAltName=DNS:localhost`"), "{sentence}");
    let made = at.path().display();
    run_advice(&sentence, &format!("-keyout {made}/advised.key -out {made}/advised.crt"));
    let (_broker, port) = with_certificate(&at, "advised");
    round_trip(tls_to("localhost", port, named("advised"))).await;
}

#[tokio::test]
async fn a_certificate_of_version_1_is_refused_with_a_remedy() {
    let at = tempfile::tempdir().unwrap();
    openssl(
        at.path(),
        "req -new -newkey rsa:2048 -nodes -keyout first.key -out first.csr -subj /CN=first",
    );
    // Later releases of openssl make such a certificate only on request, earlier ones know no such option.
    let make = "x509 -req -in first.csr -signkey first.key -days 30 -out first.crt";
    let made = Command::new("sh")
        .args(["-c", &format!("openssl {make} -x509v1 || openssl {make}")])
        .current_dir(at.path())
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let (_broker, port) = with_certificate(&at, "first");
    let sentence = failure(tls_to("localhost", port, at.path().join("first.crt"))).await;
    assert!(sentence.contains("of version 1, which holds no names"), "{sentence}");
}

#[tokio::test]
async fn files_in_another_format_are_turned_by_the_command_that_is_named() {
    let certificates = Certificates::make();
    let at = certificates.directory.path();
    for command in [
        "x509 -in ca.crt -outform DER -out ca.der",
        "x509 -in client.crt -outform DER -out client.der",
        "pkey -in client.key -outform DER -out key.der",
        "rsa -in client.key -traditional -outform DER -out rsa.der",
        "pkcs12 -export -in client.crt -inkey client.key -passout pass: -out client.p12",
        "pkey -in client.key -aes256 -passout pass:secret -out locked.key",
        "rsa -in client.key -traditional -aes256 -passout pass:secret -out old-locked.key",
    ] {
        openssl(at, command);
    }
    let lines = format!("{}require_certificate true\n", listener_lines(&certificates));
    let (_broker, port) = with_listener(&lines);
    for (ca, certificate, key, said, secret) in [
        ("ca.der", "client.crt", "client.key", "ca.der is in DER format", ""),
        ("ca.crt", "client.der", "client.key", "client.der is in DER format", ""),
        ("ca.crt", "client.crt", "key.der", "key.der is in DER format", ""),
        ("ca.crt", "client.crt", "rsa.der", "rsa.der is in DER format", ""),
        ("ca.crt", "client.p12", "client.key", "take the certificate out of it", "-passin pass:"),
        ("ca.crt", "client.crt", "client.p12", "take the private key out of it", "-passin pass:"),
        ("ca.crt", "client.crt", "locked.key", "is encrypted", "-passin pass:secret"),
        ("ca.crt", "client.crt", "old-locked.key", "is encrypted", "-passin pass:secret"),
    ] {
        let with = |ca: &str, certificate: &str, key: &str| MqttSettings {
            client_certificate: Some((certificates.path(certificate), certificates.path(key))),
            ..tls_to("localhost", port, certificates.path(ca))
        };
        let sentence = failure(with(ca, certificate, key)).await;
        assert!(sentence.contains(said), "{sentence}");
        run_advice(&sentence, secret);
        let turned = |name: &str| {
            let pem = format!("{name}.pem");
            if certificates.path(&pem).exists() { pem } else { name.to_owned() }
        };
        round_trip(with(&turned(ca), &turned(certificate), &turned(key))).await;
        for name in [ca, certificate, key] {
            let _absent = std::fs::remove_file(certificates.path(&format!("{name}.pem")));
        }
    }
    let swapped = MqttSettings {
        client_certificate: Some((
            certificates.path("client.key"),
            certificates.path("client.crt"),
        )),
        ..tls_to("localhost", port, certificates.path("ca.crt"))
    };
    let sentence = failure(swapped).await;
    assert!(
        sentence.contains("client.key holds a private key instead of a certificate"),
        "{sentence}"
    );
    let of_another = MqttSettings {
        client_certificate: Some((
            certificates.path("client.crt"),
            certificates.path("server.key"),
        )),
        ..tls_to("localhost", port, certificates.path("ca.crt"))
    };
    let sentence = failure(of_another).await;
    assert!(sentence.contains("and its key do not fit"), "{sentence}");
}

/// A peer that answers the first bytes with these, and closes.
async fn answers(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = [0; 16];
            let _count = stream.read(&mut first).await.unwrap();
            stream.write_all(bytes).await.unwrap();
        }
    });
    port
}

#[tokio::test]
async fn the_wrong_kind_of_port_is_named() {
    let certificates = Certificates::make();
    let broker = Broker::start();
    let sentence = failure(tls_to("localhost", broker.port(), certificates.path("ca.crt"))).await;
    assert!(sentence.contains("is it a port for TLS? (to one without it"), "{sentence}");
    assert!(sentence.contains("`tcp://`"), "{sentence}");

    for (said, advice) in [
        (&b"\x15\x03\x01\x00\x02\x02\x46"[..], "let serverAddress begin with `ssl://`"),
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "let serverAddress begin with `ws://`"),
        (&b""[..], "(then serverAddress begins with `ssl://`)"),
    ] {
        let sentence = failure(settings(answers(said).await, ProtocolChoice::Auto)).await;
        assert!(sentence.contains(advice), "{sentence}");
    }
}

#[tokio::test]
async fn a_websocket_at_another_path_is_asked_for_at_the_usual_one() {
    let port = answers(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    for (path, advice) in [
        ("", "most brokers offer them at the path `/mqtt`"),
        ("/ws", "most brokers offer them at the path `/mqtt`"),
        ("/mqtt", "the broker's configuration says at which path"),
    ] {
        let url = format!("ws://127.0.0.1:{port}{path}");
        let server = BrokerAddress::WebSocket { url };
        let sentence =
            failure(MqttSettings { server, ..settings(port, ProtocolChoice::Auto) }).await;
        assert!(sentence.contains("404") && sentence.contains(advice), "{sentence}");
    }
}

#[tokio::test]
async fn plain_mqtt_to_a_port_for_tls_says_so() {
    let certificates = Certificates::make();
    let (_broker, port) = with_listener(&listener_lines(&certificates));
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
            server: BrokerAddress::Unix { path: path.clone() },
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
        listener_lines(&certificates)
    ));
    broker.wait_for(secure);
    for (choice, _) in VERSIONS {
        round_trip(MqttSettings {
            server: BrokerAddress::WebSocket { url: format!("ws://127.0.0.1:{plain}/mqtt") },
            ..settings(plain, choice)
        })
        .await;
        round_trip(MqttSettings {
            server: BrokerAddress::WebSocketTls { url: format!("wss://localhost:{secure}/mqtt") },
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
            server: BrokerAddress::WebSocket { url: format!("ws://127.0.0.1:{port}/mqtt") },
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
        server: BrokerAddress::WebSocket { url: format!("ws://127.0.0.1:{port}/mqtt") },
        ..settings(port, ProtocolChoice::Auto)
    })
    .await;
    assert!(
        sentence.contains(&format!("no websocket for MQTT at ws://127.0.0.1:{port}")),
        "{sentence}"
    );
}
