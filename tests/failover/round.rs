//! One round: everything is whole, something breaks, what the node had runs elsewhere or goes on,
//! and everything is whole again. All ticks since the beginning are judged.

use super::devices::Kind;
use super::fault::{self, Aftermath, Fault};
use super::harness::{eventually, eventually_within};
use super::house::{House, node_at_rest, say};
use super::ticks::{Course, Tick, Ticks, boot_clock};
use super::verdict::{self, Verdict};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long what moves may take in the worst case on a busy machine. How fast it is is measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that has been silent for so long has ended.
const ENDED: Duration = Duration::from_secs(1);

/// What two faults at once lead to shows within this time.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// Devices say hello for so long, before and after what the node had is elsewhere.
const ASK_FOR: Duration = Duration::from_secs(11);
/// And for so long where nothing moves.
const ASK_FOR_A_WHILE: Duration = Duration::from_secs(4);

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the nodes do about devices comes within this time in the end.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

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
    pub devices: Verdict,
}

/// Breaks what the faults say at one node.
pub fn run(house: &mut House, faults: &[Fault], node: u64) -> Outcome {
    house.await_whole();
    let before = house.last_ticks();
    house.agents().iter_mut().for_each(Ticks::forget);
    begin_devices(house, fault::aftermath(faults), node);
    let began = boot_clock();
    for fault in faults {
        fault.inject(house, node);
    }
    say("broken");
    await_aftermath(house, fault::aftermath(faults), node, &before, began);
    await_alarms(house);
    say("shown");
    // Others are mended with the help of the service manager.
    let mut mended = faults.to_vec();
    mended.sort_by_key(|fault| *fault != Fault::ManagerStopped);
    for fault in mended {
        fault.heal(house, node);
    }
    house.await_whole();
    say("mended");
    let devices = end_devices(house);
    let is_hit =
        |owner| owner == node || faults.iter().any(|fault| fault.aftermath() == Aftermath::Stops);
    let mut outcome = Outcome {
        moved_after: Vec::new(),
        silences: Vec::new(),
        distance: None,
        both: Vec::new(),
        ran_on: Duration::ZERO,
        devices,
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

/// Lets devices fall silent and ask.
fn begin_devices(house: &mut House, aftermath: Aftermath, node: u64) {
    let is_hit = |shard: &_| node_at_rest(shard) == format!("pi{node}");
    for kind in [Kind::Steady, Kind::Fickle, Kind::Asking] {
        let mut all = house.devices.all().iter();
        assert!(
            all.any(|it| it.kind == kind && is_hit(&it.shard)),
            "pi{node} has no {kind:?} device"
        );
    }
    house.devices.change_states();
    eventually("the states to change", || house.devices.have_acted().then_some(()));
    house.forget_published();
    let within = if aftermath == Aftermath::Stays { ASK_FOR_A_WHILE } else { ASK_FOR };
    house.devices.act(within, is_hit);
}

/// Waits until every device that fell silent has expired. What does not come is found by the verdict.
fn await_alarms(house: &mut House) {
    await_in_vain(PATIENCE, || {
        let devices = house.devices.all().to_vec();
        Verdict::of(&devices, house.published()).missed_alarms.is_empty()
    });
}

/// Waits until every hello is answered and every state recorded, and judges all that was said.
fn end_devices(house: &mut House) -> Verdict {
    let devices = house.devices.all().to_vec();
    eventually_within(PATIENCE, "the devices to ask", || house.devices.have_acted().then_some(()));
    await_in_vain(ANSWER_WITHIN, || verdict::is_complete(&devices, house.published()));
    let mut differences = Vec::new();
    await_in_vain(ANSWER_WITHIN, || {
        differences = different_states(house);
        differences.is_empty()
    });
    let mut verdict = Verdict::of(&devices, house.published());
    verdict.compared = house.devices.states().len() * house.numbers().len();
    verdict.lost.extend(differences);
    house.devices.speak();
    verdict
}

/// States that a node has not recorded, and those that are not the last word on their topic.
fn different_states(house: &mut House) -> Vec<String> {
    let states = house.devices.states();
    let mut all = vec![("the last word".to_owned(), house.devices.last_messages().clone())];
    let recorded = house.numbers().into_iter();
    all.extend(
        recorded.map(|number| (format!("the record of pi{number}"), house.recorded(number))),
    );
    let mut differences = Vec::new();
    for (whose, found) in all {
        for (topic, state) in &states {
            if found.get(topic) != Some(state) {
                let found = found.get(topic);
                differences.push(format!("{topic} is {state}, and {found:?} is {whose}"));
            }
        }
    }
    differences
}

/// Waits until the condition holds, or for this time.
fn await_in_vain(patience: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = boot_clock() + patience;
    while !holds() && boot_clock() < deadline {
        std::thread::sleep(LOOK_EVERY);
    }
}
