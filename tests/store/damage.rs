//! Damaged files and records: what is put aside, what is passed over, and that no flipped bit ends
//! the process.

use super::{LAST_PAGES, Running, TRANSACTIONS, WORD, data_file, filled, state, topics};
use crate::dice::Dice;
use iotmonitor::store::{DEFAULT_MAP_BYTES, StoreError, check_format};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::state::{StateChange, StateRecord};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Opens a store whose file was damaged, and checks that it is put aside byte for byte.
fn expect_put_aside(directory: &Path) {
    let damaged = fs::read(data_file(directory)).unwrap();
    assert!(check_format(directory).is_ok());
    let mut running = Running::start(directory);
    match running.next() {
        Event::StorePutAside { path, .. } => {
            let kept = fs::read(&path).unwrap();
            assert!(kept.starts_with(&damaged));
            assert!(path.contains("data.mdb.damaged-"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(running.wait_opened(), super::unused());
    let sent = running.put(state("a", "x"));
    running.wait_committed(sent);
    running.close();
}

#[test]
fn truncated_garbled_and_empty_files_are_put_aside() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    filled(directory);
    let healthy = fs::read(data_file(directory)).unwrap();
    for length in [0, 1, 100, 4_096, 4_200, 8_192, healthy.len() / 2, healthy.len() - 4_096] {
        fs::write(data_file(directory), &healthy[..length]).unwrap();
        expect_put_aside(directory);
    }
    fs::write(data_file(directory), vec![0xA5; 100_000]).unwrap();
    expect_put_aside(directory);
    let mut bad_magic = healthy.clone();
    bad_magic[16] ^= 1;
    fs::write(data_file(directory), bad_magic).unwrap();
    expect_put_aside(directory);
}

type Table = heed::Database<'static, heed::types::Bytes, heed::types::Bytes>;

fn open_table(env: &heed::Env, name: &str) -> Table {
    let transaction = env.write_txn().unwrap();
    env.create_databases_and_commit(transaction, |opener, transaction| {
        opener.create_database(transaction, Some(name)).map(heed::CommitOrAbort::<_, ()>::Commit)
    })
    .unwrap()
    .unwrap_commit()
}

/// Writes into the database behind the store's back.
pub fn tamper(directory: &Path, table: &str, change: impl FnOnce(&mut Vec<u8>), key: &[u8]) {
    let mut options = heed::EnvOpenOptions::new();
    #[expect(unsafe_code, reason = "opening a memory map is unsafe in heed")]
    // SAFETY: the store is closed, and no other process uses this directory.
    let env = unsafe { options.max_dbs(3).map_size(DEFAULT_MAP_BYTES).open(directory) }.unwrap();
    let table = open_table(&env, table);
    let mut transaction = env.write_txn().unwrap();
    let mut value = table.get(&transaction, key).unwrap().unwrap().to_vec();
    change(&mut value);
    table.put(&mut transaction, key, &value).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_damaged_record_is_skipped_and_reported_once() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path());
    let flip_last = |value: &mut Vec<u8>| *value.last_mut().unwrap() ^= 1;
    tamper(directory.path(), "states", flip_last, b"home/007");
    tamper(directory.path(), "states", |value| value.truncate(3), b"home/008");
    let mut running = Running::opened(directory.path());
    running.send_read(&["home/007", "home/008", "home/009"], None);
    let reported = Event::StoreRecordsDamaged { count: 2, example: "home/007".to_owned() };
    assert_eq!(running.next(), reported);
    match running.next() {
        Event::StatesRead { states, .. } => assert_eq!(topics(&states), ["home/009"]),
        other => panic!("{other:?}"),
    }
    assert_eq!(running.read(&["home/+"]).0.len(), 498);
    running.close();
}

#[test]
fn a_store_of_a_newer_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path());
    assert!(check_format(directory.path()).is_ok());
    let newer = |value: &mut Vec<u8>| {
        use std::hash::Hasher;
        let content = br#"{"format":3,"made_by":"iotmonitor 9"}"#;
        let mut hasher = siphasher::sip::SipHasher13::new();
        hasher.write(b"schema");
        hasher.write(content);
        *value = hasher.finish().to_le_bytes().to_vec();
        value.extend_from_slice(content);
    };
    tamper(directory.path(), "meta", newer, b"schema");
    match check_format(directory.path()) {
        Err(error @ StoreError::NewerFormat { found: 3, supported: 2, .. }) => {
            let sentence = error.to_string();
            assert!(sentence.contains("install the newer version again"), "{sentence}");
        }
        other => panic!("{other:?}"),
    }
    let before = fs::read(data_file(directory.path())).unwrap();
    let mut running = Running::start(directory.path());
    assert!(matches!(running.next(), Event::StoreFailed { .. }));
    assert!(running.handle.close(Duration::from_millis(500)));
    assert!(fs::read(data_file(directory.path())).unwrap() == before);
}

#[test]
fn a_damaged_schema_record_puts_the_store_aside() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path());
    tamper(directory.path(), "meta", |value| value[0] ^= 1, b"schema");
    expect_put_aside(directory.path());
}

/// LMDB writes no page that was taken at the file's end and freed in one transaction, so that a
/// healthy file may be shorter than its last page says.
#[test]
fn a_file_that_lacks_only_free_pages_is_healthy() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path());
    let mut data = fs::read(data_file(directory.path())).unwrap();
    for at in LAST_PAGES {
        let last = usize::from_ne_bytes(data[at..at + WORD].try_into().unwrap());
        data[at..at + WORD].copy_from_slice(&(last + 5).to_ne_bytes());
    }
    fs::write(data_file(directory.path()), data).unwrap();
    let mut running = Running::opened(directory.path());
    assert_eq!(running.read(&["#"]).0.len(), 500);
    running.close();
}

/// LMDB leaves a value that is written twice in one transaction the pages of the larger one.
#[test]
fn a_value_that_shrank_within_a_commit_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(directory.path());
    // Sent before the store is open, so that one commit takes them all.
    for size in [100_000, 9_000, 3_000, 20_000, 10] {
        running.put(state("home/camera", vec![b'x'; size]));
        running.put(state("home/other", vec![b'x'; 20_000 - size.min(15_000)]));
    }
    running.wait_opened();
    running.close();
    let mut running = Running::opened(directory.path());
    assert_eq!(running.read(&["home/camera"]).0[0].payload.len(), 10);
    assert_eq!(running.read(&["#"]).0.len(), 2);
    running.close();
}

/// A closed store with several levels, values with pages of their own, and free pages; what it
/// holds by topic.
fn varied(directory: &Path) -> BTreeMap<String, StateRecord> {
    let mut kept = BTreeMap::new();
    let mut running = Running::opened(directory);
    for round in 0..3 {
        for number in 0..1_500 {
            let size = if number % 100 == 0 { 9_000 + 3_000 * round } else { 100 + 10 * round };
            let state = state(&format!("home/{number:04}"), vec![b'x'; size]);
            kept.insert(state.topic.as_str().to_owned(), state.clone());
            running.put(state);
        }
        let last = running.change(StateChange::Nothing);
        running.wait_committed(last);
    }
    running.close();
    kept
}

/// A place anywhere in the file, or in a page's structure: its header, or where nodes are.
fn place(dice: &mut Dice, length: usize) -> usize {
    match dice.below(3) {
        0 => dice.below(length),
        1 => dice.below(length / 4_096) * 4_096 + dice.below(32),
        _ => dice.below(8) * 4_096 + dice.below(4_096),
    }
}

#[derive(Debug, Default)]
struct Outcomes {
    harmless: usize,
    records_reported: usize,
    put_aside: usize,
}

/// Reads all states, which have to be as they were; gives how many came back and how many losses
/// were reported.
fn read_all(running: &mut Running, kept: &BTreeMap<String, StateRecord>) -> (usize, u64) {
    let (mut found, mut reported) = (0, 0);
    running.send_read(&["#"], None);
    loop {
        match running.next() {
            Event::StoreRecordsDamaged { count, .. } => reported += count,
            Event::StatesRead { states, next, .. } => {
                for state in &states {
                    assert_eq!(kept.get(state.topic.as_str()), Some(state));
                }
                found += states.len();
                if next.is_none() {
                    return (found, reported);
                }
                running.send_read(&["#"], next);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Opens the store, reads it and writes to it. Every state comes back as it was, or its loss is
/// reported.
fn use_damaged(directory: &Path, kept: &BTreeMap<String, StateRecord>, outcomes: &mut Outcomes) {
    let mut running = Running::start(directory);
    let (mut aside, mut reported) = (false, 0);
    loop {
        match running.next() {
            Event::StorePutAside { .. } => aside = true,
            Event::StoreRecordsDamaged { count, .. } => reported += count,
            Event::StoreOpened(_) => break,
            other => panic!("{other:?}"),
        }
    }
    let (found, reported_later) = read_all(&mut running, kept);
    reported += reported_later;
    let missing = kept.len() - found;
    assert!(
        aside || missing as u64 <= reported,
        "{missing} states are missing, {reported} were reported"
    );
    for state in kept.values().step_by(3) {
        running.put(state.clone());
    }
    let last = running.change(StateChange::Nothing);
    running.wait_committed(last);
    running.close();
    match (aside, reported) {
        (true, _) => outcomes.put_aside += 1,
        (false, 0) => outcomes.harmless += 1,
        (false, _) => outcomes.records_reported += 1,
    }
}

/// Started by the test below as a process of its own, which a store that trusts its file would
/// lose. Alone it has nothing to do.
#[test]
fn child_that_uses_damaged_stores() {
    let Ok(flips) = std::env::var("STORE_TEST_FLIPS") else { return };
    let directory = tempfile::tempdir().unwrap();
    let kept = varied(directory.path());
    let healthy = fs::read(data_file(directory.path())).unwrap();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut outcomes = Outcomes::default();
    for _ in 0..flips.parse().unwrap() {
        let mut data = healthy.clone();
        // One bit more in the older meta page's `mm_txnid` makes it the newer one, which nothing
        // distinguishes from a file that lacks its last commit.
        let (place, bit) = (place(&mut dice, data.len()), dice.below(8));
        if TRANSACTIONS.iter().any(|at| (*at..*at + WORD).contains(&place)) {
            continue;
        }
        println!("bit {bit} of byte {place}");
        data[place] ^= 1 << bit;
        let scratch = tempfile::tempdir().unwrap();
        fs::write(data_file(scratch.path()), data).unwrap();
        use_damaged(scratch.path(), &kept, &mut outcomes);
    }
    println!("{outcomes:?}");
}

#[test]
fn no_flipped_bit_ends_the_process_or_changes_a_state_unnoticed() {
    let flips = std::env::var("FLIPS").unwrap_or_else(|_| "200".to_owned());
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "damage::child_that_uses_damaged_stores", "--nocapture"])
        .env("STORE_TEST_FLIPS", &flips)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&child.stdout);
    let lines: Vec<&str> = printed.lines().collect();
    let end = lines[lines.len().saturating_sub(6)..].join("\n");
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{}: {end}\n{errors}", child.status);
    assert!(printed.contains("put_aside"), "{end}");
    println!("{flips} flipped bits: {end}");
}
