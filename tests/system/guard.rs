//! The guard ends everything shared by the deadline of the lease, whichever part fails.
//!
//! Another node starts what a lease covered two seconds after its deadline at the earliest: that is
//! what the tests compare the last tick of each agent with. All clocks are the host's boot clock.

use super::harness::{Machine, eventually};
use iotmonitor::guard::{GuardClient, last_renewal};
use iotmonitor_core::machines::cluster::Guarded;
use iotmonitor_core::model::cluster::SessionId;
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::time::Duration;

const GUARD: &str = "iotmonitor-guard.service";
const SESSION: SessionId = SessionId { boot: 1, number: 2 };

/// The least time between the deadline of a lease and the start elsewhere.
const START_ELSEWHERE: Duration = Duration::from_secs(2);

const TICK: &str = "while read -r time _ < /proc/uptime; do echo $time; sleep 0.02; done";

/// A node with a guard, to which the test sends renewals as a monitor does.
struct Node {
    machine: Machine,
    guard: GuardClient,
    renewals: u64,
    deadline: Duration,
}

fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap().into()
}

fn sleep_until(time: Duration) {
    std::thread::sleep(time.saturating_sub(now()));
}

fn directory(machine: &Machine) -> PathBuf {
    machine.path("/run/iotmonitor-guard")
}

/// The guard is started without waiting, as it is ready only with a lease.
fn connect(machine: &Machine) -> GuardClient {
    machine.ok(&["systemctl", "start", "--no-block", GUARD]);
    eventually("the guard to listen", || GuardClient::connect(&directory(machine)).ok())
}

impl Node {
    /// A node with a lease of this length, an agent that ends when it is asked to, and one that
    /// ignores that and has a child in a session of its own.
    fn with_lease(suite: &str, length: Duration) -> Self {
        let machine = Machine::boot_suite(suite);
        let guard = connect(&machine);
        let mut node = Self { machine, guard, renewals: 0, deadline: Duration::ZERO };
        node.renew(length);
        eventually("the guard to be ready", || node.machine.is_active(GUARD).then_some(()));
        node.start_agent("plain", TICK);
        node.start_agent(
            "stubborn",
            &format!("trap '' TERM; setsid bash -c \"trap '' TERM; {TICK}\" & {TICK}"),
        );
        node
    }

    /// The deadline of the lease that the guard has.
    fn guarded(&self) -> Duration {
        last_renewal(&directory(&self.machine)).unwrap().deadline
    }

    fn renew(&mut self, length: Duration) {
        self.renew_as(SESSION, length);
    }

    fn renew_as(&mut self, session: SessionId, length: Duration) {
        self.renewals += 1;
        self.deadline = now() + length;
        let renewal = Guarded { session, n: self.renewals, deadline: self.deadline };
        self.guard.renew(renewal).unwrap();
    }

    /// A unit with what makes an agent a shared one.
    fn start_agent(&self, name: &str, script: &str) {
        self.machine.ok(&[
            "systemd-run",
            &format!("--unit=shared-{name}"),
            "--slice=iotmonitor-shared.slice",
            &format!("--property=BindsTo={GUARD}"),
            &format!("--property=After={GUARD}"),
            "--property=Restart=always",
            "--property=RestartSec=50ms",
            "--property=TimeoutStopSec=1s",
            &format!("--property=StandardOutput=append:/run/ticks-{name}"),
            "bash",
            "-c",
            script,
        ]);
        eventually("the agent to tick", || self.last_tick(name));
    }

    fn last_tick(&self, name: &str) -> Option<Duration> {
        let ticks =
            std::fs::read_to_string(self.machine.path(&format!("/run/ticks-{name}"))).ok()?;
        let ticks = ticks.lines().filter_map(|line| line.parse().ok());
        ticks.map(Duration::from_secs_f64).max()
    }

    /// Waits until nothing of the agents is left, and returns how long after `from` each has ticked.
    fn ticked_after(&self, what: &str, from: Duration) -> [f64; 2] {
        eventually("everything shared to end", || {
            let left = self.machine.run(&["pgrep", "--full", "/proc/uptim[e]"]).stdout;
            left.is_empty().then_some(())
        });
        let after = ["plain", "stubborn"]
            .map(|name| self.last_tick(name).unwrap().as_secs_f64() - from.as_secs_f64());
        println!("{what}: last ticks after {:.2} s and {:.2} s", after[0], after[1]);
        for name in ["plain", "stubborn"] {
            let last = self.last_tick(name).unwrap();
            assert!(last < self.deadline + START_ELSEWHERE, "{what}: {name} ticked too late");
        }
        after
    }
}

/// Runs the same on the releases with systemd 252 and 257.
macro_rules! for_both_releases {
    ($($test:ident),* $(,)?) => {
        mod bookworm {
            $(#[test] fn $test() { super::$test("bookworm"); })*
        }
        mod trixie {
            $(#[test] fn $test() { super::$test("trixie"); })*
        }
    };
}

for_both_releases!(
    agents_run_while_the_lease_is_renewed_and_end_with_it,
    a_guard_that_is_killed_takes_the_agents_with_it,
    a_guard_that_hangs_is_dead_by_the_deadline,
    the_guard_needs_no_service_manager_to_kill,
);

fn agents_run_while_the_lease_is_renewed_and_end_with_it(suite: &str) {
    let mut node = Node::with_lease(suite, Duration::from_secs(20));
    assert_eq!(node.guarded(), node.deadline);
    let status = format!("/proc/{}/status", node.machine.main_pid(GUARD));
    let status = String::from_utf8(node.machine.read_file(&status)).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim();
    assert_ne!(locked, "0 kB", "its memory is locked");
    let pid = node.machine.main_pid("shared-plain.service");
    node.machine.ok(&["systemctl", "daemon-reload"]);
    node.machine.ok(&["systemctl", "daemon-reexec"]);
    for _ in 0..6 {
        node.renew(Duration::from_secs(3));
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(node.machine.main_pid("shared-plain.service"), pid, "the agent ran all the time");
    // One that is older is refused, and does not move the deadline.
    let far = now() + Duration::from_secs(60);
    node.guard.renew(Guarded { session: SESSION, n: 1, deadline: far }).unwrap();
    let mut another = SESSION;
    another.number += 1;
    node.renewals = 0;
    node.renew_as(another, Duration::from_secs(3));
    eventually("the next session", || (node.guarded() == node.deadline).then_some(()));
    let [plain, _] = node.ticked_after("the lease ended", node.deadline);
    assert!(plain > -0.5, "the agent ran until the deadline");
    eventually("the guard to end", || (!node.machine.is_active(GUARD)).then_some(()));
    assert_eq!(node.machine.property("shared-plain.service", "ActiveState"), "inactive");
}

fn a_guard_that_is_killed_takes_the_agents_with_it(suite: &str) {
    let node = Node::with_lease(suite, Duration::from_secs(60));
    let killed = now();
    node.machine.ok(&["systemctl", "kill", "--signal=KILL", GUARD]);
    for after in node.ticked_after("the guard was killed", killed) {
        assert!(after < 5.0, "the agents end when the guard does, and not with the lease");
    }
}

/// The stubborn agent needs the whole time to stop, and the guard hangs when it has none left.
fn a_guard_that_hangs_is_dead_by_the_deadline(suite: &str) {
    let mut node = Node::with_lease(suite, Duration::from_secs(20));
    node.renew(Duration::from_secs(3));
    sleep_until(node.deadline - Duration::from_millis(300));
    node.machine.ok(&["systemctl", "kill", "--signal=STOP", GUARD]);
    assert!(now() < node.deadline, "the machine is too slow for this test");
    node.ticked_after("the guard was stopped just before the deadline", node.deadline);
}

fn the_guard_needs_no_service_manager_to_kill(suite: &str) {
    let mut node = Node::with_lease(suite, Duration::from_secs(20));
    node.renew(Duration::from_secs(3));
    let init = Pid::from_raw(i32::try_from(node.machine.init()).unwrap());
    kill(init, Signal::SIGSTOP).unwrap();
    node.ticked_after("PID 1 did not run", node.deadline);
    kill(init, Signal::SIGCONT).unwrap();
}

#[test]
fn a_guard_without_a_lease_in_force_does_not_start() {
    let machine = Machine::boot();
    let output = machine.run(&["systemctl", "start", GUARD]);
    assert!(!output.status.success(), "no renewal arrived");
    let client = connect(&machine);
    client.renew(Guarded { session: SESSION, n: 1, deadline: now() }).unwrap();
    eventually("the guard to fail", || {
        (machine.property(GUARD, "Result") == "exit-code"
            && machine.property(GUARD, "ActiveState") == "failed")
            .then_some(())
    });
    machine
        .journal()
        .wait_for("the reason", |entry| entry.message().starts_with("no lease arrived"));
}
