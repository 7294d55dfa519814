//! A part that hangs is never a silence: it is survived with an alert, or systemd restarts the
//! monitor. With the program as it is released.

use crate::effort::Effort;
use crate::harness::{Machine, Subscriber, config, eventually, eventually_within};
use crate::row::Row;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::process::Command;
use std::time::Duration;

const MONITOR: &str = "iotmonitor.service";
const AGENT: &str = "iotmonitor-agent-sleeper.service";
const STORE: &str = "/var/lib/iotmonitor";

/// `lamp` speaks all the time, `mute` when it is requested.
const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 3\nhelloTopic = \"home/lamp\"\n\
    watchTopics = \"home/lamp/sensors/#\"\nstateTopics = \"home/lamp/set/#\"\n\
    [device_mute]\nwatchTimeOut = 2\nwatchTopics = \"home/mute\"\n\
    [agent_sleeper]\nexec = \"exec sleep infinity\"\n";

const TALK: &str = "systemd-run --quiet --unit=talker -p Restart=always -p RestartSec=100ms bash -c \
    'while sleep 0.5; do echo here; done | mosquitto_pub -l -t home/lamp/sensors/light'";

pub fn is_reported_or_ended(effort: &Effort) -> Row {
    let mut row = Row::new("a hung part is reported or ends in a restart (release build)");
    (row.false_alarms, row.missed_alarms) = (Some(0), Some(0));
    std::thread::scope(|scope| {
        let bus = scope.spawn(|| {
            let house = House::start();
            house.hang_the_bus();
            house.false_alarms()
        });
        let house = House::start();
        let mut random = effort.random();
        let mut rounds = 0;
        while effort.goes_on(rounds, 1) {
            rounds += 1;
            let mut faults: [fn(&House); 4] = [
                House::hang_all,
                House::hang_the_stores_thread,
                House::hang_the_broker,
                House::hang_the_disk,
            ];
            random.shuffle(&mut faults);
            for fault in faults {
                fault(&house);
                row.faults += 1;
            }
        }
        row.faults += 1;
        let on_the_bus = bus.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        row.false_alarms = Some(house.false_alarms() + on_the_bus);
    });
    row
}

/// A machine with a monitor that is restarted when it shows no life for three seconds.
struct House {
    machine: Machine,
    bus: Subscriber,
}

impl House {
    fn start() -> Self {
        let machine = Machine::boot_release();
        mount_disk(&machine);
        machine.write_file(
            "/etc/systemd/system/iotmonitor.service.d/test.conf",
            "[Service]\nWatchdogSec=3s\n",
        );
        machine.ok(&["systemctl", "daemon-reload"]);
        machine.sh(TALK);
        let text = config("auto", SECTIONS).replacen("[mqtt]\n", "[mqtt]\nkeepAlive = 5\n", 1);
        let bus = machine.launch(&text);
        machine.await_new_main_pid(AGENT, 0);
        Self { machine, bus }
    }

    /// The device that always speaks was alarmed about so often.
    fn false_alarms(&self) -> usize {
        self.machine.journal().alerts(&self.machine, "expired", "lamp")
    }

    fn restarts(&self) -> String {
        self.machine.property(MONITOR, "NRestarts")
    }

    /// A contact of the other device, and then its silence, are noticed.
    fn expect_watching(&self) {
        let from = self.bus.end();
        eventually("a contact to be heard", || {
            self.machine.publish("home/mute", "here");
            let is_alive = |message: &crate::harness::Message| {
                message.topic == "home/monitoring/status/mute" && message.json()["state"] == "alive"
            };
            self.bus.within(from, Duration::from_secs(1), is_alive)
        });
        self.bus.wait_topic(from, "home/monitoring/expire/mute");
    }

    /// The next alert of this kind after so many.
    fn await_alert(&self, event: &str, before: usize, patience: Duration) {
        eventually_within(patience, &format!("alert {event}"), || {
            (self.alerts(event) > before).then_some(())
        });
    }

    fn alerts(&self, event: &str) -> usize {
        self.machine.journal().alerts(&self.machine, event, "")
    }

    fn await_restart(&self, old: u32, agent: u32) {
        self.machine.await_new_main_pid(MONITOR, old);
        self.bus.let_seconds_pass(1);
        assert_eq!(self.machine.main_pid(AGENT), agent, "the agent goes on");
        self.expect_watching();
    }

    fn hang_all(&self) {
        let (pid, agent) = (self.machine.monitor_pid(), self.machine.main_pid(AGENT));
        self.machine.signal(Signal::SIGSTOP, pid);
        self.await_restart(pid, agent);
    }

    /// One thread alone is stopped, as if it waited for ever for something of its own.
    fn hang_the_stores_thread(&self) {
        let (pid, agent) = (self.machine.monitor_pid(), self.machine.main_pid(AGENT));
        let thread = self.thread("store");
        std::thread::scope(|scope| {
            // A stopped thread belongs to the one that stops it, and is buried by it.
            scope.spawn(move || {
                ptrace::attach(thread).expect("root may stop any thread");
                loop {
                    match waitpid(thread, Some(WaitPidFlag::__WALL)) {
                        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_) => return,
                        Ok(_stopped) => {}
                    }
                }
            });
            self.await_restart(pid, agent);
        });
    }

    fn hang_the_broker(&self) {
        let restarts = self.restarts();
        let (lost, back) = (self.alerts("broker-lost"), self.alerts("broker-back"));
        let stopped = Stopped::service(&self.machine, "mosquitto.service");
        self.await_alert("broker-lost", lost, Duration::from_secs(30));
        drop(stopped);
        self.await_alert("broker-back", back, Duration::from_secs(60));
        self.expect_watching();
        assert_eq!(self.restarts(), restarts, "a hung broker causes no restart");
    }

    /// Writing to the disk blocks in the kernel, which no signal ends.
    fn hang_the_disk(&self) {
        let (machine, restarts) = (&self.machine, self.restarts());
        let (failed, back) = (self.alerts("store-failed"), self.alerts("store-back"));
        machine.await_recording(&self.bus, "home/lamp/set/colour", "home/lamp");
        let frozen = Frozen::disk(machine);
        machine.publish("home/lamp/set/colour", "of the freeze");
        self.await_alert("store-failed", failed, Duration::from_secs(30));
        self.expect_watching();
        assert_eq!(self.alerts("store-failed"), failed + 1, "once");
        drop(frozen);
        self.await_alert("store-back", back, Duration::from_secs(20));
        assert_eq!(self.restarts(), restarts, "a restart would end the watching, not the hang");
        let from = self.bus.end();
        machine.publish("home/lamp", "hello");
        self.bus.wait_exact(from, "home/lamp/set/colour", "of the freeze");
    }

    /// An agent is stopped meanwhile, of which the monitor hears nothing.
    fn hang_the_bus(&self) {
        let agent = self.machine.main_pid(AGENT);
        let stopped = Stopped::service(&self.machine, "dbus.service");
        self.machine.ok(&["systemctl", "stop", AGENT]);
        // The slow re-check finds out: a minute until it comes, and the time that a call gets.
        self.await_alert("manager-lost", 0, Duration::from_secs(120));
        self.expect_watching();
        drop(stopped);
        self.await_alert("manager-back", 0, Duration::from_secs(30));
        self.machine.await_new_main_pid(AGENT, agent);
        assert_eq!(self.restarts(), "0", "a hung bus causes no restart");
    }

    /// A thread of the monitor by its name, as seen from outside.
    fn thread(&self, name: &str) -> Pid {
        let group = "/sys/fs/cgroup/system.slice/iotmonitor.service/cgroup.threads";
        let threads = std::fs::read_to_string(self.machine.path(group)).expect("it runs");
        let is_it = |thread: &&str| {
            let comm = std::fs::read_to_string(format!("/proc/{thread}/comm"));
            comm.is_ok_and(|comm| comm.trim_end() == name)
        };
        let thread = threads.lines().find(is_it).expect("it has a thread of that name");
        Pid::from_raw(thread.parse().expect("a number"))
    }
}

/// A service whose main process is stopped until this is dropped.
struct Stopped<'a> {
    machine: &'a Machine,
    pid: u32,
}

impl<'a> Stopped<'a> {
    fn service(machine: &'a Machine, unit: &str) -> Self {
        let pid = machine.main_pid(unit);
        machine.signal(Signal::SIGSTOP, pid);
        Self { machine, pid }
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.machine.run(&["kill", "-s", "CONT", &self.pid.to_string()]);
    }
}

/// The disk under the store, which takes no write until this is dropped.
struct Frozen<'a>(&'a Machine);

impl<'a> Frozen<'a> {
    fn disk(machine: &'a Machine) -> Self {
        machine.ok(&["fsfreeze", "--freeze", STORE]);
        Self(machine)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.run(&["fsfreeze", "--unfreeze", STORE]);
    }
}

/// Gives the store a disk of its own. It goes with the machine's mounts.
fn mount_disk(machine: &Machine) {
    machine.sh("truncate -s 64M /run/disk; mkfs.ext4 -q -F /run/disk");
    // Devices are the host's business.
    let losetup = |arguments: &[&str]| {
        let output = Command::new("losetup").args(arguments).output().expect("losetup can be run");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "there is no loop device to be had: {words}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let image = machine.path("/run/disk");
    let device = losetup(&["--find", "--show", &image.to_string_lossy()]);
    let number = device.trim_start_matches("/dev/loop");
    let mounted = machine.run(&[
        "sh",
        "-ec",
        &format!("mknod /dev/disk b 7 {number}; mkdir -p {STORE}; mount -t ext4 /dev/disk {STORE}"),
    ]);
    // While it is mounted it stays, and otherwise it is to be free again.
    losetup(&["--detach", &device]);
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
}
