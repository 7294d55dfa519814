//! Random schedules in simulated time against a naive model: contacts, outages, mute brokers, a
//! monitor that is held up, reconnections, reloads, restarts and crashes, clock steps.
//!
//! `SCHEDULES` says how many there are; one that fails is cut down to the steps that it takes.

mod model;
mod specs;
mod step;
mod world;

use crate::effort::Effort;
use crate::row::Row;
use model::Definition;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use step::{Dice, Step};
use world::{AGENT, World};

/// In the short form. A soak has another run of a million, in the release build.
const SCHEDULES: usize = 20_000;
/// Between two looks at the clock.
const ROUND: u64 = 1_000;
const THREADS: u64 = 2;

/// Seconds of silence, in milliseconds.
const TIMEOUTS: [u64; 7] = [0, 3_000, 20_000, 60_000, 61_000, 300_000, 3_600_000];

/// What a schedule is made of, all from its seed.
struct Schedule {
    devices: BTreeMap<usize, Definition>,
    steps: Vec<Step>,
}

impl Schedule {
    fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let devices = definitions(&mut dice);
        let steps = (0..10 + dice.below(50)).map(|_| step(&mut dice)).collect();
        Self { devices, steps }
    }

    /// What went wrong, in words; otherwise what was counted.
    fn run(&self) -> Result<Tally, String> {
        let run = || {
            let mut world = World::new(&self.devices);
            for (at, step) in self.steps.iter().enumerate() {
                world.take(step).map_err(|error| format!("step {at}, {step:?}: {error}"))?;
            }
            Ok(world.tally())
        };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("the monitor panicked".into()))
    }

    /// Leaves steps out as long as it still fails.
    fn shortened(mut self) -> Self {
        let mut at = self.steps.len();
        while at > 0 {
            at -= 1;
            let step = self.steps.remove(at);
            if self.run().is_ok() {
                self.steps.insert(at, step);
            }
        }
        self
    }
}

fn definitions(dice: &mut Dice) -> BTreeMap<usize, Definition> {
    let names = (0..6).filter(|_| dice.below(2) == 0).collect::<Vec<_>>();
    names.into_iter().map(|name| (name, definition(name, dice))).collect()
}

fn definition(name: usize, dice: &mut Dice) -> Definition {
    Definition {
        timeout: dice.one_of(&TIMEOUTS),
        watched: dice.below(8) > 0,
        repeats: dice.below(4) == 0,
        is_agent: name == AGENT,
        behind: (name > 0 && dice.below(3) == 0).then(|| dice.below(name)),
    }
}

fn step(dice: &mut Dice) -> Step {
    let device = dice.below(6);
    match dice.below(64) {
        0..=11 => Step::Wait(1 + dice.below(4_000) as u64),
        12..=20 => Step::Wait(1 + dice.below(70_000) as u64),
        21 => Step::Wait(1 + dice.below(400_000) as u64),
        22..=39 => Step::Talk(device),
        40 => Step::Replay(device),
        41..=43 => Step::Lose(dice.below(3)),
        44..=46 => Step::Connect { acknowledged: dice.below(4) > 0 },
        47 => Step::Acknowledge,
        48 => Step::Mute {
            quiet: dice.below(22_000) as u64,
            noticed: 22_000 + dice.below(23_000) as u64,
        },
        49..=51 => Step::Stall {
            time: 1 + dice.one_of(&[1_500, 3_000, 400_000, 1_200_000]) * dice.below(1_000) as u64
                / 1_000,
            talk: (0..dice.below(4)).map(|_| dice.below(6)).collect(),
            drops: dice.below(3) == 0,
        },
        52..=53 => Step::Restart(changed(dice)),
        54 => Step::Crash,
        55..=56 => Step::Reload(definitions(dice)),
        57 => Step::Retime(device, dice.one_of(&TIMEOUTS)),
        58 => Step::WallClock(dice.below(200_000) as i64 - 100_000),
        59 => Step::Enable(device),
        60 => Step::Disable(device),
        61 => Step::AgentRestarted,
        _ => Step::AnswersAfter(dice.one_of(&[0, 0, 200, 3_000])),
    }
}

fn changed(dice: &mut Dice) -> Option<BTreeMap<usize, Definition>> {
    (dice.below(3) == 0).then(|| definitions(dice))
}

/// What was counted in schedules that went well.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub faults: usize,
    pub messages: usize,
    pub alarms: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.faults += other.faults;
        self.messages += other.messages;
        self.alarms += other.alarms;
    }
}

pub fn keep_the_rules(effort: &Effort) -> Row {
    let mut row = Row::new("random schedules in simulated time against a naive model");
    (row.false_alarms, row.missed_alarms) = (Some(0), Some(0));
    let count = std::env::var("SCHEDULES").map_or(SCHEDULES, |text| text.parse().unwrap());
    let first = effort.random().u64(..u64::MAX / 2);
    let (mut done, mut tally) = (0, Tally::default());
    while row.broken.is_empty() && effort.goes_on(done, count) {
        match round(first + done as u64) {
            Ok(more) => tally.add(more),
            Err(error) => row.broken.push(error),
        }
        done += ROUND as usize;
    }
    println!("{done} schedules from {first} on, {} alarms", tally.alarms);
    row.expect(tally.alarms > done / 4, || "the schedules hardly ever come to an alarm".into());
    row.faults = tally.faults;
    row.sent = Some(tally.messages);
    let count = |what| row.broken.iter().filter(|error| error.contains(what)).count();
    (row.false_alarms, row.missed_alarms) =
        (Some(count("false alarm")), Some(count("missed alarm")));
    row
}

/// A number of schedules, on several threads.
fn round(first: u64) -> Result<Tally, String> {
    std::thread::scope(|scope| {
        let work = |thread| {
            scope.spawn(move || {
                let mut tally = Tally::default();
                for seed in (first + thread..first + ROUND).step_by(THREADS as usize) {
                    let done = Schedule::of(seed).run();
                    tally.add(done.or_else(|_| explain(seed))?);
                }
                Ok::<Tally, String>(tally)
            })
        };
        let workers: Vec<_> = (0..THREADS).map(work).collect();
        let mut tally = Tally::default();
        for worker in workers {
            tally.add(worker.join().expect("a schedule's panic is caught")?);
        }
        Ok(tally)
    })
}

fn explain(seed: u64) -> Result<Tally, String> {
    let short = Schedule::of(seed).shortened();
    let steps: Vec<String> = short.steps.iter().map(|step| format!("  {step:?}")).collect();
    let (devices, steps) = (&short.devices, steps.join("\n"));
    short.run().map_err(|error| format!("schedule {seed}, {devices:?}\n{steps}\n{error}"))
}
