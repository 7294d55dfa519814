//! Old days are removed.

use crate::error::Error;
use crate::files;
use crate::layout::{Day, Store};
use std::fs;
use std::io;
use std::time::Duration;

/// What is kept of the past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// The time since the end of a day.
    pub age: Option<Duration>,
    /// The bytes of all files together.
    pub size: Option<u64>,
}

impl Store {
    /// Removes the days that are older than what is kept, and then the oldest ones until the others
    /// are not larger than what is kept. The newest day stays, whatever its size.
    pub fn retain(&self, keep: &Keep, now: i64) -> Result<Vec<Day>, Error> {
        let _lock = files::lock(&self.directory().join("compaction.lock"))?;
        let days = self.days()?;
        let sizes = days.iter().map(|day| self.size_of(*day)).collect::<Result<Vec<_>, _>>()?;
        let mut size: u64 = sizes.iter().sum();
        let mut removed = Vec::new();
        let older = days.iter().zip(&sizes).take(days.len().saturating_sub(1));
        for (day, size_of_day) in older {
            let is_old = keep.age.is_some_and(|age| {
                let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
                day.end() <= now.saturating_sub(age)
            });
            if !is_old && keep.size.is_none_or(|most| size <= most) {
                break;
            }
            self.remove_day(*day)?;
            size -= size_of_day;
            removed.push(*day);
        }
        Ok(removed)
    }

    fn size_of(&self, day: Day) -> Result<u64, Error> {
        let directory = self.day(day);
        let mut size = 0;
        for name in files::names(&directory)? {
            let path = directory.join(name);
            match fs::metadata(&path) {
                Ok(file) => size += file.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("look at", &path)(error)),
            }
        }
        Ok(size)
    }

    fn remove_day(&self, day: Day) -> Result<(), Error> {
        let directory = self.day(day);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", &directory)(error))
            }
            _ => Ok(()),
        }
    }
}
