//! Delivers alerts to people: to the journal, and as notifications to the units that the
//! configuration names.
//!
//! An alert about an agent that failed or hangs waits for an account of its unit, a few seconds at
//! most, and later alerts of the same agent wait behind it, so that they stay in order. All others
//! pass at once.

use crate::dbus::Bus;
use crate::systemd::account;
use crate::systemd::alert_units::AlertOrder;
use iotmonitor_core::model::alert::{Account, Alert};
use iotmonitor_core::model::notification::Notification;
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// The number of accounts requested at a time; a further alert goes out without one.
const MOST_ACCOUNTS: usize = 8;

/// The number of waiting alerts of one agent; a further one overtakes them.
const MOST_WAITING: usize = 16;

/// An account that has arrived.
pub type Accounted = (UnitName, Account);

/// The output, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// An entry for the journal.
    Alert(Box<Alert>),
    /// A notification to people elsewhere.
    Notification(Box<Notification>),
}

impl Outgoing {
    /// The agent's unit that the alert concerns.
    fn unit(&self) -> Option<&UnitName> {
        match self {
            Self::Alert(alert) => alert.unit.as_ref(),
            Self::Notification(notification) => notification.unit.as_ref(),
        }
    }

    /// The known part, where an account is still expected.
    fn account(&mut self) -> Option<&mut Box<Account>> {
        match self {
            Self::Alert(alert) => alert.account.as_mut(),
            Self::Notification(notification) => notification.account.as_mut(),
        }
    }
}

/// Alerts that wait for an account.
#[derive(Debug)]
pub struct Alerts {
    bus: Bus,
    /// Never full: each of [`MOST_ACCOUNTS`] tasks sends one, and is waited for.
    accounts: mpsc::Sender<Accounted>,
    /// The waiting alerts by unit, in order.
    waiting: BTreeMap<UnitName, Vec<Outgoing>>,
}

impl Alerts {
    /// Creates the state and the channel on which accounts arrive.
    #[must_use]
    pub fn new(bus: Bus) -> (Self, mpsc::Receiver<Accounted>) {
        let (accounts, receiver) = mpsc::channel(MOST_ACCOUNTS);
        (Self { bus, accounts, waiting: BTreeMap::new() }, receiver)
    }

    /// Returns the alerts that can go out at once.
    #[must_use]
    pub fn take_in(&mut self, mut outgoing: Outgoing) -> Option<Outgoing> {
        let Some(unit) = outgoing.unit().cloned() else { return Some(outgoing) };
        if let Some(waiting) = self.waiting.get_mut(&unit) {
            if waiting.len() >= MOST_WAITING {
                return Some(outgoing);
            }
            waiting.push(outgoing);
            return None;
        }
        let has_room = self.waiting.len() < MOST_ACCOUNTS;
        let known = outgoing.account().filter(|_| has_room).map(|known| known.as_ref().clone());
        let Some(known) = known else { return Some(outgoing) };
        self.waiting.insert(unit.clone(), vec![outgoing]);
        let (bus, accounts) = (self.bus, self.accounts.clone());
        tokio::spawn(async move {
            let account = account::complete(bus, &unit, known).await;
            // This fails only when the daemon ends, which delivers the alert without an account.
            let _ = accounts.send((unit, account)).await;
        });
        None
    }

    /// Returns the alerts that waited for an account, in order. The account belongs to the first
    /// alert, and to the notification of the same event.
    #[must_use]
    pub fn accounted(&mut self, (unit, account): Accounted) -> Vec<Outgoing> {
        let mut all = self.waiting.remove(&unit).unwrap_or_default();
        let (mut is_logged, mut is_notified) = (false, false);
        for outgoing in &mut all {
            let done = match outgoing {
                Outgoing::Alert(_) => &mut is_logged,
                Outgoing::Notification(_) => &mut is_notified,
            };
            if let Some(known) = outgoing.account()
                && !std::mem::replace(done, true)
            {
                **known = account.clone();
            }
        }
        all
    }

    /// Returns all waiting alerts, because there is no time left.
    #[must_use]
    pub fn give_up(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.waiting).into_values().flatten().collect()
    }
}

/// The unit that a notification starts, and its environment.
#[must_use]
pub fn order_of(notification: Notification) -> AlertOrder {
    let environment = facts(&notification);
    let Notification { template, instance, .. } = notification;
    AlertOrder { template, instance, environment }
}

/// The notification as environment variables.
fn facts(notification: &Notification) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("IOTMONITOR_EVENT", notification.event.to_owned()),
        ("IOTMONITOR_MESSAGE", notification.message.clone()),
        ("IOTMONITOR_PRIORITY", (notification.priority as u8).to_string()),
        ("IOTMONITOR_TIME", notification.time.as_secs().to_string()),
    ];
    if let Some(device) = &notification.device {
        facts.push(("IOTMONITOR_DEVICE", device.to_string()));
    }
    if let Some(reason) = notification.reason {
        facts.push(("IOTMONITOR_REASON", reason.as_str().to_owned()));
    }
    if let Some(unit) = &notification.unit {
        facts.push(("IOTMONITOR_UNIT", unit.to_string()));
    }
    if let Some(account) = &notification.account {
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
    use iotmonitor_core::model::alert::{AlertKind, Priority};
    use iotmonitor_core::model::unit_name::UnitTemplate;
    use std::time::Duration;

    fn unit_of(name: &str) -> UnitName {
        UnitName::for_agent("iotmonitor", name).unwrap()
    }

    fn of_agent(name: &str, kind: AlertKind) -> Outgoing {
        let account = kind.wants_account().then(Box::default);
        let unit = Some(unit_of(name));
        Outgoing::Alert(Box::new(Alert { unit, account, ..Alert::plain(kind, name.to_owned()) }))
    }

    fn notification(name: &str) -> Notification {
        Notification {
            template: UnitTemplate::new("notify@.service").unwrap(),
            instance: name.to_owned(),
            event: "expired",
            priority: Priority::Warning,
            time: Duration::from_secs(1_700_000_000),
            device: None,
            reason: None,
            unit: Some(unit_of(name)),
            account: Some(Box::default()),
            message: "something".to_owned(),
        }
    }

    #[tokio::test]
    async fn what_follows_an_alert_that_waits_stays_behind_it() {
        let (mut alerts, _accounts) = Alerts::new(Bus::System);
        let notification = Outgoing::Notification(Box::new(notification("box")));
        assert!(alerts.take_in(of_agent("box", AlertKind::Expired)).is_none());
        assert!(alerts.take_in(notification).is_none());
        assert!(alerts.take_in(of_agent("box", AlertKind::Recovered)).is_none());
        assert!(alerts.take_in(of_agent("other", AlertKind::Recovered)).is_some());
        let account = Account { lines: vec!["last words".to_owned()], ..Account::default() };
        let mut ready = alerts.accounted((unit_of("box"), account.clone()));
        assert_eq!(ready.len(), 3);
        for outgoing in &mut ready[..2] {
            assert_eq!(outgoing.account(), Some(&mut Box::new(account.clone())));
        }
        assert_eq!(ready[2], of_agent("box", AlertKind::Recovered));
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

    #[test]
    fn the_facts_are_variables_and_what_is_not_known_is_none() {
        let names = |notification: &Notification| -> Vec<&str> {
            facts(notification).into_iter().map(|(name, _)| name).collect()
        };
        let mut sent = notification("box");
        let all = ["EVENT", "MESSAGE", "PRIORITY", "TIME", "UNIT", "LOG"];
        assert_eq!(names(&sent), all.map(|name| format!("IOTMONITOR_{name}")));
        (sent.unit, sent.account) = (None, None);
        assert_eq!(names(&sent).len(), 4);
        assert!(facts(&sent).contains(&("IOTMONITOR_PRIORITY", "4".to_owned())));
    }
}
