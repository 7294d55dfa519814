//! Publications that outlive connections.

use crate::common::broker::Broker;
use crate::common::client::{
    Client, VERSIONS, at_least_once, publication, settings, topic, with_token,
};
use crate::fake::{FakeBroker, read};
use iotmonitor::mqtt::settings::MqttSettings;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{
    Connection, Lifetime, LossReason, Protocol, Publication, QoS, Token,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// An observer under another clientid, that hears of everything below `out`.
async fn observer(broker: &Broker, index: usize) -> Client {
    let other = MqttSettings {
        client_id: format!("observer-{index}"),
        ..settings(broker.port(), VERSIONS[index].0)
    };
    let mut observer = Client::new(Connection::Watch, other);
    observer.connected().await;
    observer.subscribe(vec![at_least_once("out/#")]).await;
    observer
}

#[tokio::test]
async fn publications_wait_for_a_broker_that_was_killed() {
    for (choice, _) in VERSIONS {
        let mut broker = Broker::start();
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        client.connected().await;
        broker.kill();
        assert!(matches!(client.disconnected().await, LossReason::Other(_)));
        for number in 0..50 {
            let name = format!("out/{number}");
            let kept = publication(Connection::Watch, &name, b"late");
            client.handle.publish(with_token(Publication { retain: true, ..kept }, number));
        }
        client.handle.publish(Publication {
            qos: QoS::AtMostOnce,
            retain: true,
            ..publication(Connection::Watch, "out/dropped", b"never")
        });
        broker.restart();
        client.reconnected().await;
        let mut missing: BTreeSet<u64> = (0..50).collect();
        while !missing.is_empty() {
            if let Event::Published { token: Token(number) } = client.next().await {
                assert!(missing.remove(&number), "{number} was published twice");
            }
        }
        let mut reader = Client::new(
            Connection::State,
            MqttSettings { client_id: "reader".into(), ..settings(broker.port(), choice) },
        );
        reader.connected().await;
        reader.handle.subscribe(vec![at_least_once("out/#")]);
        let mut arrived = BTreeSet::new();
        for _ in 0..50 {
            let (delivery, message) = reader.message().await;
            reader.handle.acknowledge(delivery.unwrap());
            arrived.insert(message.topic);
        }
        assert_eq!(arrived, (0..50).map(|number| topic(&format!("out/{number}"))).collect());
        reader.subscribe(vec![at_least_once("other")]).await;
        assert!(reader.events.is_empty(), "QoS 0 is dropped while there is no connection");
    }
}

#[tokio::test]
async fn a_flood_across_a_kill_of_the_broker_arrives_whole() {
    for (choice, _) in VERSIONS {
        let mut broker = Broker::start();
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        client.connected().await;
        for number in 0..10_000 {
            let name = format!("out/{number}");
            client.handle.publish(with_token(publication(Connection::Watch, &name, b"x"), number));
        }
        let mut missing: BTreeSet<u64> = (0..10_000).collect();
        while missing.len() > 7_000 {
            if let Event::Published { token: Token(number) } = client.next().await {
                missing.remove(&number);
            }
        }
        broker.kill();
        broker.restart();
        while !missing.is_empty() {
            if let Event::Published { token: Token(number) } = client.next().await {
                assert!(missing.remove(&number), "{number} was published twice");
            }
        }
    }
}

#[tokio::test]
async fn ten_thousand_publications_at_once_arrive_in_order() {
    for (index, (choice, _)) in VERSIONS.into_iter().enumerate() {
        let broker = Broker::start();
        let mut observer = observer(&broker, index).await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        client.connected().await;
        for number in 0..10_000 {
            let name = format!("out/{number}");
            client.handle.publish(publication(Connection::Watch, &name, b"x"));
        }
        for number in 0..10_000 {
            let (_, message) = observer.message().await;
            assert_eq!(message.topic, topic(&format!("out/{number}")));
        }
    }
}

#[tokio::test]
async fn a_later_publication_on_the_same_topic_replaces_one_that_waits() {
    for (index, (choice, _)) in VERSIONS.into_iter().enumerate() {
        let mut broker = Broker::start();
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        client.connected().await;
        broker.kill();
        client.disconnected().await;
        for number in 0..1_000 {
            let payload = number.to_string();
            let one = publication(Connection::Watch, "out/status", payload.as_bytes());
            client.handle.publish(with_token(Publication { retain: true, ..one }, number));
        }
        // All but the last are reported at once, though there is no broker.
        let mut replaced = BTreeSet::new();
        while replaced.len() < 999 {
            if let Event::Published { token: Token(number) } = client.next().await {
                replaced.insert(number);
            }
        }
        assert_eq!(replaced, (0..999).collect());
        broker.restart();
        client.published(999).await;
        let mut observer = Client::new(
            Connection::State,
            MqttSettings {
                client_id: format!("reader-{index}"),
                ..settings(broker.port(), choice)
            },
        );
        observer.connected().await;
        observer.handle.subscribe(vec![at_least_once("out/#")]);
        assert_eq!(observer.message().await.1.payload, "999");
    }
}

#[tokio::test]
async fn closing_waits_for_what_was_published() {
    for (index, (choice, _)) in VERSIONS.into_iter().enumerate() {
        let broker = Broker::start();
        let mut observer = observer(&broker, index).await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        client.connected().await;
        for number in 0..500 {
            let name = format!("out/{number}");
            client.handle.publish(publication(Connection::Watch, &name, b"x"));
        }
        client.handle.publish(publication(Connection::Watch, "out/offline", b"offline"));
        client.close().await;
        for _ in 0..500 {
            observer.message().await;
        }
        assert_eq!(observer.message().await.1.payload, "offline");
    }
}

#[tokio::test]
async fn closing_does_not_wait_for_a_broker_that_is_not_there() {
    for (choice, _) in VERSIONS {
        let port = crate::common::broker::free_port();
        let mut client = Client::new(Connection::Watch, settings(port, choice));
        client.disconnected().await;
        client.handle.publish(publication(Connection::Watch, "out/offline", b"offline"));
        let began = std::time::Instant::now();
        client.handle.close(tokio::time::Instant::now() + std::time::Duration::from_secs(30)).await;
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!(client.events.recv().await, None, "the task has ended");
    }
}

#[tokio::test]
async fn no_restored_state_is_replaced_for_each_is_awaited() {
    for (choice, _) in VERSIONS {
        let broker = Broker::start();
        // In 3.1.1, where a restored state is a message like any other.
        let mut observer = observer(&broker, 1).await;
        let client = Client::new(Connection::State, settings(broker.port(), choice));
        // Before the connection stands, so that nothing has been sent yet.
        for payload in [b"1", b"2", b"3"] {
            let state = publication(Connection::State, "out/state", payload);
            client.handle.publish(Publication { restored: true, ..state });
        }
        for payload in [b"1", b"2", b"3"] {
            assert_eq!(observer.message().await.1.payload.as_ref(), payload);
        }
    }
}

/// The broker acknowledges nothing on the first connection, as where the answer is lost.
#[tokio::test]
async fn what_belongs_to_a_connection_ends_with_it_and_nothing_precedes_the_first_marker() {
    for (choice, protocol) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        let bound = |name: &str| Publication {
            lifetime: Lifetime::Connection,
            ..publication(Connection::State, name, b"x")
        };
        let mut stream = broker.welcome().await;
        client.connected().await;
        client.handle.attend();
        client.handle.publish(bound("old"));
        assert_eq!(read(&mut stream).await.unwrap().first, 0x32);
        client.handle.publish(bound("old/too"));
        drop(stream);
        let (mut stream, _) = broker.connect().await;
        let connack: &[u8] = match protocol {
            Protocol::V5 => &[0x20, 3, 1, 0, 0],
            Protocol::V311 => &[0x20, 2, 1, 0],
        };
        // What is published before the core has heard of the new connection is not for it.
        client.disconnected().await;
        client.handle.publish(bound("late"));
        stream.write_all(connack).await.unwrap();
        client.reconnected().await;
        client.handle.publish(bound("later"));
        client.handle.attend();
        client.handle.publish(bound("marker"));
        let first = read(&mut stream).await.unwrap();
        assert_eq!(first.first, 0x32, "no duplicate");
        assert_eq!(&first.body[2..8], b"marker");
    }
}

/// Over a real broker, through a proxy that loses what the broker says.
#[tokio::test]
async fn a_lost_acknowledgement_brings_back_no_restored_state_but_an_alert() {
    for (index, (choice, _)) in VERSIONS.into_iter().enumerate() {
        let broker = Broker::start();
        let mut observer = observer(&broker, index).await;
        let proxy = Proxy::start(broker.port()).await;
        let mut client = Client::new(Connection::State, settings(proxy.port, choice));
        client.connected().await;
        client.handle.attend();
        proxy.mute.store(true, Ordering::SeqCst);
        let restored = publication(Connection::State, "out/lamp", b"old");
        client.handle.publish(Publication { lifetime: Lifetime::Connection, ..restored });
        client.handle.publish(publication(Connection::State, "out/alert", b"1"));
        assert_eq!(observer.message().await.1.payload, "old");
        assert_eq!(observer.message().await.1.topic, topic("out/alert"));
        proxy.cut.notify_waiters();
        client.disconnected().await;
        proxy.mute.store(false, Ordering::SeqCst);
        client.reconnected().await;
        client.handle.attend();
        let last = publication(Connection::State, "out/lamp", b"new");
        client.handle.publish(Publication { lifetime: Lifetime::Connection, ..last });
        assert_eq!(observer.message().await.1.topic, topic("out/alert"), "sent again");
        assert_eq!(observer.message().await.1.payload, "new");
    }
}

struct Proxy {
    port: u16,
    /// Whether what the broker says is lost.
    mute: Arc<AtomicBool>,
    /// Ends the connections there are.
    cut: Arc<Notify>,
}

impl Proxy {
    async fn start(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mute, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (muted, cutting) = (Arc::clone(&mute), Arc::clone(&cut));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", broker)).await else { continue };
                let (muted, cutting) = (Arc::clone(&muted), Arc::clone(&cutting));
                tokio::spawn(async move {
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = server.into_split();
                    let mut buffer = vec![0; 4_096];
                    tokio::select! {
                        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                        () = async {
                            while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                                if !muted.load(Ordering::SeqCst)
                                    && to_client.write_all(&buffer[..count]).await.is_err()
                                {
                                    return;
                                }
                            }
                        } => {}
                        () = cutting.notified() => {}
                    }
                });
            }
        });
        Self { port, mute, cut }
    }
}
