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

/// The processes of a group.
pub fn members(group: u32) -> Vec<u32> {
    let is_member = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may hold anything, stand the state, the parent and the group.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        fields.split(' ').nth(2).and_then(|word| word.parse().ok()) == Some(group)
    };
    let all = fs::read_dir("/proc").expect("Linux has it");
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_member)
        .collect()
}

/// Seconds of processor time between two texts of a task's `schedstat`.
#[allow(clippy::cast_precision_loss, reason = "a bench takes less than 2^52 ns")]
pub fn seconds_between(before: &str, after: &str) -> f64 {
    let nanos = |text: &str| text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
    let (before, after) = (nanos(before), nanos(after));
    after.zip(before).map_or(0.0, |(after, before)| (after - before) as f64 / 1e9)
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

/// Processor time of each of so many messages, in microseconds.
#[allow(clippy::cast_precision_loss, reason = "some hundred thousand messages")]
pub fn micros_of_each(took: Duration, messages: usize) -> f64 {
    took.as_secs_f64() * 1e6 / messages as f64
}

/// Resident memory in megabytes.
pub fn resident(pid: u32) -> f64 {
    megabytes(pid, "VmRSS:")
}

/// The same without what is mapped from files, which is the program itself.
pub fn resident_but_for_files(pid: u32) -> f64 {
    megabytes(pid, "RssAnon:")
}

/// The most resident memory, in megabytes, since [`forget_peak`] or the start.
pub fn peak(pid: u32) -> f64 {
    megabytes(pid, "VmHWM:")
}

/// Takes what is resident now as the peak (proc_pid_clear_refs(5)).
pub fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("it is a child's");
}

#[allow(clippy::cast_precision_loss, reason = "memory is below 2^52 bytes")]
fn megabytes(pid: u32, field: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.expect("Linux says it") as f64 * 1024.0 / 1e6
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
