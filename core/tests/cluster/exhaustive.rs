//! Every course of events within small bounds: three nodes that have an agent and a part, and a number of
//! faults, each at every moment.
//!
//! The model checker walks through the same world as the random schedules. `FAULTS` says how many
//! faults there are in the long form.

#![expect(clippy::disallowed_methods, reason = "the bounds are not the core's matter")]

use crate::timetable::{agent, seconds};
use crate::world::{Fate, Mistake, World};
use iotmonitor_core::model::cluster::{Allowed, Item, Items};
use stateright::{Checker, Model, Property};
use std::time::Duration;

const ONE_OWNER: &str = "no two nodes run one item";
const MOVES: &str = "an item is started elsewhere";

/// How many faults happen at most, and until when.
struct Bounds {
    faults: u8,
    /// The first one happens before this time. The nodes repeat what they do each two seconds.
    first_until: Duration,
    until: Duration,
    mistake: Option<Mistake>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    world: World,
    faults: u8,
}

/// What happens next. All but the first is a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Pass,
    LoseRequest,
    LoseAnswer,
    /// The request arrives after the node has given it up.
    DelayRequest,
    /// The node that asks is cut off: this and all that it asks later is lost.
    Cut(usize),
    Pause(usize),
    RestartMonitor(usize),
    PowerOff(usize),
    /// The node gives away what it has. That is no fault by itself.
    Drain(usize),
    /// The store is away, and has lost its last write when it is back.
    LoseWrite,
}

impl Model for Bounds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let items = [agent("x"), Item::House].map(|item| (item, Allowed::Everywhere));
        let mut world = World::new(&[10_000, -10_000, 0], Items::new(items), self.mistake);
        world.run_until(seconds(14.0), Fate::FAST);
        assert_eq!(world.unowned(), []);
        vec![State { world, faults: 0 }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.world.next() > self.until {
            return;
        }
        actions.push(Action::Pass);
        let Some((node, _)) = state.world.asks() else { return };
        let is_late = state.faults == 0 && state.world.now > self.first_until;
        if state.faults >= self.faults || is_late || state.world.is_cut(node) {
            return;
        }
        actions.extend([
            Action::LoseRequest,
            Action::LoseAnswer,
            Action::DelayRequest,
            Action::Cut(node),
            Action::Pause(node),
            Action::RestartMonitor(node),
            Action::PowerOff(node),
            Action::Drain(node),
            Action::LoseWrite,
        ]);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let world = &mut state.world;
        if action != Action::Pass {
            state.faults += 1;
        }
        match action {
            Action::Pass => world.step(Fate::FAST),
            Action::LoseRequest => world.step(Fate::REQUEST_LOST),
            Action::LoseAnswer => world.step(Fate::ANSWER_LOST),
            Action::DelayRequest => {
                world.step(Fate { request: Some(seconds(2.5)), ..Fate::FAST });
            }
            Action::Cut(node) => world.cut(node),
            Action::Pause(node) => {
                // The request is on its way, and its answer comes while the node is paused.
                world.step(Fate::FAST);
                world.pause(node, seconds(3.5), false);
            }
            Action::RestartMonitor(node) => world.kill_monitor(node, seconds(1.0)),
            Action::PowerOff(node) => world.power_off(node, seconds(5.0)),
            Action::Drain(node) => world.drain(node, true),
            Action::LoseWrite => {
                world.step(Fate::FAST);
                world.lose_writes(1, seconds(4.6));
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_OWNER, |_, state: &State| state.world.double.is_none()),
            Property::sometimes(MOVES, |_, state: &State| {
                state.world.tally.evictions > 0 && state.world.tally.starts > 2
            }),
        ]
    }
}

/// Walks through everything within the bounds. Returns whether two owners were found.
fn finds(faults: u8, first_until: f64, until: f64, mistake: Option<Mistake>) -> bool {
    let (first_until, until) = (seconds(first_until), seconds(until));
    let model = Bounds { faults, first_until, until, mistake };
    let checker = model.checker().threads(2).spawn_dfs().join();
    assert!(checker.discovery(MOVES).is_some(), "nothing moves");
    checker.discovery(ONE_OWNER).is_some()
}

#[test]
fn no_fault_at_any_moment_gives_an_item_two_owners() {
    assert!(!finds(1, 16.2, 30.0, None));
}

#[test]
fn no_two_faults_at_any_moments_give_an_item_two_owners() {
    let faults = std::env::var("FAULTS").map(|count| count.parse().unwrap());
    match faults {
        Ok(faults) => assert!(!finds(faults, 16.2, 30.0, None)),
        Err(_) => assert!(!finds(2, 14.4, 26.0, None)),
    }
}

#[test]
fn a_file_that_loses_a_part_too_late_is_found() {
    assert!(finds(2, 14.4, 26.0, Some(Mistake::ForgetLate)));
}

#[test]
fn waiting_for_a_lease_alone_is_found() {
    assert!(finds(1, 16.2, 30.0, Some(Mistake::WaitLeaseAlone)));
}
