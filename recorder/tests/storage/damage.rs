//! Damaged files: what is put aside, and that no flipped bit ends the process.

use crate::common::{all, copy, message, some, writer};
use crate::dice::Dice;
use crate::{commit, parquet_files, sorted};
use iotmonitor_recorder::{Damage, Error, Limits, Message, Store, Writer};
use std::fs;
use std::path::Path;

/// Flips a bit of a file.
fn flip(path: &Path, at: usize, bit: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
}

fn only_segment(directory: &Path) -> std::path::PathBuf {
    let segments: Vec<_> = fs::read_dir(directory.join("segments")).unwrap().collect();
    let [Ok(segment)] = &segments[..] else { panic!("{segments:?}") };
    segment.path()
}

#[test]
fn a_segment_that_a_crash_cut_has_its_whole_commits() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    let messages: Vec<Message> = (0..30).map(message).collect();
    let mut lengths = vec![0];
    for part in messages.chunks(10) {
        commit(&mut writer, part);
        lengths.push(fs::metadata(only_segment(directory.path())).unwrap().len());
    }
    drop(writer);
    let whole = fs::read(only_segment(directory.path())).unwrap();
    for length in (0..whole.len()).step_by(41) {
        let scratch = tempfile::tempdir().unwrap();
        copy(store.directory(), scratch.path());
        fs::write(only_segment(scratch.path()), &whole[..length]).unwrap();
        let commits = lengths.iter().filter(|end| **end <= length as u64).count() - 1;
        let store = Store::new(scratch.path());
        let mut writer = Writer::open(&store, Limits::default()).unwrap();
        assert_eq!(writer.flush().unwrap(), [], "what a crash cut was never durable");
        assert_eq!(all(&store), sorted(messages[..10 * commits].to_vec()), "{length}");
        assert_eq!(commit(&mut writer, &[message(77)]), 10 * commits as u64 + 1);
        writer.flush().unwrap();
        assert_eq!(all(&store).len(), 10 * commits + 1);
    }
}

/// After a failed sync, nobody knows what of a commit is on the disk. It is written again into a new
/// segment, perhaps with more messages, and the old one ends where the new one begins.
#[test]
fn what_was_written_again_after_a_failed_sync_counts_once() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let numbers = |range: std::ops::Range<u64>| range.map(message).collect::<Vec<_>>();
    let (store, mut failed) = writer(directories[0].path());
    commit(&mut failed, &numbers(0..10));
    commit(&mut failed, &numbers(10..15));
    drop(failed);
    let (_, mut again) = writer(directories[1].path());
    commit(&mut again, &numbers(0..10));
    again.flush().unwrap();
    commit(&mut again, &numbers(10..30));
    let new = only_segment(directories[1].path());
    let to = store.directory().join("segments").join(new.file_name().unwrap());
    fs::copy(new, to).unwrap();
    assert_eq!(all(&store), sorted(numbers(0..30)), "before it is put in order");
    let mut writer = Writer::open(&store, Limits::default()).unwrap();
    assert_eq!(writer.flush().unwrap(), []);
    assert_eq!(all(&store), sorted(numbers(0..30)));
    store.compact().unwrap();
    assert_eq!(all(&store), sorted(numbers(0..30)));
    assert_eq!(commit(&mut writer, &numbers(30..31)), 31);
}

#[test]
fn a_segment_in_which_durable_messages_are_damaged_is_kept_aside() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    for part in (0..30).map(message).collect::<Vec<_>>().chunks(10) {
        commit(&mut writer, part);
    }
    drop(writer);
    let segment = only_segment(directory.path());
    let length = fs::metadata(&segment).unwrap().len() as usize;
    flip(&segment, length / 2, 3);
    let damaged = fs::read(&segment).unwrap();
    let mut writer = Writer::open(&store, Limits::default()).unwrap();
    let kept = directory.path().join("damaged").join(segment.file_name().unwrap());
    assert_eq!(writer.flush().unwrap(), [Damage { kept: kept.clone(), lost: 10 }]);
    assert_eq!(fs::read(kept).unwrap(), damaged);
    let expected = (0..10).chain(20..30).map(message).collect();
    assert_eq!(all(&store), sorted(expected));
    assert_eq!(commit(&mut writer, &[message(30)]), 31);
}

#[test]
fn a_parquet_file_that_is_damaged_is_put_aside_and_the_others_are_merged() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    let at = |number| Message { time: number as i64, ..message(number) };
    for part in 0..3 {
        commit(&mut writer, &(part * 10..part * 10 + 10).map(at).collect::<Vec<_>>());
        writer.flush().unwrap();
    }
    let second = store.messages().join(parquet_files(&store).iter().nth(1).unwrap());
    let bytes = fs::read(&second).unwrap();
    fs::write(&second, &bytes[..bytes.len() / 2]).unwrap();
    let compaction = store.compact().unwrap();
    assert_eq!(compaction.days, store.days().unwrap());
    let [kept] = &compaction.damaged[..] else { panic!("{compaction:?}") };
    assert_eq!(fs::read(kept).unwrap(), bytes[..bytes.len() / 2]);
    let expected = (0..10).chain(20..30).map(at).collect();
    assert_eq!(all(&store), sorted(expected));
    // The day's file is put aside, too, and the next one begins anew.
    let of_day = store.messages().join(parquet_files(&store).first().unwrap());
    fs::write(&of_day, "not Parquet").unwrap();
    assert!(store.read("home/1", 0..100).unwrap().next().unwrap().is_err());
    drop(writer);
    let mut writer = Writer::open(&store, Limits::default()).unwrap();
    commit(&mut writer, &[at(40)]);
    writer.flush().unwrap();
    assert_eq!(store.compact().unwrap().damaged.len(), 1);
    assert_eq!(all(&store), [at(40)]);
}

/// A panic fails this test, and so does a message that is not what it was.
#[test]
fn every_flipped_bit_is_noticed_before_it_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer) = writer(directory.path());
    let at = |number| Message { time: number as i64, ..message(number) };
    commit(&mut writer, &(0..200).map(at).collect::<Vec<_>>());
    writer.flush().unwrap();
    drop(writer);
    let small = parquet_files(&store).first().unwrap().clone();
    let path = store.messages().join(&small);
    let whole = fs::read(&path).unwrap();
    let read = || {
        let read = store.read("home/3", 0..1_000).unwrap();
        read.collect::<Result<Vec<Message>, _>>()
    };
    let messages = read().unwrap();
    let mut dice = Dice(7);
    let mut noticed = 0;
    for round in 0..400 {
        fs::write(&path, &whole).unwrap();
        flip(&path, some(&mut dice, 0..whole.len()), round % 8);
        match read() {
            Ok(found) => assert_eq!(found, messages),
            Err(Error::Damaged { .. }) => noticed += 1,
            Err(error) => panic!("{error}"),
        }
        if round % 10 == 0 {
            let compaction = store.compact().unwrap();
            match &compaction.damaged[..] {
                [] => assert_eq!(read().unwrap(), messages),
                [kept] => fs::rename(kept, &path).unwrap(),
                several => panic!("{several:?}"),
            }
            let _ = fs::remove_file(path.with_file_name("day.parquet"));
        }
    }
    assert!(noticed > 390, "{noticed}");
}
