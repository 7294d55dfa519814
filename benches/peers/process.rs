//! What the kernel says of a process, and where it runs.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;
use std::fs;
use std::time::Duration;

/// Processor time of all threads so far.
pub fn cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let nanos = tasks
        .flatten()
        // A thread may end meanwhile; those of the monitor do not, but for its resolver.
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    Duration::from_nanos(nanos)
}

/// Processor time of all children that were waited for.
pub fn cpu_of_ended_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("Linux counts it");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| {
            let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
            let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
            Duration::from_secs(seconds) + Duration::from_micros(micros)
        })
        .sum()
}

/// Resident memory in bytes.
pub fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.expect("Linux says it") * 1024
}

/// Runs the work with this thread, and all processes that it starts, on the first processor alone.
pub fn on_first_processor<T>(work: impl FnOnce() -> T) -> T {
    let this = Pid::from_raw(0);
    let all = sched_getaffinity(this).expect("Linux says it");
    let mut first = CpuSet::new();
    first.set(0).expect("there is one");
    sched_setaffinity(this, &first).expect("it may run there");
    let outcome = work();
    sched_setaffinity(this, &all).expect("it ran there before");
    outcome
}

/// A wrapper that runs a program on the second processor alone.
pub fn on_second_processor() -> [String; 3] {
    ["taskset", "-c", "1"].map(str::to_owned)
}
