//! What an alert about an agent brings along: its last lines, and how it ended.

use super::harness::{Machine, config};

/// Says that it begins, prints more than is shown, and then nothing any more.
const MUTE: &str = "[agent_mute]\nwatchTopics = \"home/mute\"\nwatchTimeOut = 3\n\
    exec = 'for i in $(seq 30); do echo \"step $i\"; done; printf \"\\033[2Jred\\tcaf\\351\\n\"; \
    exec sleep infinity'\n";

const BROKEN: &str =
    "[agent_broken]\nexec = 'echo \"cannot open /dev/ttyUSB0\"; exit 7'\nrestartSec = 2\n";

#[test]
fn an_agent_that_hangs_is_reported_with_its_last_ten_lines() {
    let machine = Machine::boot();
    machine.launch(&config("auto", MUTE));
    let alert = machine.journal().wait_for_alert("expired", "mute");
    assert_eq!(alert.field("IOTMONITOR_REASON"), "agent-hung");
    let lines: Vec<&str> = alert.message().lines().collect();
    assert!(lines[0].starts_with("agent `mute` hangs"), "{lines:?}");
    let begin = lines.iter().position(|line| line.starts_with("last lines")).expect("its output");
    let mut shown: Vec<String> = (22..=30).map(|step| format!("  step {step}")).collect();
    shown.push("  \\x1b[2Jred\tcaf\\xe9".to_owned());
    assert_eq!(lines[begin + 1..], shown);
}

#[test]
fn an_agent_that_keeps_failing_is_reported_with_its_exit_and_reason() {
    let machine = Machine::boot();
    machine.write_file(
        "/etc/systemd/system/notify@.service",
        "[Service]\nType=oneshot\nEnvironmentFile=%t/iotmonitor/alerts/%i\n\
         ExecStart=/bin/sh -c 'echo \"$IOTMONITOR_EXIT: $IOTMONITOR_LOG\"'\n",
    );
    machine.sh("systemctl daemon-reload");
    let alerts = "[alerts]\nalertUnit = \"notify@.service\"\n";
    machine.launch(&config("auto", &format!("{alerts}{BROKEN}")));
    let alert = machine.journal().wait_for_alert("agent-failed", "broken");
    assert_eq!(alert.field("IOTMONITOR_EXIT"), "exited with 7");
    assert!(alert.message().contains("\nlast exit: exited with 7"), "{}", alert.message());
    assert!(alert.message().contains("\n  cannot open /dev/ttyUSB0"), "{}", alert.message());
    machine.journal().wait_for("what the unit was given", |entry| {
        entry.field("_SYSTEMD_UNIT") == "notify@broken.service"
            && entry.message().starts_with("exited with 7: cannot open /dev/ttyUSB0")
    });
}

/// A journal whose reader hangs costs the lines, and neither the alert nor its time.
#[test]
fn a_journal_reader_that_hangs_is_not_waited_for() {
    let machine = Machine::boot();
    machine.write_file(
        "/usr/bin/journalctl.new",
        "#!/bin/sh\n: > /run/iotmonitor/asked; exec sleep infinity\n",
    );
    machine.write_file(
        "/etc/systemd/system/iotmonitor.service.d/journal.conf",
        "[Service]\nBindReadOnlyPaths=/usr/bin/journalctl.new:/usr/bin/journalctl\n\
         ExecPaths=/usr/bin\n",
    );
    machine.sh("chmod 755 /usr/bin/journalctl.new; systemctl daemon-reload");
    let lamp = "[device_lamp]\nwatchTopics = \"home/lamp\"\nwatchTimeOut = 3\n";
    let bus = machine.launch(&config("auto", &format!("{MUTE}{lamp}")));
    let expired = bus.wait_topic(0, "home/monitoring/expire/mute");
    machine.journal().wait_for_alert("expired", "lamp");
    let alert = machine.journal().wait_for_alert("expired", "mute");
    assert!(!alert.message().contains("last lines"), "{}", alert.message());
    let late = expired.at.elapsed();
    assert!(late.as_secs() < 8, "{late:?}");
    assert_eq!(machine.journal().alerts(&machine, "expired", "mute"), 1);
    machine.ok(&["test", "-e", "/run/iotmonitor/asked"]);
    // Nothing of it is left.
    let sleeping = machine.run(&["pgrep", "--parent", &machine.monitor_pid().to_string()]);
    assert_eq!(String::from_utf8_lossy(&sleeping.stdout), "");
}
