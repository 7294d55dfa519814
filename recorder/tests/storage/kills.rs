//! `kill -9` of a writer and of a compaction, at real moments, while somebody reads.

use crate::common::{TOPICS, message, some};
use crate::dice::Dice;
use iotmonitor_recorder::{Error, Limits, Message, Store, Writer};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const WRITER: &str = "kills::child_that_writes_until_it_is_killed";

/// The message of a number that a certain life of the writer sends.
fn message_of(life: u64, number: u64) -> Message {
    let payload = format!("{life}-{number}");
    Message { payload: payload.into(), ..message(number) }
}

/// Started by the tests below as a process of its own. Alone it has nothing to do.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(directory) = std::env::var("RECORDER_TEST_KILLS") else { return };
    let life: u64 = std::env::var("RECORDER_TEST_LIFE").unwrap().parse().unwrap();
    let store = Store::new(Path::new(&directory));
    let limits = Limits { flush: Duration::from_millis(4), rows: 60, ..Limits::default() };
    let mut writer = Writer::open(&store, limits).unwrap();
    let compacted = store.clone();
    thread::spawn(move || {
        loop {
            match compacted.compact() {
                Ok(_) | Err(Error::InUse { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    let mut dice = Dice(life + 1);
    let mut number = 0;
    loop {
        for _ in 0..some(&mut dice, 1..30) {
            writer.append(&message_of(life, number)).unwrap();
            number += 1;
        }
        writer.commit(Instant::now()).unwrap();
        println!("durable {number}");
        std::io::stdout().flush().unwrap();
        if writer.flush_due(Instant::now()) {
            assert_eq!(writer.flush().unwrap(), []);
        }
    }
}

struct Life {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Life {
    fn begin(directory: &Path, life: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", WRITER, "--nocapture"])
            .env("RECORDER_TEST_KILLS", directory)
            .env("RECORDER_TEST_LIFE", life.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The next number that is reported, or `None` when the process has ended.
    fn next(&mut self) -> Option<u64> {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if let Some((_, number)) = line.trim_end().split_once("durable ") {
                // The last line may have been cut.
                return line.ends_with('\n').then(|| number.parse().unwrap());
            }
            line.clear();
        }
        None
    }

    /// Kills the process, and gives the last number that it reported.
    fn kill(mut self, mut durable: u64) -> u64 {
        self.child.kill().unwrap();
        while let Some(number) = self.next() {
            durable = number;
        }
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&self.child.wait().unwrap()),
            Some(9)
        );
        durable
    }
}

/// Every message that was durable is there once, as it was, and no other one twice.
fn expect_all(store: &Store, durable: &[u64]) {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for topic in 0..TOPICS {
        for read in store.read(&format!("home/{topic}"), i64::MIN..i64::MAX).unwrap() {
            let read = read.unwrap();
            let payload = String::from_utf8(read.payload.to_vec()).unwrap();
            let (life, number) = payload.split_once('-').unwrap();
            assert_eq!(read, message_of(life.parse().unwrap(), number.parse().unwrap()));
            *found.entry(payload).or_default() += 1;
        }
    }
    let twice: Vec<_> = found.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "twice: {twice:?}");
    for (life, durable) in durable.iter().enumerate() {
        let lost: Vec<_> = (0..*durable)
            .filter(|number| !found.contains_key(&format!("{life}-{number}")))
            .collect();
        assert!(lost.is_empty(), "lost of life {life}: {lost:?}");
    }
}

#[test]
fn a_writer_that_is_killed_at_any_moment_loses_and_doubles_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path());
    let mut dice = Dice(0x5DEE_CE66);
    let mut durable: Vec<u64> = Vec::new();
    for number in 0..60 {
        let mut life = Life::begin(directory.path(), number);
        let mut reported = life.next().expect("the writer does not begin");
        let until = Instant::now() + Duration::from_micros(some(&mut dice, 0..60_000) as u64);
        while Instant::now() < until {
            reported = life.next().expect("the writer has ended by itself");
        }
        // It works on meanwhile, and what it has reported can be read.
        if number % 6 == 0 {
            let so_far: Vec<u64> = durable.iter().copied().chain([reported]).collect();
            expect_all(&store, &so_far);
        }
        durable.push(life.kill(reported));
        expect_all(&store, &durable);
    }
    let all: u64 = durable.iter().sum();
    let mut writer = Writer::open(&store, Limits::default()).unwrap();
    assert_eq!(writer.flush().unwrap(), []);
    assert_eq!(store.compact().unwrap().damaged, [] as [std::path::PathBuf; 0]);
    expect_all(&store, &durable);
    println!("kills: {} of a writer, {all} messages durable, 0 lost, 0 doubled", durable.len());
}
