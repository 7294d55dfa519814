//! A past that was recorded before the monitor starts.

use iotmonitor::history::alerts::AlertBook;
use iotmonitor::history::{HistoryCommand, HistorySettings, spawn};
use iotmonitor_core::model::alert::Reason;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::history::{
    ContactTally, Ending, EpisodeKind, EpisodeRecord, HistoryBatch, HourTally, RestartRecord,
    UsageTally, hour_of,
};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Records whose times are given as their age in seconds.
pub struct Past {
    now: Duration,
    batch: HistoryBatch,
}

impl Past {
    /// That of these devices, which are known for so long.
    pub fn of(names: &[&str], age: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let known = now - Duration::from_secs(age);
        let known = names.iter().map(|it| (name(it), known)).collect();
        Self { now, batch: HistoryBatch { mark: now, known, ..HistoryBatch::default() } }
    }

    fn ago(&self, age: u64) -> Duration {
        self.now - Duration::from_secs(age)
    }

    pub fn alarm(&mut self, device: &str, age: u64, seconds: u64) {
        self.batch.last_id += 1;
        let begin = self.ago(age);
        self.batch.episodes.push(EpisodeRecord {
            id: self.batch.last_id,
            device: Some(name(device)),
            kind: EpisodeKind::Alarm,
            reason: Some(Reason::Silent),
            begin,
            end: Some(begin + Duration::from_secs(seconds)),
            last_contact: None,
            ended_by: Some(Ending::Contact),
        });
    }

    pub fn contacts(&mut self, device: &str, age: u64, contacts: u32) {
        self.hour(device, age, ContactTally { contacts, longest_silence: 60 }, None);
    }

    pub fn usage(&mut self, agent: &str, age: u64, memory: u32, cpu_millis: u32) {
        let memory_kib = Some(memory / 1_024);
        let usage = UsageTally { memory_kib, cpu_millis: Some(cpu_millis) };
        self.hour(agent, age, ContactTally::default(), Some(usage));
    }

    fn hour(&mut self, device: &str, age: u64, tally: ContactTally, usage: Option<UsageTally>) {
        let hour = hour_of(self.ago(age));
        self.batch.tallies.push(HourTally { device: name(device), hour, tally, usage });
    }

    pub fn restart(&mut self, agent: &str, age: u64, exit: &str) {
        let (time, exit) = (self.ago(age), Some(exit.to_owned()));
        self.batch.restarts.push(RestartRecord {
            agent: name(agent),
            time,
            exit,
            memory_peak: None,
        });
    }

    /// Writes it where the monitor with these states looks for it.
    pub fn write(self, states: &Path) {
        std::fs::create_dir_all(states).unwrap();
        let keep = Duration::from_secs(500 * 86_400);
        let directory = states.join(iotmonitor::history::DIRECTORY);
        let (sender, mut events) = tokio::sync::mpsc::channel(64);
        let handle =
            spawn(HistorySettings::new(directory, keep), AlertBook::default(), sender).unwrap();
        assert!(matches!(events.blocking_recv(), Some(Event::HistoryOpened(_))));
        handle.send(HistoryCommand::Save(Box::new(self.batch))).unwrap();
        assert_eq!(events.blocking_recv(), Some(Event::HistorySaved));
        assert!(handle.close(Duration::from_secs(60)));
    }
}

fn name(text: &str) -> DeviceName {
    DeviceName::new(text).unwrap()
}
