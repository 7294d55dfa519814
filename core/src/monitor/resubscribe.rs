//! Updates the subscriptions of the watch connection to the wanted ones, and finds the devices that
//! cannot be heard because the broker refuses one of their filters.

use crate::model::action::Action;
use crate::model::device_id::DeviceId;
use crate::model::message::{Connection, Subscription};
use crate::model::plan::{self, Plan};
use crate::monitor::Monitor;
use crate::monitor::turn::Turn;
use crate::topic::TopicFilter;
use crate::topic::index::TopicIndex;

impl Monitor {
    /// Updates the subscriptions of a living connection to the plan; `had` is the previous request.
    pub(super) fn resubscribe_watch(&mut self, turn: &mut Turn<'_>, mut had: Plan) {
        if !self.watch.is_up() {
            return;
        }
        let mut leaving = self.covering.take_leaving();
        let is_awaited = !leaving.is_empty();
        had.append(&mut leaving);
        had.sort_unstable_by(|a, b| a.filter.cmp(&b.filter));
        let (planned, has_wildcards) = self.watch_plan();
        self.covering.planned(turn.now.mono, has_wildcards);
        if self.watch.has_refused_any() {
            let in_force = self.watch_plan_in_force();
            let is_planned = |filter: &TopicFilter| plan::find(&in_force, filter).is_some();
            self.watch.forget_refused_unless(is_planned);
        }
        let gone = had.iter().filter(|had| plan::find(&planned, &had.filter).is_none());
        self.covering.leave(gone.cloned().collect());
        // A refused filter is requested again, because a person may have fixed the broker first.
        let is_new = |wanted: &Subscription| {
            plan::find(&had, &wanted.filter) != Some(wanted)
                || self.watch.has_refused(&wanted.filter)
        };
        let wanted: Plan = planned.into_iter().filter(is_new).collect();
        self.judge_deafness(turn);
        // New filters come before old ones, so that no filter is without a subscription in between.
        if !wanted.is_empty() {
            turn.out
                .push(Action::Subscribe { connection: Connection::Watch, subscriptions: wanted });
        } else if !is_awaited {
            self.unsubscribe_left(turn);
        }
    }

    /// A device with a filter that the broker refused cannot be judged by its silence.
    pub(super) fn judge_deafness(&mut self, turn: &mut Turn<'_>) {
        let granted = self.granted_filters();
        for id in self.devices.ids() {
            self.judge_deafness_by(turn, id, granted.as_ref());
        }
    }

    /// The same for one device that was not there when the broker refused.
    pub(super) fn judge_deafness_of(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        if let Some(granted) = self.granted_filters() {
            self.judge_deafness_by(turn, id, Some(&granted));
        }
    }

    fn judge_deafness_by(
        &mut self,
        turn: &mut Turn<'_>,
        id: DeviceId,
        granted: Option<&TopicIndex<()>>,
    ) {
        let filters = granted.map(|_| self.watch_filters(id));
        let deaf = granted
            .zip(filters)
            .is_some_and(|(granted, filters)| !filters.iter().all(|filter| granted.covers(filter)));
        if self.devices[id].silence.set_deaf(deaf, turn.watched) {
            self.arm(id);
        }
    }

    /// The filters that the broker has not refused; `None` when it has refused none.
    fn granted_filters(&self) -> Option<TopicIndex<()>> {
        if !self.watch.has_refused_any() {
            return None;
        }
        let mut granted = TopicIndex::new();
        for Subscription { filter, .. } in self.watch_plan_in_force() {
            if !self.watch.has_refused(&filter) {
                granted.insert(&filter, ());
            }
        }
        Some(granted)
    }

    /// Ends the subscriptions whose replacements were granted.
    pub(super) fn unsubscribe_left(&mut self, turn: &mut Turn<'_>) {
        let leaving = self.covering.take_leaving();
        if !leaving.is_empty() {
            let filters = leaving.into_iter().map(|subscription| subscription.filter).collect();
            turn.out.push(Action::Unsubscribe { connection: Connection::Watch, filters });
        }
    }
}
