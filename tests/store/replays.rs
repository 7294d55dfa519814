//! What the broker retains, in the store: stale replays change nothing, over restarts too.

use super::{Running, state, topics};
use iotmonitor_core::model::message::QoS;
use iotmonitor_core::model::state::{StateChange, StateRecord};

fn retained(payload: &str) -> StateRecord {
    state("a", payload.to_owned())
}

fn plain(payload: &str) -> StateRecord {
    StateRecord { retain: false, qos: QoS::AtMostOnce, ..retained(payload) }
}

/// Makes these changes, reopens the store, and gives what is recorded then.
fn after(running: Running, directory: &std::path::Path, changes: Vec<StateChange>) -> Running {
    let mut running = running;
    changes.into_iter().for_each(|change| {
        running.change(change);
    });
    running.close();
    Running::opened(directory)
}

#[test]
fn a_stale_replay_changes_nothing_and_one_that_is_news_does() {
    use StateChange::{Put, Replay};
    let directory = tempfile::tempdir().unwrap();
    let running = Running::opened(directory.path());
    let live = vec![Put(retained("on")), Put(plain("dim")), Put(plain("off"))];
    let running = after(running, directory.path(), live);
    let mut running = after(running, directory.path(), vec![Replay(retained("on"))]);
    assert_eq!(running.read(&["a"]).0, [plain("off")]);
    let mut running = after(running, directory.path(), vec![Replay(retained("dim"))]);
    assert_eq!(running.read(&["a"]).0, [retained("dim")]);
    running.close();
}

#[test]
fn values_of_unknown_retention_are_stale_until_a_replay_shows_it() {
    use StateChange::{PutUnflagged, Replay};
    let directory = tempfile::tempdir().unwrap();
    let running = Running::opened(directory.path());
    let live = ["on", "dim", "off"].map(|payload| PutUnflagged(plain(payload))).to_vec();
    let running = after(running, directory.path(), live);
    let mut running = after(running, directory.path(), vec![Replay(retained("on"))]);
    assert_eq!(running.read(&["a"]).0, [plain("off")]);
    let mut running = after(running, directory.path(), vec![Replay(retained("dim"))]);
    assert_eq!(running.read(&["a"]).0, [retained("dim")]);
    running.close();
}

#[test]
fn a_replay_of_the_recorded_value_shows_its_flag_and_nothing_else() {
    use StateChange::{PutUnflagged, Replay};
    let directory = tempfile::tempdir().unwrap();
    let running = Running::opened(directory.path());
    let later = StateRecord { time: std::time::Duration::from_secs(9), ..retained("on") };
    let changes = vec![PutUnflagged(plain("on")), Replay(later.clone())];
    let mut running = after(running, directory.path(), changes);
    let confirmed = StateRecord { retain: true, ..plain("on") };
    assert_eq!(running.read(&["a"]).0, std::slice::from_ref(&confirmed));
    let size = std::fs::metadata(super::data_file(directory.path())).unwrap().len();
    for _ in 0..1_000 {
        running.change(Replay(later.clone()));
    }
    assert_eq!(running.read_after_commits(&["a"]), [confirmed]);
    assert_eq!(std::fs::metadata(super::data_file(directory.path())).unwrap().len(), size);
    running.close();
}

#[test]
fn a_value_of_many_is_kept_with_what_is_known_of_the_others() {
    use StateChange::{PutUnflagged, Replay};
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::opened(directory.path());
    for number in 0..500 {
        running.change(PutUnflagged(plain(&number.to_string())));
    }
    running.put(state("b", "beside"));
    let mut running = after(running, directory.path(), vec![Replay(retained("480"))]);
    let found = running.read(&["#"]).0;
    assert_eq!(topics(&found), ["a", "b"]);
    assert_eq!(found[0], plain("499"));
    running.close();
}
