//! iotmonitor as a service of the machine.

use super::eventually;
use super::machine::Machine;
use super::mqtt::Subscriber;
use std::process::Output;
use std::time::Duration;

const UNIT: &str = "iotmonitor.service";
/// A second instance.
pub const GARDEN: &str = "iotmonitor@garden.service";
const CONFIG: &str = "/etc/iotmonitor/config.toml";

/// A configuration for the machine's broker with this protocol version and these sections.
pub fn config(protocol: &str, sections: &str) -> String {
    format!(
        "[mqtt]\nserverAddress = \"tcp://localhost:1883\"\nprotocol = \"{protocol}\"\n\n{sections}"
    )
}

impl Machine {
    pub fn write_config(&self, text: &str) {
        self.write_file(CONFIG, text);
    }

    /// The configuration of a second instance, [`GARDEN`], with names of its own.
    pub fn write_garden(&self, sections: &str) {
        let own = "[mqtt]\nclientid = \"garden\"\nbaseTopic = \"garden/monitoring\"\n";
        let text = config("auto", sections).replace("[mqtt]\n", own);
        self.write_file("/etc/iotmonitor/garden.toml", &text);
    }

    /// Starts the service, which must succeed.
    pub fn start_monitor(&self) {
        self.ok(&["systemctl", "start", UNIT]);
    }

    pub fn stop_monitor(&self) {
        self.ok(&["systemctl", "stop", UNIT]);
    }

    pub fn restart_monitor(&self) {
        self.ok(&["systemctl", "restart", UNIT]);
    }

    pub fn reload_monitor(&self) -> Output {
        self.run(&["systemctl", "reload", UNIT])
    }

    pub fn monitor_pid(&self) -> u32 {
        self.main_pid(UNIT)
    }

    /// Kills the monitor without a warning and waits until systemd has started another one.
    pub fn crash_monitor(&self) {
        let pid = self.monitor_pid();
        self.signal(nix::sys::signal::Signal::SIGKILL, pid);
        self.await_new_main_pid(UNIT, pid);
    }

    /// Writes the configuration, starts the monitor, and waits until it is connected.
    pub fn launch(&self, config: &str) -> Subscriber {
        self.write_config(config);
        let bus = self.subscribe(&["home/#"]);
        self.start_monitor();
        bus.wait_exact(0, "home/monitoring/availability", "online");
        bus.wait_topic(0, "home/monitoring/up");
        bus
    }

    /// Waits until this many more tries to reach a broker have failed in the machine: what is said
    /// once per try has been said several times by then.
    pub fn await_failed_connections(&self, count: u64) {
        self.await_tcp_counter("AttemptFails", 8, count);
    }

    /// Waits until this many more connections have been accepted in the machine.
    pub fn await_accepted_connections(&self, count: u64) {
        self.await_tcp_counter("PassiveOpens", 7, count);
    }

    /// Waits for one of TCP's counters (RFC 4022) by its column in /proc/net/snmp.
    fn await_tcp_counter(&self, name: &str, column: u8, increase: u64) {
        let words = format!("grep '^Tcp: [0-9]' /proc/net/snmp | cut -d' ' -f{column}");
        let read = || -> u64 { self.sh(&words).parse().expect("a counter is a number") };
        let before = read();
        eventually(name, || (read() >= before + increase).then_some(()));
    }

    /// Lets a device speak until the monitor has heard it: what is said before the broker has
    /// acknowledged the subscription is lost.
    pub fn make_alive(&self, bus: &Subscriber, device: &str, topic: &str) {
        let status = format!("home/monitoring/status/{device}");
        let from = bus.end();
        eventually(&format!("{device} to be alive"), || {
            self.publish(topic, "I am here");
            bus.within(from, Duration::from_millis(500), |message| {
                message.topic == status && message.json()["state"] == "alive"
            })
        });
    }

    /// Lets a device set a state and say hello until the state comes back, and returns the state:
    /// from then on the persistent session stands.
    pub fn await_recording(&self, bus: &Subscriber, state_topic: &str, hello: &str) -> String {
        let mut tries = 0;
        eventually("a state to be recorded", || {
            tries += 1;
            let state = format!("warm-up {tries}");
            let from = bus.end();
            self.publish(state_topic, &state);
            bus.wait_exact(from, state_topic, &state);
            let from = bus.end();
            self.publish(hello, "hello");
            let restored =
                bus.within(from, Duration::from_secs(1), |message| message.is(state_topic, &state));
            restored.map(|_| state)
        })
    }
}
