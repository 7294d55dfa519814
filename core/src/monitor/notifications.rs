//! Notifications to people elsewhere, through the units that the configuration names (`alertUnit`).
//!
//! [`crate::machines::notifications`] decides what waits and when it is tried. Here every alert of
//! a turn is passed to it, and its orders become messages in sentences.

use super::turn::Turn;
use super::{Monitor, Timer};
use crate::machines::notifications::{
    AlertNews, NotificationContent, NotificationOrder, SUMMARY, Subject, WayChange,
};
use crate::model::action::Action;
use crate::model::alert::{Alert, AlertKind, Priority};
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::notification::Notification;
use crate::model::snapshot::{AlertsRecord, DeviceRecord, UnheardRecord};
use crate::model::unit::JobOutcome;
use crate::model::unit_name::UnitTemplate;
use crate::model::words::{RoundedDuration, counted};
use std::collections::BTreeMap;
use std::time::Duration;

/// A summary names this many devices of each kind.
const MOST_NAMES: usize = 10;

impl Monitor {
    /// Processes the alerts that the turn has raised so far.
    pub(super) fn note_alerts(&mut self, turn: &mut Turn<'_>) {
        let first = std::mem::replace(&mut turn.noted, turn.out.len());
        let mut is_news = false;
        for at in first..turn.noted {
            if let Some(Action::Raise(alert)) = turn.out.get(at) {
                is_news |= self.note_alert(turn, alert);
            }
        }
        if is_news {
            self.start_notifications(turn);
        }
    }

    /// Whether it is meant for people.
    fn note_alert(&mut self, turn: &Turn<'_>, alert: &Alert) -> bool {
        let subject = match &alert.device {
            Some(name) => Subject::Device(name.clone()),
            None => Subject::Matter(alert.kind.matter()),
        };
        let is_over =
            alert.kind == AlertKind::Disabled || (alert.kind.is_end() && !alert.kind.starts_unit());
        if is_over {
            self.notifications.withdraw(&subject);
        }
        let Some(way) = self.way_of(&subject).filter(|_| alert.kind.starts_unit()) else {
            return is_over;
        };
        let wait = match alert.kind {
            AlertKind::BrokerLost => self.broker_grace,
            _ => Duration::ZERO,
        };
        let news = AlertNews {
            kind: alert.kind,
            time: turn.now.wall,
            reason: alert.reason,
            message: alert.message.clone(),
        };
        self.notifications.raise(turn.now.mono, subject.clone(), &way, news, wait);
        self.save_unheard(&subject);
        true
    }

    /// Reminds people of a device that is still silent.
    pub(super) fn remind(&mut self, turn: &mut Turn<'_>, id: DeviceId, message: String) {
        let device = &self.devices[id];
        let Some(way) = device.alert_unit.clone() else { return };
        let subject = Subject::Device(device.spec.name.clone());
        let (kind, time, reason) = (AlertKind::Expired, turn.now.wall, device.reason());
        let news = AlertNews { kind, time, reason, message };
        self.notifications.raise(turn.now.mono, subject, &way, news, Duration::ZERO);
        self.save_soon(id);
        self.start_notifications(turn);
    }

    /// The template that is started for it.
    fn way_of(&self, subject: &Subject) -> Option<UnitTemplate> {
        match subject {
            Subject::Device(name) => self.devices[self.id_named(name)?].alert_unit.clone(),
            Subject::Matter(_) => self.alert_unit.clone(),
        }
    }

    fn save_unheard(&mut self, subject: &Subject) {
        match subject {
            Subject::Device(name) => {
                if let Some(id) = self.id_named(name) {
                    self.save_soon(id);
                }
            }
            Subject::Matter(_) => self.saving.hurry_if(true),
        }
    }

    /// Sends the due notifications.
    pub(super) fn start_notifications(&mut self, turn: &mut Turn<'_>) {
        let mutes = &self.mutes;
        let orders = self.notifications.next_orders(turn.now.mono, |subject| match subject {
            Subject::Device(name) => mutes.covers(Some(name)),
            Subject::Matter(_) => mutes.covers(None),
        });
        for order in orders {
            let notification = self.notification_of(turn, order);
            turn.out.push(Action::SendNotification(Box::new(notification)));
        }
        let dropped = self.notifications.take_dropped();
        turn.out.extend(dropped.into_iter().map(|instance| Action::DropNotification { instance }));
        if let Some(due) = self.notifications.next(turn.now.mono)
            && self.notifications_due.is_none_or(|before| due < before)
        {
            self.notifications_due = Some(due);
            self.timers.push(due, Timer::Notifications);
        }
    }

    pub(super) fn notifications_due(&mut self, turn: &mut Turn<'_>) {
        self.notifications_due = None;
        self.start_notifications(turn);
    }

    /// A unit has ended, or could not be started.
    pub(super) fn notification_ended(
        &mut self,
        turn: &mut Turn<'_>,
        instance: &str,
        outcome: JobOutcome,
    ) {
        let failure = match outcome {
            JobOutcome::Done => None,
            JobOutcome::Failed(reason) => Some(reason),
        };
        let reason = failure.clone().unwrap_or_default();
        let Some((way, change, subjects)) =
            self.notifications.finished(turn.now.mono, instance, failure)
        else {
            return;
        };
        match change {
            WayChange::None => {}
            WayChange::Fails => turn.raise(
                AlertKind::AlertUnitFailed,
                format!(
                    "alertUnit `{way}` fails ({reason}): its alerts are kept, and those that \
                     still hold are sent when it works again"
                ),
            ),
            WayChange::WorksAgain => turn.raise(
                AlertKind::AlertUnitBack,
                format!("alertUnit `{way}` works again: the alerts that waited are sent now"),
            ),
        }
        for subject in &subjects {
            self.save_unheard(subject);
        }
        self.saving.hurry_if(change != WayChange::None);
        self.start_notifications(turn);
    }

    fn notification_of(
        &self,
        turn: &Turn<'_>,
        NotificationOrder { way, instance, content }: NotificationOrder,
    ) -> Notification {
        match content {
            NotificationContent::Digest { subject, news, late } => {
                let notification = digest(turn.now.wall, way, instance, &news, late);
                match subject {
                    Subject::Device(name) => self.with_device(notification, name, &news),
                    Subject::Matter(_) => notification,
                }
            }
            NotificationContent::Summary(all) => summary(way, instance, &all, &self.command),
            NotificationContent::Test(device) => Notification {
                time: turn.now.wall,
                device,
                ..plain(way, instance, "test", test_sentence(&self.client_id))
            },
        }
    }

    fn with_device(
        &self,
        notification: Notification,
        name: DeviceName,
        news: &[AlertNews],
    ) -> Notification {
        let device = self.id_named(&name).map(|id| &self.devices[id]);
        let agent = device.and_then(|device| device.rare.agent());
        let wants_account = news.iter().any(|news| news.kind.wants_account());
        let account = device.filter(|_| wants_account).and_then(|device| device.account());
        Notification {
            unit: agent.map(|agent| agent.spec().unit.clone()),
            account: account.map(Box::new),
            device: Some(name),
            ..notification
        }
    }

    /// A person tests the way of a device, or that of conditions which concern none.
    pub(super) fn test_notification(&mut self, turn: &mut Turn<'_>, device: Option<DeviceName>) {
        if let Some(way) = self.test_way(device.as_ref()) {
            self.notifications.test(way, device);
            self.start_notifications(turn);
        }
    }

    /// The template that a test alert starts.
    #[must_use]
    pub fn test_way(&self, device: Option<&DeviceName>) -> Option<UnitTemplate> {
        match device {
            Some(name) => self.devices[self.id_named(name)?].alert_unit.clone(),
            None => self.alert_unit.clone(),
        }
    }

    /// Whether a test alert is in progress.
    #[must_use]
    pub fn is_testing_notification(&self) -> bool {
        self.notifications.is_testing()
    }

    /// The reason of the last test alert's failure, if it failed.
    #[must_use]
    pub fn failure_of_test(&self) -> Option<&str> {
        self.notifications.test_failure()
    }

    pub(super) fn unheard_of(&self, name: &DeviceName) -> Vec<UnheardRecord> {
        self.notifications.records(&Subject::Device(name.clone()))
    }

    pub(super) fn alerts_record(&self, turn: &Turn<'_>) -> AlertsRecord {
        AlertsRecord {
            unheard: self.notifications.records_of_matters(),
            failing: self.notifications.failing(turn.now.mono),
            mutes: self.mutes.records(turn.now.boot),
        }
    }

    /// Continues the undelivered notifications of an earlier run.
    pub(super) fn resume_alerts(&mut self, turn: &Turn<'_>, record: AlertsRecord) {
        for mute in record.mutes {
            let is_known = mute.device.as_ref().is_none_or(|name| self.knows(name));
            if is_known {
                self.mutes.resume(turn.now.boot, mute);
            }
        }
        for (name, before) in record.failing {
            if let Ok(way) = UnitTemplate::new(&name) {
                self.notifications.resume_failing(turn.now.mono, way, before);
            }
        }
        let Some(way) = self.alert_unit.clone() else { return };
        for unheard in record.unheard {
            if let Some(matter) = AlertKind::of_event(&unheard.matter) {
                // Whether that is still true shows when the broker has had time to answer.
                let due = turn.now.mono + self.broker_grace;
                let subject = Subject::Matter(matter);
                self.notifications.resume(turn.now.mono, due, subject, &way, &[unheard]);
            }
        }
    }

    pub(super) fn resume_unheard(&mut self, now: Duration, id: DeviceId, record: &DeviceRecord) {
        let device = &self.devices[id];
        let Some(way) = device.alert_unit.clone().filter(|_| device.is_enabled()) else { return };
        if !record.unheard.is_empty() {
            let subject = Subject::Device(record.name.clone());
            self.notifications.resume(now, now, subject, &way, &record.unheard);
        }
    }

    /// After a change of the configuration.
    pub(super) fn settle_notifications(&mut self, turn: &mut Turn<'_>) {
        let mut notifications = std::mem::take(&mut self.notifications);
        notifications.retain(|subject| self.way_of(subject));
        self.notifications = notifications;
        self.start_notifications(turn);
    }
}

fn plain(
    template: UnitTemplate,
    instance: String,
    event: &'static str,
    message: String,
) -> Notification {
    Notification {
        template,
        instance,
        event,
        priority: Priority::Notice,
        time: Duration::ZERO,
        device: None,
        reason: None,
        unit: None,
        account: None,
        message,
    }
}

/// All news of one subject; the most serious determines the event.
fn digest(
    wall: Duration,
    way: UnitTemplate,
    instance: String,
    news: &[AlertNews],
    late: bool,
) -> Notification {
    let first = news.iter().min_by_key(|news| news.kind.priority());
    let lines: Vec<String> = news.iter().map(|news| line_of(wall, news, late)).collect();
    let event = first.map_or(SUMMARY, |news| news.kind.event());
    Notification {
        priority: first.map_or(Priority::Notice, |news| news.kind.priority()),
        time: first.map_or(wall, |news| news.time),
        reason: first.and_then(|news| news.reason),
        ..plain(way, instance, event, lines.join("\n"))
    }
}

fn line_of(wall: Duration, news: &AlertNews, late: bool) -> String {
    if late {
        format!(
            "{} (delivered {} late)",
            news.message,
            RoundedDuration(wall.saturating_sub(news.time))
        )
    } else {
        news.message.clone()
    }
}

/// Many alerts in one message: the number of each kind, and the devices.
fn summary(
    way: UnitTemplate,
    instance: String,
    all: &[(Subject, AlertNews)],
    command: &str,
) -> Notification {
    let mut names: BTreeMap<AlertKind, Vec<&str>> = BTreeMap::new();
    let mut lines = vec![format!(
        "{} in one message, `{command} status` shows more",
        counted(all.len(), "alert")
    )];
    for (subject, news) in all {
        match subject {
            Subject::Device(name) => names.entry(news.kind).or_default().push(name.as_str()),
            Subject::Matter(_) => lines.push(news.message.clone()),
        }
    }
    for (kind, names) in names {
        let mut line = format!("{} ({}): ", kind.event(), names.len());
        line.push_str(&names.iter().take(MOST_NAMES).copied().collect::<Vec<_>>().join(", "));
        if let Some(more) = names.len().checked_sub(MOST_NAMES).filter(|more| *more > 0) {
            line.push_str(&format!(" and {more} more"));
        }
        lines.push(line);
    }
    let priority = all.iter().map(|(_, news)| news.kind.priority()).min();
    Notification {
        priority: priority.unwrap_or(Priority::Notice),
        time: all.iter().map(|(_, news)| news.time).min().unwrap_or_default(),
        ..plain(way, instance, SUMMARY, lines.join("\n"))
    }
}

fn test_sentence(client_id: &str) -> String {
    format!(
        "this is a test: alerts of the iotmonitor with the clientid `{client_id}` come this way"
    )
}
