//! How the parts of a node are reached from outside, whatever hangs inside.

use super::harness::{Machine, eventually};
use super::house::{ETCD, House};
use super::network::{self, Cut};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// etcd's port without TLS, which is on the loopback of each machine.
const ETCD_PORT: u16 = 2381;

impl House {
    /// Sends a signal to all processes of a unit, past the service manager.
    pub fn signal(&self, number: u64, unit: &str, signal: Signal) {
        let pids = processes(self.machine(number), unit);
        assert!(!pids.is_empty(), "{unit} of pi{number} does not run");
        for pid in pids {
            // It may have ended by itself since.
            let _ = kill(pid, signal);
        }
    }

    pub fn signal_manager(&self, number: u64, signal: Signal) {
        let init = i32::try_from(self.machine(number).init()).expect("Linux has no such process");
        kill(Pid::from_raw(init), signal).expect("the machine is on");
    }

    /// Pauses all processes of a machine at once, or lets them go on.
    pub fn pause(&self, number: u64, pauses: bool) {
        let group = group(self.machine(number)).join("payload");
        std::fs::write(group.join("cgroup.freeze"), if pauses { "1" } else { "0" })
            .expect("the machine is on");
        let frozen = if pauses { "frozen 1" } else { "frozen 0" };
        eventually(frozen, || {
            let events = std::fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
            events.lines().any(|line| line == frozen).then_some(())
        });
    }

    pub fn cut(&self, number: u64, cut: Cut) {
        network::cut(self.machine(number), cut);
    }

    pub fn mend(&self, number: u64) {
        network::mend(self.machine(number));
    }

    /// The machine with etcd's leader.
    pub fn leader(&self) -> u64 {
        eventually("a leader of etcd", || {
            let mut numbers = self.numbers().into_iter();
            numbers.find(|&number| is_leader(self.machine(number)).unwrap_or(false))
        })
    }

    /// A member that was killed stays so until then.
    pub fn start_etcd(&self, number: u64) {
        self.machine(number).ok(&["systemctl", "start", "--no-block", ETCD]);
    }

    /// Lets each sync of etcd's log take this much longer, until [`House::speed_up`].
    pub fn slow_down(&mut self, number: u64, delay: Duration) {
        let pids = processes(self.machine(number), ETCD);
        let pid = pids.first().expect("etcd runs").to_string();
        let inject = format!("inject=fdatasync,fsync:delay_enter={}", delay.as_micros());
        let log = self.directory().join("strace.log");
        let child = Command::new("strace")
            .args(["--follow-forks", "--attach", &pid, "--output"])
            .arg(&log)
            .args(["--trace=fdatasync,fsync", "-e", &inject])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace can be run");
        eventually("a sync to take longer", || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            log.contains("(DELAYED)").then_some(())
        });
        self.slow_disks.insert(number, child);
    }

    pub fn speed_up(&mut self, number: u64) {
        let mut child = self.slow_disks.remove(&number).expect("it was slowed down");
        let pid = i32::try_from(child.id()).expect("Linux has no such process");
        // It detaches from etcd, which goes on.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = child.wait();
    }
}

/// The control group of a machine as seen from outside.
fn group(machine: &Machine) -> PathBuf {
    let unified = Path::new("/sys/fs/cgroup/unified").join(machine.name());
    if unified.is_dir() { unified } else { Path::new("/sys/fs/cgroup").join(machine.name()) }
}

/// The processes of a unit of the system, by their numbers outside.
pub fn processes(machine: &Machine, unit: &str) -> Vec<Pid> {
    let path = group(machine).join("payload/system.slice").join(unit).join("cgroup.procs");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect()
}

fn is_leader(machine: &Machine) -> Option<bool> {
    let mut stream = machine.connect(ETCD_PORT).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream
        .write_all(b"POST /v3/maintenance/status HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let status: Value = serde_json::from_str(body).ok()?;
    Some(status["leader"] == status["header"]["member_id"] && status["leader"] != Value::Null)
}
