//! What the broker's session of the recorder is subscribed to, also over restarts.
//!
//! A session that lasts keeps its subscriptions, and each new SUBSCRIBE makes the broker send all
//! retained messages again. Therefore the recorder asks only for what it does not have, and gives up
//! what it has and does not want any more. What it has is in a file of the store.

use iotmonitor_core::model::message::{FilterRefusal, Protocol, QoS, Subscription};
use iotmonitor_core::topic::TopicFilter;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The subscriptions, and the file with them.
#[derive(Debug)]
pub struct Subscriptions {
    file: PathBuf,
    known: Known,
    is_saved: bool,
}

/// What is known of one session.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    server: String,
    client_id: String,
    filters: BTreeMap<String, State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// The broker has acknowledged it.
    Granted,
    /// It may have it.
    Asked,
}

/// What to ask of the broker after a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub subscribe: Vec<Subscription>,
    pub unsubscribe: Vec<TopicFilter>,
}

impl Subscriptions {
    /// Reads the file. Without one that can be read, nothing is known, and the broker is asked anew.
    pub fn read(directory: &Path) -> Self {
        let file = directory.join("subscriptions.json");
        let text = fs::read_to_string(&file).unwrap_or_default();
        Self { file, known: serde_json::from_str(&text).unwrap_or_default(), is_saved: true }
    }

    /// A connection to the session of this client is there.
    pub fn connected(
        &mut self,
        server: String,
        client_id: String,
        session_present: bool,
        protocol: Protocol,
        wanted: &[TopicFilter],
    ) -> Requests {
        if !session_present || self.known.server != server || self.known.client_id != client_id {
            self.known = Known { server, client_id, filters: BTreeMap::new() };
        }
        self.change(protocol, wanted)
    }

    /// The filters that are wanted have changed, or the session.
    pub fn change(&mut self, protocol: Protocol, wanted: &[TopicFilter]) -> Requests {
        let known = &self.known.filters;
        let is_wanted = |filter: &str| wanted.iter().any(|wanted| wanted.as_str() == filter);
        let unsubscribe = known.keys().filter(|filter| !is_wanted(filter));
        let unsubscribe = unsubscribe.filter_map(|filter| TopicFilter::new(filter.clone()).ok());
        let unsubscribe: Vec<TopicFilter> = unsubscribe.collect();
        // In MQTT 5 a subscription that is there already sends no retained messages, and asking for
        // it mends one that the broker has lost.
        let asks_again = protocol == Protocol::V5;
        let subscribe = wanted
            .iter()
            .filter(|filter| asks_again || known.get(filter.as_str()) != Some(&State::Granted));
        let subscribe = subscribe
            .map(|filter| Subscription {
                filter: filter.clone(),
                qos: QoS::AtLeastOnce,
                replay: true,
            })
            .collect();
        for filter in wanted {
            self.known.filters.entry(filter.as_str().to_owned()).or_insert(State::Asked);
        }
        self.save();
        Requests { subscribe, unsubscribe }
    }

    /// The broker has answered all requests.
    pub fn answered(&mut self, wanted: &[TopicFilter], refused: &[FilterRefusal]) {
        let granted =
            wanted.iter().filter(|filter| refused.iter().all(|refusal| refusal.filter != **filter));
        let filters = granted.map(|filter| (filter.as_str().to_owned(), State::Granted));
        self.known.filters = filters.collect();
        self.save();
    }

    /// Without the file, the broker sends its retained messages once more after the next start, and what
    /// is not wanted any more by then is not given up. Therefore it is tried again.
    fn save(&mut self) {
        self.is_saved = self.write().is_ok();
    }

    /// Writes what could not be written before.
    pub fn save_again(&mut self) {
        if !self.is_saved {
            self.save();
        }
    }

    fn write(&self) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&self.known)?;
        if fs::read(&self.file).is_ok_and(|present| present == text) {
            return Ok(());
        }
        let temporary = self.file.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Vec<TopicFilter> {
        texts.iter().map(|text| TopicFilter::new(*text).unwrap()).collect()
    }

    struct House {
        directory: tempfile::TempDir,
        session_present: bool,
        protocol: Protocol,
    }

    impl House {
        fn new(protocol: Protocol) -> Self {
            let directory = tempfile::tempdir().unwrap();
            Self { directory, session_present: true, protocol }
        }

        /// What a process that has just started asks for.
        fn ask(&self, server: &str, wanted: &[&str]) -> (Vec<String>, Vec<String>, Subscriptions) {
            let mut subscriptions = Subscriptions::read(self.directory.path());
            let requests = subscriptions.connected(
                server.to_owned(),
                "iotmonitor-recorder".to_owned(),
                self.session_present,
                self.protocol,
                &filters(wanted),
            );
            let subscribe = requests.subscribe.iter().map(|it| it.filter.as_str().to_owned());
            let unsubscribe = requests.unsubscribe.iter().map(|it| it.as_str().to_owned());
            (subscribe.collect(), unsubscribe.collect(), subscriptions)
        }
    }

    #[test]
    fn what_the_session_has_is_not_asked_for_again_in_3_1_1() {
        let mut house = House::new(Protocol::V311);
        let (asked, given_up, mut subscriptions) = house.ask("tcp://a", &["home/#", "b"]);
        assert_eq!((asked.len(), given_up.len()), (2, 0));
        // A process that ends before the answer asks again.
        assert_eq!(house.ask("tcp://a", &["home/#", "b"]).0, ["home/#", "b"]);
        let refused = FilterRefusal {
            filter: TopicFilter::new("b").unwrap(),
            reason: "not authorized".to_owned(),
        };
        subscriptions.answered(&filters(&["home/#", "b"]), &[refused]);
        assert_eq!(house.ask("tcp://a", &["home/#", "b"]).0, ["b"]);
        let (asked, given_up, _) = house.ask("tcp://a", &["garden/#"]);
        assert_eq!(asked, ["garden/#"]);
        assert_eq!(given_up, ["b", "home/#"], "what it may have is given up as well");
        assert_eq!(house.ask("tcp://b", &["garden/#"]).0, ["garden/#"], "another broker");
        house.session_present = false;
        let (asked, given_up, _) = house.ask("tcp://b", &["home/#"]);
        assert_eq!((asked, given_up.len()), (vec!["home/#".to_owned()], 0));
    }

    #[test]
    fn in_mqtt_5_asking_again_costs_nothing_and_mends() {
        let house = House::new(Protocol::V5);
        let (_, _, mut subscriptions) = house.ask("tcp://a", &["home/#", "b"]);
        subscriptions.answered(&filters(&["home/#", "b"]), &[]);
        let (asked, given_up, _) = house.ask("tcp://a", &["home/#"]);
        assert_eq!((asked, given_up), (vec!["home/#".to_owned()], vec!["b".to_owned()]));
    }

    /// The broker answers before the directory is made, or while the disk is full.
    #[test]
    fn what_could_not_be_written_is_written_later() {
        let house = House::new(Protocol::V311);
        let later = house.directory.path().join("later");
        let mut subscriptions = Subscriptions::read(&later);
        let wanted = filters(&["a/#"]);
        subscriptions.connected(String::new(), String::new(), false, Protocol::V311, &wanted);
        subscriptions.answered(&wanted, &[]);
        subscriptions.save_again();
        fs::create_dir(&later).unwrap();
        subscriptions.save_again();
        assert_eq!(Subscriptions::read(&later).known, subscriptions.known);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_as_none() {
        let house = House::new(Protocol::V311);
        fs::write(house.directory.path().join("subscriptions.json"), "{").unwrap();
        assert_eq!(house.ask("tcp://a", &["home/#"]).0, ["home/#"]);
    }
}
