//! `iotmonitor states`: what a person sees and does of the recorded states.

use super::harness::{Machine, Subscriber, config, eventually};
use serde_json::Value;

const LAMP: &str = "[device_lamp]\nwatchTimeOut = 0\nhelloTopic = \"home/lamp\"\n\
    watchTopics = \"home/lamp/sensors/#\"\nstateTopics = \"home/lamp/set/#\"\n\
    [device_bell]\nwatchTopics = \"home/bell/#\"\n";
const WARM_UP: &str = "home/lamp/set/warm-up";
const BYTES: &[u8] = b"\0\xff\xfe \n";

fn launch(machine: &Machine) -> Subscriber {
    let bus = machine.launch(&config("auto", LAMP));
    machine.await_recording(&bus, WARM_UP, "home/lamp");
    bus
}

/// Has the device set states, and waits until they are recorded.
fn record(machine: &Machine, bus: &Subscriber) {
    machine.publish_retained("home/lamp/set/color", "red");
    machine.publish_with(&[], "home/lamp/set/bytes", BYTES);
    machine.publish_with(&["-q", "0"], "home/lamp/set/level", b"7");
    machine.await_recording(bus, WARM_UP, "home/lamp");
}

fn states(machine: &Machine, arguments: &[&str]) -> String {
    machine.ok(&[&["iotmonitor", "states"], arguments].concat())
}

/// What is said about a command that fails.
fn refusal(machine: &Machine, arguments: &[&str]) -> String {
    let output = machine.run(&[&["iotmonitor", "states"], arguments].concat());
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn topics(lines: &str) -> Vec<String> {
    let topic = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
    lines.lines().map(|line| topic(line)["topic"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn states_are_listed_and_read_byte_for_byte() {
    let machine = Machine::boot();
    let bus = launch(&machine);
    record(&machine, &bus);
    let table = states(&machine, &["list"]);
    println!("{table}");
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["RECORDED", "QOS", "RETAINED", "TOPIC", "PAYLOAD"]);
    let row = |topic: &str| rows.iter().find(|row| row.contains(&topic)).unwrap();
    assert!(row("home/lamp/set/color").ends_with(&["1", "yes", "home/lamp/set/color", "red"]));
    assert!(row("home/lamp/set/bytes").ends_with(&[
        "1",
        "no",
        "home/lamp/set/bytes",
        "(5",
        "bytes)"
    ]));
    assert!(row("home/lamp/set/level").ends_with(&["0", "no", "home/lamp/set/level", "7"]));

    assert_eq!(states(&machine, &["list", "lamp"]), table);
    let json = states(&machine, &["list", "home/+/set/color", "--json"]);
    println!("{json}");
    assert_eq!(topics(&json), ["home/lamp/set/color"]);
    assert!(refusal(&machine, &["list", "bell"]).contains("nothing is recorded for `bell`"));
    assert!(refusal(&machine, &["list", "lammp"]).contains("did you mean `lamp`?"));

    let got = machine.run(&["iotmonitor", "states", "get", "home/lamp/set/bytes"]);
    assert_eq!(got.stdout, BYTES);
    let said = refusal(&machine, &["get", "home/lamp/set/colour"]);
    assert!(said.contains("did you mean `home/lamp/set/color`?"), "{said}");
    assert!(refusal(&machine, &["get", "home/#"]).contains("wildcards"));
}

/// What others published neither commands the reader's terminal nor forges its lines, whichever way
/// it gets there; a file and a pipe get the bytes.
#[test]
fn a_terminal_obeys_no_payload_and_no_topic() {
    const HOSTILE: &str = "home/lamp/set/\u{202e}gnp";
    const PAYLOAD: &[u8] = b"\x1b]0;owned\x07\x1b[2J\xc2\x9b31m\r\n\tred\xff\n";
    let machine = Machine::boot();
    let bus = launch(&machine);
    for topic in ["home/lamp/set/color", HOSTILE] {
        let from = bus.end();
        machine.publish_with(&[], topic, PAYLOAD);
        bus.wait_from(from, "the payload", |message| message.payload == PAYLOAD);
    }
    machine.await_recording(&bus, WARM_UP, "home/lamp");

    let got = on_terminal(&machine, "iotmonitor states get home/lamp/set/color");
    let shown = "\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\u{9b}31m\\r\n\tred\\xff\n\n";
    assert_eq!(String::from_utf8_lossy(&got), shown);
    let raw = on_terminal(&machine, "iotmonitor states get --raw home/lamp/set/color");
    assert_eq!(raw, PAYLOAD);
    for raw in ["", "--raw"] {
        let words = format!("iotmonitor states get {raw} home/lamp/set/color");
        assert_eq!(machine.command(&["sh", "-c", &words]).output().unwrap().stdout, PAYLOAD);
    }
    for command in [
        "iotmonitor states list",
        "iotmonitor states list --json",
        "iotmonitor states get --json home/lamp/set/color",
        "iotmonitor states get home/lamp/set/gnp",
        "iotmonitor states export -",
        "iotmonitor discover --for 2s",
        "iotmonitor status",
        "iotmonitor status --json",
        "iotmonitor status lamp",
    ] {
        let shown = on_terminal(&machine, &format!("{command}; true"));
        let shown = String::from_utf8(shown).expect("it is UTF-8");
        assert!(!shown.is_empty(), "{command}");
        // The colours are the program's own.
        let colourless = strip_colours(&shown);
        let hostile = colourless.chars().find(|c| {
            (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
                || matches!(c, '\u{202a}'..='\u{202e}')
        });
        assert_eq!(hostile, None, "{command}: {shown:?}");
    }
}

/// What reaches a pseudo-terminal, whose line ends stay as they are written.
fn on_terminal(machine: &Machine, command: &str) -> Vec<u8> {
    let script = format!("stty -opost; {command}");
    let mut words = machine.command(&["timeout", "60", "script", "-qefc", &script, "/dev/null"]);
    let output = words.env("TERM", "xterm").env("SHELL", "/bin/sh").output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    output.stdout
}

/// Without SGR sequences (ECMA-48) that only set colours and weight, and without those by which a
/// line is drawn anew.
fn strip_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(after.len());
        assert!(matches!(after.as_bytes().get(end), Some(b'm' | b'K' | b'A')), "{text:?}");
        rest = after.get(end + 1..).unwrap_or_default();
    }
    plain + rest
}

/// Each command, with a reader that is gone before the first line: none aborts, none says a word, and
/// what it was to do is done.
#[test]
fn a_closed_pipe_aborts_no_command() {
    let machine = Machine::boot();
    let bus = launch(&machine);
    record(&machine, &bus);
    for command in [
        "status",
        "status lamp",
        "status --json",
        "status --watch",
        "suggest",
        "suggest --json",
        "states list",
        "states list --json",
        "states get home/lamp/set/color",
        "states get --json home/lamp/set/color",
        "states export -",
        "discover --for 1s",
        "check",
        "--help",
        "--version",
        "status --help",
    ] {
        let words = closed(&format!("iotmonitor {command}"));
        assert_eq!(machine.sh(&words), "0", "{command}");
    }
    // What goes wrong keeps its exit code, and what is done is done.
    for (command, code) in [
        ("status lammp", "1"),
        ("states get home/lamp/set/colour", "1"),
        ("restart lammp", "1"),
        ("logs lammp", "1"),
        ("check /etc/nowhere.toml", "78"),
        ("migrate /root", "1"),
        ("nonsense", "2"),
        ("states export /tmp/states", "0"),
        ("states import /tmp/states", "0"),
        ("states forget home/lamp/set/color", "0"),
        ("reload", "0"),
    ] {
        let words = closed(&format!("iotmonitor {command}"));
        assert_eq!(machine.sh(&words), code, "{command}");
    }
    assert!(refusal(&machine, &["get", "home/lamp/set/color"]).contains("nothing is recorded"));

    // A disk that is full is another matter.
    for command in
        ["status", "states list", "states list --json", "states export -", "discover --for 1s"]
    {
        let output = machine.run(&["sh", "-c", &format!("iotmonitor {command} > /dev/full")]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains("No space left on device"), "{command}: {said}");
    }
}

/// A script that runs the command with standard output and standard error into a pipe whose reader
/// has ended, and prints its exit code.
fn closed(command: &str) -> String {
    format!("exec 3> >(exec true); wait $!; set +e; {command} >&3 2>&3; echo $?")
}

#[test]
fn a_state_is_set_and_forgotten() {
    let machine = Machine::boot();
    let bus = launch(&machine);
    record(&machine, &bus);
    let from = bus.end();
    states(&machine, &["set", "home/lamp/set/color", "blue"]);
    let given = bus.wait_exact(from, "home/lamp/set/color", "blue");
    assert_eq!(given.qos, 1, "as it was recorded");
    assert_eq!(states(&machine, &["get", "home/lamp/set/color"]), "blue");
    machine.write_file("/tmp/payload", BYTES);
    states(&machine, &["set", "home/lamp/set/mode", "--file", "/tmp/payload", "--qos=0"]);
    bus.wait_from(from, "the bytes", |m| m.topic == "home/lamp/set/mode" && m.payload == BYTES);
    let from = bus.end();
    machine.publish("home/lamp", "hello");
    bus.wait_exact(from, "home/lamp/set/color", "blue");
    bus.wait_from(from, "the bytes", |m| m.topic == "home/lamp/set/mode" && m.payload == BYTES);

    // The broker retained it, as the device had said, and forgets it too.
    let replay = machine.subscribe(&["home/lamp/set/color"]);
    assert!(replay.wait_exact(0, "home/lamp/set/color", "blue").retain);
    states(&machine, &["forget", "home/lamp/set/color"]);
    replay.wait_exact(0, "home/lamp/set/color", "");
    assert!(refusal(&machine, &["get", "home/lamp/set/color"]).contains("nothing is recorded"));
    let replay = machine.subscribe(&["home/lamp/set/color", "home/monitoring/up"]);
    replay.let_seconds_pass(1);
    assert_eq!(replay.count(0, "home/lamp/set/color"), 0);

    assert!(refusal(&machine, &["set", "home/bell/x", "1"]).contains("stateTopics"));
    assert!(refusal(&machine, &["set", "home/monitoring/x", "1"]).contains("below baseTopic"));
    assert!(refusal(&machine, &["forget", "home/lamp/set/color"]).contains("nothing is recorded"));

    // Without the broker it is recorded, and said to be no more than that.
    machine.ok(&["systemctl", "stop", "mosquitto"]);
    machine.journal().wait_for_alert("broker-lost", "");
    let set = machine.run(&["iotmonitor", "states", "set", "home/lamp/set/color", "green"]);
    assert!(set.status.success());
    let said = String::from_utf8_lossy(&set.stderr).into_owned();
    assert!(said.contains("recorded but not published"), "{said}");
    assert_eq!(states(&machine, &["get", "home/lamp/set/color"]), "green");
}

#[test]
fn an_export_comes_back_whole_and_overwrites_nothing_newer() {
    let machine = Machine::boot();
    let bus = launch(&machine);
    record(&machine, &bus);
    states(&machine, &["export", "/tmp/states"]);
    let exported = states(&machine, &["export", "-"]);
    assert_eq!(machine.sh("cat /tmp/states; stat -c %a /tmp/states"), format!("{exported}\n600"));
    let number = topics(&exported).len();
    for topic in ["home/lamp/set/color", "home/lamp/set/bytes", "home/lamp/set/level"] {
        states(&machine, &["forget", topic]);
    }
    states(&machine, &["set", WARM_UP, "newer"]);
    let imported = machine.run(&["iotmonitor", "states", "import", "/tmp/states"]);
    let said = String::from_utf8_lossy(&imported.stderr).into_owned();
    println!("{said}");
    assert!(said.contains(&format!("imported {} states", number - 1)), "{said}");
    assert!(said.contains("left out 1 state: older than the recorded one"), "{said}");
    let again = states(&machine, &["export", "-"]);
    let old = |line: &&str| !line.contains(WARM_UP);
    assert!(again.lines().filter(old).eq(exported.lines().filter(old)), "{again}\n{exported}");
    assert_eq!(states(&machine, &["get", WARM_UP]), "newer");

    machine.write_file("/tmp/broken", "{\"topic\":\"home/lamp/set/new\",\"payload\":\"1\"}\nno\n");
    let said = refusal(&machine, &["import", "/tmp/broken"]);
    assert!(said.contains("/tmp/broken, line 2: "), "{said}");
    refusal(&machine, &["get", "home/lamp/set/new"]);
    assert!(refusal(&machine, &["import", "/tmp/none"]).contains("/tmp/none: No such file"));
    assert!(refusal(&machine, &["export", "/none/x"]).contains("/none/x: No such file"));
}

/// A bus lets no message of such a size through; the others are exported all the same.
#[test]
fn a_state_that_is_too_large_for_the_bus_is_left_out_of_an_export_and_reported() {
    let machine = Machine::boot();
    let bus = launch(&machine);
    record(&machine, &bus);
    let others = topics(&states(&machine, &["export", "-"]));
    machine.publish_with(&[], "home/lamp/set/map", &vec![b'x'; (16 << 20) + 1]);
    eventually("the large state to be recorded", || {
        let listed = machine.run(&["iotmonitor", "states", "list", "home/lamp/set/map"]);
        String::from_utf8_lossy(&listed.stdout).contains("(16777217 bytes)").then_some(())
    });

    let said = refusal(&machine, &["export", "/tmp/states"]);
    let sentence = "the payload of `home/lamp/set/map` has 16777217 bytes, which do not fit";
    assert!(said.contains(sentence) && said.contains("and is left out"), "{said}");
    assert!(said.contains(&format!("exported {} states to /tmp/states", others.len())), "{said}");
    assert_eq!(topics(&machine.sh("cat /tmp/states")), others);
    for arguments in [&["export", "-"][..], &["list", "--json"]] {
        let output = machine.run(&[&["iotmonitor", "states"], arguments].concat());
        assert_eq!(topics(&String::from_utf8_lossy(&output.stdout)), others);
        assert!(String::from_utf8_lossy(&output.stderr).contains(sentence), "{arguments:?}");
    }
}

/// What editors and other programs make of an export.
#[test]
fn an_import_passes_over_a_byte_order_mark_and_refuses_milliseconds() {
    let machine = Machine::boot();
    launch(&machine);
    let line = |time: &str| {
        format!("\u{feff}{{\"topic\":\"home/lamp/set/new\",\"payload\":\"1\",\"time\":{time}}}\r\n")
    };
    machine.write_file("/tmp/states", &line("1795473762123"));
    let said = refusal(&machine, &["import", "/tmp/states"]);
    assert!(said.contains("line 1: ") && said.contains("milliseconds"), "{said}");
    machine.write_file("/tmp/states", &line("1795473762.123"));
    states(&machine, &["import", "/tmp/states"]);
    assert_eq!(states(&machine, &["get", "home/lamp/set/new"]), "1");
}

#[test]
fn payloads_are_shown_to_users_who_may_command() {
    let machine = Machine::boot();
    let bus = launch(&machine);
    record(&machine, &bus);
    for arguments in [
        &["list"][..],
        &["get", "home/lamp/set/color"],
        &["set", "home/lamp/set/color", "blue"],
        &["forget", "home/lamp/set/color"],
        &["export", "-"],
    ] {
        let command =
            [&["runuser", "-u", "nobody", "--", "iotmonitor", "states"], arguments].concat();
        let output = machine.run(&command);
        if arguments[0] == "import" {
            // Nothing to import is nothing to ask for.
            continue;
        }
        assert!(!output.status.success(), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("not allowed"), "{arguments:?}: {said}");
    }
    let line = "{\\\"topic\\\":\\\"home/lamp/set/color\\\",\\\"payload\\\":\\\"blue\\\"}";
    let import = format!("echo \"{line}\" | runuser -u nobody -- iotmonitor states import -");
    assert!(!machine.run(&["bash", "-c", &import]).status.success());
    assert_eq!(states(&machine, &["get", "home/lamp/set/color"]), "red");
}

#[test]
fn a_hundred_thousand_states_come_in_and_go_out_in_a_moment() {
    let machine = Machine::boot();
    launch(&machine);
    machine.sh(
        "seq 100000 | sed 's|.*|{\"topic\":\"home/lamp/set/&\",\"payload\":\"value &\"}|' > /tmp/many",
    );
    let begun = std::time::Instant::now();
    states(&machine, &["import", "/tmp/many"]);
    let imported = begun.elapsed();
    states(&machine, &["export", "/tmp/out"]);
    println!("100,000 states: import {imported:?}, export {:?}", begun.elapsed() - imported);
    assert_eq!(machine.sh("wc -l < /tmp/out"), "100001");
    assert_eq!(states(&machine, &["get", "home/lamp/set/99999"]), "value 99999");
    assert!(imported.as_secs() < 30, "{imported:?}");
}

#[test]
fn the_originals_states_are_recorded_but_for_what_is_older() {
    let machine = Machine::boot();
    let sections = "[device_esp00]\nwatchTimeOut = 0\nhelloTopic = \"home/esp00\"\n\
        watchTopics = \"home/esp00/sensors/#\"\nstateTopics = \"home/esp00/actuators/#\"\n";
    let bus = machine.launch(&config("auto", sections));
    machine.await_recording(&bus, "home/esp00/actuators/warm-up", "home/esp00");
    machine.publish("home/esp00/actuators/lamp", "newer");
    machine.await_recording(&bus, "home/esp00/actuators/warm-up", "home/esp00");
    machine.ok(&["mkdir", "-p", "/tmp/old/iotdb.leveldb"]);
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/iotdb.leveldb");
    for entry in std::fs::read_dir(fixture).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        machine.write_file(&format!("/tmp/old/iotdb.leveldb/{name}"), &bytes);
    }
    machine.sh("touch -d 2020-01-01 /tmp/old/iotdb.leveldb/*");
    let done = machine.run(&["iotmonitor", "migrate", "/tmp/old"]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{said}");
    for sentence in
        ["imported 6 states", "left out 1 state: older", "6 states without matching stateTopics"]
    {
        assert!(said.contains(sentence), "{sentence}: {said}");
    }
    assert_eq!(states(&machine, &["get", "home/esp00/actuators/lamp"]), "newer");
    assert_eq!(states(&machine, &["get", "home/k\u{fc}che/licht"]), "an");
    let recorded = states(&machine, &["get", "home/empty", "--json"]);
    assert!(recorded.contains("\"qos\":1,\"retain\":false,\"time\":15778"), "{recorded}");
}
