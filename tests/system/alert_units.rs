//! Units that people have written, started for alerts: with the example that is shipped.

use super::harness::{Machine, PATIENCE, config, eventually, eventually_within};
use std::time::{Duration, Instant};

const UNIT: &str = include_str!("../../systemd/usr/share/doc/iotmonitor/examples/notify@.service");
const SCRIPT: &str = include_str!("../../systemd/usr/share/doc/iotmonitor/examples/notify");

const ALERTS: &str = "[alerts]\nalertUnit = \"notify@.service\"\nbrokerGrace = 0\n";
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
fn the_example_sends_an_alarm_and_its_end() {
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
    wait_printed(&machine, "notify@k__che_1-614da286.service", "küche 1: expired (silent)");
    machine.publish("home/lamp/light", "on");
    bus.wait_topic(0, "home/monitoring/recover/lamp");
    wait_printed(&machine, "notify@lamp.service", "lamp: recovered (silent)");
    await_no_files(&machine);

    // It goes on without its broker, and the first connection raised no alert.
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
    // Writes what it receives, as the person's service would get it.
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
        "input header = \"Title: iotmonitor\"",
        "input url = \"https://ntfy.example/house\"",
        "input header = \"Authorization: Bearer tk_secret\"",
    ] {
        wait_printed(&machine, "notify@lamp.service", line);
    }
    let sent = machine.journal().now(&machine, |entry| {
        entry.message().starts_with("argument") && entry.message().contains("tk_secret")
    });
    assert!(sent.is_empty(), "{sent:?}");
}

#[test]
fn values_reach_the_unit_byte_for_byte() {
    let machine = Machine::boot();
    machine.write_file(
        "/etc/systemd/system/plain@.service",
        "[Service]\nType=oneshot\nEnvironmentFile=%t/iotmonitor/alerts/%i\n\
         ExecStart=/bin/sh -c 'printf \"%%s|\" \"$IOTMONITOR_DEVICE\" \"$IOTMONITOR_EVENT\" \
         \"$IOTMONITOR_REASON\" \"$IOTMONITOR_PRIORITY\" > /tmp/received'\n",
    );
    machine.sh("systemctl daemon-reload");
    let odd = "[\"device_a$b`c\\\\d\\\"e'f %n\"]\nalertUnit = \"plain@.service\"\n\
               watchTimeOut = 1\nwatchTopics = \"home/odd\"\n";
    machine.launch(&config("auto", odd));
    let received = eventually("the unit to be started", || {
        let output = machine.run(&["cat", "/tmp/received"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (!text.is_empty()).then_some(text)
    });
    assert_eq!(received, "a$b`c\\d\"e'f %n|expired|silent|4|");
}

#[test]
fn a_unit_that_is_missing_or_fails_is_reported_once_and_its_alerts_wait() {
    let machine = Machine::boot();
    let sections: String = (0..5)
        .map(|at| format!("[device_d{at}]\nwatchTimeOut = 1\nwatchTopics = \"home/d{at}\"\n"))
        .collect();
    machine.launch(&config("auto", &format!("{ALERTS}{sections}")));
    let alert = machine.journal().wait_for_alert("alert-unit-failed", "");
    assert!(alert.message().contains("not found"), "{}", alert.message());
    // The unit works when it is there, without anything new.
    install(&machine);
    for at in 0..5 {
        let unit = format!("notify@d{at}.service");
        wait_printed(&machine, &unit, &format!("d{at}: expired (silent)"));
    }
    machine.journal().wait_for_alert("alert-unit-back", "");
    assert_eq!(machine.journal().alerts(&machine, "alert-unit-failed", ""), 1);
    await_no_files(&machine);
    machine.write_file("/usr/local/bin/iotmonitor-notify", "#!/bin/sh\nexit 3\n");
    machine.publish("home/d1", "on");
    machine.journal().wait_for("the failure of the script", |entry| {
        entry.is_alert("alert-unit-failed", "") && entry.message().contains("ended as `failed`")
    });
    let file = machine.sh("cat /run/iotmonitor/alerts/d1");
    assert!(file.contains("IOTMONITOR_EVENT=\"recovered\""), "it is kept: {file}");
}

/// Calls a service in the network, which writes down what it receives.
const NETWORK_SCRIPT: &str = "#!/bin/bash\nset -e\nexec 3<>/dev/tcp/127.0.0.1/8088\n\
    printf '%s: %s: %s\\n' \"$IOTMONITOR_DEVICE\" \"$IOTMONITOR_EVENT\" \"$IOTMONITOR_MESSAGE\" >&3\n";

fn serve_people(machine: &Machine) {
    machine.write_file(
        "/etc/systemd/system/people.socket",
        "[Socket]\nListenStream=127.0.0.1:8088\nAccept=yes\n",
    );
    machine.write_file(
        "/etc/systemd/system/people@.service",
        "[Service]\nStandardInput=socket\nExecStart=/bin/sh -c 'cat >> /tmp/heard'\n",
    );
    machine.write_file("/usr/local/bin/iotmonitor-notify", NETWORK_SCRIPT);
    machine.sh("touch /tmp/heard; systemctl daemon-reload; systemctl start people.socket");
}

/// How long the way out is down at least. The long form of `make soak` sets the variable.
fn outage() -> Duration {
    let seconds = std::env::var("IOTMONITOR_OUTAGE_SECONDS").ok();
    Duration::from_secs(seconds.map_or(0, |text| text.parse().expect("whole seconds")))
}

/// Waits until people have heard of it. The delay before the next try is never longer than the time
/// for which all tries have failed.
fn wait_heard(machine: &Machine, start: &str) -> String {
    eventually_within(PATIENCE + outage(), &format!("people to hear `{start}`"), || {
        let heard = machine.sh("cat /tmp/heard");
        heard.lines().find(|line| line.starts_with(start)).map(str::to_owned)
    })
}

#[test]
fn expiries_while_the_way_out_is_down_are_delivered_when_it_is_back() {
    let machine = Machine::boot();
    install(&machine);
    serve_people(&machine);
    machine.sh("nft add table inet out; \
         nft add chain inet out block '{ type filter hook output priority 0; }'; \
         nft add rule inet out block tcp dport 8088 reject with tcp reset");
    let down_since = Instant::now();
    let door = "[device_door]\nwatchTimeOut = 0\navailabilityTopic = \"home/door/state\"\n";
    let bus = machine.launch(&config("auto", &format!("{ALERTS}{LAMP}{door}")));
    machine.journal().wait_for_alert("alert-unit-failed", "");
    machine.publish("home/door/state", "offline");
    bus.wait_topic(0, "home/monitoring/expire/door");
    machine.publish("home/door/state", "online");
    bus.wait_topic(0, "home/monitoring/recover/door");
    machine.journal().wait_for("the second try", |entry| {
        entry.field("UNIT") == "notify@lamp.service" && entry.message().contains("Starting")
    });
    let tries = || -> usize {
        let lines = machine.sh("journalctl -u notify@lamp.service -o cat | grep -c Starting");
        lines.trim().parse().unwrap()
    };
    let before = tries();
    machine.sh("systemctl restart iotmonitor");
    eventually("another try after the restart", || (tries() > before).then_some(()));
    let is_over = || (down_since.elapsed() >= outage()).then_some(());
    eventually_within(outage(), "the end of the outage", is_over);
    assert_eq!(machine.sh("cat /tmp/heard"), "");
    machine.sh("nft delete table inet out");
    let heard = wait_heard(&machine, "lamp: expired:");
    assert!(heard.ends_with(" late)"), "{heard}");
    machine.publish("home/lamp/light", "on");
    wait_heard(&machine, "lamp: recovered:");
    let heard = machine.sh("cat /tmp/heard");
    assert!(!heard.contains("door"), "it was back before a notification succeeded: {heard}");
    await_no_files(&machine);
}

#[test]
fn a_retry_of_systemds_own_finds_the_alert_and_it_is_delivered_once() {
    let machine = Machine::boot();
    install(&machine);
    machine.write_file(
        "/etc/systemd/system/notify@.service.d/retry.conf",
        "[Service]\nRestart=on-failure\nRestartSec=1\n",
    );
    machine.write_file(
        "/usr/local/bin/iotmonitor-notify",
        "#!/bin/sh\ncd \"$RUNTIME_DIRECTORY\" || exit 9\n\
         echo \"$IOTMONITOR_EVENT\" >> /run/tries\n\
         [ \"$(wc -l < /run/tries)\" -ge 3 ]\n",
    );
    machine.write_file(
        "/etc/systemd/system/notify@.service.d/user.conf",
        "[Service]\nDynamicUser=no\nRuntimeDirectory=notify\n",
    );
    machine.sh("systemctl daemon-reload");
    machine.launch(&config("auto", &format!("{ALERTS}{LAMP}")));
    eventually("the third try", || {
        let tries = machine.sh("cat /run/tries 2> /dev/null || :");
        (tries.lines().collect::<Vec<_>>() == ["expired"; 3]).then_some(())
    });
    await_no_files(&machine);
    assert_eq!(machine.journal().alerts(&machine, "alert-unit-failed", ""), 0);
}

#[test]
fn a_unit_that_a_condition_skips_has_not_delivered() {
    let machine = Machine::boot();
    install(&machine);
    machine.write_file(
        "/etc/systemd/system/notify@.service.d/condition.conf",
        "[Unit]\nConditionPathExists=/etc/iotmonitor/recipient\n",
    );
    machine.sh("systemctl daemon-reload");
    machine.launch(&config("auto", &format!("{ALERTS}{LAMP}")));
    let alert = machine.journal().wait_for_alert("alert-unit-failed", "");
    assert!(alert.message().contains("a condition of it is not met"), "{}", alert.message());
    machine.write_file("/etc/iotmonitor/recipient", "");
    wait_printed(&machine, "notify@lamp.service", "lamp: expired (silent)");
}

#[test]
fn a_burst_is_one_message() {
    let machine = Machine::boot();
    install(&machine);
    let sections: String = (0..500)
        .map(|at| format!("[device_d{at}]\nwatchTimeOut = 1\nwatchTopics = \"home/d{at}\"\n"))
        .collect();
    machine.launch(&config("auto", &format!("{ALERTS}{sections}")));
    wait_printed(&machine, "notify@pending.service", "iotmonitor: pending");
    let started = machine.journal().now(&machine, |entry| {
        entry.field("_SYSTEMD_UNIT").starts_with("notify@")
            && entry.message().ends_with("expired (silent)")
    });
    assert!(started.len() <= 40, "{}", started.len());
    await_no_files(&machine);
}
