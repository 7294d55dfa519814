//! Memory with a large fleet whose broker takes nothing any more. With the program as it is
//! released.
//!
//! What bounds it: the outbox holds one publication for each topic, the queue of the journal 16,384
//! entries, that of the store 4,160 commands, that of events 4,096, and a connection a few hundred
//! kilobytes of packets.

use crate::effort::Effort;
use crate::harness::{Machine, eventually_within};
use crate::mute_broker::MuteBroker;
use crate::row::Row;
use std::time::Duration;

const DEVICES: usize = 10_000;

/// What the process may have in memory at any time, in KiB.
const LIMIT: usize = 64 << 10;

const PATIENCE: Duration = Duration::from_secs(90);

pub fn stays_within_its_bound(_effort: &Effort) -> Row {
    let machine = Machine::boot_release();
    let listener = machine.listen(1884).expect("the machine has a loopback");
    let broker = MuteBroker::start(listener);
    let section = |number| {
        format!(
            "[device_d{number}]\nwatchTimeOut = 5\nhelloTopic = \"home/d{number}\"\n\
             watchTopics = \"home/d{number}/sensors/#\"\nstateTopics = \"home/d{number}/set/#\"\n"
        )
    };
    let mut text = "[mqtt]\nserverAddress = \"tcp://127.0.0.1:1884\"\nprotocol = \"3.1.1\"\n\
        keepAlive = 5\n"
        .to_owned();
    text.extend((0..DEVICES).map(section));
    machine.write_config(&text);
    machine.start_monitor();
    let journal = machine.journal();
    let await_alerts = |event: &str, count: usize| {
        eventually_within(PATIENCE, &format!("{count} alerts {event}"), || {
            (journal.alerts(&machine, event, "") >= count).then_some(())
        });
    };
    // They have never been heard; each has a state.
    await_alerts("expired", DEVICES);
    for number in 0..DEVICES {
        let pkid = u16::try_from(number + 1).expect("fewer than MQTT has");
        let topic = format!("home/d{number}/set/light");
        broker.send("iotmonitor-states", &topic, b"a state of twenty byt", Some(pkid));
    }
    broker.fall_mute();
    // Now each has three publications and a restored state that the broker does not take.
    for number in 0..DEVICES {
        broker.send("iotmonitor", &format!("home/d{number}"), b"hello", None);
    }
    await_alerts("recovered", DEVICES);
    let unacknowledged = broker.unacknowledged();
    broker.fall_deaf();
    await_alerts("broker-lost", 1);

    let peak = memory(&machine, "VmHWM:");
    let mut row =
        Row::new("memory stays under 64 MiB with 10 000 devices and a full outbox (release build)");
    row.measured = Some(format!("{} MiB", peak.div_ceil(1 << 10)));
    row.faults = 2;
    row.sent = Some(3 * DEVICES);
    row.expect(unacknowledged > 0, || "the broker was not mute".to_owned());
    row.expect(peak < LIMIT, || {
        format!("{peak} KiB at its peak, {} KiB at the end", memory(&machine, "VmRSS:"))
    });
    row
}

/// A line of the monitor's proc_pid_status(5), in KiB.
fn memory(machine: &Machine, line: &str) -> usize {
    let status = machine.ok(&["cat", &format!("/proc/{}/status", machine.monitor_pid())]);
    let value = status.lines().find_map(|text| text.strip_prefix(line)).expect("it is there");
    value.trim().trim_end_matches(" kB").parse().expect("a number")
}
