//! Alerts on their way to people: into the journal, and to the unit that a section names.
//!
//! One about an agent that failed or hangs waits for an account of its unit, a few seconds at most, and
//! later ones of the same agent wait behind it, so that they stay in order. All others pass at once.

use crate::dbus::Bus;
use crate::systemd::account;
use crate::systemd::alert_units::AlertOrder;
use iotmonitor_core::model::alert::{Account, Alert, AlertKind};
use iotmonitor_core::model::time::Now;
use iotmonitor_core::model::unit_name::{UnitName, UnitTemplate, instance_of};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Accounts that are asked for at a time; a further alert goes without.
const MOST_ACCOUNTS: usize = 8;

/// Alerts of one agent that wait; a further one overtakes them.
const MOST_WAITING: usize = 16;

/// An account that has come in.
pub type Accounted = (UnitName, Account);

/// What is known of the alerts before.
#[derive(Debug)]
pub struct Alerts {
    bus: Bus,
    /// Never full: each of [`MOST_ACCOUNTS`] sends one, and is waited for.
    accounts: mpsc::Sender<Accounted>,
    /// Alerts of a unit that wait for an account, which belongs to the first of them.
    waiting: BTreeMap<UnitName, Vec<Alert>>,
    /// The loss of the broker was told, so that its return is worth a message too.
    broker_lost: bool,
}

impl Alerts {
    /// With the channel on which accounts come in.
    #[must_use]
    pub fn new(bus: Bus) -> (Self, mpsc::Receiver<Accounted>) {
        let (accounts, receiver) = mpsc::channel(MOST_ACCOUNTS);
        let waiting = BTreeMap::new();
        (Self { bus, accounts, waiting, broker_lost: false }, receiver)
    }

    /// Gives back an alert that can be told at once.
    #[must_use]
    pub fn take_in(&mut self, alert: Alert) -> Option<Alert> {
        let Some(unit) = alert.unit.clone() else { return Some(alert) };
        if let Some(waiting) = self.waiting.get_mut(&unit) {
            if waiting.len() >= MOST_WAITING {
                return Some(alert);
            }
            waiting.push(alert);
            return None;
        }
        let known = alert.account.as_deref().filter(|_| self.waiting.len() < MOST_ACCOUNTS);
        let Some(known) = known.cloned() else { return Some(alert) };
        self.waiting.insert(unit.clone(), vec![alert]);
        let (bus, accounts) = (self.bus, self.accounts.clone());
        tokio::spawn(async move {
            let account = account::complete(bus, &unit, known).await;
            // Fails only when the daemon ends, which tells the alert without it.
            let _ = accounts.send((unit, account)).await;
        });
        None
    }

    /// The alerts that waited for an account, in order.
    #[must_use]
    pub fn accounted(&mut self, (unit, account): Accounted) -> Vec<Alert> {
        let mut alerts = self.waiting.remove(&unit).unwrap_or_default();
        if let Some(first) = alerts.first_mut() {
            first.account = Some(Box::new(account));
        }
        alerts
    }

    /// The alerts that wait, for there is no time left.
    #[must_use]
    pub fn give_up(&mut self) -> Vec<Alert> {
        std::mem::take(&mut self.waiting).into_values().flatten().collect()
    }

    /// The unit that an alert starts, and what it is given. `general` is for alerts that concern no
    /// device.
    pub fn order(
        &mut self,
        alert: &Alert,
        general: Option<&UnitTemplate>,
        now: Now,
    ) -> Option<AlertOrder> {
        let news = match alert.kind {
            AlertKind::BrokerLost | AlertKind::BrokerRefused | AlertKind::ClientIdTaken => {
                self.broker_lost = true;
                true
            }
            AlertKind::BrokerBack => std::mem::take(&mut self.broker_lost),
            other => other.starts_unit(),
        };
        let general = general.filter(|_| alert.device.is_none());
        let template = alert.starts.as_ref().or(general).filter(|_| news)?.clone();
        let name = alert.device.as_ref().map_or(alert.kind.event(), |device| device.as_str());
        Some(AlertOrder { template, instance: instance_of(name), environment: facts(alert, now) })
    }
}

/// The alert as environment variables.
fn facts(alert: &Alert, now: Now) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("IOTMONITOR_EVENT", alert.kind.event().to_owned()),
        ("IOTMONITOR_MESSAGE", alert.message.clone()),
        ("IOTMONITOR_PRIORITY", (alert.kind.priority() as u8).to_string()),
        ("IOTMONITOR_TIME", now.wall.as_secs().to_string()),
    ];
    if let Some(device) = &alert.device {
        facts.push(("IOTMONITOR_DEVICE", device.to_string()));
    }
    if let Some(reason) = alert.reason {
        facts.push(("IOTMONITOR_REASON", reason.as_str().to_owned()));
    }
    if let Some(unit) = &alert.unit {
        facts.push(("IOTMONITOR_UNIT", unit.to_string()));
    }
    if let Some(account) = &alert.account {
        facts.extend(account.exit.clone().map(|exit| ("IOTMONITOR_EXIT", exit)));
        let peak = account.memory_peak.map(|peak| peak.to_string());
        facts.extend(peak.map(|peak| ("IOTMONITOR_MEMORY_PEAK", peak)));
        let said = [&account.lines[..], &account.complaints].concat();
        facts.push(("IOTMONITOR_LOG", said.join("\n")));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Now = Now {
        mono: Duration::ZERO,
        wall: Duration::from_secs(1_700_000_000),
        boot: Duration::ZERO,
    };

    fn started(alerts: &mut Alerts, kind: AlertKind) -> Option<String> {
        let template = UnitTemplate::new("notify@.service").unwrap();
        let alert = Alert::plain(kind, "something".to_owned());
        alerts.order(&alert, Some(&template), NOW).map(|order| order.instance)
    }

    #[test]
    fn what_needs_a_person_starts_a_unit_and_so_does_its_end() {
        let (mut alerts, _accounts) = Alerts::new(Bus::System);
        for kind in AlertKind::ALL {
            let is_known = started(&mut alerts, *kind).is_some();
            assert_eq!(is_known, kind.starts_unit(), "{kind:?}");
        }
        assert!(!AlertKind::AlertUnitFailed.starts_unit(), "it would start itself");
        assert!(!AlertKind::AgentStarted.starts_unit());
    }

    #[test]
    fn a_first_connection_is_no_news() {
        let (mut alerts, _accounts) = Alerts::new(Bus::System);
        assert_eq!(started(&mut alerts, AlertKind::BrokerBack), None);
        assert_eq!(started(&mut alerts, AlertKind::BrokerLost).as_deref(), Some("broker-lost"));
        assert_eq!(started(&mut alerts, AlertKind::BrokerBack).as_deref(), Some("broker-back"));
        assert_eq!(started(&mut alerts, AlertKind::BrokerBack), None);
    }

    fn of_agent(name: &str, kind: AlertKind) -> Alert {
        let account = kind.wants_account().then(Box::default);
        let unit = Some(UnitName::for_agent("iotmonitor", name).unwrap());
        Alert { unit, account, ..Alert::plain(kind, name.to_owned()) }
    }

    #[tokio::test]
    async fn what_follows_an_alert_that_waits_stays_behind_it() {
        let (mut alerts, _accounts) = Alerts::new(Bus::System);
        assert!(alerts.take_in(of_agent("box", AlertKind::Expired)).is_none());
        assert!(alerts.take_in(of_agent("box", AlertKind::Recovered)).is_none());
        assert!(alerts.take_in(of_agent("other", AlertKind::Recovered)).is_some());
        let account = Account { lines: vec!["last words".to_owned()], ..Account::default() };
        let unit = UnitName::for_agent("iotmonitor", "box").unwrap();
        let told = alerts.accounted((unit, account.clone()));
        let kinds: Vec<AlertKind> = told.iter().map(|alert| alert.kind).collect();
        assert_eq!(kinds, [AlertKind::Expired, AlertKind::Recovered]);
        assert_eq!(told[0].account.as_deref(), Some(&account));
        assert!(alerts.take_in(of_agent("box", AlertKind::Recovered)).is_some());
    }

    #[tokio::test]
    async fn a_burst_does_not_wait() {
        let (mut alerts, _accounts) = Alerts::new(Bus::System);
        let at_once = (0..1_000)
            .filter_map(|number| {
                alerts.take_in(of_agent(&format!("box{number}"), AlertKind::Expired))
            })
            .count();
        assert_eq!(at_once, 1_000 - MOST_ACCOUNTS);
        assert_eq!(alerts.give_up().len(), MOST_ACCOUNTS);
    }
}
