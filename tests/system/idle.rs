//! What the service costs while nothing happens.

use super::harness::{Machine, config, eventually};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
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

/// Two are promised. A busy broker's bytes come in two parts now and then.
const BESIDE_UP: f64 = 2.3;

/// The page gets a heartbeat every 5 seconds, and what changes in the figures.
const FOR_A_PAGE: f64 = 0.7;

/// The calls in which a thread of the service sleeps.
const WAITS: &str = "epoll_wait,epoll_pwait,epoll_pwait2,poll,ppoll,select,pselect6,futex,nanosleep,clock_nanosleep";

/// Whether a line of strace shows the end of a call in which its thread may have slept.
///
/// The context switches that the kernel counts would serve less: what a busy disk and the memory of a busy
/// machine delay adds to them.
fn is_sleep(line: &str) -> bool {
    let Some((call, _result)) = line.split_once(") ") else { return false };
    if call.contains("poll") {
        // A timeout of 0 only asks. The runtime's own event, which has no data, comes from a thread that
        // is counted itself, or from the same one.
        let is_question = call.ends_with(", 0") || call.contains(", 0, NULL");
        !is_question && !call.contains("[{events=EPOLLIN, data={u32=0, u64=0}}]")
    } else {
        !call.contains("FUTEX_WAKE")
    }
}

/// How often each thread of the service slept within [`SECONDS`], each second.
fn wakes(machine: &Machine) -> f64 {
    let pid = machine.path("/sys/fs/cgroup/system.slice/iotmonitor.service/cgroup.procs");
    let pid = std::fs::read_to_string(pid).expect("the service runs");
    let log = machine.path("/run/strace.log");
    let _ = std::fs::remove_file(&log);
    let mut strace = Command::new("strace")
        .args(["--follow-forks", "--attach", pid.trim(), "--output"])
        .arg(&log)
        .arg(format!("--trace={WAITS}"))
        .stderr(Stdio::null())
        .spawn()
        .expect("strace can be run");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    eventually("strace to attach", || (!lines().is_empty()).then_some(()));
    let (first, began) = (lines().lines().count(), Instant::now());
    std::thread::sleep(Duration::from_secs(SECONDS.into()));
    let (lines, passed) = (lines(), began.elapsed().as_secs_f64());
    // It detaches from the service, which goes on.
    let strace_pid = nix::unistd::Pid::from_raw(strace.id().try_into().expect("a PID"));
    nix::sys::signal::kill(strace_pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
    strace.wait().expect("it ends");
    let mut of_threads: BTreeMap<&str, u32> = BTreeMap::new();
    for line in lines.lines().skip(first).filter(|line| is_sleep(line)) {
        let thread = line.split_whitespace().next().unwrap_or_default();
        *of_threads.entry(thread).or_default() += 1;
    }
    println!("slept within {SECONDS} s, by thread: {of_threads:?}");
    f64::from(of_threads.values().sum::<u32>()) / passed
}

/// Opens the stream of events that a browser with the status page reads.
fn open_page(machine: &Machine) -> TcpStream {
    let mut stream = machine.connect_to_page(8079);
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
    assert!(open <= FOR_UP + BESIDE_UP + FOR_A_PAGE, "{open:.1} a second with the page open");
}
