//! What a schedule is made of: steps, and the dice that choose them.

use super::model::{Definition, Millis};
use std::collections::BTreeMap;
use std::time::Duration;

/// Pseudo-random numbers (xorshift64*).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound as u64) as usize
    }

    pub fn one_of(&mut self, choices: &[u64]) -> u64 {
        choices[self.below(choices.len())]
    }
}

#[derive(Debug, Clone)]
pub enum Step {
    Wait(Millis),
    Talk(usize),
    /// The broker replays a retained message, which is no contact.
    Replay(usize),
    Lose(usize),
    Connect {
        acknowledged: bool,
    },
    Acknowledge,
    /// The broker says nothing any more. Its last packet was some time ago; that it is mute is
    /// noticed some time later.
    Mute {
        quiet: Millis,
        noticed: Millis,
    },
    /// The monitor is held up, while devices talk, one after the other; where the broker drops the
    /// connection it does so in the middle.
    Stall {
        time: Millis,
        talk: Vec<usize>,
        drops: bool,
    },
    /// An orderly one, perhaps with another configuration.
    Restart(Option<BTreeMap<usize, Definition>>),
    Crash,
    Reload(BTreeMap<usize, Definition>),
    Retime(usize, Millis),
    WallClock(i64),
    Enable(usize),
    Disable(usize),
    AgentRestarted,
    /// How long the broker takes to acknowledge a publication from now on.
    AnswersAfter(Millis),
}

impl Step {
    pub fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Lose(_)
                | Self::Mute { .. }
                | Self::Stall { .. }
                | Self::Restart(_)
                | Self::Crash
                | Self::WallClock(_)
        )
    }
}

/// Milliseconds of the schedule, rounded up.
pub fn ceil(mono: Duration) -> Millis {
    let since = mono.saturating_sub(Duration::from_secs(1_000));
    u64::try_from(since.as_micros().div_ceil(1_000)).unwrap()
}
