//! The state connection: its session, its deliveries and their acknowledgement.

use crate::common::broker::Broker;
use crate::common::client::{Client, VERSIONS, at_least_once, publication, settings, with_token};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Delivery, Redelivery};

/// A broker that keeps sessions over its own orderly restart, and sends many messages before it waits for
/// an acknowledgement.
fn persistent_broker(inflight: u32) -> Broker {
    Broker::with(&format!(
        "allow_anonymous true\npersistence true\npersistence_location DIR/\n\
         max_inflight_messages {inflight}\n"
    ))
}

async fn payload(client: &mut Client) -> (Delivery, String) {
    let (delivery, message) = client.message().await;
    (delivery.expect("a state"), String::from_utf8(message.payload.to_vec()).unwrap())
}

#[tokio::test]
async fn the_session_keeps_what_came_while_the_client_was_away() {
    for (choice, _) in VERSIONS {
        let broker = Broker::start();
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        assert!(!client.connected().await.1);
        client.subscribe(vec![at_least_once("s/#")]).await;
        client.close().await;
        for text in ["one", "two", "three"] {
            broker.publish_bytes("s/x", false, text.as_bytes());
        }
        // A process that was restarted: nothing of the old session is known here.
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        assert!(client.connected().await.1, "the session is present");
        for text in ["one", "two", "three"] {
            assert_eq!(payload(&mut client).await.1, text);
        }
        // In such a session publishing and subscribing work as in any other.
        assert_eq!(client.subscribe(vec![at_least_once("t/#")]).await, []);
        client.handle.publish(with_token(publication(Connection::State, "t/x", b"four"), 1));
        assert_eq!(payload(&mut client).await.1, "four");
        client.published(1).await;
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_asked_for_and_the_rest_comes_again() {
    for (choice, _) in VERSIONS {
        let broker = Broker::start();
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        client.connected().await;
        client.subscribe(vec![at_least_once("s/#")]).await;
        for number in 1..=5 {
            broker.publish_bytes("s/x", false, format!("{number}").as_bytes());
        }
        let mut deliveries = Vec::new();
        for number in 1..=5 {
            let (delivery, text) = payload(&mut client).await;
            assert_eq!(text, number.to_string());
            deliveries.push(delivery);
        }
        assert!(deliveries.is_sorted_by(|a, b| a < b));
        client.handle.acknowledge(deliveries[1]);
        client.handle.reconnect(settings(broker.port(), choice));
        assert!(client.reconnected().await);
        for number in 3..=5 {
            let (delivery, text) = payload(&mut client).await;
            assert_eq!(text, number.to_string(), "the unacknowledged come again, in order");
            assert!(delivery > deliveries[4], "a number is never used twice");
        }
        // What belongs to the connection before is passed over.
        client.handle.acknowledge(deliveries[4]);
        client.handle.reconnect(settings(broker.port(), choice));
        client.reconnected().await;
        let (_, text) = payload(&mut client).await;
        assert_eq!(text, "3");
    }
}

#[tokio::test]
async fn unacknowledged_messages_survive_a_power_cut_of_the_client() {
    for (choice, _) in VERSIONS {
        let broker = Broker::start();
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        client.connected().await;
        client.subscribe(vec![at_least_once("s/#")]).await;
        broker.publish_bytes("s/x", false, b"kept");
        assert_eq!(payload(&mut client).await.1, "kept");
        drop(client);
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        client.connected().await;
        let (delivery, text) = payload(&mut client).await;
        assert_eq!(text, "kept");
        client.handle.acknowledge(delivery);
        client.close().await;

        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        client.connected().await;
        broker.publish_bytes("s/x", false, b"next");
        assert_eq!(
            payload(&mut client).await.1,
            "next",
            "the acknowledgement went out at the close"
        );
    }
}

#[tokio::test]
async fn the_window_stops_the_reading_and_nothing_else() {
    for (choice, _) in VERSIONS {
        let broker = persistent_broker(0);
        let mut sender = Client::new(Connection::Watch, settings(broker.port(), choice));
        sender.connected().await;
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        client.connected().await;
        let quiet = iotmonitor_core::model::message::Subscription {
            qos: iotmonitor_core::model::message::QoS::AtMostOnce,
            ..at_least_once("s/#")
        };
        client.subscribe(vec![quiet]).await;
        sender.subscribe(vec![at_least_once("from-state")]).await;
        for number in 0..6_000 {
            let name = format!("s/{number}");
            sender.handle.publish(publication(Connection::Watch, &name, b"x"));
        }
        let mut last = Delivery(0);
        for _ in 0..4_096 {
            last = payload(&mut client).await.0;
        }
        // The window is full: no event more, but publications go out.
        client.handle.publish(publication(Connection::State, "from-state", b"alive"));
        assert_eq!(sender.message().await.1.payload, "alive");
        assert!(client.events.is_empty());
        client.handle.acknowledge(last);
        for _ in 4_096..6_000 {
            last = payload(&mut client).await.0;
        }
        assert_eq!(last, Delivery(6_000));
    }
}

#[tokio::test]
async fn the_broker_holds_back_what_passes_the_receive_maximum() {
    let broker = persistent_broker(0);
    let (choice, _) = VERSIONS[0];
    let mut sender = Client::new(Connection::Watch, settings(broker.port(), choice));
    sender.connected().await;
    let mut client = Client::new(Connection::State, settings(broker.port(), choice));
    client.connected().await;
    client.subscribe(vec![at_least_once("s/#")]).await;
    for number in 0..250 {
        let name = format!("s/{number}");
        sender.handle.publish(with_token(publication(Connection::Watch, &name, b"x"), number));
    }
    sender.published(249).await;
    let mut last = Delivery(0);
    for _ in 0..100 {
        last = payload(&mut client).await.0;
    }
    assert_eq!(last, Delivery(100));
    // A round trip shows that nothing more is on its way.
    client.subscribe(vec![at_least_once("other")]).await;
    assert!(client.events.is_empty());
    client.handle.acknowledge(Delivery(60));
    for _ in 100..160 {
        last = payload(&mut client).await.0;
    }
    assert_eq!(last, Delivery(160));
}

#[tokio::test]
async fn a_session_survives_the_brokers_restart() {
    for (choice, _) in VERSIONS {
        let mut broker = persistent_broker(20);
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        client.connected().await;
        client.subscribe(vec![at_least_once("s/#")]).await;
        broker.publish_bytes("s/x", false, b"unacknowledged");
        payload(&mut client).await;
        broker.stop();
        client.disconnected().await;
        broker.restart();
        assert!(client.reconnected().await, "the session is present");
        assert_eq!(payload(&mut client).await.1, "unacknowledged");
    }
}

/// The next delivery, with what is known of its being sent again.
async fn delivered(client: &mut Client) -> (Delivery, String, Redelivery) {
    client
        .until(|event| match event {
            Event::StateMessage { delivery, message, redelivery } => {
                let payload = String::from_utf8(message.payload.to_vec()).unwrap();
                Some((*delivery, payload, *redelivery))
            }
            _ => None,
        })
        .await
}

#[tokio::test]
async fn what_comes_again_is_known_by_its_packet_identifier() {
    for (choice, _) in VERSIONS {
        let broker = Broker::start();
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        client.connected().await;
        client.subscribe(vec![at_least_once("s/#")]).await;
        let mut reported = Vec::new();
        for text in ["one", "two"] {
            broker.publish_bytes("s/x", false, text.as_bytes());
            let (delivery, payload, redelivery) = delivered(&mut client).await;
            assert_eq!((payload.as_str(), redelivery), (text, Redelivery::No));
            reported.push((text, delivery));
        }
        for _ in 0..2 {
            client.handle.reconnect(settings(broker.port(), choice));
            client.reconnected().await;
            for (text, last) in &mut reported {
                let (delivery, payload, redelivery) = delivered(&mut client).await;
                assert_eq!((payload.as_str(), redelivery), (*text, Redelivery::Reported(*last)));
                *last = delivery;
            }
        }
        broker.publish_bytes("s/x", false, b"three");
        let (_, payload, redelivery) = delivered(&mut client).await;
        assert_eq!((payload.as_str(), redelivery), ("three", Redelivery::No));
        drop(client);
        // Another process has reported nothing.
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        client.connected().await;
        for text in ["one", "two", "three"] {
            let (_, payload, redelivery) = delivered(&mut client).await;
            assert_eq!((payload.as_str(), redelivery), (text, Redelivery::Unknown));
        }
    }
}
