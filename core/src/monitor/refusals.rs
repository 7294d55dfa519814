//! The consequences of publications that the broker refuses (see [`crate::machines::refusals`]).

use super::turn::Turn;
use crate::model::alert::AlertKind;
use crate::model::message::Token;
use crate::monitor::Monitor;
use crate::topic::TopicName;

impl Monitor {
    pub(super) fn publication_refused(
        &mut self,
        turn: &mut Turn<'_>,
        topic: &TopicName,
        reason: String,
        token: Option<Token>,
    ) {
        if let Some(root) = self.refusals.refused(&self.base_topic, topic, reason.clone()) {
            let message = format!(
                "the broker does not take what is published below `{root}`, such as `{topic}`: \
                 {reason}"
            );
            turn.raise(AlertKind::PublishRefused, message);
        }
        if token.is_some_and(|token| self.probes.is_answered_by(token)) {
            self.probe_succeeded(turn);
        } else {
            self.restored_refused(turn, token, topic);
        }
        self.forget_echoes_of(topic);
    }

    pub(super) fn publication_accepted(&mut self, turn: &mut Turn<'_>, topic: &TopicName) {
        if let Some(root) = self.refusals.accepted(&self.base_topic, topic) {
            let message = format!("the broker takes what is published below `{root}` again");
            turn.raise(AlertKind::PublishAccepted, message);
        }
    }

    /// Reports once the features that the broker lacks; everything else continues without them.
    pub(super) fn broker_lacks(&mut self, turn: &mut Turn<'_>, what: &str) {
        if self.refusals.lacks(what) {
            let message = format!("the broker is used without what it does not offer: {what}");
            turn.raise(AlertKind::BrokerLimited, message);
        }
    }
}
