//! Removes what a monitor left behind under names that it no longer uses.
//!
//! Events go in through the methods, and the resulting work comes out as [`Order`]s. A former
//! identity stays in the store's record until everything that it left behind has been removed, so
//! that a crash at any point only causes a repetition.
//!
//! Identities in a store of another machine are left alone, because they belong to that machine.

mod background;
mod broker;
#[cfg(test)]
mod tests;
mod units;

use crate::model::description::is_description;
use crate::model::device_name::DeviceName;
use crate::model::identity::{Former, Identity, IdentityRecord};
use crate::model::message::{Delivery, FormerPart, Subscription};
use crate::model::spec::MonitorSpec;
use crate::model::state::StateChange;
use crate::model::unit_name::UnitName;
use crate::topic::TopicName;
use broker::Broker;
pub use broker::{Sign, TakedownEnd};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

/// The delay before units are stopped again after a failure.
const UNITS_RETRY: Duration = Duration::from_secs(10);

/// Messages of a former session are waited for no longer than this before states are restored.
const RESTORE_PATIENCE: Duration = Duration::from_secs(30);

/// The work to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Save this record.
    Save(IdentityRecord),
    /// Report this to people.
    Report(Finding),
    /// Stop those of these units that carry the marker of the former clientid, unless a monitor of
    /// this machine uses it, and report [`Takedown::units_stopped`].
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
    /// Record the messages of the former session, and report [`Takedown::committed`].
    Record {
        delivery: Delivery,
        change: StateChange,
    },
    Acknowledge {
        through: Delivery,
    },
    /// Call [`Takedown::time_passed`] at this time.
    WakeAt(Duration),
    /// A former session can bring nothing newer any more.
    LetRestore,
}

/// Reports about the former identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The store was created on another machine, to which all identities in it belong.
    CopiedStore,
    /// This is the first start under another identity.
    Renamed { last: Identity, now: Identity },
    /// Objects on a broker that is no longer the configured one stay there.
    Elsewhere { former: Former, server: String },
    /// Agents of a former clientid were stopped; with their number.
    UnitsStopped { client_id: String, count: usize },
    /// They cannot be stopped for now, which is tried again. Reported once.
    UnitsNotStopped { client_id: String, reason: String },
    /// A monitor of this machine uses the former clientid.
    ClientIdInUse { client_id: String },
    /// The work at the broker has ended.
    Ended { identity: Identity, end: TakedownEnd },
}

/// The former identities of one monitor.
#[derive(Debug)]
pub struct Takedown {
    own: Identity,
    main_defaults: bool,
    /// The record on disk, or on its way there; `None` before the store has been read.
    record: Option<IdentityRecord>,
    /// The store came from another machine.
    is_copied: bool,
    manager_is_up: bool,
    /// The clientid whose units are being stopped.
    stopping: Option<String>,
    /// When the units are stopped again after a failure; the failure has been reported.
    retry_units_at: Option<Duration>,
    reported_units: bool,
    /// The broker has been reached.
    watching: bool,
    /// Whether this monitor has a session of its own.
    records: bool,
    /// That session is subscribed.
    session_stands: bool,
    /// States are not restored before the contents of a former session are known, up to a time
    /// limit that begins when they could be.
    holds_restores: bool,
    restores_wait_until: Option<Duration>,
    /// The work at the broker, and the identity that it concerns.
    broker: Option<(Identity, Broker)>,
    /// Topics on which this monitor's own session has brought something new.
    fresh: BTreeSet<TopicName>,
    /// Base topics of identities whose work has begun: messages below them are this monitor's.
    bases: BTreeSet<String>,
    /// Their clientids, under which devices were described.
    client_ids: BTreeSet<String>,
}

/// The store's knowledge of the devices when it was opened.
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
            reported_units: false,
            watching: false,
            records: spec.records_states(),
            session_stands: false,
            holds_restores: false,
            restores_wait_until: None,
            broker: None,
            fresh: BTreeSet::new(),
            bases: BTreeSet::new(),
            client_ids: BTreeSet::new(),
        }
    }

    /// Whether the store came from another machine, which continues under the same names.
    #[must_use]
    pub fn is_copied(&self) -> bool {
        self.is_copied
    }

    /// Whether no unit of a former clientid that this monitor knows of can be running.
    #[must_use]
    pub fn has_stopped_units(&self) -> bool {
        self.next_units().is_none()
    }

    /// Whether a topic lies below a former base topic, or held a description under a former
    /// clientid: messages there are not news.
    #[must_use]
    pub fn owns(&self, topic: &TopicName) -> bool {
        self.bases.iter().any(|base| {
            topic.as_str().strip_prefix(base.as_str()).is_some_and(|below| below.starts_with('/'))
        }) || self.client_ids.iter().any(|client_id| is_description(topic, client_id))
    }

    /// Whether a former session may still bring states that are newer than those recorded.
    #[must_use]
    pub fn holds_restores(&self) -> bool {
        self.holds_restores
    }

    /// The store has been read: `record` is its record of identities, if it had any.
    pub fn store_opened(&mut self, record: Option<IdentityRecord>, known: Known) -> Vec<Order> {
        let before = record.clone();
        let mut record = record.unwrap_or_default();
        record.main_defaults = self.main_defaults;
        let mut orders = Vec::new();
        if record.current.as_ref().is_some_and(|last| last.is_of_another_machine(&self.own)) {
            self.is_copied = true;
            record.former.clear();
            orders.push(Order::Report(Finding::CopiedStore));
        } else {
            if let Some(last) = retire(&mut record, &self.own, known)
                && last.server == self.own.server
            {
                orders.push(Order::Report(Finding::Renamed { last, now: self.own.clone() }));
            }
        }
        self.settle(record, before.as_ref(), &mut orders);
        self.holds_restores = self.records && self.has_session_to_drain();
        self.stop_next_units(&mut orders);
        self.go_on(&mut orders);
        orders
    }

    /// A reload has changed those parts of the identity that it can change.
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

    /// Applies a record, and reports and saves the new parts of it.
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
                let server = self.own.server.clone();
                orders.push(Order::Report(Finding::Elsewhere { former: former.clone(), server }));
            }
        }
        record.former.retain(|former| !former.is_done());
        if before != Some(&record) {
            orders.push(Order::Save(record.clone()));
        }
        self.record = Some(record);
    }

    /// A new store has replaced the one that was read.
    #[must_use]
    pub fn save_again(&self) -> Vec<Order> {
        self.record.clone().map(Order::Save).into_iter().collect()
    }

    /// Changes the remaining work, drops what is complete, and saves it.
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

/// Adds the identity of the last use to the former ones, if it is not this one, and then returns
/// it.
fn retire(record: &mut IdentityRecord, own: &Identity, known: Known) -> Option<Identity> {
    record.former.retain(|former| !own.takes_over_from(&former.identity));
    let last = record.current.take().filter(|last| !own.takes_over_from(last))?;
    let mut prefixes = known.prefixes;
    prefixes.extend(last.discovery_prefix.clone());
    let mut devices: BTreeSet<DeviceName> = known.devices.into_iter().collect();
    // An identity that was used twice left objects behind both times.
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
