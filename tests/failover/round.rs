//! One round: everything is whole, something breaks, what the node had runs elsewhere or goes on,
//! and everything is whole again. All ticks since the beginning are judged.

use super::fault::{self, Aftermath, Fault};
use super::harness::eventually_within;
use super::house::{House, say};
use super::ticks::{Course, Tick, Ticks, boot_clock};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long what moves may take in the worst case on a busy machine. How fast it is is measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that has been silent for so long has ended.
const ENDED: Duration = Duration::from_secs(1);

/// What two faults at once lead to shows within this time.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// What came of one round.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// For each agent that ran where something broke and that had to move: how long after that it
    /// ran elsewhere.
    pub moved_after: Vec<Duration>,
    /// For each agent that ran there: the longest time without a tick.
    pub silences: Vec<Duration>,
    /// The smallest time between two owners of any agent.
    pub distance: Option<Duration>,
    /// Of each agent with two owners at once: for how long.
    pub both: Vec<(&'static str, Duration)>,
    /// For how long agents of a node that was paused ran after it was resumed. Only what they act on
    /// can prevent that, by comparing `IOTMONITOR_EPOCH`.
    pub ran_on: Duration,
}

/// Breaks what the faults say at one node.
pub fn run(house: &mut House, faults: &[Fault], node: u64) -> Outcome {
    house.await_whole();
    let before = house.last_ticks();
    house.agents().iter_mut().for_each(Ticks::forget);
    let began = boot_clock();
    for fault in faults {
        fault.inject(house, node);
    }
    say("broken");
    await_aftermath(house, fault::aftermath(faults), node, &before, began);
    say("shown");
    // Others are mended with the help of the service manager.
    let mut mended = faults.to_vec();
    mended.sort_by_key(|fault| *fault != Fault::ManagerStopped);
    for fault in mended {
        fault.heal(house, node);
    }
    house.await_whole();
    let is_hit =
        |owner| owner == node || faults.iter().any(|fault| fault.aftermath() == Aftermath::Stops);
    let mut outcome = Outcome {
        moved_after: Vec::new(),
        silences: Vec::new(),
        distance: None,
        both: Vec::new(),
        ran_on: Duration::ZERO,
    };
    for ticks in house.agents() {
        let Course { both, ran_on, distance, silence } = ticks.course();
        let owner = before[ticks.agent].node;
        if is_hit(owner) {
            outcome.silences.push(silence);
            let elsewhere = ticks.first_elsewhere(owner, began);
            outcome.moved_after.extend(elsewhere.map(|at| at - began));
        }
        outcome.distance = [outcome.distance, distance].into_iter().flatten().min();
        if faults.contains(&Fault::NodePaused) {
            outcome.ran_on = outcome.ran_on.max(ran_on);
        } else {
            outcome.both.extend(both.map(|both| (ticks.agent, both)));
        }
    }
    outcome
}

fn await_aftermath(
    house: &mut House,
    aftermath: Aftermath,
    node: u64,
    before: &BTreeMap<&'static str, Tick>,
    began: Duration,
) {
    match aftermath {
        Aftermath::Stays => house.await_renewals(&house.numbers()),
        Aftermath::Moves => eventually_within(PATIENCE, "the agents to run elsewhere", || {
            let mut agents = house.agents().iter_mut();
            agents.all(|ticks| ticks.last().is_some_and(|last| last.node != node)).then_some(())
        }),
        Aftermath::Restarts => {
            eventually_within(PATIENCE, "the agents to be started again", || {
                let mut agents = house.agents().iter_mut();
                let is_other = |ticks: &mut Ticks| {
                    let last = ticks.last();
                    last.is_some_and(|last| {
                        before[ticks.agent].node != node || last.epoch > before[ticks.agent].epoch
                    })
                };
                agents.all(is_other).then_some(())
            })
        }
        Aftermath::Stops => eventually_within(PATIENCE, "the agents to end", || {
            let now = boot_clock();
            let mut agents = house.agents().iter_mut();
            let ended = |at: Duration| at > began && now.saturating_sub(at) > ENDED;
            agents.all(|ticks| ticks.last().is_some_and(|last| ended(last.at))).then_some(())
        }),
        Aftermath::Either => eventually_within(PATIENCE, "time to pass", || {
            (boot_clock() > began + SHOWN_WITHIN).then_some(())
        }),
    }
}
