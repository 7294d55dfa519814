//! What is committed, refused and read.

use crate::members::{Members, ask, node, read, record, renewal, revision};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use iotmonitor_core::model::cluster::store::{
    Compare, Put, StoreAnswer, StoreRequest, Transaction, Versioned,
};
use iotmonitor_core::model::cluster::{Item, NodeName, Owner, OwnerPlan, Stamp};
use serde_json::json;
use std::collections::BTreeMap;

#[tokio::test]
async fn a_commit_succeeds_only_upon_what_was_compared() {
    let members = Members::start(1).await;
    let store = members.store();
    assert_eq!(read(&store).await, Default::default());
    let first = ask(&store, &renewal(None, record(1))).await.unwrap();
    let found = Versioned { revision: revision(first), value: record(1) };
    assert_eq!(read(&store).await.nodes[&node()], found);
    assert_eq!(ask(&store, &renewal(None, record(2))).await.unwrap(), StoreAnswer::Refused);
    let second = ask(&store, &renewal(Some(found.clone()), record(2))).await.unwrap();
    assert!(revision(second) > found.revision);
    let stale = ask(&store, &renewal(Some(found), record(3))).await.unwrap();
    assert_eq!(stale, StoreAnswer::Refused);
    // The revision of the last change with another value, as after a restored backup.
    let mut other = read(&store).await.nodes[&node()].clone();
    other.value.n = 9;
    let forged = ask(&store, &renewal(Some(other), record(3))).await.unwrap();
    assert_eq!(forged, StoreAnswer::Refused);
}

#[tokio::test]
async fn a_commit_that_two_members_carry_out_is_reported_as_made() {
    let members = Members::start(1).await;
    let store = members.store();
    let request = renewal(None, record(1));
    let first = ask(&store, &request).await.unwrap();
    assert!(matches!(first, StoreAnswer::Committed(_)));
    // What the second member says, if its answer is the first to arrive.
    assert_eq!(ask(&store, &request).await.unwrap(), first);
    let found = read(&store).await.nodes[&node()].clone();
    ask(&store, &renewal(Some(found), record(2))).await.unwrap();
    assert_eq!(ask(&store, &request).await.unwrap(), StoreAnswer::Refused);
}

#[tokio::test]
async fn a_session_is_ended_and_its_items_are_handed_out_in_one_commit() {
    let members = Members::start(1).await;
    let store = members.store();
    let committed = ask(&store, &renewal(None, record(1))).await.unwrap();
    let found = Versioned { revision: revision(committed), value: record(1) };
    let (session, heir) = (record(1).session, NodeName::new("nas").unwrap());
    let owners = BTreeMap::from([(Item::Shard(31), Owner { node: heir, session })]);
    let plan = OwnerPlan { by: Stamp { session, number: 1 }, owners };
    let mut ended = record(1);
    ended.evicted = true;
    let request = StoreRequest::Commit(Transaction {
        compares: vec![Compare::Plan(None), Compare::Node(node(), Some(found))],
        puts: vec![Put::Plan(plan.clone()), Put::Node(node(), ended.clone())],
    });
    let committed = revision(ask(&store, &request).await.unwrap());
    let contents = read(&store).await;
    assert_eq!(contents.plan, Some(Versioned { revision: committed, value: plan }));
    assert_eq!(contents.nodes[&node()], Versioned { revision: committed, value: ended });
}

#[tokio::test]
async fn a_record_that_a_later_version_wrote_can_be_replaced() {
    let members = Members::start(1).await;
    let store = members.store();
    let later = serde_json::to_string(&record(1)).unwrap();
    let value = later.replacen('{', r#"{ "ofALaterVersion": true, "#, 1);
    let key = "/iotmonitor/house/node/pi1";
    let put = json!({ "key": BASE64_STANDARD.encode(key), "value": BASE64_STANDARD.encode(value) });
    members.post(0, "/v3/kv/put", &put);
    let found = read(&store).await.nodes[&node()].clone();
    assert_eq!(found.value, record(1));
    let replaced = ask(&store, &renewal(Some(found), record(2))).await.unwrap();
    assert!(matches!(replaced, StoreAnswer::Committed(_)), "{replaced:?}");
}

#[tokio::test]
async fn a_value_that_cannot_be_read_is_named_with_its_key_and_the_keys_of_others_are_passed_over()
{
    let members = Members::start(1).await;
    let store = members.store();
    let put = |key: &str| {
        let put = json!({ "key": BASE64_STANDARD.encode(key), "value": "bm9uc2Vuc2U=" });
        members.post(0, "/v3/kv/put", &put);
    };
    for key in ["house/config", "house/other", "house/planet", "household/plan", "house/silenced/a"]
    {
        put(&format!("/iotmonitor/{key}"));
    }
    assert_eq!(read(&store).await, Default::default());
    put("/iotmonitor/house/plan");
    let error = ask(&store, &StoreRequest::Read).await.unwrap_err().to_string();
    assert!(error.contains("etcdctl del /iotmonitor/house/plan"), "{error}");
}
