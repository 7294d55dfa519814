//! What people have ordered for all nodes, one key for each order.
//!
//! An order that has ended leaves a value behind, and its key is not deleted: one that is given again
//! compares that value. A late copy of an earlier request would otherwise find no key, as it did
//! when it was sent.

use super::client::EtcdClient;
use super::error::EtcdError;
use super::gateway::{self, Condition, KeyValue, TxnResult};
use iotmonitor_core::model::cluster::NodeName;
use iotmonitor_core::model::cluster::orders::{
    Choice, MoveOrder, OrderStamp, SharedChoice, SharedOrder, SharedOrders, TimedOrder,
};
use iotmonitor_core::model::device_name::DeviceName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Another node may change the same key meanwhile.
const TRIES: usize = 3;

/// Stands for everything. No name of a device contains `#`.
const EVERYTHING: &str = "#all";

/// The names of the keys below the prefix of the cluster.
#[derive(Debug)]
pub struct OrderKeys {
    choices: String,
    silences: String,
    drains: String,
    moves: String,
}

impl OrderKeys {
    pub fn below(prefix: &str) -> Self {
        Self {
            choices: format!("{prefix}disabled/"),
            silences: format!("{prefix}silenced/"),
            drains: format!("{prefix}drains/"),
            moves: format!("{prefix}moves/"),
        }
    }

    /// Takes a key in if it is an order. What another version has written and this one does not
    /// understand holds for those that do.
    pub fn take_in(&self, orders: &mut SharedOrders, key: &str, value: &[u8]) {
        let device = |key: &str| DeviceName::new(key).ok();
        // An order that has ended has none of the fields.
        if let Some(name) = key.strip_prefix(&self.choices) {
            insert(&mut orders.choices, device(name), value);
        } else if let Some(name) = key.strip_prefix(&self.silences) {
            let of = if name == EVERYTHING { Some(None) } else { device(name).map(Some) };
            insert(&mut orders.silences, of, value);
        } else if let Some(name) = key.strip_prefix(&self.drains) {
            insert(&mut orders.drains, NodeName::new(name).ok(), value);
        } else if let Some(name) = key.strip_prefix(&self.moves) {
            insert(&mut orders.moves, device(name), value);
        }
    }

    /// The key of an order, its value, and whether it only ends an earlier one.
    fn entry(&self, order: &SharedOrder) -> Result<Entry, EtcdError> {
        let stamp = random_stamp();
        let time = |span: Option<Duration>| TimedOrder {
            stamp,
            given: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            lasts: span.map(|span| span.as_secs().max(1)),
        };
        match order {
            SharedOrder::Choose { device, choice } => {
                let choice = choice.map(|choice| {
                    let enabled = choice == Choice::Enabled;
                    let (span, enabled_before) = match choice {
                        Choice::Paused { span, enabled_before } => (Some(span), enabled_before),
                        Choice::Enabled | Choice::Disabled => (None, false),
                    };
                    SharedChoice { enabled, enabled_before, time: time(span) }
                });
                encoded(format!("{}{device}", self.choices), choice, stamp)
            }
            SharedOrder::Silence { of, span } => {
                let name = of.as_ref().map_or(EVERYTHING, DeviceName::as_str);
                let silence = span.map(|span| time(Some(span)));
                encoded(format!("{}{name}", self.silences), silence, stamp)
            }
            SharedOrder::Drain { node, drains } => {
                encoded(format!("{}{node}", self.drains), drains.then_some(stamp), stamp)
            }
            SharedOrder::Move { agent, to } => {
                let order = MoveOrder { to: to.clone(), stamp };
                encoded(format!("{}{agent}", self.moves), Some(order), stamp)
            }
            SharedOrder::Withdraw { agent, .. } => {
                encoded(format!("{}{agent}", self.moves), None::<()>, stamp)
            }
        }
    }

    /// Commits an order. Two members may carry the request out, of which one succeeds.
    pub async fn commit(&self, client: &EtcdClient, order: &SharedOrder) -> Result<(), EtcdError> {
        let Entry { key, value, ends } = self.entry(order)?;
        for _ in 0..TRIES {
            let asked = gateway::range(&key, &format!("{key}\0"));
            let found = client.call(gateway::RANGE, asked, gateway::range_answer).await?;
            let found = found.into_iter().next();
            if found.is_none() && ends {
                return Ok(());
            }
            if let SharedOrder::Withdraw { order, .. } = order
                && !found.as_ref().is_some_and(|found| is(order, &found.value))
            {
                // It has been replaced by another one.
                return Ok(());
            }
            let put = [(key.clone(), value.clone())];
            let body = gateway::txn(&[condition(&key, found)], &put, &key);
            match client.call(gateway::TXN, body, gateway::txn_answer).await? {
                TxnResult::Committed { .. } => return Ok(()),
                TxnResult::Refused(Some(found)) if found.value == value => return Ok(()),
                TxnResult::Refused(_) => {}
            }
        }
        Err(EtcdError::Contended { key })
    }
}

/// A stamp that no other order has.
pub fn random_stamp() -> OrderStamp {
    // The keys of the hasher are random.
    OrderStamp { stamp: RandomState::new().build_hasher().finish() }
}

fn is(order: &MoveOrder, value: &[u8]) -> bool {
    serde_json::from_slice::<MoveOrder>(value).is_ok_and(|found| found == *order)
}

pub fn condition(key: &str, found: Option<KeyValue>) -> Condition {
    let key = key.to_owned();
    match found {
        Some(KeyValue { value, mod_revision, .. }) => Condition::Holds { key, mod_revision, value },
        None => Condition::Absent { key },
    }
}

fn insert<K: Ord, V: DeserializeOwned>(into: &mut BTreeMap<K, V>, key: Option<K>, value: &[u8]) {
    if let (Some(key), Ok(value)) = (key, serde_json::from_slice(value)) {
        into.insert(key, value);
    }
}

/// What an order puts.
struct Entry {
    key: String,
    value: Vec<u8>,
    ends: bool,
}

fn encoded<T: Serialize>(
    key: String,
    value: Option<T>,
    stamp: OrderStamp,
) -> Result<Entry, EtcdError> {
    let ends = value.is_none();
    let value = match value {
        Some(value) => serde_json::to_vec(&value),
        None => serde_json::to_vec(&serde_json::json!({ "ended": stamp.stamp })),
    };
    match value {
        Ok(value) => Ok(Entry { key, value, ends }),
        Err(source) => Err(EtcdError::Value { key, source }),
    }
}
