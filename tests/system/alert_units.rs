//! Units that people have written, started for alerts: with the example that is shipped.

use super::harness::{Machine, config, eventually};

const UNIT: &str = include_str!("../../systemd/usr/share/doc/iotmonitor/examples/notify@.service");
const SCRIPT: &str = include_str!("../../systemd/usr/share/doc/iotmonitor/examples/notify");

const ALERTS: &str = "[alerts]\nalertUnit = \"notify@.service\"\n";
const LAMP: &str = "[device_lamp]\nwatchTimeOut = 2\nwatchTopics = \"home/lamp/#\"\n";

/// As the example says.
fn install(machine: &Machine) {
    machine.write_file("/etc/systemd/system/notify@.service", UNIT);
    machine.write_file("/usr/local/bin/iotmonitor-notify", SCRIPT);
    machine.sh("chmod 755 /usr/local/bin/iotmonitor-notify; systemctl daemon-reload");
}

/// Waits for a line that the script printed in this unit.
fn wait_printed(machine: &Machine, unit: &str, line: &str) {
    machine.journal().wait_for(&format!("{line:?} of {unit}"), |entry| {
        entry.field("_SYSTEMD_UNIT") == unit && entry.message() == line
    });
}

fn await_no_files(machine: &Machine) {
    eventually("the files of the alerts to be gone", || {
        machine.sh("ls -A /run/iotmonitor/alerts").is_empty().then_some(())
    });
}

#[test]
fn the_example_tells_of_an_alarm_and_of_its_end() {
    let machine = Machine::boot();
    install(&machine);
    let odd = "[\"device_küche 1\"]\nwatchTimeOut = 2\nwatchTopics = \"home/kitchen\"\n";
    let bus = machine.launch(&config("auto", &format!("{ALERTS}{LAMP}{odd}")));
    wait_printed(&machine, "notify@lamp.service", "lamp: expired (silent)");
    wait_printed(
        &machine,
        "notify@lamp.service",
        "device `lamp` is silent: no contact yet, watchTimeOut is 2 s",
    );
    wait_printed(&machine, "notify@k__che_1.service", "küche 1: expired (silent)");
    machine.publish("home/lamp/light", "on");
    bus.wait_topic(0, "home/monitoring/recover/lamp");
    wait_printed(&machine, "notify@lamp.service", "lamp: recovered (silent)");
    await_no_files(&machine);

    // It goes on without its broker, and nothing of the first connection was told.
    machine.sh("systemctl stop mosquitto");
    wait_printed(&machine, "notify@broker-lost.service", "iotmonitor: broker-lost");
    machine.sh("systemctl start mosquitto");
    wait_printed(&machine, "notify@broker-back.service", "iotmonitor: broker-back");
    let firsts = machine.journal().now(&machine, |entry| {
        entry.field("_SYSTEMD_UNIT") == "notify@broker-back.service"
            && entry.message() == "iotmonitor: broker-back"
    });
    assert_eq!(firsts.len(), 1);
    assert_eq!(machine.journal().alerts(&machine, "alert-unit-failed", ""), 0);
}

#[test]
fn the_example_gives_curl_what_is_secret_by_its_input() {
    let machine = Machine::boot();
    install(&machine);
    // Writes down what it is told, as the person's service would get it.
    machine.write_file(
        "/usr/local/bin/curl",
        "#!/bin/sh\nfor word; do echo \"argument $word\"; done; sed 's/^/input /'\n",
    );
    machine.write_file(
        "/etc/iotmonitor/notify.env",
        "NTFY_URL=https://ntfy.example/house\nNTFY_TOKEN=tk_secret\n",
    );
    machine.sh("chmod 755 /usr/local/bin/curl");
    machine.launch(&config("auto", &format!("{ALERTS}{LAMP}")));
    for line in [
        "argument Title: lamp: expired (silent)",
        "input url = \"https://ntfy.example/house\"",
        "input header = \"Authorization: Bearer tk_secret\"",
    ] {
        wait_printed(&machine, "notify@lamp.service", line);
    }
    let told = machine.journal().now(&machine, |entry| {
        entry.message().starts_with("argument") && entry.message().contains("tk_secret")
    });
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn values_reach_the_unit_byte_for_byte() {
    let machine = Machine::boot();
    machine.write_file(
        "/etc/systemd/system/plain@.service",
        "[Service]\nType=oneshot\nEnvironmentFile=%t/iotmonitor/alerts/%i\n\
         ExecStart=/bin/sh -c 'printf \"%%s|\" \"$IOTMONITOR_DEVICE\" \"$IOTMONITOR_EVENT\" \
         \"$IOTMONITOR_REASON\" \"$IOTMONITOR_PRIORITY\" > /tmp/told'\n",
    );
    machine.sh("systemctl daemon-reload");
    let odd = "[\"device_a$b`c\\\\d\\\"e'f %n\"]\nalertUnit = \"plain@.service\"\n\
               watchTimeOut = 1\nwatchTopics = \"home/odd\"\n";
    machine.launch(&config("auto", odd));
    let told = eventually("the unit to be started", || {
        let output = machine.run(&["cat", "/tmp/told"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (!text.is_empty()).then_some(text)
    });
    assert_eq!(told, "a$b`c\\d\"e'f %n|expired|silent|4|");
}

#[test]
fn a_unit_that_is_not_there_or_fails_is_told_once() {
    let machine = Machine::boot();
    let sections: String = (0..5)
        .map(|at| format!("[device_d{at}]\nwatchTimeOut = 1\nwatchTopics = \"home/d{at}\"\n"))
        .collect();
    let bus = machine.launch(&config("auto", &format!("{ALERTS}{sections}")));
    let alert = machine.journal().wait_for_alert("alert-unit-failed", "");
    assert!(alert.message().contains("not found"), "{}", alert.message());
    await_no_files(&machine);
    let told = |count| {
        assert_eq!(machine.journal().alerts(&machine, "alert-unit-failed", ""), count);
    };
    told(1);
    // The monitor goes on, and the unit works when it is there.
    install(&machine);
    machine.publish("home/d0", "on");
    bus.wait_topic(0, "home/monitoring/recover/d0");
    wait_printed(&machine, "notify@d0.service", "d0: recovered (silent)");
    machine.write_file("/usr/local/bin/iotmonitor-notify", "#!/bin/sh\nexit 3\n");
    machine.publish("home/d1", "on");
    machine.journal().wait_for("the failure of the script", |entry| {
        entry.is_alert("alert-unit-failed", "") && entry.message().contains("ended as `failed`")
    });
}

#[test]
fn a_burst_starts_no_more_than_wait_and_says_so() {
    let machine = Machine::boot();
    install(&machine);
    let sections: String = (0..500)
        .map(|at| format!("[device_d{at}]\nwatchTimeOut = 1\nwatchTopics = \"home/d{at}\"\n"))
        .collect();
    machine.launch(&config("auto", &format!("{ALERTS}{sections}")));
    let dropped = machine.journal().wait_for_alert("alerts-dropped", "");
    let count: usize = dropped.message().split(' ').next().unwrap().parse().unwrap();
    assert!(count >= 500 - 100, "{}", dropped.message());
    wait_printed(&machine, "notify@alerts-dropped.service", "iotmonitor: alerts-dropped");
    let started = machine.journal().now(&machine, |entry| {
        entry.field("_SYSTEMD_UNIT").starts_with("notify@d")
            && entry.message().ends_with("expired (silent)")
    });
    assert_eq!(started.len() + count, 500);
    await_no_files(&machine);
}
