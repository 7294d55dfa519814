//! The past as people see it, after the worst that can happen to the monitor and to an agent.

use super::harness::{Machine, Subscriber, config, eventually, unix_now};
use iotmonitor::history::alerts::AlertBook;
use iotmonitor::history::{HistoryCommand, HistoryReader, HistorySettings, spawn};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::history::UsageTally;
use iotmonitor_core::model::history::uptime::DeviceHistory;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::Duration;

const HOUSE: &str = "[device_lamp]\nwatchTimeOut = 2\nhelloTopic = \"home/lamp/hello\"\n\
    watchTopics = \"home/lamp/sensors\"\nstateTopics = \"home/lamp/set\"\n\
    [agent_worker]\nexec = \"n=0; while test $n -lt 200000; do n=$((n+1)); done; exec sleep 424242\"\n";
const WORKER: &str = "iotmonitor-agent-worker.service";
const FILE: &str = "/var/lib/iotmonitor/history/data.mdb";

fn json(machine: &Machine, arguments: &[&str]) -> Value {
    let said = machine.ok(&[&["iotmonitor", "history", "--json"], arguments].concat());
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// The endings of the lamp's incidents.
fn endings(machine: &Machine) -> Vec<Value> {
    let lamp = json(machine, &["lamp"]);
    let incidents = lamp["incidents"].as_array().expect("a list").clone();
    incidents.into_iter().map(|incident| incident["endedBy"].clone()).collect()
}

/// A lamp that was silent once, an agent that was killed, and a monitor that was killed while the lamp
/// was silent again.
fn house_after_kills() -> (Machine, Subscriber) {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", HOUSE));
    // A device that says hello is alive.
    machine.await_recording(&bus, "home/lamp/set", "home/lamp/hello");
    bus.wait_topic(bus.end(), "home/monitoring/expire/lamp");
    machine.make_alive(&bus, "lamp", "home/lamp/sensors");
    let from = bus.end();
    let worker = machine.await_new_main_pid(WORKER, 0);
    machine.signal(Signal::SIGKILL, worker);
    machine.await_new_main_pid(WORKER, worker);
    bus.wait_topic(from, "home/monitoring/expire/lamp");
    eventually("the second silence to be on disk", || {
        (endings(&machine).last() == Some(&Value::Null)).then_some(())
    });
    eventually("the restart to be on disk", || {
        let restarts = json(&machine, &["worker"])["restarts"].clone();
        (restarts.as_array().expect("a list").len() == 1).then_some(())
    });
    let from = bus.end();
    machine.crash_monitor();
    bus.wait_exact(from, "home/monitoring/availability", "online");
    (machine, bus)
}

#[test]
fn people_see_what_has_been_after_the_monitor_and_an_agent_were_killed() {
    let (machine, bus) = house_after_kills();
    // The silence goes on over the kill, and ends with the lamp's next word.
    assert_eq!(endings(&machine).last(), Some(&Value::Null));
    let count = endings(&machine).len();
    machine.make_alive(&bus, "lamp", "home/lamp/sensors");
    eventually("the silence to end", || {
        (endings(&machine).get(count - 1) == Some(&Value::from("contact"))).then_some(())
    });

    let as_nobody = |command: &[&str]| {
        machine.ok(&[&["runuser", "-u", "nobody", "--", "iotmonitor", "history"], command].concat())
    };
    let table = as_nobody(&[]);
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].starts_with("NAME"), "{table}");
    assert!(rows[1].starts_with("lamp") && rows[2].starts_with("worker"), "{table}");
    assert!(rows[2].contains("100.00 %") && !rows[1].contains("100.00 %"), "{table}");
    let lamp = as_nobody(&["lamp"]);
    assert!(lamp.contains("recorded since") && lamp.contains("silent  contact"), "{lamp}");
    assert!(lamp.contains(" UTC  "), "the machine has no time zone: {lamp}");
    let script = "TZ=IST-5:30 iotmonitor history lamp";
    let in_india = machine.sh(script);
    assert!(in_india.contains(" IST  ") && !in_india.contains("UTC"), "{in_india}");
    let worker = as_nobody(&["worker"]);
    assert!(worker.contains("RESTARTED") && worker.contains("MEMORY PEAK"), "{worker}");
    let unwatched = as_nobody(&["--unwatched"]);
    assert!(unwatched.contains("not-running  back"), "{unwatched}");
    let csv = as_nobody(&["--csv"]);
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines[0], "device,kind,reason,begin,end,seconds,endedBy,lastContact");
    assert!(lines[1].starts_with("lamp,alarm,silent,"), "{csv}");
    let unwatched = as_nobody(&["--unwatched", "--csv"]);
    assert!(unwatched.contains("\r\n,not-running,,"), "{unwatched}");
    let all = json(&machine, &[]);
    assert_eq!((&all[0]["name"], &all[1]["name"]), (&"lamp".into(), &"worker".into()));
    let begin = all[0]["incidents"][0]["begin"].as_u64().expect("a number");
    assert!((unix_now() - 3_600..=unix_now()).contains(&begin), "{begin}");
    let unknown = machine.run(&["iotmonitor", "history", "lanp"]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success() && said.contains("did you mean `lamp`"), "{said}");

    // Other programs get the same over D-Bus.
    let call = |member: &str, arguments: &[&str]| {
        let busctl = ["busctl", "--json=short", "call", "org.iotmonitor.Monitor1"];
        let rest = ["/org/iotmonitor/Monitor1", "org.iotmonitor.Monitor1", member];
        let said = machine.ok(&[&busctl[..], &rest[..], arguments].concat());
        let reply: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}"));
        reply["data"][0].clone()
    };
    let one: Value = serde_json::from_str(
        call("GetHistory", &["st", "lamp", "3600"]).as_str().expect("a string"),
    )
    .expect("it is JSON");
    assert_eq!(one["incidents"].as_array().expect("a list").len(), endings(&machine).len());
    let several = call("GetHistories", &["astat", "2", "worker", "lamp", "3600", "0"]);
    assert_eq!(several.as_array().expect("a list").len(), 2);
}

#[test]
fn what_an_agent_uses_is_in_the_file() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", HOUSE));
    bus.wait_topic(0, "home/monitoring/startedprocess/worker");
    let await_work = || {
        eventually("the worker to have worked", || {
            machine.sh("pgrep -fc '^sleep 424242' || true").starts_with('1').then_some(())
        });
    };
    await_work();
    let worker = machine.main_pid(WORKER);
    machine.signal(Signal::SIGKILL, worker);
    machine.await_new_main_pid(WORKER, worker);
    // It may be measured before systemd has said what the first one took.
    await_work();
    // Whether systemd has answered before the stop shows only in the file. A busy systemd gets more time.
    let mut seconds = 0;
    let used = eventually("what the worker uses to be recorded", || {
        // Units are compared and measured after that as they are each minute.
        machine.ok(&["systemctl", "daemon-reload"]);
        seconds += 1;
        for _ in 0..seconds {
            bus.wait_topic(bus.end(), "home/monitoring/up");
        }
        machine.stop_monitor();
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let file = directory.path().join("data.mdb");
        std::fs::copy(machine.path(FILE), &file).expect("the file is there");
        let used = usage_in(directory.path());
        if used.cpu_millis.is_none() {
            machine.start_monitor();
        }
        used.cpu_millis.is_some().then_some(used)
    });
    let cpu = used.cpu_millis.expect("the kernel accounts for it");
    assert!(cpu > 50, "{cpu} ms");
    // Not every kernel accounts for memory in the control groups of version 2.
    let group = machine.sh("cat /sys/fs/cgroup/iotmonitor.slice/*worker*/memory.current || true");
    assert_eq!(used.memory_kib.is_some(), !group.is_empty(), "{used:?}");
}

/// What was recorded of the worker in all hours.
fn usage_in(directory: &std::path::Path) -> UsageTally {
    let (sender, mut events) = tokio::sync::mpsc::channel(8);
    let settings = HistorySettings::new(directory.to_owned(), Duration::from_secs(86_400));
    let thread = spawn(settings, AlertBook::default(), sender).expect("there is a thread");
    assert!(matches!(events.blocking_recv(), Some(Event::HistoryOpened(_))));
    let (sender, answer) = std::sync::mpsc::channel();
    let used = |_: &DeviceName, history: &DeviceHistory| {
        let hours = history.days.iter().flat_map(|(_, day)| &day.usage);
        hours.fold(UsageTally::default(), |mut sum, hour| {
            sum.add(*hour);
            sum
        })
    };
    let reader = HistoryReader::new(used, move |all| sender.send(all).expect("it is awaited"));
    let (since, now) = (Duration::ZERO, Duration::from_secs(unix_now()));
    let devices = vec![DeviceName::new("worker").expect("it is a name")];
    let command = HistoryCommand::Read { devices, since, now, reader };
    thread.send(command).expect("there is room");
    let used = answer.recv().expect("it answers").expect("it can be read").remove(0);
    assert!(thread.close(Duration::from_secs(60)));
    used
}

#[test]
fn a_damaged_history_is_put_aside_and_states_are_not_touched() {
    let (machine, bus) = house_after_kills();
    machine.stop_monitor();
    let states = machine.read_file("/var/lib/iotmonitor/data.mdb");
    let length = machine.read_file(FILE).len();
    let damaged = vec![0xA5; length];
    machine.write_file(FILE, &damaged);
    let from = bus.end();
    machine.start_monitor();
    let alert = machine.journal().wait_for_alert("history-put-aside", "");
    assert!(alert.message().contains("states are not affected"), "{}", alert.message());
    bus.wait_exact(from, "home/monitoring/availability", "online");
    let aside = machine.sh("cat /var/lib/iotmonitor/history/data.mdb.damaged-*/data.mdb \
        /var/lib/iotmonitor/history/data.mdb.damaged-* 2>/dev/null | head -c 100 | tr -d '\\245' | wc -c");
    assert_eq!(aside, "0", "it is kept as it was");
    // What lasts is recorded anew.
    eventually("the silence to be recorded again", || {
        (endings(&machine) == [Value::Null]).then_some(())
    });
    let listed = machine.ok(&["iotmonitor", "states", "list"]);
    assert!(listed.contains("home/lamp/set"), "{listed}");
    assert!(!states.is_empty() && machine.sh("ls /var/lib/iotmonitor").contains("data.mdb"));
    assert_eq!(machine.sh("ls /var/lib/iotmonitor | grep -c damaged || true"), "0");
    assert_eq!(machine.journal().alerts(&machine, "store-put-aside", ""), 0);
}
