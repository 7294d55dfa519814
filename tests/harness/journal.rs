//! The machine's journal, followed from the boot on.

use super::PATIENCE;
use super::log::Log;
use super::machine::Machine;
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// One journal entry.
#[derive(Clone, Debug)]
pub struct Entry(Map<String, Value>);

impl Entry {
    /// A field's text; empty when it is missing or no text.
    pub fn field(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn message(&self) -> &str {
        self.field("MESSAGE")
    }

    /// Whether it is an alert of this kind, and of this device unless that is empty.
    pub fn is_alert(&self, event: &str, device: &str) -> bool {
        self.field("IOTMONITOR_EVENT") == event
            && (device.is_empty() || self.field("IOTMONITOR_DEVICE") == device)
    }

    /// Time of receipt in microseconds since the Unix epoch.
    pub fn micros(&self) -> u64 {
        self.field("__REALTIME_TIMESTAMP").parse().unwrap_or_default()
    }
}

pub struct Journal {
    follower: Child,
    entries: Arc<Log<Entry>>,
}

impl Journal {
    pub(super) fn follow(machine: &Machine) -> Self {
        let mut follower = machine
            .command(&["journalctl", "--follow", "--no-tail", "--all", "--output=json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("nsenter can be run");
        let entries = Arc::new(Log::new());
        let output = BufReader::new(follower.stdout.take().expect("it is piped"));
        let sink = Arc::clone(&entries);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Ok(Value::Object(fields)) = serde_json::from_str(&line) {
                    sink.push(Entry(fields));
                }
            }
        });
        Self { follower, entries }
    }

    /// All that has been written up to now and fits.
    pub fn now(&self, machine: &Machine, fits: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let marker = format!("journal read up to {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        machine.ok(&["logger", "--tag", "test", &marker]);
        self.wait_for("the marker", |entry| entry.message() == marker);
        self.entries.all().into_iter().filter(fits).collect()
    }

    /// How many alerts of this kind have been written up to now.
    pub fn alerts(&self, machine: &Machine, event: &str, device: &str) -> usize {
        self.now(machine, |entry| entry.is_alert(event, device)).len()
    }

    /// How many alerts of this kind have been read by now; there may be more on their way.
    pub fn alerts_read(&self, event: &str, device: &str) -> usize {
        self.entries.count(|entry| entry.is_alert(event, device))
    }

    /// Waits for the first entry that fits, from the boot on.
    pub fn wait_for(&self, what: &str, fits: impl Fn(&Entry) -> bool) -> Entry {
        self.wait_for_within(what, PATIENCE, fits)
    }

    /// The same for what takes its time by design.
    pub fn wait_for_within(
        &self,
        what: &str,
        patience: Duration,
        fits: impl Fn(&Entry) -> bool,
    ) -> Entry {
        self.entries
            .wait_for(0, fits, patience)
            .unwrap_or_else(|| panic!("the journal did not show {what}"))
    }

    /// Waits for the first alert of this kind, from the boot on.
    pub fn wait_for_alert(&self, event: &str, device: &str) -> Entry {
        self.wait_for(&format!("alert {event} {device}"), |entry| entry.is_alert(event, device))
    }

    /// Everything, as a person reads it.
    pub fn text(&self) -> String {
        let line = |entry: &Entry| {
            format!(
                "{:.3} {}[{}]: {} {}\n",
                entry.micros() as f64 / 1e6,
                entry.field("SYSLOG_IDENTIFIER"),
                entry.field("_PID"),
                entry.message(),
                entry.field("IOTMONITOR_EVENT"),
            )
        };
        self.entries.all().iter().map(line).collect()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.follower.kill();
        let _ = self.follower.wait();
    }
}
