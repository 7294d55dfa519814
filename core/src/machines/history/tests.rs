//! Timetables of the machine, and a naive model that computes uptime from the raw events.

use super::*;
use crate::model::history::uptime::{DeviceHistory, TimeAccount};
use crate::model::history::{DAY, Date};
use proptest::prelude::*;

const T: fn(u64) -> Duration = Duration::from_secs;

fn lamp() -> DeviceName {
    DeviceName::new("lamp").unwrap()
}

/// A machine without records of earlier runs, that watches since 100.
fn watching() -> Recorder {
    let mut history = Recorder::new();
    history.opened(HistorySnapshot::default(), [&lamp()].into_iter(), T(100));
    history.watching(T(100));
    history.next_batch(T(100)).unwrap();
    history.saved();
    history
}

fn alarmed(begin: u64, reason: Reason) -> ObservedStanding {
    ObservedStanding {
        alarm: Some((T(begin), reason)),
        last_contact: Some(T(begin - 30)),
        ..ObservedStanding::default()
    }
}

fn heard(at: u64) -> ObservedStanding {
    ObservedStanding { last_contact: Some(T(at)), ..ObservedStanding::default() }
}

/// Kinds, beginnings, ends and causes of the episodes in the next batch.
fn recorded(
    history: &mut Recorder,
    at: u64,
) -> Vec<(EpisodeKind, u64, Option<u64>, Option<Ending>)> {
    let batch = history.next_batch(T(at));
    history.saved();
    let episodes = batch.into_iter().flat_map(|batch| batch.episodes);
    episodes
        .map(|episode| {
            let end = episode.end.map(|end| end.as_secs());
            (episode.kind, episode.begin.as_secs(), end, episode.ended_by)
        })
        .collect()
}

#[test]
fn an_alarm_is_recorded_at_its_beginning_and_at_its_end_under_one_id() {
    let mut history = watching();
    history.observe(&lamp(), &alarmed(200, Reason::Silent), T(200));
    let begun = history.next_batch(T(200)).unwrap();
    history.saved();
    history.observe(&lamp(), &alarmed(200, Reason::Silent), T(201));
    assert_eq!(history.next_batch(T(201)), None, "nothing has changed");
    history.observe(&lamp(), &heard(260), T(260));
    let over = history.next_batch(T(260)).unwrap();
    let [begun, over] = [&begun.episodes[0], &over.episodes[0]];
    let expected = EpisodeRecord {
        id: begun.id,
        device: Some(lamp()),
        kind: EpisodeKind::Alarm,
        reason: Some(Reason::Silent),
        begin: T(200),
        end: None,
        last_contact: Some(T(170)),
        ended_by: None,
    };
    assert_eq!(*begun, expected);
    let expected = EpisodeRecord { end: Some(T(260)), ended_by: Some(Ending::Contact), ..expected };
    assert_eq!(*over, expected);
}

#[test]
fn one_batch_is_outstanding_and_what_comes_meanwhile_is_joined() {
    let mut history = watching();
    history.observe(&lamp(), &alarmed(200, Reason::Silent), T(200));
    history.next_batch(T(200)).unwrap();
    history.observe(&lamp(), &heard(210), T(210));
    history.observe(&lamp(), &alarmed(250, Reason::Silent), T(250));
    history.observe(&lamp(), &heard(260), T(260));
    assert_eq!(history.next_batch(T(260)), None);
    history.saved();
    assert_eq!(history.next_batch(T(261)).unwrap().episodes.len(), 2);
}

#[test]
fn a_cause_upstream_is_noted_apart_and_the_last_reason_stays_with_the_alarm() {
    let mut history = watching();
    history.observe(&lamp(), &alarmed(200, Reason::Upstream), T(200));
    recorded(&mut history, 200);
    history.observe(&lamp(), &alarmed(200, Reason::Silent), T(240));
    let batch = history.next_batch(T(240)).unwrap();
    let seen: Vec<_> =
        batch.episodes.iter().map(|episode| (episode.kind, episode.reason, episode.end)).collect();
    assert_eq!(
        seen,
        [
            (EpisodeKind::Alarm, Some(Reason::Silent), None),
            (EpisodeKind::Upstream, None, Some(T(240))),
        ]
    );
}

#[test]
fn disabling_ends_an_alarm_and_leaving_counts_as_disabled() {
    use EpisodeKind::{Alarm, Disabled};
    let mut history = watching();
    history.observe(&lamp(), &alarmed(200, Reason::Silent), T(200));
    recorded(&mut history, 200);
    history.observe(&lamp(), &ObservedStanding { is_disabled: true, ..heard(170) }, T(220));
    assert_eq!(
        recorded(&mut history, 220),
        [(Alarm, 200, Some(220), Some(Ending::Disabled)), (Disabled, 220, None, None)]
    );
    history.left(&lamp(), T(230));
    assert_eq!(recorded(&mut history, 230), [], "it is disabled already");
    history.observe(&lamp(), &ObservedStanding::default(), T(300));
    assert_eq!(recorded(&mut history, 300), [(Disabled, 220, Some(300), Some(Ending::Enabled))]);
    history.observe(&lamp(), &alarmed(400, Reason::Silent), T(400));
    history.left(&lamp(), T(410));
    assert_eq!(
        recorded(&mut history, 410),
        [(Alarm, 400, Some(410), Some(Ending::Removed)), (Disabled, 410, None, None)]
    );
}

#[test]
fn what_happens_before_the_earlier_records_are_known_waits_for_them() {
    let mut history = Recorder::new();
    history.watching(T(1_005));
    history.observe(&lamp(), &alarmed(500, Reason::Silent), T(1_001));
    history.observe(&lamp(), &heard(1_010), T(1_010));
    assert!(!history.is_due() && history.last_batch(T(1_011)).is_none());
    let gone = DeviceName::new("gone").unwrap();
    let open = EpisodeRecord { id: 9, device: Some(lamp()), ..begun_at(500) };
    let snapshot = HistorySnapshot {
        open: vec![open],
        mark: Some(T(900)),
        last_id: 9,
        known: vec![lamp(), gone.clone()],
    };
    history.opened(snapshot, [&lamp()].into_iter(), T(1_020));
    history.all_known([&lamp()].into_iter());
    let batch = history.next_batch(T(1_020)).unwrap();
    let seen: Vec<_> = batch
        .episodes
        .iter()
        .map(|episode| (episode.id, episode.kind, episode.begin, episode.end))
        .collect();
    assert_eq!(
        seen,
        [
            (9, EpisodeKind::Alarm, T(500), Some(T(1_010))),
            (10, EpisodeKind::NotRunning, T(900), Some(T(1_005))),
            (11, EpisodeKind::Disabled, T(900), None),
        ]
    );
    assert_eq!(batch.episodes[2].device, Some(gone));
    assert_eq!(batch.known, [(lamp(), T(1_020))]);
}

fn begun_at(begin: u64) -> EpisodeRecord {
    let mut history = Recorder::new();
    history.begin(None, EpisodeKind::Alarm, T(begin))
}

#[test]
fn an_alarm_that_began_later_is_another_one() {
    let mut history = Recorder::new();
    let open = EpisodeRecord { id: 9, device: Some(lamp()), ..begun_at(500) };
    let snapshot = HistorySnapshot { open: vec![open], last_id: 9, ..HistorySnapshot::default() };
    history.opened(snapshot, [&lamp()].into_iter(), T(1_000));
    history.observe(&lamp(), &alarmed(800, Reason::Silent), T(1_000));
    let seen = recorded(&mut history, 1_000);
    assert_eq!(seen[0], (EpisodeKind::Alarm, 500, Some(800), Some(Ending::Unseen)));
    assert_eq!(seen[2], (EpisodeKind::Alarm, 800, None, None));
}

#[test]
fn the_time_before_a_run_follows_the_clock_that_is_set_after_the_start() {
    // A machine without a clock of its own starts in the past.
    let mut history = Recorder::new();
    let snapshot = HistorySnapshot { mark: Some(T(50_000)), ..HistorySnapshot::default() };
    history.opened(snapshot, [&lamp()].into_iter(), T(100));
    history.watching(T(110));
    let seen = recorded(&mut history, 120);
    assert_eq!(seen, [(EpisodeKind::NotRunning, 50_000, Some(50_000), Some(Ending::Back))]);
    history.observe(&lamp(), &alarmed(130, Reason::Silent), T(130));
    recorded(&mut history, 130);
    history.follow_clock(ClockStep { started: T(90), from: T(140), to: T(60_140) });
    let batch = history.next_batch(T(60_140)).unwrap();
    let seen: Vec<_> = batch.episodes.iter().map(|episode| (episode.begin, episode.end)).collect();
    assert_eq!(seen, [(T(50_000), Some(T(60_110))), (T(60_130), None)]);
    assert_eq!(batch.steps.len(), 1, "the times since which devices are known follow too");
}

/// The clock of this run has been behind, so that it shows times of the last one again.
#[test]
fn what_an_earlier_run_has_recorded_stays_when_the_clock_is_set() {
    let mut history = Recorder::new();
    let open = EpisodeRecord { id: 9, device: Some(lamp()), ..begun_at(45_000) };
    let snapshot = HistorySnapshot {
        open: vec![open],
        mark: Some(T(50_000)),
        last_id: 9,
        ..HistorySnapshot::default()
    };
    history.opened(snapshot, [&lamp()].into_iter(), T(40_000));
    history.observe(&lamp(), &alarmed(45_000, Reason::Silent), T(40_000));
    recorded(&mut history, 40_000);
    let step = |from, to| ClockStep { started: T(40_000), from: T(from), to: T(to) };
    history.follow_clock(step(51_000, 61_000));
    // The device's own times have followed.
    history.observe(&lamp(), &alarmed(55_000, Reason::Silent), T(61_000));
    assert_eq!(recorded(&mut history, 61_000), []);
    history.watching(T(61_000));
    let seen = recorded(&mut history, 61_000);
    assert_eq!(seen, [(EpisodeKind::NotRunning, 50_000, Some(61_000), Some(Ending::Back))]);
}

#[test]
fn a_disk_that_fails_for_long_keeps_no_more_than_so_much_waiting() {
    let mut history = watching();
    history.interval_passed();
    history.next_batch(T(100)).unwrap();
    for number in 0..20_000 {
        let at = 200 + 10 * number;
        history.observe(&lamp(), &alarmed(at, Reason::Silent), T(at));
        history.observe(&lamp(), &heard(at + 5), T(at + 5));
        history.restarted(RestartRecord {
            agent: lamp(),
            time: T(at),
            exit: None,
            memory_peak: None,
        });
    }
    assert!(!history.takes_tallies(), "they are counted on where they are");
    history.saved();
    let batch = history.next_batch(T(300_000)).unwrap();
    assert_eq!((batch.episodes.len(), batch.restarts.len()), (MOST_WAITING, MOST_WAITING));
}

/// A gateway takes everything behind it along.
#[test]
fn all_devices_may_change_in_one_turn_and_change_back_in_another() {
    let names: Vec<_> =
        (0..6_000).map(|it| DeviceName::new(format!("lamp{it}")).unwrap()).collect();
    let mut history = Recorder::new();
    history.opened(HistorySnapshot::default(), names.iter(), T(100));
    history.watching(T(100));
    recorded(&mut history, 100);
    for name in &names {
        history.observe(name, &alarmed(200, Reason::Upstream), T(200));
    }
    assert_eq!(recorded(&mut history, 200).len(), 12_000);
    history.interval_passed();
    history.next_batch(T(250)).unwrap();
    // This comes while the disk does not answer.
    for name in &names {
        history.observe(name, &heard(260), T(260));
        history.observe(name, &alarmed(300, Reason::Upstream), T(300));
    }
    history.saved();
    let seen = recorded(&mut history, 300);
    let count = |end| seen.iter().filter(|it| it.2 == end).count();
    assert_eq!((count(Some(260)), count(None)), (12_000, 12_000));
}

#[test]
fn a_new_store_gets_what_is_open() {
    let mut history = watching();
    history.observe(&lamp(), &alarmed(200, Reason::Silent), T(200));
    recorded(&mut history, 200);
    for at in [300, 310, 320] {
        history.begins_anew([&lamp()].into_iter(), T(at));
    }
    let batch = history.next_batch(T(320)).unwrap();
    assert_eq!(batch.episodes.len(), 1);
    assert_eq!(batch.known, [(lamp(), T(300))]);
}

#[test]
fn nothing_of_a_forgotten_device_is_recorded() {
    let mut history = watching();
    let oven = DeviceName::new("oven").unwrap();
    history.observe(&lamp(), &alarmed(200, Reason::Silent), T(200));
    recorded(&mut history, 200);
    history.joined(&oven, T(210));
    for name in [&lamp(), &oven] {
        history.count(name, 0, ContactTally::default(), None);
        history.restarted(RestartRecord {
            agent: name.clone(),
            time: T(210),
            exit: None,
            memory_peak: None,
        });
        history.observe(name, &ObservedStanding { is_disabled: true, ..heard(170) }, T(220));
    }
    history.forgotten(&lamp());
    history.joined(&lamp(), T(230));
    let batch = history.next_batch(T(230)).unwrap();
    assert_eq!(batch.forgotten, [lamp()]);
    assert_eq!(batch.known, [(lamp(), T(230)), (oven.clone(), T(210))]);
    let of: Vec<_> = batch.episodes.iter().map(|it| it.device.clone()).collect();
    assert_eq!(of, [Some(oven.clone())]);
    assert_eq!((batch.tallies.len(), batch.restarts.len()), (1, 1));
    assert_eq!((&batch.tallies[0].device, &batch.restarts[0].agent), (&oven, &oven));
    history.saved();
    history.begins_anew([&lamp()].into_iter(), T(300));
    let batch = history.next_batch(T(300)).unwrap();
    assert!(batch.episodes.iter().all(|it| it.device == Some(oven.clone())), "it is not open");
}

#[test]
fn a_device_that_is_forgotten_before_the_records_are_known_has_not_left() {
    let mut history = Recorder::new();
    history.forgotten(&lamp());
    let snapshot = HistorySnapshot { known: vec![lamp()], ..HistorySnapshot::default() };
    history.opened(snapshot, std::iter::empty(), T(100));
    history.all_known(std::iter::empty());
    let batch = history.next_batch(T(100)).unwrap();
    assert!(batch.episodes.iter().all(|it| it.device.is_none()));
    assert_eq!(batch.forgotten, [lamp()]);
}

/// What can happen, each after some seconds.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Expires(bool),
    CauseChanges(bool),
    Speaks,
    Disabled,
    Enabled,
    AgentFails,
    AgentHealthy,
    BrokerLost,
    BrokerBack,
    /// The process is killed, or ends; the next one has its records at once, or after what happens
    /// next.
    Restarts {
        killed: bool,
        away: u64,
        late: bool,
    },
    ClockSteps(i64),
    /// Alerts are silenced: no notification is sent, and nothing else changes.
    Silenced,
}

/// The disk: the last version of each record.
#[derive(Default)]
struct KeptRecords {
    episodes: BTreeMap<u64, EpisodeRecord>,
    mark: Option<Duration>,
    last_id: u64,
    since: Option<Duration>,
}

impl KeptRecords {
    fn write(&mut self, batch: HistoryBatch) {
        self.episodes.extend(batch.episodes.into_iter().map(|episode| (episode.id, episode)));
        (self.mark, self.last_id) = (Some(batch.mark), batch.last_id);
        for step in batch.steps {
            self.since = self.since.map(|since| step.follow(since));
        }
        for (_, since) in batch.known {
            self.since.get_or_insert(since);
        }
    }

    fn snapshot(&self) -> HistorySnapshot {
        let open = self.episodes.values().filter(|episode| episode.end.is_none());
        HistorySnapshot {
            open: open.cloned().collect(),
            mark: self.mark,
            last_id: self.last_id,
            known: self.since.iter().map(|_| lamp()).collect(),
        }
    }
}

/// The naive model: what was on from when to when, in seconds of the wall clock, without any rule
/// of the machine but that times of this run move with the clock while they are open.
#[derive(Default)]
struct Naive {
    stretches: Vec<(&'static str, i64, Option<i64>)>,
    /// The number of those that began in earlier runs.
    earlier: usize,
}

impl Naive {
    fn set(&mut self, what: &'static str, on: bool, at: i64) {
        let open = self.stretches.iter_mut().find(|(of, _, end)| *of == what && end.is_none());
        match (open, on) {
            (None, true) => self.stretches.push((what, at, None)),
            (Some(open), false) => open.2 = Some(at),
            (None, false) | (Some(_), true) => {}
        }
    }

    fn step(&mut self, run_began: i64, now: i64, by: i64) {
        let is_of_this_run = |time: i64| (run_began..=now).contains(&time);
        for (what, begin, end) in self.stretches.iter_mut().skip(self.earlier) {
            match end {
                None if *what != "away" && is_of_this_run(*begin) => *begin += by,
                // The time before the run was not measured by this run's clock.
                Some(end) if *what == "away" && is_of_this_run(*end) => *end += by,
                None | Some(_) => {}
            }
        }
    }

    /// Disabled, unwatched, alarm and upstream in seconds.
    fn account(&self, from: i64, to: i64) -> [u64; 4] {
        let mut sums = [0; 4];
        for second in from..to {
            let is_on = |what| {
                self.stretches.iter().any(|(of, begin, end)| {
                    *of == what && *begin <= second && end.is_none_or(|end| end > second)
                })
            };
            if is_on("disabled") {
                sums[0] += 1;
            } else if is_on("deaf") || is_on("away") {
                sums[1] += 1;
            } else if is_on("failing") {
                sums[2] += 1;
            } else if is_on("alarm") {
                sums[2] += 1;
                sums[3] += u64::from(is_on("upstream"));
            }
        }
        sums
    }
}

/// A house with one device, its machine and its disk, and the naive model beside them.
struct World {
    history: Recorder,
    disk: KeptRecords,
    naive: Naive,
    standing: ObservedStanding,
    is_deaf: bool,
    is_late: bool,
    changed_at: i64,
    run_began: i64,
    began: i64,
    wall: i64,
}

fn time(seconds: i64) -> Duration {
    T(u64::try_from(seconds).unwrap())
}

/// Just before a leap day.
const START: i64 = 951_782_400 - 600;

impl World {
    fn new() -> Self {
        let mut world = Self {
            history: Recorder::new(),
            disk: KeptRecords::default(),
            naive: Naive::default(),
            standing: ObservedStanding::default(),
            is_deaf: false,
            is_late: false,
            changed_at: START,
            run_began: START,
            began: START,
            wall: START,
        };
        world.open();
        world.show(START);
        world.history.watching(time(START));
        world.write();
        world
    }

    fn write(&mut self) {
        if let Some(batch) = self.history.next_batch(time(self.wall)) {
            self.disk.write(batch);
            self.history.saved();
        }
    }

    fn show(&mut self, at: i64) {
        self.history.observe(&lamp(), &self.standing, time(at));
    }

    fn open(&mut self) {
        if !self.history.is_known() {
            let snapshot = self.disk.snapshot();
            self.history.opened(snapshot, [&lamp()].into_iter(), time(self.wall));
            self.show(self.changed_at);
        }
    }

    fn change(&mut self) {
        let now = self.wall;
        self.changed_at = now;
        self.show(now);
        let ObservedStanding { is_disabled, alarm, is_failing, .. } = self.standing;
        let is_upstream = alarm.is_some_and(|(_, reason)| reason == Reason::Upstream);
        for (what, on) in [
            ("disabled", is_disabled),
            ("alarm", alarm.is_some()),
            ("upstream", is_upstream),
            ("failing", is_failing && !is_disabled),
        ] {
            self.naive.set(what, on, now);
        }
    }

    fn happens(&mut self, happening: Happening) {
        let now = self.wall;
        let reason = |upstream| if upstream { Reason::Upstream } else { Reason::Silent };
        match happening {
            Happening::Expires(upstream) => {
                if !self.standing.is_disabled && self.standing.alarm.is_none() {
                    self.standing.alarm = Some((time(now), reason(upstream)));
                    self.change();
                }
            }
            Happening::CauseChanges(upstream) => {
                self.standing.alarm = self.standing.alarm.map(|(at, _)| (at, reason(upstream)));
                self.change();
            }
            Happening::Speaks => {
                self.standing.last_contact = Some(time(now));
                self.standing.alarm = None;
                self.change();
            }
            Happening::Disabled | Happening::Enabled => {
                self.standing.is_disabled = matches!(happening, Happening::Disabled);
                self.standing.alarm = None;
                self.change();
            }
            Happening::AgentFails | Happening::AgentHealthy => {
                self.standing.is_failing = matches!(happening, Happening::AgentFails);
                self.change();
            }
            Happening::BrokerLost => {
                if !self.is_deaf {
                    self.is_deaf = true;
                    self.history.deaf(time(now));
                    self.naive.set("deaf", true, now);
                }
            }
            Happening::BrokerBack => self.back(),
            Happening::Restarts { killed, away, late } => self.restart(killed, away, late),
            Happening::ClockSteps(by) => self.step(by),
            Happening::Silenced => {}
        }
        if !std::mem::take(&mut self.is_late) {
            self.open();
        }
        self.write();
    }

    fn back(&mut self) {
        self.is_deaf = false;
        self.history.watching(time(self.wall));
        self.naive.set("deaf", false, self.wall);
        self.naive.set("away", false, self.wall);
    }

    fn restart(&mut self, killed: bool, away: u64, late: bool) {
        self.open();
        self.write();
        if !killed && let Some(batch) = self.history.last_batch(time(self.wall)) {
            self.disk.write(batch);
        }
        let mark = i64::try_from(self.disk.mark.unwrap().as_secs()).unwrap();
        assert!(self.wall - mark <= 600, "a killed monitor has run no longer than it said");
        self.naive.set("deaf", false, self.wall);
        self.naive.set("away", false, mark);
        self.naive.earlier = self.naive.stretches.len();
        self.naive.set("away", true, mark);
        self.wall += i64::try_from(away).unwrap();
        (self.run_began, self.changed_at) = (self.wall, self.wall);
        (self.history, self.is_deaf, self.is_late) = (Recorder::new(), true, late);
    }

    fn step(&mut self, by: i64) {
        self.open();
        self.write();
        let to = self.wall + by;
        let step = ClockStep { started: time(self.run_began), from: time(self.wall), to: time(to) };
        self.history.follow_clock(step);
        self.standing.alarm = self.standing.alarm.map(|(at, why)| (step.follow(at), why));
        self.standing.last_contact = self.standing.last_contact.map(|at| step.follow(at));
        self.naive.step(self.run_began, self.wall, by);
        if (self.run_began..=self.wall).contains(&self.began) {
            self.began += by;
        }
        self.run_began += by;
        self.changed_at += by;
        self.wall = to;
    }

    /// Time passes, with the mark at each interval.
    fn pass(&mut self, seconds: u64) {
        let until = self.wall + i64::try_from(seconds).unwrap();
        while self.wall < until {
            self.wall = (self.wall + 300).min(until);
            if self.history.is_known() {
                self.history.interval_passed();
                self.write();
            }
        }
    }

    fn check(&self) {
        let episodes: Vec<EpisodeRecord> = self.disk.episodes.values().cloned().collect();
        let history =
            DeviceHistory { since: self.disk.since, episodes, ..DeviceHistory::default() };
        assert_eq!(history.since, Some(time(self.began)));
        for length in [1, 900, DAY, 4 * DAY] {
            let window = history.window(T(length), time(self.wall));
            let TimeAccount { disabled, unwatched, alarm, upstream, .. } =
                TimeAccount::of(window, &history.episodes);
            let seconds = |at: Duration| i64::try_from(at.as_secs()).unwrap();
            let expected = self.naive.account(seconds(window.begin), seconds(window.end));
            assert_eq!(
                [disabled, unwatched, alarm, upstream].map(|time| time.as_secs()),
                expected,
                "in the last {length} s"
            );
        }
        let days = history.last_days(8, time(self.wall));
        let sum = days.iter().map(|day| day.account.alarm).sum::<Duration>();
        let whole = history.account(T(8 * DAY), time(self.wall));
        if Date::of(time(self.began)) >= days[0].date {
            assert_eq!(sum, whole.alarm, "each day counts its own part");
        }
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        any::<bool>().prop_map(Happening::Expires),
        any::<bool>().prop_map(Happening::CauseChanges),
        Just(Happening::Speaks),
        Just(Happening::Speaks),
        Just(Happening::Disabled),
        Just(Happening::Enabled),
        Just(Happening::AgentFails),
        Just(Happening::AgentHealthy),
        Just(Happening::BrokerLost),
        Just(Happening::BrokerBack),
        Just(Happening::BrokerBack),
        Just(Happening::Silenced),
        (any::<bool>(), 0_u64..2_000, any::<bool>())
            .prop_map(|(killed, away, late)| Happening::Restarts { killed, away, late }),
        (61_i64..5_000).prop_map(Happening::ClockSteps),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn uptime_from_the_records_is_that_of_the_raw_events(
        happenings in prop::collection::vec((happening(), 1_u64..2_500), 1..40),
    ) {
        let mut world = World::new();
        for (happening, pause) in happenings {
            world.happens(happening);
            world.pass(pause);
        }
        world.open();
        world.write();
        world.check();
    }
}
