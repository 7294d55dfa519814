//! Traffic of each ecosystem, and the draft that was read and found right.
//!
//! `recorded/NAME.traffic` has a message a line: when it came, its topic, and its payload.
//! `retained` was there before, `5` came after so many seconds, and `5+10` every ten seconds from
//! then on. `recorded/NAME.toml` is the draft without its head; WRITE_DRAFTS=1 writes them, to be read
//! before they are kept.

use crate::{LISTENED, Traffic};
use std::fs;
use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/discovery/recorded")
}

/// The messages of a file, until the end of listening.
pub fn traffic(name: &str) -> Traffic {
    let text = fs::read_to_string(directory().join(format!("{name}.traffic"))).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.fold(Traffic::default(), |traffic, line| {
        let mut parts = line.splitn(3, ' ');
        let (at, topic) = (parts.next().unwrap(), parts.next().unwrap());
        let payload = parts.next().unwrap_or_default();
        if at == "retained" {
            return traffic.retained(topic, payload);
        }
        let (first, period) = at.split_once('+').unwrap_or((at, "100000"));
        let (first, period): (u64, usize) = (first.parse().unwrap(), period.parse().unwrap());
        (first..=LISTENED.as_secs())
            .step_by(period)
            .fold(traffic, |traffic, at| traffic.once(at, topic, payload))
    })
}

/// The draft without its head.
fn draft(name: &str) -> String {
    let (text, ..) = traffic(name).file();
    let (_, sections) = text.split_once("serverAddress = \"tcp://localhost:1883\"\n").unwrap();
    sections.to_owned()
}

/// The names of all recordings.
fn names() -> Vec<String> {
    let files = fs::read_dir(directory()).unwrap().map(|file| file.unwrap().path());
    let traffic = files.filter(|file| file.extension().is_some_and(|it| it == "traffic"));
    let mut names: Vec<String> =
        traffic.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn each_recording_gives_the_draft_that_was_read() {
    let mut different = Vec::new();
    for name in names() {
        let draft = draft(&name);
        let file = directory().join(format!("{name}.toml"));
        if std::env::var_os("WRITE_DRAFTS").is_some() {
            fs::write(&file, &draft).unwrap();
        }
        if fs::read_to_string(&file).unwrap_or_default() != draft {
            different.push(format!("{}:\n{draft}", file.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
