//! No false alarm and no missed one, whatever happens between a device and the monitor.
//!
//! In each round some devices fall silent, before a fault or in it, while the others talk on. The
//! silent ones have to be announced once and no other, in the journal and on MQTT.

use crate::effort::Effort;
use crate::fleet::{Fleet, TIMEOUT};
use crate::harness::{Machine, PATIENCE, Subscriber, config, eventually};
use crate::machines;
use crate::row::Row;
use fastrand::Rng;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

const DEVICES: usize = 24;

/// How many fall silent in a round.
const SILENT: usize = 5;

/// What the monitor is configured with: the shortest that there is.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Makes a fault that lasts for this long.
type Fault = fn(&Machine, Duration);

pub fn over_restarts_of_the_broker(effort: &Effort) -> Row {
    let row = Row::new("no false and no missed alarm over restarts of the broker");
    rounds(row, effort, |machine, time| {
        machine.ok(&["systemctl", "stop", "mosquitto"]);
        thread::sleep(time);
        machine.ok(&["systemctl", "start", "mosquitto"]);
    })
}

pub fn with_a_broker_that_hangs(effort: &Effort) -> Row {
    let row = Row::new("… with a broker that hangs");
    rounds(row, effort, |machine, time| {
        let broker = machine.main_pid("mosquitto.service");
        machine.signal(Signal::SIGSTOP, broker);
        thread::sleep(time);
        machine.signal(Signal::SIGCONT, broker);
    })
}

pub fn with_a_broker_that_says_nothing(effort: &Effort) -> Row {
    let row = Row::new("… with a broker that accepts connections and says nothing");
    rounds(row, effort, |machine, time| {
        machine.ok(&["systemctl", "stop", "mosquitto"]);
        let listener = eventually("the broker's port to be free", || machine.listen(1884).ok());
        accept_and_say_nothing(&listener, time);
        drop(listener);
        machine.ok(&["systemctl", "start", "mosquitto"]);
    })
}

pub fn on_a_dead_link(effort: &Effort) -> Row {
    let row = Row::new("… on connections that are half open, all their traffic dropped");
    rounds(row, effort, |machine, time| {
        machine.sh("nft add table inet faults; \
             nft 'add chain inet faults input { type filter hook input priority 0; }'; \
             nft 'add rule inet faults input tcp dport 1884 drop'; \
             nft 'add rule inet faults input tcp sport 1884 drop'");
        thread::sleep(time);
        machine.ok(&["nft", "delete", "table", "inet", "faults"]);
    })
}

pub fn of_a_monitor_that_was_stopped(effort: &Effort) -> Row {
    let row = Row::new("… with a monitor that was stopped and goes on (SIGSTOP, SIGCONT)");
    rounds(row, effort, |machine, time| {
        let monitor = machine.monitor_pid();
        machine.signal(Signal::SIGSTOP, monitor);
        thread::sleep(time);
        machine.signal(Signal::SIGCONT, monitor);
    })
}

/// Holds every connection that comes, and answers none.
fn accept_and_say_nothing(listener: &TcpListener, time: Duration) {
    let deadline = Instant::now() + time;
    let mut held = Vec::new();
    listener.set_nonblocking(true).expect("a socket of TCP");
    while Instant::now() < deadline {
        held.extend(listener.accept());
        thread::sleep(Duration::from_millis(20));
    }
}

fn rounds(mut row: Row, effort: &Effort, fault: Fault) -> Row {
    let mut random = effort.random();
    let mut protocols = ["5", "3.1.1"];
    random.shuffle(&mut protocols);
    let mut done = 0;
    while effort.goes_on(done, 1) {
        on_one_machine(&mut row, protocols[done % 2], fault, &mut random);
        done += 1;
    }
    row
}

fn on_one_machine(row: &mut Row, protocol: &str, fault: Fault, random: &mut Rng) {
    let machine = Machine::boot();
    machines::set_up_broker(&machine);
    let fleet = Fleet::new(DEVICES);
    let text = config(protocol, &fleet.sections());
    let keep_alive = format!("[mqtt]\nkeepAlive = {}\n", KEEP_ALIVE.as_secs());
    machine.write_config(&text.replace(":1883", ":1884").replace("[mqtt]\n", &keep_alive));
    // Its session keeps what goes out while it comes back itself.
    let bus = machine.subscribe_with(&["-c", "-i", "observer"], &["home/monitoring/expire/+"]);
    thread::scope(|scope| {
        let _voice = fleet.voice();
        scope.spawn(|| fleet.talk(&machine));
        machine.start_monitor();
        eventually("all devices to be alive", || {
            let all = format!("{DEVICES} devices, 0 expired");
            machine.property("iotmonitor", "StatusText").contains(&all).then_some(())
        });
        let mut silences = BTreeMap::new();
        // Shorter than the devices' timeout, longer than that, longer than the keep alive.
        for most in [TIMEOUT, 2 * TIMEOUT, 2 * KEEP_ALIVE] {
            let least = most / 2;
            let spread = u64::try_from((most - least).as_millis()).expect("seconds");
            let time = least + Duration::from_millis(random.u64(..spread));
            one_silence(row, &machine, &fleet, &mut silences, || fault(&machine, time), random);
        }
        count(row, &machine, &bus, &silences);
    });
    Row::add(&mut row.sent, fleet.sent());
}

/// Lets some fall silent around a fault, waits for their alarms, and lets them talk again.
fn one_silence(
    row: &mut Row,
    machine: &Machine,
    fleet: &Fleet,
    silences: &mut BTreeMap<usize, usize>,
    fault: impl FnOnce() + Send,
    random: &mut Rng,
) {
    let silent = random.choose_multiple(0..DEVICES, SILENT);
    let (before, during) = silent.split_at(random.usize(..=SILENT));
    let delay = Duration::from_millis(random.u64(..1000));
    before.iter().for_each(|device| fleet.let_talk(*device, false));
    thread::scope(|scope| {
        let fault = scope.spawn(fault);
        // They fall silent at any moment of the fault.
        thread::sleep(delay);
        during.iter().for_each(|device| fleet.let_talk(*device, false));
        fault.join().expect("the fault is made");
    });
    let journal = machine.journal();
    let deadline = Instant::now() + PATIENCE;
    for device in &silent {
        let times = silences.entry(*device).or_default();
        *times += 1;
        // One that is missed is counted in the end.
        while journal.alerts_read("expired", &Fleet::name(*device)) < *times
            && Instant::now() < deadline
        {
            thread::sleep(Duration::from_millis(50));
        }
    }
    silent.iter().for_each(|device| fleet.let_talk(*device, true));
    for device in &silent {
        let name = Fleet::name(*device);
        eventually(&format!("{name} to recover"), || {
            let expired = journal.alerts_read("expired", &name);
            (journal.alerts_read("recovered", &name) >= expired).then_some(())
        });
    }
    eventually("the status to count no device as expired", || {
        let text = machine.property("iotmonitor", "StatusText");
        text.contains(" 0 expired").then_some(())
    });
    row.faults += 1;
}

/// Compares the alarms that there were with the silences that there were.
fn count(row: &mut Row, machine: &Machine, bus: &Subscriber, silences: &BTreeMap<usize, usize>) {
    let journal = machine.journal();
    let (mut unfounded, mut missed) = (0, 0);
    for device in 0..DEVICES {
        let name = Fleet::name(device);
        let times = silences.get(&device).copied().unwrap_or_default();
        let logged = journal.alerts(machine, "expired", &name);
        let topic = format!("home/monitoring/expire/{name}");
        let published = bus.count(0, &topic);
        // What is sent again after a reconnection may come twice, and the journal decides.
        let unsaid = times.saturating_sub(logged.min(published));
        let unmeant = logged.saturating_sub(times);
        if unsaid + unmeant > 0 {
            row.broken.push(format!(
                "{name} was silent {times} times; {logged} alerts, {published} publications"
            ));
        }
        unfounded += unmeant;
        missed += unsaid;
    }
    Row::add(&mut row.false_alarms, unfounded);
    Row::add(&mut row.missed_alarms, missed);
}
