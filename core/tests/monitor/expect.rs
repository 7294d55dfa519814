//! What timetables ask of the log: publications, alerts, units, each with its time.

use super::plain_agent::plain_agent;
use super::timetable::{BASE, House, name, secs, topic};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::{Alert, AlertKind};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Delivery, Protocol, Publication, Subscription};
use iotmonitor_core::model::spec::DeviceSpec;
use iotmonitor_core::model::state::StateChange;
use iotmonitor_core::model::unit::{ActiveState, UnitReport};
use iotmonitor_core::model::unit_name::UnitName;
use iotmonitor_core::topic::TopicFilter;
use std::time::Duration;

impl House {
    /// Running, with the backlog in, and `on` recorded on this topic.
    pub fn settled(protocol: Protocol, devices: Vec<DeviceSpec>, recorded: &str) -> Self {
        let mut house = Self::dark(devices);
        house.broker.protocol = protocol;
        house.recorded(recorded, "on");
        house.power_up();
        house.advance(secs(2));
        house.turn_the_page();
        house
    }

    /// Forgets what was done so far, so that expectations speak of what follows.
    pub fn turn_the_page(&mut self) {
        self.log.clear();
    }

    pub fn all_published(&self) -> Vec<(Duration, &Publication)> {
        let publications = self.log.iter().filter_map(|(at, action)| match action {
            Action::Publish(publication) => Some((*at, publication)),
            _ => None,
        });
        publications.collect()
    }

    /// Publications on `BASE/below`, or on the state connection on any topic given in full.
    pub fn published(&self, on: &str) -> Vec<(Duration, &Publication)> {
        let (own, full) = (topic(&format!("{BASE}/{on}")), topic(on));
        let mut all = self.all_published();
        all.retain(|(_, publication)| publication.topic == own || publication.topic == full);
        all
    }

    pub fn payloads(&self, on: &str) -> Vec<String> {
        let texts = self.published(on).into_iter();
        texts.map(|(_, p)| String::from_utf8_lossy(&p.payload).into_owned()).collect()
    }

    /// Exactly one publication on the topic, at this time, with this payload.
    #[track_caller]
    pub fn expect_published(&self, on: &str, at: Duration, payload: &str) {
        let found = self.published(on);
        let times: Vec<Duration> = found.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [at], "times of the publications on {on}");
        assert_eq!(self.payloads(on), [payload], "payload on {on}");
    }

    #[track_caller]
    pub fn expect_silence_on(&self, on: &str) {
        assert_eq!(self.payloads(on), [""; 0], "nothing should be published on {on}");
    }

    /// The last retained status of a device.
    #[track_caller]
    pub fn status(&self, device: &str) -> serde_json::Value {
        let payloads = self.payloads(&format!("status/{device}"));
        let last = payloads.last().unwrap_or_else(|| panic!("no status of {device}"));
        serde_json::from_str(last).unwrap()
    }

    pub fn alerts(&self, kind: AlertKind) -> Vec<(Duration, &Alert)> {
        let alerts = self.log.iter().filter_map(|(at, action)| match action {
            Action::Raise(alert) if alert.kind == kind => Some((*at, alert)),
            _ => None,
        });
        alerts.collect()
    }

    pub fn count(&self, kind: AlertKind) -> usize {
        self.alerts(kind).len()
    }

    /// Times at which a unit was started.
    pub fn starts(&self, unit: &str) -> Vec<Duration> {
        let starts = self.log.iter().filter_map(|(at, action)| match action {
            Action::StartUnit { agent, .. } if agent.unit.as_str() == unit => Some(*at),
            _ => None,
        });
        starts.collect()
    }

    pub fn stops(&self, unit: &str) -> Vec<Duration> {
        let stops = self.log.iter().filter_map(|(at, action)| match action {
            Action::StopUnit { unit: stopped } if stopped.as_str() == unit => Some(*at),
            _ => None,
        });
        stops.collect()
    }

    pub fn subscribed(&self, wanted: Connection) -> Vec<&Subscription> {
        let all = self.log.iter().filter_map(|(_, action)| match action {
            Action::Subscribe { connection, subscriptions } if *connection == wanted => {
                Some(subscriptions)
            }
            _ => None,
        });
        all.flatten().collect()
    }

    pub fn unsubscribed(&self, wanted: Connection) -> Vec<&TopicFilter> {
        let all = self.log.iter().filter_map(|(_, action)| match action {
            Action::Unsubscribe { connection, filters } if *connection == wanted => Some(filters),
            _ => None,
        });
        all.flatten().collect()
    }

    /// What deliveries were to the store, in order.
    pub fn records(&self) -> Vec<(Delivery, &StateChange)> {
        let all = self.log.iter().filter_map(|(_, action)| match action {
            Action::Record { delivery, change } => Some((*delivery, change)),
            _ => None,
        });
        all.collect()
    }

    pub fn acknowledged(&self) -> Vec<Delivery> {
        let all = self.log.iter().filter_map(|(_, action)| match action {
            Action::Acknowledge { through } => Some(*through),
            _ => None,
        });
        all.collect()
    }

    pub fn reads(&self) -> usize {
        self.log.iter().filter(|(_, action)| matches!(action, Action::ReadStates { .. })).count()
    }

    /// Restored states on the wire, as `topic=payload`.
    pub fn restored(&self) -> Vec<String> {
        let all = self.all_published().into_iter().filter(|(_, p)| p.restored);
        all.map(|(_, p)| format!("{}={}", p.topic, String::from_utf8_lossy(&p.payload))).collect()
    }

    /// Place of the first action of which this holds.
    #[track_caller]
    pub fn position(&self, what: &str, is: impl Fn(&Action) -> bool) -> usize {
        let found = self.log.iter().position(|(_, action)| is(action));
        found.unwrap_or_else(|| panic!("no {what} in {:#?}", self.log))
    }

    /// systemd reports a change of a unit that it has.
    pub fn unit_becomes(&mut self, unit: &str, change: impl FnOnce(&mut UnitReport)) {
        let report = self.manager.units.get_mut(&UnitName::from_systemd(unit)).unwrap();
        change(report);
        let report = report.clone();
        self.happen(Event::UnitChanged(Box::new(report)));
    }

    /// The process ends, and systemd will not restart it.
    pub fn unit_fails(&mut self, unit: &str) {
        self.unit_becomes(unit, |report| {
            report.active = ActiveState::Failed;
            report.main_pid = 0;
            // The result is that of the last process, whatever ended the tries.
            report.result = "exit-code".into();
            report.restarts += 3;
            report.last_exit = Some("exited with 7".into());
        });
    }

    /// `systemctl stop`, by hand.
    pub fn unit_stopped_by_hand(&mut self, unit: &str) {
        self.unit_becomes(unit, |report| {
            report.active = ActiveState::Inactive;
            report.main_pid = 0;
        });
    }

    /// systemd restarts a dead process by itself.
    pub fn unit_restarted_by_systemd(&mut self, unit: &str) {
        self.unit_becomes(unit, |report| {
            report.restarts += 1;
            report.main_pid += 1000;
            report.invocation = format!("{:032x}", report.main_pid);
            report.last_exit = Some("killed by SIGKILL".into());
        });
    }
}

/// A device without any topic; the functions below add to it.
pub fn device(text: &str) -> DeviceSpec {
    DeviceSpec {
        name: name(text),
        area: None,
        watch_timeout: Some(secs(30)),
        auto_timeout: false,
        expire_repeat: None,
        watch: Vec::new(),
        hello: None,
        state: Vec::new(),
        availability: Vec::new(),
        availability_words: None,
        depends_on: Vec::new(),
        alert_unit: None,
        restore_on_start: true,
        enabled: true,
        agent: None,
    }
}

/// A device that is watched on `home/NAME/#`, with a timeout in seconds.
pub fn watched(text: &str, timeout: u64) -> DeviceSpec {
    DeviceSpec {
        watch_timeout: (timeout > 0).then(|| secs(timeout)),
        watch: vec![TopicFilter::new(format!("home/{text}/#")).unwrap()],
        ..device(text)
    }
}

/// A device with states on `home/NAME/states/#` and a hello on `home/NAME/hello`.
pub fn stateful(text: &str) -> DeviceSpec {
    DeviceSpec {
        state: vec![TopicFilter::new(format!("home/{text}/states/#")).unwrap()],
        hello: Some(TopicFilter::new(format!("home/{text}/hello")).unwrap()),
        ..device(text)
    }
}

/// An agent that is watched on `home/NAME/#`.
pub fn agent(text: &str, timeout: u64) -> DeviceSpec {
    DeviceSpec {
        agent: Some(Box::new(plain_agent(text, &format!("run {text}")))),
        ..watched(text, timeout)
    }
}

/// An agent with a command of its own, watched on `home/NAME/#` with 30 s.
pub fn agent_running(text: &str, exec: &str) -> DeviceSpec {
    DeviceSpec { agent: Some(Box::new(plain_agent(text, exec))), ..watched(text, 30) }
}

pub fn device_name(text: &str) -> DeviceName {
    name(text)
}
