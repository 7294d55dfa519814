//! Readers that are many, slow or ill-meaning take little, and hold nothing up.

use super::house::{Answer, House, PATIENCE, free_port, read_chunk};
use nix::sys::signal::{Signal, kill};
use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 2\nwatchTopics = \"home/lamp/#\"\n";

#[test]
fn streams_are_limited_and_the_next_client_must_wait() {
    let house = House::with(SECTIONS);
    let look_on = || {
        let mut stream = house.connect();
        stream.write_all(house.request("GET", "/api/v1/events", &[]).as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let status = Answer::read_head(&mut stream).unwrap().status;
        (status, stream)
    };
    let streams: Vec<_> = (0..32).map(|_| look_on()).collect();
    assert!(streams.iter().all(|(status, _)| *status == 200));
    assert_eq!(look_on().0, 503);
    assert_eq!(house.get("/healthz").status, 200, "there is room for others");
    drop(streams);
    house.until("a place to be free", || look_on().0 == 200);
}

/// All connections are taken by clients that ask for nothing: they are ended, and the next reader has
/// its turn.
#[test]
fn silent_clients_are_disconnected_soon() {
    let house = House::with(SECTIONS);
    let mut idle: Vec<_> = (0..64).map(|_| house.connect()).collect();
    // The head of a request that never ends is no better.
    for stream in &mut idle[..32] {
        stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").unwrap();
    }
    let began = Instant::now();
    house.publish("home/lamp/sensors", "1");
    house.until("the alarm to be raised meanwhile", || house.said("`lamp` is silent") >= 1);
    assert_eq!(house.get("/healthz").status, 200);
    assert!(began.elapsed() < PATIENCE);
    for mut stream in idle {
        let mut rest = Vec::new();
        // It may have received 408, or nothing at all.
        let _ = stream.read_to_end(&mut rest);
    }
}

/// Readers that ask for a fleet's list again and again and take none: what the kernel does not hold for
/// them costs a page of the list each, and they are ended.
#[test]
fn an_answer_that_is_not_taken_costs_little_memory() {
    const READERS: u64 = 8;
    let sections: String = (0..10_000)
        .map(|number| format!("[device_d{number:05}]\nwatchTopics = \"d/{number}\"\n"))
        .collect();
    let house = House::with(&sections);
    // One list has been made, so that what making one takes is there before.
    let whole = house.get("/api/v1/devices").body.len();
    let before = house.resident();
    let request = house.request("GET", "/api/v1/devices", &[]).replace("Connection: close\r\n", "");
    // More than a socket's buffers hold (tcp(7), tcp_wmem and tcp_rmem).
    let all = request.repeat(24 * 1024 * 1024 / whole);
    let began = Instant::now();
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let mut stream = house.connect();
            stream.write_all(all.as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut most = before;
    house.until("all of them to be ended", || {
        most = most.max(house.resident());
        assert_eq!(house.get("/healthz").status, 200);
        readers.iter().all(|stream| is_ended(&house, stream))
    });
    let grown = most - before;
    println!("{READERS} readers: {grown} KiB more, ended after {:?}", began.elapsed());
    assert!(began.elapsed() > Duration::from_secs(10), "they were never waited for");
    assert!(grown < READERS * 300, "{grown} KiB for lists of {whole} bytes");
}

/// As many readers as there may be take a byte each second, which no time limit on a single wait
/// notices: of lists and metrics, plain and compressed.
#[test]
fn readers_that_take_a_byte_a_second_cost_little_memory() {
    const READERS: usize = 64;
    let sections: String = (0..10_000)
        .map(|number| format!("[device_d{number:05}]\nwatchTopics = \"d/{number}\"\n"))
        .collect();
    let house = House::with(&sections);
    let paths = ["/api/v1/devices", "/metrics", "/"];
    let lengths: Vec<_> = paths.iter().map(|path| house.get(path).body.len()).collect();
    let before = house.resident();
    let mut readers: Vec<_> = (0..READERS)
        .map(|number| {
            let mut stream = house.connect();
            stream.set_nonblocking(true).unwrap();
            let accepted = ["identity", "gzip"][number / 2 % 2];
            let headers = [("accept-encoding", accepted)];
            let request = house.request("GET", paths[number % 2], &headers);
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    let (mut most, mut taken) = (before, 0);
    for _ in 0..12 {
        for stream in &mut readers {
            taken += stream.read(&mut [0]).unwrap_or(0);
        }
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(100));
            most = most.max(house.resident());
        }
    }
    let grown = most - before;
    println!("{READERS} readers of {lengths:?} bytes took {taken}: {before} KiB, {grown} KiB more");
    assert!(taken > 5 * READERS, "they were not served: {taken} bytes");
    assert!(grown < 10 * 1024, "{grown} KiB");
    drop(readers);
    house.until("the next scrape", || house.get("/metrics").status == 200);
}

/// The text of a scrape is written while it is sent, so that the figures alone are in memory.
#[test]
fn a_scrape_of_a_fleet_costs_less_memory_than_its_text() {
    let sections: String = (0..10_000)
        .map(|number| format!("[device_d{number:05}]\nwatchTopics = \"d/{number}\"\n"))
        .collect();
    let house = House::with(&sections);
    house.get("/api/v1/devices");
    let before = house.resident();
    house.forget_peak();
    let length = house.get("/metrics").body.len();
    let grown = house.peak().saturating_sub(before);
    println!("a scrape of {length} bytes: {before} KiB, {grown} KiB more");
    assert!(grown * 1024 < length as u64, "{grown} KiB for {length} bytes");
}

/// They are all silent from the start. A client that reads as fast as it can knows them all in the end,
/// and is asked to read everything again a few times at most.
#[test]
fn thousands_of_alarms_at_once_reach_a_client() {
    const DEVICES: usize = 10_000;
    let sections: String = (0..DEVICES)
        .map(|number| {
            format!("[device_d{number:05}]\nwatchTimeOut = 10\nwatchTopics = \"d/{number}\"\n")
        })
        .collect();
    let house = House::with(&sections);
    let mut stream = house.connect();
    stream.write_all(house.request("GET", "/api/v1/events", &[]).as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    assert_eq!(Answer::read_head(&mut stream).unwrap().status, 200);
    let (mut expired, mut refreshes, mut events) = (BTreeSet::new(), 0, 0);
    let began = Instant::now();
    while expired.len() < DEVICES {
        assert!(began.elapsed() < PATIENCE, "{} of {DEVICES} after {events}", expired.len());
        let chunk = read_chunk(&mut stream).unwrap().expect("it goes on");
        for event in chunk.split("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            if event.starts_with("event: refresh") {
                refreshes += 1;
                let list = house.get("/api/v1/devices").json();
                let list = list.as_array().unwrap().iter();
                let silent = list.filter(|device| device["state"] == "expired");
                expired.extend(silent.map(|device| device["name"].as_str().unwrap().to_owned()));
            } else if event.starts_with("event: device") {
                events += 1;
                let device: serde_json::Value = serde_json::from_str(data.unwrap()).unwrap();
                if device["state"] == "expired" {
                    expired.insert(device["name"].as_str().unwrap().to_owned());
                }
            }
        }
    }
    println!("{events} events and {refreshes} complete lists for {DEVICES} alarms");
    assert!(refreshes <= 6, "{refreshes}");
    assert!(events <= 2 * DEVICES, "{events}");
}

/// Whether the monitor's end of this connection is gone, as /proc/net/tcp shows.
fn is_ended(house: &House, stream: &std::net::TcpStream) -> bool {
    let peer = stream.local_addr().unwrap().port();
    let wanted = format!(":{:04X} 0100007F:{peer:04X} 01", house.port);
    !std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&wanted)
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let house = House::with(SECTIONS);
    let long = "x".repeat(64 * 1024);
    let answer = house.ask("GET", "/healthz", &[("x-long", &long)]);
    assert!(answer.map_or(true, |answer| answer.status == 431));
    assert_eq!(house.get("/healthz").status, 200);
}

#[test]
fn an_address_that_cannot_be_bound_is_reported_once_and_tried_again() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let house = House::starting(port, "", SECTIONS);
    house.until("the reason", || house.said("another program uses it") == 1);
    house.until("the watching", || house.said("`lamp` is silent") == 1);
    drop(taken);
    house.until("the page", || house.try_get("/healthz").is_ok_and(|it| it.status == 200));
    assert_eq!(house.said("another program uses it"), 1, "once per change");
    house.until("the good news", || house.said("the status page is offered on") == 1);
}

#[test]
fn a_reload_moves_the_page_and_takes_it_away() {
    let mut house = House::with(SECTIONS);
    let (old, new) = (house.port, free_port());
    house.reload(&format!("[http]\nport = {new}\n{SECTIONS}"));
    house.port = new;
    house.until("the page at its new place", || house.try_get("/healthz").is_ok());
    house.port = old;
    assert!(house.try_get("/healthz").is_err());
    house.port = new;
    house.reload(SECTIONS);
    house.until("the page to be gone", || house.try_get("/healthz").is_err());
    house.reload(&format!("[http]\nport = {new}\n{SECTIONS}"));
    house.until("the page to be back", || house.try_get("/healthz").is_ok());
    assert_eq!(house.said("cannot be offered"), 0);
}

/// A file on a disk that does not answer, or one that takes long to check, holds up nothing but the
/// reload itself; a request for another one meanwhile gets what the file holds by then.
#[test]
fn a_reload_that_takes_its_time_holds_nothing_up() {
    let house = House::with(SECTIONS);
    let page = format!("[http]\nport = {}\n", house.port);
    house.write_slowly();
    kill(house.pid(), Signal::SIGHUP).unwrap();
    let write = house.feed();
    house.publish("home/lamp/sensors", "1");
    house.until_state("lamp", "alive");
    house.until_state("lamp", "expired");
    kill(house.pid(), Signal::SIGHUP).unwrap();
    house.publish("home/lamp/sensors", "2");
    house.until_state("lamp", "alive");
    write(&format!("{page}{SECTIONS}[device_first]\nwatchTopics = \"home/first\"\n"));
    house.until("the first file to be in force", || house.said("is in force with 2 devices") == 1);
    house.feed()(&format!(
        "{page}{SECTIONS}[device_one]\nwatchTopics = \"a\"\n[device_two]\nwatchTopics = \"b\"\n"
    ));
    house.until("the second to be", || house.said("is in force with 3 devices") == 1);
    assert_eq!(house.get("/api/v1/devices/first").status, 404);
}

/// However many ask, what the devices say is heard in time: no device that speaks is alarmed, and one that does
/// not is alarmed at once.
#[test]
fn readers_in_crowds_hold_no_alarm_up() {
    let fleet: String = (0..2_000)
        .map(|number| format!("[device_d{number:04}]\nwatchTopics = \"d/{number}\"\n"))
        .collect();
    let house = House::with(&format!("{SECTIONS}{fleet}"));
    let (asking, answers) = (AtomicBool::new(true), AtomicUsize::new(0));
    let (false_alarms, late) = std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while asking.load(Ordering::Relaxed) {
                    assert_eq!(house.get("/api/v1/devices").status, 200);
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // The lamp speaks four times as often as it must, and then no more.
        for _ in 0..10 {
            house.publish("home/lamp/x", "1");
            std::thread::sleep(Duration::from_millis(500));
        }
        let false_alarms = house.said("`lamp` is silent");
        let silence = Instant::now();
        while house.said("`lamp` is silent") == false_alarms && silence.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let late = silence.elapsed();
        asking.store(false, Ordering::Relaxed);
        (false_alarms, late)
    });
    let answers = answers.into_inner();
    println!("{answers} lists of 2,000 devices; the alarm {late:?} after half a second of silence");
    assert_eq!(false_alarms, 0);
    assert!(late < Duration::from_secs(3), "{late:?}");
    assert!(answers > 20, "{answers}");
}
