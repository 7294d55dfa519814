//! Answers the cluster when an agent of another node has ended here.

use crate::machines::agent::Agent;
use crate::machines::sharing::Place;
use crate::model::action::Action;
use crate::model::cluster::sharing::ClusterReply;
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::unit::UnitReport;
use crate::model::unit_name::UnitName;
use crate::monitor::Monitor;
use crate::monitor::sentences::noun;
use crate::monitor::turn::Turn;

impl Monitor {
    /// Looks whether an agent that is to leave this node has ended.
    pub(in crate::monitor) fn note_ended(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let Some(sharing) = &mut self.sharing else { return };
        let device = &self.devices[id];
        let has_ended = device.rare.agent().is_some_and(Agent::has_ended);
        if !has_ended || !device.monitoring.is_elsewhere() {
            return;
        }
        if let Some(reply) = sharing.stopped(&device.spec.name) {
            self.reply_to_cluster(turn, reply);
        }
    }

    /// An agent leaves the configuration, and its unit is stopped.
    pub(in crate::monitor) fn agent_departs(&mut self, name: &DeviceName, gone: &Agent) {
        if let Some(sharing) = &mut self.sharing {
            sharing.departs(name, gone.unit());
        }
    }

    /// The unit of an agent that has left the configuration has ended.
    pub(super) fn unit_departed(&mut self, turn: &mut Turn<'_>, unit: &UnitName) {
        let reply = self.sharing.as_mut().and_then(|sharing| sharing.unit_stopped(unit));
        if let Some(reply) = reply {
            self.reply_to_cluster(turn, reply);
        }
    }

    /// Notes which of the units that are to end have ended while nothing was heard of them.
    pub(super) fn departures_listed(&mut self, turn: &mut Turn<'_>, units: &[UnitReport]) {
        let Some(sharing) = &mut self.sharing else { return };
        let listed = units.iter().map(|report| report.unit.clone()).collect();
        for reply in sharing.listed(&listed) {
            self.reply_to_cluster(turn, reply);
        }
    }

    pub(in crate::monitor) fn reply_to_cluster(&self, turn: &mut Turn<'_>, reply: ClusterReply) {
        turn.out.push(Action::Reply(reply));
    }

    /// Puts each agent and device where it is before anything has been done about it.
    pub(in crate::monitor) fn place_all(&mut self) {
        if self.sharing.is_none() {
            return;
        }
        for id in self.devices.ids() {
            self.place_device(id);
        }
        let Some(sharing) = &self.sharing else { return };
        for id in self.devices.agents() {
            let device = &mut self.devices[id];
            let place = sharing.place(&device.spec.name);
            device.monitoring.set_elsewhere(place == Place::Elsewhere);
            if let (Place::Here(tenure), Some(agent)) = (place, device.rare.agent_mut()) {
                agent.expect(&device.spec.name, tenure);
            }
        }
    }

    /// The sentence about an agent or device that this node does not have.
    pub(in crate::monitor) fn elsewhere_sentence(&self, id: DeviceId) -> String {
        let device = &self.devices[id];
        let (name, noun) = (&device.spec.name, noun(device));
        let verb = if device.rare.agent().is_some() { "runs on" } else { "is watched by" };
        match self.node_of(id) {
            Some(node) => format!("{noun} `{name}` {verb} node `{node}`: give the order there"),
            None => format!(
                "{noun} `{name}` is not on this node, and no other node is known to have it: try \
                 again when the cluster has placed it"
            ),
        }
    }
}
