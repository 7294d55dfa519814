//! The answers of the running monitor about its devices.

use super::harness::{Machine, config};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};

const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 2\nhelloTopic = \"home/lamp\"\n\
    watchTopics = \"home/lamp/sensors/#\"\nstateTopics = \"home/lamp/set/#\"\n\
    [agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const UNIT: &str = "iotmonitor-agent-sleeper.service";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn every_user_may_look_and_only_root_may_command() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    bus.wait_topic(0, "home/monitoring/expire/lamp");
    let pid = machine.main_pid(UNIT);

    let as_nobody = ["runuser", "-u", "nobody", "--"];
    let run = |command: &[&str]| machine.run(&[&as_nobody[..], command].concat());
    let listed = run(&["iotmonitor", "status", "--json"]);
    assert!(listed.status.success(), "{listed:?}");
    let listed = json(&String::from_utf8(listed.stdout).unwrap());
    assert_eq!(listed[0]["name"], "lamp");
    assert_eq!(listed[0]["state"], "expired");
    assert_eq!(listed[0]["watchTimeOut"], 2.0);
    assert_eq!(listed[1]["name"], "sleeper");
    assert_eq!(listed[1]["agent"]["unit"], UNIT);
    assert_eq!(listed[1]["agent"]["state"], "active");
    assert_eq!(listed[1]["agent"]["mainPid"], pid);
    assert_eq!(listed.as_array().unwrap().len(), 2);

    let call = |member: &str, arguments: &[&str]| {
        let busctl = ["busctl", "--system", "call", "org.iotmonitor.Monitor1"];
        let rest = ["/org/iotmonitor/Monitor1", "org.iotmonitor.Monitor1", member];
        run(&[&busctl[..], &rest[..], arguments].concat())
    };
    let device = call("GetDevice", &["s", "lamp"]);
    assert!(String::from_utf8_lossy(&device.stdout).contains("\"State\" s \"expired\""));
    for member in ["Disable", "Enable", "Restore", "RestartAgent"] {
        assert!(!call(member, &["s", "sleeper"]).status.success(), "{member}");
    }
    assert!(!call("Reload", &[]).status.success());
    for verb in ["disable", "enable", "restore", "restart"] {
        let refused = run(&["iotmonitor", verb, "sleeper"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("not allowed"), "{verb}: {said}");
    }
    assert_eq!(machine.main_pid(UNIT), pid);
}

/// A rule as an administrator writes it (polkit(8)).
const RULE: &str = "polkit.addRule(function(action, subject) {
    if (action.id == \"org.iotmonitor.manage\" && subject.user == \"pi\") return polkit.Result.YES;
});\n";

#[test]
fn users_that_polkit_allows_may_command() {
    let machine = Machine::boot();
    machine.ok(&["useradd", "pi"]);
    let rule = "/etc/polkit-1/rules.d/50-iotmonitor.rules";
    machine.write_file(rule, RULE);
    machine.ok(&["chmod", "a+r", rule]);
    let bus = machine.launch(&config("auto", SECTIONS));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    let pid = machine.main_pid(UNIT);
    let restart = |user: &str| {
        machine.run(&["runuser", "-u", user, "--", "iotmonitor", "restart", "sleeper"])
    };

    let refused = restart("nobody");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("polkit does not allow it"), "{said}");
    assert_eq!(machine.main_pid(UNIT), pid);
    assert!(restart("pi").status.success());
    let pid = machine.await_new_main_pid(UNIT, pid);

    machine.ok(&["systemctl", "mask", "--now", "polkit"]);
    let refused = restart("pi");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("polkit cannot be asked"), "{said}");
    assert_eq!(machine.main_pid(UNIT), pid);
}

#[test]
fn the_objects_are_there_for_everybodys_busctl() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    bus.wait_topic(0, "home/monitoring/expire/lamp");
    let busctl = |arguments: &str| {
        machine.sh(&format!("runuser -u nobody -- busctl --system --no-pager {arguments}"))
    };
    let tree = busctl("tree --list org.iotmonitor.Monitor1");
    println!("{tree}");
    let root = "/org/iotmonitor/Monitor1";
    for path in ["", "/device", "/device/lamp", "/device/sleeper"] {
        assert!(tree.lines().any(|line| line == format!("{root}{path}")), "{path}: {tree}");
    }
    let service = "org.iotmonitor.Monitor1";
    let property = |path: &str, interface: &str, name: &str| {
        busctl(&format!("get-property {service} {root}{path} org.iotmonitor.{interface} {name}"))
    };
    assert_eq!(property("/device/lamp", "Device1", "State"), "s \"expired\"");
    let pid = machine.main_pid(UNIT);
    assert_eq!(property("/device/sleeper", "Agent1", "MainPID"), format!("u {pid}"));
    assert_eq!(property("", "Monitor1", "AgentsRunning"), "t 1");
    let described = busctl(&format!("introspect {service} {root}/device/sleeper"));
    println!("{described}");
    for word in [".Restart", ".UnitState", "\"active\"", ".PropertiesChanged"] {
        assert!(described.contains(word), "{word}: {described}");
    }

    // A program of an unprivileged user hears of a change.
    let mut listener = machine
        .command(&["runuser", "-u", "nobody", "--", "stdbuf", "-oL", "dbus-monitor", "--system"])
        .arg(format!("type=signal,path_namespace={root}"))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(listener.stdout.take().unwrap()).lines().map_while(Result::ok);
    // It says this once it listens.
    assert!(lines.by_ref().any(|line| line.contains("member=NameAcquired")));
    machine.make_alive(&bus, "lamp", "home/lamp/sensors/light");
    assert!(lines.by_ref().any(|line| line.contains("member=Recovered")));
    assert!(lines.by_ref().any(|line| line.contains("\"alive\"")));
    machine.signal(nix::sys::signal::Signal::SIGKILL, pid);
    assert!(lines.by_ref().any(|line| line.contains("member=AgentRestarted")));
    let new = machine.await_new_main_pid(UNIT, pid);
    assert!(lines.by_ref().any(|line| line.contains(&format!("uint32 {new}"))));
    listener.kill().unwrap();
    listener.wait().unwrap();

    machine.ok(&[
        "busctl",
        "--system",
        "call",
        service,
        &format!("{root}/device/sleeper"),
        "org.iotmonitor.Agent1",
        "Restart",
    ]);
    machine.await_new_main_pid(UNIT, new);
}

#[test]
fn the_table_and_the_words_of_one_device() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    let pid = machine.main_pid(UNIT);
    let from = bus.end();
    machine.publish("home/lamp", "hello");
    bus.wait_exact(from, "home/monitoring/helloTopicCount/lamp", "1");

    let table = machine.ok(&["iotmonitor", "status"]);
    println!("{table}");
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(&lines[0][..5], ["NAME", "STATE", "CONTACT", "TIMEOUT", "HELLOS"]);
    assert_eq!(&lines[1][..2], ["lamp", "alive"]);
    assert_eq!(&lines[2][..2], ["sleeper", "unknown"]);
    assert!(lines[2].contains(&pid.to_string().as_str()), "{table}");

    let lamp = machine.ok(&["iotmonitor", "status", "lamp"]);
    println!("{lamp}");
    assert!(lamp.contains("state:        alive"), "{lamp}");
    assert!(lamp.contains("hellos:       1"), "{lamp}");
    assert!(!table.contains("cannot be reached") && !lamp.contains("cannot be reached"));
    machine.ok(&["systemctl", "stop", "mosquitto"]);
    machine.journal().wait_for_alert("broker-lost", "");
    let alone = machine.ok(&["iotmonitor", "status"]);
    assert!(alone.contains("The broker cannot be reached now"), "{alone}");

    for verb in ["status", "logs", "restore"] {
        let unknown = machine.run(&["iotmonitor", verb, "lammp"]);
        assert!(!unknown.status.success(), "{verb}");
        let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
        assert!(said.contains("`lammp`, did you mean `lamp`?"), "{verb}: {said}");
    }
}

#[test]
fn a_watch_goes_on_over_a_restart_of_the_monitor() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    bus.wait_topic(0, "home/monitoring/expire/lamp");
    let mut watch = machine
        .command(&["iotmonitor", "status", "lamp", "--watch"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("expired (silent)")));
    machine.stop_monitor();
    assert!(lines.any(|line| line.contains("iotmonitor is not running; start it with")));
    machine.start_monitor();
    assert!(lines.any(|line| line.contains("expired (silent)")));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn the_logs_of_an_agent_show_its_own_words_and_those_about_it() {
    let machine = Machine::boot();
    let speaker = SECTIONS.replace("exec sleep", "echo \\\"I speak\\\"; exec sleep");
    let bus = machine.launch(&config("auto", &speaker));
    bus.wait_topic(0, "home/monitoring/expire/lamp");
    machine.journal().wait_for("the agent's word", |entry| entry.message() == "I speak");
    machine.journal().wait_for_alert("agent-started", "sleeper");

    let logs = |name: &str| machine.ok(&["iotmonitor", "logs", name, "--", "--output=cat"]);
    let agent = logs("sleeper");
    println!("{agent}");
    assert!(agent.lines().any(|line| line == "I speak"), "{agent}");
    assert!(agent.contains("agent `sleeper` has started"), "{agent}");
    assert!(!agent.contains("lamp"), "{agent}");
    let device = logs("lamp");
    assert!(device.contains("device `lamp` is silent"), "{device}");
    assert!(!device.contains("sleeper"), "{device}");

    // The last entry alone is shown, and then what comes.
    let mut follower = machine
        .command(&["iotmonitor", "logs", "lamp", "-f", "-n", "1", "--", "--output=cat"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.next().unwrap().contains("`lamp` is silent"));
    machine.make_alive(&bus, "lamp", "home/lamp/sensors/light");
    assert!(lines.next().unwrap().contains("`lamp` is back"));
    follower.kill().unwrap();
    follower.wait().unwrap();

    // The journal can be read when there is no monitor to ask.
    machine.stop_monitor();
    assert!(logs("sleeper").contains("I speak"));
}
