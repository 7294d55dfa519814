//! `states export` and `states import`: write states to a file and read them from one.

use super::{StatesError, lines, read_file, unix_now};
use crate::bus::{Caller, MAX_PAYLOAD_BYTES, RecordedState};
use crate::cli::output::{self, say};
use crate::request::{Imported, Selection};
use indicatif::{ProgressBar, ProgressStyle};
use iotmonitor_core::model::words::counted;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use tempfile::NamedTempFile;

/// A page of an import ends after this many states or payload bytes, whichever comes first: far
/// below the size limit of a message on the bus, and one commit for the store.
const PAGE_STATES: usize = 1_000;
const PAGE_BYTES: u64 = 1 << 20;

/// Writes these states into a new file that only its owner may read.
pub fn save(file: &Path, states: &[RecordedState]) -> Result<(), StatesError> {
    let fail = |source| StatesError::File { path: file.to_owned(), source };
    let mut out = BufWriter::new(fresh(file).map_err(fail)?);
    for line in states.iter().filter_map(lines::write) {
        writeln!(out, "{line}").map_err(fail)?;
    }
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(fail)
}

/// Writes the states into the file. It replaces an older one only when it is complete.
pub async fn export(caller: &Caller, file: &Path, of: &Selection) -> Result<(), StatesError> {
    let fail = |source| StatesError::File { path: file.to_owned(), source };
    if file == Path::new("-") {
        let mut out = BufWriter::new(std::io::stdout().lock());
        return match write_all(caller, of, &mut out, file).await {
            Ok(written) => {
                output::reader(out.flush())?;
                written.conclude()
            }
            // The reader has seen enough.
            Err(StatesError::File { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
                Ok(())
            }
            Err(error) => Err(error),
        };
    }
    let mut out = BufWriter::new(draft_of(file).map_err(fail)?);
    let written = write_all(caller, of, &mut out, file).await?;
    let draft = out.into_inner().map_err(|error| fail(error.into_error()))?;
    draft.as_file().sync_all().map_err(fail)?;
    draft.persist(file).map_err(|error| fail(error.error))?;
    say!("exported {} to {}", counted(written.count, "state"), file.display());
    written.conclude()
}

/// The number of states that were transferred.
struct Written {
    count: usize,
    /// States that do not fit into a message on the bus.
    left_out: usize,
}

impl Written {
    /// An incomplete transfer has failed, even if it is of some use.
    fn conclude(self) -> Result<(), StatesError> {
        match self.left_out {
            0 => Ok(()),
            left_out => Err(StatesError::Partial { count: self.count, left_out }),
        }
    }
}

/// Creates a file beside the given one, which it can replace. Only its owner may read it, because
/// payloads may be private. It is removed unless it is kept.
fn draft_of(file: &Path) -> std::io::Result<NamedTempFile> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(file.file_name().unwrap_or_default())
        .suffix(".partial")
        .tempfile_in(directory.unwrap_or(Path::new(".")))
}

/// Creates a file that did not exist.
pub fn fresh(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

async fn write_all(
    caller: &Caller,
    of: &Selection,
    out: &mut impl Write,
    file: &Path,
) -> Result<Written, StatesError> {
    let progress = ProgressBar::new_spinner();
    progress.set_style(style("{spinner} states: {human_pos}, {elapsed}"));
    let (mut written, mut after) = (Written { count: 0, left_out: 0 }, String::new());
    loop {
        let (states, next) = caller.states(of, &after).await?;
        for state in &states {
            let Some(line) = lines::write(state) else {
                progress.suspend(|| left_out(state));
                written.left_out += 1;
                continue;
            };
            written.count += 1;
            writeln!(out, "{line}")
                .map_err(|source| StatesError::File { path: file.to_owned(), source })?;
        }
        progress.inc(states.len() as u64);
        if next.is_empty() {
            progress.finish_and_clear();
            return Ok(written);
        }
        after = next;
    }
}

/// Reports that a state does not fit into a message on the bus.
pub fn left_out(state: &RecordedState) {
    let (topic, size) = (state.topic.clone(), state.size);
    say!("iotmonitor: {}, and is left out", StatesError::TooLarge { topic, size });
}

/// Records the states of the file, after all its lines have been checked.
pub async fn import(caller: &Caller, file: &Path) -> Result<(), StatesError> {
    record(caller, parse(file)?).await
}

/// Sends the states to be recorded; older ones never replace newer ones.
pub async fn record(caller: &Caller, mut states: Vec<RecordedState>) -> Result<(), StatesError> {
    let all = states.len();
    states.retain(|state| {
        let fits = state.size <= MAX_PAYLOAD_BYTES as u64;
        if !fits {
            left_out(state);
        }
        fits
    });
    let progress = ProgressBar::new(states.len() as u64);
    progress.set_style(style("{bar:40} states: {human_pos} of {human_len}, {eta} left"));
    let (mut done, mut sum) = (0, Imported::default());
    while done < states.len() {
        let page = &states[done..done + page(&states[done..])];
        let imported = caller.import_states(page).await.map_err(|source| match done {
            0 => StatesError::Call(source),
            done => StatesError::Interrupted { done, all: states.len(), source },
        })?;
        sum.recorded += imported.recorded;
        sum.unclaimed += imported.unclaimed;
        done += page.len();
        progress.set_position(done as u64);
    }
    progress.finish_and_clear();
    say!("imported {}", counted(sum.recorded, "state"));
    match states.len() - sum.recorded {
        0 => {}
        older => say!("left out {}: older than the recorded one", counted(older, "state")),
    }
    if sum.unclaimed > 0 {
        let unclaimed = sum.unclaimed;
        say!(
            "{} without matching stateTopics, restored to no device for now",
            counted(unclaimed, "state")
        );
    }
    Written { count: states.len(), left_out: all - states.len() }.conclude()
}

fn parse(file: &Path) -> Result<Vec<RecordedState>, StatesError> {
    let bytes = read_file(file)?;
    let text = String::from_utf8(bytes).map_err(|_| StatesError::File {
        path: file.to_owned(),
        source: std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "the input is not valid UTF-8",
        ),
    })?;
    let now = unix_now();
    // Editors on Windows begin a file with a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(at, line)| {
        lines::read(line, now).map_err(|source| StatesError::Line {
            path: file.to_owned(),
            line: at + 1,
            source,
        })
    };
    lines.map(read).collect()
}

/// The number of states in one page; at least one.
fn page(states: &[RecordedState]) -> usize {
    let mut bytes = 0;
    let fits = |state: &&RecordedState| {
        bytes += state.size;
        bytes <= PAGE_BYTES
    };
    states.iter().take(PAGE_STATES).take_while(fits).count().max(1)
}

fn style(template: &str) -> ProgressStyle {
    // The templates are fixed in this file; the default is used if one were invalid.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    fn state(size: u64) -> RecordedState {
        RecordedState {
            topic: "a".to_owned(),
            payload: None,
            size,
            qos: 1,
            retain: false,
            time: Duration::ZERO,
        }
    }

    #[test]
    fn a_page_is_bounded_in_states_and_in_bytes_and_never_empty() {
        assert_eq!(page(&vec![state(10); 2_500]), PAGE_STATES);
        assert_eq!(page(&vec![state(PAGE_BYTES / 4); 10]), 4);
        assert_eq!(page(&[state(PAGE_BYTES * 2), state(1)]), 1);
    }

    #[test]
    fn an_export_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("states");
        std::fs::write(&path, "left behind, readable by all").unwrap();
        draft_of(&path).unwrap().persist(&path).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o777, metadata.len()), (0o600, 0));
    }

    #[test]
    fn two_exports_into_one_file_do_not_mix() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("states");
        let (mut first, mut second) = (draft_of(&path).unwrap(), draft_of(&path).unwrap());
        first.write_all(b"first").unwrap();
        second.write_all(b"half").unwrap();
        first.persist(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        drop(second);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_in_the_way_of_an_export_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = (directory.path().join("states"), directory.path().join("shadow"));
        std::fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(fresh(&path).is_err());
        let mut draft = draft_of(&path).unwrap();
        draft.write_all(b"x").unwrap();
        draft.persist(&path).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"kept");
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }
}
