//! The birth and death certificates of Sparkplug B (Eclipse Sparkplug 3.0, chapter 6.4).
//!
//! An edge node registers `NDEATH` as its will and publishes `NBIRTH`. The node publishes `DBIRTH` and
//! `DDEATH` for each device behind it, and with `NDEATH` all of them are gone.

use crate::topic::TopicName;

const NAMESPACE: &str = "spBv1.0";

/// What a topic name of Sparkplug certifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    NodeBirth,
    NodeDeath,
    DeviceBirth,
    DeviceDeath,
}

impl Certificate {
    /// What a message on this topic certifies; `None` for every other topic.
    #[must_use]
    pub fn of(topic: &TopicName) -> Option<Self> {
        // Few topics pass this, and all come by here.
        let levels = topic.as_str().strip_prefix(NAMESPACE)?.strip_prefix('/')?;
        match levels.split('/').collect::<Vec<_>>()[..] {
            [_, "NBIRTH", _] => Some(Self::NodeBirth),
            [_, "NDEATH", _] => Some(Self::NodeDeath),
            [_, "DBIRTH", _, _] => Some(Self::DeviceBirth),
            [_, "DDEATH", _, _] => Some(Self::DeviceDeath),
            _ => None,
        }
    }

    /// Whether it says that something is gone.
    #[must_use]
    pub fn is_death(self) -> bool {
        matches!(self, Self::NodeDeath | Self::DeviceDeath)
    }
}

/// The topics that speak of the same node or device as this one; itself outside Sparkplug.
#[must_use]
pub fn topics_beside(topic: &TopicName) -> Vec<TopicName> {
    let levels: Vec<&str> = topic.as_str().split('/').collect();
    let (Some(certificate), [_, group, _, node, ..]) = (Certificate::of(topic), &levels[..]) else {
        return vec![topic.clone()];
    };
    let of_node = |kind: &str| format!("{NAMESPACE}/{group}/{kind}/{node}");
    let mut all = vec![of_node("NBIRTH"), of_node("NDEATH")];
    if matches!(certificate, Certificate::DeviceBirth | Certificate::DeviceDeath) {
        let device = levels.last().copied().unwrap_or_default();
        all.extend(["DBIRTH", "DDEATH"].map(|kind| format!("{}/{device}", of_node(kind))));
    }
    // They are no longer than the one that they were made of.
    all.into_iter().filter_map(|name| TopicName::new(name).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn names(of: &str) -> Vec<String> {
        topics_beside(&topic(of)).iter().map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn certificates_are_known_by_their_topics() {
        for (name, certificate) in [
            ("spBv1.0/plant/NBIRTH/press", Some(Certificate::NodeBirth)),
            ("spBv1.0/plant/NDEATH/press", Some(Certificate::NodeDeath)),
            ("spBv1.0/plant/DBIRTH/press/motor", Some(Certificate::DeviceBirth)),
            ("spBv1.0/plant/DDEATH/press/motor", Some(Certificate::DeviceDeath)),
            ("spBv1.0/plant/NDATA/press", None),
            ("spBv1.0/plant/NDEATH/press/motor", None),
            ("spBv1.0/STATE/host", None),
            ("spBv1.0x/plant/NDEATH/press", None),
            ("plant/NDEATH/press", None),
        ] {
            assert_eq!(Certificate::of(&topic(name)), certificate, "{name}");
        }
    }

    #[test]
    fn one_topic_stands_for_all_that_speak_of_the_same_thing() {
        let node = ["spBv1.0/p/NBIRTH/n", "spBv1.0/p/NDEATH/n"];
        assert_eq!(names("spBv1.0/p/NDEATH/n"), node);
        assert_eq!(names("spBv1.0/p/NBIRTH/n"), node);
        let device = [node[0], node[1], "spBv1.0/p/DBIRTH/n/d", "spBv1.0/p/DDEATH/n/d"];
        assert_eq!(names("spBv1.0/p/DDEATH/n/d"), device);
        assert_eq!(names("tele/plug/LWT"), ["tele/plug/LWT"]);
    }
}
