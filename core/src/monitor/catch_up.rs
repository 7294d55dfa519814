//! Conducts how a node gets the states that it has missed (see [`crate::machines::catch_up`]).

use super::Monitor;
use super::turn::Turn;
use crate::machines::catch_up::CatchUpStep;
use crate::machines::orders::is_no_state;
use crate::model::action::Action;
use crate::model::message::{Message, Protocol, QoS, Token};
use crate::model::state::{ReadId, StateRecord, WriteId};
use crate::model::state_line::StateLine;
use crate::monitor::Timer;
use crate::monitor::states::given;
use crate::topic::TopicName;
use bytes::Bytes;

/// A message contains no more lines when it is as long as this. Brokers on small machines limit
/// packets to 64 KiB.
const MESSAGE_BYTES: usize = 32 * 1024;

impl Monitor {
    /// The broker had no session for this node.
    pub(super) fn session_lost(&mut self, turn: &mut Turn<'_>, protocol: Protocol) {
        let Some(nodes) = &self.nodes else { return };
        // Others cannot have more where restored states are taken for new ones.
        let is_known = nodes.has_read() && !nodes.has_complete_others();
        if protocol == Protocol::V311 || is_known {
            return;
        }
        let due = self.catch_up.lost_session(turn.now.mono);
        self.timers.push(due, Timer::Nodes);
        if self.clock.is_running() {
            self.say_here(turn);
        }
    }

    /// Goes on without what is still missing, if nobody has it or nothing more is to come.
    pub(super) fn end_catching_up(&mut self, turn: &mut Turn<'_>) {
        if self.catch_up.complete() {
            self.say_here(turn);
            if self.session.is_taken_in() {
                self.backlog_taken_in(turn);
            }
        }
    }

    /// It is known which nodes there are, or that has changed.
    pub(super) fn nodes_changed(&mut self, turn: &mut Turn<'_>) {
        let Some(nodes) = self.nodes.as_ref().filter(|nodes| nodes.has_read()) else { return };
        if self.catch_up.is_missing() {
            if !nodes.has_complete_others() || self.catch_up.is_overdue(turn.now.mono) {
                self.end_catching_up(turn);
            }
            return;
        }
        self.catch_up.asked(nodes.to_help());
        self.read_for_node(turn);
    }

    fn read_for_node(&mut self, turn: &mut Turn<'_>) {
        if !self.catch_up.wants_read() {
            return;
        }
        self.next_read += 1;
        let read = ReadId::CatchUp(self.next_read);
        let after = self.catch_up.next_read(read);
        turn.out.push(Action::ReadStates { read, filters: Vec::new(), after });
    }

    /// Sends a chunk of states to the node that has missed some.
    pub(super) fn states_for_node(
        &mut self,
        turn: &mut Turn<'_>,
        read: ReadId,
        states: Vec<StateRecord>,
        next: Option<TopicName>,
    ) {
        let Some(node) = self.catch_up.chunk_read(read, next) else { return };
        let mut messages = Vec::new();
        let mut lines = String::new();
        for StateRecord { topic, payload, qos, retain, time } in states {
            let line = StateLine::of(topic.as_str(), &payload, qos as u8, retain, time).to_json();
            if !lines.is_empty() && lines.len() + line.len() >= MESSAGE_BYTES {
                messages.push(std::mem::take(&mut lines));
            }
            lines.push_str(&line);
            lines.push('\n');
        }
        if !lines.is_empty() {
            messages.push(lines);
        }
        if self.catch_up.is_last() {
            messages.push(String::new());
        }
        // Each has a topic of its own, since one would replace another that has not been sent.
        for lines in messages {
            let token = self.new_token();
            self.catch_up.awaits(token);
            let below = format!("nodes/{node}/sync/{}", self.catch_up.number());
            let (payload, qos) = (Bytes::from(lines.into_bytes()), QoS::AtLeastOnce);
            turn.out.push(self.own_publication(&below, payload, qos, false, Some(token)));
        }
    }

    /// The broker has acknowledged a publication; returns whether it was the last one of a chunk.
    pub(super) fn chunk_taken(&mut self, turn: &mut Turn<'_>, token: Token) -> bool {
        let is_chunk = self.catch_up.acknowledged(token) == CatchUpStep::Read;
        if is_chunk {
            self.read_for_node(turn);
        }
        is_chunk
    }

    /// Another node has sent states, or everything that it had.
    pub(super) fn states_sent(&mut self, turn: &mut Turn<'_>, message: &Message) {
        if !self.catch_up.is_missing() {
            return;
        }
        if message.payload.is_empty() {
            return self.end_catching_up(turn);
        }
        let lines = message.payload.split(|byte| *byte == b'\n');
        let states =
            lines.filter_map(|line| serde_json::from_slice::<StateLine>(line).ok()?.record());
        let is_wanted = |state: &StateRecord| {
            self.is_recorded(&state.topic)
                && !self.is_own(&state.topic)
                && !is_no_state(&state.topic, &state.payload)
        };
        let changes: Vec<_> = states.filter(is_wanted).map(given).collect();
        if !changes.is_empty() {
            let (write, keep_newer) = (WriteId::CatchUp, true);
            turn.out.push(Action::WriteStates { write, changes, keep_newer });
        }
    }
}
