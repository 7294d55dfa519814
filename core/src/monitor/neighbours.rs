//! What other nodes of a cluster say over the broker: that they are there, and how the devices are
//! that they have.

use super::Monitor;
use super::turn::Turn;
use crate::machines::nodes::Nodes;
use crate::model::action::Action;
use crate::model::cluster::NodeName;
use crate::model::cluster::node_word::NodeWord;
use crate::model::device_id::DeviceId;
use crate::model::message::Message;
use crate::model::notice::Notice;
use crate::model::status::StatusWord;

impl Monitor {
    /// A message below the base topic, perhaps of another node.
    pub(super) fn word_of_node(&mut self, turn: &mut Turn<'_>, message: &Message) {
        let below = message.topic.below(&self.base_topic);
        let Some((kind, name)) = below.and_then(|below| below.split_once('/')) else { return };
        match kind {
            "nodes" if name.contains('/') => self.sent_to_node(turn, name, message),
            "nodes" => {
                let Ok(name) = NodeName::new(name) else { return };
                let word: Option<NodeWord> = serde_json::from_slice(&message.payload).ok();
                let nodes = self.nodes.as_mut();
                if nodes.is_some_and(|nodes| nodes.heard(&name, word, message.retain)) {
                    self.take_up_parts(turn);
                }
                if self.nodes.as_mut().is_some_and(Nodes::take_names_changed) {
                    self.announce_all(turn);
                }
                self.stand_in(turn);
                self.nodes_changed(turn);
            }
            "status" => {
                if let Some(id) = self.devices.named_as(name) {
                    self.status_said(turn, id, message);
                }
            }
            _ => {}
        }
    }

    /// A message on `nodes/NAME`, which may contain states for this node. What the broker retains is not
    /// addressed to anybody.
    fn sent_to_node(&mut self, turn: &mut Turn<'_>, name: &str, message: &Message) {
        let node = self.sharing.as_ref().map(|sharing| sharing.node().as_str());
        let is_sent_here = name
            .split_once('/')
            .is_some_and(|(to, kind)| Some(to) == node && kind.starts_with("sync/"));
        if is_sent_here && !message.retain {
            self.states_sent(turn, message);
        }
    }

    fn status_said(&mut self, turn: &mut Turn<'_>, id: DeviceId, message: &Message) {
        if !self.devices[id].monitoring.is_elsewhere() {
            return;
        }
        let word = StatusWord::parse(&message.payload);
        if !message.retain && word.as_ref().is_some_and(|word| word.is_owned) {
            self.standby.served(id);
        }
        let is_down = word.as_ref().is_some_and(StatusWord::is_down);
        let device = &mut self.devices[id];
        let is_other = device.monitoring.say_down(is_down);
        match word {
            Some(word) => self.standby.said(id, word),
            None => self.standby.unsaid(id),
        }
        self.note_standing(turn.now.wall, id);
        if is_other && is_down {
            self.fell(turn, id);
        } else if is_other {
            self.rose(turn, id);
        }
        turn.out.push(Action::Notify(Notice::StateChanged(Box::new(self.view_of(id)))));
    }

    /// Looks at the connection of this node, and at what it waits to read.
    pub(super) fn nodes_due(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let Some(nodes) = &mut self.nodes else { return };
        let has_read = nodes.read_due(now);
        if self.clock.is_running() && !nodes.is_starting(now) {
            self.say_here(turn);
        }
        self.report_broker(turn);
        if has_read {
            self.take_up_parts(turn);
        }
        self.stand_in(turn);
        self.nodes_changed(turn);
    }
}
