//! The sections that people give to all nodes, as parts of a text under the name of their version.
//!
//! The key `config` names the version. It is in the range that each node reads every second, and the
//! parts are not. It is put last, by a transaction that compares it with what it was and demands that
//! all parts are there, so that a reader who has seen the version finds the whole text. Parts of
//! other versions are removed after that, and a reader who was still at them finds the next
//! version.

use super::client::EtcdClient;
use super::error::EtcdError;
use super::gateway::{self, Condition, KeyValue, TxnResult};
use super::orders::{condition, random_stamp};
use iotmonitor_core::model::cluster::NodeName;
use iotmonitor_core::model::cluster::orders::OrderStamp;
use iotmonitor_core::model::cluster::sections::SectionsVersion;
use std::time::{SystemTime, UNIX_EPOCH};

/// A part has this many bytes at most. etcd refuses requests of more than 1.5 MiB, and a part has to
/// be on its disk within a second. 128 conditions of a transaction suffice for 16 MiB in parts.
const CHUNK: usize = 256 << 10;

/// How often a request is sent that gets no answer. A part takes a slow disk longer than a renewal.
const TRIES: usize = 5;

/// How often a text is put, if its parts are taken for those of an earlier version meanwhile.
const ROUNDS: usize = 3;

/// The names of the keys below the prefix of the cluster.
#[derive(Debug)]
pub struct SharedSectionKeys {
    pub config: String,
    chunks: String,
    behind_chunks: String,
}

/// What came of sections that were put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The text of the version before, as far as it can be read; empty without one.
    pub former: String,
    /// The version that holds now. It is the one before if the text is the same.
    pub version: SectionsVersion,
    pub is_new: bool,
}

impl SharedSectionKeys {
    pub fn below(prefix: &str) -> Self {
        Self {
            config: format!("{prefix}config"),
            chunks: format!("{prefix}chunk/"),
            // The first key behind all that begin with `chunk/`.
            behind_chunks: format!("{prefix}chunk0"),
        }
    }

    /// The key of a part. Those of a version have one prefix.
    fn chunk(&self, stamp: OrderStamp, at: usize) -> String {
        format!("{}{at:05}", self.chunks_of(stamp))
    }

    fn chunks_of(&self, stamp: OrderStamp) -> String {
        format!("{}{:016x}/", self.chunks, stamp.stamp)
    }

    /// Reads the text of a version; `None` if not all of it is there, as when another version has
    /// replaced it.
    pub async fn fetch(
        &self,
        client: &EtcdClient,
        version: &SectionsVersion,
    ) -> Result<Option<String>, EtcdError> {
        let mut bytes = Vec::new();
        for at in 0..version.chunks {
            let key = self.chunk(version.stamp, at);
            let Some(found) = found(client, &key).await? else { return Ok(None) };
            bytes.extend(found.value);
            if bytes.len() > version.bytes {
                return Ok(None);
            }
        }
        let text = String::from_utf8(bytes).ok();
        Ok(text.filter(|text| text.len() == version.bytes))
    }

    /// Replaces the sections of all nodes by this text. An empty one removes them.
    pub async fn apply(
        &self,
        client: &EtcdClient,
        text: &str,
        by: &NodeName,
    ) -> Result<Applied, EtcdError> {
        let before = found(client, &self.config).await?;
        let earlier = before.as_ref().map(|found| self.version(found)).transpose()?;
        let former = match &earlier {
            Some(earlier) => self.fetch(client, earlier).await?.unwrap_or_default(),
            None => String::new(),
        };
        if let Some(version) = earlier.clone()
            && version.bytes == text.len()
            && former == text
        {
            return Ok(Applied { former, version, is_new: false });
        }
        for _ in 0..ROUNDS {
            let version = next_version(earlier.as_ref(), text, by);
            self.put_chunks(client, &version, text).await?;
            if self.commit(client, before.as_ref(), &version).await? {
                // What is left is removed with the next version.
                let _ = self.remove_others(client, &version).await;
                return Ok(Applied { former, version, is_new: true });
            }
            if found(client, &self.config).await? != before {
                break;
            }
        }
        Err(EtcdError::OtherSections)
    }

    fn version(&self, found: &KeyValue) -> Result<SectionsVersion, EtcdError> {
        let key = || self.config.clone();
        serde_json::from_slice(&found.value)
            .map_err(|source| EtcdError::Value { key: key(), source })
    }

    async fn put_chunks(
        &self,
        client: &EtcdClient,
        version: &SectionsVersion,
        text: &str,
    ) -> Result<(), EtcdError> {
        for (at, part) in text.as_bytes().chunks(CHUNK).enumerate() {
            let key = self.chunk(version.stamp, at);
            let put = [(key.clone(), part.to_vec())];
            // A late copy of the request changes nothing.
            commit(client, &[Condition::Absent { key }], &put).await?;
        }
        Ok(())
    }

    /// Returns whether the version holds now.
    async fn commit(
        &self,
        client: &EtcdClient,
        before: Option<&KeyValue>,
        version: &SectionsVersion,
    ) -> Result<bool, EtcdError> {
        let key = self.config.clone();
        let value = serde_json::to_vec(version);
        let value = value.map_err(|source| EtcdError::Value { key: key.clone(), source })?;
        let mut conditions = vec![condition(&key, before.cloned())];
        let parts = (0..version.chunks).map(|at| self.chunk(version.stamp, at));
        conditions.extend(parts.map(|key| Condition::Present { key }));
        commit(client, &conditions, &[(key, value)]).await
    }

    /// Removes the parts of all other versions, while this one holds.
    async fn remove_others(
        &self,
        client: &EtcdClient,
        version: &SectionsVersion,
    ) -> Result<(), EtcdError> {
        let Some(holds) = found(client, &self.config).await? else { return Ok(()) };
        if self.version(&holds)? != *version {
            return Ok(());
        }
        let (own, behind) =
            (self.chunks_of(version.stamp), format!("{:016x}0", version.stamp.stamp));
        let ranges = [
            (self.chunks.clone(), own),
            (format!("{}{behind}", self.chunks), self.behind_chunks.clone()),
        ];
        let body = gateway::removal(&[condition(&self.config, Some(holds))], &ranges, &self.config);
        client.call(gateway::TXN, body, gateway::txn_answer).await.map(drop)
    }
}

fn next_version(earlier: Option<&SectionsVersion>, text: &str, by: &NodeName) -> SectionsVersion {
    SectionsVersion {
        number: earlier.map_or(1, |earlier| earlier.number.saturating_add(1)),
        stamp: random_stamp(),
        given: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        by: by.clone(),
        bytes: text.len(),
        chunks: text.len().div_ceil(CHUNK),
    }
}

/// Reads one key.
async fn found(client: &EtcdClient, key: &str) -> Result<Option<KeyValue>, EtcdError> {
    let body = gateway::range(key, &format!("{key}\0"));
    let found = client.call(gateway::RANGE, body, gateway::range_answer).await?;
    Ok(found.into_iter().next())
}

/// Puts one key upon conditions, and sends that again while there is no answer. No two puts have the
/// same value, so one that is found was made. Returns whether it was.
async fn commit(
    client: &EtcdClient,
    conditions: &[Condition],
    put: &[(String, Vec<u8>); 1],
) -> Result<bool, EtcdError> {
    let [(key, value)] = put;
    let body = gateway::txn(conditions, put, key);
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match client.call(gateway::TXN, body.clone(), gateway::txn_answer).await {
            Ok(TxnResult::Committed { .. }) => return Ok(true),
            Ok(TxnResult::Refused(found)) => {
                return Ok(found.is_some_and(|found| found.value == *value));
            }
            Err(error) if tries == 0 || !error.is_passing() => return Err(error),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_into_parts_that_one_transaction_can_demand() {
        let by = NodeName::new("pi1").unwrap();
        let of = |length: usize, earlier: Option<&SectionsVersion>| {
            next_version(earlier, &"x".repeat(length), &by)
        };
        assert_eq!([0, 1, CHUNK, CHUNK + 1].map(|length| of(length, None).chunks), [0, 1, 1, 2]);
        let first = of(1, None);
        let second = of(16 << 20, Some(&first));
        assert_eq!((first.number, second.number), (1, 2));
        assert_ne!(first.stamp, second.stamp);
        // That of the key itself is one more; etcd allows 128 (--max-txn-ops).
        assert!(second.chunks < 128, "{}", second.chunks);
    }

    #[test]
    fn the_parts_of_other_versions_are_before_and_behind_those_of_one() {
        let keys = SharedSectionKeys::below("/iotmonitor/house/");
        let stamp = OrderStamp { stamp: 0xff };
        assert_eq!(keys.chunk(stamp, 63), "/iotmonitor/house/chunk/00000000000000ff/00063");
        assert!(keys.chunk(stamp, 0) > keys.chunks_of(stamp));
        assert!(keys.behind_chunks > keys.chunk(OrderStamp { stamp: u64::MAX }, 99_999));
        assert!(keys.behind_chunks < keys.config, "nodes do not read the parts each second");
    }
}
