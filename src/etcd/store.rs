//! The store of the cluster's rule: its requests as transactions on etcd's keys.

use super::client::EtcdClient;
use super::error::EtcdError;
use super::gateway::{self, Condition, KeyValue, TxnResult};
use super::orders::OrderKeys;
use super::sections::{Applied, SharedSectionKeys};
use super::settings::EtcdSettings;
use iotmonitor_core::model::cluster::orders::{SharedOrder, SharedOrders};
use iotmonitor_core::model::cluster::sections::SectionsVersion;
use iotmonitor_core::model::cluster::store::{
    Compare, Put, Revision, StoreAnswer, StoreContents, StoreRequest, Transaction, Versioned,
};
use iotmonitor_core::model::cluster::{NodeName, NodeRecord, OwnerPlan};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What the nodes of one cluster share. A request may be sent while others are on their way.
#[derive(Debug)]
pub struct EtcdStore {
    client: EtcdClient,
    keys: Keys,
    /// What the last read found. A node of another version may write a value that this version
    /// would write otherwise, and what is compared are its bytes.
    found: Mutex<BTreeMap<String, KeyValue>>,
}

/// The names of the keys. All kinds are one range, so that a read shows one moment.
#[derive(Debug)]
struct Keys {
    nodes: String,
    plan: String,
    orders: OrderKeys,
    sections: SharedSectionKeys,
    first: String,
    behind: String,
}

impl Keys {
    fn below(prefix: &str) -> Self {
        Self {
            nodes: format!("{prefix}node/"),
            plan: format!("{prefix}plan"),
            orders: OrderKeys::below(prefix),
            first: format!("{prefix}config"),
            sections: SharedSectionKeys::below(prefix),
            // The first key behind all that begin with `silenced/`.
            behind: format!("{prefix}silenced0"),
        }
    }

    fn node(&self, name: &NodeName) -> String {
        format!("{}{name}", self.nodes)
    }
}

impl EtcdStore {
    #[must_use]
    pub fn new(settings: &EtcdSettings) -> Self {
        let prefix = format!("/iotmonitor/{}/", settings.cluster);
        Self {
            client: EtcdClient::new(settings, &prefix),
            keys: Keys::below(&prefix),
            found: Mutex::default(),
        }
    }

    /// Carries a request out, within about a second.
    ///
    /// # Errors
    /// Returns the reason for which nothing is known of the result. A commit may have been made, and
    /// may still be made.
    pub async fn request(&self, request: &StoreRequest) -> Result<StoreAnswer, EtcdError> {
        match request {
            StoreRequest::Read => self.read().await.map(StoreAnswer::Read),
            StoreRequest::Commit(transaction) => self.commit(transaction).await,
        }
    }

    /// Commits what a person has ordered for all nodes, within some seconds.
    ///
    /// # Errors
    /// Returns the reason for which nothing is known of the result. The order may have been
    /// committed, and may still be.
    pub async fn order(&self, order: &SharedOrder) -> Result<(), EtcdError> {
        self.keys.orders.commit(&self.client, order).await
    }

    /// Replaces the sections that all nodes share, within some seconds. An empty text removes them.
    ///
    /// # Errors
    /// Returns an error if etcd does not answer, in which case they may have been replaced, or if
    /// somebody else has replaced them meanwhile.
    pub async fn apply(&self, text: &str, by: &NodeName) -> Result<Applied, EtcdError> {
        self.keys.sections.apply(&self.client, text, by).await
    }

    /// Reads the text of a version of these sections; `None` if not all of it is there.
    ///
    /// # Errors
    /// Returns an error if etcd does not answer.
    pub async fn sections(&self, version: &SectionsVersion) -> Result<Option<String>, EtcdError> {
        self.keys.sections.fetch(&self.client, version).await
    }

    /// Reads everything. What has not changed is not left out, since the rule has to notice also
    /// that etcd has lost a key.
    async fn read(&self) -> Result<StoreContents, EtcdError> {
        let body = gateway::range(&self.keys.first, &self.keys.behind);
        let found = self.client.call(gateway::RANGE, body, gateway::range_answer).await?;
        let mut contents = StoreContents::default();
        let mut orders = SharedOrders::default();
        let mut raw = BTreeMap::new();
        for found in found {
            let key = String::from_utf8_lossy(&found.key).into_owned();
            if key == self.keys.plan {
                contents.plan = Some(versioned(&key, &found)?);
            } else if let Some(name) = key.strip_prefix(&self.keys.nodes) {
                let Ok(name) = NodeName::new(name) else { return Err(EtcdError::Key { key }) };
                contents.nodes.insert(name, versioned(&key, &found)?);
            } else if key == self.keys.sections.config {
                // One that this version cannot read holds for those that can.
                contents.config = serde_json::from_slice(&found.value).ok();
                continue;
            } else {
                // People's orders, and what another version may have put between these.
                self.keys.orders.take_in(&mut orders, &key, &found.value);
                continue;
            }
            raw.insert(key, found);
        }
        contents.orders = Arc::new(orders);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = raw;
        Ok(contents)
    }

    /// One request may be carried out by two members. The second one finds that a condition does not
    /// hold, and its answer may be the first to arrive. No two values are equal, so a key that holds
    /// what was to be put shows that the commit was made.
    async fn commit(&self, transaction: &Transaction) -> Result<StoreAnswer, EtcdError> {
        let puts = transaction.puts.iter().map(|put| self.put(put));
        let puts: Vec<_> = puts.collect::<Result<_, _>>()?;
        let compares = transaction.compares.iter().map(|compare| self.condition(compare));
        let conditions: Vec<_> = compares.collect::<Result<_, _>>()?;
        // Without a put there is nothing to commit.
        let Some((asked, wanted)) = puts.first() else { return Ok(StoreAnswer::Refused) };
        let body = gateway::txn(&conditions, &puts, asked);
        let result = self.client.call(gateway::TXN, body, gateway::txn_answer).await?;
        Ok(match result {
            TxnResult::Committed { revision } => StoreAnswer::Committed(Revision(revision)),
            TxnResult::Refused(Some(found)) if found.value == *wanted => {
                StoreAnswer::Committed(Revision(found.mod_revision))
            }
            TxnResult::Refused(_) => StoreAnswer::Refused,
        })
    }

    fn put(&self, put: &Put) -> Result<(String, Vec<u8>), EtcdError> {
        match put {
            Put::Node(name, record) => encoded(self.keys.node(name), record),
            Put::Plan(plan) => encoded(self.keys.plan.clone(), plan),
        }
    }

    fn condition(&self, compare: &Compare) -> Result<Condition, EtcdError> {
        match compare {
            Compare::Node(name, found) => {
                self.holds::<NodeRecord>(self.keys.node(name), found.as_ref())
            }
            Compare::Plan(found) => self.holds::<OwnerPlan>(self.keys.plan.clone(), found.as_ref()),
        }
    }

    fn holds<T: Serialize + DeserializeOwned + PartialEq>(
        &self,
        key: String,
        found: Option<&Versioned<T>>,
    ) -> Result<Condition, EtcdError> {
        let Some(Versioned { revision, value }) = found else {
            return Ok(Condition::Absent { key });
        };
        let raw = self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let same = raw.filter(|raw| {
            let is_same = |read: T| read == *value;
            raw.mod_revision == revision.0 && serde_json::from_slice(&raw.value).is_ok_and(is_same)
        });
        let mod_revision = revision.0;
        match same {
            Some(raw) => Ok(Condition::Holds { key, mod_revision, value: raw.value }),
            None => encoded(key, value).map(|(key, value)| Condition::Holds {
                key,
                mod_revision,
                value,
            }),
        }
    }
}

fn versioned<T: DeserializeOwned>(key: &str, found: &KeyValue) -> Result<Versioned<T>, EtcdError> {
    match serde_json::from_slice(&found.value) {
        Ok(value) => Ok(Versioned { revision: Revision(found.mod_revision), value }),
        Err(source) => Err(EtcdError::Value { key: key.to_owned(), source }),
    }
}

fn encoded<T: Serialize>(key: String, value: &T) -> Result<(String, Vec<u8>), EtcdError> {
    match serde_json::to_vec(value) {
        Ok(value) => Ok((key, value)),
        Err(source) => Err(EtcdError::Value { key, source }),
    }
}
