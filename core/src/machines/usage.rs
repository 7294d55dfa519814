//! Turns the kernel's counters of an agent's processes into what they have used in a stretch of
//! time, and remembers the memory peak of those that have ended.
//!
//! The counters belong to an invocation: each start of the main process begins with new ones. How
//! often they are read is up to the adapter; what a process used after the last reading before its
//! end is not known.

use crate::model::device_name::DeviceName;
use crate::model::history::UsageTally;
use crate::model::unit::UnitUsage;
use std::collections::BTreeMap;
use std::time::Duration;

/// The counters of all agents.
#[derive(Debug, Default)]
pub struct UsageMeters(BTreeMap<DeviceName, Meter>);

#[derive(Debug, Default)]
struct Meter {
    invocation: String,
    /// The processor time that has been counted; `None` where only its increase from now on counts,
    /// because the process is older than this run.
    cpu: Option<Duration>,
    /// The highest memory of this invocation.
    peak: Option<u64>,
    /// What was used since it was last collected.
    used: Option<UsageTally>,
}

impl UsageMeters {
    /// An invocation has begun. Returns the highest memory of the one before, if it is known.
    pub fn started(&mut self, agent: &DeviceName, invocation: &str) -> Option<u64> {
        let meter = self.0.entry(agent.clone()).or_default();
        if meter.invocation == invocation {
            return None;
        }
        meter.invocation = invocation.to_owned();
        meter.cpu = Some(Duration::ZERO);
        meter.peak.take()
    }

    /// The counters of an agent's processes at a moment.
    pub fn measured(&mut self, agent: &DeviceName, usage: &UnitUsage) {
        let meter = self.0.entry(agent.clone()).or_default();
        if meter.invocation.is_empty() {
            meter.invocation.clone_from(&usage.invocation);
        }
        // Those of an invocation whose start was not reported yet would count as the present one's.
        if meter.invocation == usage.invocation {
            meter.measured(usage);
        }
    }

    /// The agent has left the configuration.
    pub fn left(&mut self, agent: &DeviceName) {
        self.0.remove(agent);
    }

    /// Collects what each agent has used since the last time.
    pub fn collect(&mut self) -> impl Iterator<Item = (&DeviceName, UsageTally)> {
        self.0.iter_mut().filter_map(|(agent, meter)| Some((agent, meter.used.take()?)))
    }
}

impl Meter {
    fn measured(&mut self, usage: &UnitUsage) {
        // A peak that has risen was reached since the last time. One that is seen for the first time
        // may be older than this run.
        let has_risen = self.peak.is_some() || self.cpu == Some(Duration::ZERO);
        let peak = usage.memory_peak.filter(|peak| has_risen && Some(*peak) > self.peak);
        self.peak = self.peak.max(usage.memory_peak).max(usage.memory);
        let memory = usage.memory.max(peak);
        let used = UsageTally {
            memory_kib: memory.map(|bytes| u32::try_from(bytes / 1_024).unwrap_or(u32::MAX - 1)),
            cpu_millis: usage.cpu.and_then(|total| self.spend(total)),
        };
        self.used.get_or_insert_default().add(used);
    }

    /// The whole milliseconds since the last time; the rest counts the next time.
    fn spend(&mut self, total: Duration) -> Option<u32> {
        let Some(counted) = self.cpu else {
            self.cpu = Some(total);
            return None;
        };
        let millis = total.saturating_sub(counted).as_millis();
        let millis = u32::try_from(millis).unwrap_or(u32::MAX - 1);
        self.cpu = Some(counted + Duration::from_millis(u64::from(millis)));
        Some(millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::unit_name::UnitName;

    fn agent() -> DeviceName {
        DeviceName::new("box").unwrap()
    }

    fn usage(invocation: &str, (memory, peak): (u64, u64), cpu_micros: u64) -> UnitUsage {
        UnitUsage {
            unit: UnitName::from_systemd("iotmonitor-agent-box.service"),
            invocation: invocation.to_owned(),
            memory: Some(memory * 1_024),
            memory_peak: Some(peak * 1_024),
            cpu: Some(Duration::from_micros(cpu_micros)),
        }
    }

    fn collected(meters: &mut UsageMeters) -> Vec<(Option<u32>, Option<u32>)> {
        meters.collect().map(|(_, used)| (used.memory_kib, used.cpu_millis)).collect()
    }

    #[test]
    fn of_a_process_that_began_in_this_run_everything_counts() {
        let mut meters = UsageMeters::default();
        assert_eq!(meters.started(&agent(), "a"), None);
        meters.measured(&agent(), &usage("a", (100, 300), 1_500));
        meters.measured(&agent(), &usage("a", (120, 300), 3_900));
        assert_eq!(collected(&mut meters), [(Some(300), Some(3))], "of 3.9 ms a rest remains");
        meters.measured(&agent(), &usage("a", (110, 300), 4_000));
        assert_eq!(collected(&mut meters), [(Some(110), Some(1))], "the peak was earlier");
        meters.measured(&agent(), &usage("a", (110, 301), 4_000));
        assert_eq!(collected(&mut meters), [(Some(301), Some(0))]);
        assert_eq!(collected(&mut meters), []);
    }

    #[test]
    fn of_an_older_process_only_what_it_uses_from_now_on_counts() {
        let mut meters = UsageMeters::default();
        meters.measured(&agent(), &usage("a", (100, 300), 9_000_000));
        assert_eq!(collected(&mut meters), [(Some(100), None)]);
        meters.measured(&agent(), &usage("a", (100, 400), 9_005_000));
        assert_eq!(collected(&mut meters), [(Some(400), Some(5))]);
        assert_eq!(meters.started(&agent(), "b"), Some(400 * 1_024));
    }

    #[test]
    fn a_peak_is_that_of_the_invocation_that_ended() {
        let mut meters = UsageMeters::default();
        meters.started(&agent(), "a");
        meters.measured(&agent(), &usage("a", (100, 300), 1_000));
        // What is left of it is counted when it has ended.
        meters.measured(&agent(), &usage("a", (0, 500), 8_000));
        assert_eq!(meters.started(&agent(), "b"), Some(500 * 1_024));
        assert_eq!(meters.started(&agent(), "b"), None, "it is reported once");
        assert_eq!(meters.started(&agent(), "c"), None, "the one before was not measured");
        meters.measured(&agent(), &usage("c", (1, 2), 3_000));
        assert_eq!(collected(&mut meters), [(Some(500), Some(11))]);
    }

    #[test]
    fn counters_of_another_invocation_and_lower_ones_count_nothing() {
        let mut meters = UsageMeters::default();
        meters.started(&agent(), "b");
        meters.measured(&agent(), &usage("b", (100, 100), 5_000));
        meters.measured(&agent(), &usage("a", (900, 900), 9_000_000));
        meters.measured(&agent(), &usage("b", (90, 90), 1_000));
        assert_eq!(collected(&mut meters), [(Some(100), Some(5))]);
        meters.left(&agent());
        meters.measured(&agent(), &usage("b", (90, 90), 6_000));
        assert_eq!(collected(&mut meters), [(Some(90), None)]);
    }

    #[test]
    fn what_is_not_accounted_is_not_known() {
        let mut meters = UsageMeters::default();
        meters.started(&agent(), "a");
        let nothing =
            UnitUsage { memory: None, memory_peak: None, cpu: None, ..usage("a", (0, 0), 0) };
        meters.measured(&agent(), &nothing);
        assert_eq!(collected(&mut meters), [(None, None)]);
        assert_eq!(meters.started(&agent(), "b"), None);
    }
}
