//! The store's files are taken away while it is in use, or others put in their place.

use super::{Running, data_file, filled, state, topics};
use iotmonitor_core::model::event::Event;
use std::fs;
use std::path::Path;

/// A store in a directory below one for temporary files, with a state that was recorded before.
fn in_use(home: &Path) -> (Running, std::path::PathBuf) {
    let directory = home.join("store");
    let mut running = Running::opened(&directory);
    let before = running.put(state("before", "x"));
    running.wait_committed(before);
    (running, directory)
}

/// Records a state, which has to be reported as going into another store than before, and be found there.
fn expect_replaced(mut running: Running, directory: &Path, expected: &[&str]) {
    let after = running.put(state("after", "x"));
    match running.next() {
        Event::StoreReplaced { path } => assert_eq!(Path::new(&path), directory),
        other => panic!("{other:?}"),
    }
    running.wait_committed(after);
    running.close();
    let mut running = Running::opened(directory);
    assert_eq!(topics(&running.read(&["after", "before", "home/007"]).0), expected);
    running.close();
}

#[test]
fn a_removed_directory_is_made_again_before_anything_is_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let (running, directory) = in_use(home.path());
    fs::remove_dir_all(&directory).unwrap();
    expect_replaced(running, &directory, &["after"]);
}

#[test]
fn a_removed_file_is_made_again() {
    let home = tempfile::tempdir().unwrap();
    let (running, directory) = in_use(home.path());
    fs::remove_file(data_file(&directory)).unwrap();
    expect_replaced(running, &directory, &["after"]);
}

#[test]
fn a_store_that_was_put_in_place_is_used() {
    let home = tempfile::tempdir().unwrap();
    let (running, directory) = in_use(home.path());
    let other = home.path().join("other");
    filled(&other);
    fs::rename(data_file(&other), data_file(&directory)).unwrap();
    expect_replaced(running, &directory, &["after", "home/007"]);
}

#[test]
fn a_directory_that_was_exchanged_is_used() {
    let home = tempfile::tempdir().unwrap();
    let (running, directory) = in_use(home.path());
    filled(&home.path().join("other"));
    fs::rename(&directory, home.path().join("aside")).unwrap();
    fs::rename(home.path().join("other"), &directory).unwrap();
    expect_replaced(running, &directory, &["after", "home/007"]);
}

#[test]
fn a_read_asks_the_store_that_is_there() {
    let home = tempfile::tempdir().unwrap();
    let (mut running, directory) = in_use(home.path());
    fs::remove_dir_all(&directory).unwrap();
    running.send_read(&["before"], None);
    assert!(matches!(running.next(), Event::StoreReplaced { .. }));
    match running.next() {
        Event::StatesRead { states, .. } => assert!(states.is_empty()),
        other => panic!("{other:?}"),
    }
    running.close();
}

/// No other process may find the directory unused, and nothing is reported, because the states are there.
#[test]
fn a_lock_that_was_removed_is_taken_again_in_silence() {
    let home = tempfile::tempdir().unwrap();
    let (mut running, directory) = in_use(home.path());
    fs::remove_file(directory.join("iotmonitor.lock")).unwrap();
    let after = running.put(state("after", "x"));
    running.wait_committed(after);
    let mut second = Running::start(&directory);
    match second.next() {
        Event::StoreFailed { error } => assert!(error.contains("in use"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(second.handle.close(std::time::Duration::from_millis(500)));
    assert_eq!(running.read(&["#"]).0.len(), 2);
    running.close();
}
