//! Brokers that refuse, close, say nothing or speak nonsense.

use crate::common::broker::{Broker, free_port};
use crate::common::client::{
    Client, PATIENCE, VERSIONS, at_least_once, publication, settings, topic, with_token,
};
use crate::fake::{FakeBroker, read};
use iotmonitor::mqtt::settings::{MqttSettings, ProtocolChoice};
use iotmonitor::secret::Secret;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, LossReason, Protocol, Publication, QoS};
use nix::sys::signal::Signal;
use std::process::Command;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

fn with_password(broker_port: u16, choice: ProtocolChoice, password: &str) -> MqttSettings {
    MqttSettings {
        user: Some("monitor".into()),
        password: Some(Secret::new(password.into())),
        ..settings(broker_port, choice)
    }
}

/// A broker that knows the user `monitor` with the password `right`.
fn guarded_broker(lines: &str) -> Broker {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c", file.to_str().unwrap(), "monitor", "right"])
        .status()
        .unwrap();
    assert!(made.success());
    let port = free_port();
    let config = format!(
        "listener {port} 127.0.0.1\nallow_anonymous false\npassword_file DIR/passwords\n{lines}"
    );
    Broker::with_config(directory, port, &config)
}

#[tokio::test]
async fn a_wrong_password_is_named_and_a_right_one_heals_it() {
    for (choice, _) in VERSIONS {
        let broker = guarded_broker("");
        let mut client =
            Client::new(Connection::Watch, with_password(broker.port(), choice, "wrong-one"));
        let LossReason::Refused(sentence) = client.disconnected().await else {
            panic!("a refusal was to be named");
        };
        assert!(sentence.contains("check `user` and `password` in [mqtt]"), "{sentence}");
        assert!(sentence.contains(&broker.port().to_string()), "{sentence}");
        assert!(!sentence.contains("wrong-one"), "{sentence}");
        client.handle.reconnect(with_password(broker.port(), choice, "right"));
        client.connected().await;

        let mut nobody = Client::new(Connection::State, settings(broker.port(), choice));
        let LossReason::Refused(sentence) = nobody.disconnected().await else {
            panic!("a refusal was to be named");
        };
        assert!(sentence.contains("without user name"), "{sentence}");
    }
}

#[tokio::test]
async fn a_broker_that_is_down_is_reported_once_and_a_new_kind_of_trouble_again() {
    for (choice, _) in VERSIONS {
        let mut broker = guarded_broker("");
        let port = broker.port();
        broker.kill();
        let mut client = Client::new(Connection::Watch, with_password(port, choice, "wrong"));
        let LossReason::Other(sentence) = client.disconnected().await else {
            panic!("an unreachable broker was to be named");
        };
        assert!(sentence.contains("cannot reach tcp://127.0.0.1:"), "{sentence}");
        broker.restart();
        // The attempts in between bring no event: the next one is of the other kind.
        match client.next().await {
            Event::Disconnected { reason: LossReason::Refused(_), .. } => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_restarted_broker_is_back_within_a_second_or_so() {
    for (choice, _) in VERSIONS {
        let mut broker = Broker::start();
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        client.connected().await;
        broker.kill();
        broker.restart();
        let began = Instant::now();
        client.reconnected().await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn refused_filters_are_named_with_their_reasons() {
    for (choice, protocol) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        let mut stream = broker.welcome().await;
        client.connected().await;
        client.handle.subscribe(vec![at_least_once("free/#"), at_least_once("secret/#")]);
        let packet = read(&mut stream).await.unwrap();
        assert_eq!(packet.first, 0x82);
        let (high, low) = (packet.body[0], packet.body[1]);
        let suback = match protocol {
            Protocol::V5 => vec![0x90, 5, high, low, 0, 1, 0x87],
            Protocol::V311 => vec![0x90, 4, high, low, 1, 0x80],
        };
        stream.write_all(&suback).await.unwrap();
        match client.next().await {
            Event::Subscribed { refused, .. } => {
                assert_eq!(refused.len(), 1);
                assert_eq!(refused[0].filter.as_str(), "secret/#");
                let reason = match protocol {
                    Protocol::V5 => "not authorized",
                    Protocol::V311 => "refused",
                };
                assert_eq!(refused[0].reason, reason);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_second_client_with_the_same_id_is_named_and_not_fought() {
    for (choice, protocol) in VERSIONS {
        let broker = Broker::start();
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        client.connected().await;
        let mut reasons = Vec::new();
        // This mosquitto gives no reason in either version, so it takes three rounds to be sure.
        for round in 0..3 {
            if round > 0 {
                client.reconnected().await;
            }
            let mut usurper = Client::new(Connection::Watch, settings(broker.port(), choice));
            usurper.connected().await;
            reasons.push(client.disconnected().await);
            usurper.close().await;
        }
        assert_eq!(reasons.pop(), Some(LossReason::TakenOver), "{protocol:?}");
        assert!(!reasons.contains(&LossReason::TakenOver), "{reasons:?}");
        // No war: nothing is tried for half a minute. Five seconds of it are watched.
        assert!(timeout(Duration::from_secs(5), client.events.recv()).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_take_over_that_the_broker_names_is_passed_on_at_once_and_waited_out() {
    let broker = FakeBroker::start().await;
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::Auto));
    let mut stream = broker.welcome().await;
    client.connected().await;
    stream.write_all(&[0xE0, 1, 0x8E]).await.unwrap();
    assert_eq!(client.disconnected().await, LossReason::TakenOver);
    let lost = Instant::now();
    broker.welcome().await;
    let waited = lost.elapsed();
    assert!(waited >= Duration::from_secs(30), "{waited:?}");
}

#[tokio::test]
async fn restarts_of_the_broker_are_no_take_over() {
    let mut broker = Broker::start();
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::V311));
    client.connected().await;
    for _ in 0..4 {
        broker.kill();
        assert!(matches!(client.disconnected().await, LossReason::Other(_)));
        broker.restart();
        client.reconnected().await;
    }
}

#[tokio::test]
async fn auto_falls_back_when_the_answer_is_that_of_a_3_1_1_broker() {
    for answer in [&[0x20, 2, 0, 1][..], &[0x20, 3, 0, 0x84, 0][..]] {
        let broker = FakeBroker::start().await;
        let mut client =
            Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::Auto));
        let (mut stream, protocol) = broker.connect().await;
        assert_eq!(protocol, Protocol::V5);
        stream.write_all(answer).await.unwrap();
        drop(stream);
        let stream = broker.welcome().await;
        assert_eq!(client.connected().await, (Protocol::V311, false));
        // It stays with what worked.
        drop(stream);
        client.disconnected().await;
        assert_eq!(broker.connect().await.1, Protocol::V311);
    }
}

#[tokio::test]
async fn auto_takes_a_closing_without_answer_for_3_1_1_only_once() {
    let broker = FakeBroker::start().await;
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::Auto));
    let (stream, protocol) = broker.connect().await;
    assert_eq!(protocol, Protocol::V5);
    drop(stream);
    let stream = broker.welcome().await;
    assert_eq!(client.connected().await, (Protocol::V311, false));
    drop(stream);
    client.disconnected().await;
    // The closing was that of a restart: 5 works now, and no closing shakes it any more.
    let stream = broker.welcome().await;
    assert_eq!(client.connected().await, (Protocol::V5, false));
    drop(stream);
    for _ in 0..2 {
        assert_eq!(broker.connect().await.1, Protocol::V5);
    }
}

#[tokio::test]
async fn a_broker_that_is_down_does_not_count_against_mqtt_5() {
    let mut broker = Broker::start();
    broker.kill();
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::Auto));
    client.disconnected().await;
    broker.restart();
    assert_eq!(client.connected().await.0, Protocol::V5);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_given_up_and_the_pulse_goes_on() {
    for (choice, _) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        let first = broker.connect().await;
        let LossReason::Silent { sentence, .. } = client.disconnected().await else {
            panic!("silence was to be named");
        };
        assert!(sentence.contains("gave no answer within 10 s"), "{sentence}");
        let second = broker.welcome().await;
        client.connected().await;
        drop((first, second));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_link_is_noticed_within_twice_the_keep_alive() {
    for (choice, _) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        let stream = broker.welcome().await;
        client.connected().await;
        let began = Instant::now();
        let LossReason::Silent { sentence, quiet } = client.disconnected().await else {
            panic!("silence was to be named");
        };
        assert!(sentence.contains("has not answered"), "{sentence}");
        let waited = began.elapsed();
        assert!(waited - quiet < Duration::from_secs(1), "{quiet:?} of {waited:?}");
        assert!(waited >= Duration::from_secs(30) && waited <= Duration::from_secs(60));
        drop(stream);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_takes_no_bytes_any_more_is_noticed() {
    for (choice, _) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        let stream = broker.welcome().await;
        client.connected().await;
        // Far more than the buffers of two sockets and of the connection hold.
        let payload = vec![0; 1 << 20];
        for _ in 0..32 {
            client.handle.publish(publication(Connection::Watch, "a", &payload));
        }
        let reason = timeout(Duration::from_secs(120), client.disconnected()).await.unwrap();
        let LossReason::Silent { sentence, .. } = reason else { panic!("unexpected {reason:?}") };
        assert!(sentence.contains("has not answered"), "{sentence}");
        drop(stream);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_by_pings() {
    for (choice, _) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        let mut stream = broker.welcome().await;
        client.connected().await;
        for _ in 0..10 {
            assert_eq!(read(&mut stream).await.unwrap().first, 0xC0);
            stream.write_all(&[0xD0, 0]).await.unwrap();
        }
        assert!(client.events.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_without_answer_ends_the_connection() {
    for (choice, _) in VERSIONS {
        let broker = FakeBroker::start().await;
        let quick = MqttSettings {
            keep_alive: Duration::from_secs(600),
            ..settings(broker.port(), choice)
        };
        let mut client = Client::new(Connection::Watch, quick);
        let stream = broker.welcome().await;
        client.connected().await;
        client.handle.subscribe(vec![at_least_once("a/#")]);
        let LossReason::Silent { sentence, .. } = client.disconnected().await else {
            panic!("the missing answer was to be named");
        };
        assert!(sentence.contains("did not acknowledge a subscription"), "{sentence}");
        drop(stream);
    }
}

#[tokio::test]
async fn a_message_with_an_impossible_topic_is_dropped_and_acknowledged_in_its_turn() {
    for (choice, protocol) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        let mut stream = broker.welcome().await;
        client.connected().await;
        let publish = |topic: &[u8], pkid: u8| {
            let properties: &[u8] = match protocol {
                Protocol::V5 => &[0],
                Protocol::V311 => &[],
            };
            let mut body = vec![0, u8::try_from(topic.len()).unwrap()];
            body.extend_from_slice(topic);
            body.extend_from_slice(&[0, pkid]);
            body.extend_from_slice(properties);
            body.push(b'x');
            [vec![0x32, u8::try_from(body.len()).unwrap()], body].concat()
        };
        for (name, pkid) in [(&b"good"[..], 1), (b"bad/+", 2), (b"\xff", 3), (b"good", 4)] {
            stream.write_all(&publish(name, pkid)).await.unwrap();
        }
        let (first, message) = client.message().await;
        assert_eq!((message.topic, message.qos), (topic("good"), QoS::AtLeastOnce));
        let (second, _) = client.message().await;
        assert_eq!(client.handle.discarded(), 2);
        client.handle.acknowledge(first.unwrap());
        for pkid in 1..=3 {
            let puback = read(&mut stream).await.unwrap();
            assert_eq!((puback.first, puback.body), (0x40, vec![0, pkid]));
        }
        client.handle.acknowledge(second.unwrap());
        assert_eq!(read(&mut stream).await.unwrap().body, [0, 4]);
    }
}

#[tokio::test]
async fn an_unacknowledged_publication_is_sent_again_with_its_identifier_where_the_session_lives() {
    for (choice, protocol) in VERSIONS {
        for session_present in [true, false] {
            let broker = FakeBroker::start().await;
            let mut client = Client::new(Connection::State, settings(broker.port(), choice));
            let mut stream = broker.welcome().await;
            client.connected().await;
            client.handle.publish(with_token(publication(Connection::State, "a", b"x"), 1));
            let sent = read(&mut stream).await.unwrap();
            assert_eq!(sent.first, 0x32);
            drop(stream);
            let (mut stream, _) = broker.connect().await;
            let flag = u8::from(session_present);
            let connack = match protocol {
                Protocol::V5 => vec![0x20, 3, flag, 0, 0],
                Protocol::V311 => vec![0x20, 2, flag, 0],
            };
            stream.write_all(&connack).await.unwrap();
            assert_eq!(client.reconnected().await, session_present);
            let again = read(&mut stream).await.unwrap();
            assert_eq!(again.first, if session_present { 0x3A } else { 0x32 });
            if session_present {
                assert_eq!(again.body, sent.body);
            }
            // The identifier follows the topic `a`.
            stream.write_all(&[0x40, 2, again.body[3], again.body[4]]).await.unwrap();
            client.published(1).await;
        }
    }
}

#[tokio::test]
async fn nonsense_ends_the_connection_with_a_sentence() {
    for (choice, _) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        let mut stream = broker.welcome().await;
        client.connected().await;
        stream.write_all(&[0x36, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]).await.unwrap();
        let reason = timeout(PATIENCE, client.disconnected()).await.unwrap();
        let LossReason::Other(sentence) = reason else { panic!("unexpected {reason:?}") };
        assert!(sentence.contains("violates the MQTT protocol"), "{sentence}");
    }
}

/// Answers a publication after a while in which it sends nothing.
async fn answers_late(choice: ProtocolChoice, connection: Connection, delay: Duration) -> Event {
    let broker = FakeBroker::start().await;
    let mut client = Client::new(connection, settings(broker.port(), choice));
    let mut stream = broker.welcome().await;
    client.connected().await;
    client.handle.publish(with_token(publication(connection, "a/b", b"x"), 1));
    let packet = read(&mut stream).await.unwrap();
    // The topic is three bytes after its length of two (3.3.2).
    let pkid = [packet.body[5], packet.body[6]];
    tokio::time::sleep(delay).await;
    stream.write_all(&[0x40, 2, pkid[0], pkid[1]]).await.unwrap();
    client.next().await
}

#[tokio::test]
async fn a_broker_that_was_held_up_is_reported_before_its_answer() {
    for (choice, _) in VERSIONS {
        let delay = Duration::from_millis(1_500);
        let event = answers_late(choice, Connection::Watch, delay).await;
        let Event::AnsweredLate { after } = event else { panic!("{event:?} came first") };
        assert!(after > Duration::from_secs(1) && after < PATIENCE, "{after:?}");
        let event = answers_late(choice, Connection::State, delay).await;
        assert!(matches!(event, Event::Published { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn a_quiet_broker_that_owes_nothing_was_not_held_up() {
    for (choice, _) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        let mut stream = broker.welcome().await;
        client.connected().await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        client.handle.publish(with_token(publication(Connection::Watch, "a/b", b"x"), 1));
        let packet = read(&mut stream).await.unwrap();
        stream.write_all(&[0x40, 2, packet.body[5], packet.body[6]]).await.unwrap();
        let event = client.next().await;
        assert!(matches!(event, Event::Published { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn a_broker_that_only_receives_is_asked_whether_it_goes_on() {
    for (choice, _) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        let mut stream = broker.welcome().await;
        client.connected().await;
        let told =
            Publication { qos: QoS::AtMostOnce, ..publication(Connection::Watch, "a/b", b"x") };
        client.handle.publish(told);
        assert_eq!(read(&mut stream).await.unwrap().first, 0x30);
        assert_eq!(read(&mut stream).await.unwrap().first, 0xC0, "PINGREQ");
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        stream.write_all(&[0xD0, 0]).await.unwrap();
        let event = client.next().await;
        assert!(matches!(event, Event::AnsweredLate { .. }), "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn auto_falls_back_where_mqtt_5_gets_no_answer_twice_and_3_1_1_does_at_once() {
    let broker = FakeBroker::start().await;
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::Auto));
    // 5 is tried again at each reconnection.
    for _ in 0..2 {
        let (first, protocol) = broker.connect().await;
        assert_eq!(protocol, Protocol::V5);
        let between = broker.welcome().await;
        let (second, protocol) = broker.connect().await;
        assert_eq!(protocol, Protocol::V5);
        drop(between);
        let stream = broker.welcome().await;
        assert_eq!(client.reconnected_with().await, Protocol::V311);
        drop((first, second, stream));
        client.disconnected().await;
    }
}

/// It would otherwise be reported that the broker does not answer.
#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_named_where_mqtt_5_gets_no_answer() {
    let broker = FakeBroker::start().await;
    let mut settings = settings(broker.port(), ProtocolChoice::Auto);
    settings.user = Some("iotmonitor".to_owned());
    let mut client = Client::new(Connection::Watch, settings);
    let (hanging, _) = broker.connect().await;
    let (mut refusing, protocol) = broker.connect().await;
    assert_eq!(protocol, Protocol::V311);
    // CONNACK: not authorized.
    refusing.write_all(&[0x20, 2, 0, 5]).await.unwrap();
    let reason = client.disconnected().await;
    assert!(matches!(&reason, LossReason::Refused(_)), "{reason:?}");
    drop(hanging);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_hung_while_mqtt_5_was_tried_is_used_with_mqtt_5() {
    let broker = FakeBroker::start().await;
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::Auto));
    let (hanging, protocol) = broker.connect().await;
    assert_eq!(protocol, Protocol::V5);
    let between = broker.welcome().await;
    drop(between);
    let _stream = broker.welcome().await;
    assert_eq!(client.connected().await, (Protocol::V5, false));
    drop(hanging);
}

#[tokio::test]
async fn a_stopped_broker_pins_no_version() {
    let mut broker = Broker::start();
    broker.signal(Signal::SIGSTOP);
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::Auto));
    let reason = client.disconnected().await;
    assert!(matches!(reason, LossReason::Silent { .. }), "{reason:?}");
    broker.signal(Signal::SIGCONT);
    assert_eq!(client.reconnected_with().await, Protocol::V5);
    broker.kill();
}
