//! Recorded states for people: requests that the store answers later.
//!
//! Deliberately absent: what becomes of restores when a state is given or taken away, which is the
//! monitor's; it gets every change, and reading alone passes it by.

use super::Daemon;
use crate::bus::{Forgotten, Imported, Rejection, Selection, StatePage};
use crate::monitor::Action;
use crate::monitor::event::{Event, ReadId, StateRecord, WriteId};
use crate::monitor::states::StateOrder;
use crate::topic::TopicName;
use std::collections::BTreeMap;
use tokio::sync::oneshot;

type Reply<T> = oneshot::Sender<Result<T, Rejection>>;

/// Who waits for which answer of the store. One that never comes is dropped with the daemon, which
/// tells who waits that it has ended.
#[derive(Default)]
pub struct Answers {
    asked: u64,
    reads: BTreeMap<ReadId, Reply<StatePage>>,
    writes: BTreeMap<WriteId, Box<dyn FnOnce(usize)>>,
}

impl Answers {
    fn await_read(&mut self, reply: Reply<StatePage>) -> ReadId {
        self.asked += 1;
        let read = ReadId(u64::MAX - self.asked);
        self.reads.insert(read, reply);
        read
    }

    fn await_write(&mut self, then: impl FnOnce(usize) + 'static) -> WriteId {
        self.asked += 1;
        let write = WriteId(self.asked);
        self.writes.insert(write, Box::new(then));
        write
    }

    /// Takes the events that are answers, and gives back all others.
    pub fn pass_on(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::StatesRead { read, states, next } => match self.reads.remove(&read) {
                Some(reply) => {
                    // Who asked may have gone away meanwhile; here and below.
                    let _ = reply.send(Ok(StatePage { states, next }));
                    None
                }
                None => Some(Event::StatesRead { read, states, next }),
            },
            Event::StatesWritten { write, changed } => {
                if let Some(then) = self.writes.remove(&write) {
                    then(changed);
                }
                None
            }
            other => Some(other),
        }
    }
}

impl Daemon<'_> {
    pub(super) fn read_states(
        &mut self,
        of: Selection,
        after: Option<TopicName>,
        reply: Reply<StatePage>,
    ) {
        let filters = match of {
            Selection::All => Vec::new(),
            Selection::Filter(filter) => vec![filter],
            Selection::Device(name) => match self.monitor.state_filters_of(&name) {
                Some(filters) if !filters.is_empty() => filters,
                // No filter would mean everything.
                Some(_) => {
                    let _ = reply.send(Ok(StatePage { states: Vec::new(), next: None }));
                    return;
                }
                None => {
                    let _ = reply.send(Err(Rejection::UnknownDevice(name)));
                    return;
                }
            },
        };
        let read = self.answers.await_read(reply);
        self.parts.carry_out(&self.wiring, Action::ReadStates { read, filters, after });
    }

    pub(super) fn set_state(&mut self, mut state: StateRecord, reply: Reply<bool>) {
        if let Err(rejection) = self.check_topic(&state.topic) {
            let _ = reply.send(Err(rejection));
            return;
        }
        if !self.monitor.records_topic(&state.topic) {
            let sentence = format!(
                "no device has `{}` among its stateTopics, so nobody would ever get it back: \
                 `mosquitto_pub` publishes to any topic",
                state.topic
            );
            let _ = reply.send(Err(Rejection::Failed(sentence)));
            return;
        }
        state.time = self.now().wall;
        let published = self.monitor.publishes_states();
        let write = self.answers.await_write(move |_| drop(reply.send(Ok(published))));
        self.turn(Event::StatesOrdered { write, order: StateOrder::Set(state) });
    }

    pub(super) fn forget_state(&mut self, topic: TopicName, clear: bool, reply: Reply<Forgotten>) {
        if let Err(rejection) = self.check_topic(&topic) {
            let _ = reply.send(Err(rejection));
            return;
        }
        let cleared = clear && self.monitor.publishes_states();
        let write = self.answers.await_write(move |changed| {
            drop(reply.send(Ok(Forgotten { recorded: changed > 0, cleared })));
        });
        self.turn(Event::StatesOrdered { write, order: StateOrder::Forget { topic, clear } });
    }

    pub(super) fn import_states(&mut self, states: Vec<StateRecord>, reply: Reply<Imported>) {
        let checked = states.iter().try_for_each(|state| self.check_topic(&state.topic));
        if let Err(rejection) = checked {
            let _ = reply.send(Err(rejection));
            return;
        }
        let claimed = states.iter().filter(|state| self.monitor.records_topic(&state.topic));
        let unclaimed = states.len() - claimed.count();
        let write = self.answers.await_write(move |recorded| {
            drop(reply.send(Ok(Imported { recorded, unclaimed })));
        });
        self.turn(Event::StatesOrdered { write, order: StateOrder::Import(states) });
    }

    fn check_topic(&self, topic: &TopicName) -> Result<(), Rejection> {
        if self.monitor.is_own_topic(topic) {
            return Err(Rejection::Failed(format!(
                "`{topic}` lies below baseTopic, where the monitor publishes its own: nothing \
                 there is a state"
            )));
        }
        Ok(())
    }
}
