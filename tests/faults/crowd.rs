//! A whole fleet falls silent at once, as when its access point fails.

use crate::effort::Effort;
use crate::harness::{Machine, config, eventually};
use crate::row::Row;
use std::collections::BTreeMap;
use std::time::Duration;

const DEVICES: usize = 10_000;

/// How long after its deadline a device may be announced.
const LATENESS: Duration = Duration::from_secs(1);

/// Each device is announced once and in time, and the journal tells of each.
pub fn expires_at_once(effort: &Effort) -> Row {
    let mut row = Row::new("10 000 devices that expire in one second are each announced once");
    (row.false_alarms, row.missed_alarms) = (Some(0), Some(0));
    let mut rounds = 0;
    while effort.goes_on(rounds, 1) {
        rounds += 1;
        round(&mut row);
    }
    row
}

fn round(row: &mut Row) {
    let machine = Machine::boot();
    let section = |number| {
        format!("[device_d{number}]\nwatchTimeOut = 3\nwatchTopics = \"home/d{number}/#\"\n")
    };
    machine.write_config(&config("auto", &(0..DEVICES).map(section).collect::<String>()));
    // A subscriber at QoS 1 would lose what exceeds the broker's queue for it.
    let bus = machine.subscribe_with(
        &["-q", "0"],
        &["home/monitoring/expire/+", "home/monitoring/up", "home/monitoring/availability"],
    );
    machine.start_monitor();
    let pid = machine.monitor_pid();
    bus.wait_topic(0, "home/monitoring/availability");
    let is_expiry = |topic: &str| topic.starts_with("home/monitoring/expire/");
    let first = bus.wait_from(0, "the first expiry", |message| is_expiry(&message.topic));
    let journal = machine.journal();
    let logged = || journal.alerts(&machine, "expired", "");
    eventually("an alert of each device", || (logged() >= DEVICES).then_some(()));
    bus.let_seconds_pass(2);
    row.faults += DEVICES;

    let mut announced: BTreeMap<String, usize> = BTreeMap::new();
    let messages = bus.all();
    for message in messages.iter().filter(|message| is_expiry(&message.topic)) {
        *announced.entry(message.topic.clone()).or_default() += 1;
        let late = message.at.duration_since(first.at);
        row.expect(late <= LATENESS, || format!("{} came {late:?} late", message.topic));
    }
    let twice: usize = announced.values().map(|count| count - 1).sum();
    row.false_alarms = row.false_alarms.map(|count| count + twice);
    row.missed_alarms = row.missed_alarms.map(|count| count + DEVICES - announced.len());
    let entries = logged();
    row.expect(entries == DEVICES, || format!("{entries} entries in the journal"));
    let dropped = journal.now(&machine, |entry| entry.message().contains("were dropped"));
    row.expect(dropped.is_empty(), || format!("{dropped:?}"));
    row.expect(machine.monitor_pid() == pid, || "the watchdog was not fed".to_owned());
}
