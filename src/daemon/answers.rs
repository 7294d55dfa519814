//! Requests for recorded states, which the store answers later.
//!
//! Reads go to the store alone. The monitor receives every change, because a state that is set or
//! removed affects pending restores.

use super::Daemon;
use crate::request::{Forgotten, Imported, Rejection, Selection, StatePage};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::state::{ReadId, StateOrder, StateRecord, WriteId};
use iotmonitor_core::topic::TopicName;
use std::collections::BTreeMap;
use tokio::sync::oneshot;

type Reply<T> = oneshot::Sender<Result<T, Rejection>>;

/// The callers that wait for an answer of the store. While the store fails, no caller is kept
/// waiting, because the store holds its commands back until it works again, which may be never. A
/// caller whose answer never comes is dropped with the daemon, and learns that the daemon has
/// ended.
#[derive(Default)]
pub struct Answers {
    asked: u64,
    reads: BTreeMap<ReadId, Reply<StatePage>>,
    writes: BTreeMap<WriteId, Written>,
    /// The reason why the store cannot be used at the moment.
    failure: Option<String>,
}

/// Receives the number of states that were changed.
type Written = Box<dyn FnOnce(Result<usize, Rejection>)>;

impl Answers {
    /// Registers a caller that waits for a page; `None` when there is nothing to wait for, and the
    /// caller has been answered.
    fn await_read(&mut self, reply: Reply<StatePage>) -> Option<ReadId> {
        if let Some(rejection) = self.rejection() {
            // The caller may have gone away meanwhile, here and below.
            let _ = reply.send(Err(rejection));
            return None;
        }
        self.asked += 1;
        let read = ReadId::Question(self.asked);
        self.reads.insert(read, reply);
        Some(read)
    }

    /// The same for a change.
    fn await_write<T: 'static>(
        &mut self,
        reply: Reply<T>,
        answer: impl FnOnce(usize) -> T + 'static,
    ) -> Option<WriteId> {
        if let Some(rejection) = self.rejection() {
            let _ = reply.send(Err(rejection));
            return None;
        }
        self.asked += 1;
        let write = WriteId::Order(self.asked);
        let then = move |outcome: Result<usize, Rejection>| drop(reply.send(outcome.map(answer)));
        self.writes.insert(write, Box::new(then));
        Some(write)
    }

    fn rejection(&self) -> Option<Rejection> {
        let failure = self.failure.as_ref()?;
        Some(Rejection::Failed(format!("the store cannot be used at the moment: {failure}")))
    }

    /// Passes an answer on to the caller that waits for it. Returns whether the event was one,
    /// which concerns nothing else.
    pub fn pass_on(&mut self, event: &mut Event) -> bool {
        match event {
            Event::StatesRead { read, states, next } => {
                let Some(reply) = self.reads.remove(read) else { return false };
                let page = StatePage { states: std::mem::take(states), next: next.take() };
                let _ = reply.send(Ok(page));
                return true;
            }
            Event::StatesWritten { write, changed } => {
                if let Some(then) = self.writes.remove(write) {
                    then(Ok(*changed));
                }
                return true;
            }
            Event::StoreFailed { error } | Event::StoreLost { error } => self.fail(error),
            Event::StoreOpened(_) | Event::StoreRecovered => self.failure = None,
            _ => {}
        }
        false
    }

    /// Answers all waiting callers. A change that was requested before is made when the store works
    /// again.
    fn fail(&mut self, error: &str) {
        self.failure = Some(error.to_owned());
        let Some(rejection) = self.rejection() else { return };
        for reply in std::mem::take(&mut self.reads).into_values() {
            let _ = reply.send(Err(rejection.clone()));
        }
        for then in std::mem::take(&mut self.writes).into_values() {
            then(Err(rejection.clone()));
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
                // No filter would match everything.
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
        let Some(read) = self.answers.await_read(reply) else { return };
        self.adapters.carry_out(&self.settings, Action::ReadStates { read, filters, after });
    }

    pub(super) fn set_state(&mut self, mut state: StateRecord, reply: Reply<bool>) {
        if let Err(rejection) = self.check_topic(&state.topic) {
            let _ = reply.send(Err(rejection));
            return;
        }
        if !self.monitor.records_topic(&state.topic) {
            let sentence = format!(
                "no device has `{}` among its stateTopics, so it would never be restored: \
                 `mosquitto_pub` publishes to any topic",
                state.topic
            );
            let _ = reply.send(Err(Rejection::Failed(sentence)));
            return;
        }
        if self.monitor.is_no_state(&state) {
            let sentence = format!(
                "`{}` receives a query, a toggle or a relative value, which cannot be restored: `mosquitto_pub` publishes it",
                state.topic
            );
            let _ = reply.send(Err(Rejection::Failed(sentence)));
            return;
        }
        state.time = self.now().wall;
        let published = self.monitor.publishes_states();
        let Some(write) = self.answers.await_write(reply, move |_| published) else { return };
        self.turn(Event::StatesOrdered { write, order: StateOrder::Set(state) });
    }

    pub(super) fn forget_state(&mut self, topic: TopicName, clear: bool, reply: Reply<Forgotten>) {
        if let Err(rejection) = self.check_topic(&topic) {
            let _ = reply.send(Err(rejection));
            return;
        }
        let cleared = clear && self.monitor.publishes_states();
        let answer = move |changed| Forgotten { recorded: changed > 0, cleared };
        let Some(write) = self.answers.await_write(reply, answer) else { return };
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
        let answer = move |recorded| Imported { recorded, unclaimed };
        let Some(write) = self.answers.await_write(reply, answer) else { return };
        self.turn(Event::StatesOrdered { write, order: StateOrder::Import(states) });
    }

    fn check_topic(&self, topic: &TopicName) -> Result<(), Rejection> {
        if self.monitor.is_own_topic(topic) {
            return Err(Rejection::Failed(format!(
                "`{topic}` is below baseTopic, where the monitor publishes: nothing there is a state"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::message::QoS;
    use std::time::Duration;

    fn failure() -> Event {
        Event::StoreFailed { error: "the disk is full".to_owned() }
    }

    fn state() -> StateRecord {
        StateRecord {
            topic: TopicName::new("lamp/set").unwrap(),
            payload: "on".into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            time: Duration::ZERO,
        }
    }

    fn states_read(read: ReadId) -> Event {
        Event::StatesRead { read, states: vec![state()], next: Some(state().topic) }
    }

    #[test]
    fn answers_reach_their_callers_and_other_events_pass() {
        let mut answers = Answers::default();
        let (reply, mut page) = oneshot::channel();
        let read = answers.await_read(reply).unwrap();
        let (reply, mut doubled) = oneshot::channel();
        let write = answers.await_write(reply, |changed| changed * 2).unwrap();

        // A read for a restore, or an event that is not an answer.
        let restore = states_read(ReadId::Restore(1));
        let mut event = restore.clone();
        assert!(!answers.pass_on(&mut event));
        assert_eq!(event, restore, "the monitor gets it whole");
        assert!(!answers.pass_on(&mut Event::TimePassed));
        assert!(page.try_recv().is_err() && doubled.try_recv().is_err());

        assert!(answers.pass_on(&mut states_read(read)));
        let (states, next) = (vec![state()], Some(state().topic));
        assert_eq!(page.try_recv().unwrap(), Ok(StatePage { states, next }));
        assert!(answers.pass_on(&mut Event::StatesWritten { write, changed: 3 }));
        assert_eq!(doubled.try_recv().unwrap(), Ok(6));
    }

    #[test]
    fn no_caller_waits_for_a_store_that_fails() {
        let mut answers = Answers::default();
        let said = |answer: Rejection| answer.to_string().contains("the disk is full");
        let (reply, mut page) = oneshot::channel();
        let read = answers.await_read(reply).unwrap();
        let (reply, mut changed) = oneshot::channel();
        answers.await_write(reply, |changed| changed).unwrap();
        assert!(!answers.pass_on(&mut failure()));
        assert!(said(page.try_recv().unwrap().unwrap_err()));
        assert!(said(changed.try_recv().unwrap().unwrap_err()));

        let (reply, mut page) = oneshot::channel();
        assert_eq!(answers.await_read(reply), None);
        assert!(said(page.try_recv().unwrap().unwrap_err()));

        // A late answer has no recipient, and everything works again.
        assert!(!answers.pass_on(&mut states_read(read)));
        for mut mended in [Event::StoreRecovered, Event::StoreOpened(Box::default())] {
            answers.pass_on(&mut failure());
            answers.pass_on(&mut mended);
            let (reply, _page) = oneshot::channel();
            assert!(answers.await_read(reply).is_some());
        }
    }
}
