//! A whole fleet falls silent at once, as when its access point fails.

use crate::effort::Effort;
use crate::harness::{Machine, Message, Publisher, config, eventually};
use crate::row::Row;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const DEVICES: usize = 10_000;
const TIMEOUT: Duration = Duration::from_secs(5);

/// The last contacts of all are spread over this time, and so are their deadlines.
const SPREAD: Duration = Duration::from_millis(900);

/// How long after its deadline a device may be announced.
const LATENESS: Duration = Duration::from_secs(1);

/// How much earlier the monitor may have heard a contact than our subscriber.
const HEAD_START: Duration = Duration::from_millis(300);

const EXPIRE: &str = "home/monitoring/expire/";

/// Each device is announced once and in time, and the journal has each.
pub fn expires_at_once(effort: &Effort) -> Row {
    let mut row = Row::new(
        "10,000 devices that fall silent within a second are each announced once, at most 1 s late",
    );
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
        format!("[device_d{number}]\nwatchTimeOut = 5\nwatchTopics = \"fleet/d{number}\"\n")
    };
    machine.write_config(&config("auto", &(0..DEVICES).map(section).collect::<String>()));
    // A subscriber at QoS 1 would lose what exceeds the broker's queue for it.
    let filters = ["fleet/+", "home/monitoring/expire/+", "home/monitoring/up"];
    let bus = machine.subscribe_with(&["-q", "0"], &filters);
    machine.start_monitor();
    let pid = machine.monitor_pid();
    let journal = machine.journal();
    journal.wait_for_alert("broker-back", "");
    let mut publisher = Publisher::connect(&machine, "fleet").expect("the broker listens");
    speak_once(&mut publisher);
    let waited_before = waited_for_a_processor(&machine);
    let logged = || journal.alerts(&machine, "expired", "");
    eventually("an alert of each device", || (logged() >= DEVICES).then_some(()));
    let allowed = LATENESS + waited_for_a_processor(&machine).saturating_sub(waited_before);
    bus.let_seconds_pass(2);

    row.faults += DEVICES;
    Row::add(&mut row.sent, DEVICES);
    judge(row, &bus.all(), allowed);
    let entries = logged();
    row.expect(entries == DEVICES, || format!("{entries} entries in the journal"));
    let dropped = journal.now(&machine, |entry| entry.message().contains("were dropped"));
    row.expect(dropped.is_empty(), || format!("{dropped:?}"));
    row.expect(machine.monitor_pid() == pid, || "the watchdog was not fed".to_owned());
}

fn speak_once(publisher: &mut Publisher) {
    let begun = Instant::now();
    for number in 0..DEVICES {
        publisher.say(&format!("fleet/d{number}"), "here").expect("the broker reads");
        let part = u32::try_from(number).expect("a few thousand");
        let due = SPREAD * part / u32::try_from(DEVICES).expect("a few thousand");
        if let Some(early) = due.checked_sub(begun.elapsed()).filter(|_| number % 100 == 0) {
            std::thread::sleep(early);
        }
    }
}

/// How long the kernel has let an alarm's way wait for a processor that something else had: the
/// second field of /proc/PID/schedstat, in nanoseconds. The monitor is not late for it.
fn waited_for_a_processor(machine: &Machine) -> Duration {
    let script = "for pid in $(pidof iotmonitor mosquitto mosquitto_sub); do \
                  cat /proc/$pid/task/*/schedstat; done | awk '{ sum += $2 } END { printf \"%.0f\", sum }'";
    Duration::from_nanos(machine.sh(script).parse().expect("a sum of nanoseconds"))
}

fn judge(row: &mut Row, messages: &[Message], allowed: Duration) {
    let at = |prefix: &str| {
        let mut times: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
        for message in messages {
            if let Some(device) = message.topic.strip_prefix(prefix) {
                times.entry(device.to_owned()).or_default().push(message.at);
            }
        }
        times
    };
    let (contacts, expiries) = (at("fleet/"), at(EXPIRE));
    let (mut early, mut twice, mut late) = (0, 0, Duration::ZERO);
    for (device, times) in &expiries {
        let deadline = contacts[device][0] + TIMEOUT;
        early += usize::from(times[0] + HEAD_START < deadline);
        twice += times.len() - 1;
        late = late.max(times[0].saturating_duration_since(deadline));
    }
    Row::add(&mut row.false_alarms, early + twice);
    Row::add(&mut row.missed_alarms, DEVICES - expiries.len());
    row.expect(late <= allowed, || format!("an expiry was {late:?} late; allowed are {allowed:?}"));
}
