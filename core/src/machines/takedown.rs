//! What is to become of what a monitor left under names that it no longer has.
//!
//! A closed machine: what happens goes in by its methods, and what is to be done comes out as
//! [`Order`]s. An identity that is no longer in use stays in the store's record until all that it
//! left has been taken down, so that a crash at any point only has it done again.
//!
//! Deliberately absent: what a store of another machine says is left, which is that machine's.

mod broker;
#[cfg(test)]
mod tests;

use crate::model::alert::AlertKind;
use crate::model::device_name::DeviceName;
use crate::model::identity::{Former, Identity, IdentityRecord};
use crate::model::message::{Delivery, FormerPart, LossReason, Message, Subscription};
use crate::model::spec::MonitorSpec;
use crate::model::state::{StateChange, StateRecord};
use crate::model::unit::UnitsOutcome;
use crate::model::unit_name::UnitName;
use crate::model::words::counted;
use crate::topic::TopicName;
use broker::{Broker, End};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long to wait before units are stopped again that could not be.
const UNITS_RETRY: Duration = Duration::from_secs(10);

/// What may come of a former session is waited for no longer than this before states are restored.
const RESTORE_PATIENCE: Duration = Duration::from_secs(30);

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Keep this on disk.
    Save(IdentityRecord),
    /// Tell a person.
    Tell(AlertKind, String),
    /// Stop those of these units that bear the mark of the former clientid, unless a monitor of this
    /// machine goes by it, and report [`Takedown::units_stopped`].
    StopUnits {
        client_id: String,
        units: Vec<UnitName>,
    },
    /// Connect with this clientid, in place of an earlier connection.
    Connect {
        part: FormerPart,
        client_id: String,
    },
    Disconnect,
    Subscribe {
        part: FormerPart,
        subscriptions: Vec<Subscription>,
    },
    /// At QoS 1; one that is `awaited` is followed by [`Takedown::cleared`].
    Publish {
        part: FormerPart,
        topic: TopicName,
        payload: Bytes,
        retain: bool,
        awaited: bool,
    },
    /// Record what the former session brought, and report [`Takedown::committed`].
    Record {
        delivery: Delivery,
        change: StateChange,
    },
    Acknowledge {
        through: Delivery,
    },
    /// Call [`Takedown::time_passed`] at this time.
    WakeAt(Duration),
    /// Nothing newer can come of a former session any more.
    LetRestore,
}

/// The former identities of one monitor.
#[derive(Debug)]
pub struct Takedown {
    own: Identity,
    main_defaults: bool,
    /// As it is on disk, or on its way there; `None` before the store has been read.
    record: Option<IdentityRecord>,
    /// The store came from another machine.
    is_copied: bool,
    manager_is_up: bool,
    /// The clientid whose units are being stopped.
    stopping: Option<String>,
    /// When units are stopped again that could not be; that they could not has been told.
    retry_units_at: Option<Duration>,
    told_units: bool,
    /// The broker has been reached.
    watching: bool,
    /// Whether this monitor has a session of its own.
    records: bool,
    /// That session is subscribed.
    session_stands: bool,
    /// States are not restored before it is known what a former session holds, up to a time that
    /// is set when they could be.
    holds_restores: bool,
    restores_wait_until: Option<Duration>,
    /// The work at the broker, and whose it is.
    broker: Option<(Identity, Broker)>,
    /// Topics that this monitor's own session has brought something new of.
    fresh: BTreeSet<TopicName>,
    /// Base topics of identities whose work was begun: what is said below them is this monitor's.
    bases: BTreeSet<String>,
}

/// What the store knew of the devices when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub devices: Vec<DeviceName>,
    /// Prefixes below which they were described for Home Assistant.
    pub prefixes: BTreeSet<String>,
}

impl Takedown {
    #[must_use]
    pub fn new(own: Identity, spec: &MonitorSpec) -> Self {
        Self {
            own,
            main_defaults: spec.origin.main_defaults,
            record: None,
            is_copied: false,
            manager_is_up: false,
            stopping: None,
            retry_units_at: None,
            told_units: false,
            watching: false,
            records: spec.records_states(),
            session_stands: false,
            holds_restores: false,
            restores_wait_until: None,
            broker: None,
            fresh: BTreeSet::new(),
            bases: BTreeSet::new(),
        }
    }

    /// Whether the store came from another machine, which goes on under the same names.
    #[must_use]
    pub fn is_copied(&self) -> bool {
        self.is_copied
    }

    /// Whether no unit of a former clientid can be running that this monitor knows of.
    #[must_use]
    pub fn has_stopped_units(&self) -> bool {
        self.next_units().is_none()
    }

    /// Whether a topic lies below a former base topic: what is said there is no news.
    #[must_use]
    pub fn owns(&self, topic: &TopicName) -> bool {
        self.bases.iter().any(|base| {
            topic.as_str().strip_prefix(base.as_str()).is_some_and(|below| below.starts_with('/'))
        })
    }

    /// Whether a former session may still bring states that are newer than those recorded.
    #[must_use]
    pub fn holds_restores(&self) -> bool {
        self.holds_restores
    }

    /// The store has been read: `record` is what it kept of identities, if it kept any.
    pub fn store_opened(&mut self, record: Option<IdentityRecord>, known: Known) -> Vec<Order> {
        let before = record.clone();
        let mut record = record.unwrap_or_default();
        record.main_defaults = self.main_defaults;
        let mut orders = Vec::new();
        if record.current.as_ref().is_some_and(|last| last.is_of_another_machine(&self.own)) {
            self.is_copied = true;
            record.former.clear();
            orders.push(Order::Tell(
                AlertKind::LeftBehind,
                "the store was made on another machine, which may still be in use: nothing that \
                 was published from there is taken back. If both are to run, give one of them \
                 another clientid and baseTopic"
                    .to_owned(),
            ));
        } else {
            if let Some(last) = retire(&mut record, &self.own, known)
                && last.server == self.own.server
            {
                orders.push(Order::Tell(AlertKind::IdentityChanged, changed(&last, &self.own)));
            }
        }
        self.settle(record, before.as_ref(), &mut orders);
        self.holds_restores = self.records && self.has_session_to_drain();
        self.stop_next_units(&mut orders);
        self.go_on(&mut orders);
        orders
    }

    /// A reload has changed what of the identity a reload can change.
    pub fn reconfigured(&mut self, own: Identity, spec: &MonitorSpec, known: Known) -> Vec<Order> {
        let mut orders = Vec::new();
        if own.server != self.own.server {
            self.watching = false;
            self.session_stands = false;
            orders.extend(self.broker.take().map(|_| Order::Disconnect));
        }
        self.own = own;
        self.main_defaults = spec.origin.main_defaults;
        self.records = spec.records_states();
        let Some(mut record) = self.record.take() else { return orders };
        let before = record.clone();
        record.main_defaults = self.main_defaults;
        retire(&mut record, &self.own, known);
        self.settle(record, Some(&before), &mut orders);
        self.go_on(&mut orders);
        orders
    }

    /// Puts a record in force, told and saved as far as it is new.
    fn settle(
        &mut self,
        mut record: IdentityRecord,
        before: Option<&IdentityRecord>,
        orders: &mut Vec<Order>,
    ) {
        record.current = Some(self.own.clone());
        for former in &mut record.former {
            former.units_done |= former.identity.client_id == self.own.client_id;
            if former.identity.server != self.own.server && !former.broker_done {
                former.broker_done = true;
                orders.push(Order::Tell(AlertKind::LeftBehind, elsewhere(former, &self.own)));
            }
        }
        record.former.retain(|former| !former.is_done());
        if before != Some(&record) {
            orders.push(Order::Save(record.clone()));
        }
        self.record = Some(record);
    }

    /// A new store has taken the place of the one that was read.
    #[must_use]
    pub fn save_again(&self) -> Vec<Order> {
        self.record.clone().map(Order::Save).into_iter().collect()
    }

    // Units.

    pub fn manager_connected(&mut self) -> Vec<Order> {
        self.manager_is_up = true;
        // What was asked for before a loss is never answered.
        self.stopping = None;
        let mut orders = Vec::new();
        self.stop_next_units(&mut orders);
        orders
    }

    pub fn manager_lost(&mut self) {
        self.manager_is_up = false;
        self.stopping = None;
    }

    /// The answer to [`Order::StopUnits`].
    pub fn units_stopped(
        &mut self,
        now: Duration,
        client_id: &str,
        outcome: UnitsOutcome,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        if self.stopping.as_deref() != Some(client_id) {
            return orders;
        }
        self.stopping = None;
        match outcome {
            UnitsOutcome::Stopped { count } => {
                if count > 0 {
                    let message = format!(
                        "{} of the former clientid `{client_id}` stopped",
                        if count == 1 {
                            "1 agent was".to_owned()
                        } else {
                            format!("{count} agents were")
                        }
                    );
                    orders.push(Order::Tell(AlertKind::AgentStopped, message));
                }
                self.told_units = false;
                self.change_formers(&mut orders, |former| {
                    former.units_done |= former.identity.client_id == client_id;
                });
            }
            UnitsOutcome::InUse => {
                let message = format!(
                    "another monitor of this machine goes by the former clientid `{client_id}`: \
                     what was left under it is left to that one"
                );
                orders.push(Order::Tell(AlertKind::LeftBehind, message));
                self.change_formers(&mut orders, |former| {
                    let is_its = former.identity.client_id == client_id;
                    former.units_done |= is_its;
                    former.broker_done |= is_its;
                });
            }
            UnitsOutcome::Failed { reason } => {
                if !std::mem::replace(&mut self.told_units, true) {
                    let message = format!(
                        "agents of the former clientid `{client_id}` cannot be stopped ({reason}): \
                         no agent is started before they are, it is tried again"
                    );
                    orders.push(Order::Tell(AlertKind::AgentFailed, message));
                }
                let due = now + UNITS_RETRY;
                self.retry_units_at = Some(due);
                orders.push(Order::WakeAt(due));
                return orders;
            }
        }
        self.stop_next_units(&mut orders);
        self.go_on(&mut orders);
        orders
    }

    fn next_units(&self) -> Option<&Former> {
        self.record.as_ref()?.former.iter().find(|former| !former.units_done)
    }

    fn stop_next_units(&mut self, orders: &mut Vec<Order>) {
        if !self.manager_is_up || self.stopping.is_some() {
            return;
        }
        self.retry_units_at = None;
        let Some(former) = self.next_units() else { return };
        let client_id = former.identity.client_id.clone();
        let units = former.devices.iter();
        let units =
            units.filter_map(|name| UnitName::for_agent(&client_id, name.as_str()).ok()).collect();
        orders.push(Order::StopUnits { client_id: client_id.clone(), units });
        self.stopping = Some(client_id);
    }

    // The broker.

    /// The watch connection stands, so that the broker can be reached.
    pub fn watching(&mut self) -> Vec<Order> {
        self.watching = true;
        let mut orders = Vec::new();
        self.go_on(&mut orders);
        orders
    }

    /// This monitor's own session is subscribed, and has brought what the broker had kept for it.
    pub fn session_stands(&mut self, now: Duration) -> Vec<Order> {
        self.session_stands = true;
        let mut orders = Vec::new();
        if self.holds_restores && self.restores_wait_until.is_none() {
            let until = now + RESTORE_PATIENCE;
            self.restores_wait_until = Some(until);
            orders.push(Order::WakeAt(until));
        }
        self.go_on(&mut orders);
        orders
    }

    /// This monitor's own session has brought something; a `replay` may be older than what a
    /// former session holds.
    pub fn state_arrived(&mut self, topic: &TopicName, replay: bool) {
        let is_awaited = self.record.as_ref().is_some_and(|record| !record.former.is_empty());
        if is_awaited && !replay && self.records {
            self.fresh.insert(topic.detached());
        }
    }

    /// Another monitor was heard below this one's own base topic.
    pub fn another_heard(&mut self) -> Vec<Order> {
        self.with_broker(|broker| broker.another_heard())
    }

    pub fn connected(
        &mut self,
        now: Duration,
        part: FormerPart,
        session_present: bool,
    ) -> Vec<Order> {
        self.with_broker(|broker| broker.connected(now, part, session_present))
    }

    pub fn disconnected(&mut self, part: FormerPart, reason: &LossReason) -> Vec<Order> {
        self.with_broker(|broker| broker.disconnected(part, reason))
    }

    pub fn subscribed(&mut self, part: FormerPart, refused: bool) -> Vec<Order> {
        self.with_broker(|broker| broker.subscribed(part, refused))
    }

    /// A message on the former identity's connection. `state` is what it would be recorded as, if
    /// it is a state.
    pub fn message(
        &mut self,
        now: Duration,
        (part, delivery): (FormerPart, Delivery),
        message: &Message,
        state: Option<StateRecord>,
    ) -> Vec<Order> {
        match part {
            FormerPart::Look => {
                let mut orders = vec![Order::Acknowledge { through: delivery }];
                orders.extend(self.with_broker(|broker| broker.looked_at(message)));
                orders
            }
            FormerPart::Drain => {
                let is_own = self.owns(&message.topic) || self.fresh.contains(&message.topic);
                let change = match state.filter(|_| !is_own) {
                    Some(state) => StateChange::Put(state),
                    None => StateChange::Nothing,
                };
                let mut orders = vec![Order::Record { delivery, change }];
                orders.extend(
                    self.with_broker(|broker| (broker.drained(now, delivery, message), None)),
                );
                orders
            }
            FormerPart::End => vec![Order::Acknowledge { through: delivery }],
        }
    }

    /// What the former session brought up to here is on disk.
    pub fn committed(&mut self, now: Duration, through: Delivery) -> Vec<Order> {
        self.with_broker(|broker| (broker.committed(now, through), None))
    }

    /// The awaited publication was acknowledged.
    pub fn cleared(&mut self) -> Vec<Order> {
        self.with_broker(Broker::cleared)
    }

    pub fn time_passed(&mut self, now: Duration) -> Vec<Order> {
        let mut orders = Vec::new();
        if self.retry_units_at.is_some_and(|due| now >= due) {
            self.stop_next_units(&mut orders);
        }
        if self.restores_wait_until.is_some_and(|until| now >= until) {
            self.let_restore(&mut orders);
        }
        orders.extend(self.with_broker(|broker| broker.time_passed(now)));
        orders
    }

    /// The next former identity that left something at this broker.
    fn front<'r>(&self, record: &'r IdentityRecord) -> Option<&'r Former> {
        record.former.iter().find(|former| !former.broker_done)
    }

    fn with_broker(
        &mut self,
        step: impl FnOnce(&mut Broker) -> (Vec<Order>, Option<End>),
    ) -> Vec<Order> {
        let Some((identity, broker)) = &mut self.broker else { return Vec::new() };
        let (mut orders, end) = step(broker);
        if let Some(end) = end {
            let identity = identity.clone();
            self.broker = None;
            self.finish(&identity, &end, &mut orders);
        }
        self.go_on(&mut orders);
        orders
    }

    /// Begins or continues what waits for nothing any more.
    fn go_on(&mut self, orders: &mut Vec<Order>) {
        let mut begun = Vec::new();
        while self.watching && self.broker.is_none() {
            let Some(record) = &self.record else { break };
            // Who goes by the clientid on this machine is known once its units were asked for.
            let Some(former) = self.front(record).filter(|former| former.units_done) else { break };
            let identity = former.identity.clone();
            match Broker::begin(former, &self.own, self.records) {
                Some((broker, begin)) => {
                    if identity.base_topic != self.own.base_topic {
                        self.bases.insert(identity.base_topic.clone());
                    }
                    begun = begin;
                    self.broker = Some((identity, broker));
                }
                None => self.finish(&identity, &End::Done, orders),
            }
        }
        orders.extend(begun);
        if let Some((_, broker)) = &mut self.broker
            && broker.awaits_own_session()
            && self.session_stands
        {
            orders.extend(broker.own_session_stands());
        }
        if self.holds_restores && !self.has_session_to_drain() {
            self.let_restore(orders);
        }
    }

    /// Whether a former session may hold states that are not recorded yet.
    fn has_session_to_drain(&self) -> bool {
        let Some(record) = &self.record else { return false };
        record.former.iter().any(|former| {
            let at_work = self.broker.as_ref().filter(|(identity, _)| *identity == former.identity);
            !former.broker_done
                && former.identity.client_id != self.own.client_id
                && at_work.is_none_or(|(_, broker)| broker.may_bring_states())
        })
    }

    fn let_restore(&mut self, orders: &mut Vec<Order>) {
        self.holds_restores = false;
        self.restores_wait_until = None;
        orders.push(Order::LetRestore);
    }

    fn finish(&mut self, identity: &Identity, end: &End, orders: &mut Vec<Order>) {
        let Identity { client_id, base_topic, .. } = identity;
        let names = format!("the former clientid `{client_id}` and baseTopic `{base_topic}`");
        orders.push(match end {
            End::Done => Order::Tell(
                AlertKind::IdentityChanged,
                format!("what was left at the broker under {names} has been taken down"),
            ),
            End::InUse(how) => Order::Tell(
                AlertKind::LeftBehind,
                format!("another monitor goes by {names}, for {how}: what was left is left to it"),
            ),
            End::Unseen => Order::Tell(
                AlertKind::LeftBehind,
                format!(
                    "the broker does not let be seen whether another monitor goes by {names}: what \
                     was left under them is not taken down"
                ),
            ),
        });
        self.change_formers(orders, |former| {
            former.broker_done |= former.identity.takes_over_from(identity);
        });
        if self.record.as_ref().is_none_or(|record| record.former.is_empty()) {
            self.fresh.clear();
        }
    }

    /// Changes what is left to do, drops what is done, and has it saved.
    fn change_formers(&mut self, orders: &mut Vec<Order>, change: impl Fn(&mut Former)) {
        let Some(record) = &mut self.record else { return };
        let before = record.clone();
        record.former.iter_mut().for_each(change);
        record.former.retain(|former| !former.is_done());
        if *record != before {
            orders.push(Order::Save(record.clone()));
        }
    }
}

/// What is left on a broker that is no longer the configured one.
fn elsewhere(former: &Former, own: &Identity) -> String {
    let Identity { client_id, base_topic, server, .. } = &former.identity;
    let devices = counted(former.devices.len(), "device");
    let described = match former.prefixes.as_slice() {
        [] => String::new(),
        prefixes => {
            format!(", their descriptions below `{}/device/`", prefixes.join("/device/`, `"))
        }
    };
    format!(
        "the broker was {server} and is {} now: what iotmonitor left at the former one stays there, \
         `{base_topic}/availability` and `{base_topic}/status/NAME` of {devices}{described}, and the \
         session of `{client_id}-states`",
        own.server
    )
}

/// What a person is told at the first start under another identity.
fn changed(last: &Identity, own: &Identity) -> String {
    format!(
        "the monitor went by the clientid `{}` and the baseTopic `{}`, and goes by `{}` and `{}` now: \
         what it left under the former ones is taken down",
        last.client_id, last.base_topic, own.client_id, own.base_topic
    )
}

/// Has the identity of the last use join the former ones, if it is not this one, and returns it then.
fn retire(record: &mut IdentityRecord, own: &Identity, known: Known) -> Option<Identity> {
    record.former.retain(|former| !own.takes_over_from(&former.identity));
    let last = record.current.take().filter(|last| !own.takes_over_from(last))?;
    let mut prefixes = known.prefixes;
    prefixes.extend(last.discovery_prefix.clone());
    let mut devices: BTreeSet<DeviceName> = known.devices.into_iter().collect();
    // One that was used twice left what it left at either time.
    let again = record.former.iter().position(|former| last.takes_over_from(&former.identity));
    if let Some(at) = again {
        let former = record.former.remove(at);
        devices.extend(former.devices);
        prefixes.extend(former.prefixes);
    }
    record.former.push(Former {
        identity: last.clone(),
        devices: devices.into_iter().collect(),
        prefixes: prefixes.into_iter().collect(),
        units_done: false,
        broker_done: false,
    });
    Some(last)
}
