//! Agents and the monitor are killed, stopped and confused at random, and every agent has one main
//! process or is within its delay.

use crate::effort::Effort;
use crate::harness::{Entry, GARDEN, Machine, config, eventually, eventually_within};
use crate::observer::{self, Gap, Observer, section};
use crate::row::Row;
use fastrand::Rng;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Agents that are well and are hit; `stubborn` ignores SIGTERM and is killed after its stopTimeout.
const TARGETS: [&str; 4] = ["alder", "beech", "cedar", "stubborn"];

/// The longest delay of each target, and the time that the tired machine gets for the rest.
const LONGEST_DELAY: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_secs(5);

/// Processes that the bomb may have.
const BOMB_TASKS: usize = 24;

pub fn one_process_each(effort: &Effort) -> Row {
    let mut row = Row::new("each agent has one main process or is within its delay, and never two");
    (row.lost, row.false_alarms) = (Some(0), Some(0));
    let machine = Machine::boot();
    observer::prepare(&machine);
    let bus = machine.launch(&config("auto", &sections()));
    for agent in TARGETS.iter().chain(&["bomb"]) {
        bus.wait_topic(0, &format!("home/monitoring/startedprocess/{agent}"));
    }
    explode(&machine, &mut row);
    let observer = Observer::start(&machine, &TARGETS);
    let mut away = Vec::new();
    let measuring = Mutex::new(true);
    // Before systemd is executed anew, which cuts off every client that waits for its answer.
    machine.write_garden(FAILING);
    machine.ok(&["systemctl", "start", GARDEN]);
    std::thread::scope(|scope| {
        let failing = scope.spawn(|| fail_for_ever(&machine, &measuring));
        let mut random = effort.random();
        let mut done = 0;
        while effort.goes_on(done, 60) || !failing.is_finished() {
            let fault = Fault::any(&mut random);
            let measuring = measuring.lock().expect("the other thread goes on");
            if *measuring && fault.takes_systemd_away() {
                continue;
            }
            let from = Instant::now();
            let reach = fault.make(&machine, &mut random);
            drop(measuring);
            away.extend(reach.map(|reach| Gap { from, to: from + reach }));
            done += 1;
            // The next one comes at any moment of what this one has set off.
            std::thread::sleep(Duration::from_millis(random.u64(0..500)));
        }
        row.faults += done;
        match failing.join() {
            Ok(broken) => row.broken.extend(broken),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });

    settle(&machine);
    let mut seen = observer.finish();
    away.append(&mut seen["monitor"].gaps.clone());
    for agent in TARGETS {
        let sighting = seen.remove(agent).expect("it was looked at");
        let late = sighting.longer_than(LONGEST_DELAY + SLACK, &away);
        row.lost = row.lost.map(|count| count + late.len());
        row.expect(late.is_empty(), || format!("`{agent}` was down for {late:?}"));
        row.expect(!sighting.gaps.is_empty(), || format!("`{agent}` was never hit"));
    }
    let twice = observer::notes(&machine);
    row.expect(twice.is_empty(), || format!("two at once: {twice:?}"));
    count_false_alarms(&machine, &mut row);
    row
}

fn sections() -> String {
    let quick = "restartSec = 1\nrestartMaxSec = 2";
    let mut text: String =
        ["alder", "beech", "cedar"].iter().map(|name| section(name, "", quick)).collect();
    text += &section("stubborn", "trap '' TERM", &format!("{quick}\nstopTimeout = 1"));
    text + &section("bomb", BOMB, &format!("{quick}\nstopTimeout = 1\ntasksMax = {BOMB_TASKS}"))
}

/// Fires when it is requested. Its second limit is only there for a machine on which the first,
/// which is what this is about, is not enforced.
const BOMB: &str = "ulimit -u 400\n\
    (while ! test -e /run/agents/go; do sleep 0.1; done; b() { b & b & }; b) 2> /dev/null &";

/// Sets the bomb off, sees that its limit holds it, and that it comes back as one process.
fn explode(machine: &Machine, row: &mut Row) {
    let unit = "iotmonitor-agent-bomb.service";
    let old = machine.main_pid(unit);
    let limit = TaskLimit::of(machine, unit);
    machine.ok(&["touch", "/run/agents/go"]);
    eventually("the bomb to meet its limit", || (limit.hits() > 0).then_some(()));
    machine.ok(&["rm", "/run/agents/go"]);
    row.expect(machine.main_pid(unit) == old, || "the bomb took its own agent down".to_owned());
    machine.ok(&["systemctl", "kill", "--kill-who=main", "-s", "KILL", unit]);
    machine.await_new_main_pid(unit, old);
    eventually("nothing else to be left of the bomb", || {
        (observer::living(machine, "bomb") == 1).then_some(())
    });
    row.faults += 1;
}

/// The limit of a unit's tasks, which systemd has the kernel enforce where its cgroups can. On a
/// machine whose controller of tasks belongs to the old hierarchy they cannot: then the unit's
/// processes get the same limit there.
struct TaskLimit {
    group: PathBuf,
    is_own: bool,
}

impl TaskLimit {
    fn of(machine: &Machine, unit: &str) -> Self {
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let unified = machine.path(&format!("/sys/fs/cgroup/iotmonitor.slice/{unit}"));
        let limit = machine.property(unit, "TasksMax");
        if unified.join("pids.max").exists() {
            assert_eq!(read(unified.join("pids.max")).trim(), limit);
            return Self { group: unified, is_own: false };
        }
        let group = PathBuf::from("/sys/fs/cgroup/pids").join(machine.name());
        std::fs::create_dir(&group).expect("one of the two hierarchies limits tasks");
        std::fs::write(group.join("pids.max"), limit).expect("root sets limits");
        for pid in read(unified.join("cgroup.procs")).lines() {
            // A child that has ended meanwhile cannot be moved.
            let _ = std::fs::write(group.join("cgroup.procs"), pid);
        }
        assert!(!read(group.join("cgroup.procs")).is_empty(), "the bomb has a limit");
        Self { group, is_own: true }
    }

    /// How often a new task was refused.
    fn hits(&self) -> u64 {
        let events = std::fs::read_to_string(self.group.join("pids.events")).unwrap_or_default();
        let max = events.lines().find_map(|line| line.strip_prefix("max "));
        max.and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

impl Drop for TaskLimit {
    fn drop(&mut self) {
        if self.is_own {
            // Fails while the processes live, which end with their machine.
            let _ = std::fs::remove_dir(&self.group);
        }
    }
}

/// Something that is done to agents, the monitor, or what is between them.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillMain(&'static str),
    KillChildren,
    KillAll,
    Systemctl(&'static [&'static str]),
    KillMonitor,
    Reload,
    Reexec,
    RestartBusWithJobsQueued,
}

impl Fault {
    fn any(random: &mut Rng) -> Self {
        match random.u32(0..24) {
            0..3 => Self::KillMain("KILL"),
            3..6 => Self::KillMain("TERM"),
            6..8 => Self::KillMain("SEGV"),
            8..10 => Self::KillChildren,
            10..12 => Self::KillAll,
            12..15 => Self::Systemctl(&["stop"]),
            15 => Self::Systemctl(&["stop", "--no-block"]),
            16 => Self::Systemctl(&["restart", "--no-block"]),
            17..19 => Self::Systemctl(&["reset-failed"]),
            19 => Self::Systemctl(&["kill", "--signal=KILL"]),
            20 => Self::Reload,
            21 => Self::Reexec,
            22 => Self::RestartBusWithJobsQueued,
            _ => Self::KillMonitor,
        }
    }

    /// Whether no relaunch can be made for a while.
    fn takes_systemd_away(self) -> bool {
        matches!(self, Self::Reexec | Self::RestartBusWithJobsQueued)
    }

    /// Makes the fault, and says for how long the monitor may be deaf to systemd by it.
    fn make(self, machine: &Machine, random: &mut Rng) -> Option<Duration> {
        let target = TARGETS[random.usize(0..TARGETS.len())];
        let unit = format!("iotmonitor-agent-{target}.service");
        // What is to be hit may be down already: then nothing happens, as it would to a person.
        match self {
            Self::KillMain(signal) => {
                machine.run(&["systemctl", "kill", "--kill-who=main", "-s", signal, &unit]);
            }
            Self::KillChildren => {
                machine.run(&["pkill", "-KILL", "-f", &format!("^child-{target}")]);
            }
            Self::KillAll => {
                machine.run(&["pkill", "-KILL", "-f", &format!("^(child|main)-{target}")]);
            }
            Self::Systemctl(words) => {
                machine.run(&[&["systemctl"], words, &[unit.as_str()]].concat());
            }
            Self::KillMonitor => {
                machine.run(&["systemctl", "kill", "-s", "KILL", "iotmonitor.service"]);
            }
            Self::Reload => {
                machine.ok(&["systemctl", "daemon-reload"]);
            }
            Self::Reexec => {
                machine.ok(&["systemctl", "daemon-reexec"]);
            }
            Self::RestartBusWithJobsQueued => {
                machine.sh("systemctl stop --no-block 'iotmonitor-agent-*.service'
                     systemctl restart dbus.service");
                // Connections that end soon after each other are made again ever more slowly.
                return Some(Duration::from_secs(10));
            }
        }
        None
    }
}

/// Another instance, whose monitor is never killed, so that its memory of failures is not lost.
const FAILING: &str = "[agent_failing]\nrestartSec = 2\nrestartMaxSec = 6\n\
    exec = 'echo try; test -e /run/agents/well || exit 3; exec sleep infinity'\n\
    [agent_probe]\nrestartSec = 1\nexec = 'exec sleep infinity'\n";
const PROBE_UNIT: &str = "iotmonitor-garden-agent-probe.service";
const FAILING_UNIT: &str = "iotmonitor-garden-agent-failing.service";

/// Tries less than this apart are of one step: systemd's own, at once one after the other.
const ONE_STEP: Duration = Duration::from_secs(1);

/// Has an agent exit at once for ever, be well for a while, and fail again; says what was wrong.
/// While delays are measured systemd and the bus are to stay: without them no relaunch can be made.
fn fail_for_ever(machine: &Machine, measuring: &Mutex<bool>) -> Vec<String> {
    let measure = |on| *measuring.lock().expect("the other thread goes on") = on;
    let mut broken = Vec::new();
    let growing = await_steps(machine, 0, 4);
    // Each is up to a quarter shorter than its turn, and the machine is tired.
    for (delay, (least, most)) in delays(&growing).zip([(1.5, 2.0), (3.0, 4.0), (4.5, 6.0)]) {
        if !(least..most + 1.5).contains(&delay) {
            broken.push(format!("a delay of {delay:.1} s instead of {least} to {most} s"));
        }
    }
    machine.ok(&["touch", "/run/agents/well"]);
    measure(false);
    let journal = machine.journal();
    let alerts = |event| journal.alerts(machine, event, "failing");
    let healthy = |entry: &Entry| entry.is_alert("agent-healthy", "failing");
    journal.wait_for_within("health", Duration::from_secs(60), healthy);
    if alerts("agent-failed") != 1 {
        broken.push(format!("{} alerts of one row of failures", alerts("agent-failed")));
    }
    measure(true);
    // Who has lost the bus just now hears of no failure until it has it again.
    let old = machine.main_pid(PROBE_UNIT);
    machine.ok(&["systemctl", "stop", PROBE_UNIT]);
    machine.await_new_main_pid(PROBE_UNIT, old);
    let begin = tries(machine).len();
    machine.sh(&format!(
        "rm /run/agents/well; kill -KILL $(cat /sys/fs/cgroup/iotmonitor.slice/{FAILING_UNIT}/cgroup.procs)"
    ));
    let afresh = await_steps(machine, begin, 2);
    if let Some(delay) = delays(&afresh).next().filter(|&delay| delay > 3.5) {
        broken.push(format!("after its health the first delay is {delay:.1} s"));
    }
    if alerts("agent-failed") != 2 {
        broken.push("the second row of failures was not reported".to_owned());
    }
    broken
}

/// When the tries were, in seconds.
fn tries(machine: &Machine) -> Vec<f64> {
    let is_try =
        |entry: &Entry| entry.message() == "try" && entry.field("_SYSTEMD_UNIT") == FAILING_UNIT;
    let entries = machine.journal().now(machine, is_try);
    entries.iter().map(|entry| entry.micros() as f64 / 1e6).collect()
}

/// Waits for this many steps after so many tries; gives the times of each step's tries.
fn await_steps(machine: &Machine, after: usize, count: usize) -> Vec<Vec<f64>> {
    eventually_within(Duration::from_secs(60), &format!("{count} steps of tries"), || {
        let mut steps: Vec<Vec<f64>> = Vec::new();
        for time in tries(machine).into_iter().skip(after) {
            match steps.last_mut() {
                Some(step) if time - step[step.len() - 1] < ONE_STEP.as_secs_f64() => {
                    step.push(time);
                }
                _ => steps.push(vec![time]),
            }
        }
        (steps.len() >= count).then_some(steps)
    })
}

/// The time between each step's last try and the first of the next one.
fn delays(steps: &[Vec<f64>]) -> impl Iterator<Item = f64> {
    steps.windows(2).map(|pair| pair[1][0] - pair[0][pair[0].len() - 1])
}

/// All is well again, and the monitor knows it.
fn settle(machine: &Machine) {
    for agent in TARGETS {
        eventually(&format!("{agent} to have one main process"), || {
            (observer::living(machine, agent) == 1).then_some(())
        });
    }
    let running = format!("{0} agents, {0} running", TARGETS.len() + 1);
    // The last fault may have hit the monitor, whose words systemd keeps until it starts again.
    eventually("the monitor to be up and know it", || {
        (machine.is_active("iotmonitor.service")
            && machine.property("iotmonitor.service", "StatusText").contains(&running))
        .then_some(())
    });
}

/// That an agent could not be started or stopped is said of what could be. To stop one whose
/// start is queued cancels the start, and to kill one as it starts makes the start fail; that is no false
/// alarm, and neither is that of one that exits at once.
fn count_false_alarms(machine: &Machine, row: &mut Row) {
    let entries = machine.journal().now(machine, |_| true);
    let is_excused = |alarm: &Entry| {
        alarm.is_alert("agent-failed", "failing")
            || alarm.message().contains("canceled")
            || (alarm.message().contains("failed to start") && was_killed(alarm, &entries))
    };
    let alarms: Vec<&Entry> = entries
        .iter()
        .filter(|entry| {
            entry.is_alert("agent-failed", "") && entry.message().contains(" cannot be ")
        })
        .filter(|alarm| !is_excused(alarm))
        .collect();
    row.false_alarms = Some(alarms.len());
    row.broken.extend(alarms.iter().map(|alarm| alarm.message().to_owned()));
}

/// Whether systemd has seen the process of the unit that an alarm names killed just before it.
fn was_killed(alarm: &Entry, entries: &[Entry]) -> bool {
    /// An alarm waits for what the unit has said last.
    const ACCOUNT: u64 = 3_000_000;
    entries.iter().any(|entry| {
        let unit = entry.field("UNIT");
        (alarm.micros().saturating_sub(ACCOUNT)..=alarm.micros()).contains(&entry.micros())
            && !unit.is_empty()
            && alarm.message().contains(unit)
            && entry.message().contains("code=killed")
    })
}
