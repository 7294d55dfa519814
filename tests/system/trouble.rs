//! What is around the monitor fails: each failure is one clear sentence, and the rest goes on.

use super::harness::{Machine, Message, config, eventually};
use nix::sys::signal::Signal;
use std::time::Duration;

const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 2\nwatchTopics = \"home/lamp/#\"\n\
    [agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const UNIT: &str = "iotmonitor-agent-sleeper.service";
const EXPIRE: &str = "home/monitoring/expire/lamp";
const RECOVER: &str = "home/monitoring/recover/lamp";

fn refused_password_is_one_alert(protocol: &str) {
    let machine = Machine::boot();
    machine.sh(
        "cd /etc/mosquitto; mosquitto_passwd -b -c passwd iot right-secret; chmod 644 passwd; \
         printf 'listener 1883\\nallow_anonymous false\\npassword_file /etc/mosquitto/passwd\\n' \
         > conf.d/password.conf; systemctl restart mosquitto",
    );
    let with = |password: &str| {
        let text = config(protocol, SECTIONS);
        text.replacen(
            "[mqtt]\n",
            &format!("[mqtt]\nuser = \"iot\"\npassword = \"{password}\"\n"),
            1,
        )
    };
    machine.write_config(&with("wrong-secret"));
    machine.start_monitor();
    let alert = machine.journal().wait_for_alert("broker-refused", "");
    assert!(alert.message().contains("password"), "{}", alert.message());
    machine.await_new_main_pid(UNIT, 0);
    // Refused tries are rare on purpose; the alert's own was the first.
    machine.await_accepted_connections(1);
    assert_eq!(machine.journal().alerts(&machine, "broker-refused", ""), 1, "once per change");

    machine.write_config(&with("right-secret"));
    let pid = machine.main_pid(UNIT);
    machine.reload_monitor();
    let credentials = ["-u", "iot", "-P", "right-secret"];
    let bus = machine.subscribe_with(&credentials, &["home/#"]);
    bus.wait_exact(0, "home/monitoring/availability", "online");
    assert_eq!(machine.main_pid(UNIT), pid);
    let spilled = machine.journal().now(&machine, |entry| {
        entry.field("_SYSTEMD_UNIT") == "iotmonitor.service" && entry.message().contains("-secret")
    });
    assert!(spilled.is_empty(), "{spilled:?}");
    assert!(bus.all().iter().all(|message| !message.text().contains("-secret")));
}

super::for_both_protocols!(refused_password_is_one_alert);

#[test]
fn a_password_can_come_as_a_credential() {
    let machine = Machine::boot();
    machine.sh(
        "cd /etc/mosquitto; mosquitto_passwd -b -c passwd iot right-secret; chmod 644 passwd; \
         printf 'listener 1883\\nallow_anonymous false\\npassword_file /etc/mosquitto/passwd\\n' \
         > conf.d/password.conf; systemctl restart mosquitto; \
         mkdir -p /etc/systemd/system/iotmonitor.service.d; \
         printf '[Service]\\nSetCredential=mqtt-password:right-secret\\n' \
         > /etc/systemd/system/iotmonitor.service.d/c.conf; systemctl daemon-reload",
    );
    let text = config("auto", SECTIONS).replacen("[mqtt]\n", "[mqtt]\nuser = \"iot\"\n", 1);
    machine.write_config(&text);
    machine.start_monitor();
    let bus = machine.subscribe_with(&["-u", "iot", "-P", "right-secret"], &["home/#"]);
    bus.wait_exact(0, "home/monitoring/availability", "online");
}

#[test]
fn an_unreachable_broker_is_one_alert_that_names_it() {
    let machine = Machine::boot();
    let text = config("auto", SECTIONS).replace("localhost:1883", "localhost:1999");
    machine.write_config(&text);
    machine.start_monitor();
    let alert = machine.journal().wait_for_alert("broker-lost", "");
    assert!(alert.message().contains("localhost:1999"), "{}", alert.message());
    assert!(alert.field("PRIORITY").parse::<u8>().is_ok_and(|priority| priority <= 4));
    machine.await_new_main_pid(UNIT, 0);
    machine.await_failed_connections(6);
    assert_eq!(machine.journal().alerts(&machine, "broker-lost", ""), 1, "once per change");
    assert!(machine.is_active("iotmonitor"));
}

#[test]
fn without_d_bus_the_watching_goes_on_and_the_agents_come_back_under_it() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    bus.wait_topic(0, EXPIRE);
    let pid = machine.main_pid(UNIT);
    machine.ok(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    machine.journal().wait_for_alert("manager-lost", "");

    let from = bus.end();
    machine.publish("home/lamp/light", "on");
    bus.wait_topic(from, RECOVER);
    bus.wait_topic(from, EXPIRE);
    bus.let_seconds_pass(3);
    assert_eq!(machine.journal().alerts(&machine, "manager-lost", ""), 1, "once per change");
    assert_eq!(machine.main_pid(UNIT), pid);

    machine.ok(&["systemctl", "start", "dbus.socket", "dbus.service"]);
    machine.journal().wait_for_alert("manager-back", "");
    machine.ok(&["systemctl", "stop", UNIT]);
    machine.await_new_main_pid(UNIT, pid);
}

#[test]
fn without_d_bus_at_the_start_the_watching_begins_all_the_same() {
    let machine = Machine::boot();
    machine.ok(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    let bus = machine.launch(&config("auto", SECTIONS));
    machine.journal().wait_for_alert("manager-lost", "");
    bus.wait_topic(0, EXPIRE);
    machine.ok(&["systemctl", "start", "dbus.socket", "dbus.service"]);
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    assert_ne!(machine.main_pid(UNIT), 0);
}

#[test]
fn a_stopped_journal_stops_nothing() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    bus.wait_topic(0, EXPIRE);
    let pid = machine.monitor_pid();
    let journald = machine.main_pid("systemd-journald.service");
    machine.signal(Signal::SIGSTOP, journald);
    for _ in 0..3 {
        let from = bus.end();
        machine.publish("home/lamp/light", "on");
        let recovery = bus.wait_topic(from, RECOVER);
        let expiry = bus.wait_topic(from, EXPIRE);
        let silence = expiry.at.duration_since(recovery.at);
        assert!(silence.as_millis() < 3000, "expired {silence:?} after the contact");
    }
    machine.signal(Signal::SIGCONT, journald);
    assert_eq!(machine.monitor_pid(), pid);
    machine.journal().wait_for_alert("recovered", "lamp");
}

#[test]
fn a_second_client_with_the_same_id_is_named_once() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("5", SECTIONS));
    let rival = machine.subscribe_with(&["-i", "iotmonitor", "-V", "mqttv5"], &["home/rival"]);
    let alert = machine.journal().wait_for_alert("clientid-taken", "");
    assert!(alert.message().contains("iotmonitor"), "{}", alert.message());
    drop(rival);
    // Whatever the monitor had published before its will came before it.
    let availability = "home/monitoring/availability";
    bus.wait_from(0, "its will", |message| message.is(availability, "offline"));
    let from = bus.end();
    // It does not fight for the name, so it takes its time to come back.
    let is_up = |message: &Message| message.topic == "home/monitoring/up";
    assert!(bus.within(from, Duration::from_secs(60), is_up).is_some(), "it did not come back");
    eventually("the monitor to be online", || {
        let message = machine.subscribe(&[availability]).wait_topic(0, availability);
        (message.text() == "online").then_some(())
    });
    assert_eq!(machine.journal().alerts(&machine, "clientid-taken", ""), 1);
}

/// What mosquitto does with publications that its access control list does not allow.
fn a_denied_publication_is_reported_once(protocol: &str, denied: &str) {
    let machine = Machine::boot();
    machine.sh(&format!(
        "printf 'topic read #\\n{denied}' > /etc/mosquitto/acl; chmod 644 /etc/mosquitto/acl; \
         printf 'listener 1883\\nallow_anonymous true\\nacl_file /etc/mosquitto/acl\\n' \
         > /etc/mosquitto/conf.d/acl.conf; systemctl restart mosquitto",
    ));
    let sections = "[device_lamp]\nwatchTimeOut = 2\nwatchTopics = \"home/lamp/#\"\n\
        helloTopic = \"home/hello\"\nstateTopics = \"home/lamp/state\"\n";
    machine.write_config(&config(protocol, sections));
    machine.start_monitor();
    let alert = machine.journal().wait_for_alert("publish-refused", "");
    assert!(alert.message().contains("home/monitoring"), "{}", alert.message());
    machine.journal().wait_for_alert("expired", "lamp");

    machine.sh("printf 'topic readwrite #\\n' > /etc/mosquitto/acl; systemctl restart mosquitto");
    let bus = machine.subscribe(&["home/#"]);
    machine.make_alive(&bus, "lamp", "home/lamp/light");
    bus.wait_topic(0, EXPIRE);
    machine.journal().wait_for_alert("publish-accepted", "");
}

#[test]
fn a_denied_publication_is_reported_in_mqtt_5() {
    a_denied_publication_is_reported_once("5", "topic write home/monitoring/marker/#\\n");
}

#[test]
fn a_denied_marker_is_reported_in_mqtt_3_1_1() {
    a_denied_publication_is_reported_once("3.1.1", "");
}
