//! A gateway and the devices behind it: one alert, in whatever order their deadlines pass.

use super::expect::{agent, agent_running, device, device_name, watched};
use super::timetable::{House, millis, secs, topic};
use iotmonitor_core::model::alert::{AlertKind, Reason};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::spec::DeviceSpec;

fn behind(parents: &[&str], spec: DeviceSpec) -> DeviceSpec {
    DeviceSpec { depends_on: parents.iter().map(|name| device_name(name)).collect(), ..spec }
}

/// A gateway with a timeout, and a lamp behind it with another.
fn house(gateway: u64, lamp: u64) -> House {
    let mut house = House::running(vec![
        behind(&["gateway"], watched("lamp", lamp)),
        watched("gateway", gateway),
    ]);
    house.hear("home/gateway/x");
    house.hear("home/lamp/x");
    house
}

fn shown(house: &House, name: &str) -> (String, String) {
    let status = house.status(name);
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

#[track_caller]
fn expect_shown(house: &House, name: &str, state: &str, reason: &str) {
    assert_eq!(shown(house, name), (state.to_owned(), reason.to_owned()), "{name}");
}

/// The gateway goes on speaking, with so much between, for at least this time.
fn go_on(house: &mut House, pace: u64, time: u64) {
    let end = house.mono + secs(time);
    while house.mono < end {
        house.advance(secs(pace));
        house.hear("home/gateway/x");
    }
}

/// Whose alerts there are of a kind, in order.
fn alerted(house: &House, kind: AlertKind) -> Vec<String> {
    let devices = house.alerts(kind).into_iter().map(|(_, alert)| alert.device.clone().unwrap());
    devices.map(|name| name.to_string()).collect()
}

#[test]
fn a_device_silent_after_its_gateway_is_counted_there_and_raises_no_alert() {
    let mut house = house(30, 60);
    let start = house.mono;
    house.advance(secs(100));
    assert_eq!(alerted(&house, AlertKind::Expired), ["gateway"]);
    let message = &house.alerts(AlertKind::Expired)[0].1.message;
    assert!(message.ends_with("; 1 device that depends on it is not alarmed for itself meanwhile"));
    expect_shown(&house, "lamp", "expired", "upstream");
    expect_shown(&house, "gateway", "expired", "silent");
    // What happened is published all the same, at its time.
    assert_eq!(house.published("expire/lamp")[0].0, start + secs(60));
    assert_eq!(house.published("expire/lamp").len(), 1);
    assert_eq!(house.monitor.summary().expired, 2);
}

#[test]
fn a_device_silent_before_its_gateway_waits_for_the_state_of_the_gateway() {
    let mut house = house(90, 30);
    let start = house.mono;
    house.advance(secs(31));
    assert_eq!(house.published("expire/lamp")[0].0, start + secs(30), "at its time");
    expect_shown(&house, "lamp", "expired", "silent");
    assert_eq!(house.count(AlertKind::Expired), 0);
    house.advance(secs(100));
    assert_eq!(alerted(&house, AlertKind::Expired), ["gateway"]);
    expect_shown(&house, "lamp", "expired", "upstream");
    assert_eq!(house.published("expire/lamp").len(), 1);
}

#[test]
fn both_deadlines_may_pass_in_the_same_moment() {
    let mut house = house(30, 30);
    house.advance(secs(100));
    assert_eq!(alerted(&house, AlertKind::Expired), ["gateway"]);
    expect_shown(&house, "lamp", "expired", "upstream");
}

#[test]
fn the_gateways_next_word_shows_that_the_silence_is_ones_own() {
    let mut house = house(90, 30);
    house.advance(secs(40));
    assert_eq!(house.count(AlertKind::Expired), 0);
    house.hear("home/gateway/x");
    let alerts = house.alerts(AlertKind::Expired);
    assert_eq!(alerts.len(), 1);
    assert_eq!((alerts[0].0, alerts[0].1.reason), (house.mono, Some(Reason::Silent)));
    assert_eq!(alerted(&house, AlertKind::Expired), ["lamp"]);
    house.hear("home/gateway/x");
    house.advance(secs(80));
    assert_eq!(house.count(AlertKind::Expired), 1, "once");
    // Its alert was sent, so its return is reported too; what the gateway does later changes nothing.
    house.advance(secs(20));
    assert_eq!(alerted(&house, AlertKind::Expired), ["lamp", "gateway"]);
    expect_shown(&house, "lamp", "expired", "silent");
    house.hear("home/lamp/x");
    assert_eq!(alerted(&house, AlertKind::Recovered), ["lamp"]);
}

#[test]
fn a_gateway_that_spoke_after_the_deadline_needs_no_waiting_for() {
    let mut house =
        House::running(vec![behind(&["gateway"], watched("lamp", 30)), watched("gateway", 90)]);
    house.hear("home/lamp/x");
    house.broker.acknowledges = false;
    house.advance(secs(30));
    house.hear("home/gateway/x");
    house.settle_acknowledgements();
    assert_eq!(alerted(&house, AlertKind::Expired), ["lamp"]);
}

#[test]
fn an_alert_waits_no_longer_than_five_minutes() {
    let mut house = house(25 * 3600, 30);
    house.advance(secs(30 + 299));
    assert_eq!(house.count(AlertKind::Expired), 0);
    house.advance(secs(2));
    assert_eq!(alerted(&house, AlertKind::Expired), ["lamp"]);
}

#[test]
fn a_device_heard_while_its_alert_waits_was_silent_by_itself() {
    let mut house = house(90, 30);
    house.advance(secs(40));
    house.hear("home/lamp/x");
    assert_eq!(alerted(&house, AlertKind::Expired), ["lamp"]);
    assert_eq!(alerted(&house, AlertKind::Recovered), ["lamp"]);
    house.expect_published("recover/lamp", house.mono, &house.wall());
}

#[test]
fn a_device_heard_while_its_alert_waited_is_watched_as_before() {
    let mut house = house(300, 30);
    house.advance(secs(40));
    house.hear("home/lamp/x");
    house.turn_the_page();
    let deadline = house.mono + secs(30);
    house.advance(secs(100));
    assert_eq!(house.published("expire/lamp")[0].0, deadline);
}

#[test]
fn a_grace_after_an_outage_covers_waiting_devices_too() {
    let mut house = house(30, 60);
    house.advance(secs(100));
    house.hear("home/gateway/x");
    house.advance(secs(29));
    // The lamp's alert is due in 31 s, of which the broker takes all but one.
    house.hear("home/gateway/x");
    house.advance(secs(29));
    house.hear("home/gateway/x");
    house.advance(secs(1));
    house.lose_watch();
    house.advance(secs(1000));
    house.connect_watch();
    house.advance(secs(10));
    house.hear("home/lamp/x");
    assert_eq!(alerted(&house, AlertKind::Expired), ["gateway"]);
}

#[test]
fn when_the_gateway_is_back_those_behind_it_have_their_timeout() {
    let mut house = house(30, 100);
    house.advance(secs(20));
    house.hear("home/gateway/x");
    // The gateway is gone from here on, when the lamp has been silent for 20 s.
    house.advance(secs(500));
    expect_shown(&house, "lamp", "expired", "upstream");
    house.hear("home/gateway/x");
    assert!(
        house.alerts(AlertKind::Recovered)[0]
            .1
            .message
            .ends_with("; 1 device that had fallen silent with it may follow now")
    );
    let back = house.mono;
    house.turn_the_page();
    go_on(&mut house, 20, 120);
    let alerts = house.alerts(AlertKind::Expired);
    assert_eq!((alerts.len(), alerts[0].0), (1, back + secs(100)));
    assert_eq!(alerts[0].1.reason, Some(Reason::Silent));
    expect_shown(&house, "lamp", "expired", "silent");
    house.expect_silence_on("expire/lamp");
    house.hear("home/lamp/x");
    assert_eq!(alerted(&house, AlertKind::Recovered), ["lamp"]);
}

#[test]
fn of_a_long_timeout_they_have_an_hour_or_what_was_left() {
    const HOUR: u64 = 3600;
    for (timeout, silent_before, left) in
        [(25 * HOUR, 24 * HOUR + 1800, HOUR), (25 * HOUR, HOUR, 24 * HOUR), (30, 29, 30)]
    {
        let mut house = house(200, timeout);
        let begun = house.mono;
        while house.mono < begun + secs(silent_before) {
            let pause = (begun + secs(silent_before) - house.mono).min(secs(100));
            house.advance(pause);
            house.hear("home/gateway/x");
        }
        house.advance(secs(2 * timeout.max(200)));
        expect_shown(&house, "lamp", "expired", "upstream");
        house.hear("home/gateway/x");
        let back = house.mono;
        house.turn_the_page();
        go_on(&mut house, 15, left + 1);
        assert_eq!(house.alerts(AlertKind::Expired)[0].0, back + secs(left));
    }
}

/// Devices that talk at their own pace, until their gateway dies and takes them along; and when it is
/// back they go on. Whoever's deadlines pass in which order, there is one alert and one end of it.
#[test]
fn a_gateway_that_dies_is_one_alert_at_any_pace() {
    struct Talker {
        name: String,
        pace: u64,
        next: u64,
    }
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..50 {
        let mut specs = Vec::new();
        let mut talkers = Vec::new();
        for at in 0..=random.usize(1..6) {
            let timeout = random.u64(10..if at == 0 { 300 } else { 3600 });
            let pace = random.u64(1..timeout);
            let name = if at == 0 { "gateway".to_owned() } else { format!("d{at}") };
            let spec = watched(&name, timeout);
            specs.push(if at == 0 { spec } else { behind(&["gateway"], spec) });
            talkers.push(Talker { name, pace, next: random.u64(0..pace) });
        }
        let mut house = House::running(specs);
        let dies = random.u64(0..4000);
        // Long enough for the gateway's deadline, and perhaps for those of others.
        let back = dies + 301 + random.u64(0..8000);
        let end = back + 4000;
        let mut now = 0;
        while now < end {
            let talker = talkers.iter_mut().min_by_key(|talker| talker.next).unwrap();
            house.advance(secs(talker.next - now));
            now = talker.next;
            talker.next += talker.pace;
            if !(dies..back).contains(&now) {
                house.hear(&format!("home/{}/x", talker.name));
            }
        }
        let alarms = alerted(&house, AlertKind::Expired);
        assert_eq!(alarms, ["gateway"], "round {round}");
        assert_eq!(alerted(&house, AlertKind::Recovered), ["gateway"], "round {round}");
        assert_eq!(house.monitor.summary().expired, 0);
        for talker in &talkers {
            let count = |kind: &str| house.published(&format!("{kind}/{}", talker.name)).len();
            assert_eq!(count("expire"), count("recover"), "round {round}, {}", talker.name);
        }
    }
}

#[test]
fn a_device_that_follows_its_gateway_raises_no_alert() {
    let mut house = house(30, 60);
    house.advance(secs(100));
    house.hear("home/gateway/x");
    house.advance(secs(5));
    house.hear("home/lamp/x");
    assert_eq!(alerted(&house, AlertKind::Expired), ["gateway"]);
    assert_eq!(alerted(&house, AlertKind::Recovered), ["gateway"]);
    house.expect_published("recover/lamp", house.mono, &house.wall());
    expect_shown(&house, "lamp", "alive", "");
    let deadline = house.mono + secs(60);
    house.turn_the_page();
    go_on(&mut house, 20, 120);
    assert_eq!(house.alerts(AlertKind::Expired)[0].0, deadline, "and is watched as before");
}

/// It was not heard for as long as the gateway was away, though it has not expired yet.
#[test]
fn a_living_device_is_given_the_gateways_absence_too() {
    let mut house = house(30, 600);
    house.advance(secs(100));
    let last = house.mono - secs(100);
    house.hear("home/gateway/x");
    house.turn_the_page();
    go_on(&mut house, 20, 900);
    assert_eq!(house.alerts(AlertKind::Expired)[0].0, last + secs(700));
}

#[test]
fn a_gateway_that_comes_and_goes_hides_no_device_for_ever() {
    let mut house = house(30, 60);
    let mut alarmed = None;
    for round in 0..20 {
        house.advance(secs(40));
        go_on(&mut house, 10, 40);
        if alarmed.is_none() && alerted(&house, AlertKind::Expired).contains(&"lamp".to_owned()) {
            alarmed = Some(round);
        }
    }
    assert!(alarmed.is_some_and(|round| round < 6), "{alarmed:?}");
}

#[test]
fn what_is_behind_what_is_behind_a_gateway_is_cut_off_too() {
    let mut house = House::running(vec![
        behind(&["router"], watched("lamp", 40)),
        behind(&["gateway"], watched("router", 60)),
        watched("gateway", 30),
    ]);
    for name in ["lamp", "router", "gateway"] {
        house.hear(&format!("home/{name}/x"));
    }
    house.advance(secs(100));
    assert_eq!(alerted(&house, AlertKind::Expired), ["gateway"]);
    assert!(house.alerts(AlertKind::Expired)[0].1.message.contains("; 2 devices that depend"));
    for name in ["lamp", "router"] {
        expect_shown(&house, name, "expired", "upstream");
    }
    // The router does not come back: it is alarmed for itself, and the lamp waits for it.
    house.hear("home/gateway/x");
    for _ in 0..10 {
        house.advance(secs(20));
        house.hear("home/gateway/x");
    }
    assert_eq!(alerted(&house, AlertKind::Expired), ["gateway", "router"]);
    expect_shown(&house, "lamp", "expired", "upstream");
    house.hear("home/router/x");
    for seconds in [20, 19] {
        house.advance(secs(seconds));
        house.hear("home/gateway/x");
    }
    house.hear("home/router/x");
    house.advance(secs(2));
    assert_eq!(alerted(&house, AlertKind::Expired), ["gateway", "router", "lamp"]);
}

#[test]
fn of_two_gateways_either_is_needed() {
    let mut house = House::running(vec![
        behind(&["one", "two"], watched("lamp", 60)),
        watched("one", 30),
        watched("two", 0),
    ]);
    for name in ["lamp", "one", "two"] {
        house.hear(&format!("home/{name}/x"));
    }
    house.advance(secs(100));
    assert_eq!(alerted(&house, AlertKind::Expired), ["one"]);
    expect_shown(&house, "lamp", "expired", "upstream");
}

#[test]
fn a_gateways_will_counts_like_its_silence() {
    let gateway = DeviceSpec { availability: vec![topic("home/gateway/LWT")], ..device("gateway") };
    let mut house =
        House::running(vec![behind(&["gateway"], watched("lamp", 30)), gateway.clone()]);
    house.hear("home/lamp/x");
    house.hear_payload("home/gateway/LWT", "online");
    // The broker publishes a will after one and a half times the keep alive.
    house.advance(secs(85));
    assert_eq!(house.count(AlertKind::Expired), 0);
    house.hear_payload("home/gateway/LWT", "offline");
    house.advance(secs(1000));
    assert_eq!(alerted(&house, AlertKind::Expired), ["gateway"]);
    expect_shown(&house, "lamp", "expired", "upstream");
    house.hear_payload("home/gateway/LWT", "online");
    house.turn_the_page();
    house.advance(secs(31));
    assert_eq!(alerted(&house, AlertKind::Expired), ["lamp"]);

    let mut house = House::running(vec![behind(&["gateway"], watched("lamp", 30)), gateway]);
    house.hear("home/lamp/x");
    house.advance(secs(30 + 89));
    assert_eq!(house.count(AlertKind::Expired), 0);
    house.advance(secs(2));
    assert_eq!(alerted(&house, AlertKind::Expired), ["lamp"], "no will came");
}

#[test]
fn an_agent_that_keeps_failing_is_down_for_what_depends_on_it() {
    let bridge = DeviceSpec { watch: Vec::new(), ..agent_running("bridge", "run") };
    let mut house = House::running(vec![behind(&["bridge"], watched("lamp", 30)), bridge]);
    house.hear("home/lamp/x");
    house.unit_fails("iotmonitor-agent-bridge.service");
    let message = &house.alerts(AlertKind::AgentFailed)[0].1.message;
    assert!(message.contains("; 1 device that depends on it is not alarmed"), "{message}");
    house.advance(millis(31_500));
    assert_eq!(house.count(AlertKind::Expired), 0);
    expect_shown(&house, "lamp", "expired", "upstream");
    // It has run for half a minute by now, and is healthy.
    house.advance(secs(10));
    assert_eq!(house.count(AlertKind::AgentHealthy), 1);
    house.advance(secs(60));
    assert_eq!(alerted(&house, AlertKind::Expired), ["lamp"]);
}

#[test]
fn an_agent_that_is_cut_off_is_not_restarted_for_its_silence() {
    let mut bridge = behind(&["stick"], agent("bridge", 60));
    bridge.agent.as_mut().unwrap().restart_on_expire = true;
    let mut house = House::running(vec![bridge, watched("stick", 30)]);
    house.turn_the_page();
    house.advance(secs(1000));
    expect_shown(&house, "bridge", "expired", "upstream");
    assert_eq!(house.stops("iotmonitor-agent-bridge.service"), []);
    house.hear("home/stick/x");
    for _ in 0..10 {
        house.advance(secs(20));
        house.hear("home/stick/x");
    }
    assert!(!house.stops("iotmonitor-agent-bridge.service").is_empty());
    assert_eq!(alerted(&house, AlertKind::Expired), ["stick", "bridge"]);
}

#[test]
fn a_gateway_out_of_the_monitoring_says_nothing_of_those_behind_it() {
    let mut house = house(30, 60);
    house.happen(Event::Disabled { device: device_name("gateway") });
    house.advance(secs(61));
    assert_eq!(alerted(&house, AlertKind::Expired), ["lamp"]);

    let mut house = self::house(30, 60);
    house.advance(secs(100));
    house.happen(Event::Disabled { device: device_name("gateway") });
    house.advance(secs(61));
    assert_eq!(alerted(&house, AlertKind::Expired), ["gateway", "lamp"]);
}

#[test]
fn a_device_taken_out_of_the_monitoring_ends_its_episode() {
    let mut house = house(30, 60);
    house.advance(secs(100));
    house.happen(Event::Disabled { device: device_name("lamp") });
    house.happen(Event::Enabled { device: device_name("lamp") });
    house.turn_the_page();
    house.advance(secs(61));
    expect_shown(&house, "lamp", "expired", "upstream");
    assert_eq!(house.count(AlertKind::Expired), 0);
}

#[test]
fn a_restart_continues_with_sent_and_unsent_alerts() {
    for crash in [false, true] {
        let mut house = house(30, 60);
        house.advance(secs(100));
        house.turn_the_page();
        if crash {
            house.crash()
        } else {
            house.restart()
        }
        house.power_up();
        house.advance(secs(1000));
        assert_eq!(house.count(AlertKind::Expired), 0, "crash: {crash}");
        expect_shown(&house, "lamp", "expired", "upstream");
        house.hear("home/gateway/x");
        assert_eq!(alerted(&house, AlertKind::Recovered), ["gateway"]);
        house.advance(secs(5));
        house.hear("home/lamp/x");
        assert_eq!(alerted(&house, AlertKind::Recovered), ["gateway"]);
    }
}

#[test]
fn an_alert_that_waits_is_not_lost_with_the_process() {
    let mut house = house(90, 30);
    house.advance(secs(40));
    assert_eq!(house.count(AlertKind::Expired), 0);
    house.crash();
    house.power_up();
    house.hear("home/gateway/x");
    house.advance(secs(60));
    assert_eq!(alerted(&house, AlertKind::Expired), ["lamp"]);
    assert_eq!(house.published("expire/lamp").len(), 1);
}

#[test]
fn a_contact_before_the_store_is_read_ends_a_quiet_episode_quietly() {
    let mut house = house(30, 60);
    house.advance(secs(100));
    house.restart();
    house.turn_the_page();
    house.connect_watch();
    house.hear("home/lamp/x");
    house.open_store();
    assert_eq!(house.published("recover/lamp").len(), 1);
    assert_eq!(house.count(AlertKind::Recovered), 0);
}

#[test]
fn a_reload_that_cuts_the_tie_leaves_everybody_to_himself() {
    let mut house = house(30, 60);
    house.advance(secs(100));
    house.turn_the_page();
    house.reload(vec![watched("lamp", 60), watched("gateway", 30)]);
    house.advance(secs(61));
    assert_eq!(alerted(&house, AlertKind::Expired), ["lamp"]);
}

#[test]
fn a_reload_while_an_alert_waits_loses_nothing() {
    let specs = || {
        vec![watched("bell", 30), behind(&["gateway"], watched("lamp", 30)), watched("gateway", 90)]
    };
    let mut house = house(90, 30);
    house.advance(secs(40));
    house.reload(specs());
    house.hear("home/gateway/x");
    house.advance(secs(91));
    assert!(alerted(&house, AlertKind::Expired).contains(&"lamp".to_owned()));

    let mut house = self::house(90, 30);
    house.advance(secs(40));
    house.reload(specs());
    house.advance(secs(61));
    assert!(!alerted(&house, AlertKind::Expired).contains(&"lamp".to_owned()));
    expect_shown(&house, "lamp", "expired", "upstream");
}

#[test]
fn an_outage_of_the_broker_while_an_alert_waits_does_not_count() {
    let mut house = house(90, 30);
    house.advance(secs(40));
    house.lose_watch();
    house.advance(secs(1000));
    assert_eq!(house.count(AlertKind::Expired), 0);
    house.connect_watch();
    house.advance(secs(1000));
    assert_eq!(alerted(&house, AlertKind::Expired), ["gateway"]);
    expect_shown(&house, "lamp", "expired", "upstream");
}

#[test]
fn a_thousand_devices_behind_one_gateway_are_one_alert() {
    let mut specs: Vec<DeviceSpec> = (0..1000)
        .map(|at| behind(&["gateway"], watched(&format!("d{at}"), 20 + at % 200)))
        .collect();
    specs.push(watched("gateway", 120));
    let mut house = House::running(specs);
    house.advance(secs(1000));
    assert_eq!(alerted(&house, AlertKind::Expired), ["gateway"]);
    assert!(house.alerts(AlertKind::Expired)[0].1.message.contains("; 1000 devices"));
    assert_eq!(house.monitor.summary().expired, 1001);
    for at in 0..1000 {
        assert_eq!(house.published(&format!("expire/d{at}")).len(), 1);
    }
}

#[test]
fn a_line_of_ten_thousand_falls_and_comes_back_with_one_alert() {
    const LINE: usize = 10_000;
    let name = |at: usize| format!("d{at:05}");
    let first = watched(&name(0), 30);
    let spec = |at: usize| behind(&[&name(at - 1)], watched(&name(at), 30));
    let mut house = House::running(std::iter::once(first).chain((1..LINE).map(spec)).collect());
    let hear_all = |house: &mut House| {
        for at in 0..LINE {
            house.hear(&format!("home/{}/x", name(at)));
        }
    };
    hear_all(&mut house);
    house.turn_the_page();
    house.advance(secs(60));
    assert_eq!(house.monitor.summary().expired, LINE);
    assert_eq!(alerted(&house, AlertKind::Expired), [name(0)]);
    house.reload(house.spec.devices.clone());
    hear_all(&mut house);
    assert_eq!(house.monitor.summary().expired, 0);
    assert_eq!(alerted(&house, AlertKind::Recovered), [name(0)]);
}
