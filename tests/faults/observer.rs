//! Looks at agents' processes all the time, and asks neither the monitor nor systemd.
//!
//! That there are never two of one is proven by the agents themselves: each holds a lock as long as
//! it or a child of it lives, and one that finds it held leaves a note (see [`section`]). That there
//! is one is seen in its cgroup, every few milliseconds.

use crate::harness::Machine;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where agents hold their locks.
const DIRECTORY: &str = "/run/agents";
/// What one writes to that found its lock held.
const NOTES: &str = "/run/agents/twice";

const PAUSE: Duration = Duration::from_millis(10);

/// A time without a main process, or without the monitor.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    pub from: Instant,
    pub to: Instant,
}

impl Gap {
    pub fn length(&self) -> Duration {
        self.to - self.from
    }

    fn overlap(&self, other: &Gap) -> Duration {
        self.to.min(other.to).saturating_duration_since(self.from.max(other.from))
    }
}

/// What was seen of one unit.
#[derive(Clone, Default)]
pub struct Sighting {
    pub gaps: Vec<Gap>,
    down_since: Option<Instant>,
    seen: bool,
}

impl Sighting {
    fn note(&mut self, lives: bool, now: Instant) {
        match (lives, self.down_since) {
            // What never ran is not missed.
            (false, None) if self.seen => self.down_since = Some(now),
            (true, Some(from)) => {
                self.gaps.push(Gap { from, to: now });
                self.down_since = None;
            }
            (false, _) | (true, None) => {}
        }
        self.seen |= lives;
    }

    /// The gaps that were longer than allowed; time in which the monitor was away does not count.
    pub fn longer_than(&self, allowed: Duration, away: &[Gap]) -> Vec<Duration> {
        let counted = |gap: &Gap| {
            let excused: Duration = away.iter().map(|other| gap.overlap(other)).sum();
            gap.length().saturating_sub(excused)
        };
        self.gaps.iter().map(counted).filter(|&length| length > allowed).collect()
    }
}

/// The section of an agent that holds its lock, lives on until it is killed, and has a child;
/// `prelude` is run by its shell before.
pub fn section(name: &str, prelude: &str, keys: &str) -> String {
    format!(
        "[agent_{name}]\n{keys}\nexec = '''\n\
         exec 9>> {DIRECTORY}/{name}.lock\n\
         flock --nonblock 9 || echo \"{name} $$\" >> {NOTES}\n\
         {prelude}\n\
         (exec -a child-{name} sleep infinity) &\n\
         exec -a main-{name} sleep infinity\n'''\n"
    )
}

/// To be called before the monitor starts.
pub fn prepare(machine: &Machine) {
    machine.sh(&format!("mkdir -m 1777 {DIRECTORY}; touch {NOTES}; chmod 666 {NOTES}"));
}

/// Who found another process of itself alive.
pub fn notes(machine: &Machine) -> Vec<String> {
    let text = String::from_utf8_lossy(&machine.read_file(NOTES)).into_owned();
    text.lines().map(str::to_owned).collect()
}

pub struct Observer {
    ended: std::sync::Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<String, Sighting>>,
}

impl Observer {
    /// Begins to look at these agents, by name, and at the monitor, which is called `monitor`.
    pub fn start(machine: &Machine, agents: &[&str]) -> Self {
        let init = machine.init();
        let group = |path: String| machine.path(&format!("/sys/fs/cgroup/{path}/cgroup.procs"));
        let unit = |name| format!("iotmonitor.slice/iotmonitor-agent-{name}.service");
        let mut groups: BTreeMap<String, PathBuf> =
            agents.iter().map(|name| ((*name).to_owned(), group(unit(*name)))).collect();
        groups.insert("monitor".to_owned(), group("system.slice/iotmonitor.service".to_owned()));
        let ended = std::sync::Arc::new(AtomicBool::new(false));
        let end = std::sync::Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut seen: BTreeMap<String, Sighting> = BTreeMap::new();
            while !end.load(Ordering::Relaxed) {
                for (name, procs) in &groups {
                    let lives = mains(procs, init) > 0;
                    seen.entry(name.clone()).or_default().note(lives, Instant::now());
                }
                std::thread::sleep(PAUSE);
            }
            let now = Instant::now();
            for sighting in seen.values_mut() {
                sighting.note(true, now);
            }
            seen
        });
        Self { ended, thread }
    }

    /// What was seen, by name; what is down at the end is down up to now.
    pub fn finish(self) -> BTreeMap<String, Sighting> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("the observer does not panic")
    }
}

/// How many main processes a unit has now.
pub fn living(machine: &Machine, agent: &str) -> usize {
    let unit = format!("iotmonitor.slice/iotmonitor-agent-{agent}.service");
    mains(&machine.path(&format!("/sys/fs/cgroup/{unit}/cgroup.procs")), machine.init())
}

/// Processes of a cgroup that systemd itself has started: all but the agents' children, which
/// systemd inherits for a moment when it kills a unit.
fn mains(procs: &PathBuf, init: u32) -> usize {
    let pids = std::fs::read_to_string(procs).unwrap_or_default();
    pids.lines().filter(|pid| is_main(pid, init)).count()
}

fn is_main(pid: &str, init: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let (state, parent) = (fields.next(), fields.next());
    let is_dead = matches!(state, None | Some("Z" | "X"));
    let is_child =
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"child-"));
    parent == Some(&init.to_string()) && !is_dead && !is_child
}
