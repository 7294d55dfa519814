//! Two monitors on one machine.

use super::harness::{GARDEN, Machine, config, eventually};

const HOUSE_AGENT: &str = "iotmonitor-agent-sleeper.service";
const GARDEN_AGENT: &str = "iotmonitor-garden-agent-sleeper.service";
const SLEEPER: &str = "[agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const GARDEN_FILE: &str = "/etc/iotmonitor/garden.toml";
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

    // Before the command as well as behind it.
    machine.ok(&["iotmonitor", "--clientid", "garden", "status", "sleeper"]);
    machine.ok(&["iotmonitor", "status", "sleeper", "--clientid", "garden"]);
    let refused = machine.run(&["iotmonitor", "--clientid", "garden", "check"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");

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
    let missed = machine.run(&["iotmonitor", "status"]);
    let said = String::from_utf8_lossy(&missed.stderr).into_owned();
    assert!(said.contains("`systemctl start iotmonitor`"), "{said}");
    assert!(said.contains("`--clientid garden`"), "{said}");
    // What an instance says of itself names its own unit.
    machine.sh("sed -i 's/clientid = .*/clientid = \"yard\"/' /etc/iotmonitor/garden.toml");
    let failed = machine.run(&["systemctl", "reload", GARDEN]);
    assert!(!failed.status.success());
    machine.journal().wait_for("the unit that speaks", |entry| {
        entry.is_alert("reload-failed", "")
            && entry.message().contains("`systemctl restart iotmonitor@garden`")
    });
}

#[test]
fn an_instance_without_names_in_its_file_has_names_of_its_own() {
    let machine = Machine::boot();
    machine.write_file(GARDEN_FILE, &config("auto", SLEEPER));
    for file in ["/etc/iotmonitor/config.toml", GARDEN_FILE] {
        machine.write_config(&config("auto", SLEEPER));
        let checked = machine.run(&["iotmonitor", "check", file]);
        assert_eq!(String::from_utf8_lossy(&checked.stderr), "");
    }
    let bus = machine.launch(&config("auto", SLEEPER));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    let house = machine.main_pid(HOUSE_AGENT);
    let from = bus.end();
    machine.ok(&["systemctl", "start", GARDEN]);
    bus.wait_exact(from, "home/monitoring-garden/availability", "online");
    bus.wait_topic(from, "home/monitoring-garden/startedprocess/sleeper");
    assert_eq!(machine.main_pid(HOUSE_AGENT), house);
    assert_ne!(machine.main_pid(r"iotmonitor-iotmonitor\x2dgarden-agent-sleeper.service"), 0);
    for clientid in [&[][..], &["--clientid", "iotmonitor-garden"]] {
        let said = machine.ok(&[&["iotmonitor", "status"], clientid].concat());
        assert!(said.contains("sleeper"), "{said}");
    }
    assert_eq!(bus.count(from, "home/monitoring/availability"), 0);
    machine.ok(&["systemctl", "stop", GARDEN]);
    assert!(machine.is_active("iotmonitor.service"));
}

/// No upgrade moves topics, at the first start and at later ones.
#[test]
fn an_instance_over_a_store_of_an_earlier_version_keeps_its_names_and_warns() {
    let machine = Machine::boot();
    let store = std::fs::read("tests/fixtures/store-0.3.0/data.mdb").expect("it is there");
    machine.write_file("/var/lib/iotmonitor@garden/data.mdb", &store);
    machine.write_file(GARDEN_FILE, &config("auto", SLEEPER));
    let bus = machine.subscribe(&["home/#"]);
    for start in 1..=2 {
        let from = bus.end();
        machine.ok(&["systemctl", "start", GARDEN]);
        bus.wait_exact(from, "home/monitoring/availability", "online");
        bus.wait_from(from, "the agent's status", |message| {
            message.topic == "home/monitoring/status/sleeper"
                && message.json()["state"] != "expired"
        });
        assert_ne!(machine.await_new_main_pid(HOUSE_AGENT, 0), 0);
        eventually("a warning at each start", || {
            let warnings = machine.journal().now(&machine, |entry| {
                entry.is_alert("config-warning", "")
                    && entry.message().contains("iotmonitor-garden")
                    && entry.message().contains("home/monitoring-garden")
            });
            (warnings.len() == start).then_some(())
        });
        machine.ok(&["systemctl", "stop", GARDEN]);
        bus.wait_exact(from, "home/monitoring/availability", "offline");
    }
    assert!(bus.all().iter().all(|m| !m.topic.starts_with("home/monitoring-garden")));
}

#[test]
fn two_monitors_below_one_base_topic_each_say_so_once() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", ""));
    bus.let_seconds_pass(6);
    let shared = "[mqtt]\nbaseTopic = \"home/monitoring\"\n";
    machine.write_file(GARDEN_FILE, &config("auto", "").replace("[mqtt]\n", shared));
    let checked = machine.run(&["iotmonitor", "check", GARDEN_FILE]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && said.contains("/etc/iotmonitor/config.toml"), "{said}");
    machine.ok(&["systemctl", "start", GARDEN]);
    for unit in ["iotmonitor.service", GARDEN] {
        machine.journal().wait_for(unit, |entry| {
            entry.is_alert("basetopic-shared", "") && entry.field("_SYSTEMD_UNIT") == unit
        });
    }
    bus.let_seconds_pass(6);
    assert_eq!(machine.journal().alerts(&machine, "basetopic-shared", ""), 2);
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
