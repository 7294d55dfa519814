//! The commands that show what was recorded, on real files.

use bytes::Bytes;
use iotmonitor_recorder::{Limits, Message, Store, Writer};
use serde_json::Value;
use std::process::{Command, Output};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const SECOND: i64 = 1_000_000;
const TOPIC: &str = "home/boiler/temperature";

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

fn message(time: i64, topic: &str, payload: &[u8]) -> Message {
    let payload = Bytes::copy_from_slice(payload);
    Message { time, topic: topic.to_owned(), payload, qos: 1, retain: false }
}

/// A store with these messages in Parquet files, and one more in a segment.
fn recorded(messages: &[Message]) -> (TempDir, Writer) {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(&Store::new(directory.path()), Limits::default()).unwrap();
    for message in messages {
        writer.append(message).unwrap();
    }
    writer.commit(Instant::now()).unwrap();
    writer.flush().unwrap();
    writer.append(&message(now(), "home/last", b"7")).unwrap();
    writer.commit(Instant::now()).unwrap();
    (directory, writer)
}

fn run(directory: &TempDir, arguments: &[&str]) -> Output {
    let [command, rest @ ..] = arguments else { panic!("no command") };
    Command::new(env!("CARGO_BIN_EXE_iotmonitor-recorder"))
        .args([command, "--directory"])
        .arg(directory.path())
        .args(rest)
        .output()
        .unwrap()
}

fn printed(directory: &TempDir, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(directory: &TempDir, arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(directory, arguments)).unwrap()
}

#[test]
fn files_are_listed_with_what_they_hold() {
    let (directory, _writer) =
        recorded(&[message(now() - SECOND, TOPIC, b"21"), message(0, TOPIC, b"5")]);
    let files = json(&directory, &["files", "--json"]);
    let [first, second] = &files.as_array().unwrap()[..] else { panic!("{files}") };
    assert_eq!((&first["day"], &first["messages"]), (&"1970-01-01".into(), &1.into()));
    let size = std::fs::metadata(second["path"].as_str().unwrap()).unwrap().len();
    assert_eq!(second["bytes"], size);
    let table = printed(&directory, &["files"]);
    assert!(table.starts_with("DAY "), "{table}");
    assert!(table.contains(first["path"].as_str().unwrap()), "{table}");
    assert_eq!(table.lines().count(), 3);
}

#[test]
fn topics_are_listed_also_those_of_the_last_seconds() {
    let (directory, _writer) = recorded(&[
        message(SECOND, TOPIC, b"21"),
        message(3 * SECOND, TOPIC, b"unavailable"),
        message(SECOND, "garden/\x1b[2J", b"x"),
    ]);
    let topics = json(&directory, &["topics", "--json", "home/boiler/#", "home/last"]);
    let topics = topics.as_array().unwrap();
    let boiler = serde_json::json!({ "topic": TOPIC, "messages": 2, "numbers": 1, "last": 3 });
    assert_eq!((topics.len(), &topics[0]), (2, &boiler));
    assert_eq!(topics[1]["topic"], "home/last");
    let table = printed(&directory, &["topics"]);
    assert!(table.contains("garden/\\u{1b}[2J"), "{table}");
    assert!(table.contains("1970-01-01T00:00:03Z"), "{table}");
    let refused = run(&directory, &["topics", "home/#/x"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn values_are_shown_for_people_and_programs() {
    let start = now() / SECOND * SECOND - 3_600 * SECOND;
    let (directory, _writer) = recorded(&[
        message(start - 86_400 * SECOND, TOPIC, b"-40"),
        message(start, TOPIC, b"20"),
        message(start + 1, TOPIC, b" 22.5\n"),
        message(start + SECOND, TOPIC, b"a,\"b\""),
        message(start + 2 * SECOND, TOPIC, b"\xff\x00"),
    ]);
    let time = start / SECOND;
    let values = json(&directory, &["values", TOPIC, "--since", "2h", "--json"]);
    assert_eq!(values["topic"], TOPIC);
    assert_eq!(
        values["messages"],
        serde_json::json!([
            { "time": time, "number": 20.0, "payload": "20" },
            { "time": (start + 1) as f64 / 1e6, "number": 22.5, "payload": " 22.5\n" },
            { "time": time + 1, "payload": "a,\"b\"" },
            { "time": time + 2, "payloadBase64": "/wA=" },
        ])
    );
    let csv = printed(&directory, &["values", TOPIC, "--since", "2h", "--csv"]);
    let expected = format!(
        "time,number,payload,payloadBase64\r\n{time},20,20,\r\n{time}.000001,22.5,\" 22.5\n\",\r\n\
         {},,\"a,\"\"b\"\"\",\r\n{},,,/wA=\r\n",
        time + 1,
        time + 2
    );
    assert_eq!(csv, expected);

    let points = json(&directory, &["values", TOPIC, "--since", "7d", "--points", "1", "--json"]);
    let [point] = &points["points"].as_array().unwrap()[..] else { panic!("{points}") };
    let numbers: Vec<f64> =
        point.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
    assert_eq!((numbers[1], numbers[3]), (-40.0, 22.5));
    assert!((numbers[2] - 2.5 / 3.0).abs() < 1e-9, "{point}");
    let csv = printed(&directory, &["values", TOPIC, "--points", "1", "--csv"]);
    assert!(csv.starts_with("time,least,mean,most,count\r\n"), "{csv}");
    assert!(csv.ends_with(",3\r\n"), "{csv}");
    assert_eq!(printed(&directory, &["values", "home/nothing", "--json"]), {
        "{\"topic\":\"home/nothing\",\"messages\":[\n]}\n"
    });
    for wrong in
        [&["--points", "0"][..], &["--points", "10001"], &["--since", "0"], &["--since", "x"]]
    {
        let refused = run(&directory, &[&["values", TOPIC], wrong].concat());
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_store_that_is_not_there_is_said_to_be_empty() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("nowhere");
    let output = Command::new(env!("CARGO_BIN_EXE_iotmonitor-recorder"))
        .args(["files", "--directory"])
        .arg(&nowhere)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("iotmonitor-recorder: nothing is recorded in /"), "{said}");
}
