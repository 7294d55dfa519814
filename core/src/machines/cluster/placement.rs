//! Which node gets an item: rendezvous hashing, by which all nodes agree without a word, and a node
//! that comes or goes moves only what it gets or had.

use crate::model::cluster::{Allowed, Item, NodeName};
use siphasher::sip::SipHasher24;
use std::cmp::Reverse;

/// A node whose session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    pub name: &'a NodeName,
    /// It is connected to the broker.
    pub broker: bool,
    pub drains: bool,
    /// It has been there long enough to start something at once.
    pub is_settled: bool,
    /// It uses the same version of the shared sections as the node that decides. Another one may not
    /// know an agent, and would give it back.
    pub is_alike: bool,
}

impl Candidate<'_> {
    /// Whether the node may have the item.
    #[must_use]
    pub fn takes(&self, item: &Item, allowed: &Allowed) -> bool {
        let is_able = if item.needs_broker() { self.broker } else { self.is_alike };
        !self.drains && allowed.includes(self.name) && is_able
    }
}

/// Returns the node that is to have the item. A node that cannot start it at once gets it only if
/// there is no other one.
#[must_use]
pub fn best<'a>(
    item: &Item,
    allowed: &Allowed,
    candidates: &[Candidate<'a>],
) -> Option<Candidate<'a>> {
    let key = item.to_string();
    let able = candidates.iter().filter(|candidate| candidate.takes(item, allowed));
    able.max_by_key(|candidate| (candidate.is_settled, weight(&key, candidate.name))).copied()
}

/// Returns how many of the nodes act before this one in a matter of which each can take care.
#[must_use]
pub fn rank(matter: &str, node: &NodeName, candidates: &[Candidate]) -> u32 {
    let own = Reverse(weight(matter, node));
    let names = candidates.iter().map(|candidate| candidate.name);
    let before = names.filter(|&name| (Reverse(weight(matter, name)), name) < (own, node));
    u32::try_from(before.count()).unwrap_or(u32::MAX)
}

/// The hash is the same on each machine and in each version: otherwise two versions would give
/// the same shards to and fro.
fn weight(matter: &str, node: &NodeName) -> u64 {
    let mut both = Vec::with_capacity(matter.len() + 1 + node.as_str().len());
    both.extend_from_slice(matter.as_bytes());
    both.push(0);
    both.extend_from_slice(node.as_str().as_bytes());
    SipHasher24::new().hash(&both)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::SHARDS;
    use crate::model::device_name::DeviceName;

    fn nodes(names: &[&str]) -> Vec<NodeName> {
        names.iter().map(|name| NodeName::new(name).unwrap()).collect()
    }

    fn candidates(names: &[NodeName]) -> Vec<Candidate<'_>> {
        let all = names.iter();
        let candidate = |name| Candidate {
            name,
            broker: true,
            drains: false,
            is_settled: true,
            is_alike: true,
        };
        all.map(candidate).collect()
    }

    fn agent(name: &str) -> Item {
        Item::Agent(DeviceName::new(name).unwrap())
    }

    fn owner<'a>(item: &Item, candidates: &[Candidate<'a>]) -> Option<&'a str> {
        best(item, &Allowed::Everywhere, candidates).map(|best| best.name.as_str())
    }

    #[test]
    fn the_hash_is_the_same_in_each_version() {
        let names = nodes(&["pi1", "nas"]);
        assert_eq!(weight("#7", &names[0]), 14_054_039_486_048_578_867);
        assert_eq!(weight("zigbee", &names[1]), 13_849_491_179_307_768_094);
    }

    #[test]
    fn shards_are_spread_and_a_node_that_goes_moves_only_its_own() {
        let names = nodes(&["pi1", "pi2", "nas"]);
        let (three, two) = (candidates(&names), candidates(&names[..2]));
        let mut counts = [0; 3];
        for shard in (0..SHARDS).map(Item::Shard) {
            let before = owner(&shard, &three).unwrap();
            counts[names.iter().position(|name| name.as_str() == before).unwrap()] += 1;
            assert!(before == "nas" || owner(&shard, &two) == Some(before));
        }
        assert!(counts.iter().all(|&count| count >= 5), "{counts:?}");
    }

    #[test]
    fn the_order_in_which_nodes_are_known_changes_nothing() {
        let names = nodes(&["pi1", "pi2", "nas"]);
        let (forth, mut back) = (candidates(&names), candidates(&names));
        back.reverse();
        for shard in (0..SHARDS).map(Item::Shard) {
            assert_eq!(owner(&shard, &forth), owner(&shard, &back));
            let key = shard.to_string();
            let mut ranks: Vec<u32> = names.iter().map(|name| rank(&key, name, &back)).collect();
            let first = ranks.iter().position(|&rank| rank == 0).unwrap();
            assert_eq!(owner(&shard, &forth), Some(names[first].as_str()));
            ranks.sort_unstable();
            assert_eq!(ranks, [0, 1, 2]);
        }
    }

    #[test]
    fn a_node_takes_only_what_it_may_and_can() {
        let names = nodes(&["pi1", "pi2", "nas"]);
        let mut all = candidates(&names);
        let on = Allowed::On(nodes(&["pi1", "pi2"]));
        let got = |all: &[Candidate<'_>], item| best(&item, &on, all).map(|best| best.name.clone());
        all[0].drains = true;
        assert_eq!(got(&all, agent("rules")), Some(names[1].clone()));
        all[1].broker = false;
        assert_eq!(got(&all, agent("rules")), Some(names[1].clone()));
        assert_eq!(got(&all, Item::House), None);
        all[1].is_alike = false;
        assert_eq!(got(&all, agent("rules")), None);
        all[0].drains = false;
        assert_eq!(got(&all, Item::House), Some(names[0].clone()));
    }

    #[test]
    fn a_node_that_has_just_come_gets_what_no_other_can_have() {
        let names = nodes(&["pi1", "pi2"]);
        let mut all = candidates(&names);
        for shard in (0..SHARDS).map(Item::Shard) {
            all[1].is_settled = false;
            assert_eq!(owner(&shard, &all), Some("pi1"));
        }
        all[0].drains = true;
        assert_eq!(owner(&Item::House, &all), Some("pi2"));
    }
}
