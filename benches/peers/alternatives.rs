//! The monitor beside what people use in its place: a shell script around `mosquitto_sub`, a Python
//! program with paho-mqtt, and Node-RED.
//!
//! All are given the same devices and the same streams, each by a broker of its own. Costs are measured
//! one after the other, with the subject on a processor to itself; what they miss is observed at the same
//! time. A subject counts with all its processes.

mod costs;
mod misses;
mod scene;
mod subjects;

use crate::Settings;
use crate::table::Comparison;
use std::thread;
use subjects::Subject;

/// The comparison, and whether every subject is in it.
pub fn compare(settings: &Settings, with_node_red: bool) -> (Comparison, bool) {
    let all = Subject::all(with_node_red);
    let is_whole = with_node_red && all.iter().all(Result::is_ok);
    let mut subjects = Vec::new();
    for subject in all {
        match subject {
            Ok(subject) => subjects.push(subject),
            Err(sentence) => eprintln!("{sentence}"),
        }
    }
    let mut table = Comparison::new(subjects.iter().map(Subject::name).collect());
    let costs: Vec<_> = subjects.iter().map(|subject| costs::measure(settings, subject)).collect();
    for (row, work) in costs::ROWS.iter().enumerate() {
        table.push(work, costs.iter().map(|figures| figures[row].to_string()).collect());
    }
    let observed: Vec<_> = thread::scope(|scope| {
        let observe = |subject| scope.spawn(move || misses::observe(subject));
        let started: Vec<_> = subjects.iter().map(observe).collect();
        started.into_iter().map(|thread| thread.join().expect("it observes")).collect()
    });
    for (row, work) in misses::ROWS.iter().enumerate() {
        table.push(work, observed.iter().map(|seen| seen[row].clone()).collect());
    }
    (table, is_whole)
}
