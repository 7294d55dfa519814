//! How new members are reported: one by one, and together where there are many.

use crate::model::device_name::DeviceName;
use std::time::Duration;

/// So many are reported one by one within a minute.
const REPORTED: usize = 10;

/// The interval of reports about the others.
const INTERVAL: Duration = Duration::from_secs(60);

/// The reports of one fleet. Times are monotonic.
#[derive(Debug, Default)]
pub struct Finds {
    /// The end of the present interval, if there is one.
    until: Option<Duration>,
    /// Found since the interval began.
    count: usize,
    /// Of those that are not reported one by one, their number and the first name.
    more: usize,
    example: Option<DeviceName>,
    /// The previous interval ended with a summary, so nothing is reported one by one.
    is_flood: bool,
}

/// How a member that was found is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindReport {
    ByItself,
    /// With others, when [`super::Fleets::summaries`] is called at this time.
    At(Duration),
    /// With others, for which a time was given before.
    Later,
}

/// Members that were found and not reported one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindSummary {
    pub count: usize,
    pub example: DeviceName,
}

impl Finds {
    pub fn found(&mut self, name: &DeviceName, now: Duration) -> FindReport {
        let until = match self.until.filter(|until| now < *until) {
            Some(until) => until,
            None if self.more > 0 => self.until.unwrap_or(now),
            None => {
                (self.count, self.is_flood) = (0, false);
                *self.until.insert(now + INTERVAL)
            }
        };
        self.count += 1;
        if self.count <= REPORTED && !self.is_flood {
            return FindReport::ByItself;
        }
        self.more += 1;
        if self.more > 1 {
            return FindReport::Later;
        }
        self.example = Some(name.clone());
        FindReport::At(until)
    }

    /// The summary of an interval that has ended. Another interval follows it.
    pub fn summary(&mut self, now: Duration) -> Option<FindSummary> {
        if self.until.is_none_or(|until| now < until) {
            return None;
        }
        let example = self.example.take()?;
        let count = std::mem::take(&mut self.more);
        (self.until, self.is_flood) = (Some(now + INTERVAL), true);
        Some(FindSummary { count, example })
    }
}
