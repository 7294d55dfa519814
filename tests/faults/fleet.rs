//! A fleet of devices that talk all the time, but for those that fall silent.

use crate::harness::{Machine, Publisher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Between two words of a device. Several of these fit into [`TIMEOUT`].
const INTERVAL: Duration = Duration::from_millis(250);

/// The devices' watchTimeOut.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// The devices, by their numbers.
pub struct Fleet {
    talks: Mutex<Vec<bool>>,
    ends: AtomicBool,
    sent: AtomicUsize,
}

/// Silences the whole fleet when it goes out of scope, so that the thread that speaks for it ends.
pub struct Voice<'a>(&'a Fleet);

impl Fleet {
    pub fn new(devices: usize) -> Self {
        Self {
            talks: Mutex::new(vec![true; devices]),
            ends: AtomicBool::new(false),
            sent: AtomicUsize::new(0),
        }
    }

    pub fn name(device: usize) -> String {
        format!("d{device}")
    }

    /// Their sections of the configuration.
    pub fn sections(&self) -> String {
        let section = |device| {
            let (name, timeout) = (Self::name(device), TIMEOUT.as_secs());
            format!("[device_{name}]\nwatchTimeOut = {timeout}\nwatchTopics = \"fleet/{name}/#\"\n")
        };
        (0..self.len()).map(section).collect()
    }

    pub fn len(&self) -> usize {
        self.talks.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// When this returns, a silenced device has said its last word.
    pub fn let_talk(&self, device: usize, talks: bool) {
        self.talks.lock().unwrap_or_else(PoisonError::into_inner)[device] = talks;
    }

    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn voice(&self) -> Voice<'_> {
        Voice(self)
    }

    /// Speaks for the devices until their voice is gone, over all outages of the broker.
    pub fn talk(&self, machine: &Machine) {
        while !self.ends.load(Ordering::Relaxed) {
            if let Ok(mut publisher) = Publisher::connect(machine, "fleet") {
                while !self.ends.load(Ordering::Relaxed) && self.speak(&mut publisher).is_ok() {
                    thread::sleep(INTERVAL);
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Each says one word; what is said to a broker that is gone is lost.
    fn speak(&self, publisher: &mut Publisher) -> std::io::Result<()> {
        let talks = self.talks.lock().unwrap_or_else(PoisonError::into_inner);
        for (device, _) in talks.iter().enumerate().filter(|(_, talks)| **talks) {
            publisher.say(&format!("fleet/{}/word", Self::name(device)), "here")?;
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for Voice<'_> {
    fn drop(&mut self) {
        self.0.ends.store(true, Ordering::Relaxed);
    }
}
