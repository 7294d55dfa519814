//! What the monitor asks systemd for: while it answers, it starts nothing.

use super::harness::{Machine, config, eventually};

const AGENTS: usize = 20;

const MANAGER: &str =
    "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager";

/// The unit of the first agent.
const AGENT: &str = "/org/freedesktop/systemd1/unit/iotmonitor_2dagent_2da0_2eservice";

/// What busctl has shown so far of this type.
fn messages(machine: &Machine, kind: &str) -> Vec<serde_json::Value> {
    let text = String::from_utf8(machine.read_file("/run/calls")).expect("busctl prints JSON");
    // Its last line may not be complete.
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    // busctl of Debian 12 first says there what it does.
    let lines = complete.lines().filter(|line| line.starts_with('{'));
    let messages = lines
        .map(|line| -> serde_json::Value { serde_json::from_str(line).expect("a line of JSON") });
    messages.filter(|message| message["type"] == kind).collect()
}

/// The calls to systemd on the bus so far, by their names.
fn calls(machine: &Machine) -> Vec<String> {
    let name = |call: serde_json::Value| call["member"].as_str().expect("a name").to_owned();
    messages(machine, "method_call").into_iter().map(name).collect()
}

/// The states of the first agent's unit that systemd has signalled so far.
fn states(machine: &Machine) -> Vec<String> {
    let signals = messages(machine, "signal");
    let changes = signals.iter().map(|signal| &signal["payload"]["data"]);
    let of_unit = changes.filter(|change| change[0] == "org.freedesktop.systemd1.Unit");
    of_unit.filter_map(|change| Some(change[1]["SubState"]["data"].as_str()?.to_owned())).collect()
}

fn count(calls: &[String], name: &str) -> usize {
    calls.iter().filter(|call| *call == name).count()
}

fn systemd_is_not_asked_for_what_it_signals(suite: &str) {
    let machine = Machine::boot_suite(suite);
    let mut sections = String::new();
    for number in 0..AGENTS {
        sections.push_str(&format!("[agent_a{number}]\nexec = 'exec sleep infinity'\n"));
    }
    machine.ok(&[
        "systemd-run",
        "--property=StandardOutput=file:/run/calls",
        "busctl",
        "monitor",
        "--json=short",
        "--match=type='method_call',destination='org.freedesktop.systemd1'",
        &format!("--match=type='signal',path='{AGENT}'"),
    ]);
    eventually("busctl to monitor the bus", || {
        machine.sh(&format!("busctl call {MANAGER} GetDefaultTarget; touch /run/calls"));
        calls(&machine).contains(&"GetDefaultTarget".to_owned()).then_some(())
    });
    let bus = machine.launch(&config("auto", &sections));
    for number in 0..AGENTS {
        bus.wait_topic(0, &format!("home/monitoring/startedprocess/a{number}"));
    }
    // The last signal of a start comes behind its end.
    bus.let_seconds_pass(2);
    let all = calls(&machine);
    assert_eq!(count(&all, "StartTransientUnit"), AGENTS, "{all:?}");
    for question in ["GetUnit", "GetAll"] {
        assert_eq!(count(&all, question), 0, "{all:?}");
    }

    // What an agent has used is asked for when it ends, and nothing when it runs again.
    let unit = "iotmonitor-agent-a0.service";
    let (from, pid) = (bus.end(), machine.main_pid(unit));
    let before = states(&machine).len();
    machine.signal(nix::sys::signal::Signal::SIGKILL, pid);
    bus.wait_topic(from, "home/monitoring/startedprocess/a0");
    bus.let_seconds_pass(2);
    let all = calls(&machine);
    // One question for each state without a process at most. What is signalled while a question waits is
    // asked for with it, and the next process may run before the monitor has seen any of them.
    let states = states(&machine).split_off(before);
    let ended = states.iter().filter(|state| !["start", "running"].contains(&state.as_str()));
    let most = ended.count();
    for question in ["GetUnit", "GetAll"] {
        assert!(count(&all, question) <= most, "{states:?} {all:?}");
    }

    // This end lasts until the monitor has seen it.
    let asked = count(&all, "GetUnit");
    machine.ok(&["systemctl", "stop", "iotmonitor-agent-a1.service"]);
    eventually("a question about the end", || {
        (count(&calls(&machine), "GetUnit") > asked).then_some(())
    });
}

#[test]
fn on_debian_12() {
    systemd_is_not_asked_for_what_it_signals("bookworm");
}

#[test]
fn on_debian_13() {
    systemd_is_not_asked_for_what_it_signals("trixie");
}
