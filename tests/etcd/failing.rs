//! Members that die, hang, or are none.

use crate::fake::{self, Answer};
use crate::members::{Members, ask, node, read, record, renewal};
use iotmonitor::etcd::EtcdStore;
use iotmonitor::etcd::settings::{EtcdAddress, EtcdSettings};
use iotmonitor_core::model::cluster::store::{StoreAnswer, StoreRequest, Versioned};
use iotmonitor_core::model::cluster::timing::LEASE;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// Renews as the rule does: what was read last is built upon. Returns when that was sent which
/// succeeded.
async fn renewed(store: &EtcdStore, n: &mut u64) -> Instant {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_secs(30), "nothing can be renewed");
        let Ok(StoreAnswer::Read(contents)) = store.request(&StoreRequest::Read).await else {
            continue;
        };
        *n += 1;
        let sent = Instant::now();
        let request = renewal(contents.nodes.get(&node()).cloned(), record(*n));
        if let Ok(StoreAnswer::Committed(_)) = store.request(&request).await {
            return sent;
        }
    }
}

#[tokio::test]
async fn a_leader_that_is_killed_costs_no_lease() {
    let members = Members::start(3).await;
    let store = members.store();
    let mut n = 0;
    let before = renewed(&store, &mut n).await;
    members.signal(members.leader(), Signal::SIGKILL);
    let after = renewed(&store, &mut n).await;
    let gap = after - before;
    println!("renewals go on {gap:?} after the leader was killed");
    assert!(gap < LEASE, "{gap:?}");
}

#[tokio::test]
async fn a_member_that_hangs_delays_no_request_beyond_its_limit() {
    let members = Members::start(3).await;
    let store = members.store();
    // A request goes to the member that has answered last, which is the first one now.
    let first = read(&store).await;
    let hanging = 0;
    // A leader that hangs is another matter: nobody answers until there is a new one.
    while members.leader() == hanging {
        move_leader(&members);
    }
    members.signal(hanging, Signal::SIGSTOP);
    let found = store.request(&StoreRequest::Read).await;
    assert_eq!(found.unwrap(), StoreAnswer::Read(first));
    let answer = store.request(&renewal(None, record(1))).await.unwrap();
    let StoreAnswer::Committed(revision) = answer else { panic!("{answer:?}") };
    // From now on the other one is asked first.
    let began = Instant::now();
    let found = read(&store).await.nodes[&node()].clone();
    assert_eq!(found, Versioned { revision, value: record(1) });
    println!("a read beside a member that hangs took {:?}", began.elapsed());
    members.signal(hanging, Signal::SIGCONT);
}

/// Lets another member become the leader, by pausing the present one.
fn move_leader(members: &Members) {
    let leader = members.leader();
    members.signal(leader, Signal::SIGSTOP);
    let other = (leader + 1) % 3;
    let began = Instant::now();
    let status = || members.post(other, "/v3/maintenance/status", &serde_json::json!({}));
    let former = status()["leader"].clone();
    while status()["leader"] == former || status()["leader"].is_null() {
        assert!(began.elapsed() < Duration::from_secs(30), "no new leader");
        std::thread::yield_now();
    }
    members.signal(leader, Signal::SIGCONT);
}

#[tokio::test]
async fn no_member_is_named_with_what_is_wrong_and_within_the_limit() {
    let gone = fake::port_that_refuses();
    let silent = fake::member(Answer::None);
    let settings = settings([gone, silent]);
    let began = Instant::now();
    let error = EtcdStore::new(&settings).request(&StoreRequest::Read).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains(&format!("cannot reach etcd at http://127.0.0.1:{gone}")), "{error}");
    let unanswered = format!("etcd at http://127.0.0.1:{silent} has not answered within 1s");
    assert!(error.contains(&unanswered), "{error}");
    // Far from the limits of the operating system.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn nonsense_and_answers_without_end_are_not_taken_for_etcd() {
    let members = Members::start(1).await;
    for answer in [
        Answer::Is("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>"),
        Answer::Is("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"),
        Answer::Is("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        Answer::Is("220 mail.example ESMTP\r\n"),
        Answer::Endless,
    ] {
        let fake = fake::member(answer);
        let store = EtcdStore::new(&settings([fake]));
        let error = ask(&store, &StoreRequest::Read).await.unwrap_err().to_string();
        let told = format!("127.0.0.1:{fake} does not answer as etcd does");
        assert!(error.contains(&told), "{answer:?}: {error}");
        let mut both = settings([fake]);
        both.endpoints.push(members.address(0));
        let store = EtcdStore::new(&both);
        assert!(ask(&store, &StoreRequest::Read).await.is_ok(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_waited_is_replaced() {
    let members = Members::start(1).await;
    let store = members.store();
    read(&store).await;
    let mut members = members;
    members.restart(0);
    members.answer(&members.settings()).await;
    read(&store).await;
}

fn settings<const N: usize>(ports: [u16; N]) -> EtcdSettings {
    let address = |port| EtcdAddress::new(&format!("http://127.0.0.1:{port}")).unwrap();
    EtcdSettings {
        cluster: "house".to_owned(),
        endpoints: ports.into_iter().map(address).collect(),
        tls: iotmonitor::tls::TlsFiles { ca_file: None, client_certificate: None },
        login: None,
    }
}
