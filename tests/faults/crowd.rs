//! A whole fleet falls silent at once, as when its access point fails.

use crate::effort::Effort;
use crate::harness::{Machine, Message, Publisher, config, eventually_within};
use crate::machines::set_up_broker;
use crate::row::Row;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const DEVICES: usize = 10_000;
const TIMEOUT: Duration = Duration::from_secs(5);

/// The last contacts of all are spread over this time, and so are their deadlines.
const SPREAD: Duration = Duration::from_millis(900);

/// How long after its deadline a device may be announced.
const LATENESS: Duration = Duration::from_secs(1);

/// How long journald may take in all for that many entries.
const LOGGED_WITHIN: Duration = Duration::from_secs(60);

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
    // A slow subscriber is to get all that the monitor says.
    set_up_broker(&machine);
    let section = |number| {
        format!("[device_d{number}]\nwatchTimeOut = 5\nwatchTopics = \"fleet/d{number}\"\n")
    };
    machine.write_config(&config("auto", &(0..DEVICES).map(section).collect::<String>()));
    let bus = machine.subscribe(&["home/monitoring/expire/+", "home/monitoring/up"]);
    machine.start_monitor();
    let pid = machine.monitor_pid();
    let journal = machine.journal();
    journal.wait_for_alert("broker-back", "");
    let mut publisher = Publisher::connect(&machine, "fleet").expect("the broker listens");
    let waited_before = waited_for_a_processor(&machine);
    let contacts = speak_once(&mut publisher);
    eventually_within(LOGGED_WITHIN, "an alert of each device", || {
        (journal.alerts_read("expired", "") >= DEVICES).then_some(())
    });
    let allowed = LATENESS + waited_for_a_processor(&machine).saturating_sub(waited_before);
    bus.let_seconds_pass(2);

    row.faults += DEVICES;
    Row::add(&mut row.sent, DEVICES);
    judge(row, &contacts, &bus.all(), allowed);
    let entries = journal.alerts(&machine, "expired", "");
    row.expect(entries == DEVICES, || format!("{entries} entries in the journal"));
    let dropped = journal.now(&machine, |entry| entry.message().contains("were dropped"));
    row.expect(dropped.is_empty(), || format!("{dropped:?}"));
    row.expect(machine.monitor_pid() == pid, || "the watchdog was not fed".to_owned());
}

/// Has each device speak, and returns when each began to.
fn speak_once(publisher: &mut Publisher) -> BTreeMap<String, Instant> {
    let begun = Instant::now();
    let mut contacts = BTreeMap::new();
    for number in 0..DEVICES {
        contacts.insert(format!("d{number}"), Instant::now());
        publisher.say(&format!("fleet/d{number}"), "here").expect("the broker reads");
        let part = u32::try_from(number).expect("a few thousand");
        let due = SPREAD * part / u32::try_from(DEVICES).expect("a few thousand");
        if let Some(early) = due.checked_sub(begun.elapsed()).filter(|_| number % 100 == 0) {
            std::thread::sleep(early);
        }
    }
    contacts
}

/// How long an alarm's way has waited for a processor that something else had: the second field of
/// `/proc/PID/schedstat`, in nanoseconds, and what the hypervisor took (`steal` in proc_stat(5), in
/// hundredths of a second). The monitor is not late for it.
fn waited_for_a_processor(machine: &Machine) -> Duration {
    let script = "(for pid in $(pidof iotmonitor mosquitto mosquitto_sub); do \
                  cat /proc/$pid/task/*/schedstat; done; grep '^cpu ' /proc/stat) | \
                  awk '{ sum += $1 == \"cpu\" ? $9 * 1e7 : $2 } END { printf \"%.0f\", sum }'";
    Duration::from_nanos(machine.sh(script).parse().expect("a sum of nanoseconds"))
}

fn judge(
    row: &mut Row,
    contacts: &BTreeMap<String, Instant>,
    messages: &[Message],
    allowed: Duration,
) {
    let mut expiries: BTreeMap<&str, Vec<Instant>> = BTreeMap::new();
    for message in messages {
        if let Some(device) = message.topic.strip_prefix(EXPIRE) {
            expiries.entry(device).or_default().push(message.at);
        }
    }
    let (mut early, mut twice, mut late) = (0, 0, Duration::ZERO);
    for (device, times) in &expiries {
        // The monitor heard it after it had begun to speak.
        let deadline = contacts[*device] + TIMEOUT;
        early += usize::from(times[0] < deadline);
        twice += times.len() - 1;
        late = late.max(times[0].saturating_duration_since(deadline));
    }
    Row::add(&mut row.false_alarms, early + twice);
    Row::add(&mut row.missed_alarms, DEVICES - expiries.len());
    row.expect(late <= allowed, || format!("an expiry was {late:?} late; allowed are {allowed:?}"));
}
