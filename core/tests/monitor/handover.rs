//! Devices of which several nodes know and one speaks: what passes with a shard from one node to
//! another, and what a node does that has none.

use super::expect::{device_name, watched};
use super::sharing::{cluster, dark_of, node, parts, shared};
use super::timetable::{BASE, House, filter, message, millis, secs, topic};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::{AlertKind, Reason};
use iotmonitor_core::model::cluster::shard::shard_of;
use iotmonitor_core::model::cluster::sharing::{ClusterFact, ClusterReply, Placement, StandbyMode};
use iotmonitor_core::model::cluster::store::Revision;
use iotmonitor_core::model::cluster::{EndReason, Item};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::history::{Ending, EpisodeKind};
use iotmonitor_core::model::message::{Connection, Message, Protocol};
use iotmonitor_core::model::spec::DeviceSpec;
use iotmonitor_core::model::view::Liveness;
use std::time::Duration;

/// A lamp that restores its states, and has a timeout of 30 s.
pub fn lamp() -> DeviceSpec {
    DeviceSpec {
        hello: Some(filter("home/lamp/hello")),
        state: vec![filter("home/lamp/set/#")],
        ..watched("lamp", 30)
    }
}

pub fn shard() -> Item {
    shard_of(&device_name("lamp"))
}

/// A node that has nothing, beside others.
pub fn standby_of(devices: Vec<DeviceSpec>) -> House {
    standby_beside(devices, &[])
}

/// The same with agents that several nodes share.
pub fn standby_beside(devices: Vec<DeviceSpec>, agents: &[(&str, Placement)]) -> House {
    let mut house = dark_of(devices, agents);
    house.recorded("home/lamp/set/on", "1");
    house.says_node("nas", r#"{"state":"online","since":7}"#);
    house.join(&[]);
    house.power_up();
    house.says_node("nas", r#"{"state":"online","since":7}"#);
    house.advance(secs(2));
    house.is_caught_up();
    house.turn_the_page();
    house
}

pub fn standby() -> House {
    standby_of(vec![lamp()])
}

pub fn owner() -> House {
    let mut house = standby();
    house.hear("home/lamp/x");
    house.own_all(5);
    house.advance(millis(10));
    house.turn_the_page();
    house
}

impl House {
    /// Other nodes have sent all states that this one has missed.
    pub fn is_caught_up(&mut self) {
        self.happen(Event::WatchMessage(message(&format!("{BASE}/nodes/pi1/sync/1"), "")));
    }

    pub fn says_node(&mut self, name: &str, word: &str) {
        self.retained(&format!("nodes/{name}"), word);
    }

    /// Another node has published this, and the broker retains it.
    pub fn retained(&mut self, below: &str, payload: &str) {
        let message = message(&format!("{BASE}/{below}"), payload);
        self.happen(Event::WatchMessage(Message { retain: true, ..message }));
    }

    pub fn says_status(&mut self, name: &str, state: &str, more: &str) {
        let json = format!(
            r#"{{"name":"{name}","kind":"device","state":"{state}","since":1600000000,"lastContact":1599999970,"watchTimeOut":30,"node":"nas"{more}}}"#
        );
        self.retained(&format!("status/{name}"), &json);
    }

    pub fn says_nothing_of(&self, name: &str) {
        for kind in ["status", "expire", "recover", "helloTopicCount"] {
            self.expect_silence_on(&format!("{kind}/{name}"));
        }
        let alerts: Vec<_> = self.log.iter().filter(|(_, action)| matches!(action, Action::Raise(alert) if alert.device == Some(device_name(name)))).collect();
        assert!(alerts.is_empty(), "{alerts:?}");
    }

    pub fn restores(&self) -> Vec<Duration> {
        self.all_published().into_iter().filter(|(_, it)| it.restored).map(|(at, _)| at).collect()
    }
}

#[test]
fn a_node_without_the_shard_listens_records_and_says_nothing() {
    let mut house = standby();
    house.hear("home/lamp/x");
    house.hear("home/lamp/hello");
    house.state("home/lamp/set/dim", "7");
    house.advance(secs(200));
    house.says_nothing_of("lamp");
    assert_eq!(house.restores(), []);
    assert!(house.store.states.len() == 2, "states are recorded by each node");
    let view = house.monitor.view(&device_name("lamp")).unwrap();
    assert_eq!((view.state, view.node), (Liveness::Alive, None));
    for below in ["up", "availability"] {
        house.expect_silence_on(below);
    }
}

#[test]
fn its_owner_does_all_of_it_and_says_who_it_is_and_by_which_epoch() {
    let mut house = owner();
    house.hear("home/lamp/hello");
    assert_eq!(house.restores(), [house.mono]);
    assert_eq!(house.payloads("helloTopicCount/lamp"), ["1"]);
    let heard = house.mono;
    house.advance(secs(40));
    house.expect_published(
        "expire/lamp",
        heard + secs(30),
        &(super::timetable::START + (heard - secs(1000)).as_secs()).to_string(),
    );
    assert_eq!(house.count(AlertKind::Expired), 1);
    let status = house.status("lamp");
    assert_eq!(
        (&status["state"], &status["node"], &status["epoch"]),
        (&"expired".into(), &"pi1".into(), &5.into())
    );
    assert!(house.payloads("up").len() > 30);
}

#[test]
fn a_device_that_is_fresh_to_the_new_owner_is_fresh() {
    let mut house = standby();
    house.says_status("lamp", "alive", "");
    house.hear("home/lamp/x");
    let heard = house.mono;
    house.advance(secs(20));
    house.own_part(shard(), 9);
    let status = house.status("lamp");
    assert_eq!((&status["state"], &status["since"]), (&"alive".into(), &1_600_000_000.into()));
    assert_eq!(house.payloads("status/lamp").len(), 1);
    house.advance(secs(60));
    house.expect_published("expire/lamp", heard + secs(30), &house.payloads("expire/lamp")[0]);
}

#[test]
fn a_device_that_expired_while_nobody_had_it_is_expired_at_once() {
    let mut house = standby();
    house.says_status("lamp", "alive", "");
    house.hear("home/lamp/x");
    house.advance(secs(100));
    house.says_nothing_of("lamp");
    house.own_part(shard(), 9);
    assert_eq!(
        house.alerts(AlertKind::Expired).iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        [house.mono]
    );
    assert_eq!(house.payloads("expire/lamp").len(), 1);
    assert_eq!(house.status("lamp")["state"], "expired");
}

#[test]
fn an_alarm_that_was_told_is_not_told_again_and_its_end_is() {
    let mut house = standby();
    house.hear("home/lamp/x");
    house.advance(secs(100));
    house.says_status("lamp", "expired", r#","reason":"silent""#);
    house.own_part(shard(), 9);
    house.advance(secs(100));
    assert_eq!(house.count(AlertKind::Expired), 0);
    house.expect_silence_on("expire/lamp");
    let status = house.status("lamp");
    assert_eq!((&status["state"], &status["since"]), (&"expired".into(), &1_600_000_000.into()));
    house.hear("home/lamp/x");
    assert_eq!(house.count(AlertKind::Recovered), 1);
    assert_eq!(house.payloads("recover/lamp").len(), 1);
}

#[test]
fn an_alarm_whose_alert_was_held_back_is_told_by_the_next_owner() {
    let mut house = standby();
    house.hear("home/lamp/x");
    house.advance(secs(100));
    house.says_status("lamp", "expired", r#","reason":"silent","unsent":true"#);
    house.own_part(shard(), 9);
    house.advance(secs(100));
    assert_eq!(house.count(AlertKind::Expired), 1);
    house.expect_silence_on("expire/lamp");
}

#[test]
fn a_device_that_came_back_while_nobody_had_it_is_reported_by_the_next_owner() {
    let mut house = standby();
    house.says_status("lamp", "expired", r#","reason":"silent""#);
    house.hear("home/lamp/x");
    house.says_nothing_of("lamp");
    house.own_part(shard(), 9);
    assert_eq!(house.count(AlertKind::Recovered), 1);
    assert_eq!(house.payloads("recover/lamp").len(), 1);
    assert_eq!(house.status("lamp")["state"], "alive");
    house.advance(secs(29));
    assert_eq!(house.count(AlertKind::Expired), 0);
}

#[test]
fn a_node_that_knows_a_device_only_from_others_neither_alarms_nor_forgets_when_it_spoke() {
    let mut house = standby();
    house.says_status("lamp", "alive", "");
    house.own_part(shard(), 9);
    let status = house.status("lamp");
    assert_eq!(
        (&status["state"], &status["lastContact"]),
        (&"alive".into(), &1_599_999_970.into())
    );
    assert_eq!(house.count(AlertKind::Expired), 0);
}

/// What a node has recorded by itself is there when the device becomes its own.
#[test]
fn the_past_of_a_device_is_on_each_node() {
    let mut house = standby();
    house.open_history();
    house.hear("home/lamp/x");
    house.advance(secs(100));
    let since = house.now().wall.as_secs();
    let status = |state: &str, more: &str| {
        format!(
            r#"{{"name":"lamp","kind":"device","state":"{state}","since":{since},"lastContact":{},"watchTimeOut":30{more}}}"#,
            since - 30
        )
    };
    house.retained("status/lamp", &status("expired", r#","reason":"silent""#));
    house.advance(secs(60));
    let open = [(Some(Reason::Silent), None, None)];
    assert_eq!(house.episodes(EpisodeKind::Alarm), open);
    house.own_part(shard(), 9);
    house.advance(secs(40));
    assert_eq!(house.episodes(EpisodeKind::Alarm), open, "the same one, whoever has it");
    house.hear("home/lamp/x");
    house.advance(secs(1));
    let over = [(Some(Reason::Silent), Some(100), Some(Ending::Contact))];
    assert_eq!(house.episodes(EpisodeKind::Alarm), over);
    house.release_part(shard());
    house.advance(secs(700));
    assert_eq!(house.episodes(EpisodeKind::Alarm), over, "nobody has said otherwise");
    assert_eq!(house.episodes(EpisodeKind::Disabled), []);
    let counted: u32 = house.past.tallies.iter().map(|tally| tally.tally.contacts).sum();
    assert_eq!(counted, 2, "also those of a device that another node has");
}

#[test]
fn nothing_is_taken_up_before_it_is_known_what_was_said() {
    let mut house = dark_of(vec![lamp()], &[]);
    house.broker.delivers = false;
    house.join(&[]);
    house.power_up();
    house.own_all(5);
    house.advance(secs(4));
    house.says_nothing_of("lamp");
    house.says_status("lamp", "expired", r#","reason":"silent""#);
    house.says_nothing_of("lamp");
    house.advance(secs(1));
    assert_eq!(
        house.status("lamp")["state"],
        "expired",
        "the broker does not pass the own word on"
    );
    assert_eq!(house.count(AlertKind::Expired), 0);
}

#[test]
fn all_states_are_restored_where_nobody_had_watched_before() {
    for (others, restores) in [
        (None, 1),
        (Some(r#"{"state":"offline"}"#), 1),
        (Some(r#"{"state":"online","since":7,"starting":true}"#), 1),
        (Some(r#"{"state":"online","since":7}"#), 0),
    ] {
        let mut house = dark_of(vec![lamp()], &[]);
        house.recorded("home/lamp/set/on", "1");
        house.join(&[]);
        house.broker.delivers = false;
        house.power_up();
        if let Some(word) = others {
            house.says_node("nas", word);
        }
        house.broker.delivers = true;
        house.advance(secs(6));
        house.is_caught_up();
        house.own_all(5);
        house.advance(secs(10));
        assert_eq!(house.restores().len(), restores, "{others:?}");
    }
}

#[test]
fn a_session_that_goes_on_makes_up_for_the_restart_of_the_monitor() {
    let mut house = owner();
    house.crash();
    house.turn_the_page();
    let runs = parts().map(|part| (part, Revision(5))).collect();
    house.cluster(ClusterFact::Joined { runs });
    house.power_up();
    house.says_node("nas", r#"{"state":"online","since":7}"#);
    house.advance(secs(3));
    assert_eq!(house.restores().len(), 1);
    assert_eq!(house.status("lamp")["state"], "alive");
}

#[test]
fn a_shard_that_is_released_is_silent_and_answered_for_when_the_broker_has_it_all() {
    let mut house = owner();
    house.broker.acknowledges = false;
    house.release_part(shard());
    assert_eq!(house.replies(), []);
    house.hear("home/lamp/hello");
    house.settle_acknowledgements();
    assert_eq!(house.replies(), [ClusterReply::Stopped(shard())]);
    house.advance(secs(200));
    house.says_nothing_of("lamp");
    assert_eq!(house.restores(), []);
    house.release_part(shard());
    assert_eq!(house.replies().len(), 2, "what is not here is answered at once");
}

#[test]
fn a_shard_is_given_up_after_three_seconds_without_the_broker_and_its_words_are_dropped() {
    let mut house = owner();
    house.broker.acknowledges = false;
    house.lose_watch();
    house.release_part(shard());
    house.advance(millis(2_900));
    assert_eq!(house.replies(), []);
    house.advance(millis(200));
    assert_eq!(house.replies(), [ClusterReply::Stopped(shard())]);
    let is_withdrawn = |action: &Action| matches!(action, Action::Withdraw { devices } if devices.contains(&device_name("lamp")));
    assert!(house.log.iter().any(|(_, action)| is_withdrawn(action)));
}

#[test]
fn an_alarm_passes_with_its_shard_and_is_over_for_the_former_owner() {
    let mut house = owner();
    house.advance(secs(40));
    assert_eq!((house.count(AlertKind::Expired), house.monitor.summary().expired), (1, 1));
    house.release_part(shard());
    house.turn_the_page();
    assert_eq!(house.monitor.summary().expired, 0);
    let view = house.monitor.view(&device_name("lamp")).unwrap();
    assert_eq!((view.state, view.reason.as_deref()), (Liveness::Expired, Some("silent")));
    house.hear("home/lamp/x");
    house.says_nothing_of("lamp");
    house.own_part(shard(), 11);
    assert_eq!(house.count(AlertKind::Recovered), 1, "nobody has said so meanwhile");
}

#[test]
fn after_the_deadline_the_last_owner_goes_on_telling_and_restores_nothing() {
    let mut house = owner();
    house.cluster(ClusterFact::Cut { reason: "refused".to_owned() });
    house.cluster(ClusterFact::Fenced(EndReason::Deadline));
    assert_eq!(house.replies(), [ClusterReply::Fenced]);
    house.hear("home/lamp/hello");
    house.advance(secs(40));
    assert_eq!(house.restores(), []);
    assert_eq!(house.count(AlertKind::Expired), 1);
    assert_eq!(house.payloads("expire/lamp").len(), 1);
    house.owners(&[("#house", "nas")]);
    house.hear("home/lamp/x");
    assert_eq!(house.count(AlertKind::Recovered), 1);
    let owners = parts().map(|part| (part, node("nas"))).collect();
    house.cluster(ClusterFact::Owners(owners));
    house.turn_the_page();
    house.advance(secs(100));
    house.says_nothing_of("lamp");
    house.expect_silence_on("up");
}

#[test]
fn a_hello_after_the_deadline_is_answered_when_the_shard_is_here_again() {
    let mut house = owner();
    house.cluster(ClusterFact::Cut { reason: "refused".to_owned() });
    house.cluster(ClusterFact::Fenced(EndReason::Deadline));
    house.hear("home/lamp/hello");
    house.advance(secs(25));
    house.cluster(ClusterFact::Back);
    house.own_part(shard(), 9);
    house.advance(secs(1));
    assert_eq!(house.restores().len(), 1);
    assert_eq!(house.status("lamp")["epoch"], 9);
}

#[test]
fn what_was_evicted_is_silent_at_once() {
    let mut house = owner();
    house.cluster(ClusterFact::Fenced(EndReason::Evicted));
    assert_eq!(house.replies(), [ClusterReply::Fenced]);
    house.advance(secs(100));
    house.says_nothing_of("lamp");
    house.expect_silence_on("up");
}

#[test]
fn the_fence_drops_restores_that_wait_and_ends_the_state_connection() {
    let mut house = owner();
    house.store.holds_reads = true;
    house.hear("home/lamp/hello");
    house.cluster(ClusterFact::Fenced(EndReason::Deadline));
    house.store.holds_reads = false;
    house.settle_reads();
    house.advance(secs(1));
    assert_eq!(house.restores(), [], "the answer of the store came too late");
    let severs = |house: &House| house.log.iter().filter(|(_, it)| *it == Action::Sever).count();
    assert_eq!(severs(&house), 1);
    let mut house = owner();
    house.cluster(ClusterFact::Fenced(EndReason::Deadline));
    assert_eq!(severs(&house), 1, "what the broker has sent may come late");
    let mut house = owner();
    house.broker.acknowledges = false;
    house.broker.delivers = false;
    house.hear("home/lamp/hello");
    assert_eq!(house.restores().len(), 1);
    house.cluster(ClusterFact::Fenced(EndReason::Evicted));
    assert_eq!(severs(&house), 1);
}

#[test]
fn a_restore_that_the_fence_has_cut_off_is_made_up_for_when_the_shard_is_here_again() {
    let mut house = owner();
    house.store.holds_reads = true;
    house.hear("home/lamp/hello");
    house.cluster(ClusterFact::Cut { reason: "refused".to_owned() });
    house.cluster(ClusterFact::Fenced(EndReason::Deadline));
    house.store.holds_reads = false;
    house.settle_reads();
    house.advance(secs(25));
    assert_eq!(house.restores(), []);
    house.cluster(ClusterFact::Back);
    house.own_part(shard(), 9);
    house.advance(secs(1));
    assert_eq!(house.restores().len(), 1);
}

#[test]
fn a_restore_that_has_ended_is_not_repeated_after_the_fence() {
    let mut house = owner();
    house.hear("home/lamp/hello");
    house.advance(secs(1));
    assert_eq!(house.restores().len(), 1);
    house.cluster(ClusterFact::Cut { reason: "refused".to_owned() });
    house.cluster(ClusterFact::Fenced(EndReason::Deadline));
    house.cluster(ClusterFact::Back);
    house.own_part(shard(), 9);
    house.advance(secs(1));
    assert_eq!(house.restores().len(), 1);
}

/// What the cluster has heard of the broker, and when.
fn broker(house: &House) -> Vec<(Duration, bool)> {
    let replies = house.log.iter().filter_map(|(at, action)| match action {
        Action::Reply(ClusterReply::Broker(is_up)) => Some((*at, *is_up)),
        _ => None,
    });
    replies.collect()
}

/// Its process has been restarted in the middle of a session.
fn resumed() -> House {
    let mut house = owner();
    house.crash();
    house.turn_the_page();
    house.recorded("home/lamp/set/on", "1");
    house.cluster(ClusterFact::Joined { runs: parts().map(|part| (part, Revision(5))).collect() });
    house
}

#[test]
fn what_goes_on_after_a_restart_is_spoken_of_with_the_broker_and_not_given_up_before_that() {
    let mut house = resumed();
    house.advance(secs(3));
    let began = house.mono;
    house.power_up();
    house.says_node("nas", r#"{"state":"online","since":7}"#);
    house.advance(secs(2));
    assert_eq!(house.status("lamp")["epoch"], 5);
    let first =
        house.all_published().into_iter().find(|(_, it)| it.topic == topic(&format!("{BASE}/up")));
    assert!(first.is_some_and(|(at, _)| at <= began + secs(1)));
    house.advance(secs(60));
    assert_eq!(broker(&house), []);
}

#[test]
fn what_goes_on_after_a_restart_is_given_up_after_five_seconds_without_the_broker() {
    let mut house = resumed();
    let began = house.mono;
    house.advance(secs(60));
    assert_eq!(broker(&house), [(began + secs(5), false)]);
}

#[test]
fn a_node_tells_the_cluster_after_five_seconds_that_its_broker_is_gone_and_at_once_that_it_is_back()
{
    let mut house = owner();
    let lost = house.mono;
    house.lose_watch();
    house.advance(secs(3));
    house.lose_watch();
    house.advance(secs(60));
    assert_eq!(broker(&house), [(lost + secs(5), false)]);
    house.connect_watch();
    assert_eq!(broker(&house)[1..], [(house.mono, true)]);
    house.turn_the_page();
    house.lose_watch();
    house.advance(secs(4));
    house.connect_watch();
    house.advance(secs(60));
    assert_eq!(broker(&house), []);
}

#[test]
fn devices_behind_one_another_are_in_one_shard() {
    let behind = |name: &str, parent: &str| DeviceSpec {
        depends_on: vec![device_name(parent)],
        ..watched(name, 30)
    };
    let mut house = standby_of(vec![
        watched("gateway", 30),
        behind("bridge", "gateway"),
        behind("bulb", "bridge"),
    ]);
    house.own_part(shard_of(&device_name("gateway")), 9);
    for name in ["gateway", "bridge", "bulb"] {
        assert_eq!(house.payloads(&format!("status/{name}")).len(), 1, "{name}");
    }
    house.hear("home/gateway/x");
    house.hear("home/bulb/x");
    house.advance(secs(40));
    assert_eq!(house.count(AlertKind::Expired), 1, "one cause, one alert");
}

#[test]
fn what_another_node_says_of_an_agent_spares_the_devices_behind_it() {
    let agent = super::expect::agent("radio", 30);
    let bulb = DeviceSpec { depends_on: vec![device_name("radio")], ..watched("bulb", 60) };
    let mut house = standby_beside(vec![agent, bulb], &[("radio", shared())]);
    house.own_all(5);
    house.hear("home/bulb/x");
    house.says_status(
        "radio",
        "expired",
        r#","reason":"agent-hung","agent":{"unit":"u","state":"active","restarts":0}"#,
    );
    house.advance(secs(100));
    assert_eq!(house.count(AlertKind::Expired), 0);
    assert_eq!(house.status("bulb")["reason"], "upstream");
    house.says_status("radio", "alive", "");
    house.advance(secs(100));
    assert_eq!(house.count(AlertKind::Expired), 1);
}

#[test]
fn the_house_says_offline_when_the_last_node_stops() {
    for (others, says) in [(r#"{"state":"online","since":7}"#, 0), (r#"{"state":"offline"}"#, 1)] {
        let mut house = owner();
        house.says_node("nas", others);
        house.turn_the_page();
        house.happen(Event::Stopping);
        assert_eq!(house.payloads("availability").len(), says);
        assert_eq!(house.payloads("nodes/pi1"), [r#"{"state":"offline"}"#]);
    }
}

#[test]
fn the_next_owner_of_the_house_counts_and_announces_anew() {
    let mut spec = dark_of(vec![lamp()], &[]).spec;
    spec.home_assistant.discovery = Some(topic("homeassistant"));
    let mut house = House::of(spec);
    house.join(&[]);
    house.power_up();
    house.advance(secs(3));
    let announcement = "homeassistant/device/iotmonitor/lamp/config";
    house.expect_silence_on(announcement);
    house.expect_silence_on("up");
    house.own_part(Item::House, 5);
    assert_eq!(house.payloads("availability"), ["online"]);
    let available_by = |house: &House| {
        let last = house.payloads(announcement).pop().unwrap();
        let description: serde_json::Value = serde_json::from_str(&last).unwrap();
        assert_eq!(description["availability_mode"], "any");
        let topics = description["availability"].as_array().unwrap().iter();
        topics.map(|it| it["topic"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(available_by(&house), [format!("{BASE}/nodes/pi1")]);
    house.says_node("nas", COMPLETE);
    house.says_node("nas", r#"{"state":"offline"}"#);
    assert_eq!(available_by(&house), ["nas", "pi1"].map(|node| format!("{BASE}/nodes/{node}")));
    assert_eq!(house.payloads(announcement).len(), 2);
    house.advance(secs(2));
    assert_eq!(house.payloads("up"), ["1", "2"]);
    house.release_part(Item::House);
    house.turn_the_page();
    house.lose_watch();
    house.connect_watch();
    house.advance(secs(60));
    house.expect_silence_on("up");
    house.expect_silence_on("availability");
}

#[test]
fn each_node_has_markers_of_its_own_and_hears_of_the_others() {
    let house = {
        let mut house = dark_of(vec![lamp()], &[]);
        house.power_up();
        house
    };
    let wanted = house.subscribed(Connection::Watch);
    let filters: Vec<&str> = wanted.iter().map(|it| it.filter.as_str()).collect();
    for below in ["status/+", "nodes/+"] {
        assert!(filters.contains(&format!("{BASE}/{below}").as_str()), "{filters:?}");
    }
    assert!(!filters.contains(&format!("{BASE}/up").as_str()));
    let markers = house.subscribed(Connection::State);
    assert!(
        markers.iter().any(|it| it.filter.as_str() == format!("{BASE}/marker/iotmonitor@pi1/+"))
    );
    let word = house.payloads("nodes/pi1");
    assert_eq!(
        word,
        [format!(r#"{{"state":"online","since":{},"starting":true}}"#, super::timetable::START)]
    );
}

#[test]
fn a_reload_keeps_what_is_known_of_other_nodes_devices() {
    let mut house = standby();
    house.says_status("lamp", "expired", r#","reason":"silent""#);
    house.spec.cluster = Some(cluster(&[]));
    house.reload(vec![watched("first", 30), lamp()]);
    house.says_nothing_of("lamp");
    house.hear("home/lamp/x");
    house.own_part(shard(), 9);
    assert_eq!(house.count(AlertKind::Recovered), 1);
    house.turn_the_page();
    house.reload(vec![lamp()]);
    assert_eq!(house.status("lamp")["node"], "pi1");
}

#[test]
fn where_states_cannot_be_marked_they_are_not_restored_and_one_alert_says_so() {
    let mut house = dark_of(vec![lamp()], &[]);
    house.broker.protocol = Protocol::V311;
    house.recorded("home/lamp/set/on", "1");
    house.join(&[]);
    house.power_up();
    house.own_all(5);
    house.advance(secs(5));
    house.hear("home/lamp/hello");
    house.advance(secs(5));
    house.lose_state();
    house.connect_state();
    house.advance(secs(5));
    assert_eq!(house.restores(), []);
    let told = house.alerts(AlertKind::BrokerLimited);
    assert!(told.len() == 1 && told[0].1.message.contains("MQTT 5"), "{told:?}");
}

const COMPLETE: &str = r#"{"state":"online","since":7}"#;
const MISSING: &str = r#"{"state":"online","since":7,"missing":true}"#;

/// A node whose session the broker has not kept, beside one that has all states.
fn newcomer() -> House {
    let mut house = dark_of(vec![lamp()], &[]);
    house.recorded("home/lamp/set/on", "old");
    house.join(&[]);
    house.power_up();
    house.says_node("nas", COMPLETE);
    house
}

fn says_it_misses(house: &House) -> bool {
    house.payloads("nodes/pi1").last().unwrap().contains(r#""missing":true"#)
}

#[test]
fn a_node_whose_session_was_not_kept_gets_what_it_has_missed_and_newer_wins() {
    let mut house = dark_of(vec![lamp()], &[]);
    house.recorded("home/lamp/set/on", "old");
    house.join(&[]);
    house.broker.delivers = false;
    house.power_up();
    assert!(says_it_misses(&house));
    house.says_node("nas", COMPLETE);
    house.own_all(5);
    house.broker.delivers = true;
    house.advance(secs(6));
    house.hear("home/lamp/hello");
    house.advance(secs(1));
    assert_eq!(house.restores(), [], "what it has may be outdated");
    house.state("home/lamp/set/dim", "mine");
    let line = |topic: &str, payload: &str, time: u64| {
        format!(
            r#"{{"topic":"{topic}","payload":"{payload}","qos":1,"retain":false,"time":{time}}}"#
        )
    };
    let (now, start) = (house.now().wall.as_secs(), super::timetable::START);
    let lines = [
        line("home/lamp/set/on", "newer", start + 5),
        line("home/lamp/set/dim", "before", now - 3),
        line("home/lamp/set/hue", "\\u00fc", start),
        line("home/other/set", "of nobody", now),
        "garbage".to_owned(),
    ];
    house.happen(Event::WatchMessage(message(
        &format!("{BASE}/nodes/pi1/sync/1"),
        &lines.join("\n"),
    )));
    house.happen(Event::WatchMessage(message(
        &format!("{BASE}/nodes/nas/sync/1"),
        &line("home/lamp/set/on", "of another", now),
    )));
    let states: Vec<_> = house
        .store
        .states
        .values()
        .map(|state| {
            (state.topic.to_string(), String::from_utf8_lossy(&state.payload).into_owned())
        })
        .collect();
    let expected = [
        ("home/lamp/set/dim", "mine"),
        ("home/lamp/set/hue", "\u{fc}"),
        ("home/lamp/set/on", "newer"),
    ];
    assert_eq!(states, expected.map(|(topic, payload)| (topic.to_owned(), payload.to_owned())));
    house.happen(Event::WatchMessage(message(&format!("{BASE}/nodes/pi1/sync/2"), "")));
    assert!(!says_it_misses(&house));
    house.advance(secs(10));
    assert_eq!(house.restores().len(), 3);
}

#[test]
fn a_node_waits_for_states_only_where_another_one_has_them_and_not_for_ever() {
    let mut house = newcomer();
    house.advance(secs(2));
    assert!(!says_it_misses(&house), "there was nobody when it came");
    let mut house = dark_of(vec![lamp()], &[]);
    house.broker.delivers = false;
    house.join(&[]);
    house.power_up();
    house.says_node("nas", COMPLETE);
    house.broker.delivers = true;
    house.advance(secs(29));
    assert!(says_it_misses(&house));
    house.advance(secs(2));
    assert!(!says_it_misses(&house));
}

#[test]
fn the_first_node_sends_all_states_to_one_that_misses_some() {
    let mut house = standby();
    for at in 0..250 {
        house.recorded(&format!("home/lamp/set/{at:03}"), "x");
    }
    house.broker.acknowledges = false;
    house.says_node("pi2", MISSING);
    house.expect_silence_on("nodes/pi2/sync/1");
    house.says_node("nas", MISSING);
    let sent = |house: &House| {
        let all = house.all_published().into_iter();
        let lines = all.filter(|(_, it)| it.topic.as_str().contains("/pi2/sync/"));
        lines
            .map(|(_, it)| {
                it.payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(sent(&house), [] as [usize; 0], "`nas` has asked first");
    for _ in 0..12 {
        house.settle_acknowledgements();
    }
    assert_eq!(sent(&house), [100, 100, 51, 0]);
    house.says_node("pi2", COMPLETE);
    house.turn_the_page();
    house.settle_acknowledgements();
    assert_eq!(sent(&house), [] as [usize; 0]);
}

/// The statuses may come before the store is open, and what the store knows is more exact.
#[test]
fn what_others_say_of_a_contact_leaves_the_own_account_of_a_silence_alone() {
    let mut house = standby_of(vec![watched("door", 300)]);
    house.own_all(5);
    house.hear("home/door/x");
    house.advance(secs(280));
    house.restart();
    house.turn_the_page();
    house.join(&[]);
    house.connect_watch();
    house.says_status("door", "alive", "");
    house.open_store();
    house.own_all(7);
    house.advance(secs(70));
    assert_eq!(house.count(AlertKind::Expired), 1, "20 s were left, and a minute of grace follows");
}

pub fn cold() -> House {
    let mut spec = dark_of(vec![lamp(), watched("door", 60)], &[]).spec;
    spec.cluster.as_mut().unwrap().standby = StandbyMode::Cold;
    let mut house = House::of(spec);
    house.says_node("nas", COMPLETE);
    house.join(&[]);
    house.power_up();
    house.says_node("nas", COMPLETE);
    house.advance(secs(2));
    house.is_caught_up();
    house
}

fn hears(house: &House, at: &str) -> bool {
    house.broker.watch_subscriptions.keys().any(|filter| filter.matches(&topic(at)))
}

#[test]
fn a_cold_node_hears_contacts_of_its_own_devices_alone_and_states_and_hellos_of_all() {
    let mut house = cold();
    assert!(!hears(&house, "home/lamp/x") && hears(&house, "home/lamp/hello"));
    assert!(house.broker.session.keys().any(|filter| filter.matches(&topic("home/lamp/set/on"))));
    house.turn_the_page();
    for item in parts() {
        house.own_part(item, 5);
    }
    house.advance(millis(1));
    assert!(hears(&house, "home/lamp/x") && hears(&house, "home/door/x"));
    let subscribes = |house: &House| {
        let of_watch = |action: &Action| {
            matches!(action, Action::Subscribe { connection: Connection::Watch, .. })
        };
        house.log.iter().filter(|(_, action)| of_watch(action)).count()
    };
    assert_eq!(subscribes(&house), 1, "once for all that come together");
    house.release_part(shard());
    house.advance(millis(1));
    assert!(!hears(&house, "home/lamp/x") && hears(&house, "home/door/x"));
    house.lose_watch();
    house.connect_watch();
    assert!(!hears(&house, "home/lamp/x") && hears(&house, "home/door/x"));
}

#[test]
fn a_device_that_comes_to_a_cold_node_has_its_whole_timeout() {
    let mut house = cold();
    house.says_status("door", "alive", "");
    house.advance(secs(1_000));
    house.own_all(5);
    let came = house.mono;
    assert_eq!(house.status("door")["state"], "alive");
    house.advance(secs(100));
    let told = house.alerts(AlertKind::Expired);
    let of_door = told.iter().filter(|(_, alert)| alert.device == Some(device_name("door")));
    assert_eq!(of_door.map(|(at, _)| *at - came).collect::<Vec<_>>(), [secs(60)]);
}
