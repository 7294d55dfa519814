//! What can happen to the nodes and the store.

use super::{Event, World};
use iotmonitor_core::model::cluster::Item;
use std::time::Duration;

impl World {
    /// Stops the monitor (SIGSTOP), or all of the node as a virtual machine is paused.
    pub fn pause(&mut self, node: usize, time: Duration, whole: bool) {
        let this = &mut self.nodes[node];
        if this.is_on && this.paused_until.is_none() {
            this.paused_until = Some(self.now + time);
            this.is_frozen = whole;
            self.after(time, Event::Continues { node });
        }
    }

    /// The monitor is killed, and with it what it says of its parts. Agents and the guard go on, and it
    /// is back after a time.
    pub fn kill_monitor(&mut self, node: usize, time: Duration) {
        let this = &mut self.nodes[node];
        if this.is_on && !this.is_frozen {
            this.runs.retain(|item, _| !item.needs_broker());
            // It was to stop them itself.
            self.queue.retain(|(_, event)| {
                !matches!(event, Event::Stopped { node: of, item, .. }
                    if *of == node && item.needs_broker())
            });
            let this = &mut self.nodes[node];
            this.monitor = None;
            this.process += 1;
            this.backlog.clear();
            this.paused_until = None;
            this.is_fencing = false;
            let process = this.process;
            self.after(time, Event::MonitorStarts { node, process });
        }
    }

    /// The guard is killed, and with it everything shared. The monitor starts it again.
    pub fn kill_guard(&mut self, node: usize) {
        if self.nodes[node].is_on && !self.nodes[node].is_frozen {
            self.kill(node);
            self.nodes[node].guard = None;
            self.nodes[node].deadline = None;
            self.kill_monitor(node, Duration::from_secs(1));
        }
    }

    /// Nothing that the node sends arrives any more.
    pub fn cut(&mut self, node: usize) {
        self.nodes[node].is_cut = true;
    }

    pub fn power_off(&mut self, node: usize, time: Duration) {
        if self.nodes[node].is_on {
            let running: Vec<Item> = self.nodes[node].runs.keys().cloned().collect();
            for item in running {
                self.end(node, &item);
            }
            let this = &mut self.nodes[node];
            (this.is_on, this.is_frozen, this.is_fencing) = (false, false, false);
            (this.monitor, this.guard, this.deadline, this.kept) = (None, None, None, None);
            this.paused_until = None;
            this.backlog.clear();
            this.process += 1;
            let boot = this.boot;
            self.after(time, Event::Booted { node, boot });
        }
    }

    pub fn drain(&mut self, node: usize, drains: bool) {
        self.nodes[node].drains = drains;
        self.call(node, |member, now| member.set_drains(now, drains));
    }

    pub fn move_to(&mut self, item: &Item, node: usize) {
        let name = self.nodes[node].name.clone();
        for owner in 0..self.nodes.len() {
            let (item, name) = (item.clone(), name.clone());
            self.call(owner, |member, now| member.move_to(now, item, name));
        }
    }

    /// The store is away, and has lost its last writes when it is back.
    pub fn lose_writes(&mut self, writes: usize, away: Duration) {
        self.store.lose(writes);
        self.store_away = self.store_away.max(self.now + away);
    }
}
