//! `iotmonitor migrate DIRECTORY`: imports the states and the configuration of the original
//! iotmonitor.

use super::command::{conclude, in_runtime};
use super::output::say;
use super::states::transfer::{fresh, record, save};
use super::states::{StatesError, unix_now};
use crate::bus::{Addressee, Caller, RecordedState};
use crate::dbus::Bus;
use crate::original::configuration::adapted;
use crate::original::database::{self, DatabaseError, States};
use crate::original::leveldb::Damage;
use iotmonitor_core::model::words::counted;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The arguments of the command.
pub struct MigrateOptions {
    pub directory: PathBuf,
    pub config: Option<PathBuf>,
    pub export: Option<PathBuf>,
    /// Import what can be read of a damaged database.
    pub skip_damaged: bool,
}

/// Describes an error in a sentence with the remedy.
#[derive(Debug, thiserror::Error)]
enum MigrateError {
    #[error("{0}")]
    Database(#[from] DatabaseError),
    #[error("{0}")]
    States(#[from] StatesError),
    #[error(
        "nothing was taken over, because {} of the database cannot be read: restore a copy of it, or take over the rest with --skip-damaged",
        counted(*.0, "part")
    )]
    Damaged(usize),
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}: {source}; name a file that is not there yet", path.display())]
    Unwritable { path: PathBuf, source: std::io::Error },
}

/// Carries out the command; returns the exit code.
pub fn migrate(bus: Bus, addressee: Addressee, task: &MigrateOptions) -> u8 {
    conclude(in_runtime(async {
        if let Some(file) = &task.config {
            configuration(&task.directory.join("config.toml"), file)?;
        }
        let read = database::read(&task.directory)?;
        report(&read.damage);
        if !read.damage.is_empty() && !task.skip_damaged {
            return Err(MigrateError::Damaged(read.damage.len()));
        }
        let states = states(read);
        match &task.export {
            Some(file) => {
                save(file, &states)?;
                say!("wrote {} to {}", counted(states.len(), "state"), file.display());
            }
            None => {
                let caller =
                    Caller::connect(bus, None, addressee).await.map_err(StatesError::Call)?;
                record(&caller, states).await?;
            }
        }
        Ok::<(), MigrateError>(())
    }))
}

fn configuration(from: &Path, to: &Path) -> Result<(), MigrateError> {
    let text = std::fs::read_to_string(from)
        .map_err(|source| MigrateError::Unreadable { path: from.to_owned(), source })?;
    // Editors on Windows begin a file with a byte order mark.
    let (text, topics) = adapted(text.trim_start_matches('\u{feff}'));
    fresh(to)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| MigrateError::Unwritable { path: to.to_owned(), source })?;
    for topic in topics {
        say!("`{topic}` matched all topics that begin with it, and is now a filter with `#`");
    }
    say!("wrote {}; `iotmonitor check {}` lists what to review", to.display(), to.display());
    Ok(())
}

/// Further damage is only counted.
const MOST_SHOWN: usize = 20;

fn report(damage: &[Damage]) {
    for damage in damage.iter().take(MOST_SHOWN) {
        say!("{damage}: what was written there is missing, or has an older value");
    }
    if damage.len() > MOST_SHOWN {
        say!("and {} more", counted(damage.len() - MOST_SHOWN, "part"));
    }
}

/// The original had neither QoS nor the retain flag, and published without them.
fn states(read: States) -> Vec<RecordedState> {
    if read.passed_over > 0 {
        say!("left out {}: not a topic", counted(read.passed_over, "key"));
    }
    // A wrong clock must not make them newer than later states.
    let time = read.time.min(unix_now());
    let states = read.states.into_iter().map(|(topic, payload)| RecordedState {
        topic: topic.as_str().to_owned(),
        size: payload.len() as u64,
        payload: Some(payload),
        qos: 1,
        retain: false,
        time,
    });
    states.collect()
}
