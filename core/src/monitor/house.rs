//! The one voice of all nodes of a cluster: who is there, and the availability of the whole, of which
//! one node speaks. A machine that is by itself is the whole.

use super::Monitor;
use super::turn::Turn;
use crate::model::cluster::node_word::NodeWord;
use crate::model::cluster::sharing::ClusterReply;
use crate::model::message::QoS;
use crate::monitor::Timer;
use bytes::Bytes;

impl Monitor {
    /// Publishes that the whole is available, if that is for this node to say.
    pub(super) fn say_online(&self, turn: &mut Turn<'_>) {
        if self.speaks_for_house() {
            self.say_available(turn, "online");
        }
    }

    fn say_available(&self, turn: &mut Turn<'_>, word: &'static str) {
        let payload = Bytes::from_static(word.as_bytes());
        turn.out.push(self.own_publication("availability", payload, QoS::AtLeastOnce, true, None));
    }

    /// The process ends. The whole is available as long as any node is.
    pub(super) fn say_goodbye(&self, turn: &mut Turn<'_>) {
        if self.nodes.is_some() {
            self.say_of_node(turn, NodeWord::Offline);
        }
        if self.nodes.as_ref().is_none_or(|nodes| !nodes.has_others()) {
            self.say_available(turn, "offline");
        }
    }

    /// The whole is this node's to speak of from now on.
    pub(super) fn house_comes(&mut self, turn: &mut Turn<'_>) {
        self.up_count = 0;
        self.say_online(turn);
        self.announce_all(turn);
    }

    fn say_of_node(&self, turn: &mut Turn<'_>, word: NodeWord) {
        let Some(sharing) = &self.sharing else { return };
        let below = format!("nodes/{}", sharing.node());
        let payload = Bytes::from(word.to_json());
        turn.out.push(self.own_publication(&below, payload, QoS::AtLeastOnce, true, None));
    }

    /// Publishes that this node is connected, behind its subscriptions: what the broker retains has
    /// been read when that comes back.
    pub(super) fn node_subscribed(&mut self, turn: &mut Turn<'_>) {
        let Some(nodes) = &mut self.nodes else { return };
        let dues = nodes.subscribed(turn.now.mono);
        if dues.is_empty() {
            return;
        }
        for due in dues {
            self.timers.push(due, Timer::Nodes);
        }
        self.node_since = turn.now.wall;
        self.say_here(turn);
        self.report_broker(turn);
    }

    /// Publishes that this node is connected.
    pub(super) fn say_here(&self, turn: &mut Turn<'_>) {
        let Some(nodes) = &self.nodes else { return };
        let since = self.node_since.as_secs();
        let starting = nodes.is_starting(turn.now.mono);
        let missing = self.catch_up.is_missing();
        self.say_of_node(turn, NodeWord::Online { since, starting, missing });
    }

    pub(super) fn node_disconnected(&mut self, turn: &Turn<'_>) {
        if let Some(nodes) = &mut self.nodes {
            let due = nodes.disconnected(turn.now.mono);
            self.catch_up.disconnected();
            self.timers.push(due, Timer::Nodes);
        }
    }

    /// Reports to the cluster whether the broker can be reached, once for each change.
    pub(super) fn report_broker(&mut self, turn: &mut Turn<'_>) {
        let is_up = self.clock.is_running();
        let news = self.nodes.as_mut().and_then(|it| it.take_broker_news(turn.now.mono, is_up));
        if let Some(is_there) = news {
            self.reply_to_cluster(turn, ClusterReply::Broker(is_there));
        }
    }
}
