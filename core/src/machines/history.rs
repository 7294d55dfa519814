//! Follows what happens to devices and to the monitor, and makes records of it.
//!
//! The machine is shown the standing of a device whenever that may have changed, and compares it
//! with the episodes that it knows to be open. A change that it was not shown therefore becomes
//! visible with the next one, and a standing that is shown twice changes nothing.
//!
//! Before the records of earlier runs are known, nothing can be compared: what is shown by then
//! waits. Everything that waits is bounded, because a disk may fail for as long as it likes. What
//! exceeds a bound is not recorded, and nothing else follows from that.

#[cfg(test)]
mod tests;

use crate::model::alert::Reason;
use crate::model::device_name::DeviceName;
use crate::model::history::{
    ContactTally, Ending, EpisodeKind, EpisodeRecord, HistoryBatch, HistorySnapshot, HourTally,
    RestartRecord, UsageTally,
};
use crate::model::time::ClockStep;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

/// The interval at which contacts are recorded, and the mark until which the monitor has run. It
/// divides the hour, so that no contact is counted in another one.
pub const TALLY_INTERVAL: Duration = Duration::from_secs(600);

/// An alarm that began this much later than the open one is another.
const SAME_ALARM: Duration = Duration::from_secs(2);

/// Records of one kind that wait at the same time, at most. Episodes that last, and ends of those
/// that a batch has had, are not counted: there are no more of them than devices allow.
const MOST_WAITING: usize = 10_000;

/// What a device is at a moment, as far as it is recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObservedStanding {
    pub is_disabled: bool,
    /// The beginning and the reason of its alarm.
    pub alarm: Option<(Duration, Reason)>,
    pub is_failing: bool,
    pub last_contact: Option<Duration>,
}

/// Something that happened before the records of earlier runs were known.
#[derive(Debug)]
enum Early {
    Standing(DeviceName, ObservedStanding, Duration),
    Left(DeviceName, Duration),
    Forgotten(DeviceName),
    Deaf(Duration),
    Watching(Duration),
}

impl Early {
    fn follow(&mut self, step: ClockStep) {
        let at = match self {
            Self::Standing(_, standing, at) => {
                standing.alarm = standing.alarm.map(|(begin, why)| (step.follow(begin), why));
                standing.last_contact = standing.last_contact.map(|contact| step.follow(contact));
                at
            }
            Self::Forgotten(_) => return,
            Self::Left(_, at) | Self::Deaf(at) | Self::Watching(at) => at,
        };
        *at = step.follow(*at);
    }
}

/// What is known of the past and not recorded yet.
#[derive(Debug, Default)]
pub struct Recorder {
    /// `None` once the records of earlier runs are known.
    early: Option<Vec<Early>>,
    /// Recorded devices that are not in the configuration, until those that are learned are known;
    /// and the mark, since which they may have been gone.
    absent: Vec<DeviceName>,
    earlier_mark: Duration,
    /// The open episodes of each device that has any.
    open: BTreeMap<DeviceName, Vec<EpisodeRecord>>,
    /// The open episode in which nothing can be heard.
    unwatched: Option<EpisodeRecord>,
    /// The time before this run, whose end follows the clock after it has ended.
    before_run: Option<EpisodeRecord>,
    /// There is no earlier run, so that time began in this one.
    is_first_run: bool,
    last_id: u64,
    /// The last number of an episode of an earlier run, and of one that a batch may have had.
    earlier_id: u64,
    batched_id: u64,
    /// Alarms of earlier runs that have not been seen in this one.
    unseen: BTreeSet<u64>,
    episodes: BTreeMap<u64, EpisodeRecord>,
    /// Those among them that began and ended since the last batch.
    brief: usize,
    tallies: Vec<HourTally>,
    restarts: Vec<RestartRecord>,
    known: BTreeMap<DeviceName, Duration>,
    steps: Vec<ClockStep>,
    forgotten: Vec<DeviceName>,
    is_urgent: bool,
    is_outstanding: bool,
}

impl Recorder {
    /// A history whose earlier records are not known yet.
    #[must_use]
    pub fn new() -> Self {
        Self { early: Some(Vec::new()), ..Self::default() }
    }

    /// Whether the records of earlier runs are known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.early.is_none()
    }

    /// Takes over the records of earlier runs. Until the devices can be heard, nothing was heard
    /// since the mark. `devices` are those that are known by now; see [`Self::all_known`].
    pub fn opened<'a>(
        &mut self,
        snapshot: HistorySnapshot,
        devices: impl Iterator<Item = &'a DeviceName>,
        wall: Duration,
    ) {
        let Some(early) = self.early.take() else { return };
        self.last_id = snapshot.last_id;
        (self.earlier_id, self.batched_id) = (snapshot.last_id, snapshot.last_id);
        self.is_first_run = snapshot.mark.is_none();
        let mark = snapshot.mark.unwrap_or(wall);
        let alarms = snapshot.open.iter().filter(|it| it.kind == EpisodeKind::Alarm);
        self.unseen = alarms.map(|episode| episode.id).collect();
        for mut episode in snapshot.open {
            match &episode.device {
                Some(name) => add(self.open.entry(name.clone()).or_default(), episode),
                None => {
                    end(&mut episode, mark, Ending::Unseen);
                    self.record(&episode);
                }
            }
        }
        let begun = self.begin(None, EpisodeKind::NotRunning, mark);
        self.record(&begun);
        self.unwatched = Some(begun);
        self.absent = snapshot.known;
        self.earlier_mark = mark;
        self.known.extend(devices.map(|name| (name.clone(), wall)));
        self.is_urgent = true;
        for event in early {
            match event {
                Early::Standing(name, standing, at) => self.observe(&name, &standing, at),
                Early::Left(name, at) => self.left(&name, at),
                Early::Forgotten(name) => self.forgotten(&name),
                Early::Deaf(at) => self.deaf(at),
                Early::Watching(at) => self.watching(at),
            }
        }
    }

    /// These are all devices: other recorded ones have left since the mark.
    pub fn all_known<'a>(&mut self, devices: impl Iterator<Item = &'a DeviceName>) {
        if self.early.is_some() || self.absent.is_empty() {
            return;
        }
        let known: BTreeSet<&DeviceName> = devices.collect();
        for name in std::mem::take(&mut self.absent) {
            if !known.contains(&name) {
                self.left(&name, self.earlier_mark);
            }
        }
    }

    /// A new store lacks everything: what is open is recorded again, and what was over is lost.
    pub fn begins_anew<'a>(
        &mut self,
        devices: impl Iterator<Item = &'a DeviceName>,
        wall: Duration,
    ) {
        if self.early.is_some() {
            return;
        }
        let open: Vec<EpisodeRecord> =
            self.open.values().flatten().chain(&self.unwatched).cloned().collect();
        for episode in &open {
            self.record(episode);
        }
        for name in devices {
            self.known.entry(name.clone()).or_insert(wall);
        }
        self.is_urgent = true;
    }

    /// Waits, where it is too early to compare.
    fn wait(&mut self, event: impl FnOnce() -> Early) -> bool {
        let Some(early) = &mut self.early else { return false };
        if early.len() < MOST_WAITING {
            early.push(event());
        }
        true
    }

    /// Compares what a device is with what is open, and records the difference as of this time.
    pub fn observe(&mut self, name: &DeviceName, standing: &ObservedStanding, at: Duration) {
        if self.wait(|| Early::Standing(name.clone(), *standing, at)) {
            return;
        }
        let mut open = self.open.remove(name).unwrap_or_default();
        let alarm = standing.alarm.filter(|_| !standing.is_disabled);
        let is_upstream = alarm.is_some_and(|(_, reason)| reason == Reason::Upstream);
        let is_failing = standing.is_failing && !standing.is_disabled;
        let wanted = [
            (EpisodeKind::Disabled, standing.is_disabled.then_some((at, None))),
            (EpisodeKind::Alarm, alarm.map(|(begin, reason)| (begin, Some(reason)))),
            (EpisodeKind::Upstream, is_upstream.then_some((at, None))),
            (EpisodeKind::AgentFailed, is_failing.then_some((at, None))),
        ];
        if let Some((begin, _)) = alarm {
            self.end_earlier_alarm(&mut open, begin);
        }
        for (kind, wanted) in wanted {
            let place = open.iter().position(|episode| episode.kind == kind);
            match (place, wanted) {
                (None, None) => {}
                (None, Some((begin, reason))) => {
                    let last_contact = standing.last_contact.filter(|contact| *contact <= begin);
                    let begun = self.begin(Some(name.clone()), kind, begin);
                    let begun = EpisodeRecord { reason, last_contact, ..begun };
                    self.record(&begun);
                    add(&mut open, begun);
                }
                (Some(place), Some((_, reason))) => {
                    if open[place].reason != reason {
                        open[place].reason = reason;
                        self.record(&open[place]);
                    }
                }
                (Some(place), None) => {
                    let mut over = open.swap_remove(place);
                    let by = ending_of(&over, standing);
                    end(&mut over, at, by);
                    self.record(&over);
                }
            }
        }
        if !open.is_empty() {
            self.open.insert(name.clone(), open);
        }
    }

    /// Ends an alarm of an earlier run that was over before the present one began. Once it has been
    /// seen, its beginning may be another one by the clock of this run.
    fn end_earlier_alarm(&mut self, open: &mut Vec<EpisodeRecord>, begin: Duration) {
        let alarm = open.iter().find(|episode| episode.kind == EpisodeKind::Alarm);
        let Some(alarm) = alarm.filter(|alarm| self.unseen.remove(&alarm.id)) else { return };
        if alarm.begin + SAME_ALARM >= begin {
            return;
        }
        let is_of_alarm = |episode: &mut EpisodeRecord| {
            matches!(episode.kind, EpisodeKind::Alarm | EpisodeKind::Upstream)
        };
        for mut over in open.extract_if(.., is_of_alarm) {
            end(&mut over, begin, Ending::Unseen);
            self.record(&over);
        }
    }

    /// A device is in the configuration from now on.
    pub fn joined(&mut self, name: &DeviceName, at: Duration) {
        if self.early.is_none() {
            self.known.entry(name.clone()).or_insert(at);
            self.is_urgent = true;
        }
    }

    /// A device left the configuration. It counts as disabled until it is back.
    pub fn left(&mut self, name: &DeviceName, at: Duration) {
        if self.wait(|| Early::Left(name.clone(), at)) {
            return;
        }
        let mut still = Vec::new();
        for mut episode in self.open.remove(name).unwrap_or_default() {
            if episode.kind == EpisodeKind::Disabled {
                still.push(episode);
            } else {
                end(&mut episode, at, Ending::Removed);
                self.record(&episode);
            }
        }
        if still.is_empty() {
            let begun = self.begin(Some(name.clone()), EpisodeKind::Disabled, at);
            self.record(&begun);
            still.push(begun);
        }
        self.open.insert(name.clone(), still);
    }

    /// A person has the device forgotten, and its past with it.
    pub fn forgotten(&mut self, name: &DeviceName) {
        if self.wait(|| Early::Forgotten(name.clone())) {
            return;
        }
        self.open.remove(name);
        self.absent.retain(|absent| absent != name);
        self.known.remove(name);
        self.episodes.retain(|_, episode| episode.device.as_ref() != Some(name));
        self.tallies.retain(|tally| tally.device != *name);
        self.restarts.retain(|restart| restart.agent != *name);
        if self.forgotten.len() < MOST_WAITING {
            self.forgotten.push(name.clone());
            self.is_urgent = true;
        }
    }

    /// Devices can be heard from now on.
    pub fn watching(&mut self, at: Duration) {
        if self.wait(|| Early::Watching(at)) {
            return;
        }
        let Some(mut over) = self.unwatched.take() else { return };
        end(&mut over, at, Ending::Back);
        self.record(&over);
        if over.kind == EpisodeKind::NotRunning && self.before_run.is_none() {
            // Its end is kept as the clock shows it now, which may be before its beginning.
            self.before_run = Some(EpisodeRecord { end: Some(at), ..over });
        }
    }

    /// No device could be heard since this time.
    pub fn deaf(&mut self, at: Duration) {
        if self.wait(|| Early::Deaf(at)) || self.unwatched.is_some() {
            return;
        }
        let begun = self.begin(None, EpisodeKind::BrokerLost, at);
        self.record(&begun);
        self.unwatched = Some(begun);
    }

    /// No device could be heard between these times, which is noticed afterwards.
    pub fn missed(&mut self, kind: EpisodeKind, from: Duration, to: Duration) {
        if self.early.is_some() || self.unwatched.is_some() {
            return;
        }
        let mut missed = self.begin(None, kind, from);
        end(&mut missed, to, Ending::Back);
        self.record(&missed);
    }

    pub fn restarted(&mut self, restart: RestartRecord) {
        if self.restarts.len() < MOST_WAITING {
            self.restarts.push(restart);
            self.is_urgent = true;
        }
    }

    /// Contacts of a device in an hour, and what an agent has used.
    pub fn count(
        &mut self,
        device: &DeviceName,
        hour: u32,
        tally: ContactTally,
        usage: Option<UsageTally>,
    ) {
        self.tallies.push(HourTally { device: device.clone(), hour, tally, usage });
    }

    /// Whether contacts can be taken in: not while earlier ones wait for a disk that fails, so that
    /// they are counted on where they are.
    #[must_use]
    pub fn takes_tallies(&self) -> bool {
        self.early.is_none() && self.tallies.is_empty() && !self.is_outstanding
    }

    /// The wall clock has stepped: what this run has begun, and what it is in the middle of, moves
    /// with the clock. What was over before the step keeps the times that the clock showed.
    pub fn follow_clock(&mut self, step: ClockStep) {
        for event in self.early.iter_mut().flatten() {
            event.follow(step);
        }
        // The time before the run began on the clock of an earlier one, if there was one.
        let is_first_run = self.is_first_run;
        let unwatched = self.unwatched.as_mut();
        let unwatched = unwatched.filter(|it| is_first_run || it.kind != EpisodeKind::NotRunning);
        let open = self.open.values_mut().flatten().chain(unwatched);
        for episode in open.filter(|episode| episode.id > self.earlier_id) {
            let begin = step.follow(episode.begin);
            if begin != episode.begin {
                episode.begin = begin;
                episode.last_contact = episode.last_contact.map(|contact| step.follow(contact));
                self.episodes.insert(episode.id, episode.clone());
            }
        }
        if let Some(before) = &mut self.before_run {
            before.end = before.end.map(|end| step.follow(end));
            if self.is_first_run {
                before.begin = step.follow(before.begin);
            }
            let end = before.end.map(|end| end.max(before.begin));
            self.episodes.insert(before.id, EpisodeRecord { end, ..before.clone() });
        }
        for since in self.known.values_mut() {
            *since = step.follow(*since);
        }
        if self.early.is_none() && self.steps.len() < MOST_WAITING {
            self.steps.push(step);
        }
        self.is_urgent = true;
    }

    /// The interval has passed: what waits is recorded, and if it is only the mark.
    pub fn interval_passed(&mut self) {
        self.is_urgent = true;
    }

    /// The last batch is on disk.
    pub fn saved(&mut self) {
        self.is_outstanding = false;
    }

    /// Whether a batch would go out now.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.is_urgent && !self.is_outstanding && self.early.is_none()
    }

    /// What is to be recorded now, if anything.
    pub fn next_batch(&mut self, wall: Duration) -> Option<HistoryBatch> {
        self.is_due().then(|| self.batch(wall))
    }

    /// Everything, at the end of the run.
    pub fn last_batch(&mut self, wall: Duration) -> Option<HistoryBatch> {
        self.early.is_none().then(|| self.batch(wall))
    }

    fn batch(&mut self, wall: Duration) -> HistoryBatch {
        self.is_urgent = false;
        self.is_outstanding = true;
        (self.batched_id, self.brief) = (self.last_id, 0);
        HistoryBatch {
            mark: wall,
            last_id: self.last_id,
            episodes: std::mem::take(&mut self.episodes).into_values().collect(),
            tallies: std::mem::take(&mut self.tallies),
            restarts: std::mem::take(&mut self.restarts),
            known: std::mem::take(&mut self.known).into_iter().collect(),
            steps: std::mem::take(&mut self.steps),
            forgotten: std::mem::take(&mut self.forgotten),
        }
    }

    fn begin(
        &mut self,
        device: Option<DeviceName>,
        kind: EpisodeKind,
        begin: Duration,
    ) -> EpisodeRecord {
        self.last_id += 1;
        EpisodeRecord {
            id: self.last_id,
            device,
            kind,
            reason: None,
            begin,
            end: None,
            last_contact: None,
            ended_by: None,
        }
    }

    fn record(&mut self, episode: &EpisodeRecord) {
        let is_brief = episode.end.is_some() && episode.id > self.batched_id;
        if is_brief && self.brief == MOST_WAITING {
            self.episodes.remove(&episode.id);
            return;
        }
        self.brief += usize::from(is_brief);
        self.episodes.insert(episode.id, episode.clone());
        self.is_urgent = true;
    }
}

/// Adds an episode without room for others: most devices have one, and a fleet may fall silent at once.
fn add(open: &mut Vec<EpisodeRecord>, episode: EpisodeRecord) {
    open.reserve_exact(1);
    open.push(episode);
}

/// Nothing ends before it begins, whatever the clock shows.
fn end(episode: &mut EpisodeRecord, at: Duration, by: Ending) {
    episode.end = Some(at.max(episode.begin));
    episode.ended_by = Some(by);
}

fn ending_of(over: &EpisodeRecord, standing: &ObservedStanding) -> Ending {
    match over.kind {
        EpisodeKind::Disabled => Ending::Enabled,
        _ if standing.is_disabled => Ending::Disabled,
        EpisodeKind::AgentFailed => Ending::Healthy,
        _ if standing.last_contact.is_some_and(|contact| contact >= over.begin) => Ending::Contact,
        _ => Ending::Back,
    }
}
