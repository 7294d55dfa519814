//! `iotmonitor states`: reads and changes recorded states through the running monitor.

mod lines;
mod listing;
pub(super) mod transfer;

use super::command::{conclude, in_runtime};
use super::output::{self, OutputError, say};
use crate::bus::{Addressee, CallError, Caller, RecordedState};
use crate::config::nearest::nearest;
use crate::dbus::Bus;
use crate::printable::{escaped, escaped_bytes};
use crate::request::Selection;
use clap::Subcommand;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::words::counted;
use iotmonitor_core::topic::{TopicError, TopicFilter, TopicName};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum StatesAction {
    /// List recorded states.
    List {
        /// Include only this device's or agent's states, or those on topics that match this filter.
        #[arg(value_name = "NAME|FILTER")]
        of: Option<String>,
        /// Print one JSON object a line, as in an export.
        #[arg(long)]
        json: bool,
    },
    /// Print the payload that is recorded for a topic.
    ///
    /// A file or a pipe gets it byte for byte. On a terminal, control characters are escaped.
    Get {
        topic: String,
        /// Print the bytes as they are, even on a terminal.
        #[arg(long, conflicts_with = "json")]
        raw: bool,
        /// Print the whole state as a JSON object, as in an export.
        #[arg(long)]
        json: bool,
    },
    /// Record a state, and publish it to the device at once, as a restore does.
    ///
    /// The topic must match a device's stateTopics. Without a connection to the broker the state is only
    /// recorded, and the device gets it with its next restore.
    Set {
        topic: String,
        #[arg(required_unless_present = "file")]
        payload: Option<String>,
        /// Read the payload from a file, byte for byte; `-` is the standard input.
        #[arg(long, value_name = "FILE", conflicts_with = "payload")]
        file: Option<PathBuf>,
        /// QoS of the publication, 0 or 1 [default: as recorded, or 1].
        #[arg(long, value_parser = clap::value_parser!(u8).range(0..=1))]
        qos: Option<u8>,
        /// Whether the broker retains it [default: as recorded, or false].
        #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
        retain: Option<bool>,
    },
    /// Forget the state of a topic, and clear it at the broker if it is retained.
    Forget { topic: String },
    /// Write recorded states into a file, one JSON object a line.
    Export {
        /// File, readable by its owner only; `-` is the standard output.
        file: PathBuf,
        /// Include only this device's or agent's states, or those on topics that match this filter.
        #[arg(value_name = "NAME|FILTER")]
        of: Option<String>,
    },
    /// Record the states of an export. Newer recorded states are kept.
    ///
    /// Nothing is published; `iotmonitor restore NAME` publishes a device's states.
    Import {
        /// File to read; `-` is the standard input.
        file: PathBuf,
    },
}

/// Describes an error in a sentence with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StatesError {
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("{0}")]
    Output(#[from] OutputError),
    #[error("nothing is recorded for `{}`{}", escaped(.what), hint(.nearest.as_deref()))]
    Nothing { what: String, nearest: Option<String> },
    #[error("{0}")]
    Topic(#[from] TopicError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}, line {line}: {source}; nothing was imported", path.display())]
    Line { path: PathBuf, line: usize, source: lines::LineError },
    #[error(
        "the payload of `{}` has {size} bytes, which do not fit through the bus",
        escaped(topic)
    )]
    TooLarge { topic: String, size: u64 },
    #[error("{left_out} of {} did not fit through the bus; the others are there", counted(.count + .left_out, "state"))]
    Partial { count: usize, left_out: usize },
    #[error("imported {done} of {}, and then: {source}", counted(*.all, "state"))]
    Interrupted { done: usize, all: usize, source: CallError },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|near| format!(", did you mean `{}`?", escaped(near))).unwrap_or_default()
}

/// Carries out the command; returns the exit code.
pub fn states(bus: Bus, addressee: Addressee, action: StatesAction) -> u8 {
    conclude(in_runtime(async {
        let caller = Caller::connect(bus, None, addressee).await?;
        match action {
            StatesAction::List { of, json } => {
                let of = selection(&caller, of).await?;
                listing::list(&caller, &of, json).await
            }
            StatesAction::Get { topic, raw, json } => get(&caller, &topic, raw, json).await,
            StatesAction::Set { topic, payload, file, qos, retain } => {
                let payload = match (payload, file) {
                    (Some(text), _) => text.into_bytes(),
                    (None, file) => read_file(&file.unwrap_or_default())?,
                };
                set(&caller, &topic, &payload, qos, retain).await
            }
            StatesAction::Forget { topic } => forget(&caller, &topic).await,
            StatesAction::Export { file, of } => {
                let of = selection(&caller, of).await?;
                transfer::export(&caller, &file, &of).await
            }
            StatesAction::Import { file } => transfer::import(&caller, &file).await,
        }
    }))
}

async fn get(caller: &Caller, topic: &str, raw: bool, json: bool) -> Result<(), StatesError> {
    let state = recorded(caller, topic).await?;
    let Some(payload) = &state.payload else {
        return Err(StatesError::TooLarge { topic: state.topic, size: state.size });
    };
    if json {
        output::print(lines::write(&state).unwrap_or_default() + "\n")?;
    } else if !raw && std::io::stdout().is_terminal() {
        output::print(escaped_bytes(payload) + "\n")?;
    } else {
        output::print(payload)?;
    }
    Ok(())
}

async fn set(
    caller: &Caller,
    topic: &str,
    payload: &[u8],
    qos: Option<u8>,
    retain: Option<bool>,
) -> Result<(), StatesError> {
    let before = find(caller, topic).await?;
    let before = before.as_ref();
    let qos = qos.or(before.map(|state| state.qos)).unwrap_or(1);
    let retain = retain.or(before.map(|state| state.retain)).unwrap_or(false);
    if !caller.set_state(topic, payload, qos, retain).await? {
        say!(
            "iotmonitor: recorded but not published, because the broker cannot be reached now: the device receives it with its next restore"
        );
    }
    Ok(())
}

async fn forget(caller: &Caller, topic: &str) -> Result<(), StatesError> {
    let retained = recorded(caller, topic).await?.retain;
    let forgotten = caller.forget_state(topic, retained).await?;
    if retained && !forgotten.cleared {
        say!(
            "iotmonitor: forgotten, but the broker cannot be reached now and still retains it: \
             `mosquitto_pub -r -n -t TOPIC` clears it there"
        );
    }
    Ok(())
}

/// The state of a topic, or an error that suggests the nearest topic.
async fn recorded(caller: &Caller, topic: &str) -> Result<RecordedState, StatesError> {
    if let Some(state) = find(caller, topic).await? {
        return Ok(state);
    }
    let parent = topic.rsplit_once('/').map_or("+".to_owned(), |(above, _)| format!("{above}/+"));
    let mut near = None;
    if let Ok(beside) = TopicFilter::new(parent) {
        let (beside, _) = caller.states(&Selection::Filter(beside), "").await?;
        let topics = beside.iter().map(|state| state.topic.as_str());
        near = nearest(topic, topics).map(str::to_owned);
    }
    Err(StatesError::Nothing { what: topic.to_owned(), nearest: near })
}

async fn find(caller: &Caller, topic: &str) -> Result<Option<RecordedState>, StatesError> {
    TopicName::new(topic)?;
    let (states, _) = caller.states(&Selection::Filter(TopicFilter::new(topic)?), "").await?;
    Ok(states.into_iter().next())
}

/// The states of the device with this name, otherwise those that match the filter.
async fn selection(caller: &Caller, of: Option<String>) -> Result<Selection, StatesError> {
    let Some(of) = of else { return Ok(Selection::All) };
    if let Ok(name) = DeviceName::new(of.clone()) {
        match caller.device(&name).await {
            Ok(_) => return Ok(Selection::Device(name)),
            Err(CallError::UnknownDevice(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Selection::Filter(TopicFilter::new(of)?))
}

/// Reads a whole file; `-` is the standard input.
fn read_file(path: &Path) -> Result<Vec<u8>, StatesError> {
    let read = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    read.map_err(|source| StatesError::File { path: path.to_owned(), source })
}

pub(super) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
