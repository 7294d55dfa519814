//! What is recorded of the past, from the events that bring it about.

use super::expect::{agent, device_name, watched};
use super::timetable::{House, START, millis, secs};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::{AlertKind, Reason};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::history::uptime::{DeviceHistory, TimeAccount};
use iotmonitor_core::model::history::{
    Ending, EpisodeKind, EpisodeRecord, HistoryBatch, HistorySnapshot, HourTally, RestartRecord,
    UsageTally,
};
use iotmonitor_core::model::spec::DeviceSpec;
use iotmonitor_core::model::unit::UnitUsage;
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is on the disk.
#[derive(Default)]
pub struct Past {
    pub episodes: BTreeMap<u64, EpisodeRecord>,
    pub tallies: Vec<HourTally>,
    pub restarts: Vec<RestartRecord>,
    pub known: BTreeMap<DeviceName, Duration>,
    pub mark: Option<Duration>,
    pub last_id: u64,
    pub batches: usize,
    /// Whether batches are reported to be on disk.
    pub holds: bool,
}

impl Past {
    pub fn take_in(&mut self, batch: &HistoryBatch) -> Option<Event> {
        self.batches += 1;
        for name in &batch.forgotten {
            self.known.remove(name);
            self.episodes.retain(|_, episode| episode.device.as_ref() != Some(name));
        }
        for episode in &batch.episodes {
            self.episodes.insert(episode.id, episode.clone());
        }
        for step in &batch.steps {
            self.known.values_mut().for_each(|since| *since = step.follow(*since));
        }
        for (name, since) in &batch.known {
            self.known.entry(name.clone()).or_insert(*since);
        }
        self.tallies.extend_from_slice(&batch.tallies);
        self.restarts.extend_from_slice(&batch.restarts);
        (self.mark, self.last_id) = (Some(batch.mark), batch.last_id);
        (!self.holds).then_some(Event::HistorySaved)
    }

    fn of(&self, device: &str) -> DeviceHistory {
        let name = device_name(device);
        let is_of = |episode: &&EpisodeRecord| episode.device.as_ref().is_none_or(|of| *of == name);
        DeviceHistory {
            since: self.known.get(&name).copied(),
            episodes: self.episodes.values().filter(is_of).cloned().collect(),
            ..DeviceHistory::default()
        }
    }
}

impl House {
    /// The records of earlier runs are read.
    pub fn open_history(&mut self) {
        let open = self.past.episodes.values().filter(|episode| episode.end.is_none());
        let snapshot = HistorySnapshot {
            open: open.cloned().collect(),
            mark: self.past.mark,
            last_id: self.past.last_id,
            known: self.past.known.keys().cloned().collect(),
        };
        self.happen(Event::HistoryOpened(Box::new(snapshot)));
    }

    /// How the last hour of a device was spent.
    fn last_hour(&self, device: &str) -> TimeAccount {
        self.past.of(device).account(secs(3_600), self.now().wall)
    }

    /// Kinds, reasons and lengths of the episodes of a kind.
    pub fn episodes(
        &self,
        kind: EpisodeKind,
    ) -> Vec<(Option<Reason>, Option<u64>, Option<Ending>)> {
        let episodes = self.past.episodes.values().filter(|episode| episode.kind == kind);
        episodes
            .map(|episode| {
                let length = episode.end.map(|end| (end - episode.begin).as_secs());
                (episode.reason, length, episode.ended_by)
            })
            .collect()
    }
}

fn house(devices: Vec<DeviceSpec>) -> House {
    let mut house = House::running(devices);
    house.open_history();
    house
}

/// A house whose devices are learned, with a timeout of 30 s.
fn fleet() -> House {
    let mut house = House::of(super::fleets::spec(Vec::new(), super::fleets::esp()));
    house.power_up();
    house.open_history();
    house
}

#[test]
fn an_alarm_is_an_episode_from_its_beginning_to_the_contact_that_ends_it() {
    let mut house = house(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    house.advance(secs(31));
    assert_eq!(house.episodes(EpisodeKind::Alarm), [(Some(Reason::Silent), None, None)]);
    house.advance(secs(99));
    house.hear("home/lamp/x");
    let over = (Some(Reason::Silent), Some(100), Some(Ending::Contact));
    assert_eq!(house.episodes(EpisodeKind::Alarm), [over]);
    let episode = house.past.episodes.values().find(|it| it.kind == EpisodeKind::Alarm).unwrap();
    assert_eq!((episode.begin, episode.last_contact), (secs(START + 30), Some(secs(START))));
    house.advance(secs(20));
    let TimeAccount { window, alarm, .. } = house.last_hour("lamp");
    assert_eq!((window, alarm), (secs(150), secs(100)), "it is known for no longer");
}

/// Silencing suppresses notifications alone.
#[test]
fn silencing_changes_nothing_and_disabling_does() {
    let mut house = house(vec![watched("lamp", 30), watched("oven", 30)]);
    for name in ["lamp", "oven"] {
        let device = Some(device_name(name));
        house.happen(Event::Silenced { device, span: secs(10_000) });
    }
    house.advance(secs(100));
    house.happen(Event::Disabled { device: device_name("oven") });
    house.advance(secs(100));
    assert_eq!(house.last_hour("lamp").alarm, secs(170));
    let TimeAccount { alarm, disabled, .. } = house.last_hour("oven");
    assert_eq!((alarm, disabled), (secs(70), secs(100)));
    house.happen(Event::Enabled { device: device_name("oven") });
    let endings: Vec<_> = house.episodes(EpisodeKind::Disabled);
    assert_eq!(endings, [(None, Some(100), Some(Ending::Enabled))]);
}

#[test]
fn a_device_behind_another_has_its_time_upstream_apart() {
    let mut house = house(vec![
        DeviceSpec { depends_on: vec![device_name("gateway")], ..watched("lamp", 60) },
        watched("gateway", 30),
    ]);
    house.advance(secs(100));
    let TimeAccount { alarm, upstream, .. } = house.last_hour("lamp");
    assert_eq!((alarm, upstream), (secs(40), secs(40)));
    let TimeAccount { alarm, upstream, .. } = house.last_hour("gateway");
    assert_eq!((alarm, upstream), (secs(70), secs(0)));
}

/// A device that alternates is down while it is expired, and not in between.
#[test]
fn flapping_alone_is_not_down() {
    let mut house = house(vec![watched("lamp", 30)]);
    for _ in 0..10 {
        house.hear("home/lamp/x");
        house.advance(secs(40));
    }
    house.hear("home/lamp/x");
    house.advance(secs(20));
    assert_eq!(house.count(AlertKind::Flapping), 1);
    assert_eq!(house.last_hour("lamp").alarm, secs(100));
    assert_eq!(house.episodes(EpisodeKind::Alarm).len(), 10);
    let reasons = house.episodes(EpisodeKind::Alarm);
    assert!(reasons.iter().all(|(reason, ..)| *reason == Some(Reason::Silent)));
}

#[test]
fn nothing_counts_while_the_broker_is_lost_or_does_not_answer() {
    let mut house = house(vec![watched("lamp", 600)]);
    house.advance(secs(100));
    house.lose_watch();
    house.advance(secs(50));
    house.connect_watch();
    house.advance(secs(50));
    house.happen(Event::AnsweredLate { after: secs(20) });
    let lengths: Vec<_> =
        house.episodes(EpisodeKind::BrokerLost).into_iter().map(|(_, length, _)| length).collect();
    assert_eq!(lengths, [Some(50), Some(20)]);
    assert_eq!(house.last_hour("lamp").unwatched, secs(70));
}

#[test]
fn a_suspended_machine_hears_nothing() {
    let mut house = House::running(vec![watched("lamp", 7_200)]);
    house.reboot(secs(200));
    house.power_up();
    house.open_history();
    house.advance(secs(100));
    // The clock of the boot goes on, and the monotonic one does not.
    house.booted -= secs(500);
    house.wall_step += 500;
    house.advance(secs(10));
    assert_eq!(house.last_hour("lamp").unwatched, secs(500));
}

#[test]
fn the_time_between_two_runs_is_unwatched_and_an_alarm_goes_on_over_it() {
    let mut house = house(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    house.advance(secs(130));
    house.restart();
    house.advance(secs(1_000));
    house.power_up();
    house.advance(secs(20));
    house.open_history();
    house.advance(secs(50));
    assert_eq!(house.episodes(EpisodeKind::Alarm), [(Some(Reason::Silent), None, None)]);
    let TimeAccount { alarm, unwatched, .. } = house.last_hour("lamp");
    assert_eq!((alarm, unwatched), (secs(170), secs(1_000)));
    house.hear("home/lamp/x");
    assert_eq!(house.episodes(EpisodeKind::Alarm)[0].1, Some(1_170));
}

/// What the device records say is part of what a device is, whichever is read first.
#[test]
fn records_that_are_read_before_those_of_the_devices_wait_for_them() {
    let mut house = house(vec![watched("lamp", 30), watched("oven", 30)]);
    house.happen(Event::Disabled { device: device_name("oven") });
    house.advance(secs(100));
    house.restart();
    house.advance(secs(10));
    house.open_history();
    house.connect_watch();
    house.advance(secs(40));
    house.open_store();
    house.advance(secs(50));
    assert_eq!(house.episodes(EpisodeKind::Disabled), [(None, None, None)]);
    assert_eq!(house.episodes(EpisodeKind::Alarm), [(Some(Reason::Silent), None, None)]);
    let TimeAccount { disabled, unwatched, .. } = house.last_hour("oven");
    assert_eq!((disabled, unwatched), (secs(200), secs(0)));
    let TimeAccount { alarm, unwatched, .. } = house.last_hour("lamp");
    assert_eq!((alarm, unwatched), (secs(160), secs(10)));
}

/// A disk that fails at the start may answer later.
#[test]
fn records_of_devices_that_come_late_are_compared_when_they_come() {
    let mut house = house(vec![watched("lamp", 30), watched("oven", 30)]);
    house.happen(Event::Disabled { device: device_name("oven") });
    house.advance(secs(100));
    house.restart();
    house.happen(Event::StoreFailed { error: "the disk is gone".to_owned() });
    house.open_history();
    house.connect_watch();
    house.advance(secs(10));
    house.hear("home/oven/x");
    house.advance(secs(10));
    house.open_store();
    house.advance(secs(20));
    assert_eq!(house.last_hour("oven").disabled, secs(140));
    assert_eq!(house.last_hour("lamp").alarm, secs(110));
    assert_eq!(house.episodes(EpisodeKind::Alarm), [(Some(Reason::Silent), None, None)]);
}

#[test]
fn learned_devices_that_return_with_the_store_have_not_left() {
    for fails in [false, true] {
        let mut house = fleet();
        house.hear("home/attic/sensors/t");
        house.advance(secs(40));
        house.restart();
        if fails {
            house.happen(Event::StoreFailed { error: "the disk is gone".to_owned() });
        }
        house.open_history();
        house.connect_watch();
        house.advance(secs(20));
        house.open_store();
        house.advance(secs(20));
        assert_eq!(house.episodes(EpisodeKind::Disabled), [], "{fails}");
        let alarms = house.episodes(EpisodeKind::Alarm);
        assert_eq!(alarms, [(Some(Reason::Silent), None, None)], "{fails}");
        assert_eq!(house.last_hour("attic").alarm, secs(50), "{fails}");
    }
}

#[test]
fn a_forgotten_device_leaves_no_past() {
    let mut house = fleet();
    house.hear("home/attic/sensors/t");
    house.advance(secs(40));
    assert!(house.past.known.contains_key(&device_name("attic")));
    house.happen(Event::Forgotten { device: device_name("attic") });
    house.advance(secs(700));
    house.restart();
    house.power_up();
    house.open_history();
    assert_eq!(house.past.known.len(), 0);
    assert!(house.past.episodes.values().all(|episode| episode.device.is_none()));
}

/// It is known once the devices are.
#[test]
fn a_device_that_left_between_two_runs_is_disabled_since_the_first_of_them() {
    let mut house = house(vec![watched("lamp", 30), watched("oven", 3_000)]);
    house.restart();
    house.spec.devices.remove(0);
    house.crash();
    house.advance(secs(10));
    house.open_history();
    house.advance(secs(10));
    house.open_store();
    let left = house.past.episodes.values().find(|it| it.kind == EpisodeKind::Disabled).unwrap();
    assert_eq!((&left.device, left.begin), (&Some(device_name("lamp")), secs(START)));
}

/// The bound of what waits for the records is not one for the monitor's own watching.
#[test]
fn watching_is_known_however_much_has_waited_for_the_records() {
    let mut house = House::dark(vec![watched("lamp", 30)]);
    house.open_store();
    for _ in 0..10_001 {
        house.happen(Event::Disabled { device: device_name("lamp") });
        house.happen(Event::Enabled { device: device_name("lamp") });
    }
    house.connect_watch();
    house.open_history();
    house.advance(secs(20));
    assert_eq!(house.last_hour("lamp").unwatched, secs(0));
}

/// A kill loses the time since the mark, and no episode.
#[test]
fn a_killed_monitor_has_run_until_its_last_mark() {
    let mut house = house(vec![watched("lamp", 5_000)]);
    let before = house.past.batches;
    house.advance(secs(1_500));
    let marks = house.past.batches - before;
    assert!((2..=3).contains(&marks), "{marks} batches in 25 minutes");
    let mark = house.past.mark.unwrap();
    assert_eq!(mark.as_secs() % 600, 0, "{mark:?}");
    let lost = house.now().wall - mark;
    assert!(lost <= secs(600));
    house.crash();
    house.advance(secs(100));
    house.power_up();
    house.open_history();
    assert_eq!(house.last_hour("lamp").unwatched, lost + secs(100));
}

#[test]
fn contacts_are_counted_by_the_hour_and_recorded_every_ten_minutes() {
    let mut house = house(vec![watched("lamp", 600)]);
    for _ in 0..100 {
        house.hear("home/lamp/x");
        house.advance(secs(60));
    }
    let hours: BTreeMap<u32, u32> =
        house.past.tallies.iter().fold(BTreeMap::new(), |mut sum, it| {
            *sum.entry(it.hour).or_default() += it.tally.contacts;
            sum
        });
    // The timetable begins 800 s after an hour, and the last contacts are not recorded yet.
    let first = u32::try_from(START / 3_600).unwrap();
    assert_eq!(hours[&first], 47);
    assert!(hours[&(first + 1)] >= 43 && hours.len() == 2, "{hours:?}");
    assert!(house.past.batches < 30, "{} batches", house.past.batches);
    let longest = house.past.tallies.iter().map(|it| it.tally.longest_silence).max();
    assert_eq!(longest, Some(60));
    house.happen(Event::Stopping);
    let sum: u32 = house.past.tallies.iter().map(|it| it.tally.contacts).sum();
    assert_eq!(sum, 100, "the end of the run loses none");
}

#[test]
fn restarts_of_an_agent_are_recorded_with_how_it_ended() {
    let mut house = house(vec![agent("box", 600)]);
    house.advance(secs(40));
    house.unit_restarted_by_systemd("iotmonitor-agent-box.service");
    let restarts: Vec<_> =
        house.past.restarts.iter().map(|it| (it.agent.to_string(), it.time)).collect();
    assert_eq!(restarts, [("box".to_owned(), secs(START + 40))]);
}

/// What an agent's processes have used since their start, in KiB and milliseconds.
fn measured(house: &mut House, memory: u64, peak: u64, cpu: u64) {
    let unit = UnitName::from_systemd("iotmonitor-agent-box.service");
    let invocation = house.manager.units[&unit].invocation.clone();
    house.happen(Event::UnitsMeasured(vec![UnitUsage {
        unit,
        invocation,
        memory: Some(memory * 1_024),
        memory_peak: Some(peak * 1_024),
        cpu: Some(millis(cpu)),
    }]));
}

#[test]
fn what_an_agent_uses_is_recorded_by_the_hour_and_the_peak_with_its_restart() {
    let mut house = house(vec![agent("box", 600), watched("lamp", 600)]);
    for minute in 1..=80 {
        house.advance(secs(60));
        measured(&mut house, minute, 2 * minute, 10 * minute);
    }
    house.unit_restarted_by_systemd("iotmonitor-agent-box.service");
    assert_eq!(house.past.restarts[0].memory_peak, Some(160 * 1_024));
    measured(&mut house, 5, 6, 7);
    house.unit_restarted_by_systemd("iotmonitor-agent-box.service");
    assert_eq!(house.past.restarts[1].memory_peak, Some(6 * 1_024));
    house.unit_restarted_by_systemd("iotmonitor-agent-box.service");
    assert_eq!(house.past.restarts[2].memory_peak, None, "it was not measured");
    house.happen(Event::Stopping);
    let mut hours: BTreeMap<u32, UsageTally> = BTreeMap::new();
    for tally in &house.past.tallies {
        assert_eq!((&tally.device, tally.tally.contacts), (&device_name("box"), 0));
        hours.entry(tally.hour).or_default().add(tally.usage.unwrap());
    }
    // The timetable begins 800 s after an hour.
    let used = |memory, cpu| UsageTally { memory_kib: Some(memory), cpu_millis: Some(cpu) };
    let first = u32::try_from(START / 3_600).unwrap();
    assert_eq!(hours, BTreeMap::from([(first, used(92, 460)), (first + 1, used(160, 347))]));
    // The processes go on in the next run, and are not counted a second time.
    house.restart();
    house.power_up();
    house.open_history();
    measured(&mut house, 4, 160, 1_000);
    measured(&mut house, 4, 160, 1_004);
    house.happen(Event::Stopping);
    assert_eq!(house.past.tallies.last().unwrap().usage, Some(used(4, 4)));
}

#[test]
fn a_device_that_left_is_disabled_until_it_is_back() {
    let mut house = house(vec![watched("lamp", 30), watched("oven", 3_000)]);
    house.advance(secs(100));
    house.reload(vec![watched("oven", 3_000), watched("door", 3_000)]);
    house.advance(secs(100));
    assert_eq!(
        house.episodes(EpisodeKind::Alarm),
        [(Some(Reason::Silent), Some(70), Some(Ending::Removed))]
    );
    assert_eq!(house.past.known[&device_name("door")], secs(START + 100));
    house.reload(vec![watched("lamp", 30), watched("oven", 3_000)]);
    assert_eq!(
        house.episodes(EpisodeKind::Disabled),
        [(None, Some(100), Some(Ending::Enabled)), (None, None, None)]
    );
}

#[test]
fn a_step_of_the_clock_moves_what_is_open() {
    let mut house = house(vec![watched("lamp", 30)]);
    house.advance(secs(130));
    house.wall_step = 1_000_000;
    house.advance(secs(1));
    let begin =
        house.past.episodes.values().find(|it| it.kind == EpisodeKind::Alarm).unwrap().begin;
    assert_eq!(begin, secs(START + 1_000_000 + 30));
    let TimeAccount { window, alarm, .. } = house.last_hour("lamp");
    assert_eq!((window, alarm), (secs(131), secs(101)));
}

#[test]
fn while_the_disk_does_not_answer_one_batch_is_outstanding() {
    let mut house = house(vec![watched("lamp", 30)]);
    house.past.holds = true;
    house.turn_the_page();
    for _ in 0..50 {
        house.hear("home/lamp/x");
        house.advance(secs(40));
    }
    let saves = |house: &House| {
        house.log.iter().filter(|(_, action)| matches!(action, Action::SaveHistory(_))).count()
    };
    assert_eq!(saves(&house), 1);
    house.past.holds = false;
    house.happen(Event::HistorySaved);
    house.advance(secs(1));
    assert_eq!(house.episodes(EpisodeKind::Alarm).len(), 50);
}

#[test]
fn damaged_records_are_put_aside_with_one_alert_and_new_ones_begin() {
    let mut house = house(vec![watched("lamp", 30)]);
    house.advance(secs(40));
    house.past = Past::default();
    let error = "page 7 is damaged".to_owned();
    house.happen(Event::HistoryPutAside { path: "/aside".into(), error });
    house.open_history();
    assert_eq!(house.count(AlertKind::HistoryPutAside), 1);
    assert_eq!(house.episodes(EpisodeKind::Alarm), [(Some(Reason::Silent), None, None)]);
    assert_eq!(house.past.known.len(), 1);
}

#[test]
fn records_that_were_removed_begin_anew_with_one_alert() {
    let mut house = house(vec![watched("lamp", 30)]);
    house.advance(secs(40));
    house.past = Past::default();
    house.happen(Event::HistoryReplaced { path: "/var/lib/iotmonitor/history".into() });
    house.open_history();
    assert_eq!(house.count(AlertKind::HistoryReplaced), 1);
    assert_eq!(house.episodes(EpisodeKind::Alarm), [(Some(Reason::Silent), None, None)]);
}
