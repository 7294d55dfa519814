//! Three booted machines that share agents over etcd, and what breaks among them.
//!
//! ```text
//! cargo test --test failover                    each fault once, on systemd 252
//! cargo test --test failover -- cut             those with `cut` in their name
//! make soak MINUTES=10                         random faults, also two at once, on 252 and 257
//! make cluster-figures                         what a cluster costs
//! IOTMONITOR_FAULT_SEED=7 cargo test …         with the randomness of that run
//! ```
//!
//! The agents tick every 2 ms on the clock that all machines share. That no agent has two owners at
//! once is asserted in each round, and also what becomes of simulated devices at the broker. How fast
//! agents move is printed, and asserted in a soak, since in the short form other tests have the
//! machine too.

mod breaking;
mod broker_log;
mod devices;
#[path = "../faults/effort.rs"]
#[allow(dead_code, reason = "other fault tests use the rest of it")]
mod effort;
mod fault;
mod figures;
#[path = "../harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the system tests use the rest of it")]
mod harness;
mod house;
mod network;
mod observer;
mod round;
mod table;
mod ticker;
mod ticks;
mod verdict;

use effort::Plan;
use fault::Fault;
use harness::Build;
use house::House;
use libtest_mimic::{Arguments, Failed, Trial};
use network::Cut;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use table::Table;

/// The Debian releases with systemd 252 and 257.
const SUITES: [&str; 2] = ["bookworm", "trixie"];

/// Prints what a cluster costs, and tests nothing.
const FIGURES: &str = "IOTMONITOR_CLUSTER_FIGURES";

/// A node that was paused kills what it had within this time after it is resumed. In the short form, other
/// tests may have the processors meanwhile.
const RUNS_ON_FOR: Duration = Duration::from_millis(500);
const RUNS_ON_BUSY_FOR: Duration = Duration::from_secs(3);

/// What the trials share. They run one after the other.
#[derive(Default)]
struct Bench {
    house: Option<House>,
    /// It did not even begin to work.
    is_out_of_order: bool,
    table: Table,
}

type Shared = Arc<Mutex<Bench>>;

fn main() -> ExitCode {
    if let Some(agent) = ticker::agent() {
        return ticker::run(&agent);
    }
    ticks::check();
    broker_log::check();
    verdict::check();
    let mut arguments = Arguments::from_args();
    // Machines end with the thread that has booted them.
    arguments.test_threads = Some(1);
    let plan = Plan::from_environment(SUITES.len(), 1);
    if !arguments.list {
        println!("{plan}");
    }
    let bench = Shared::default();
    let trials = if std::env::var_os(FIGURES).is_some() {
        vec![Trial::test("figures", || {
            figures::print(&mut House::start(SUITES[0], Build::Release));
            Ok(())
        })]
    } else if plan.is_soak() {
        SUITES.iter().map(|suite| soak(suite, plan, &bench)).collect()
    } else {
        let faults = Fault::ALL.iter().map(|fault| once(*fault, &bench));
        std::iter::once(cables(&bench)).chain(faults).collect()
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
    bench.house = None;
    if !bench.table.is_empty() {
        println!("{}", bench.table.text());
    }
    conclusion.exit_code()
}

/// The faults of cables lose what they say, and nothing else.
fn cables(bench: &Shared) -> Trial {
    let bench = Arc::clone(bench);
    Trial::test("cables_lose_one_direction_or_both", move || {
        let mut bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
        let house = bench.house.get_or_insert_with(|| House::start(SUITES[0], Build::Tested));
        for (cut, passes) in [
            (None, (true, true)),
            (Some(Cut::In), (false, true)),
            (Some(Cut::Out), (true, false)),
            (Some(Cut::Both), (false, false)),
            (None, (true, true)),
        ] {
            if let Some(cut) = cut {
                house.cut(1, cut);
            }
            let passed = house.passes(1);
            if cut.is_some() {
                house.mend(1);
            }
            if passed != passes {
                return Err(format!("{cut:?}: what passes is {passed:?} and not {passes:?}").into());
            }
        }
        Ok(())
    })
}

/// One fault, once.
fn once(fault: Fault, bench: &Shared) -> Trial {
    let bench = Arc::clone(bench);
    Trial::test(fault.name(), move || {
        let mut bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
        if bench.is_out_of_order {
            return Err("see the first failure".into());
        }
        // A house that a fault has left broken is not used again.
        let mut house =
            bench.house.take().unwrap_or_else(|| House::start(SUITES[0], Build::Tested));
        bench.is_out_of_order = true;
        house.await_whole();
        bench.is_out_of_order = false;
        let node = fault.victim(&mut house);
        let result = play(&mut bench.table, &mut house, &[fault], node, false);
        if result.is_ok() {
            bench.house = Some(house);
        }
        result.map_err(Failed::from)
    })
}

/// Random faults for a while, at first each of them once.
fn soak(suite: &'static str, plan: Plan, bench: &Shared) -> Trial {
    let bench = Arc::clone(bench);
    Trial::test(format!("random_faults_on_{suite}"), move || {
        let mut bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
        let mut house = House::start(suite, Build::Tested);
        let effort = plan.begin();
        let mut random = effort.random();
        let mut rounds = 0;
        let mut bag: Vec<Fault> = Vec::new();
        while effort.goes_on(rounds, 0) {
            if bag.is_empty() {
                bag = Fault::ALL.to_vec();
                random.shuffle(&mut bag);
            }
            let first = bag.pop().expect("it was filled");
            house.await_whole();
            let node = first.victim(&mut house);
            let mut faults = vec![first];
            if rounds % 2 == 1 {
                let fitting: Vec<Fault> =
                    Fault::ALL.into_iter().filter(|second| first.goes_with(*second)).collect();
                faults.extend(random.choice(fitting));
            }
            play(&mut bench.table, &mut house, &faults, node, true)?;
            rounds += 1;
        }
        Ok(())
    })
}

/// Plays a round, and returns what is wrong in it.
fn play(
    table: &mut Table,
    house: &mut House,
    faults: &[Fault],
    node: u64,
    is_timed: bool,
) -> Result<(), String> {
    println!("{faults:?} at pi{node}");
    let outcome = round::run(house, faults, node);
    table.add(faults, &outcome);
    let both = outcome.both.iter();
    let mut wrong: Vec<String> =
        both.map(|(agent, both)| format!("agent {agent} had two owners for {both:?}")).collect();
    let runs_on_for = if is_timed { RUNS_ON_FOR } else { RUNS_ON_BUSY_FOR };
    if outcome.ran_on > runs_on_for {
        wrong.push(format!("agents ran on for {:?} after the node was resumed", outcome.ran_on));
    }
    let within = fault::elsewhere_within(faults);
    let late = outcome.moved_after.iter().filter(|&&after| after > within);
    if is_timed && fault::moves(faults) {
        wrong.extend(late.map(|after| format!("an agent ran elsewhere only after {after:?}")));
    }
    wrong.extend(outcome.devices.wrong());
    if !wrong.is_empty() {
        house.print_journals();
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}
