//! Wildcards in place of many subscriptions of the watch connection (see
//! [`crate::machines::covering`]): when they are requested, and the consequences of a refusal.
//!
//! The state connection uses none: messages of others would fill the queue that the broker keeps
//! for it.

use crate::machines::covering::Cause;
use crate::model::alert::AlertKind;
use crate::model::message::FilterRefusal;
use crate::model::plan::{Plan, find};
use crate::monitor::Monitor;
use crate::monitor::turn::Turn;

impl Monitor {
    /// Processes the answer to the last request. Returns the refusals that leave a device unheard.
    pub(super) fn watch_plan_answered<'r>(
        &mut self,
        turn: &mut Turn<'_>,
        mut refused: Vec<&'r FilterRefusal>,
    ) -> Vec<&'r FilterRefusal> {
        if refused.is_empty() || !self.covering.is_in_force() {
            self.covering.answered(false);
            self.unsubscribe_left(turn);
            return refused;
        }
        let (single, (covered, _)) = (self.single_watch_plan(), self.covered_watch_plan());
        let is_in = |plan: &Plan, refusal: &FilterRefusal| find(plan, &refusal.filter).is_some();
        let is_single_refused = refused.iter().any(|refusal| !is_in(&covered, refusal));
        let refused_wildcard = refused.iter().find(|refusal| !is_in(&single, refusal)).copied();
        if self.covering.answered(is_single_refused) {
            self.keep_wildcards(turn, single, &covered);
            refused.retain(|refusal| is_in(&covered, refusal));
        } else if self.covering.is_wanted()
            && let Some(FilterRefusal { filter, reason }) = refused_wildcard
        {
            let message = format!(
                "the broker refused the subscription to `{filter}` ({reason}), which would have \
                 stood for many: each is made by itself, which takes longer"
            );
            self.give_wildcards_up(turn, Cause::Refused, message);
            refused.retain(|refusal| is_in(&single, refusal));
            return refused;
        }
        self.unsubscribe_left(turn);
        refused
    }

    fn give_wildcards_up(&mut self, turn: &mut Turn<'_>, cause: Cause, message: String) {
        let (had, _) = self.watch_plan();
        self.covering.give_up(cause);
        turn.raise(AlertKind::BrokerLimited, message);
        self.resubscribe_watch(turn, had);
    }

    /// The broker refused to subscribe to each topic filter individually: those that it granted are
    /// removed again, and the wildcards, which are still there, stay.
    fn keep_wildcards(&mut self, turn: &mut Turn<'_>, mut single: Plan, covered: &Plan) {
        single.retain(|subscription| find(covered, &subscription.filter).is_none());
        self.covering.leave(single);
        self.watch.forget_refused_unless(|filter| find(covered, filter).is_some());
        self.covering.planned(turn.now.mono, true);
    }

    /// A live message was unwanted, which only a wildcard causes.
    pub(super) fn came_in_vain(&mut self, turn: &mut Turn<'_>) {
        if self.covering.was_unwanted(turn.now.mono) {
            let message =
                "more than half of what the broker sent for 10 s was for no device, because \
                 few subscriptions with wildcards stand for many: each is made by itself from now \
                 on; a higher `maxSubscriptions` in [mqtt] does so from the start"
                    .to_owned();
            self.give_wildcards_up(turn, Cause::Surplus, message);
        }
    }
}
