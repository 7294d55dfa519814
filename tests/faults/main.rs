//! What holds when things break: each promise is a function that makes real faults, counts, and
//! returns a row of the table that is printed at the end.
//!
//! ```text
//! cargo test --test faults                     all promises, in the short form of `make test`
//! cargo test --test faults -- store            those with `store` in their name
//! make soak MINUTES=10                         the long form
//! IOTMONITOR_FAULT_SEED=7 cargo test …         with the randomness of that run
//! ```
//!
//! A promise boots machines of its own with the `harness` that the system tests use. It fails by
//! what its row says, or by a panic, which ends that promise alone. What the monitor is to do in
//! one situation is decided in the system tests; here it is about many of them, and about counting.

#[allow(dead_code, reason = "not every promise needs both forms or randomness")]
mod effort;
#[path = "../harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the system tests use the rest of it")]
mod harness;
#[path = "../common/plain_agent.rs"]
mod plain_agent;
mod row;

mod agents;
mod alarms;
mod crowd;
mod degraded;
mod descriptors;
mod fleet;
mod hung;
mod machines;
mod memory;
mod mute_broker;
mod observer;
mod record;
mod restore;
mod schedules;

use effort::{Effort, Plan};
use libtest_mimic::{Arguments, Failed, Trial};
use row::Row;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

type Promise = fn(&Effort) -> Row;

/// All promises, in the order of the table. Those that take longest in a soak come first.
const PROMISES: &[(&str, Promise)] = &[
    ("record_survives_everything", record::survives_everything),
    ("schedules_in_simulated_time", schedules::keep_the_rules),
    ("agents_have_one_process_each", agents::one_process_each),
    ("hung_parts_are_reported_or_ended", hung::is_reported_or_ended),
    ("descriptors_run_out", descriptors::run_out),
    ("journal_is_away", degraded::journal_is_away),
    ("bus_and_directory_are_away", degraded::bus_and_directory_are_away),
    ("store_is_damaged", degraded::store_is_damaged),
    ("memory_stays_within_its_bound", memory::stays_within_its_bound),
    ("alarms_over_restarts_of_the_broker", alarms::over_restarts_of_the_broker),
    ("alarms_with_a_broker_that_hangs", alarms::with_a_broker_that_hangs),
    ("alarms_with_a_broker_that_says_nothing", alarms::with_a_broker_that_says_nothing),
    ("alarms_on_a_dead_link", alarms::on_a_dead_link),
    ("alarms_of_a_monitor_that_was_stopped", alarms::of_a_monitor_that_was_stopped),
    ("restore_of_racing_messages", restore::of_racing_messages),
    ("restore_of_two_monitors", restore::of_two_monitors),
    ("crowd_expires_at_once", crowd::expires_at_once),
];

/// How many promises run at the same time: they mostly wait.
const AT_ONCE: usize = 2;

type Rows = Arc<Mutex<BTreeMap<usize, Row>>>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let threads = *arguments.test_threads.get_or_insert(AT_ONCE);
    let is_chosen = |name| !arguments.is_filtered_out(&Trial::test(name, || Ok(())));
    let chosen: Vec<_> = PROMISES.iter().filter(|(name, _)| is_chosen(*name)).collect();
    let plan = Plan::from_environment(chosen.len(), threads);
    if !arguments.list {
        println!("{plan}");
    }
    let rows = Rows::default();
    let trials = chosen.into_iter().enumerate();
    let trials = trials.map(|(place, (name, promise))| trial(place, name, *promise, plan, &rows));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
    if !rows.is_empty() {
        println!("{}", row::table(rows.values()));
    }
    if !arguments.list {
        println!("{} passed, {} failed", conclusion.num_passed, conclusion.num_failed);
    }
    conclusion.exit_code()
}

/// Runs a promise and keeps its row, also when it panics.
fn trial(place: usize, name: &'static str, promise: Promise, plan: Plan, rows: &Rows) -> Trial {
    let rows = Arc::clone(rows);
    Trial::test(name, move || {
        let effort = plan.begin();
        let result = catch_unwind(AssertUnwindSafe(|| promise(&effort)));
        let row = result.as_ref().map_or_else(|_| Row::unfinished(name), Row::clone);
        let failure = row.failure();
        rows.lock().unwrap_or_else(PoisonError::into_inner).insert(place, row);
        match (result, failure) {
            (Err(panic), _) => resume_unwind(panic),
            (Ok(_), Some(failure)) => Err(Failed::from(failure)),
            (Ok(_), None) => Ok(()),
        }
    })
}
