//! Conducts one alarm, from top to bottom.
//!
//! An alarm begins when a device falls silent or reports that it is gone. The event is published at
//! once, and repeated where the section requests it. People receive one alert, unless the silence
//! is caused by another device or is one of too many: the [`AlertStage`] of the device's episode is
//! the stage of that alert, and only this file changes it.
//!
//! | From | To | When |
//! |------|----|------|
//! | none | Sent | it expires, and nothing that it depends on may be down |
//! | none | Held | … and something may be: its alert waits for that (see [`super::dependents`]) |
//! | none | Upstream | … and something is: there is no alert |
//! | Held | Sent | what it depends on speaks, or nothing came of the wait, or the device is back |
//! | Held, Returning | Upstream | what it depends on falls |
//! | Upstream | Returning | what it depends on is back: the device has a grace to follow |
//! | Returning | Sent | the grace is over |
//! | Sent | Flapping | it was sent too often of late: one alert reports that the device flaps |
//! | Flapping | Sent | it has been stable, and is silent |
//! | any | none | it is back, or out of the monitoring |

use crate::machines::episode::{AlertStage, Ended, Episode};
use crate::machines::flapping::{Flap, STABLE, Stability};
use crate::model::alert::{AlertKind, Reason};
use crate::model::device_id::DeviceId;
use crate::model::snapshot::DeviceRecord;
use crate::model::words::RoundedDuration;
use crate::monitor::device::Device;
use crate::monitor::sentences::{expired_sentence, flapping_sentence, recovered_sentence};
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use std::time::Duration;

impl Monitor {
    /// The deadline has passed, or the device reported that it is gone; or the wait of its alert is
    /// over.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        if self.devices[id].episode.is_open() {
            self.alert_due(turn, id);
        } else {
            self.begin_alarm(turn, id);
        }
    }

    fn begin_alarm(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let device = &mut self.devices[id];
        if let Some(availability) = &mut device.availability {
            availability.believe();
        }
        device.episode.begin(turn.now.wall, device.cause_of_silence());
        device.since = turn.now.wall.into();
        self.expired_count += 1;
        let stage = self.first_stage(turn.watched, id);
        self.move_alert(id, stage);
        if stage == AlertStage::Held {
            self.wait(id);
        }
        self.publish_expire(turn, id);
        self.report_expired(turn, id);
        if stage == AlertStage::Sent {
            self.alarm(turn, id);
        }
        self.save_soon(id);
        self.schedule_repeat(turn, id);
        self.fell(turn, id);
    }

    /// The stage of the alert of a device that has just expired.
    fn first_stage(&mut self, watched: Duration, id: DeviceId) -> AlertStage {
        if self.is_cut_off(id) {
            return AlertStage::Upstream;
        }
        if self.begin_hold(watched, id) { AlertStage::Held } else { AlertStage::Sent }
    }

    /// The only place that changes the stage of an alert.
    fn move_alert(&mut self, id: DeviceId, stage: AlertStage) {
        self.devices[id].episode.move_to(stage);
    }

    /// The one alert of the episode, unless it is one of too many.
    fn alarm(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        match self.note_flap(turn, id, "has fallen silent") {
            Flap::Single => self.report_silence(turn, id),
            Flap::Begins | Flap::GoesOn => self.move_alert(id, AlertStage::Flapping),
        }
    }

    fn report_silence(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        self.move_alert(id, AlertStage::Sent);
        let device = &self.devices[id];
        let (reason, mut message) = (device.reason(), expired_sentence(device, turn.now.wall));
        message.push_str(&self.dependents_clause(id));
        turn.out.push(self.episode_alert(id, AlertKind::Expired, reason, message));
    }

    /// The alert of a device that expired before is due now, because the silence is its own.
    fn alert_due(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        match self.devices[id].episode.stage() {
            None | Some(AlertStage::Sent | AlertStage::Upstream | AlertStage::Flapping) => return,
            Some(AlertStage::Held) if self.is_held(turn.watched, id) => return self.wait(id),
            Some(AlertStage::Held | AlertStage::Returning) => {}
        }
        let device = &mut self.devices[id];
        let cause = device.cause_of_silence();
        device.episode.put_down_to(cause);
        self.alarm(turn, id);
        self.report_state(turn, id);
        self.save_soon(id);
    }

    /// A device speaks whose next message was expected: alerts that were held for it need not wait
    /// any longer.
    pub(super) fn awaited_word(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        self.devices[id].silence.await_no_word();
        for child in self.dependencies.children(id).to_vec() {
            if self.devices[child].episode.stage() != Some(AlertStage::Held) {
                continue;
            }
            if self.is_held(turn.watched, child) {
                self.wait(child);
            } else {
                self.alarm(turn, child);
                if self.sharing.is_some() {
                    // The next owner has to know that the alert was sent.
                    self.publish_status(turn, child);
                }
                self.arm(child);
                self.save_soon(child);
            }
        }
    }

    /// A device is down from now on: the devices behind it raise no alarms of their own.
    pub(super) fn fell(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let last_word = self.devices[id].silence.since().min(turn.watched);
        for child in self.dependencies.fell(id, last_word) {
            if self.devices[child].episode.waits() {
                self.move_alert(child, AlertStage::Upstream);
                self.save_soon(child);
                self.report_state(turn, child);
            }
        }
    }

    /// A device may be up again: the devices behind it continue where they were when it failed.
    pub(super) fn rose(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let freed = self.free(turn.watched, id);
        self.let_follow(turn, freed);
    }

    /// Returns the devices that are no longer cut off, with the watched time of the last message
    /// before the fall of what they depend on.
    fn free(&mut self, watched: Duration, id: DeviceId) -> (Duration, Vec<DeviceId>) {
        let is_up = !self.devices[id].is_down();
        let freed = is_up.then(|| self.dependencies.rose(id, watched)).flatten();
        freed.unwrap_or_default()
    }

    fn let_follow(&mut self, turn: &mut Turn<'_>, (from, freed): (Duration, Vec<DeviceId>)) {
        for child in freed {
            let stage = self.devices[child].episode.stage();
            if stage.is_some_and(|stage| stage != AlertStage::Upstream) {
                continue;
            }
            let due = self.leave_out_of_silence(from, turn.watched, child);
            if stage.is_some() {
                self.let_return(child, due);
            }
            self.save_soon(child);
        }
    }

    /// Its alert is due at this time, unless it is heard before.
    fn let_return(&mut self, id: DeviceId, due: Duration) {
        self.move_alert(id, AlertStage::Returning);
        self.devices[id].rare.some_hold().put_off(due);
        self.wait(id);
    }

    /// It is heard again, or reports that it is present.
    pub(super) fn recover(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        if self.devices[id].episode.stage() == Some(AlertStage::Held) {
            // Then its dependency is not down: the silence was its own.
            self.alarm(turn, id);
        }
        let reason = self.devices[id].reason();
        let Some(Ended { since, stage }) = self.end_alarm(turn.now.wall, id) else { return };
        let freed = self.free(turn.watched, id);
        let device = &self.devices[id];
        let was_sent = stage == AlertStage::Sent && !device.is_flapping();
        let mut message = recovered_sentence(device, turn.now.wall.saturating_sub(since));
        if was_sent {
            message.push_str(&self.followers_clause(&freed.1));
        }
        let contact = turn.now.wall.as_secs().to_string();
        turn.out.push(self.device_publication("recover", id, contact, false));
        self.report_recovered(turn, id);
        self.uptime_changed(turn.now);
        if was_sent {
            turn.out.push(self.episode_alert(id, AlertKind::Recovered, reason, message));
        }
        if let Some(flaps) = self.devices[id].rare.flaps_mut() {
            flaps.changed(turn.watched);
        }
        self.save_soon(id);
        self.let_follow(turn, freed);
        self.flush_saves(turn);
        self.arm(id);
    }

    /// An earlier run had raised an alarm, and it spoke before that was known.
    pub(super) fn recover_from(
        &mut self,
        turn: &mut Turn<'_>,
        id: DeviceId,
        record: &DeviceRecord,
    ) {
        let Some(since) = record.expired_since else { return };
        self.devices[id].episode = Episode::resumed(since, Reason::default(), record.unsent);
        self.expired_count += 1;
        self.recover(turn, id);
    }

    /// A person disables or enables it: the earlier alarm is over.
    pub(super) fn drop_alarm(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        self.end_alarm(turn.now.wall, id);
        let device = &mut self.devices[id];
        device.since = turn.now.wall.into();
        device.rare.forget_flaps();
    }

    fn end_alarm(&mut self, wall: Duration, id: DeviceId) -> Option<Ended> {
        let device = &mut self.devices[id];
        let ended = device.episode.end()?;
        device.since = wall.into();
        self.expired_count -= 1;
        Some(ended)
    }

    /// Updates the pending alerts after a start, and with another configuration, to the devices
    /// that are down now.
    pub(super) fn settle_dependents(&mut self, turn: &mut Turn<'_>) {
        let (devices, watched) = (&self.devices, turn.watched);
        self.dependencies.settle(|id| {
            let device = &devices[id];
            device.is_down().then_some(device.silence.since().min(watched))
        });
        for id in self.devices.ids() {
            let device = &self.devices[id];
            let (episode, due) = (&device.episode, turn.watched + device.silence.grace());
            let is_held = episode.stage() == Some(AlertStage::Held);
            if !episode.hangs_on_another() {
                continue;
            }
            if self.is_cut_off(id) {
                self.move_alert(id, AlertStage::Upstream);
                if is_held {
                    self.report_state(turn, id);
                }
            } else if !is_held {
                self.let_return(id, due);
                if self.dependencies.parents(id).is_empty() {
                    // Whatever its alert waited for before, it is now independent.
                    self.move_alert(id, AlertStage::Held);
                }
            }
        }
    }

    /// Notes an alarm, and reports the one that begins a spell; `what` describes the event.
    pub(super) fn note_flap(&mut self, turn: &mut Turn<'_>, id: DeviceId, what: &str) -> Flap {
        let flap = self.devices[id].rare.some_flaps().note(turn.watched);
        if flap == Flap::Begins {
            self.look_for_stability(turn.now.mono + STABLE, id);
            let message = format!(
                "{}: no more alerts follow before it has been stable for {}",
                flapping_sentence(&self.devices[id], what, turn.watched),
                RoundedDuration(STABLE)
            );
            let reason = Some(Reason::Flapping);
            turn.out.push(self.episode_alert(id, AlertKind::Flapping, reason, message));
            self.report_state(turn, id);
        }
        flap
    }

    fn look_for_stability(&mut self, due: Duration, id: DeviceId) {
        let flaps = self.devices[id].rare.flaps_mut();
        if flaps.is_some_and(|flaps| flaps.look_at(due)) {
            self.timers.push(due, Timer::Stable(id));
        }
    }

    /// Looks on at the devices that an earlier run has left flapping.
    pub(super) fn watch_for_stability(&mut self, turn: &Turn<'_>) {
        for id in self.devices.ids() {
            let flaps = self.devices[id].rare.flaps();
            if let Some(time) = flaps.and_then(|flaps| flaps.stable_in(turn.watched)) {
                self.look_for_stability(turn.now.mono + time, id);
            }
        }
    }

    /// Checks whether a device that flaps is stable again.
    pub(super) fn stable_due(&mut self, turn: &mut Turn<'_>, due: Duration, id: DeviceId) {
        let Some(device) = self.devices.get(id) else { return };
        let Some(flaps) = device.rare.flaps() else { return };
        match flaps.judge(due, turn.watched) {
            Stability::NotDue => {}
            Stability::In(time) => self.look_for_stability(turn.now.mono + time, id),
            // Its state will show when the other device is back.
            Stability::Stable if device.episode.hangs_on_another() => {
                self.look_for_stability(turn.now.mono + STABLE, id);
            }
            Stability::Stable => self.stable_again(turn, id),
        }
    }

    fn stable_again(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let device = &mut self.devices[id];
        let what = "is stable again, after it was alarmed";
        let sentence = flapping_sentence(device, what, turn.watched);
        device.rare.forget_flaps();
        match device.episode.stage() {
            None => {
                let reason = Some(Reason::Flapping);
                turn.out.push(self.episode_alert(id, AlertKind::Recovered, reason, sentence));
            }
            Some(AlertStage::Flapping) => self.report_silence(turn, id),
            Some(
                AlertStage::Sent | AlertStage::Held | AlertStage::Upstream | AlertStage::Returning,
            ) => {}
        }
        self.report_state(turn, id);
        self.save_soon(id);
    }

    fn publish_expire(&self, turn: &mut Turn<'_>, id: DeviceId) {
        let last_contact = self.devices[id].silence.last_contact().unwrap_or_default();
        turn.out.push(self.device_publication(
            "expire",
            id,
            last_contact.as_secs().to_string(),
            false,
        ));
    }

    pub(super) fn expire_repeat_due(&mut self, turn: &mut Turn<'_>, due: Duration, id: DeviceId) {
        let Some(device) = self.devices.get(id) else { return };
        let is_due = device.rare.repeat().is_some_and(|repeat| repeat.due == Some(due));
        if !is_due || !device.episode.is_open() {
            return;
        }
        if self.clock.is_running() {
            self.publish_expire(turn, id);
            let device = &self.devices[id];
            if device.episode.stage() == Some(AlertStage::Sent) && !device.is_flapping() {
                let sentence = expired_sentence(device, turn.now.wall);
                self.remind(turn, id, format!("still so: {sentence}"));
            }
        }
        self.schedule_repeat(turn, id);
    }

    /// Puts the next repetition of `expire/NAME` on the timetable, if the device requests one.
    pub(super) fn schedule_repeat(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let device = &mut self.devices[id];
        if !device.episode.is_open() || !device.is_enabled() {
            return;
        }
        if let Some(repeat) = device.rare.repeat_mut() {
            let due = turn.now.mono + repeat.interval;
            repeat.due = Some(due);
            self.timers.push(due, Timer::ExpireRepeat(id));
        }
    }

    /// Counts again after the devices changed.
    pub(super) fn count_expired(&mut self) {
        let expired = |device: &&Device| device.is_enabled() && device.episode.is_open();
        self.expired_count = self.devices.iter().filter(expired).count();
    }
}
