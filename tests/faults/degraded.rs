//! What the monitor leans on is away or damaged, and the watching goes on: the journal, D-Bus, the
//! directory of the store, the store.

use crate::effort::Effort;
use crate::harness::{
    Machine, Message, PATIENCE, Subscriber, config, eventually, eventually_within,
};
use crate::machines::start_without_limit;
use crate::row::Row;
use fastrand::Rng;
use std::time::{Duration, Instant};

const MONITOR: &str = "iotmonitor.service";
const AGENT: &str = "iotmonitor-agent-sleeper.service";
const STORE: &str = "/var/lib/iotmonitor";
const JOURNALD: &str = "systemd-journald.service";
const JOURNAL: &str = "systemd-journald.socket systemd-journald-dev-log.socket \
    systemd-journald-audit.socket systemd-journald.service";

const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 1\nhelloTopic = \"home/hello\"\n\
    watchTopics = \"home/lamp/sensors/#\"\nstateTopics = \"home/lamp/set/#\"\n\
    [agent_sleeper]\nexec = \"exec sleep infinity\"\n";

const EXPIRE: &str = "home/monitoring/expire/lamp";
const RECOVER: &str = "home/monitoring/recover/lamp";

/// Everything that is announced by MQTT is in the journal afterwards, whatever becomes of journald.
pub fn journal_is_away(effort: &Effort) -> Row {
    let mut row = Row::new("alerts go out while journald is away, and are in the journal after it");
    (row.lost, row.missed_alarms) = (Some(0), Some(0));
    let machine = Machine::boot();
    start_without_limit(&machine, JOURNALD);
    let bus = machine.launch(&config("auto", SECTIONS));
    let pid = machine.monitor_pid();
    let mut random = effort.random();
    while effort.goes_on(row.faults, 6) {
        let alarms = random.usize(1..4);
        // The fifth alarm would be taken for flapping; a person's choice begins the count anew.
        machine.sh("iotmonitor disable lamp; iotmonitor enable lamp");
        match row.faults % 3 {
            0 => {
                machine.ok(&["systemctl", "restart", JOURNALD]);
                sound(&machine, &bus, alarms);
            }
            1 => {
                machine.ok(&["systemctl", "kill", "-s", "KILL", JOURNALD]);
                sound(&machine, &bus, alarms);
            }
            _ => {
                machine.sh(&format!("systemctl stop {JOURNAL}"));
                sound(&machine, &bus, alarms);
                // It brings the socket along that this is about. Started by themselves, the sockets
                // would let in waiting clients before all of them are there.
                machine.ok(&["systemctl", "start", JOURNALD]);
            }
        }
        row.faults += 1;
    }
    row.expect(machine.monitor_pid() == pid, || "the monitor was restarted".to_owned());
    let announced = |topic| bus.count(0, topic);
    let expected = announced(EXPIRE) + announced(RECOVER);
    // A follower of the journal loses it with journald; a later query sees all.
    let logged = || -> usize {
        let kinds = ["IOTMONITOR_EVENT=expired", "+", "IOTMONITOR_EVENT=recovered"];
        let entries = machine.ok(&[&["journalctl", "-o", "cat"], &kinds[..]].concat());
        entries.lines().count()
    };
    let all = ask_for(PATIENCE, logged, |&count| count >= expected);
    row.sent = Some(expected);
    row.lost = Some(expected.saturating_sub(all));
    row
}

/// Asks until the answer fits or the time is up; gives the last answer.
fn ask_for<T>(time: Duration, mut ask: impl FnMut() -> T, fits: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + time;
    loop {
        let answer = ask();
        if fits(&answer) || Instant::now() > deadline {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// So many alarms and recoveries, as the broker's subscribers see them.
fn sound(machine: &Machine, bus: &Subscriber, alarms: usize) {
    for _ in 0..alarms {
        let from = bus.end();
        eventually("a contact to be heard", || {
            machine.publish("home/lamp/sensors/light", "here");
            bus.within(from, Duration::from_secs(1), |message| message.topic == RECOVER)
        });
        bus.wait_topic(from, EXPIRE);
    }
}

/// The bus is away for a while, and an agent dies meanwhile; the store's directory is read-only.
pub fn bus_and_directory_are_away(effort: &Effort) -> Row {
    let mut row = Row::new("watching and agents go on without D-Bus and with a read-only store");
    (row.lost, row.missed_alarms) = (Some(0), Some(0));
    let machine = Machine::boot();
    machine.sh(&format!("mkdir -p {STORE}; mount -t tmpfs -o ro,mode=700 tmpfs {STORE}"));
    let bus = machine.launch(&config("auto", SECTIONS));
    let journal = machine.journal();
    let alerts = |event: &str| journal.alerts(&machine, event, "");
    journal.wait_for_alert("store-failed", "");
    sound(&machine, &bus, 2);
    row.faults += 1;
    // The service has mounts of its own, which took over that this one was read-only.
    machine.ok(&["mount", "-o", "remount,rw", STORE]);
    let pid = machine.monitor_pid().to_string();
    machine.sh(&format!("mount -N {pid} -o remount,bind,rw {STORE}"));
    journal.wait_for_alert("store-back", "");
    let state = machine.await_recording(&bus, "home/lamp/set/colour", "home/hello");

    let mut rounds = 0;
    while effort.goes_on(rounds, 1) {
        rounds += 1;
        let (lost, back) = (alerts("manager-lost"), alerts("manager-back"));
        let agent = machine.main_pid(AGENT);
        machine.ok(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
        let from = bus.end();
        let reported = || (alerts("manager-lost") > lost).then_some(());
        eventually("the loss of the bus to be reported", reported);
        machine.signal(nix::sys::signal::Signal::SIGKILL, agent);
        machine.await_new_main_pid(AGENT, agent);
        sound(&machine, &bus, effort.either(2, 30));
        row.expect(alerts("manager-lost") == lost + 1, || "the loss is reported again".to_owned());
        machine.ok(&["systemctl", "start", "dbus.socket", "dbus.service"]);
        eventually_within(Duration::from_secs(30), "the bus to be back", || {
            (alerts("manager-back") > back).then_some(())
        });
        bus.wait_topic(from, "home/monitoring/startedprocess/sleeper");
        row.faults += 1;
    }
    let from = bus.end();
    machine.publish("home/hello", "hello");
    let restored = |message: &Message| message.is("home/lamp/set/colour", &state);
    row.lost = Some(usize::from(bus.within(from, Duration::from_secs(10), restored).is_none()));
    row
}

/// States that a damaged store may not give back in another shape.
const STATES: usize = 24;

/// The store's file is damaged while the monitor is down or at work.
pub fn store_is_damaged(effort: &Effort) -> Row {
    let mut row =
        Row::new("a damaged store is reported, yields no wrong value, and stops no watching");
    (row.lost, row.missed_alarms) = (Some(0), Some(0));
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    let agent = machine.await_new_main_pid(AGENT, 0);
    let mut random = effort.random();
    while effort.goes_on(row.faults, 5) {
        record(&machine, &bus, row.faults);
        let before = put_aside(&machine);
        let damage = Damage::any(&mut random, row.faults);
        damage.make(&machine, &mut random);
        let from = bus.end();
        sound(&machine, &bus, 1);
        machine.publish("home/hello", "hello");
        let round = row.faults;
        let missing = missing_states(&bus, from, round);
        let is_reported = ask_for(
            PATIENCE,
            || put_aside(&machine) > before,
            |&is_reported| is_reported || missing == 0,
        );
        if missing > 0 && !is_reported {
            row.missed_alarms = row.missed_alarms.map(|count| count + 1);
            row.broken.push(format!("{damage:?}: {missing} states are gone without a word"));
        }
        let wrong = wrong_states(&bus, from, round);
        row.expect(wrong.is_empty(), || format!("{damage:?}: {wrong:?} is wrong"));
        row.faults += 1;
    }
    row.expect(machine.main_pid(AGENT) == agent, || "the agent was touched".to_owned());
    row.expect(machine.is_active(MONITOR), || "the monitor is down".to_owned());
    row
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Random bytes at random places.
    Flips(usize),
    Truncated,
    /// One page of nothing.
    Hole,
    /// While the file is open and mapped.
    TruncatedAtWork,
}

impl Damage {
    fn any(random: &mut Rng, number: usize) -> Self {
        match number % 4 {
            0 => Self::Flips(random.usize(1..64)),
            1 => Self::Truncated,
            2 => Self::TruncatedAtWork,
            _ => Self::Hole,
        }
    }

    fn make(self, machine: &Machine, random: &mut Rng) {
        let file = format!("{STORE}/data.mdb");
        let at_work = matches!(self, Self::TruncatedAtWork);
        if !at_work {
            machine.stop_monitor();
        }
        let mut data = machine.read_file(&file);
        match self {
            Self::Flips(count) => {
                for _ in 0..count {
                    let place = random.usize(0..data.len());
                    data[place] = random.u8(..);
                }
            }
            Self::Hole => {
                let page = 4_096 * random.usize(0..data.len() / 4_096);
                data[page..page + 4_096].fill(0);
            }
            Self::Truncated | Self::TruncatedAtWork => data.truncate(random.usize(1..data.len())),
        }
        if at_work {
            machine.ok(&["truncate", "-s", &data.len().to_string(), &file]);
            machine.publish("home/hello", "hello");
            machine.publish("home/lamp/set/other", "what is new has to be written");
        } else {
            machine.write_file(&file, &data);
            machine.start_monitor();
        }
    }
}

fn value(round: usize, state: usize) -> String {
    format!("round {round} state {state} {}", "x".repeat(200))
}

/// Records the states of a round, and sees that all of them can be given back.
fn record(machine: &Machine, bus: &Subscriber, round: usize) {
    machine.await_recording(bus, "home/lamp/set/warm-up", "home/hello");
    for state in 0..STATES {
        machine.publish(&format!("home/lamp/set/{state}"), &value(round, state));
    }
    eventually("all states to be recorded", || {
        let from = bus.end();
        machine.publish("home/hello", "hello");
        (missing_states(bus, from, round) == 0).then_some(())
    });
}

/// How many of a round's states have not come from there on, within three seconds.
fn missing_states(bus: &Subscriber, from: usize, round: usize) -> usize {
    let missing = || {
        let came = bus.since(from);
        let is_missing = |state: &usize| {
            let (topic, value) = (format!("home/lamp/set/{state}"), value(round, *state));
            !came.iter().any(|message| message.is(&topic, &value))
        };
        (0..STATES).filter(is_missing).count()
    };
    ask_for(Duration::from_secs(3), missing, |&count| count == 0)
}

/// What came that was never said in this round.
fn wrong_states(bus: &Subscriber, from: usize, round: usize) -> Vec<Message> {
    let is_wrong = |message: &Message| {
        let Some(state) = message.topic.strip_prefix("home/lamp/set/") else { return false };
        state.parse().is_ok_and(|state: usize| message.text() != value(round, state))
    };
    bus.since(from).into_iter().filter(is_wrong).collect()
}

fn put_aside(machine: &Machine) -> usize {
    machine.journal().alerts(machine, "store-put-aside", "")
}
