//! Alerts on their way to people: into the journal, and to the unit that a section names.

use crate::monitor::alert::{Alert, AlertKind};
use crate::monitor::event::Now;
use crate::systemd::alert_units::AlertOrder;
use crate::unit_name::{UnitTemplate, instance_of};

/// What is known of the alerts before.
#[derive(Debug, Default)]
pub struct Alerts {
    /// The loss of the broker was told, so that its return is worth a message too.
    broker_lost: bool,
}

impl Alerts {
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
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Now = Now { mono: Duration::ZERO, wall: Duration::from_secs(1_700_000_000) };

    fn started(alerts: &mut Alerts, kind: AlertKind) -> Option<String> {
        let template = UnitTemplate::new("notify@.service").unwrap();
        let alert = Alert::plain(kind, "something".to_owned());
        alerts.order(&alert, Some(&template), NOW).map(|order| order.instance)
    }

    #[test]
    fn what_needs_a_person_starts_a_unit_and_so_does_its_end() {
        let mut alerts = Alerts::default();
        for kind in AlertKind::ALL {
            let is_known = started(&mut alerts, *kind).is_some();
            assert_eq!(is_known, kind.starts_unit(), "{kind:?}");
        }
        assert!(!AlertKind::AlertUnitFailed.starts_unit(), "it would start itself");
        assert!(!AlertKind::AgentStarted.starts_unit());
    }

    #[test]
    fn a_first_connection_is_no_news() {
        let mut alerts = Alerts::default();
        assert_eq!(started(&mut alerts, AlertKind::BrokerBack), None);
        assert_eq!(started(&mut alerts, AlertKind::BrokerLost).as_deref(), Some("broker-lost"));
        assert_eq!(started(&mut alerts, AlertKind::BrokerBack).as_deref(), Some("broker-back"));
        assert_eq!(started(&mut alerts, AlertKind::BrokerBack), None);
    }
}
