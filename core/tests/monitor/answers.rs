//! Hellos around the change of the node that restores: each is answered by one of them.

use super::handover::{cold, lamp, owner, shard, standby};
use super::sharing::dark_of;
use super::timetable::{BASE, House, message, millis, secs, topic};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::cluster::EndReason;
use iotmonitor_core::model::cluster::sharing::ClusterFact;
use iotmonitor_core::model::event::Event;

const ON: &str = "home/lamp/set/on";
const HELLO: &str = "home/lamp/hello";

const STARTING: &str = r#"{"state":"online","since":7,"starting":true}"#;
const ALIVE: &str =
    r#"{"name":"lamp","kind":"device","state":"alive","since":7,"node":"nas","epoch":8}"#;

/// A node that comes together with another one, after a time in which nobody watched.
fn one_of_the_first() -> House {
    let mut house = dark_of(vec![lamp()], &[]);
    house.recorded(ON, "1");
    house.join(&[]);
    house.broker.delivers = false;
    house.power_up();
    house.retained("nodes/nas", STARTING);
    house.broker.delivers = true;
    house.advance(secs(6));
    house.is_caught_up();
    house.advance(secs(10));
    house.turn_the_page();
    house
}

impl House {
    /// Another node restores a state of the lamp.
    fn other_restores(&mut self, at: &str) {
        self.is_restored_by("iotmonitor@nas", at);
    }

    fn is_restored_by(&mut self, by: &str, at: &str) {
        self.happen(Event::RestoredByAnother { by: by.to_owned(), topic: topic(at) });
    }

    /// The topics that this node restores when the shard comes to it.
    fn restored_with_the_shard(&mut self) -> Vec<String> {
        self.own_part(shard(), 9);
        self.advance(secs(1));
        self.restored_topics()
    }

    fn restored_topics(&self) -> Vec<String> {
        let published = self.all_published().into_iter();
        published.filter(|(_, it)| it.restored).map(|(_, it)| it.topic.to_string()).collect()
    }
}

#[test]
fn a_hello_shortly_before_the_take_over_is_answered_and_an_older_one_is_not() {
    for (ago, restores) in [(14, 1), (16, 0)] {
        let mut house = standby();
        house.hear("home/lamp/hello");
        house.advance(secs(ago));
        house.own_part(shard(), 9);
        house.advance(secs(1));
        assert_eq!(house.restores().len(), restores, "{ago} s ago");
    }
}

#[test]
fn a_hello_while_nobody_could_restore_is_answered_however_long_that_lasts() {
    let mut house = standby();
    house.cluster(ClusterFact::Cut { reason: "refused".to_owned() });
    house.advance(secs(600));
    house.hear("home/lamp/hello");
    house.advance(secs(600));
    house.cluster(ClusterFact::Back);
    house.advance(secs(2));
    house.own_part(shard(), 9);
    house.advance(secs(1));
    assert_eq!(house.restores().len(), 1);
}

#[test]
fn a_hello_that_another_node_has_answered_is_not_answered_again() {
    for mut house in [standby(), cold()] {
        house.recorded(ON, "1");
        house.hear(HELLO);
        house.other_restores(ON);
        house.advance(secs(3));
        assert_eq!(house.restored_with_the_shard(), [] as [&str; 0]);
        assert_eq!(house.count(AlertKind::Restored), 0, "nothing is said of nothing");
        house.hear(HELLO);
        assert_eq!(house.restored_topics(), [ON], "the next one is this node's");
    }
}

/// Its former owner may have ended in the middle.
#[test]
fn what_another_node_has_not_restored_is_restored() {
    let mut house = standby();
    house.recorded("home/lamp/set/dim", "7");
    house.hear(HELLO);
    house.other_restores(ON);
    assert_eq!(house.restored_with_the_shard(), ["home/lamp/set/dim"]);
}

#[test]
fn an_answer_is_one_to_the_hello_before_it() {
    let mut house = standby();
    house.hear(HELLO);
    house.other_restores(ON);
    house.advance(millis(10));
    house.hear(HELLO);
    assert_eq!(house.restored_with_the_shard(), [ON]);
}

/// They come over two connections, and one of them may be behind.
#[test]
fn an_answer_may_be_heard_before_its_hello() {
    for (before, restored) in [(millis(900), &[][..]), (millis(1_100), &[ON])] {
        let mut house = standby();
        house.hear(HELLO);
        house.other_restores(ON);
        house.advance(secs(60));
        house.other_restores(ON);
        house.advance(before);
        house.hear(HELLO);
        assert_eq!(house.restored_with_the_shard(), restored, "{before:?}");
    }
}

/// The hello comes over the watch connection, and the answer behind what the broker has kept.
#[test]
fn an_answer_in_the_backlog_counts() {
    let mut house = standby();
    house.lose_state();
    house.hear(HELLO);
    house.broker.delivers = false;
    house.connect_state();
    house.other_restores(ON);
    house.broker.delivers = true;
    house.advance(secs(10));
    assert_eq!(house.restored_with_the_shard(), [] as [&str; 0]);
}

#[test]
fn an_answer_counts_however_long_this_node_was_cut_off() {
    let mut house = standby();
    house.cluster(ClusterFact::Cut { reason: "refused".to_owned() });
    house.advance(secs(600));
    house.hear(HELLO);
    house.other_restores(ON);
    house.advance(secs(600));
    house.cluster(ClusterFact::Back);
    house.advance(secs(2));
    assert_eq!(house.restored_with_the_shard(), [] as [&str; 0]);
}

#[test]
fn a_hello_while_the_rest_is_being_restored_is_answered_in_full() {
    let mut house = standby();
    house.recorded("home/lamp/set/dim", "7");
    house.hear(HELLO);
    house.other_restores(ON);
    house.store.holds_reads = true;
    house.own_part(shard(), 9);
    house.hear(HELLO);
    house.store.holds_reads = false;
    house.settle_reads();
    house.advance(secs(1));
    let both = ["home/lamp/set/dim", ON];
    assert_eq!(house.restored_topics(), [&both[..1], &both].concat());
}

/// A shard that a drain takes away comes back when the drain ends.
#[test]
fn a_shard_that_goes_and_comes_back_brings_no_answer_twice() {
    let mut house = owner();
    house.hear(HELLO);
    assert_eq!(house.restored_topics(), [ON]);
    house.release_part(shard());
    house.hear(HELLO);
    house.other_restores(ON);
    house.advance(secs(4));
    house.turn_the_page();
    assert_eq!(house.restored_with_the_shard(), [] as [&str; 0]);
}

/// Hellos wait for a monitor that hangs, and so do the answers of the node that has the shard by then.
#[test]
fn a_former_owner_hears_answers_from_the_end_of_its_session_on() {
    let mut house = owner();
    house.cluster(ClusterFact::Fenced(EndReason::Deadline));
    house.hear(HELLO);
    house.other_restores(ON);
    house.owners(&[(&shard().to_string(), "nas")]);
    house.advance(secs(4));
    assert_eq!(house.restored_with_the_shard(), [] as [&str; 0]);
}

#[test]
fn of_nodes_that_come_together_one_restores_all_states_of_a_device() {
    let mut house = one_of_the_first();
    house.retained("status/lamp", ALIVE);
    assert_eq!(house.restored_with_the_shard(), [ON], "this was said before");
    let standing_in = ALIVE.replace(r#","epoch":8"#, "");
    for (word, restored) in [(ALIVE, &[][..]), (&standing_in, &[ON])] {
        let mut house = one_of_the_first();
        house.happen(Event::WatchMessage(message(&format!("{BASE}/status/lamp"), word)));
        house.advance(secs(60));
        assert_eq!(house.restored_with_the_shard(), restored, "after {word}");
    }
}

#[test]
fn the_first_node_restores_all_states_of_a_device_once() {
    let mut house = one_of_the_first();
    assert_eq!(house.restored_with_the_shard(), [ON]);
    house.release_part(shard());
    house.turn_the_page();
    assert_eq!(house.restored_with_the_shard(), [] as [&str; 0]);
}

/// One that comes later does not restore everything again.
#[test]
fn a_node_that_has_taken_something_up_does_not_count_as_starting() {
    let mut house = one_of_the_first();
    house.own_part(shard(), 9);
    let last = house.payloads("nodes/pi1").pop().unwrap();
    assert!(!last.contains("starting"), "{last}");
}

#[test]
fn what_a_monitor_outside_of_the_cluster_restores_answers_nothing() {
    for by in ["iotmonitor", "iotmonitor2@nas", "other@nas"] {
        let mut house = standby();
        house.hear(HELLO);
        house.is_restored_by(by, ON);
        assert_eq!(house.restored_with_the_shard(), [ON], "{by}");
    }
}

/// A monitor that is started again has heard no hello meanwhile.
#[test]
fn what_the_first_plan_gives_to_a_node_is_restored_in_full_unless_another_one_has_it_first() {
    for (then, restored) in [("pi1", &[ON][..]), ("nas", &[])] {
        let mut house = standby();
        let owner = |house: &mut House, node| house.owners(&[(&shard().to_string(), node)]);
        owner(&mut house, "pi1");
        owner(&mut house, then);
        owner(&mut house, "pi1");
        assert_eq!(house.restored_with_the_shard(), restored, "{then}");
    }
    let mut house = standby();
    house.owners(&[]);
    house.owners(&[(&shard().to_string(), "pi1")]);
    assert_eq!(house.restored_with_the_shard(), [] as [&str; 0], "the second plan is news");
}
