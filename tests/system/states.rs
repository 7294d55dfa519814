//! Recording states and restoring them.

use super::for_both_protocols;
use super::harness::{Machine, Message, Subscriber, config, unix_now};

const LAMP: &str = "[device_lamp]\nwatchTimeOut = 0\nhelloTopic = \"home/lamp\"\n\
    watchTopics = \"home/lamp/sensors/#\"\nstateTopics = [\"home/lamp/set/#\", \"home/lamp/mode\"]\n";
const SHED: &str = "[device_shed]\nhelloTopic = \"home/shed\"\nstateTopics = \"home/shed/set/#\"\n\
    restoreOnStart = false\n";

const WARM_UP: &str = "home/lamp/set/warm-up";

for_both_protocols!(
    a_hello_brings_back_the_devices_own_states,
    a_start_restores_and_overwrites_nothing_newer,
    what_the_broker_has_delivered_survives_a_crash,
    a_restored_state_is_no_contact,
    hellos_are_counted,
    a_question_to_tasmota_is_no_state,
    a_retained_value_does_not_come_back_after_a_later_one,
    a_value_that_was_retained_while_the_monitor_was_away_prevails,
    retained_values_are_learned_again_after_the_store_was_put_aside,
);

fn launch(machine: &Machine, protocol: &str, sections: &str) -> Subscriber {
    let bus = machine.launch(&config(protocol, sections));
    machine.await_recording(&bus, WARM_UP, "home/lamp");
    bus
}

fn on<'a>(messages: &'a [Message], topic: &str) -> Vec<&'a Message> {
    messages.iter().filter(|message| message.topic == topic).collect()
}

fn a_hello_brings_back_the_devices_own_states(protocol: &str) {
    let machine = Machine::boot();
    let bus = launch(&machine, protocol, &format!("{LAMP}{SHED}"));
    let bytes = b"\0\xff\xfe % $ \" \n";
    let long = format!("home/lamp/set/{}", "long".repeat(300));
    machine.publish_with(&[], "home/lamp/set/bytes", bytes);
    machine.publish_with(&[], &long, b"far down");
    machine.publish("home/lamp/set/color", "red");
    machine.publish("home/lamp/set/color", "blue");
    machine.publish_with(&["-q", "0"], "home/lamp/mode", b"eco");
    machine.publish("home/shed/set/door", "open");
    machine.publish("home/lamp/set2", "shares a prefix");
    machine.publish("home/lamp/mode/deep", "below another filter");
    let sent = bus.wait_exact(0, "home/lamp/mode/deep", "below another filter");
    drop(sent);

    let from = bus.end();
    machine.publish("home/lamp", "hello");
    // In the order of the store or not: all four, and the warm-up.
    for topic in ["home/lamp/set/bytes", "home/lamp/set/color", "home/lamp/mode", &long, WARM_UP] {
        bus.wait_topic(from, topic);
    }
    bus.let_seconds_pass(2);
    let restored = bus.since(from);
    assert_eq!(on(&restored, "home/lamp/set/bytes")[0].payload, bytes);
    assert_eq!(on(&restored, &long)[0].text(), "far down");
    assert_eq!(on(&restored, "home/lamp/set/color")[0].text(), "blue");
    assert_eq!(on(&restored, "home/lamp/mode")[0].text(), "eco");
    assert_eq!(on(&restored, "home/lamp/set/color")[0].qos, 1);
    assert_eq!(on(&restored, "home/lamp/mode")[0].qos, 0);
    for topic in ["home/lamp/set/bytes", "home/lamp/set/color", "home/lamp/mode", &long] {
        assert_eq!(on(&restored, topic).len(), 1, "{topic} in {restored:#?}");
    }
    for foreign in ["home/shed/set/door", "home/lamp/set2", "home/lamp/mode/deep"] {
        assert_eq!(on(&restored, foreign).len(), 0, "{foreign} in {restored:#?}");
    }
    machine.journal().wait_for_alert("restored", "lamp");
}

fn a_start_restores_and_overwrites_nothing_newer(protocol: &str) {
    let machine = Machine::boot();
    let bus = launch(&machine, protocol, &format!("{LAMP}{SHED}"));
    machine.publish("home/lamp/set/color", "red");
    machine.publish("home/lamp/set/level", "7");
    machine.publish("home/shed/set/door", "open");
    machine.stop_monitor();
    machine.publish("home/lamp/set/color", "blue");

    bus.wait_exact(0, "home/lamp/set/color", "blue");
    let from = bus.end();
    machine.start_monitor();
    bus.wait_exact(from, "home/lamp/set/level", "7");
    bus.wait_exact(from, "home/monitoring/availability", "online");
    bus.let_seconds_pass(3);
    let later = bus.since(from);
    let colors = on(&later, "home/lamp/set/color");
    assert!(colors.iter().all(|message| message.text() == "blue"), "{colors:?}");
    assert_eq!(on(&later, "home/shed/set/door").len(), 0, "restoreOnStart = false: {later:#?}");
    assert_eq!(on(&later, "home/lamp/set/level").len(), 1, "once: {later:#?}");

    let from = bus.end();
    machine.publish("home/lamp", "hello");
    bus.wait_exact(from, "home/lamp/set/color", "blue");
    machine.publish("home/shed", "hello");
    bus.wait_exact(from, "home/shed/set/door", "open");
}

fn what_the_broker_has_delivered_survives_a_crash(protocol: &str) {
    let machine = Machine::boot();
    let bus = launch(&machine, protocol, LAMP);
    let burst = "for i in $(seq 200); do mosquitto_pub -q 1 -t home/lamp/set/$i -m value-$i; done";
    let mut publisher = machine.command(&["sh", "-ec", burst]).spawn().expect("nsenter can be run");
    bus.wait_topic(0, "home/lamp/set/70");
    machine.crash_monitor();
    bus.wait_topic(0, "home/lamp/set/140");
    machine.crash_monitor();
    assert!(publisher.wait().expect("it is our child").success());
    bus.wait_topic(0, "home/lamp/set/200");

    // A start of its own restores all of it, so that only what comes after the hello counts.
    bus.let_seconds_pass(3);
    let from = bus.end();
    machine.publish("home/lamp", "hello");
    for i in 1..=200 {
        bus.wait_exact(from, &format!("home/lamp/set/{i}"), &format!("value-{i}"));
    }
}

fn a_restored_state_is_no_contact(protocol: &str) {
    let machine = Machine::boot();
    let sections = "[device_plug]\nwatchTimeOut = 3\nwatchTopics = \"home/plug/#\"\n\
        stateTopics = \"home/plug/#\"\n";
    let bus = machine.launch(&config(protocol, &format!("{LAMP}{sections}")));
    machine.await_recording(&bus, WARM_UP, "home/lamp");
    let before = unix_now();
    machine.publish("home/plug/relay", "on");
    let after = unix_now();
    bus.wait_from(0, "the plug to be alive", |message| {
        message.topic == "home/monitoring/status/plug" && message.json()["state"] == "alive"
    });
    let from = bus.end();
    machine.restart_monitor();
    let restored = bus.wait_exact(from, "home/plug/relay", "on");
    let expiry = bus.wait_topic(from, "home/monitoring/expire/plug");
    let last_contact: u64 = expiry.text().parse().expect("seconds in decimal");
    assert!((before..=after).contains(&last_contact), "{restored:?} counted: {expiry:?}");
    bus.let_seconds_pass(1);
    assert_eq!(bus.count(from, "home/plug/relay"), 1, "a restored state is not restored again");
}

fn a_question_to_tasmota_is_no_state(protocol: &str) {
    let machine = Machine::boot();
    let plug =
        "[device_plug]\nhelloTopic = \"tele/plug/INFO1\"\nstateTopics = \"cmnd/plug/POWER\"\n";
    let bus = launch(&machine, protocol, &format!("{LAMP}{plug}"));
    let plug = machine.subscribe(&["cmnd/plug/POWER"]);
    machine.publish("cmnd/plug/POWER", "ON");
    machine.publish_with(&["-q", "0"], "cmnd/plug/POWER", b"");
    machine.publish("cmnd/plug/POWER", "TOGGLE");
    plug.wait_exact(0, "cmnd/plug/POWER", "TOGGLE");
    machine.await_recording(&bus, WARM_UP, "home/lamp");
    let from = plug.end();
    machine.publish("tele/plug/INFO1", "hello");
    plug.wait_topic(from, "cmnd/plug/POWER");
    machine.journal().wait_for_alert("restored", "plug");
    let before = plug.end();
    machine.restart_monitor();
    plug.wait_topic(before, "cmnd/plug/POWER");
    bus.let_seconds_pass(2);
    let given: Vec<String> = plug.since(from).iter().map(|message| message.text()).collect();
    assert!(given.len() >= 2 && given.iter().all(|payload| payload == "ON"), "{given:?}");
}

/// What the lamp is given on a hello for this topic.
fn given(machine: &Machine, bus: &Subscriber, topic: &str) -> Vec<String> {
    let from = bus.end();
    machine.publish("home/lamp", "hello");
    bus.wait_topic(from, WARM_UP);
    bus.let_seconds_pass(2);
    on(&bus.since(from), topic).iter().map(|message| message.text()).collect()
}

fn a_retained_value_does_not_come_back_after_a_later_one(protocol: &str) {
    let machine = Machine::boot();
    let bus = launch(&machine, protocol, LAMP);
    machine.publish_retained("home/lamp/set/color", "on");
    machine.publish("home/lamp/set/color", "off");
    machine.await_recording(&bus, WARM_UP, "home/lamp");
    assert_eq!(given(&machine, &bus, "home/lamp/set/color"), ["off"]);
    drop(bus);
    // Both connections end, and the broker sends what it retains with the next ones.
    machine.sh("systemctl restart mosquitto");
    let bus = machine.subscribe(&["home/#"]);
    assert!(bus.wait_exact(0, "home/lamp/set/color", "on").retain, "the broker has it still");
    machine.await_recording(&bus, WARM_UP, "home/lamp");
    assert_eq!(given(&machine, &bus, "home/lamp/set/color"), ["off"]);
    let from = bus.end();
    machine.restart_monitor();
    bus.wait_exact(from, "home/lamp/set/color", "off");
    bus.let_seconds_pass(2);
    assert_eq!(given(&machine, &bus, "home/lamp/set/color"), ["off"]);
    assert!(bus.since(from).iter().all(|message| !message.is("home/lamp/set/color", "on")));
}

fn a_value_that_was_retained_while_the_monitor_was_away_prevails(protocol: &str) {
    let machine = Machine::boot();
    let bus = launch(&machine, protocol, LAMP);
    machine.publish_retained("home/lamp/set/color", "on");
    machine.publish("home/lamp/set/color", "off");
    machine.await_recording(&bus, WARM_UP, "home/lamp");
    machine.stop_monitor();
    // No broker keeps a message at QoS 0 for a session that is away.
    machine.publish_with(&["-r", "-q", "0"], "home/lamp/set/color", b"dim");
    let from = bus.end();
    machine.start_monitor();
    bus.wait_exact(from, "home/lamp/set/color", "dim");
    assert_eq!(given(&machine, &bus, "home/lamp/set/color"), ["dim"]);
    assert!(bus.since(from).iter().all(|message| !message.is("home/lamp/set/color", "off")));
}

fn retained_values_are_learned_again_after_the_store_was_put_aside(protocol: &str) {
    let machine = Machine::boot();
    let bus = launch(&machine, protocol, LAMP);
    machine.publish_retained("home/lamp/set/color", "red");
    machine.await_recording(&bus, WARM_UP, "home/lamp");
    let from = bus.end();
    machine.restart_monitor();
    // In MQTT 5 the broker retains it from now on with the mark of a restored state.
    bus.wait_exact(from, "home/lamp/set/color", "red");
    machine.await_recording(&bus, WARM_UP, "home/lamp");
    machine.stop_monitor();
    machine.sh("truncate -s 6000 /var/lib/iotmonitor/data.mdb");
    machine.start_monitor();
    machine.journal().wait_for_alert("store-put-aside", "");
    machine.await_recording(&bus, WARM_UP, "home/lamp");
    assert_eq!(given(&machine, &bus, "home/lamp/set/color"), ["red"]);
}

fn hellos_are_counted(protocol: &str) {
    let machine = Machine::boot();
    let bus = machine.launch(&config(protocol, LAMP));
    machine.make_alive(&bus, "lamp", "home/lamp/sensors/light");
    let count = "home/monitoring/helloTopicCount/lamp";
    for expected in ["1", "2", "3"] {
        let from = bus.end();
        machine.publish("home/lamp", "hello");
        let message = bus.wait_topic(from, count);
        assert_eq!((message.text().as_str(), message.qos), (expected, 1));
        assert!(!message.retain);
    }
    let from = bus.end();
    machine.restart_monitor();
    bus.wait_exact(from, "home/monitoring/up", "2");
    let from = bus.end();
    machine.publish("home/lamp", "hello");
    assert_eq!(bus.wait_topic(from, count).text(), "1");
}

#[test]
fn a_retained_state_comes_back_retained_in_mqtt_5() {
    let machine = Machine::boot();
    let bus = launch(&machine, "5", LAMP);
    machine.publish_retained("home/lamp/set/color", "red");
    machine.publish_retained("home/lamp/set/level", "7");
    machine.publish("home/lamp/set/plain", "not retained");
    machine.publish_retained("home/lamp/set/level", "");
    bus.wait_exact(0, "home/lamp/set/level", "");
    // The hello takes another connection than the states: these are in before it is said.
    machine.await_recording(&bus, WARM_UP, "home/lamp");
    let from = bus.end();
    machine.publish("home/lamp", "hello");
    bus.wait_exact(from, "home/lamp/set/plain", "not retained");
    bus.wait_exact(from, "home/lamp/set/color", "red");
    bus.let_seconds_pass(2);
    assert_eq!(bus.count(from, "home/lamp/set/level"), 0, "a retained empty message forgets");
    drop(bus);

    // A broker that has lost all it retained gets it back with the next hello.
    machine.sh("systemctl stop mosquitto; rm -f /var/lib/mosquitto/mosquitto.db");
    machine.sh("systemctl start mosquitto");
    let bus = machine.subscribe(&["home/#"]);
    bus.wait_topic(0, "home/monitoring/up");
    machine.await_recording(&bus, WARM_UP, "home/lamp");
    bus.wait_exact(0, "home/lamp/set/color", "red");
    let replay = machine.subscribe(&["home/lamp/set/#"]);
    assert!(replay.wait_exact(0, "home/lamp/set/color", "red").retain);
    assert!(replay.all().iter().all(|message| message.topic != "home/lamp/set/plain"));
}

#[test]
fn a_long_backlog_is_taken_in_before_anything_is_restored() {
    let machine = Machine::boot();
    let bus = launch(&machine, "auto", LAMP);
    machine.sh("for i in $(seq 100); do mosquitto_pub -q 1 -t home/lamp/set/$i -m old; done");
    bus.wait_topic(0, "home/lamp/set/100");
    machine.stop_monitor();
    machine.sh("for i in $(seq 100); do mosquitto_pub -q 1 -t home/lamp/set/$i -m new; done");
    let from = bus.end();
    machine.start_monitor();
    for i in 1..=100 {
        bus.wait_exact(from, &format!("home/lamp/set/{i}"), "new");
    }
    bus.let_seconds_pass(2);
    let stale: Vec<_> = bus.since(from).into_iter().filter(|m| m.payload == b"old").collect();
    assert!(stale.is_empty(), "{stale:?}");
}
