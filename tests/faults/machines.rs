//! What several promises make of a machine.

use crate::harness::{Machine, Message, PATIENCE, Subscriber};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The quiet after which everything has come.
const QUIET: Duration = Duration::from_millis(700);

/// A broker that keeps everything for a session that is away, as docs/brokers.md asks for, and listens
/// for the monitor on a port of its own too.
pub fn set_up_broker(machine: &Machine) {
    let path = "/etc/mosquitto/conf.d/faults.conf";
    machine.write_file(
        path,
        "max_queued_messages 0\nallow_anonymous true\nlistener 1883\nlistener 1884\n",
    );
    start_without_limit(machine, "mosquitto.service");
    machine.sh(&format!("chmod 644 {path}; systemctl restart mosquitto"));
}

/// Has systemd start a unit more often than it lets a person do it by mistake.
pub fn start_without_limit(machine: &Machine, unit: &str) {
    let path = format!("/etc/systemd/system/{unit}.d/limit.conf");
    machine.write_file(&path, "[Unit]\nStartLimitIntervalSec=0\n");
    machine.ok(&["systemctl", "daemon-reload"]);
}

/// Has systemd start the monitor again at once, so that there is time for more faults.
pub fn restart_at_once(machine: &Machine) {
    let path = "/etc/systemd/system/iotmonitor.service.d/faults.conf";
    machine.write_file(path, "[Service]\nRestartSec=50ms\n");
    machine.ok(&["systemctl", "daemon-reload"]);
}

/// The last message of each topic, when nothing has come for a while.
pub fn last_words(bus: &Subscriber) -> BTreeMap<String, String> {
    let mut end = bus.end();
    let deadline = Instant::now() + PATIENCE;
    while bus.within(end, QUIET, |_| true).is_some() {
        assert!(Instant::now() < deadline, "it does not become quiet on the wire");
        end = bus.end();
    }
    let word = |message: Message| (message.topic.clone(), message.text());
    bus.all().into_iter().map(word).collect()
}
