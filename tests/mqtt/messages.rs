//! Publishing, subscribing and what arrives on the watch connection.

use crate::common::broker::Broker;
use crate::common::client::{
    Client, VERSIONS, at_least_once, filter, publication, settings, topic, with_token,
};
use iotmonitor::mqtt::settings::{MqttSettings, ProtocolChoice};
use iotmonitor::mqtt::{ConnectionOptions, Will};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Protocol, Publication, QoS, Subscription};
use std::time::Duration;

fn availability() -> ConnectionOptions {
    ConnectionOptions {
        will: Some(Will {
            topic: topic("home/availability"),
            payload: "gone".into(),
            retain: true,
            qos: QoS::AtLeastOnce,
        }),
        ..Default::default()
    }
}

#[tokio::test]
async fn connects_publishes_subscribes_and_receives() {
    for (choice, protocol) in VERSIONS {
        let broker = Broker::start();
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        assert_eq!(client.connected().await, (protocol, false));
        assert_eq!(client.subscribe(vec![at_least_once("a/#")]).await, []);
        client.handle.publish(with_token(publication(Connection::Watch, "a/b", b"one"), 7));
        let (_, message) = client.message().await;
        assert_eq!((message.topic, &message.payload[..]), (topic("a/b"), &b"one"[..]));
        assert_eq!(
            (message.qos, message.retain, message.restored),
            (QoS::AtLeastOnce, false, false)
        );
        client.close().await;
    }
}

#[tokio::test]
async fn auto_takes_mqtt_5_where_the_broker_speaks_it() {
    let broker = Broker::start();
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::Auto));
    assert_eq!(client.connected().await, (Protocol::V5, false));
}

#[tokio::test]
async fn a_clean_close_suppresses_the_will_and_a_lost_connection_does_not() {
    for (choice, _) in VERSIONS {
        let broker = Broker::start();
        let mut observer = Client::new(
            Connection::State,
            iotmonitor::mqtt::settings::MqttSettings {
                client_id: "observer".into(),
                ..settings(broker.port(), choice)
            },
        );
        observer.connected().await;
        observer.subscribe(vec![at_least_once("home/#")]).await;

        let with_will =
            |port| Client::with(Connection::Watch, settings(port, choice), availability(), 64);
        let mut first = with_will(broker.port());
        first.connected().await;
        first.handle.publish(Publication {
            retain: true,
            ..publication(Connection::Watch, "home/availability", b"offline")
        });
        first.close().await;
        let (_, message) = observer.message().await;
        assert_eq!(&message.payload[..], b"offline");

        // A second client of the same id throws the next one out, and so the broker speaks the
        // will; had the clean close left one, it would have come before.
        let mut second = with_will(broker.port());
        second.connected().await;
        let mut usurper = with_will(broker.port());
        usurper.connected().await;
        let (_, message) = observer.message().await;
        assert_eq!(&message.payload[..], b"gone");
        drop(second);
    }
}

#[tokio::test]
async fn a_retain_flag_on_the_watch_connection_means_a_replay() {
    for (choice, protocol) in VERSIONS {
        let broker = Broker::start();
        broker.publish_bytes("s/old", true, b"replayed");
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        client.connected().await;
        client.subscribe(vec![at_least_once("s/#")]).await;
        broker.publish_bytes("s/new", true, b"live");
        let mut seen = Vec::new();
        while !seen.contains(&(topic("s/new"), false)) {
            let (_, message) = client.message().await;
            seen.push((message.topic, message.retain));
        }
        match protocol {
            Protocol::V5 => assert_eq!(seen, [(topic("s/new"), false)]),
            Protocol::V311 => assert_eq!(seen, [(topic("s/old"), true), (topic("s/new"), false)]),
        }
    }
}

#[tokio::test]
async fn a_replay_that_is_asked_for_comes_in_both_versions() {
    for (choice, _) in VERSIONS {
        let broker = Broker::start();
        broker.publish_bytes("s/old", true, b"replayed");
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        client.connected().await;
        client.subscribe(vec![Subscription { replay: true, ..at_least_once("s/old") }]).await;
        let (_, message) = client.message().await;
        assert!(message.retain && message.topic == topic("s/old"));
    }
}

#[tokio::test]
async fn a_live_message_keeps_its_retain_flag_on_the_state_connection_in_mqtt_5() {
    for (choice, protocol) in VERSIONS {
        let broker = Broker::start();
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        client.connected().await;
        client.subscribe(vec![at_least_once("s/#")]).await;
        broker.publish_bytes("s/new", true, b"live");
        let (_, message) = client.message().await;
        assert_eq!(message.retain, protocol == Protocol::V5);
    }
}

#[tokio::test]
async fn a_restored_state_is_marked_in_mqtt_5() {
    for (choice, protocol) in VERSIONS {
        let broker = Broker::start();
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        client.connected().await;
        client.subscribe(vec![at_least_once("s/#")]).await;
        client.handle.publish(Publication {
            restored: true,
            ..publication(Connection::State, "s/lamp", b"on")
        });
        let (_, message) = client.message().await;
        assert_eq!(message.restored, protocol == Protocol::V5);
    }
}

/// An echo of another monitor's is none of this one's, nor is it new.
#[tokio::test]
async fn what_another_monitor_restores_is_passed_over_in_mqtt_5() {
    for (choice, protocol) in VERSIONS {
        let broker = Broker::start();
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        client.connected().await;
        client.subscribe(vec![at_least_once("s/#")]).await;
        let other = MqttSettings { client_id: "other".into(), ..settings(broker.port(), choice) };
        let mut other = Client::new(Connection::State, other);
        other.connected().await;
        for (restored, payload) in [(true, b"old"), (false, b"new")] {
            let state = publication(Connection::State, "s/lamp", payload);
            other.handle.publish(Publication { restored, ..state });
        }
        if protocol == Protocol::V5 {
            let (by, at) = client.restored_by_another().await;
            assert_eq!((by.as_str(), at), ("other", topic("s/lamp")));
        }
        let (delivery, message) = client.message().await;
        let first: &[u8] = if protocol == Protocol::V5 { b"new" } else { b"old" };
        assert_eq!(message.payload.as_ref(), first);
        client.handle.acknowledge(delivery.unwrap());
    }
}

#[tokio::test]
async fn large_messages_pass_in_both_directions() {
    for (choice, _) in VERSIONS {
        let broker = Broker::start();
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        client.connected().await;
        for size in [20_000, 1_000_000] {
            let payload: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let name = format!("big/{size}");
            broker.publish_bytes(&name, true, &payload);
            client.handle.subscribe(vec![at_least_once(&name)]);
            let (_, replayed) = client.message().await;
            assert!(replayed.retain && replayed.payload == payload);
            client.handle.publish(publication(Connection::State, &name, &payload));
            let (_, echoed) = client.message().await;
            assert!(!echoed.retain && echoed.payload == payload);
        }
    }
}

#[tokio::test]
async fn markers_around_a_subscription_keep_their_places() {
    for (choice, _) in VERSIONS {
        let broker = Broker::start();
        broker.publish_bytes("kept/state", true, b"between");
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        client.connected().await;
        client.subscribe(vec![at_least_once("marker")]).await;
        client.handle.publish(publication(Connection::State, "marker", b"first"));
        let mut many: Vec<_> =
            (0..3_000).map(|number| at_least_once(&format!("unused/{number}"))).collect();
        many.push(at_least_once("kept/#"));
        client.handle.subscribe(many);
        client.handle.publish(publication(Connection::State, "marker", b"second"));
        let mut payloads = Vec::new();
        while payloads.len() < 3 {
            payloads.push(client.message().await.1.payload);
        }
        assert_eq!(payloads, ["first", "between", "second"]);
    }
}

#[tokio::test]
async fn ten_thousand_filters_are_subscribed() {
    for (choice, _) in VERSIONS {
        let broker = Broker::start();
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        client.connected().await;
        let subscriptions = (0..10_000)
            .map(|number| Subscription {
                filter: filter(&format!("house/{number}/#")),
                qos: QoS::AtMostOnce,
                replay: false,
            })
            .collect();
        assert_eq!(client.subscribe(subscriptions).await, []);
        for number in [0, 199, 200, 9_999] {
            let name = format!("house/{number}/lamp");
            client.handle.publish(publication(Connection::Watch, &name, b"on"));
            assert_eq!(client.message().await.1.topic, topic(&name));
        }
        client.handle.unsubscribe((0..9_999).map(|n| filter(&format!("house/{n}/#"))).collect());
        client.handle.publish(publication(Connection::Watch, "house/5/lamp", b"unheard"));
        client.handle.publish(publication(Connection::Watch, "house/9999/lamp", b"heard"));
        assert_eq!(&client.message().await.1.payload[..], b"heard");
    }
}

#[tokio::test]
async fn an_empty_subscription_is_reported_too() {
    for (choice, _) in VERSIONS {
        let broker = Broker::start();
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        client.connected().await;
        assert_eq!(client.subscribe(Vec::new()).await, []);
    }
}

#[tokio::test]
async fn a_full_channel_holds_the_broker_back_and_loses_nothing() {
    for (choice, _) in VERSIONS {
        let broker = Broker::start();
        let mut observer = Client::new(Connection::State, settings(broker.port(), choice));
        observer.connected().await;
        observer.subscribe(vec![at_least_once("other")]).await;
        let mut receiver = Client::with(
            Connection::Watch,
            settings(broker.port(), choice),
            ConnectionOptions::default(),
            4,
        );
        receiver.connected().await;
        receiver.subscribe(vec![at_least_once("flood/#")]).await;
        let lines: Vec<u8> = (0..2_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        publish_lines(&broker, "flood/lines", &lines);
        // While the channel is full the task still takes commands and proves that it lives.
        receiver.handle.publish(with_token(publication(Connection::Watch, "other", b"x"), 1));
        assert_eq!(observer.message().await.1.topic, topic("other"));
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        for _ in 0..40 {
            ticks.tick().await;
            assert!(receiver.pulse.age() < Duration::from_millis(1_500));
        }
        let mut next = 0;
        let mut published = false;
        while next < 2_000 || !published {
            match receiver.next().await {
                Event::WatchMessage(message) => {
                    assert_eq!(message.payload, next.to_string());
                    next += 1;
                }
                Event::Published { .. } => published = true,
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

fn publish_lines(broker: &Broker, topic: &str, lines: &[u8]) {
    use std::io::Write;
    let mut child = std::process::Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-q", "1", "-t", topic, "-l"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines).unwrap();
    assert!(child.wait().unwrap().success());
}
