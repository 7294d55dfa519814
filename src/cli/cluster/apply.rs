//! `iotmonitor cluster apply FILE`: gives sections to all nodes.

use super::super::command::{AskError, conclude, fail, in_runtime};
use super::super::output::print;
use crate::bus::{Addressee, Caller};
use crate::config::MOST_BYTES;
use crate::dbus::Bus;
use crate::printable::escaped_lines;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Stands for the standard input.
const STDIN: &str = "-";

/// Explains why there is nothing to apply.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("cannot read {path}: {source}; name a file with the sections that all nodes share")]
    Unreadable { path: String, source: io::Error },
    #[error("{path} is longer than 16 MiB: name the right file")]
    TooLong { path: String },
    #[error("{path} is not TOML, which is UTF-8 without NUL: name the right file")]
    NoText { path: String },
}

/// Reads the file, and lets the monitor check it and put it into etcd. Returns the exit code.
pub fn apply(bus: Bus, addressee: Addressee, file: &Path) -> u8 {
    let path =
        if file == Path::new(STDIN) { "stdin".to_owned() } else { file.display().to_string() };
    let text = match text_of(file, &path) {
        Ok(text) => text,
        Err(error) => return fail(&error),
    };
    conclude(in_runtime(async {
        let caller = Caller::connect(bus, None, addressee).await?;
        let account = caller.apply_sections(&path, &text).await?;
        print(escaped_lines(&account).as_bytes())?;
        Ok::<(), AskError>(())
    }))
}

fn text_of(file: &Path, path: &str) -> Result<String, ApplyError> {
    let path = || path.to_owned();
    let mut bytes = Vec::new();
    let read = if file == Path::new(STDIN) {
        io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
    };
    read.map_err(|source| ApplyError::Unreadable { path: path(), source })?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MOST_BYTES {
        return Err(ApplyError::TooLong { path: path() });
    }
    // A string on the bus contains no NUL.
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    text.ok_or_else(|| ApplyError::NoText { path: path() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_refused_with_the_name_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("house.toml");
        let path = file.display().to_string();
        let said = |file: &Path| text_of(file, &path).map_err(|error| error.to_string());
        assert!(said(&file).unwrap_err().starts_with(&format!("cannot read {path}: ")));
        std::fs::write(&file, "[device_a]\n").unwrap();
        assert_eq!(said(&file).as_deref(), Ok("[device_a]\n"));
        for bytes in [&b"\xff"[..], b"a\0"] {
            std::fs::write(&file, bytes).unwrap();
            assert!(said(&file).unwrap_err().contains("is not TOML"));
        }
        let long = vec![b'#'; usize::try_from(MOST_BYTES).unwrap() + 1];
        std::fs::write(&file, long).unwrap();
        assert!(said(&file).unwrap_err().contains("longer than 16 MiB"));
    }
}
