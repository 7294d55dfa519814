//! Publications that a broker refuses.

use crate::common::client::{Client, at_least_once, publication, settings, topic, with_token};
use crate::fake::{FakeBroker, Packet, read};
use iotmonitor::mqtt::settings::ProtocolChoice;
use iotmonitor::mqtt::{ConnectionOptions, Will};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Publication, QoS, Token};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

const BOTH: [Connection; 2] = [Connection::Watch, Connection::State];

/// The packet identifier of a publication: it follows the topic, which follows its length (3.3.2).
fn pkid(packet: &Packet) -> [u8; 2] {
    let at = 2 + usize::from(u16::from_be_bytes([packet.body[0], packet.body[1]]));
    [packet.body[at], packet.body[at + 1]]
}

#[tokio::test]
async fn a_refused_publication_is_reported_with_its_reason_and_then_what_is_accepted() {
    for connection in BOTH {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(connection, settings(broker.port(), ProtocolChoice::V5));
        let mut stream = broker.welcome().await;
        client.connected().await;
        for (code, words) in [(0x87, "access control list"), (0x97, "quota"), (0x80, "refused")] {
            client.handle.publish(with_token(publication(connection, "a/b", b"x"), 1));
            let [high, low] = pkid(&read(&mut stream).await.unwrap());
            stream.write_all(&[0x40, 3, high, low, code]).await.unwrap();
            match client.next().await {
                Event::PublishRefused { topic: at, reason, token } => {
                    assert_eq!((at, token), (topic("a/b"), Some(Token(1))));
                    assert!(reason.contains(words), "{reason}");
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        // It is not sent again, and 0x10 says that it has no subscribers.
        client.handle.publish(with_token(publication(connection, "a/b", b"y"), 2));
        let [high, low] = pkid(&read(&mut stream).await.unwrap());
        stream.write_all(&[0x40, 3, high, low, 0x10]).await.unwrap();
        let events = [client.next().await, client.next().await];
        assert!(events.contains(&Event::Published { token: Token(2) }), "{events:?}");
        assert!(events.contains(&Event::PublishAccepted { topic: topic("a/b") }), "{events:?}");
    }
}

#[tokio::test]
async fn a_publication_over_the_brokers_limit_is_refused_and_the_rest_goes_out() {
    for connection in BOTH {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(connection, settings(broker.port(), ProtocolChoice::V5));
        let (mut stream, _) = broker.connect().await;
        // Maximum packet size: 100 bytes (MQTT 5, 3.2.2.3.6).
        stream.write_all(&[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 100]).await.unwrap();
        client.connected().await;
        for qos in [QoS::AtLeastOnce, QoS::AtMostOnce] {
            let large = Publication { qos, ..publication(connection, "a/large", &[0; 200]) };
            client.handle.publish(large);
            client.handle.publish(publication(connection, "a/small", b"x"));
            match client.next().await {
                Event::PublishRefused { topic: at, reason, token: None } => {
                    assert_eq!(at, topic("a/large"));
                    assert!(reason.contains("larger than the 100 bytes"), "{reason}");
                }
                other => panic!("unexpected {other:?}"),
            }
            let sent = read(&mut stream).await.unwrap();
            assert_eq!(&sent.body[2..9], b"a/small");
            let [high, low] = pkid(&sent);
            stream.write_all(&[0x40, 2, high, low]).await.unwrap();
            assert_eq!(client.next().await, Event::PublishAccepted { topic: topic("a/small") });
        }
    }
}

#[tokio::test]
async fn what_is_not_even_sent_is_reported_at_once() {
    let broker = FakeBroker::start().await;
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::V5));
    let (mut stream, _) = broker.connect().await;
    stream.write_all(&[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 100]).await.unwrap();
    client.connected().await;
    let began = Instant::now();
    for _ in 0..10 {
        client.handle.publish(publication(Connection::Watch, "a/large", &[0; 200]));
        assert!(matches!(client.next().await, Event::PublishRefused { .. }));
    }
    // A report that waits for a tick of half a second takes as long each time.
    assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_broker_without_retain_and_qos_1_is_used_without_them() {
    let broker = FakeBroker::start().await;
    let will = Will {
        topic: topic("a/will"),
        payload: "gone".into(),
        retain: true,
        qos: QoS::AtLeastOnce,
    };
    let options = ConnectionOptions { will: Some(will), ..Default::default() };
    let settings = settings(broker.port(), ProtocolChoice::V5);
    let mut client = Client::with(Connection::Watch, settings, options, 1_024);
    // The flags of the will: retain is 0x20, QoS 1 is 0x08 (MQTT 5, 3.1.2).
    for (flags, code) in [(0x28, 0x9A), (0x08, 0x9B)] {
        let mut stream = broker.accept().await;
        assert_eq!(read(&mut stream).await.unwrap().body[7] & 0x38, flags);
        stream.write_all(&[0x20, 3, 0, code, 0]).await.unwrap();
    }
    let mut stream = broker.accept().await;
    assert_eq!(read(&mut stream).await.unwrap().body[7] & 0x38, 0);
    // Maximum QoS 0, no retain, no wildcards (3.2.2.3).
    stream.write_all(&[0x20, 9, 0, 0, 6, 0x24, 0, 0x25, 0, 0x28, 0]).await.unwrap();
    client.connected().await;
    match client.next().await {
        Event::BrokerLacks { what } => {
            for part in ["retained", "QoS 1", "wildcards"] {
                assert!(what.contains(part), "{what}");
            }
        }
        other => panic!("unexpected {other:?}"),
    }
    let retained = Publication { retain: true, ..publication(Connection::Watch, "a/b", b"x") };
    client.handle.publish(with_token(retained, 1));
    assert_eq!(read(&mut stream).await.unwrap().first, 0x30, "QoS 0, not retained");
    client.published(1).await;
    client.handle.subscribe(vec![at_least_once("a/#")]);
    let refused = client
        .until(|event| match event {
            Event::Subscribed { refused, .. } => Some(refused.clone()),
            _ => None,
        })
        .await;
    assert_eq!(refused[0].reason, "the broker has no wildcards");
}

#[tokio::test]
async fn a_refusal_is_reported_also_where_the_connection_ends_first() {
    for connection in BOTH {
        let broker = FakeBroker::start().await;
        let port = broker.port();
        let settings = || settings(port, ProtocolChoice::V5);
        let mut client = Client::with(connection, settings(), ConnectionOptions::default(), 1);
        let (mut stream, _) = broker.connect().await;
        // Maximum packet size: 100 bytes; then a message at QoS 0, which fills the channel.
        stream.write_all(&[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 100]).await.unwrap();
        client.connected().await;
        stream.write_all(&[0x30, 5, 0, 1, b'a', 0, b'x']).await.unwrap();
        while client.events.is_empty() {
            tokio::task::yield_now().await;
        }
        let large = publication(connection, "a/large", &[0; 200]);
        client.handle.publish(with_token(large, 1));
        while client.handle.discarded() == 0 {
            tokio::task::yield_now().await;
        }
        client.handle.reconnect(settings());
        // DISCONNECT; nothing was read from the channel before.
        assert_eq!(read(&mut stream).await.unwrap().first, 0xE0);
        let token = client
            .until(|event| match event {
                Event::PublishRefused { token, .. } => Some(*token),
                Event::Connected { .. } => panic!("it is lost"),
                _ => None,
            })
            .await;
        assert_eq!(token, Some(Token(1)));
    }
}
