//! The sections that all nodes of a cluster share, on one node with an etcd in the same machine.

use super::harness::{Machine, config, eventually};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};

const CLUSTER: &str =
    "[cluster]\nname = \"house\"\nendpoints = \"http://127.0.0.1:2379\"\nnode = \"pi1\"\n";
const OWN: &str = "[device_own]\nwatchTopics = \"own\"\n";
const RULES: &str = "iotmonitor-agent-rules.service";
const FILE: &str = "/root/house.toml";
const COPY: &str = "/var/lib/iotmonitor/shared.toml";
const ROOT_AGENT: &str = "[agent_pump]\nexec = [\"/bin/sleep\", \"infinity\"]\nuser = \"root\"\n";

/// A node whose own file has one device.
fn node() -> Machine {
    let machine = Machine::boot();
    machine.ok(&["systemctl", "start", "etcd"]);
    machine.write_config(&config("auto", &format!("{CLUSTER}{OWN}")));
    machine.start_monitor();
    eventually("the node to take part", || {
        let shown = machine.run(&["iotmonitor", "cluster"]).stdout;
        shown.starts_with(b"etcd has answered for ").then_some(())
    });
    machine
}

/// The file of the page about clusters.
fn example() -> String {
    let page = include_str!("../../docs/cluster.md");
    let (_, rest) = page.split_once("```toml\n[device_lamp]").expect("the example");
    format!("[device_lamp]{}", rest.split_once("```").unwrap().0)
}

fn apply(machine: &Machine, text: &str) -> Result<String, String> {
    machine.write_file(FILE, text);
    let output = machine.run(&["iotmonitor", "cluster", "apply", FILE]);
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(words(&output.stdout)) } else { Err(words(&output.stderr)) }
}

/// Waits until the node uses this version.
fn await_version(machine: &Machine, number: u64) -> String {
    let said = format!("Shared sections: version {number} of ");
    eventually("the version to be in force", || {
        let shown = machine.ok(&["iotmonitor", "cluster"]);
        let uses = shown.contains("\nAll nodes use this version.\n");
        (shown.contains(&said) && uses).then_some(shown)
    })
}

fn knows(machine: &Machine, name: &str) -> bool {
    machine.run(&["iotmonitor", "status", name]).status.success()
}

/// Puts a key as whoever may write to etcd can.
fn put(machine: &Machine, key: &str, value: &str) -> Value {
    let key = BASE64_STANDARD.encode(format!("/iotmonitor/house/{key}"));
    let body = json!({ "key": key, "value": BASE64_STANDARD.encode(value) }).to_string();
    let mut stream = machine.connect(2379).unwrap();
    let head = format!("POST /v3/kv/put HTTP/1.0\r\nContent-Length: {}", body.len());
    write!(stream, "{head}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// The same with a whole version of the sections.
fn put_version(machine: &Machine, number: u64, text: &str) {
    put(machine, &format!("chunk/{number:016x}/00000"), text);
    let version = json!({ "number": number, "stamp": number, "given": 0, "by": "pi2",
                          "bytes": text.len(), "chunks": 1 });
    put(machine, "config", &version.to_string());
}

#[test]
fn a_node_takes_the_shared_sections_and_keeps_them_without_etcd() {
    let machine = node();
    let said = apply(&machine, &example()).unwrap();
    let expected = "added: [agent_rules], [device_lamp]\nversion 1 with 2 sections is in etcd; \
                    `iotmonitor cluster` shows which nodes use it\n";
    assert_eq!(said, expected);
    assert!(include_str!("../../docs/cluster.md").contains(expected), "the page says it too");
    let shown = await_version(&machine, 1);
    assert!(shown.contains(", applied on pi1.\n"), "{shown}");
    assert_ne!(machine.await_new_main_pid(RULES, 0), 0);
    assert!(knows(&machine, "lamp") && knows(&machine, "own"));
    assert_eq!(machine.ok(&["stat", "-c", "%a %U", COPY]), "600 root");
    let checked = machine.ok(&["iotmonitor", "check"]);
    assert!(
        checked.contains("; 2 sections of version 1 of those that all nodes share"),
        "{checked}"
    );
    let told = "is in force with 2 devices and 1 agent, version 1 of the shared sections included";
    machine.journal().wait_for("the reload", |entry| {
        entry.is_alert("reloaded", "") && entry.message().contains(told)
    });

    machine.stop_monitor();
    machine.ok(&["systemctl", "stop", "etcd"]);
    machine.start_monitor();
    assert!(knows(&machine, "lamp"), "the copy is read at the start");
    assert!(knows(&machine, "rules"));
    machine.ok(&["systemctl", "start", "etcd"]);
    await_version(&machine, 1);
    machine.await_new_main_pid(RULES, 0);

    refusals(&machine);

    let said = apply(&machine, "").unwrap();
    assert!(
        said.starts_with("removed: [agent_rules], [device_lamp]\nversion 12 with 0 "),
        "{said}"
    );
    eventually("the sections to be gone", || {
        (!knows(&machine, "lamp") && !machine.is_active(RULES)).then_some(())
    });
    assert!(knows(&machine, "own"));
}

/// Version 1 stays in force, whatever this node cannot use.
fn refusals(machine: &Machine) {
    let refused = |text: &str| apply(machine, text).unwrap_err();
    let words = refused(&format!("{}{ROOT_AGENT}", example()));
    let expected = "[agent_pump] would run as root, which this node does not allow";
    assert!(words.contains(expected) && words.contains(FILE), "{words}");
    let words = refused("[mqtt]\npassword = \"hunter2\"\n");
    assert!(words.contains("the section [mqtt] cannot be shared") && !words.contains("hunter2"));
    let words = refused(OWN);
    assert!(words.contains("the section [device_own] is in two files"), "{words}");
    await_version(machine, 1);

    // Another node may have applied what this one does not allow.
    put_version(machine, 9, &format!("{}{ROOT_AGENT}", example()));
    let told = machine.journal().wait_for_alert("shared-refused", "");
    let words = told.message();
    assert!(
        words.starts_with("version 9 of the sections that all nodes share, applied on node `pi2`")
    );
    assert!(words.contains(expected), "{words}");
    assert!(knows(machine, "lamp") && !knows(machine, "pump"));
    assert_eq!(machine.property("iotmonitor-agent-pump.service", "LoadState"), "not-found");
    assert!(machine.reload_monitor().status.success(), "a reload keeps to version 1");
    machine.restart_monitor();
    eventually("the refused version to be read again", || {
        let shown = machine.ok(&["iotmonitor", "cluster"]);
        shown.contains("Node pi1 uses version 1.\n").then_some(())
    });
    assert!(knows(machine, "lamp"));

    // The node's own file decides, and a reload is enough.
    let consents = format!("{CLUSTER}allowRootAgents = true\n{OWN}");
    machine.write_config(&config("auto", &consents));
    eventually("the agent to run as root", || {
        assert!(machine.reload_monitor().status.success());
        machine.is_active("iotmonitor-agent-pump.service").then_some(())
    });
    await_version(machine, 9);
    // Without its consent, a start is one without the shared sections.
    machine.stop_monitor();
    machine.write_config(&config("auto", &format!("{CLUSTER}{OWN}")));
    let checked = machine.run(&["iotmonitor", "check"]);
    assert!(String::from_utf8_lossy(&checked.stderr).contains(expected));
    machine.start_monitor();
    assert!(knows(machine, "own") && !knows(machine, "pump"));
    put_version(machine, 11, &example());
    await_version(machine, 11);
    assert!(knows(machine, "lamp"));
    assert!(!machine.is_active("iotmonitor-agent-pump.service"));
}

#[test]
fn only_root_gives_sections_to_all_nodes() {
    let machine = node();
    machine.ok(&["useradd", "pi"]);
    let rule = "/etc/polkit-1/rules.d/50-iotmonitor.rules";
    let allows = "polkit.addRule(function(action, subject) {
        if (subject.user == \"pi\") return polkit.Result.YES;
    });\n";
    machine.write_file(rule, allows);
    machine.ok(&["chmod", "a+r", rule]);
    machine.write_file("/tmp/house.toml", &example());
    machine.ok(&["chmod", "a+r", "/tmp/house.toml"]);
    let pi =
        |argv: &[&str]| machine.run(&[&["runuser", "-u", "pi", "--", "iotmonitor"], argv].concat());
    assert!(pi(&["disable", "own"]).status.success(), "polkit allows it to command");
    let refused = pi(&["cluster", "apply", "/tmp/house.toml"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("only root may say what runs"), "{words}");
    machine.feed(&["iotmonitor", "cluster", "apply", "-"], example().as_bytes());
    await_version(&machine, 1);
}
