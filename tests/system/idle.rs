//! What the service costs while nothing happens.

use super::harness::{Machine, config};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Something of each kind that the service can have.
const EVERYTHING: &str = "[http]\nport = 8079\n\
    [device_lamp]\nwatchTimeOut = 3000\nwatchTopics = \"home/lamp/#\"\nstateTopics = \"home/lamp/set\"\n\
    [device_auto]\nwatchTimeOut = \"auto\"\nwatchTopics = \"home/auto/#\"\n\
    [agent_sleeper]\nexec = \"exec sleep infinity\"\n";

/// For how long is counted. `up` is published once a second.
const SECONDS: u32 = 30;

/// The loop wakes to publish `up` with a ping behind it. The broker sends the message back, and then the
/// answer to the ping.
const FOR_UP: f64 = 3.0;

/// Two are promised. What a busy machine splits or delays is counted on top.
const BESIDE_UP: f64 = 2.5;

/// How often each thread of the service has gone to sleep (proc_pid_status(5)).
fn sleeps(machine: &Machine) -> BTreeMap<String, u32> {
    let script = format!(
        "for task in /proc/{}/task/*; do \
         echo \"$(cat $task/comm)-${{task##*/}} $(awk '/^voluntary/ {{print $2}}' $task/status)\"; done",
        machine.monitor_pid()
    );
    let counted = machine.sh(&script);
    let counts = counted.lines().filter_map(|line| line.rsplit_once(' '));
    counts.map(|(task, count)| (task.to_owned(), count.parse().expect("a number"))).collect()
}

/// Wake-ups a second of the whole service, after all that a start brings.
fn wakes(machine: &Machine) -> f64 {
    let (before, began) = (sleeps(machine), Instant::now());
    std::thread::sleep(Duration::from_secs(SECONDS.into()));
    let (after, passed) = (sleeps(machine), began.elapsed().as_secs_f64());
    let of_threads: BTreeMap<&String, f64> = after
        .iter()
        .map(|(task, count)| (task, f64::from(count - before.get(task).unwrap_or(&0)) / passed))
        .collect();
    println!("wake-ups a second: {of_threads:.2?}");
    of_threads.values().sum()
}

/// Opens the stream of events that a browser with the status page reads.
fn open_page(machine: &Machine) -> TcpStream {
    let mut stream = machine.connect(8079).expect("the page is offered");
    stream
        .write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("the page takes requests");
    let mut first = [0; 15];
    stream.read_exact(&mut first).expect("the page answers");
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    stream
}

#[test]
fn an_idle_service_wakes_at_most_twice_a_second_beside_its_sign_of_life() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", EVERYTHING));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    machine.make_alive(&bus, "lamp", "home/lamp/hello");
    bus.let_seconds_pass(15);
    let closed = wakes(&machine);
    let _page = open_page(&machine);
    let open = wakes(&machine);
    assert!(closed <= FOR_UP + BESIDE_UP, "{closed:.1} a second");
    assert!(open <= FOR_UP + BESIDE_UP, "{open:.1} a second with the page open");
}
