//! When and where the shared agents ran, and what is to be said of that.

use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

/// A moment at which an agent ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    pub at: Duration,
    /// `IOTMONITOR_EPOCH`, as the process got it.
    pub epoch: u64,
    pub node: u64,
}

/// The length of a tick in a file.
const LENGTH: usize = 24;

impl Tick {
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let nanos = u64::try_from(self.at.as_nanos()).expect("no machine is up for so long");
        let mut bytes = [0; LENGTH];
        for (place, number) in [nanos, self.epoch, self.node].into_iter().enumerate() {
            bytes[8 * place..8 * (place + 1)].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let number = |place: usize| {
            let bytes = bytes[8 * place..8 * (place + 1)].try_into().expect("these are eight");
            u64::from_le_bytes(bytes)
        };
        Self { at: Duration::from_nanos(number(0)), epoch: number(1), node: number(2) }
    }
}

/// The clock of all machines.
pub fn boot_clock() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has it").into()
}

/// The ticks of one agent, wherever it runs.
pub struct Ticks {
    pub agent: &'static str,
    file: PathBuf,
    /// What has been read.
    offset: u64,
    ticks: Vec<Tick>,
}

/// What one agent did in a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// How long ticks of an owner came after the first one of a later owner: two owners at once.
    pub both: Option<Duration>,
    /// The time from the first to the last of those ticks.
    pub ran_on: Duration,
    /// The smallest time between the last tick of an owner and the first one of the next.
    pub distance: Option<Duration>,
    /// The longest time without a tick.
    pub silence: Duration,
}

impl Ticks {
    pub fn new(agent: &'static str, file: PathBuf) -> Self {
        Self { agent, file, offset: 0, ticks: Vec::new() }
    }

    /// Reads what has been written, and returns all ticks that were not forgotten.
    pub fn read(&mut self) -> &[Tick] {
        let mut file = File::open(&self.file).expect("it was made");
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.offset)).expect("it is an ordinary file");
        file.read_to_end(&mut bytes).expect("it can be read");
        let whole = bytes.chunks_exact(LENGTH);
        self.offset += u64::try_from(bytes.len() - whole.remainder().len()).expect("it is short");
        self.ticks.extend(whole.map(Tick::from_bytes));
        // A process may be held up between reading the clock and writing.
        self.ticks.sort_by_key(|tick| tick.at);
        &self.ticks
    }

    /// The last tick.
    pub fn last(&mut self) -> Option<Tick> {
        self.read().last().copied()
    }

    /// Forgets all ticks but the last one.
    pub fn forget(&mut self) {
        self.read();
        let keep = self.ticks.len().saturating_sub(1);
        self.ticks.drain(..keep);
    }

    /// The first tick after this time on another node than this one.
    pub fn first_elsewhere(&mut self, node: u64, from: Duration) -> Option<Duration> {
        let elsewhere = |tick: &&Tick| tick.at > from && tick.node != node;
        self.read().iter().find(elsewhere).map(|tick| tick.at)
    }

    pub fn course(&mut self) -> Course {
        course(self.read())
    }
}

/// Epochs grow with each owner, so that a tick of an earlier epoch after one of a later epoch is
/// one of a second owner.
fn course(ticks: &[Tick]) -> Course {
    let mut course =
        Course { both: None, ran_on: Duration::ZERO, distance: None, silence: Duration::ZERO };
    let Some((&first, rest)) = ticks.split_first() else { return course };
    let (mut last, mut previous, mut began) = (first, first.at, first.at);
    let mut late_since = None;
    for &tick in rest {
        course.silence = course.silence.max(tick.at - previous);
        previous = tick.at;
        if tick.epoch < last.epoch || tick.epoch == last.epoch && tick.node != last.node {
            let first = *late_since.get_or_insert(tick.at);
            course.both = course.both.max(Some(tick.at - began));
            course.ran_on = course.ran_on.max(tick.at - first);
            continue;
        }
        if tick.epoch > last.epoch {
            let distance = tick.at - last.at;
            course.distance = Some(course.distance.map_or(distance, |least| least.min(distance)));
            began = tick.at;
        }
        last = tick;
    }
    course
}

/// Run at each start, as they are quick: what is not noticed here is not noticed in the machines.
pub fn check() {
    let tick = |millis, epoch, node| Tick { at: Duration::from_millis(millis), epoch, node };
    let same = tick(u64::from(u32::MAX) + 7, u64::MAX, 3);
    assert_eq!(Tick::from_bytes(&same.to_bytes()), same);
    let millis = Duration::from_millis;
    let good = [tick(0, 5, 1), tick(2, 5, 1), tick(802, 6, 2), tick(804, 6, 2), tick(1_500, 9, 1)];
    let expected = Course {
        both: None,
        ran_on: Duration::ZERO,
        distance: Some(millis(696)),
        silence: millis(800),
    };
    assert_eq!(course(&good), expected);
    let late = [tick(0, 5, 1), tick(10, 6, 2), tick(13, 5, 1), tick(14, 6, 2), tick(15, 5, 1)];
    let expected = Course {
        both: Some(millis(5)),
        ran_on: millis(2),
        distance: Some(millis(10)),
        silence: millis(10),
    };
    assert_eq!(course(&late), expected);
    let same_epoch = [tick(0, 5, 1), tick(2, 5, 2)];
    assert_eq!(course(&same_epoch).both, Some(millis(2)));
    assert_eq!(course(&[]).both, None);
}
