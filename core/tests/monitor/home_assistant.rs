//! Home Assistant: what is announced and taken back, and which commands are followed.

use super::expect::{agent, device_name, stateful, watched};
use super::timetable::{BASE, House, filter, message, secs, topic};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::history::figures::FiguresMaker;
use iotmonitor_core::model::history::{EpisodeKind, EpisodeRecord};
use iotmonitor_core::model::message::{Connection, QoS};
use iotmonitor_core::model::spec::Origin;
use iotmonitor_core::model::spec::{
    DEFAULT_MAX_SUBSCRIPTIONS, DeviceSpec, HomeAssistant, MonitorSpec,
};
use iotmonitor_core::model::state::StateChange;
use serde_json::{Value, json};

const LAMP: &str = "homeassistant/device/iotmonitor/lamp/config";
const UNIT: &str = "iotmonitor-agent-box.service";

fn spec(devices: Vec<DeviceSpec>, discovery: Option<&str>, commands: bool) -> MonitorSpec {
    MonitorSpec {
        alert_unit: None,
        broker_grace: std::time::Duration::from_secs(60),
        origin: Origin::default(),
        command: "iotmonitor".into(),
        client_id: "iotmonitor".into(),
        base_topic: topic(BASE),
        devices,
        fleets: Vec::new(),
        max_subscriptions: DEFAULT_MAX_SUBSCRIPTIONS,
        home_assistant: HomeAssistant { discovery: discovery.map(topic), commands },
        cluster: None,
    }
}

fn house(devices: Vec<DeviceSpec>, discovery: Option<&str>, commands: bool) -> House {
    let mut house = House::of(spec(devices, discovery, commands));
    house.power_up();
    house
}

fn announced(house: &House, on: &str) -> Value {
    let found = house.published(on);
    let (_, publication) = found.last().unwrap_or_else(|| panic!("nothing on {on}"));
    assert!(publication.retain && publication.qos == QoS::AtLeastOnce);
    serde_json::from_slice(&publication.payload).unwrap()
}

#[test]
fn nothing_is_announced_unless_the_file_says_so() {
    let house = House::running(vec![watched("lamp", 30)]);
    house.expect_silence_on(LAMP);
}

#[test]
fn an_area_is_suggested_until_the_file_names_another() {
    let of = |area: Option<&str>| DeviceSpec { area: area.map(Into::into), ..watched("lamp", 30) };
    let mut house = house(vec![of(Some("Kitchen"))], Some("homeassistant"), false);
    assert_eq!(announced(&house, LAMP)["device"]["suggested_area"], "Kitchen");
    for (area, suggested) in [(Some("Hall"), json!("Hall")), (None, json!(null))] {
        house.reload(vec![of(area)]);
        assert_eq!(announced(&house, LAMP)["device"]["suggested_area"], suggested);
    }
}

#[test]
fn a_device_is_announced_with_its_status() {
    let house = house(vec![watched("lamp", 30)], Some("homeassistant"), false);
    let found = announced(&house, LAMP);
    assert_eq!(found["device"]["identifiers"], json!(["iotmonitor_lamp"]));
    assert_eq!(found["device"]["name"], "lamp");
    assert_eq!(found["origin"]["name"], "iotmonitor");
    assert_eq!(found["availability_topic"], "home/monitoring/availability");
    assert_eq!(found["state_topic"], "home/monitoring/status/lamp");
    let components = &found["components"];
    assert_eq!(components["connectivity"]["platform"], "binary_sensor");
    assert_eq!(components["connectivity"]["device_class"], "connectivity");
    assert_eq!(components["last_contact"]["device_class"], "timestamp");
    assert_eq!(components["uptime"]["entity_category"], "diagnostic");
    assert_eq!(components["uptime"]["unit_of_measurement"], "%");
    // What is not there is named by its platform alone, so that an earlier one disappears.
    assert_eq!(components["restarts"], json!({ "platform": "sensor" }));
    assert_eq!(components["restart"], json!({ "platform": "button" }));
    assert_eq!(components["restore"], json!({ "platform": "button" }));
    assert_eq!(components["monitoring"], json!({ "platform": "switch" }));
}

#[test]
fn an_agent_has_its_restarts_and_a_button_where_commands_are_allowed() {
    let house = house(vec![agent("box", 30)], Some("homeassistant"), true);
    let found = announced(&house, "homeassistant/device/iotmonitor/box/config");
    let components = &found["components"];
    assert_eq!(components["restarts"]["state_class"], "total_increasing");
    assert_eq!(components["restart"]["payload_press"], "restart");
    assert_eq!(components["monitoring"]["payload_off"], "disable");
    assert_eq!(found["command_topic"], "home/monitoring/command/box");
}

#[test]
fn every_entity_has_a_unique_id_of_its_own() {
    let house = house(vec![stateful("lamp"), agent("box", 30)], Some("homeassistant"), true);
    let mut ids = Vec::new();
    for on in [LAMP, "homeassistant/device/iotmonitor/box/config"] {
        for component in announced(&house, on)["components"].as_object().unwrap().values() {
            ids.extend(component["unique_id"].as_str().map(str::to_owned));
        }
    }
    // The lamp has no process and so neither of the two that speak of one.
    assert_eq!(ids.len(), 5 + 6);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 11);
}

#[test]
fn what_left_the_configuration_is_taken_back() {
    let mut house =
        house(vec![watched("lamp", 30), watched("pump", 30)], Some("homeassistant"), false);
    house.turn_the_page();
    let next = spec(vec![watched("pump", 30)], Some("homeassistant"), false);
    house.happen(Event::Reconfigured(Box::new(next)));
    assert_eq!(house.payloads(LAMP), [""]);
    assert_eq!(
        announced(&house, "homeassistant/device/iotmonitor/pump/config")["device"]["name"],
        "pump"
    );
}

#[test]
fn another_prefix_moves_what_is_announced_and_none_takes_it_back() {
    let mut house = house(vec![watched("lamp", 30)], Some("homeassistant"), false);
    house.turn_the_page();
    house.happen(Event::Reconfigured(Box::new(spec(vec![watched("lamp", 30)], Some("ha"), false))));
    assert_eq!(house.payloads(LAMP), [""]);
    assert_eq!(announced(&house, "ha/device/iotmonitor/lamp/config")["device"]["name"], "lamp");
    house.turn_the_page();
    house.happen(Event::Reconfigured(Box::new(spec(vec![watched("lamp", 30)], None, false))));
    assert_eq!(house.payloads("ha/device/iotmonitor/lamp/config"), [""]);
}

#[test]
fn what_left_while_the_monitor_was_down_is_taken_back() {
    let mut house =
        house(vec![watched("lamp", 30), watched("pump", 30)], Some("homeassistant"), false);
    house.advance(secs(1));
    house.spec = spec(vec![watched("pump", 30)], Some("homeassistant"), false);
    house.turn_the_page();
    house.restart();
    house.power_up();
    assert_eq!(house.payloads(LAMP), [""]);
}

#[test]
fn discovery_turned_off_while_the_monitor_was_down_takes_all_back_once() {
    let mut house = house(vec![watched("lamp", 30)], Some("homeassistant"), false);
    house.advance(secs(1));
    house.spec = spec(vec![watched("lamp", 30)], None, false);
    house.turn_the_page();
    house.restart();
    house.power_up();
    assert_eq!(house.payloads(LAMP), [""]);
    house.advance(secs(1));
    house.turn_the_page();
    house.restart();
    house.power_up();
    house.expect_silence_on(LAMP);
}

#[test]
fn the_status_follows_the_contacts_once_a_minute_at_most() {
    let mut house = house(vec![watched("lamp", 300)], Some("homeassistant"), false);
    house.hear("home/lamp/x");
    house.advance(secs(120));
    house.turn_the_page();
    for _ in 0..100 {
        house.hear("home/lamp/x");
        house.advance(secs(1));
    }
    let count = house.published("status/lamp").len();
    assert!((1..=2).contains(&count), "{count} in 100 s");
    house.advance(secs(60));
    house.turn_the_page();
    house.advance(secs(200));
    house.expect_silence_on("status/lamp");
}

fn command(house: &mut House, name: &str, payload: &str) {
    let message = message(&format!("{BASE}/command/{name}"), payload);
    house.happen(Event::WatchMessage(message));
}

#[test]
fn commands_are_asked_for_only_where_they_are_allowed() {
    let filter = "home/monitoring/command/+";
    for allowed in [false, true] {
        let house = house(vec![watched("lamp", 30)], None, allowed);
        let subscribed = house.subscribed(Connection::Watch);
        assert_eq!(subscribed.iter().any(|s| s.filter.as_str() == filter), allowed);
    }
}

#[test]
fn commands_do_as_they_say() {
    let mut house = house(vec![stateful("lamp"), agent("box", 30)], None, true);
    house.advance(secs(1));
    house.recorded("home/lamp/states/on", "1");
    house.turn_the_page();
    command(&mut house, "lamp", "restore");
    assert_eq!(house.restored().len(), 1);
    command(&mut house, "lamp", "disable");
    assert_eq!(house.status("lamp")["state"], "disabled");
    command(&mut house, "lamp", "enable");
    assert_eq!(house.count(AlertKind::Enabled), 1);
    let before = house.starts(UNIT).len() + house.stops(UNIT).len();
    command(&mut house, "box", "restart");
    assert!(house.starts(UNIT).len() + house.stops(UNIT).len() > before);
}

#[test]
fn what_is_no_command_for_something_configured_does_nothing() {
    let mut house = house(vec![stateful("lamp")], None, true);
    house.advance(secs(1));
    house.turn_the_page();
    command(&mut house, "lamp", "restart");
    command(&mut house, "lamp", "Disable");
    command(&mut house, "lamp", "");
    command(&mut house, "unknown", "disable");
    command(&mut house, "lamp/x", "disable");
    assert!(house.log.is_empty(), "{:?}", house.log);
}

#[test]
fn a_retained_command_is_an_old_one() {
    let mut house = house(vec![watched("lamp", 30)], None, true);
    house.turn_the_page();
    let mut old = message(&format!("{BASE}/command/lamp"), "disable");
    old.retain = true;
    house.happen(Event::WatchMessage(old));
    assert!(house.log.is_empty(), "{:?}", house.log);
    assert!(house.monitor.knows(&device_name("lamp")));
}

#[test]
fn a_command_where_none_are_allowed_does_nothing() {
    let mut house = house(vec![watched("lamp", 30)], None, false);
    house.turn_the_page();
    command(&mut house, "lamp", "disable");
    assert!(house.log.is_empty(), "{:?}", house.log);
}

#[test]
fn an_own_description_is_neither_a_contact_nor_a_state() {
    let on = "homeassistant/device/iotmonitor/keeper/config";
    let keeper = DeviceSpec {
        watch: vec![filter("homeassistant/#")],
        state: vec![filter("homeassistant/#")],
        ..watched("keeper", 30)
    };
    let mut house = house(vec![keeper], Some("homeassistant"), false);
    house.advance(secs(31));
    assert_eq!(house.published("expire/keeper").len(), 1);
    let payload = announced(&house, on).to_string();
    for payload in [payload.as_str(), ""] {
        house.hear_payload(on, payload);
        house.state(on, payload);
    }
    house.expect_silence_on("recover/keeper");
    assert!(house.records().iter().all(|(_, change)| **change == StateChange::Nothing));
    // One that another program has published counts.
    house.hear_payload("homeassistant/device/0x00/keeper/config", "{}");
    assert_eq!(house.published("recover/keeper").len(), 1);
}

/// What is taken back comes back too, below a prefix that the file does not name any more.
#[test]
fn a_description_that_was_taken_back_is_no_contact() {
    let keeper = || DeviceSpec { watch: vec![filter("#")], ..watched("keeper", 30) };
    let mut house = house(vec![keeper()], Some("ha"), false);
    house.advance(secs(31));
    house.spec.home_assistant.discovery = None;
    house.reload(vec![keeper()]);
    house.hear_payload("ha/device/iotmonitor/keeper/config", "");
    house.expect_silence_on("recover/keeper");
}

/// The figures of devices that were up for this share of the last 30 days.
fn figures(house: &House, of: &[(&str, f64)]) -> Event {
    let now = house.now().wall;
    let month = secs(30 * 86_400);
    let figures = of.iter().map(|(name, uptime)| {
        let alarm = EpisodeRecord {
            id: 1,
            device: None,
            kind: EpisodeKind::Alarm,
            reason: None,
            begin: now - month.mul_f64(1.0 - uptime),
            end: None,
            last_contact: None,
            ended_by: None,
        };
        let maker = FiguresMaker::new(now, Vec::new());
        maker.figures((*name).to_owned(), now - month, &[alarm], 1)
    });
    Event::FiguresRead(figures.collect())
}

fn questions(house: &House) -> usize {
    house.log.iter().filter(|(_, action)| *action == Action::ReadFigures).count()
}

#[test]
fn uptimes_are_read_each_hour_and_published_when_they_change() {
    let mut house =
        house(vec![watched("lamp", 30), watched("pump", 0)], Some("homeassistant"), false);
    house.hear("home/lamp/x");
    house.turn_the_page();
    house.advance(secs(61));
    assert_eq!(questions(&house), 1);
    house.turn_the_page();
    house.happen(figures(&house, &[("lamp", 0.5), ("pump", 0.25), ("gone", 0.1)]));
    let status = |house: &House, name: &str| announced(house, &format!("status/{name}"));
    assert_eq!(status(&house, "lamp")["uptime"], 0.5);
    assert_eq!(status(&house, "pump")["uptime"], 0.25);
    house.turn_the_page();
    house.happen(figures(&house, &[("lamp", 0.5), ("pump", 0.2)]));
    house.expect_silence_on("status/lamp");
    assert_eq!(status(&house, "pump")["uptime"], 0.2);
    // The end of an incident brings the next time forward.
    house.turn_the_page();
    house.hear("home/lamp/x");
    house.advance(secs(61));
    assert_eq!(questions(&house), 1);
    house.turn_the_page();
    house.advance(secs(3_600));
    assert_eq!(questions(&house), 1);
}

#[test]
fn without_discovery_no_uptime_is_read_or_published() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.advance(secs(7_200));
    assert_eq!(questions(&house), 0);
    house.happen(figures(&house, &[("lamp", 0.5)]));
    house.hear("home/lamp/x");
    assert_eq!(house.status("lamp")["uptime"], Value::Null);
}
