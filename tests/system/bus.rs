//! The monitor's place on the bus: which clients reach it, and that it is unique.

use super::for_both_buses;
use super::harness::{Bus, GARDEN, Machine, config, eventually};

const UNIT: &str = "iotmonitor-agent-sleeper.service";
const SLEEPER: &str = "[agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const LAMP: &str = "[device_lamp]\nhelloTopic = \"home/lamp\"\n";

for_both_buses!(commands_reach_every_instance_and_other_users_cannot_pose_as_one);

fn commands_reach_every_instance_and_other_users_cannot_pose_as_one(bus: Bus) {
    let machine = Machine::boot_on(bus);
    machine.launch(&config("auto", LAMP));
    machine.write_garden(LAMP);
    machine.ok(&["systemctl", "start", GARDEN]);
    let as_nobody =
        |argv: &str| machine.run(&["sh", "-c", &format!("runuser -u nobody -- {argv}")]);
    let reach_garden = || {
        for argv in
            ["iotmonitor status lamp --clientid garden", "iotmonitor suggest --clientid garden"]
        {
            let answer = as_nobody(argv);
            assert!(answer.status.success(), "{argv}: {answer:?}");
        }
        machine.ok(&["iotmonitor", "restore", "lamp", "--clientid", "garden"]);
        machine.ok(&["systemctl", "reload", GARDEN]);
    };
    assert!(as_nobody("iotmonitor status lamp").status.success());
    machine.ok(&["systemctl", "reload", "iotmonitor"]);
    reach_garden();
    // Whether or not the others are there.
    machine.restart_monitor();
    reach_garden();
    machine.stop_monitor();
    reach_garden();

    for name in ["org.iotmonitor.Monitor1", "org.iotmonitor.Monitor1.x", "org.iotmonitor.Instances"]
    {
        let taken = as_nobody(&format!(
            "busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus \
             RequestName su {name} 3"
        ));
        assert!(!taken.status.success(), "{name}");
    }
    let journal = machine.journal().text();
    assert!(!journal.contains("send_destination"), "a bus does not understand the policy");
}

#[test]
fn a_monitor_by_hand_beside_the_service_ends_at_once_and_names_it() {
    let machine = Machine::boot();
    let mqtt = machine.launch(&config("auto", SLEEPER));
    mqtt.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    let (monitor, agent) = (machine.monitor_pid(), machine.main_pid(UNIT));
    let from = mqtt.end();
    let by_hand = machine.run(&["iotmonitor", "run"]);
    assert_eq!(by_hand.status.code(), Some(78), "{by_hand:?}");
    let said = String::from_utf8_lossy(&by_hand.stderr).into_owned();
    assert!(said.contains(&format!("PID {monitor} (iotmonitor.service)")), "{said}");
    mqtt.let_seconds_pass(2);
    assert_eq!(mqtt.count(from, "home/monitoring/availability"), 0);
    assert_eq!((machine.monitor_pid(), machine.main_pid(UNIT)), (monitor, agent));
    machine.ok(&["iotmonitor", "status"]);
    assert!(machine.reload_monitor().status.success());
}

/// The other way round: the service says so and leaves the agents alone.
#[test]
fn a_service_beside_a_monitor_by_hand_ends_before_it_touches_a_unit() {
    let machine = Machine::boot();
    machine.launch(&config("auto", SLEEPER));
    let agent =
        eventually("the agent to run", || Some(machine.main_pid(UNIT)).filter(|pid| *pid != 0));
    machine.stop_monitor();
    let mut by_hand = machine.command(&["iotmonitor", "run"]).spawn().expect("nsenter can be run");
    eventually("the monitor by hand to be there", || {
        machine.run(&["iotmonitor", "status"]).status.success().then_some(())
    });
    machine.write_config(&config("auto", LAMP));
    assert!(!machine.run(&["systemctl", "start", "iotmonitor"]).status.success());
    assert_eq!(machine.property("iotmonitor.service", "ExecMainStatus"), "78");
    machine.journal().wait_for("the sentence", |entry| {
        entry.is_alert("start-failed", "") && entry.message().contains("another iotmonitor")
    });
    assert_eq!(machine.main_pid(UNIT), agent, "no unit was touched");
    by_hand.kill().expect("it is our child");
    by_hand.wait().expect("it is our child");
}
