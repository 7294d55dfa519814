//! `iotmonitor sql`, with a real DuckDB, real files and a real past.

use crate::house::{House, SECOND, message, now, record, script_at};
use iotmonitor_core::topic::{TopicFilter, TopicName};
use iotmonitor_recorder::Store;
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const DAY: i64 = 86_400 * SECOND;
const PATIENCE: Duration = Duration::from_secs(60);

/// The command `duckdb`, as the docs say how to get it.
const DUCKDB: &str = "duckdb-cli==1.5.6";
/// DataFusion itself. Its command line is only to be had as source.
const DATAFUSION: &str = "datafusion==55.0.0";
/// What the docs say that a program in Python needs.
const PYARROW: &str = "pyarrow==26.0.1 pandas==3.1.1";

/// The directory of the programs of packages from PyPI, which are installed once.
fn installed(package: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(package.replace(' ', "+"));
    if !home.join("installed").exists() {
        let _ = fs::remove_dir_all(&home);
        let script = format!("python3 -m venv \"$0\" && \"$0\"/bin/pip install --quiet {package}");
        let done = Command::new("sh").args(["-c", &script]).arg(&home).output().unwrap();
        assert!(
            done.status.success(),
            "{package}: this cannot be installed from PyPI, which these tests need once: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        fs::write(home.join("installed"), package).unwrap();
    }
    home.join("bin")
}

fn command(house: &House, arguments: &[&str]) -> Command {
    let mut command = house.command(&[&["sql"][..], arguments].concat());
    let duckdb = installed(DUCKDB);
    let path = format!("{}:{}:/usr/bin:/bin", house.bin().display(), duckdb.display());
    command.env("PATH", path).env("TZ", "UTC").env("HOME", house.directory.path());
    command
}

fn run(house: &House, arguments: &[&str]) -> Output {
    command(house, arguments).output().unwrap()
}

/// What the statement selects.
fn rows(house: &House, statement: &str) -> Value {
    let output = run(house, &["--json", statement]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{statement}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The query below this heading of the docs.
fn documented(title: &str) -> String {
    block(include_str!("../../../docs/sql.md"), title, "sql")
}

/// The first block of this language below a heading.
fn block(text: &str, title: &str, language: &str) -> String {
    let section = text.split("\n## ").find(|section| section.starts_with(title)).unwrap();
    let (_, block) = section.split_once(&format!("```{language}\n")).unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// Noon, in UTC, so many days ago.
fn noon(days_ago: i64) -> i64 {
    now() / DAY * DAY - days_ago * DAY + DAY / 2
}

fn date(house: &House, time: i64) -> Value {
    rows(house, &format!("SELECT make_timestamptz({time})::DATE AS day"))[0]["day"].clone()
}

/// The programs that the docs show for reading the files without iotmonitor.
pub fn documented_programs() {
    let directory = tempfile::tempdir().unwrap();
    let topic = "home/kitchen/temperature";
    record(
        directory.path(),
        &[
            message(noon(30), topic, "19.5"),
            message(noon(1), topic, "21.5"),
            message(noon(0), topic, "22"),
            message(noon(1), "home/kitchen/humidity", "61"),
        ],
    );
    let program = |language: &str| {
        let text = include_str!("../../../docs/recorder.md");
        let shown = block(text, "Reading with other programs", language);
        let place = "/var/lib/iotmonitor-recorder/";
        assert!(shown.contains(place), "{shown}");
        shown.replace(place, &format!("{}/", directory.path().display()))
    };
    let printed = |program: &mut Command| {
        let output = program.env("TZ", "UTC").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{program:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut duckdb = Command::new(installed(DUCKDB).join("duckdb"));
    let rows = printed(duckdb.args(["-csv", "-noheader", "-c", &program("sql")]));
    let numbers: Vec<_> = rows.lines().map(|row| row.rsplit(',').next().unwrap()).collect();
    assert_eq!(numbers, ["21.5", "22.0"], "{rows}");
    let mut python = Command::new(installed(PYARROW).join("python3"));
    let table = printed(python.args(["-c", &program("python")]));
    let last = |row: &str| row.rsplit(' ').next().map(str::to_owned);
    let numbers: Vec<_> = table.lines().filter_map(last).collect();
    assert_eq!(numbers, ["number", "19.5", "21.5", "22.0"], "{table}");
}

pub fn documented_queries() {
    let (two, three) = (noon(2), noon(3));
    let hour = 3_600 * SECOND;
    let spoken = now() - 500 * SECOND;
    let house = House::with(
        "[device_boiler]\nwatchTopics = \"home/boiler/#\"\nwatchTimeOut = \"30d\"\n\
         [device_heating]\nwatchTopics = [\"home/heating/+\"]\nwatchTimeOut = \"30d\"\n\
         [device_pump]\nwatchTopics = \"home/pump/state\"\nwatchTimeOut = 1\n",
        &[
            message(three, "home/boiler/temperature", "20"),
            message(three + hour, "home/boiler/temperature", "30.5"),
            message(three + hour, "home/boiler/mode", "eco"),
            message(two, "home/boiler/temperature", "-1"),
            message(two + 1, "home/boiler/temperature", "unavailable"),
            message(three, "home/heating/state", "ON"),
            message(three + hour, "home/heating/state", "OFF"),
            message(three + 3 * hour, "home/heating/state", "ON"),
            message(three + 3 * hour + hour / 2, "home/heating/state", "OFF"),
            message(two, "home/heating/state", "ON"),
            message(two + 2 * hour, "home/heating/state", "OFF"),
            message(spoken - SECOND, "home/pump/state", "on"),
            message(spoken, "home/pump/state", "off"),
            message(spoken + SECOND, "garden/other", "x"),
        ],
    );
    let (two, three) = (date(&house, two), date(&house, three));
    assert_eq!(
        rows(&house, &documented("Messages a day by device")),
        json!([
            { "device": "boiler", "day": three, "messages": 3 },
            { "device": "heating", "day": three, "messages": 4 },
            { "device": "boiler", "day": two, "messages": 2 },
            { "device": "heating", "day": two, "messages": 2 },
            { "device": "pump", "day": date(&house, spoken), "messages": 2 },
        ])
    );
    let noisiest = rows(&house, &documented("The noisiest topics"));
    let topics: Vec<(&str, u64)> = noisiest
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["topic"].as_str().unwrap(), row["messages"].as_u64().unwrap()))
        .collect();
    assert_eq!(topics[..2], [("home/heating/state", 6), ("home/boiler/temperature", 4)]);
    assert_eq!(
        rows(&house, &documented("A sensor's daily minimum and maximum")),
        json!([
            { "day": three, "least": 20.0, "mean": 25.3, "most": 30.5 },
            { "day": two, "least": -1.0, "mean": -1.0, "most": -1.0 },
        ])
    );
    assert_eq!(
        rows(&house, &documented("How long the heating was on")),
        json!([{ "day": three, "hours": 1.5 }, { "day": two, "hours": 2.0 }])
    );
    silence_before_an_alarm(&house, spoken);
}

fn silence_before_an_alarm(house: &House, spoken: i64) {
    let incident = || -> Value {
        let text = house.printed(&["history", "pump", "--json"]);
        serde_json::from_str::<Value>(&text).unwrap()["incidents"][0].clone()
    };
    house.until("the pump to have an alarm", || incident()["kind"] == "alarm");
    let began = incident()["begin"].as_f64().unwrap();
    let silences = rows(house, &documented("Silence before each alarm"));
    let [silence] = &silences.as_array().unwrap()[..] else { panic!("{silences}") };
    assert_eq!(silence["device"], "pump");
    let expected = began - spoken as f64 / 1e6;
    assert!((silence["silent_seconds"].as_f64().unwrap() - expected).abs() < 0.001, "{silence}");
    let day = rows(house, "SELECT device, seconds > 0 AS known FROM day WHERE device = 'pump'");
    assert_eq!(day[0], json!({ "device": "pump", "known": true }));
    let device = rows(house, "SELECT kind, state, timeout FROM device WHERE device = 'pump'");
    assert_eq!(device, json!([{ "kind": "device", "state": "expired", "timeout": 1.0 }]));
}

pub fn topics_belong_to_devices_as_mqtt_says() {
    let filters =
        ["#", "+", "+/b", "a/#", "a/+/c", "a/+", "/+", "$SYS/#", "it's/(x)/+", "a.b/\\/#"];
    let topics = [
        "a",
        "a/",
        "a/b",
        "a/b/c",
        "/",
        "/b",
        "b",
        "$SYS/x",
        "$b",
        "$SYS",
        "it's/(x)/1",
        "axb/\\",
        "a.b/\\/y",
        "a\nb",
    ];
    let sections: Vec<String> = filters
        .iter()
        .enumerate()
        .map(|(place, filter)| {
            format!("[device_d{place}]\nwatchTopics = '''{filter}'''\nwatchTimeOut = \"30d\"\n")
        })
        .collect();
    let messages: Vec<_> = topics.iter().map(|topic| message(noon(1), topic, "1")).collect();
    let house = House::with(&sections.concat(), &messages);
    let mut expected = Vec::new();
    for (place, filter) in filters.iter().enumerate() {
        let filter = TopicFilter::new(*filter).unwrap();
        let mut matched: Vec<&str> = topics
            .into_iter()
            .filter(|topic| filter.matches(&TopicName::new(*topic).unwrap()))
            .collect();
        matched.sort_unstable();
        expected.extend(
            matched.iter().map(|topic| json!({ "device": format!("d{place}"), "topic": topic })),
        );
    }
    assert!(expected.len() > 25);
    let found = rows(&house, "SELECT device, topic FROM device_topic ORDER BY device, topic");
    assert_eq!(found, Value::from(expected));
}

pub fn formats_and_exit_codes_are_the_engines() {
    let house = House::with("", &[message(noon(1), "a", "1"), message(noon(1) + 1, "a", "\u{fc}")]);
    let statement = "SELECT number, text FROM message ORDER BY time";
    let csv = run(&house, &["--csv", statement]);
    assert_eq!(String::from_utf8_lossy(&csv.stdout), "number,text\n1.0,1\nNULL,\"ü\"\n");
    let table = run(&house, &[statement]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("│ number │"), "{table:?}");
    let wrong = run(&house, &["SELECT nothing; SELECT 17"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(!String::from_utf8_lossy(&wrong.stdout).contains("17"), "{wrong:?}");
    assert_eq!(rows(&house, "SELECT count(*) AS n FROM device"), json!([{ "n": 0 }]));
    assert_eq!(rows(&house, "SELECT began, device FROM episode WHERE device = ''';--'"), json!([]));

    let mut script = command(&house, &["--csv"]);
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    script.stdin.take().unwrap().write_all(b"SELECT 1 AS one;\nSELECT nothing;\n").unwrap();
    let output = script.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b"one\n1\n"[..]));
}

pub fn a_prompt_keeps_its_messages() {
    let house = House::with("", &[message(noon(1), "a", "1"), message(noon(2), "b", "2")]);
    let recorded = house.directory.path().join("recorded");
    let mut prompt = command(&house, &[]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = prompt.stdin.take().unwrap();
    let mut count = |name: &str| {
        let path = house.directory.path().join(name);
        let copy = format!("COPY (SELECT count(*) AS n FROM message) TO '{}';\n", path.display());
        input.write_all(copy.as_bytes()).unwrap();
        input.flush().unwrap();
        let began = Instant::now();
        loop {
            match fs::read_to_string(&path) {
                Ok(text) if text.lines().count() == 2 => break text,
                _ => assert!(began.elapsed() < PATIENCE, "{name} does not appear"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    assert_eq!(count("before.csv"), "n\n2\n");
    assert_eq!(Store::new(&recorded).compact().unwrap().days.len(), 2);
    fs::remove_dir_all(recorded.join("messages")).unwrap();
    assert_eq!(count("after.csv"), "n\n2\n");
    drop(input);
    assert!(prompt.wait().unwrap().success());
    assert_eq!(rows(&house, "SELECT count(*) AS n FROM message"), json!([{ "n": 0 }]));
}

pub fn without_a_monitor_there_are_messages() {
    let mut house = House::with("", &[message(noon(1), "a", "1")]);
    house.stop();
    assert_eq!(rows(&house, "SELECT topic FROM message"), json!([{ "topic": "a" }]));
    let both = run(&house, &["--csv", "SELECT topic FROM message; SELECT 1 AS day"]);
    let said = String::from_utf8_lossy(&both.stderr);
    assert!(both.status.success(), "{said}");
    assert!(said.starts_with("iotmonitor: iotmonitor is not running"), "{said}");
    assert!(said.ends_with("; only the view `message` is there\n"), "{said}");
    assert_eq!(run(&house, &["SELECT * FROM device"]).status.code(), Some(1));
}

pub fn what_is_missing_is_said() {
    let house = House::with("", &[]);
    let without_engine = house.refused(&["sql", "SELECT 1"]);
    assert_eq!(without_engine.lines().count(), 1);
    assert!(
        without_engine.contains("pip install --break-system-packages duckdb-cli"),
        "{without_engine}"
    );
    assert!(
        include_str!("../../../docs/sql.md")
            .contains("pip install --break-system-packages duckdb-cli")
    );
    fs::remove_file(house.bin().join("iotmonitor-recorder")).unwrap();
    let without_recorder = run(&house, &["SELECT 1"]);
    let said = String::from_utf8_lossy(&without_recorder.stderr);
    assert_eq!(without_recorder.status.code(), Some(1));
    assert!(said.contains("sudo apt install ./iotmonitor-recorder_*.deb"), "{said}");
}

/// Executes a file and a statement with DataFusion, as its command line does with these options.
const DATAFUSION_CLI: &str = r#"
import sys
from datafusion import SessionContext

options = sys.argv[1:]
assert options[:4] == ["--quiet", "--format", "csv", "--file"], options
[command] = options[5:]
context = SessionContext()
for statement in open(options[4]).read().split(";\n"):
    if statement.strip():
        context.sql(statement)
assert command.startswith("--command="), command
rows = context.sql(command.removeprefix("--command=")).to_pylist()
for row in rows:
    print(",".join(str(value) for value in row.values()))
"#;

pub fn datafusion_where_there_is_no_duckdb() {
    let house = House::with(
        "[device_lamp]\nwatchTopics = [\"home/+/x\", \"a.b/#\"]\nwatchTimeOut = \"30d\"\n",
        &[
            message(noon(1), "home/1/x", "ON"),
            message(noon(2), "a.b", "2.5"),
            message(noon(2), "axb", "\u{fc}"),
        ],
    );
    let script = house.directory.path().join("datafusion-cli.py");
    fs::write(&script, DATAFUSION_CLI).unwrap();
    let python = installed(DATAFUSION).join("python3");
    let shell = format!("#!/bin/sh\nexec {} {} \"$@\"\n", python.display(), script.display());
    script_at(&house.bin().join("datafusion-cli"), &shell);
    let printed = |statement: &str| house.printed(&["sql", "--csv", statement]);
    let messages = "SELECT topic, text, number FROM message ORDER BY topic";
    assert_eq!(printed(messages), "a.b,2.5,2.5\naxb,\u{fc},None\nhome/1/x,ON,None\n");
    let topics = "SELECT device, topic FROM device_topic ORDER BY topic";
    assert_eq!(printed(topics), "lamp,a.b\nlamp,home/1/x\n");
    let device = "SELECT kind, state, reason, timeout, extract(year FROM since) > 2000 FROM device";
    assert_eq!(printed(device), "device,unknown,None,2592000.0,True\n");
    assert_eq!(
        printed("SELECT device, seconds >= 0 FROM day WHERE date = current_date"),
        "lamp,True\n"
    );
    assert_eq!(printed("SELECT began FROM episode WHERE kind = 'alarm'"), "");
    assert_eq!(house.run(&["sql", "--csv", "SELECT nothing"]).status.code(), Some(1));
}
