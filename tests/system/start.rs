//! The start of the service: what is fatal, and what is not.

use super::harness::{GARDEN, Machine, config, eventually};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

const SLEEPER: &str = "[agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const UNIT: &str = "iotmonitor-agent-sleeper.service";
const LAMP: &str = "[device_lamp]\nwatchTimeOut = 30\nwatchTopics = \"home/lamp/#\"\n";

const BROKEN: &str = "[mqtt]\nserverAddress = \"tcp://localhost:1883\"\n\
    [device_lamp]\nwatchTimeout = 5\nwatchTopics = \"home/#/lamp\"\n[device_nothing]\n";

#[test]
fn a_broken_file_is_fatal_with_all_its_errors_and_no_restart() {
    let machine = Machine::boot();
    machine.write_config(BROKEN);
    assert!(!machine.run(&["systemctl", "start", "iotmonitor"]).status.success());
    assert_eq!(machine.property("iotmonitor", "ExecMainStatus"), "78");
    // `failed` is where systemd rests; on the way to another try it would be `activating`.
    assert_eq!(machine.property("iotmonitor", "ActiveState"), "failed");
    assert_eq!(machine.property("iotmonitor", "NRestarts"), "0");
    for error in ["watchTimeOut", "home/#/lamp", "device_nothing"] {
        machine.journal().wait_for(error, |entry| {
            entry.field("_SYSTEMD_UNIT") == "iotmonitor.service" && entry.message().contains(error)
        });
    }
}

#[test]
fn check_says_the_same_and_needs_no_service() {
    let machine = Machine::boot();
    machine.write_config(BROKEN);
    let output = machine.run(&["iotmonitor", "check"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    for word in ["config.toml", "watchTimeOut", "home/#/lamp", "device_nothing", "4", "5", "6"] {
        assert!(said.contains(word), "{word} is missing in {said}");
    }
    machine.write_file("/root/good.toml", &config("auto", SLEEPER));
    assert_eq!(machine.run(&["iotmonitor", "check", "/root/good.toml"]).status.code(), Some(0));
    assert_ne!(machine.run(&["iotmonitor", "check", "/root/none.toml"]).status.code(), Some(0));
}

#[test]
fn without_a_broker_the_agents_run_and_one_alert_says_why() {
    let machine = Machine::boot();
    machine.ok(&["systemctl", "stop", "mosquitto"]);
    machine.write_config(&config("auto", SLEEPER));
    let start = Instant::now();
    machine.start_monitor();
    let duration = start.elapsed();
    assert!(duration < Duration::from_secs(5), "ready after {duration:?}");
    machine.await_new_main_pid(UNIT, 0);
    let lost = machine.journal().wait_for_alert("broker-lost", "");
    assert!(lost.message().contains("localhost:1883"), "{}", lost.message());
    machine.await_failed_connections(6);
    assert_eq!(machine.journal().alerts(&machine, "broker-lost", ""), 1, "once per change");
    machine.ok(&["systemctl", "start", "mosquitto"]);
    let bus = machine.subscribe(&["home/#"]);
    bus.wait_exact(0, "home/monitoring/availability", "online");
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    machine.journal().wait_for_alert("broker-back", "");
}

#[test]
fn a_hung_monitor_is_restarted_by_the_watchdog_and_its_agents_are_not() {
    let machine = Machine::boot();
    machine.sh("mkdir -p /etc/systemd/system/iotmonitor.service.d; \
         printf '[Service]\\nWatchdogSec=2s\\n' > /etc/systemd/system/iotmonitor.service.d/w.conf; \
         systemctl daemon-reload");
    let bus = machine.launch(&config("auto", SLEEPER));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    bus.let_seconds_pass(5);
    assert_eq!(machine.property("iotmonitor", "NRestarts"), "0", "a healthy monitor feeds it");
    let (pid, agent) = (machine.monitor_pid(), machine.main_pid(UNIT));
    let from = bus.end();
    machine.signal(Signal::SIGSTOP, pid);
    machine.await_new_main_pid("iotmonitor", pid);
    assert_eq!(machine.property("iotmonitor", "NRestarts"), "1");
    bus.wait_exact(from, "home/monitoring/availability", "offline");
    bus.wait_exact(from, "home/monitoring/availability", "online");
    assert_eq!(machine.main_pid(UNIT), agent);
}

#[test]
fn waiting_for_a_broker_is_no_hang() {
    let machine = Machine::boot();
    machine.sh("mkdir -p /etc/systemd/system/iotmonitor.service.d; \
         printf '[Service]\\nWatchdogSec=2s\\n' > /etc/systemd/system/iotmonitor.service.d/w.conf; \
         systemctl daemon-reload; systemctl stop mosquitto");
    machine.write_config(&config("auto", SLEEPER));
    machine.start_monitor();
    let pid = machine.monitor_pid();
    // Fed for longer than the watchdog waits, in microseconds since the boot.
    let fed = || -> u64 {
        let time = machine.property("iotmonitor", "WatchdogTimestampMonotonic");
        time.parse().expect("a time is a number")
    };
    let first = fed();
    eventually("the watchdog to be fed", || (fed() > first + 6_000_000).then_some(()));
    assert_eq!(machine.property("iotmonitor", "NRestarts"), "0");
    assert_eq!(machine.monitor_pid(), pid);
    machine.ok(&["systemctl", "start", "mosquitto"]);
    machine.subscribe(&["home/#"]).wait_exact(0, "home/monitoring/availability", "online");
}

#[test]
fn a_crashing_monitor_is_restarted_for_ever() {
    let machine = Machine::boot();
    machine.launch(&config("auto", SLEEPER));
    let agent = machine.await_new_main_pid(UNIT, 0);
    for _ in 0..7 {
        machine.crash_monitor();
    }
    eventually("the seventh restart", || {
        (machine.property("iotmonitor", "NRestarts") == "7").then_some(())
    });
    assert_eq!(machine.main_pid(UNIT), agent);
}

#[test]
fn the_original_programs_file_works_unchanged() {
    let machine = Machine::boot();
    let file = r#"
[mqtt]
serverAddress="tcp://localhost:1883"
baseTopic="home/monitoring"
user=""
password=""
clientid="iotmonitor"

[device_esp04]
watchTimeOut=60
helloTopic="home/esp04"
watchTopics="home/esp04/sensors/#"
stateTopics="home/esp04/actuators/#"

[agent_ledboxdaemon]
exec="source ~/activate;cd ~/mqttagents;exec sleep infinity"
watchTopics="home/agents/ledbox/#"
user="pi"
"#;
    machine.ok(&["useradd", "--create-home", "pi"]);
    machine.sh("touch /home/pi/activate; mkdir /home/pi/mqttagents; chown -R pi: /home/pi");
    let bus = machine.launch(file);
    machine.make_alive(&bus, "esp04", "home/esp04/sensors/light");
    machine.await_recording(&bus, "home/esp04/actuators/lamp", "home/esp04");
    let pid = machine.await_new_main_pid("iotmonitor-agent-ledboxdaemon.service", 0);
    eventually("the agent to be in its working directory", || {
        let cwd = machine.ok(&["readlink", &format!("/proc/{pid}/cwd")]);
        (cwd == "/home/pi/mqttagents").then_some(())
    });
}

/// A machine in which mosquitto listens on the second of two addresses of a name; the C library
/// puts 127.0.0.1 first.
fn with_two_addresses() -> Machine {
    let machine = Machine::boot();
    machine.sh("printf '127.0.0.1 broker.house\\n127.0.0.2 broker.house\\n' >> /etc/hosts; \
         printf 'listener 1883 127.0.0.1\\nlistener 1999 127.0.0.2\\nallow_anonymous true\\n' \
         > /etc/mosquitto/conf.d/addresses.conf; systemctl restart mosquitto");
    machine.write_config(&config("5", "").replace("localhost:1883", "broker.house:1999"));
    machine
}

#[test]
fn a_name_whose_first_address_is_dead_costs_a_moment() {
    let machine = with_two_addresses();
    machine.feed(
        &["nft", "-f", "-"],
        b"table ip dead { chain input { type filter hook input priority 0; \
          ip daddr 127.0.0.1 tcp dport 1999 counter drop; }; }",
    );
    let bus = machine.subscribe(&["home/#"]);
    machine.start_monitor();
    bus.wait_exact(0, "home/monitoring/availability", "online");
    assert_eq!(machine.journal().alerts(&machine, "broker-lost", ""), 0);
    let rules = machine.ok(&["nft", "list", "table", "ip", "dead"]);
    assert!(!rules.contains("packets 0 "), "the dead address was not tried: {rules}");
}

#[test]
fn an_address_that_takes_connections_and_is_no_broker_goes_last() {
    let machine = with_two_addresses();
    let closing = machine.listen(1999).unwrap();
    std::thread::spawn(move || closing.incoming().for_each(drop));
    let bus = machine.subscribe(&["home/#"]);
    machine.start_monitor();
    bus.wait_exact(0, "home/monitoring/availability", "online");
    assert_eq!(machine.journal().alerts(&machine, "broker-lost", ""), 1);
}

/// After a boot on a disk with errors, and for an instance too.
#[test]
fn where_no_state_can_be_kept_the_first_start_succeeds_all_the_same() {
    let machine = Machine::boot();
    machine.sh("mount --bind /var/lib /var/lib; mount -o remount,bind,ro /var/lib");
    machine.write_garden(SLEEPER);
    let garden = machine.subscribe(&["garden/#"]);
    let bus = machine.launch(&config("auto", &format!("{LAMP}{SLEEPER}")));
    machine.ok(&["systemctl", "start", GARDEN]);
    for unit in ["iotmonitor.service", GARDEN] {
        assert!(machine.is_active(unit));
        assert_eq!(machine.property(unit, "NRestarts"), "0");
    }
    assert_ne!(machine.await_new_main_pid(UNIT, 0), 0);
    garden.wait_topic(0, "garden/monitoring/startedprocess/sleeper");
    machine.make_alive(&bus, "lamp", "home/lamp/light");
    let failed = machine.journal().wait_for_alert("store-failed", "");
    assert!(failed.message().contains("/var/lib/iotmonitor"), "{}", failed.message());

    // Once it can be written to, a restart finds its place.
    machine.sh("umount /var/lib");
    for unit in ["iotmonitor.service", GARDEN] {
        machine.ok(&["systemctl", "restart", unit]);
    }
    for directory in ["/var/lib/iotmonitor", "/var/lib/iotmonitor@garden"] {
        assert_eq!(machine.sh(&format!("stat -c '%U %a' {directory}")), "root 700");
        eventually("a store", || {
            machine
                .run(&["test", "-e", &format!("{directory}/data.mdb")])
                .status
                .success()
                .then_some(())
        });
    }
}
