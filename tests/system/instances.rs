//! Two monitors on one machine.

use super::harness::{GARDEN, Machine, config, eventually};

const HOUSE_AGENT: &str = "iotmonitor-agent-sleeper.service";
const GARDEN_AGENT: &str = "iotmonitor-garden-agent-sleeper.service";
const SLEEPER: &str = "[agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const LAMP: &str = "[device_lamp]\nhelloTopic = \"home/lamp\"\nstateTopics = \"home/lamp/set/#\"\n";

#[test]
fn two_instances_leave_each_other_alone() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", &format!("{LAMP}{SLEEPER}")));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    let house = machine.main_pid(HOUSE_AGENT);
    machine.write_garden(&format!("{LAMP}{SLEEPER}"));
    let there = machine.subscribe(&["garden/#"]);
    machine.ok(&["systemctl", "start", GARDEN]);
    there.wait_topic(0, "garden/monitoring/startedprocess/sleeper");
    let garden = machine.main_pid(GARDEN_AGENT);
    assert_ne!(house, garden);
    machine.ok(&["test", "-e", "/var/lib/iotmonitor@garden/data.mdb"]);
    assert_eq!(machine.sh("stat -c %a /var/lib/iotmonitor@garden"), "700");

    // The one restarts, and its agent and the other's go on.
    machine.ok(&["systemctl", "restart", GARDEN]);
    machine.restart_monitor();
    assert_eq!((machine.main_pid(HOUSE_AGENT), machine.main_pid(GARDEN_AGENT)), (house, garden));

    // A command goes to the instance that is meant.
    machine.ok(&["iotmonitor", "restart", "sleeper", "--clientid", "garden"]);
    let garden = machine.await_new_main_pid(GARDEN_AGENT, garden);
    assert_eq!(machine.main_pid(HOUSE_AGENT), house);

    // An agent that leaves one file is stopped there alone.
    machine.write_config(&config("auto", LAMP));
    assert!(machine.reload_monitor().status.success());
    eventually("the agent that left to be stopped", || {
        (machine.main_pid(HOUSE_AGENT) == 0).then_some(())
    });
    assert_eq!(machine.main_pid(GARDEN_AGENT), garden);
    machine.write_garden(LAMP);
    machine.ok(&["systemctl", "reload", GARDEN]);
    eventually("the agent that left to be stopped", || {
        (machine.main_pid(GARDEN_AGENT) == 0).then_some(())
    });
    machine.stop_monitor();
    assert!(machine.is_active(GARDEN));
}

/// What holds for the one unit holds for the other: they differ in what makes an instance.
#[test]
fn the_template_is_the_service_but_for_its_names() {
    let service = include_str!("../../systemd/usr/lib/systemd/system/iotmonitor.service");
    let template = include_str!("../../systemd/usr/lib/systemd/system/iotmonitor@.service");
    let settings = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let as_service = settings(template)
        .join("\n")
        .replace(", instance %i", "")
        .replace(" --config /etc/iotmonitor/%i.toml", "")
        .replace("iotmonitor@%i", "iotmonitor");
    assert_eq!(as_service, settings(service).join("\n"));
}
