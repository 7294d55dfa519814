//! The storage of messages against real faults: `kill -9`, power cuts, full disks and damaged files.

#[path = "storage/common.rs"]
mod common;
#[path = "storage/contents.rs"]
mod contents;
#[path = "storage/damage.rs"]
mod damage;
#[path = "../../tests/store/dice.rs"]
mod dice;
#[path = "storage/kills.rs"]
mod kills;
#[path = "storage/power.rs"]
mod power;
#[path = "storage/small_disk.rs"]
mod small_disk;

use common::{DAY, all, message, writer};
use iotmonitor_recorder::{AppendError, Error, Keep, Limits, Message, Removal, Store, Writer};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The Parquet files of a store, by their paths below `messages`.
fn parquet_files(store: &Store) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for day in fs::read_dir(store.messages()).unwrap() {
        for file in fs::read_dir(day.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            found.insert(path.strip_prefix(store.messages()).unwrap().to_owned());
        }
    }
    found
}

/// Appends these messages and commits them.
fn commit(writer: &mut Writer, messages: &[Message]) -> u64 {
    for message in messages {
        writer.append(message).unwrap();
    }
    writer.commit(Instant::now()).unwrap()
}

fn sorted(mut messages: Vec<Message>) -> Vec<Message> {
    messages.sort_by(|a, b| (&a.topic, a.time).cmp(&(&b.topic, b.time)));
    messages
}

#[test]
fn a_message_is_read_at_every_stage_of_its_way() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    let messages: Vec<Message> = (0..200).map(message).collect();
    assert_eq!(commit(&mut writer, &messages[..120]), 120);
    assert_eq!(commit(&mut writer, &messages[120..]), 200);
    let expected = sorted(messages);
    assert_eq!(all(&store), expected, "in a segment");
    assert_eq!(writer.flush().unwrap(), []);
    assert_eq!(all(&store), expected, "in small files");
    assert!(fs::read_dir(directory.path().join("segments")).unwrap().next().is_none());
    assert!(parquet_files(&store).len() > 1);
    assert_eq!(store.compact().unwrap().days, store.days().unwrap());
    assert_eq!(all(&store), expected, "in the files of the days");
    assert!(parquet_files(&store).iter().all(|path| path.ends_with("day.parquet")));
    assert_eq!(store.compact().unwrap().days, [], "there is nothing left to merge");
    drop(writer);
    let mut writer = Writer::open(&store, Limits::default()).unwrap();
    assert_eq!(commit(&mut writer, &[message(200)]), 201);
}

#[test]
fn a_message_that_is_not_committed_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    assert_eq!(writer.append(&message(0)), Ok(1));
    assert_eq!(writer.append(&message(1)), Ok(2));
    assert_eq!(all(&store), []);
    assert_eq!(writer.commit(Instant::now()).unwrap(), 2);
    assert_eq!(writer.commit(Instant::now()).unwrap(), 2, "nothing is new");
    assert_eq!(all(&store).len(), 2);
}

#[test]
fn a_span_of_time_has_its_first_moment_and_not_its_last() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    let at = |time| Message { time, topic: "a".to_owned(), ..message(0) };
    let times = [-DAY, -1, 0, 5, 5, 6, DAY - 1, DAY, 40 * DAY];
    let read = |store: &Store, range: std::ops::Range<i64>| -> Vec<i64> {
        store.read("a", range).unwrap().map(|message| message.unwrap().time).collect()
    };
    commit(&mut writer, &times.map(at));
    for stage in 0..3 {
        assert_eq!(read(&store, 5..6), [5, 5], "{stage}");
        assert_eq!(read(&store, 0..DAY), [0, 5, 5, 6, DAY - 1], "{stage}");
        assert_eq!(read(&store, DAY - 1..DAY + 1), [DAY - 1, DAY], "{stage}");
        assert_eq!(read(&store, i64::MIN..i64::MAX), times, "{stage}");
        assert_eq!(read(&store, 7..7), [0; 0], "{stage}");
        assert!(store.read("b", i64::MIN..i64::MAX).unwrap().next().is_none());
        if stage == 0 {
            writer.flush().unwrap();
        } else {
            store.compact().unwrap();
        }
    }
}

#[test]
fn unusual_messages_come_back_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    let mut messages: Vec<Message> = [
        ("", vec![]),
        ("a/\u{1F321}/é", vec![0xff, 0, 0xfe]),
        (&"long/".repeat(13_000), b"21.5".to_vec()),
        ("large", vec![7; 9 << 20]),
        ("times", b"1".to_vec()),
    ]
    .into_iter()
    .map(|(topic, payload)| Message {
        topic: topic.to_owned(),
        payload: payload.into(),
        ..message(1)
    })
    .collect();
    for time in [i64::MIN, i64::MAX] {
        messages.push(Message { time, ..messages[4].clone() });
    }
    for message in &messages {
        // The large one does not fit beside others.
        if writer.append(message) == Err(AppendError::Full) {
            writer.commit(Instant::now()).unwrap();
            writer.append(message).unwrap();
        }
    }
    writer.commit(Instant::now()).unwrap();
    let of_topics = |store: &Store| {
        let read = |topic: &str| store.read(topic, i64::MIN..i64::MAX).unwrap();
        let topics: BTreeSet<&str> = messages.iter().map(|message| &*message.topic).collect();
        let read = topics.iter().flat_map(|topic| read(topic)).map(Result::unwrap);
        read.collect::<Vec<Message>>()
    };
    // A span of time does not contain its end.
    let expected: Vec<Message> =
        sorted(messages.iter().filter(|message| message.time < i64::MAX).cloned().collect());
    for stage in ["segment", "small files", "files of days"] {
        assert!(of_topics(&store) == expected, "{stage}");
        writer.flush().unwrap();
        if stage == "small files" {
            store.compact().unwrap();
        }
    }
}

#[test]
fn more_files_than_are_merged_at_once_become_one() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    let messages: Vec<Message> =
        (0..150).map(|number| Message { time: number as i64, ..message(number) }).collect();
    for message in &messages {
        commit(&mut writer, std::slice::from_ref(message));
        writer.flush().unwrap();
    }
    assert_eq!(parquet_files(&store).len(), 150);
    store.compact().unwrap();
    assert_eq!(parquet_files(&store), [PathBuf::from("date=1970-01-01/day.parquet")].into());
    assert_eq!(all(&store), sorted(messages));
}

#[test]
fn a_day_is_read_from_more_files_than_a_process_may_open() {
    // In memory, where a sync costs nothing.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, mut writer) = writer(directory.path());
    let limit = fs::read_to_string("/proc/self/limits").unwrap();
    let limit = limit.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let limit: u64 = limit.split_whitespace().next().unwrap().parse().unwrap();
    let messages: Vec<Message> = (0..limit.min(1_024) + 1)
        .map(|number| Message { time: number as i64, ..message(number) })
        .collect();
    for message in &messages {
        commit(&mut writer, std::slice::from_ref(message));
        writer.flush().unwrap();
    }
    assert_eq!(all(&store), sorted(messages));
}

#[test]
fn files_of_several_row_groups_are_merged_and_searched() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    let messages: Vec<Message> =
        (0..50_000).map(|number| Message { time: number as i64, ..message(number) }).collect();
    for part in messages.chunks(25_000) {
        commit(&mut writer, part);
        writer.flush().unwrap();
    }
    let expected = sorted(messages);
    assert!(all(&store) == expected);
    store.compact().unwrap();
    assert!(all(&store) == expected);
    let some = store.read("home/3", 20_000..20_100).unwrap().map(Result::unwrap);
    let in_span = |message: &&Message| (20_000..20_100).contains(&message.time);
    let wanted = expected.iter().filter(|message| message.topic == "home/3").filter(in_span);
    assert!(some.eq(wanted.cloned()));
}

#[test]
fn messages_of_one_moment_stay_in_the_order_of_their_receipt() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    let messages: Vec<Message> = (0..90)
        .map(|number| Message { time: 7, topic: "a".to_owned(), ..message(number) })
        .collect();
    for (place, part) in messages.chunks(10).enumerate() {
        commit(&mut writer, part);
        if place % 2 == 0 {
            writer.flush().unwrap();
        }
        if place == 5 {
            store.compact().unwrap();
        }
    }
    let read = || store.read("a", 0..10).unwrap().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(read(), messages);
    writer.flush().unwrap();
    store.compact().unwrap();
    assert_eq!(read(), messages);
}

#[test]
fn a_flush_is_due_by_time_by_rows_and_by_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path());
    let limits = Limits { flush: Duration::from_secs(10), rows: 5, bytes: 2_000, window: 1_000 };
    let mut writer = Writer::open(&store, limits).unwrap();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(!writer.flush_due(at(100)), "there is nothing");
    writer.append(&message(0)).unwrap();
    assert!(!writer.flush_due(at(100)), "nothing is durable");
    writer.commit(at(100)).unwrap();
    writer.append(&message(1)).unwrap();
    writer.commit(at(105)).unwrap();
    assert!(!writer.flush_due(at(109)));
    assert!(writer.flush_due(at(110)));
    writer.flush().unwrap();
    assert!(!writer.flush_due(at(200)));
    for number in 0..5 {
        writer.append(&message(number)).unwrap();
    }
    writer.commit(at(200)).unwrap();
    assert!(writer.flush_due(at(200)));
    writer.flush().unwrap();
    let large = Message { payload: vec![0; 2_000].into(), ..message(0) };
    writer.append(&large).unwrap();
    assert_eq!(writer.append(&message(1)), Err(AppendError::Full));
    writer.commit(at(200)).unwrap();
    assert!(writer.flush_due(at(200)));
}

#[test]
fn there_is_one_writer_and_one_compaction_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let (store, writer) = writer(directory.path());
    assert!(matches!(Writer::open(&store, Limits::default()), Err(Error::InUse { .. })));
    drop(writer);
    Writer::open(&store, Limits::default()).unwrap();
    let lock = fs::File::create(directory.path().join("compaction.lock")).unwrap();
    lock.lock().unwrap();
    assert!(matches!(store.compact(), Err(Error::InUse { .. })));
    assert!(matches!(store.retain(&Keep::default(), 0), Err(Error::InUse { .. })));
}

/// A store with messages of the days 0 to 9, each with about 10 kB.
fn ten_days(directory: &std::path::Path) -> Store {
    let (store, mut writer) = writer(directory);
    let mut dice = dice::Dice(99);
    for day in 0..10 {
        let payload: Vec<u8> = (0..10_000).map(|_| dice.below(256) as u8).collect();
        let message = Message { time: day * DAY, payload: payload.into(), ..message(0) };
        commit(&mut writer, &[message]);
        writer.flush().unwrap();
    }
    store
}

fn days(store: &Store) -> Vec<String> {
    store.days().unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn a_day_is_removed_when_all_of_it_is_older_than_what_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = ten_days(directory.path());
    let keep = Keep { age: Some(Duration::from_secs(3 * 86_400)), size: None };
    store.retain(&keep, 10 * DAY - 1).unwrap();
    assert_eq!(days(&store)[0], "1970-01-07");
    store.retain(&keep, 10 * DAY).unwrap();
    assert_eq!(days(&store), ["1970-01-08", "1970-01-09", "1970-01-10"]);
    assert_eq!(store.retain(&Keep::default(), i64::MAX).unwrap(), Removal::default());
    store.retain(&keep, i64::MAX).unwrap();
    assert_eq!(days(&store), ["1970-01-10"], "the newest day stays");
}

#[test]
fn the_oldest_days_are_removed_until_the_others_fit() {
    let directory = tempfile::tempdir().unwrap();
    let store = ten_days(directory.path());
    let keep = |size| Keep { age: None, size: Some(size) };
    assert_eq!(store.retain(&keep(1 << 20), 0).unwrap(), Removal::default());
    let removal = store.retain(&keep(50_000), 0).unwrap();
    assert_eq!((removal.days.len(), removal.part, days(&store).len()), (6, None, 4));
    assert_eq!(days(&store)[0], "1970-01-07");
    store.retain(&keep(0), 0).unwrap();
    assert_eq!(days(&store), ["1970-01-10"]);
}

#[test]
fn a_day_that_is_larger_than_all_that_is_kept_loses_its_oldest_messages() {
    let directory = tempfile::tempdir().unwrap();
    let store = ten_days(directory.path());
    let mut writer = Writer::open(&store, Limits::default()).unwrap();
    let mut dice = dice::Dice(5);
    let newest: Vec<Message> = (0..100)
        .map(|number| {
            let payload: Vec<u8> = (0..10_000).map(|_| dice.below(256) as u8).collect();
            let topic = format!("home/{}", number % 3);
            let time = 20 * DAY + number * DAY / 100;
            Message { time, topic, payload: payload.into(), ..message(0) }
        })
        .collect();
    commit(&mut writer, &newest);
    writer.flush().unwrap();
    store.compact().unwrap();
    let keep = Keep { age: None, size: Some(500_000) };
    let removal = store.retain(&keep, 0).unwrap();
    assert_eq!(removal.days.len(), 10);
    let (_, from) = removal.part.unwrap();
    let left: Vec<Message> =
        newest.iter().filter(|message| message.time >= from).cloned().collect();
    assert!((35..50).contains(&left.len()), "{}", left.len());
    assert_eq!(all(&store), sorted(left.clone()));
    assert_eq!(store.retain(&keep, 0).unwrap(), Removal::default(), "it fits now");
    // What comes later is numbered behind what was removed, and merged with what is left.
    assert_eq!(commit(&mut writer, &newest[..1]), 111);
    writer.flush().unwrap();
    assert_eq!(store.compact().unwrap().days.len(), 1);
    assert_eq!(all(&store), sorted([&left[..], &newest[..1]].concat()));
    // Nothing of it may be kept.
    store.retain(&Keep { age: None, size: Some(0) }, 0).unwrap();
    assert_eq!(all(&store), []);
}

#[test]
fn numbers_go_on_after_all_messages_were_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = ten_days(directory.path());
    let mut writer = Writer::open(&store, Limits::default()).unwrap();
    assert_eq!(commit(&mut writer, &[message(0)]), 11);
}
