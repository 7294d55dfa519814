//! Brokers that close the connection because of a message or of another client.

use crate::common::broker::{Broker, free_port};
use crate::common::client::{
    Client, PATIENCE, VERSIONS, at_least_once, publication, settings, topic, with_token,
};
use crate::fake::{FakeBroker, read, serve, serve_with_objections};
use iotmonitor::mqtt::settings::{MqttSettings, ProtocolChoice};
use iotmonitor::mqtt::{ConnectionOptions, Pair};
use iotmonitor::secret::Secret;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{
    Connection, LossReason, Publication, QoS, Subscription, Token,
};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

const BOTH: [Connection; 2] = [Connection::Watch, Connection::State];

/// What the core asks for at each connection.
fn wanted() -> Vec<Subscription> {
    ["a/#", "bad/#", "b/#", "c/#"].map(at_least_once).to_vec()
}

fn is_bad(text: &str) -> bool {
    text.starts_with("bad")
}

/// Goes on until this many connections were lost, or what is looked for came; asks for the
/// subscriptions at each connection as the core does. Gives what was found and how it was lost.
async fn through_losses<T>(
    client: &mut Client,
    subscriptions: &[Subscription],
    mut pick: impl FnMut(&Event) -> Option<T>,
) -> (T, Vec<LossReason>) {
    let mut losses = Vec::new();
    loop {
        let event = client.next().await;
        if let Some(found) = pick(&event) {
            return (found, losses);
        }
        match event {
            Event::Connected { .. } if !subscriptions.is_empty() => {
                client.handle.subscribe(subscriptions.to_vec());
            }
            Event::Disconnected { reason, .. } => losses.push(reason),
            _ => {}
        }
        assert!(losses.len() < 12, "it never comes to rest: {losses:?}");
    }
}

fn has_no_struggle(losses: &[LossReason]) -> bool {
    !losses.is_empty() && losses.iter().all(|loss| matches!(loss, LossReason::Other(_)))
}

#[tokio::test]
async fn a_publication_that_the_broker_closes_on_is_put_aside_and_the_rest_goes_out() {
    for (choice, _) in VERSIONS {
        for connection in BOTH {
            let broker = FakeBroker::start().await;
            let mut client = Client::new(connection, settings(broker.port(), choice));
            serve_with_objections(broker, is_bad);
            client.connected().await;
            for (number, name) in ["good/1", "bad/topic", "good/2", "good/3"].iter().enumerate() {
                let number = u64::try_from(number).unwrap();
                client.handle.publish(with_token(publication(connection, name, b"x"), number));
            }
            let mut done = BTreeSet::new();
            let (reason, losses) = through_losses(&mut client, &[], |event| {
                match event {
                    Event::Published { token } => drop(done.insert(*token)),
                    Event::PublishRefused { topic: at, reason, token } => {
                        assert_eq!((at, *token), (&topic("bad/topic"), Some(Token(1))));
                        return Some(reason.clone());
                    }
                    _ => {}
                }
                None
            })
            .await;
            assert!(reason.contains("has closed the connection on it twice"), "{reason}");
            assert!(has_no_struggle(&losses), "{losses:?}");
            let said = format!("{losses:?}");
            assert!(said.contains("on a publication on `bad/topic`"), "{said}");
            while done.len() < 3 {
                if let Event::Published { token } = client.next().await {
                    done.insert(token);
                }
            }
            // From now on it is refused at once, and costs no connection.
            client.handle.publish(publication(connection, "bad/topic", b"y"));
            match client
                .until(|event| {
                    (!matches!(event, Event::PublishAccepted { .. })).then(|| event.clone())
                })
                .await
            {
                Event::PublishRefused { topic: at, .. } => assert_eq!(at, topic("bad/topic")),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_filter_that_the_broker_closes_on_is_put_aside_and_the_rest_is_granted() {
    for (choice, _) in VERSIONS {
        for connection in BOTH {
            let broker = FakeBroker::start().await;
            let mut client = Client::new(connection, settings(broker.port(), choice));
            serve_with_objections(broker, is_bad);
            let (refused, losses) = through_losses(&mut client, &wanted(), |event| match event {
                Event::Subscribed { refused, .. } => Some(refused.clone()),
                _ => None,
            })
            .await;
            let [refusal] = refused.as_slice() else { panic!("one is refused: {refused:?}") };
            assert_eq!(refusal.filter.as_str(), "bad/#");
            assert!(refusal.reason.contains("closed the connection on it twice"), "{refusal:?}");
            assert!(has_no_struggle(&losses), "{losses:?}");
        }
    }
}

#[tokio::test]
async fn a_broker_that_closes_on_more_than_eight_filters_a_packet_is_asked_for_eight_at_a_time() {
    const MANY: usize = 500;
    let many: Vec<Subscription> = (0..MANY).map(|n| at_least_once(&format!("a/{n}"))).collect();
    for (choice, _) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        serve(broker, |_| false, 8);
        let (refused, losses) = through_losses(&mut client, &many, |event| match event {
            Event::Subscribed { refused, .. } => Some(refused.clone()),
            _ => None,
        })
        .await;
        assert_eq!(refused, [], "no filter is guilty");
        // One for all packets that were on their way, and one for the first of them alone.
        assert!(losses.len() <= 2, "{losses:?}");
        assert!(has_no_struggle(&losses), "{losses:?}");
    }
}

#[tokio::test]
async fn what_went_out_at_qos_0_is_soon_known_to_be_taken() {
    for (choice, _) in VERSIONS {
        for connection in BOTH {
            let broker = FakeBroker::start().await;
            let mut client = Client::new(connection, settings(broker.port(), choice));
            let mut stream = broker.welcome().await;
            client.connected().await;
            for name in ["a/1", "a/2"] {
                let plain = publication(connection, name, b"x");
                client.handle.publish(Publication { qos: QoS::AtMostOnce, ..plain });
            }
            // PUBLISH is a packet of type 3, PINGREQ one of type 12. No ping of the keep alive is due.
            for kind in [3, 12, 3] {
                assert_eq!(read(&mut stream).await.unwrap().first >> 4, kind);
            }
            stream.write_all(&[0xD0, 0]).await.unwrap();
            let again = timeout(PATIENCE, read(&mut stream)).await;
            let again = again.expect("the second publication is asked after, too").unwrap();
            assert_eq!(again.first >> 4, 12);
            stream.write_all(&[0xD0, 0]).await.unwrap();
            drop(stream);
            let LossReason::Other(said) = client.disconnected().await else { panic!("a closing") };
            assert!(!said.contains("on a publication"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_publication_at_qos_0_is_found_out_too() {
    for (choice, _) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        serve_with_objections(broker, is_bad);
        let up =
            Publication { qos: QoS::AtMostOnce, ..publication(Connection::Watch, "bad/up", b"1") };
        let mut losses = Vec::new();
        loop {
            match client.next().await {
                Event::Connected { .. } => {
                    client.handle.subscribe(vec![at_least_once("a/#")]);
                    client.handle.publish(up.clone());
                }
                Event::Disconnected { reason, .. } => losses.push(reason),
                Event::PublishRefused { topic: at, .. } => {
                    assert_eq!(at, topic("bad/up"));
                    break;
                }
                _ => {}
            }
            assert!(losses.len() < 12, "it never comes to rest: {losses:?}");
        }
        assert!(has_no_struggle(&losses), "{losses:?}");
    }
}

#[tokio::test]
async fn a_branch_of_topics_costs_no_more_than_two_of_them() {
    let broker = FakeBroker::start().await;
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::Auto));
    serve_with_objections(broker, is_bad);
    client.connected().await;
    for number in 0..100 {
        client.handle.publish(publication(Connection::Watch, &format!("bad/{number}"), b"x"));
    }
    client.handle.publish(with_token(publication(Connection::Watch, "good/1", b"x"), 1));
    let ((), losses) = through_losses(&mut client, &[], |event| {
        (*event == Event::Published { token: Token(1) }).then_some(())
    })
    .await;
    assert!(losses.len() <= 6, "{losses:?}");
}

#[tokio::test]
async fn a_broker_that_closes_young_connections_of_any_client_is_not_a_rival() {
    for (choice, _) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        let closing = async {
            loop {
                drop(broker.welcome().await);
            }
        };
        let losses = async {
            for _ in 0..5 {
                let loss = client.disconnected().await;
                assert!(matches!(loss, LossReason::Other(_)), "{loss:?}");
            }
        };
        tokio::select! {
            () = closing => {}
            () = losses => {}
        }
    }
}

#[tokio::test]
async fn a_broker_that_restarts_again_and_again_is_no_rival() {
    for (choice, _) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
        let standing = RefCell::new(Vec::new());
        let serving = async {
            loop {
                let stream = broker.welcome().await;
                standing.borrow_mut().push(stream);
            }
        };
        let restarts = async {
            for _ in 0..7 {
                client.connected().await;
                standing.borrow_mut().clear();
                let loss = client.disconnected().await;
                assert!(matches!(loss, LossReason::Other(_)), "{loss:?}");
            }
        };
        tokio::select! {
            () = serving => {}
            () = restarts => {}
        }
    }
}

#[tokio::test]
async fn the_monitors_own_two_connections_are_not_taken_for_a_rival() {
    for (choice, _) in VERSIONS {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("passwords");
        let made = Command::new("mosquitto_passwd")
            .args(["-b", "-c", file.to_str().unwrap(), "monitor", "right"])
            .status();
        assert!(made.unwrap().success());
        let port = free_port();
        let config = format!(
            "listener {port} 127.0.0.1\nuse_username_as_clientid true\nallow_anonymous false\n\
             password_file DIR/passwords\n"
        );
        let broker = Broker::with_config(directory, port, &config);
        let settings = MqttSettings {
            user: Some("monitor".into()),
            password: Some(Secret::new("right".into())),
            ..settings(broker.port(), choice)
        };
        let pair = Pair::default();
        let client = |connection| {
            let options = ConnectionOptions { pair: Some(pair.clone()), ..Default::default() };
            Client::with(connection, settings.clone(), options, 1_024)
        };
        let mut watch = client(Connection::Watch);
        watch.connected().await;
        let mut state = client(Connection::State);
        let reported = async |client: &mut Client| {
            loop {
                match client.disconnected().await {
                    LossReason::Other(said) if said.contains("use_username_as_clientid") => return,
                    LossReason::Other(_) => {}
                    other => panic!("unexpected {other:?}"),
                }
            }
        };
        timeout(PATIENCE, reported(&mut state)).await.unwrap();
        // The watching has the broker to itself for half a minute at least.
        watch.reconnected().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_is_no_longer_wanted_is_not_tried_again() {
    let broker = FakeBroker::start().await;
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::Auto));
    serve_with_objections(broker, is_bad);
    let (refused, _) = through_losses(&mut client, &wanted(), |event| match event {
        Event::Subscribed { refused, .. } => Some(refused.clone()),
        _ => None,
    })
    .await;
    client.handle.unsubscribe(refused.into_iter().map(|refusal| refusal.filter).collect());
    // It would be due after ten minutes, and the broker would close on it.
    let event = timeout(Duration::from_secs(24 * 3600), client.events.recv()).await;
    assert!(event.is_err(), "{event:?}");
}

static IS_TAKEN: AtomicBool = AtomicBool::new(false);

fn is_bad_before_it_is_taken(text: &str) -> bool {
    is_bad(text) && !IS_TAKEN.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_publication_that_was_put_aside_is_sent_after_a_while() {
    let broker = FakeBroker::start().await;
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::Auto));
    serve_with_objections(broker, is_bad_before_it_is_taken);
    client.connected().await;
    for name in ["bad/1", "bad/2", "bad/3"] {
        client.handle.publish(publication(Connection::Watch, name, b"x"));
    }
    let mut refused = BTreeSet::new();
    let _ = through_losses(&mut client, &[], |event| {
        if let Event::PublishRefused { topic, .. } = event {
            refused.insert(topic.clone());
        }
        (refused.len() == 3).then_some(())
    })
    .await;
    IS_TAKEN.store(true, Ordering::Relaxed);
    let began = Instant::now();
    // One alone, and the others of its branch when it has been taken.
    while !refused.is_empty() {
        match client.events.recv().await {
            Some(Event::PublishAccepted { topic }) => drop(refused.remove(&topic)),
            Some(Event::Connected { .. }) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(began.elapsed() >= Duration::from_secs(9 * 60), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lost_acknowledgement_does_not_hold_the_outbox_for_ever() {
    let broker = FakeBroker::start().await;
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::V5));
    let mut stream = broker.welcome().await;
    client.connected().await;
    for name in ["a/1", "a/2"] {
        client.handle.publish(publication(Connection::Watch, name, b"x"));
        assert_eq!(read(&mut stream).await.unwrap().first >> 4, 3);
    }
    drop(stream);
    // Both are suspected, and go out one at a time; the first one is never acknowledged.
    let mut stream = broker.welcome().await;
    let began = Instant::now();
    let mut topics = Vec::new();
    while topics.len() < 2 {
        let packet = timeout(2 * PATIENCE, read(&mut stream)).await.expect("the second one, too");
        let packet = packet.expect("the connection stays");
        match packet.first >> 4 {
            3 => topics.push(packet.body[2..5].to_vec()),
            12 => stream.write_all(&[0xD0, 0]).await.unwrap(),
            other => panic!("a packet of type {other}"),
        }
    }
    assert_eq!(topics, [b"a/1", b"a/2"]);
    assert!(began.elapsed() >= Duration::from_secs(29), "{:?}", began.elapsed());
}

static IS_ALLOWED: AtomicBool = AtomicBool::new(false);

fn is_bad_for_a_while(text: &str) -> bool {
    is_bad(text) && !IS_ALLOWED.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn what_was_put_aside_is_tried_again_after_a_while() {
    let broker = FakeBroker::start().await;
    let mut client = Client::new(Connection::Watch, settings(broker.port(), ProtocolChoice::Auto));
    serve_with_objections(broker, is_bad_for_a_while);
    let (refused, _) = through_losses(&mut client, &wanted(), |event| match event {
        Event::Subscribed { refused, .. } => Some(refused.clone()),
        _ => None,
    })
    .await;
    assert_eq!(refused.len(), 1);
    IS_ALLOWED.store(true, Ordering::Relaxed);
    let began = Instant::now();
    // Nothing comes but the grant, after ten minutes.
    match client.events.recv().await {
        Some(Event::Subscribed { refused, .. }) => assert_eq!(refused, []),
        other => panic!("unexpected {other:?}"),
    }
    assert!(began.elapsed() >= Duration::from_secs(9 * 60), "{:?}", began.elapsed());
}
