//! What a cluster costs, as `docs/cluster.md` and `docs/benchmarks.md` state it: `make cluster-figures`.

use super::harness::{Machine, eventually_within};
use super::house::{ETCD, GUARD, House, MONITOR};
use super::network::BROKER;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// For how long traffic is counted.
const COUNTED: Duration = Duration::from_secs(60);

/// After a start, memory is measured when what it took has been given back.
const SETTLED: Duration = Duration::from_secs(30);

/// A third of them moves when one of three machines is lost.
const DEVICES: usize = 30_000;

/// How long all of them may take to be read, and to move.
const PATIENCE: Duration = Duration::from_secs(120);

const CONFIG: &str = "/etc/iotmonitor/config.toml";

/// What a machine sends to others and gets from them, on the ports of etcd.
const COUNTERS: &str = "table inet figures {
    counter clients { }
    counter members { }
    chain in { type filter hook input priority 0;
        iifname eth0 tcp dport 2379 counter name clients
        iifname eth0 tcp sport 2379 counter name clients
        iifname eth0 tcp dport 2380 counter name members
        iifname eth0 tcp sport 2380 counter name members
    }
    chain out { type filter hook output priority 0;
        oifname eth0 tcp dport 2379 counter name clients
        oifname eth0 tcp sport 2379 counter name clients
        oifname eth0 tcp dport 2380 counter name members
        oifname eth0 tcp sport 2380 counter name members
    }
}";

pub fn print(house: &mut House) {
    house.await_whole();
    print_traffic(house);
    let config = String::from_utf8(house.machine(2).read_file(CONFIG)).expect("it is text");
    print_memory(house.machine(2), &config, "in the cluster");
    house.await_whole();
    print_take_over(house);
    let (before, from) = config.split_once("[cluster]").expect("it takes part");
    let behind = &from[from.find("\n[").expect("agents follow")..];
    // What it publishes would be taken for that of the others.
    print_memory(house.machine(2), &format!("{before}{behind}"), "by itself");
}

fn print_traffic(house: &House) {
    let machine = house.machine(1);
    machine.feed(&["nft", "-f", "-"], COUNTERS.as_bytes());
    std::thread::sleep(COUNTED);
    let report = machine.ok(&["nft", "--json", "list", "counters"]);
    let report: serde_json::Value = serde_json::from_str(&report).expect("it is JSON");
    for entry in report["nftables"].as_array().expect("a list") {
        if let (Some(name), Some(bytes)) =
            (entry["counter"]["name"].as_str(), entry["counter"]["bytes"].as_u64())
        {
            let an_hour = bytes * 3_600 / COUNTED.as_secs();
            println!("traffic of pi1 with {name} of etcd: {:.1} MB an hour", in_mega(an_hour));
        }
    }
}

fn print_memory(machine: &Machine, config: &str, place: &str) {
    machine.write_config(config);
    machine.ok(&["systemctl", "restart", MONITOR]);
    std::thread::sleep(SETTLED);
    for unit in [MONITOR, GUARD, ETCD] {
        let pid = machine.main_pid(unit);
        let status = machine.sh(&format!("cat /proc/{pid}/status"));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        if let Some(kib) = kib {
            println!("resident memory of {unit} {place}: {:.1} MB", in_mega(kib * 1_024));
        }
    }
}

fn print_take_over(house: &mut House) {
    let argv = ["mosquitto_sub", "-h", BROKER, "-t", "home/monitoring/status/+", "-F", "%p"];
    let mut client =
        house.network().command(&argv).stdout(Stdio::piped()).spawn().expect("it can be run");
    let output = BufReader::new(client.stdout.take().expect("it is piped"));
    let (sink, statuses) = mpsc::channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let status: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if let (Some(name), Some(node)) = (status["name"].as_str(), status["node"].as_str()) {
                let _ = sink.send((Instant::now(), name.to_owned(), node.to_owned()));
            }
        }
    });
    let mut nodes: BTreeMap<String, String> = BTreeMap::new();
    for number in house.numbers() {
        house.machine(number).sh(&format!(
            "for i in $(seq {DEVICES}); do printf '[device_d%s]\\nwatchTimeOut = \"1h\"\\nwatchTopics = \"home/d%s/#\"\\n' $i $i; \
             done >> {CONFIG}; systemctl reload iotmonitor"
        ));
    }
    eventually_within(PATIENCE, "all devices to have a node", || {
        nodes.extend(statuses.try_iter().map(|(_, name, node)| (name, node)));
        (nodes.len() >= DEVICES).then_some(())
    });
    let moves = nodes.values().filter(|node| *node == "pi1").count();
    let lost = Instant::now();
    house.switch_off(1);
    let mut last = lost;
    eventually_within(PATIENCE, "all devices to have another node", || {
        for (at, name, node) in statuses.try_iter() {
            last = at;
            nodes.insert(name, node);
        }
        nodes.values().all(|node| node != "pi1").then_some(())
    });
    println!(
        "{moves} of {DEVICES} devices were taken over {:.1} s after their machine was switched off",
        (last - lost).as_secs_f64()
    );
    let _ = client.kill();
    let _ = client.wait();
}

#[allow(clippy::cast_precision_loss, reason = "the figures are rounded")]
fn in_mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
