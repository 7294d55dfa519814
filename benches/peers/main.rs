//! The monitor beside its peers on a real broker, as a table.
//!
//! `QUICK=1` takes one round of fewer messages; `ROWS=watched,size` takes these groups alone. With
//! all rows and all rounds the table in docs/benchmarks.md is written anew. One file a group of rows.

#[path = "../common/mod.rs"]
mod common;

#[path = "../../tests/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
mod harness;

#[path = "../../tests/common/installed.rs"]
mod installed;

mod agents;
mod alternatives;
mod broker;
mod burst;
mod card;
mod client;
mod expiry;
mod losses;
mod process;
mod recorded;
mod references;
mod size;
mod states;
mod streams;
mod supervised;
mod table;
mod watchdog;
mod watched;

use client::Client;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::process::Command;
use table::Row;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.md");
/// Between these lines the table stands in that page.
const BEGIN: &str = "<!-- written by `make bench` -->\n";
/// And between these the comparison with alternatives.
const BEGIN_ALTERNATIVES: &str = "<!-- the alternatives, written by `make bench` -->\n";
const END: &str = "<!-- end -->\n";

/// What was asked for.
pub struct Settings {
    pub quick: bool,
}

impl Settings {
    fn rounds(&self) -> usize {
        if self.quick { 1 } else { 3 }
    }

    /// Whether a fleet of so many devices is measured: the largest takes minutes.
    fn takes(&self, devices: usize) -> bool {
        !self.quick || devices < LARGEST
    }

    /// Rounds with a fleet of so many devices.
    fn rounds_of(&self, devices: usize) -> usize {
        if devices < LARGEST { self.rounds() } else { 1 }
    }
}

type Group = (&'static str, fn(&Settings) -> Vec<Row>);
const GROUPS: [Group; 10] = [
    ("watched", watched::rows),
    ("streams", streams::rows),
    ("states", states::rows),
    ("losses", losses::rows),
    ("expiry", expiry::rows),
    ("burst", burst::rows),
    ("card", card::rows),
    ("recorded", recorded::rows),
    ("agents", agents::rows),
    ("size", size::rows),
];

/// The largest fleet; one round with it takes as long as many with another.
const LARGEST: usize = 100_000;

fn main() {
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse().ok());
    let Some(name) = words.first() else { return measure() };
    match (name.as_str(), number(1)) {
        ("units", Some(count)) => return agents::start_units(count),
        ("answers", Some(count)) => return agents::ask_for_units(count),
        _ => {}
    }
    let is_reference = number(1).zip(number(2)).is_some_and(|(port, messages)| {
        let port = u16::try_from(port).expect("a port");
        references::run(name, port, messages, number(3))
    });
    assert!(is_reference, "there are no arguments; see QUICK and ROWS");
}

fn measure() {
    let settings = Settings { quick: env::var_os("QUICK").is_some() };
    let wanted = env::var("ROWS").ok();
    let wanted: Option<BTreeSet<&str>> = wanted.as_deref().map(|text| text.split(',').collect());
    let is_wanted = |name| wanted.as_ref().is_none_or(|wanted| wanted.contains(name));
    if is_wanted("alternatives") {
        eprintln!("measuring: alternatives");
        let (table, is_whole) = alternatives::compare(&settings, is_wanted("node-red"));
        let rendered = table.render(&conditions(&settings));
        println!("{rendered}");
        if !settings.quick && is_whole {
            write_to_page(BEGIN_ALTERNATIVES, &rendered);
        }
    }
    let mut rows = Vec::new();
    for (name, measure) in GROUPS.iter().filter(|(name, _)| is_wanted(name)) {
        eprintln!("measuring: {name}");
        rows.extend(measure(&settings));
    }
    if rows.is_empty() {
        return;
    }
    let rendered = table::render(&rows, &conditions(&settings));
    println!("{rendered}");
    if !settings.quick && wanted.is_none() {
        write_to_page(BEGIN, &rendered);
    }
}

/// Waits until everything that follows the subscribing is published.
fn until_watching(observer: &mut Client, devices: usize) {
    observer.until(&format!("home/monitoring/status/d{}", devices - 1));
}

fn write_to_page(begin: &str, table: &str) {
    let text = fs::read_to_string(PAGE).expect("there is a page of benchmarks");
    let (before, rest) = text.split_once(begin).expect("the page has a place for the table");
    let (_, after) = rest.split_once(END).expect("the page has a place for the table");
    fs::write(PAGE, format!("{before}{begin}{table}{END}{after}")).expect("it can be written");
}

/// Date, processor and versions, for a figure means nothing without them.
fn conditions(settings: &Settings) -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{}, {processor} with {cores} cores, {}, {}, iotmonitor {}; payloads of 20 bytes; {}.",
        table::today(),
        first_line("rustc", "--version"),
        first_line(broker::MOSQUITTO, "-h"),
        env!("CARGO_PKG_VERSION"),
        if settings.quick { "one round" } else { "median of three rounds (least–greatest)" }
    )
}

fn first_line(program: &str, argument: &str) -> String {
    // mosquitto says its version with an exit code that means failure.
    let output = Command::new(program).arg(argument).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or("unknown").to_owned()
}
