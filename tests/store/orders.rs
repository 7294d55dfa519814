//! What people ask of the store: everything that is recorded, and changes of it.

use super::{Running, state, topic, topics};
use iotmonitor::store::StoreCommand;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::state::{StateChange, StateRecord, WriteId};
use std::time::Duration;

fn write(running: &mut Running, changes: Vec<StateChange>, keep_newer: bool) -> usize {
    let write = WriteId::Order(7);
    running.handle.send(StoreCommand::WriteStates { write, changes, keep_newer }).unwrap();
    match running.next() {
        Event::StatesWritten { write: WriteId::Order(7), changed } => changed,
        other => panic!("{other:?}"),
    }
}

fn at(name: &str, payload: &str, time: Duration) -> StateRecord {
    StateRecord { time, ..state(name, payload.to_owned()) }
}

#[test]
fn an_import_leaves_alone_what_is_newer_to_the_microsecond() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::opened(directory.path());
    let then = Duration::new(1_700_000_000, 123_456_789);
    let put = |name: &str, payload: &str, time| StateChange::Put(at(name, payload, time));
    let first = vec![put("a", "1", then), put("b", "1", then), put("c", "1", then)];
    assert_eq!(write(&mut running, first, false), 3);
    let micros = Duration::new(1_700_000_000, 123_456_000);
    let second = vec![
        put("a", "2", then - Duration::from_micros(1)),
        put("b", "2", micros),
        put("c", "2", then + Duration::from_micros(1)),
        put("d", "2", Duration::ZERO),
    ];
    assert_eq!(write(&mut running, second, true), 3);
    running.close();
    // And it was on disk when it was reported.
    let mut running = Running::opened(directory.path());
    let (states, _) = running.read(&[]);
    let shown: Vec<_> =
        states.iter().map(|state| (state.topic.as_str(), &state.payload[..])).collect();
    assert_eq!(shown, [("a", &b"1"[..]), ("b", b"2"), ("c", b"2"), ("d", b"2")]);
    // Without that wish the last one given counts.
    assert_eq!(write(&mut running, vec![put("a", "3", Duration::ZERO)], false), 1);
    assert_eq!(&running.read(&["a"]).0[0].payload[..], b"3");
    running.close();
}

#[test]
fn forgetting_reports_whether_there_was_a_state() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::opened(directory.path());
    running.put(state("a", "1"));
    let last = running.change(StateChange::Nothing);
    running.wait_committed(last);
    for existed in [1, 0] {
        assert_eq!(write(&mut running, vec![StateChange::Forget(topic("a"))], false), existed);
    }
    assert_eq!(write(&mut running, Vec::new(), true), 0);
    running.close();
}

#[test]
fn without_a_filter_everything_is_read_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::opened(directory.path());
    let long = format!("home/{}", "x".repeat(600));
    let mut names: Vec<String> = (0..250).map(|number| format!("home/{number:03}")).collect();
    names.extend(["$SYS/uptime".to_owned(), "/".to_owned(), long]);
    let puts = names.iter().map(|name| StateChange::Put(state(name, "1"))).collect();
    assert_eq!(write(&mut running, puts, false), names.len());
    let (states, sizes) = running.read(&[]);
    assert_eq!(sizes, [100, 100, 53]);
    names.sort();
    assert_eq!(topics(&states), names);
    running.close();
}
