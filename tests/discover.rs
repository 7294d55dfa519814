//! `iotmonitor discover` on a real broker.

#[path = "common/broker.rs"]
#[expect(dead_code, reason = "other tests stop and restart their brokers")]
mod broker;

use broker::{Broker, free_port};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// The retained messages of a new subscriber, and the messages that are repeated afterwards.
const RETAINED: &[(&str, &str)] = &[
    ("tele/plug1/LWT", "Online"),
    ("garage/status", "online"),
    ("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#),
    ("zigbee2mqtt/bridge/devices", r#"[{"friendly_name":"hall","type":"EndDevice"}]"#),
    ("homie/heater/$homie", "4.0.0"),
    ("homie/heater/$state", "ready"),
    ("shellies/shelly1-AB/online", "true"),
    (
        "homeassistant/sensor/inv/power/config",
        r#"{"stat_t":"inv/power","dev":{"ids":["i"],"name":"Inverter"}}"#,
    ),
    ("home/gone/temperature", "12"),
];
const LIVE: &[(&str, &str)] = &[
    ("tele/plug1/STATE", "{}"),
    ("garage/sensor/door/state", "closed"),
    ("homie/heater/valve/position", "20"),
    ("shellies/shelly1-AB/relay/0", "on"),
    ("inv/power", "120"),
    ("home/esp04/sensors/temperature", "21"),
    ("home/\"quoted\"/\u{202e}\\/x", "1"),
];

/// A discovery that runs.
struct Run {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Run {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_iotmonitor"))
            .arg("discover")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr }
    }

    /// Waits until it hears what passes.
    fn listens(&mut self) {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        assert!(line.starts_with("listening to tcp://127.0.0.1:"), "{line}");
    }

    fn output(mut self) -> (Output, String) {
        let mut errors = String::new();
        let output = self.child.wait_with_output().unwrap();
        self.stderr.read_to_string(&mut errors).unwrap();
        (output, errors)
    }
}

fn check(directory: &tempfile::TempDir, text: &str) {
    let file = directory.path().join("found.toml");
    fs::write(&file, text).unwrap();
    let check =
        Command::new(env!("CARGO_BIN_EXE_iotmonitor")).arg("check").arg(file).output().unwrap();
    assert!(check.status.success() && check.stderr.is_empty(), "{check:?}\n{text}");
}

fn config(directory: &tempfile::TempDir, broker: &Broker, rest: &str) -> PathBuf {
    let file = directory.path().join("config.toml");
    let text = format!("[mqtt]\nserverAddress = \"tcp://127.0.0.1:{}\"\n{rest}", broker.port());
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn what_passes_on_a_broker_becomes_a_configuration() {
    for protocol in ["5", "3.1.1"] {
        let directory = tempfile::tempdir().unwrap();
        let broker = Broker::start();
        for (topic, payload) in RETAINED {
            broker.publish_bytes(topic, true, payload.as_bytes());
        }
        let file = config(&directory, &broker, &format!("protocol = \"{protocol}\"\n"));
        let mut run = Run::start(&[file.to_str().unwrap(), "--for", "4s"]);
        run.listens();
        while run.child.try_wait().unwrap().is_none() {
            for (topic, payload) in LIVE {
                broker.publish_bytes(topic, false, payload.as_bytes());
            }
        }
        let (output, errors) = run.output();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{errors}");
        check(&directory, &text);
        for section in [
            "\n[device_plug1]\nwatchTopics = [\"tele/plug1/+\", \"stat/plug1/+\"]\nwatchTimeOut = \"auto\"",
            "\navailabilityTopic = \"tele/plug1/LWT\"",
            "\n[device_garage]\nwatchTopics = \"garage/+/+/state\"",
            "\n[device_zigbee2mqtt]\navailabilityTopic = \"zigbee2mqtt/bridge/state\"",
            "\n# [device_hall]\n# watchTopics = \"zigbee2mqtt/hall\"",
            "\n[device_heater]\nwatchTopics = \"homie/heater/+/+\"",
            "\n[device_shelly1-AB]\nwatchTopics = \"shellies/shelly1-AB/relay/+\"",
            "\n[device_Inverter]\nwatchTopics = \"inv/power\"",
            "\n[device_esp04]\nwatchTopics = \"home/esp04/sensors/temperature\"",
            "\n# [device_gone]\n",
            "\nwatchTopics = \"home/\\\"quoted\\\"/\\u202E\\\\/x\"",
            &format!("\nprotocol = \"{protocol}\"\n"),
        ] {
            assert!(text.contains(section), "{section} is missing:\n{text}");
        }
        assert!(!text.contains('\u{202e}'));
    }
}

#[test]
fn only_what_is_asked_for_is_printed_and_a_summary_says_what_was_found() {
    let broker = Broker::start();
    for (topic, payload) in RETAINED {
        broker.publish_bytes(topic, true, payload.as_bytes());
    }
    let server = format!("tcp://127.0.0.1:{}", broker.port());
    let only = ["--only", "pl*1", "--only", "homie/#"];
    let arguments = [&["--server", server.as_str(), "--for", "1s"], &only[..]].concat();
    let (output, errors) = Run::start(&arguments).output();
    let text = String::from_utf8(output.stdout).unwrap();
    let named = text.lines().filter(|line| line.contains("[device_"));
    assert_eq!(named.collect::<Vec<_>>(), ["[device_heater]", "[device_plug1]"], "{text}{errors}");
    assert!(errors.contains("\n2 devices of 8 found in "), "{errors}");
    let summary: Vec<&str> = errors.lines().filter(|line| line.starts_with("  ")).collect();
    assert_eq!(summary, ["  Homie: 1", "  Tasmota: 1"]);
    let arguments = ["--server", server.as_str(), "--only", "a/#/b"];
    let (output, errors) = Run::start(&arguments).output();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("in `a/#/b`, `#` must be the last level"), "{errors}");
}

#[test]
fn an_interrupt_ends_it_early_and_prints_what_was_heard() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let rest = "user = \"monitor\"\npassword = \"hunter2\"\nclientid = \"house\"\n\
        [device_lamp]\nwatchTopics = \"home/lamp/#\"\n";
    let file = config(&directory, &broker, rest);
    let mut run = Run::start(&[file.to_str().unwrap(), "--for", "1h"]);
    run.listens();
    broker.publish_bytes("home/lamp/power", false, b"3");
    broker.publish_bytes("home/pump/power", false, b"5");
    let pid = Pid::from_raw(run.child.id().try_into().unwrap());
    signal::kill(pid, Signal::SIGINT).unwrap();
    let (output, errors) = run.output();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{errors}");
    check(&directory, &text);
    assert!(text.contains("\n[device_pump]\nwatchTopics = \"home/pump/power\"\n"), "{text}");
    let left_out = format!("\n# Left out because {} has them: lamp.\n", file.display());
    assert!(text.contains(&left_out) && !text.contains("[device_lamp]"), "{text}");
    assert!(
        text.contains("\nuser = \"monitor\"\nclientid = \"house\"\n# The password is not"),
        "{text}"
    );
    assert!(!text.contains("hunter2") && !errors.contains("hunter2"), "{text}{errors}");
    // The client has an identifier of its own, and the monitor's session is left alone.
    let log = fs::read_to_string(broker.log()).unwrap();
    assert!(log.contains("as house-discover-") && !log.contains("as house "), "{log}");
    assert!(log.contains("Received DISCONNECT from house-discover-"), "{log}");
}

#[test]
fn what_is_wrong_is_said_at_once() {
    let server = format!("tcp://127.0.0.1:{}", free_port());
    for (arguments, code, said) in [
        (vec!["--server", &server, "--for", "1h"], 1, "cannot reach tcp://127.0.0.1:"),
        (vec!["--server", "http://x"], 78, "serverAddress: "),
        (vec!["/nowhere/config.toml"], 78, "cannot read the configuration /nowhere/config.toml"),
        (vec!["--server", &server, "--for", "1ms"], 2, "it must be from 1s to 30d"),
        (vec!["--server", &server, "--for", "soon"], 2, "`soon` is not a time span"),
    ] {
        let (output, errors) = Run::start(&arguments).output();
        assert_eq!(output.status.code(), Some(code), "{errors}");
        assert!(errors.contains(said) && output.stdout.is_empty(), "{errors}");
    }
}
