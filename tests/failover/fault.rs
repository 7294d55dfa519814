//! What breaks, and how it is mended.

use super::harness::eventually;
use super::house::{ETCD, GUARD, House, MONITOR, STUBBORN, WALL_CLOCK};
use super::network::Cut;
use super::ticks::boot_clock;
use iotmonitor::guard::last_renewal;
use nix::sys::signal::Signal;
use std::time::Duration;

/// Something that breaks on one node, or with one node as its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    MonitorKilled,
    MonitorStopped,
    GuardKilled,
    GuardStopped,
    EtcdKilled,
    /// Of the leader.
    EtcdLeaderKilled,
    Cut(Cut),
    PowerOff,
    ManagerStopped,
    NoEtcd,
    SlowDisk,
    ClockStepped,
    SlowReload,
    NodePaused,
    /// A cut, and a guard that hangs just before the deadline, beside an agent that does not end
    /// when it is asked to.
    CutAndGuardStopped,
}

/// What comes of a fault by design.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// Nothing moves.
    Stays,
    /// What the node had runs elsewhere.
    Moves,
    /// What the node had ends and runs again, there or elsewhere.
    Restarts,
    /// Everything ends until the fault is mended.
    Stops,
    /// Whether anything moves depends on which of two faults is faster.
    Either,
}

/// What comes of several faults of one node.
pub fn aftermath(faults: &[Fault]) -> Aftermath {
    match faults {
        [fault] => fault.aftermath(),
        _ if moves(faults) => Aftermath::Moves,
        _ => Aftermath::Either,
    }
}

/// In a soak, what the node had runs elsewhere within this time.
pub fn elsewhere_within(faults: &[Fault]) -> Duration {
    // After the cut, the node sends one renewal more. It is committed, although the node does not
    // learn of that, and others wait from then on.
    let hears_nothing = faults.contains(&Fault::Cut(Cut::In));
    Duration::from_secs(if hears_nothing { 12 } else { 10 })
}

/// Whether the faults leave nothing on the node.
pub fn moves(faults: &[Fault]) -> bool {
    faults.iter().any(|fault| fault.aftermath() == Aftermath::Moves)
}

#[derive(PartialEq, Eq)]
enum Part {
    Monitor,
    Guard,
    Etcd,
    Cable,
    Manager,
}

/// How long before the deadline of the lease the guard is stopped: it has asked for no longer time
/// than that from the service manager.
const JUST_BEFORE: Duration = Duration::from_millis(300);

/// As long as a disk can hold up etcd's log.
const DISK_DELAY: Duration = Duration::from_secs(5);
/// And PID 1 can be held up by a generator of units.
const RELOAD_SECONDS: u64 = 5;

/// Thirty years, about as far as an RTC without a battery is off.
const YEARS: i64 = 30 * 365 * 24 * 3_600;

impl Fault {
    /// All of them, in the order of the short form: those after which something settles come before
    /// others that take it away.
    pub const ALL: [Self; 17] = [
        Self::MonitorKilled,
        Self::EtcdKilled,
        Self::EtcdLeaderKilled,
        Self::ClockStepped,
        Self::SlowReload,
        Self::ManagerStopped,
        Self::SlowDisk,
        Self::MonitorStopped,
        Self::GuardKilled,
        Self::GuardStopped,
        Self::Cut(Cut::Both),
        Self::Cut(Cut::In),
        Self::Cut(Cut::Out),
        Self::CutAndGuardStopped,
        Self::NodePaused,
        Self::PowerOff,
        Self::NoEtcd,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::MonitorKilled => "monitor_killed",
            Self::MonitorStopped => "monitor_stopped",
            Self::GuardKilled => "guard_killed",
            Self::GuardStopped => "guard_stopped",
            Self::EtcdKilled => "etcd_killed",
            Self::EtcdLeaderKilled => "etcd_leader_killed",
            Self::Cut(Cut::Both) => "cut_off",
            Self::Cut(Cut::In) => "cut_incoming",
            Self::Cut(Cut::Out) => "cut_outgoing",
            Self::PowerOff => "power_off",
            Self::ManagerStopped => "manager_stopped",
            Self::NoEtcd => "no_etcd",
            Self::SlowDisk => "slow_disk_of_etcd",
            Self::ClockStepped => "clock_stepped",
            Self::SlowReload => "slow_daemon_reload",
            Self::NodePaused => "node_paused",
            Self::CutAndGuardStopped => "cut_off_and_guard_stopped",
        }
    }

    /// For the table.
    pub fn words(self) -> &'static str {
        match self {
            Self::MonitorKilled => "monitor killed (SIGKILL)",
            Self::MonitorStopped => "monitor hangs (SIGSTOP)",
            Self::GuardKilled => "guard killed",
            Self::GuardStopped => "guard hangs",
            Self::EtcdKilled => "a member of etcd killed",
            Self::EtcdLeaderKilled => "the leader of etcd killed",
            Self::Cut(Cut::Both) => "node cut off",
            Self::Cut(Cut::In) => "… in the incoming direction",
            Self::Cut(Cut::Out) => "… in the outgoing direction",
            Self::PowerOff => "power off",
            Self::ManagerStopped => "PID 1 hangs",
            Self::NoEtcd => "all members of etcd killed",
            Self::SlowDisk => "each fdatasync(2) of etcd's leader takes 5 s more",
            Self::ClockStepped => "wall clock of the monitor 30 years on and back",
            Self::SlowReload => "daemon-reload that takes 5 s",
            Self::NodePaused => "node paused as a whole, and resumed",
            Self::CutAndGuardStopped => {
                "node cut off, and its guard hangs 0.3 s before the deadline, beside an agent that ignores SIGTERM"
            }
        }
    }

    pub fn aftermath(self) -> Aftermath {
        match self {
            Self::MonitorKilled
            | Self::EtcdKilled
            | Self::EtcdLeaderKilled
            | Self::ManagerStopped
            | Self::SlowDisk
            | Self::ClockStepped
            | Self::SlowReload => Aftermath::Stays,
            Self::MonitorStopped
            | Self::Cut(_)
            | Self::PowerOff
            | Self::NodePaused
            | Self::CutAndGuardStopped => Aftermath::Moves,
            Self::GuardKilled | Self::GuardStopped => Aftermath::Restarts,
            Self::NoEtcd => Aftermath::Stops,
        }
    }

    /// Those of which two can happen to one node at once: what each of them breaks.
    fn part(self) -> Option<Part> {
        match self {
            Self::MonitorKilled | Self::MonitorStopped => Some(Part::Monitor),
            Self::GuardKilled | Self::GuardStopped => Some(Part::Guard),
            Self::EtcdKilled => Some(Part::Etcd),
            Self::Cut(_) => Some(Part::Cable),
            Self::ManagerStopped => Some(Part::Manager),
            Self::EtcdLeaderKilled
            | Self::PowerOff
            | Self::NoEtcd
            | Self::SlowDisk
            | Self::ClockStepped
            | Self::SlowReload
            | Self::NodePaused
            | Self::CutAndGuardStopped => None,
        }
    }

    /// Whether both can happen to one node at once.
    pub fn goes_with(self, other: Self) -> bool {
        self.part().zip(other.part()).is_some_and(|(one, other)| one != other)
    }

    /// The node on which most depends.
    pub fn victim(self, house: &mut House) -> u64 {
        let last = house.last_ticks();
        match self {
            Self::CutAndGuardStopped => last[STUBBORN].node,
            Self::EtcdLeaderKilled | Self::SlowDisk => house.leader(),
            _ => {
                let count =
                    |number: &u64| last.values().filter(|tick| tick.node == *number).count();
                house.numbers().into_iter().max_by_key(count).expect("there are three")
            }
        }
    }

    pub fn inject(self, house: &mut House, node: u64) {
        match self {
            Self::MonitorKilled => house.signal(node, MONITOR, Signal::SIGKILL),
            Self::MonitorStopped => house.signal(node, MONITOR, Signal::SIGSTOP),
            Self::GuardKilled => house.signal(node, GUARD, Signal::SIGKILL),
            Self::GuardStopped => house.signal(node, GUARD, Signal::SIGSTOP),
            Self::EtcdKilled | Self::EtcdLeaderKilled => {
                house.signal(node, ETCD, Signal::SIGKILL);
            }
            Self::Cut(way) => house.cut(node, way),
            Self::PowerOff => house.switch_off(node),
            Self::ManagerStopped => house.signal_manager(node, Signal::SIGSTOP),
            Self::NoEtcd => {
                for number in house.numbers() {
                    house.signal(number, ETCD, Signal::SIGKILL);
                }
            }
            Self::SlowDisk => house.slow_down(node, DISK_DELAY),
            Self::ClockStepped => {
                for seconds in [YEARS, -YEARS] {
                    house.machine(node).write_file(WALL_CLOCK, &format!("{seconds}\n"));
                    house.await_renewals(&[node]);
                }
            }
            Self::SlowReload => {
                let generator = format!("#!/bin/sh\nsleep {RELOAD_SECONDS}\n");
                let path = "/run/systemd/system-generators/slow";
                house.machine(node).write_file(path, &generator);
                house.machine(node).sh(&format!("chmod 755 {path}; systemctl daemon-reload"));
            }
            Self::NodePaused => house.pause(node, true),
            Self::CutAndGuardStopped => {
                house.cut(node, Cut::Both);
                let directory = house.machine(node).path(iotmonitor::guard::DIRECTORY);
                let deadline = || last_renewal(&directory).expect("the guard has one").deadline;
                // A renewal may have been on its way. From then on the deadline stays.
                eventually("the last renewal", || {
                    let stop_at = deadline().saturating_sub(JUST_BEFORE);
                    (boot_clock() >= stop_at).then_some(())
                });
                house.signal(node, GUARD, Signal::SIGSTOP);
            }
        }
    }

    pub fn heal(self, house: &mut House, node: u64) {
        match self {
            // systemd has mended these.
            Self::MonitorKilled | Self::GuardKilled | Self::GuardStopped => {}
            Self::EtcdKilled | Self::EtcdLeaderKilled => house.start_etcd(node),
            Self::MonitorStopped => house.signal(node, MONITOR, Signal::SIGCONT),
            Self::Cut(_) | Self::CutAndGuardStopped => house.mend(node),
            Self::PowerOff => house.switch_on(&[node]),
            Self::ManagerStopped => house.signal_manager(node, Signal::SIGCONT),
            Self::NoEtcd => {
                for number in house.numbers() {
                    house.start_etcd(number);
                }
            }
            Self::SlowDisk => house.speed_up(node),
            Self::ClockStepped => house.machine(node).write_file(WALL_CLOCK, "0\n"),
            Self::SlowReload => {
                house.machine(node).ok(&["rm", "/run/systemd/system-generators/slow"]);
            }
            Self::NodePaused => house.pause(node, false),
        }
    }
}
