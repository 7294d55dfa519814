//! How much is tried: the short form, or a soak of some minutes; and the seed of all randomness.

use fastrand::Rng;
use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const MINUTES: &str = "IOTMONITOR_SOAK_MINUTES";
const SEED: &str = "IOTMONITOR_FAULT_SEED";

/// What a whole run is to do.
#[derive(Clone, Copy)]
pub struct Plan {
    seed: u64,
    /// A promise's share of a soak's time; nothing in the short form.
    share: Option<Duration>,
}

/// What one promise is to do.
pub struct Effort {
    seed: u64,
    deadline: Option<Instant>,
}

impl Plan {
    /// Reads the environment; a soak's minutes are shared by so many promises on so many threads.
    pub fn from_environment(promises: usize, threads: usize) -> Self {
        let number = |name| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, and no whole number")))
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        let shares = u32::try_from(promises.div_ceil(threads.max(1)).max(1)).expect("a few");
        Self {
            seed: number(SEED).unwrap_or(u64::from(now.subsec_nanos())),
            share: number(MINUTES).map(|minutes| Duration::from_secs(60 * minutes) / shares),
        }
    }

    pub fn is_soak(&self) -> bool {
        self.share.is_some()
    }

    pub fn begin(self) -> Effort {
        Effort { seed: self.seed, deadline: self.share.map(|share| Instant::now() + share) }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.share {
            None => write!(f, "short form")?,
            Some(share) => write!(f, "soak, {} s for each promise", share.as_secs())?,
        }
        write!(f, "; {SEED}={} repeats its randomness", self.seed)
    }
}

impl Effort {
    /// A number that differs between the two forms.
    pub fn either<T>(&self, short: T, soak: T) -> T {
        if self.deadline.is_some() { soak } else { short }
    }

    /// Whether another round is to be made after so many: in the short form up to a number of
    /// them, in a soak until its time is up; the first in any case.
    pub fn goes_on(&self, done: usize, short: usize) -> bool {
        match self.deadline {
            None => done < short,
            Some(deadline) => done == 0 || Instant::now() < deadline,
        }
    }

    /// The seed and nothing else decides what it gives.
    pub fn random(&self) -> Rng {
        Rng::with_seed(self.seed)
    }
}
