//! Orders that hold for all nodes of a cluster: they go into the shared store first, and take effect on
//! this node when they are there, and on the others when those have read them.
//!
//! While the store does not answer, they are refused. An order that only one node had taken would not
//! hold for a device that moves to another one, and might contradict an order taken there.

use super::Daemon;
use super::cluster::{Cluster, NO_CLUSTER};
use super::reload::CommandReply;
use crate::cluster::{ClusterHandle, OrderError};
use crate::request::{Command, Rejection};
use iotmonitor_core::model::cluster::NodeName;
use iotmonitor_core::model::cluster::orders::{Choice, SharedOrder};
use iotmonitor_core::model::cluster::view::ClusterView;
use iotmonitor_core::model::device_name::DeviceName;
use std::future::pending;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Orders beyond this number are refused. Each takes a second or two.
const MOST_WAITING: usize = 64;

/// Orders on their way to the store.
#[derive(Default)]
pub struct PlacedOrders(JoinSet<Placed>);

/// An order that is in the store, or why it is not.
pub struct Placed {
    command: Command,
    /// The caller waits until it has taken effect.
    waits: bool,
    reply: CommandReply,
    outcome: Result<(), OrderError>,
}

impl PlacedOrders {
    /// Returns the next order that has been placed. Dropping the future loses nothing.
    pub async fn placed(&mut self) -> Placed {
        loop {
            match self.0.join_next().await {
                Some(Ok(placed)) => return placed,
                // A panic ends a task and drops its caller's channel, which the caller notices.
                Some(Err(_)) => {}
                None => return pending().await,
            }
        }
    }
}

impl Daemon<'_> {
    /// The thread of the cluster, if this machine is a node of one.
    fn cluster_handle(&self) -> Option<Result<ClusterHandle, OrderError>> {
        self.cluster.as_ref().map(Cluster::handle)
    }

    pub(super) fn show_cluster(&self, reply: oneshot::Sender<Result<Box<ClusterView>, Rejection>>) {
        self.ask_cluster(reply, async |handle| handle.view().await.map(Box::new));
    }

    /// Answers when the node has the agent.
    pub(super) fn move_agent(&self, agent: DeviceName, to: NodeName, reply: CommandReply) {
        if !self.monitor.knows_agent(&agent) {
            let rejection = match self.monitor.knows(&agent) {
                true => Rejection::Failed(OrderError::NotShared(agent).to_string()),
                false => Rejection::UnknownDevice(agent),
            };
            let _ = reply.send(Err(rejection));
            return;
        }
        self.ask_cluster(reply, async move |handle| handle.move_agent(agent, to).await);
    }

    /// Answers when the node has nothing left, or takes part again. Without a node this one is meant.
    pub(super) fn drain_node(&self, node: Option<NodeName>, drains: bool, reply: CommandReply) {
        self.ask_cluster(reply, async move |handle| handle.drain(node, drains).await);
    }

    /// Asks the thread of the cluster, in a task. The caller may have gone away meanwhile.
    fn ask_cluster<T: Send + 'static, F>(
        &self,
        reply: oneshot::Sender<Result<T, Rejection>>,
        ask: impl FnOnce(ClusterHandle) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<T, OrderError>> + Send,
    {
        let handle = match self.cluster_handle() {
            Some(Ok(handle)) => handle,
            Some(Err(error)) => {
                let _ = reply.send(Err(Rejection::Failed(error.to_string())));
                return;
            }
            None => {
                let _ = reply.send(Err(Rejection::Failed(NO_CLUSTER.to_owned())));
                return;
            }
        };
        tokio::spawn(async move {
            let answer = ask(handle).await;
            let _ = reply.send(answer.map_err(|error| Rejection::Failed(error.to_string())));
        });
    }

    /// Places the command in the shared store if it is to hold for all nodes. Otherwise it returns the
    /// channel for the answer.
    pub(super) fn place(
        &mut self,
        command: &Command,
        waits: bool,
        reply: CommandReply,
    ) -> Option<CommandReply> {
        let Some(handle) = self.cluster_handle() else { return Some(reply) };
        let Some(order) = self.shared_order(command) else { return Some(reply) };
        // What can be refused without the store is.
        let checked = self.event_of(command.clone()).and_then(|_| {
            let handle = handle.map_err(|error| Rejection::Failed(error.to_string()))?;
            if self.placed_orders.0.len() >= MOST_WAITING {
                let sentence = "too many orders are on their way to etcd: try again";
                return Err(Rejection::Failed(sentence.to_owned()));
            }
            Ok(handle)
        });
        match checked {
            Ok(handle) => {
                let command = command.clone();
                self.placed_orders.0.spawn(async move {
                    let outcome = handle.order(order).await;
                    Placed { command, waits, reply, outcome }
                });
            }
            Err(rejection) => drop(reply.send(Err(rejection))),
        }
        None
    }

    /// Carries out on this node what is in the shared store by now.
    pub(super) fn placed(&mut self, placed: Placed) {
        let Placed { command, waits, reply, outcome } = placed;
        match outcome {
            Ok(()) if waits => self.follow_here(command, reply),
            Ok(()) => self.obey_here(command, reply),
            Err(error) => drop(reply.send(Err(Rejection::Failed(error.to_string())))),
        }
    }

    fn shared_order(&self, command: &Command) -> Option<SharedOrder> {
        Some(match command {
            Command::Enable(device) => {
                // A choice is needed only against the section.
                let by_section = self.monitor.is_enabled_by_its_section(device);
                let choice = (!by_section).then_some(Choice::Enabled);
                SharedOrder::Choose { device: device.clone(), choice }
            }
            Command::Disable(device) => {
                let choice = Some(Choice::Disabled);
                SharedOrder::Choose { device: device.clone(), choice }
            }
            Command::Pause(device, span) => {
                let enabled_before = self.monitor.is_enabled_by_choice(device);
                let choice = Some(Choice::Paused { span: *span, enabled_before });
                SharedOrder::Choose { device: device.clone(), choice }
            }
            Command::Silence(of, span) => {
                SharedOrder::Silence { of: of.clone(), span: Some(*span) }
            }
            Command::Unsilence(of) => SharedOrder::Silence { of: of.clone(), span: None },
            Command::Reload
            | Command::Restore(_)
            | Command::RestartAgent(_)
            | Command::Forget(_)
            | Command::TestAlert(_) => return None,
        })
    }
}
