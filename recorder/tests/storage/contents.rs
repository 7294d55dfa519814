//! What a store says of its files, its topics and the numbers of a topic, against naive answers.

use crate::commit;
use crate::common::{DAY, copy, message, writer};
use bytes::Bytes;
use iotmonitor_recorder::{Message, Point, Store, TopicSummary};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The number of messages in the files that count, by day.
fn messages_by_day(store: &Store) -> BTreeMap<String, u64> {
    let files = store.files().unwrap();
    assert!(files.damaged.is_empty(), "{:?}", files.damaged);
    let mut days = BTreeMap::new();
    for file in files.files {
        assert_eq!(fs::metadata(&file.path).unwrap().len(), file.status.bytes);
        *days.entry(file.day.to_string()).or_default() += file.status.messages;
    }
    days
}

fn paths(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_message_is_in_one_file_that_counts() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    assert_eq!(store.files().unwrap().files, []);
    let messages: Vec<Message> = (0..300).map(message).collect();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for message in &messages {
        let day = message.time / DAY + 1;
        *expected.entry(format!("1970-01-0{day}")).or_default() += 1;
    }
    commit(&mut writer, &messages[..200]);
    assert_eq!(messages_by_day(&store), BTreeMap::new(), "a segment is no Parquet file");
    writer.flush().unwrap();
    commit(&mut writer, &messages[200..]);
    writer.flush().unwrap();
    assert_eq!(messages_by_day(&store), expected);
    assert_eq!(store.files().unwrap().files.len(), 6);

    // A crash may leave the files that a compaction has replaced.
    let day = store.messages().join("date=1970-01-01");
    let replaced = directory.path().join("replaced");
    copy(&day, &replaced);
    store.compact().unwrap();
    for path in paths(&replaced) {
        fs::copy(&path, day.join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(paths(&day).len(), 3);
    assert_eq!(messages_by_day(&store), expected);
    assert_eq!(store.files().unwrap().files.len(), 3);
}

#[test]
fn a_damaged_file_keeps_no_other_one_from_being_listed() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    for part in [0..100, 100..200] {
        commit(&mut writer, &part.map(message).collect::<Vec<_>>());
        writer.flush().unwrap();
    }
    let damaged = store.files().unwrap().files[0].path.clone();
    let mut bytes = fs::read(&damaged).unwrap();
    let last = bytes.len() - 20;
    bytes[last] ^= 0x55;
    fs::write(&damaged, bytes).unwrap();
    let files = store.files().unwrap();
    assert_eq!(files.files.len(), 5);
    let [error] = &files.damaged[..] else { panic!("{:?}", files.damaged) };
    assert!(error.to_string().contains(damaged.to_str().unwrap()), "{error}");
}

fn naive_topics(messages: &[Message]) -> BTreeMap<String, TopicSummary> {
    let mut topics: BTreeMap<String, TopicSummary> = BTreeMap::new();
    for message in messages {
        let none = TopicSummary { messages: 0, numbers: 0, last: i64::MIN };
        let topic = topics.entry(message.topic.clone()).or_insert(none);
        topic.messages += 1;
        topic.numbers += u64::from(message.number().is_some());
        topic.last = topic.last.max(message.time);
    }
    topics
}

#[test]
fn topics_are_counted_wherever_their_messages_are() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    let all: Vec<Message> = (0..600).map(message).collect();
    let check = |count: usize, stage: &str| {
        let expected = naive_topics(&all[..count]);
        assert_eq!(store.topics("", |_| true).unwrap(), expected, "{stage}");
        let one = store.topics("home/2", |_| true).unwrap();
        assert_eq!(one, naive_topics(&of_topic(&all[..count], "home/2")), "{stage}");
        let odd = store.topics("home/", |topic| topic.ends_with(['1', '3'])).unwrap();
        assert_eq!(odd.len(), 2, "{stage}");
        assert!(store.topics("homf", |_| true).unwrap().is_empty(), "{stage}");
    };
    commit(&mut writer, &all[..200]);
    check(200, "in a segment");
    writer.flush().unwrap();
    check(200, "in small files");
    store.compact().unwrap();
    check(200, "in the files of the days");
    commit(&mut writer, &all[200..400]);
    writer.flush().unwrap();
    commit(&mut writer, &all[400..]);
    check(600, "everywhere");
}

fn of_topic(messages: &[Message], topic: &str) -> Vec<Message> {
    messages.iter().filter(|message| message.topic == topic).cloned().collect()
}

#[test]
fn a_row_group_of_one_topic_is_counted_without_its_rows() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    let value = |number: i64| Message {
        time: number * 1_000,
        topic: if number % 40 == 0 { "rare/topic" } else { "home/power" }.to_owned(),
        payload: Bytes::from(if number % 7 == 0 { "on".to_owned() } else { number.to_string() }),
        qos: 0,
        retain: false,
    };
    let messages: Vec<Message> = (0..50_000).map(value).collect();
    for part in messages.chunks(10_000) {
        commit(&mut writer, part);
    }
    writer.flush().unwrap();
    store.compact().unwrap();
    let expected = naive_topics(&messages);
    assert_eq!(store.topics("", |_| true).unwrap(), expected);

    // Two of the four row groups are of one topic, so a fault in one of their rows is not noticed.
    let [file] = &store.files().unwrap().files[..] else { panic!("there is one file") };
    let mut bytes = fs::read(&file.path).unwrap();
    bytes[1_000] ^= 0xff;
    fs::write(&file.path, bytes).unwrap();
    assert_eq!(store.topics("", |_| true).unwrap(), expected);
    assert!(store.read("home/power", 0..DAY).unwrap().any(|message| message.is_err()));
}

#[test]
fn numbers_are_summed_up_by_stretches_of_the_same_length() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    let hour = 3_600_000_000;
    let value = |time: i64, payload: &str| Message {
        time,
        topic: "room/temperature".to_owned(),
        payload: Bytes::from(payload.to_owned()),
        qos: 0,
        retain: false,
    };
    let messages = [
        value(DAY - hour, "18"),
        value(DAY - 1, "20"),
        value(DAY, "-4.5"),
        value(DAY + 1, "unavailable"),
        value(DAY + hour - 1, "1e1"),
        value(DAY + 3 * hour, "7"),
        value(DAY + 4 * hour, "99"),
    ];
    commit(&mut writer, &messages);
    writer.flush().unwrap();
    let series = |times, points| store.series("room/temperature", times, points).unwrap();
    let point = |time, least, mean, most, count| Point { time, least, mean, most, count };
    assert_eq!(
        series(DAY - hour..DAY + 4 * hour, 5),
        [
            point(DAY - hour, 18.0, 19.0, 20.0, 2),
            point(DAY, -4.5, 2.75, 10.0, 2),
            point(DAY + 3 * hour, 7.0, 7.0, 7.0, 1),
        ]
    );
    assert_eq!(series(DAY - hour..DAY + 4 * hour, 1)[0].count, 5);
    assert_eq!(series(i64::MIN..i64::MAX, 1)[0].count, 6);
    assert_eq!(series(DAY..DAY, 5), []);
    assert_eq!(series(DAY..DAY + 3, 1_000), [point(DAY, -4.5, -4.5, -4.5, 1)]);
    assert_eq!(store.series("room/humidity", 0..2 * DAY, 3).unwrap(), []);
}

#[test]
fn the_largest_numbers_have_a_mean() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    let value = |time: i64, payload: &'static str| Message {
        time,
        topic: "a".to_owned(),
        payload: Bytes::from(payload),
        qos: 0,
        retain: false,
    };
    commit(&mut writer, &[value(0, "1.7e308"), value(1, "-1.7e308"), value(2, "1.7e308")]);
    let [point] = store.series("a", 0..3, 1).unwrap()[..] else { panic!("one stretch") };
    assert!(point.mean.is_finite() && point.least <= point.mean && point.mean <= point.most);
}
