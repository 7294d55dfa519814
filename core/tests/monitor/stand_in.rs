//! Nodes that stand in for others while the store does not answer: devices are watched and spoken of as
//! long as one node is connected to the broker.

use super::handover::{lamp, shard};
use super::sharing::{dark_of, node, parts};
use super::timetable::{House, secs};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::cluster::Item;
use iotmonitor_core::model::cluster::sharing::ClusterFact;
use std::collections::BTreeMap;

const ONLINE: &str = r#"{"state":"online","since":7}"#;
const STARTING: &str = r#"{"state":"online","since":7,"starting":true}"#;
const OFFLINE: &str = r#"{"state":"offline"}"#;

/// This node, `pi1`, with these others as the broker shows them.
fn beside(others: &[(&str, &str)]) -> House {
    let mut house = dark_of(vec![lamp()], &[]);
    house.recorded("home/lamp/set/on", "1");
    let say =
        |house: &mut House| others.iter().for_each(|(name, word)| house.says_node(name, word));
    say(&mut house);
    house.join(&[]);
    house.power_up();
    say(&mut house);
    house.says_node("pi1", ONLINE);
    house.advance(secs(6));
    house.is_caught_up();
    house.turn_the_page();
    house
}

fn all_at(name: &str) -> ClusterFact {
    let owners: BTreeMap<Item, _> = parts().map(|part| (part, node(name))).collect();
    ClusterFact::Owners(owners)
}

fn cut(house: &mut House) {
    house.cluster(ClusterFact::Cut { reason: "refused".to_owned() });
    house.advance(secs(7));
}

/// Whether this node speaks of the lamp, which falls silent for that.
fn speaks(house: &mut House) -> bool {
    house.hear("home/lamp/x");
    house.turn_the_page();
    house.advance(secs(40));
    let alarms = house.count(AlertKind::Expired);
    assert_eq!(house.payloads("expire/lamp").len(), alarms);
    assert_eq!(house.payloads("up").is_empty(), alarms == 0, "the house goes with it here");
    alarms == 1
}

#[test]
fn a_node_that_starts_alone_without_the_store_speaks_of_everything_and_restores_nothing() {
    for (others, expected) in [
        (vec![], true),
        (vec![("nas", OFFLINE)], true),
        (vec![("pi2", STARTING)], true),
        (vec![("nas", STARTING)], false),
        (vec![("pi2", ONLINE)], false),
    ] {
        let mut house = beside(&others);
        assert!(!speaks(&mut house), "the store may answer yet");
        cut(&mut house);
        house.hear("home/lamp/hello");
        assert_eq!(speaks(&mut house), expected, "{others:?}");
        assert_eq!(house.restores(), []);
    }
}

#[test]
fn a_node_stands_in_for_one_whose_will_the_broker_has_published() {
    let mut house = beside(&[("nas", ONLINE)]);
    house.cluster(all_at("nas"));
    cut(&mut house);
    assert!(!speaks(&mut house), "the other one goes on speaking");
    house.says_node("nas", OFFLINE);
    assert!(speaks(&mut house));
    house.says_node("nas", STARTING);
    assert!(speaks(&mut house), "a new process of it has nothing");
    house.says_node("nas", ONLINE);
    assert!(speaks(&mut house));

    house.says_node("nas", OFFLINE);
    house.says_node("nas", ONLINE);
    assert!(!speaks(&mut house), "it was the connection alone");
}

#[test]
fn one_of_several_stands_in() {
    let mut house = beside(&[("nas", ONLINE), ("pi2", ONLINE)]);
    house.cluster(all_at("pi2"));
    cut(&mut house);
    house.says_node("pi2", OFFLINE);
    assert!(!speaks(&mut house), "nas does");
    house.says_node("nas", OFFLINE);
    assert!(speaks(&mut house));
}

#[test]
fn the_plan_counts_again_when_the_store_answers() {
    let mut house = beside(&[("nas", ONLINE)]);
    house.cluster(all_at("nas"));
    cut(&mut house);
    house.says_node("nas", OFFLINE);
    house.hear("home/lamp/hello");
    assert!(speaks(&mut house));
    house.cluster(ClusterFact::Back);
    house.advance(secs(9));
    house.own_part(shard(), 9);
    house.advance(secs(1));
    assert_eq!(house.restores().len(), 1, "of the hello that nobody could answer");
    assert_eq!(house.status("lamp")["epoch"], 9);
}

#[test]
fn it_is_silent_from_the_stores_first_answer_on() {
    let mut house = beside(&[("nas", OFFLINE)]);
    house.cluster(all_at("nas"));
    cut(&mut house);
    assert!(speaks(&mut house));
    house.cluster(ClusterFact::Back);
    assert!(!speaks(&mut house));
}
