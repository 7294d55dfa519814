//! What all tests of the storage use.

use crate::dice::Dice;
use bytes::Bytes;
use iotmonitor_recorder::{Limits, Message, Store, Writer};
use std::fs;
use std::path::Path;

/// Microseconds.
pub const DAY: i64 = 86_400_000_000;
pub const TOPICS: u64 = 4;

pub fn writer(directory: &Path) -> (Store, Writer) {
    let store = Store::new(directory);
    let writer = Writer::open(&store, Limits::default()).unwrap();
    (store, writer)
}

/// The message of this number, on one of three days, with a payload that no other one has.
pub fn message(number: u64) -> Message {
    let payload = match number % 3 {
        0 => format!("{number}"),
        1 => format!("{number}.5 °C"),
        _ => format!(
            "{{\"number\": {number}, \"filling\": \"{}\"}}",
            "x".repeat(number as usize % 90)
        ),
    };
    Message {
        time: (number as i64 * 7_919_000_000) % (3 * DAY),
        topic: format!("home/{}", number % TOPICS),
        payload: Bytes::from(payload),
        qos: (number % 3) as u8,
        retain: number.is_multiple_of(5),
    }
}

/// All messages of the topics that [`message`] has, in the order of topics and times.
pub fn all(store: &Store) -> Vec<Message> {
    let read = |topic: u64| store.read(&format!("home/{topic}"), i64::MIN..i64::MAX).unwrap();
    (0..TOPICS).flat_map(read).map(|message| message.unwrap()).collect()
}

/// A number below the bound that differs between runs of a loop.
pub fn some(dice: &mut Dice, range: std::ops::Range<usize>) -> usize {
    range.start + dice.below(range.end - range.start)
}

/// A copy of a directory, with all below it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}
