//! The sections that all nodes share: notices a new version among what is read each second, and
//! fetches its text.

use super::ClusterEvent;
use crate::etcd::{Applied, EtcdError, EtcdStore};
use iotmonitor_core::model::cluster::NodeName;
use iotmonitor_core::model::cluster::sections::{SectionsVersion, SharedSections};
use std::future::pending;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// A text that could not be read so often in a row is reported. Until then, another version may
/// have replaced it, or etcd may answer again.
const MOST_FAILURES: u32 = 5;

pub type Fetched = (SectionsVersion, Result<Option<String>, EtcdError>);

/// How far this node knows the sections.
#[derive(Debug, Default)]
pub struct SectionsSeen {
    /// The version that etcd holds, as far as has been read.
    pub held: Option<SectionsVersion>,
    /// The version that the monitor has, or was told of.
    known: Option<SectionsVersion>,
    /// At most one.
    fetching: JoinSet<Fetched>,
    failures: u32,
}

/// What came of an order to replace the sections, for the one who gave it.
pub type ApplyReply = oneshot::Sender<Result<Applied, String>>;

impl SectionsSeen {
    pub fn new(known: Option<SectionsVersion>) -> Self {
        Self { known, ..Self::default() }
    }

    /// Notes what the monitor uses. One that has lost its copy gets the sections again.
    pub fn used(&mut self, version: Option<SectionsVersion>) {
        if version.is_none() {
            self.known = None;
        }
    }

    /// Takes what a read has shown. A store without a version has none to give: whoever removes all
    /// sections leaves one that is empty.
    pub fn read(&mut self, held: Option<SectionsVersion>, store: &Arc<EtcdStore>) {
        if self.held != held {
            self.failures = 0;
        }
        self.held = held;
        let Some(version) = self.held.clone().filter(|held| self.known.as_ref() != Some(held))
        else {
            return;
        };
        if self.fetching.is_empty() {
            let store = Arc::clone(store);
            self.fetching.spawn(async move {
                let text = store.sections(&version).await;
                (version, text)
            });
        }
    }

    /// Returns what was fetched, without an end where nothing is. Dropping the future loses nothing.
    pub async fn fetched(&mut self) -> Option<Fetched> {
        match self.fetching.join_next().await {
            Some(fetched) => fetched.ok(),
            None => pending().await,
        }
    }

    /// Returns what the monitor has to know of that. A version that is not there is fetched again
    /// after the next read.
    pub fn take(&mut self, (version, text): Fetched) -> Option<ClusterEvent> {
        let reason = match text {
            Ok(Some(text)) => {
                self.known = Some(version.clone());
                let sections = SharedSections { version, text: text.into() };
                return Some(ClusterEvent::Sections(Arc::new(sections)));
            }
            Ok(None) => "etcd does not have all of them: apply them again".to_owned(),
            Err(error) => error.to_string(),
        };
        self.failures += 1;
        (self.failures == MOST_FAILURES)
            .then_some(ClusterEvent::SectionsMissing { number: version.number, reason })
    }
}

/// Replaces the sections, in a task. Whoever gave the order may have gone by then.
pub fn apply(store: &Arc<EtcdStore>, text: Arc<str>, by: NodeName, reply: ApplyReply) {
    let store = Arc::clone(store);
    tokio::spawn(async move {
        let outcome = store.apply(&text, &by).await;
        let _ = reply.send(outcome.map_err(|error| error.to_string()));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::cluster::orders::OrderStamp;

    #[test]
    fn a_text_that_is_not_there_is_reported_once_and_looked_for_further() {
        let version = SectionsVersion {
            number: 7,
            stamp: OrderStamp { stamp: 1 },
            given: 0,
            by: NodeName::new("pi1").unwrap(),
            bytes: 2,
            chunks: 1,
        };
        let mut seen = SectionsSeen::new(None);
        let mut take =
            |text: Option<&str>| seen.take((version.clone(), Ok(text.map(str::to_owned))));
        let told: Vec<_> = (0..3 * MOST_FAILURES).filter_map(|_| take(None)).collect();
        let [ClusterEvent::SectionsMissing { number: 7, reason }] = told.as_slice() else {
            panic!("{told:?}")
        };
        assert!(reason.contains("apply them again"), "{reason}");
        let Some(ClusterEvent::Sections(sections)) = take(Some("# ")) else { panic!() };
        assert_eq!((&sections.version, &*sections.text), (&version, "# "));
    }
}
