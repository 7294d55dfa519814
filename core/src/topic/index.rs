//! Matches many topic filters against one topic name, in a trie whose cost is the topic's depth.
//!
//! An index is built for a configuration. Filters may be added later, and are never removed. A
//! lookup allocates nothing. Filters are stored only in the trie, because a fleet has hundreds of
//! thousands of them, whose levels are mostly alike. [`TopicIndex::filter`] reassembles one on
//! request. The index knows nothing about devices: the caller decides what a value means.

use super::{TopicFilter, TopicName};
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

/// The end of a list, or the absence of a node.
const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;
/// Marks, beside the number of a node, a filter that continues with `#`.
const REST: u32 = 1 << 31;

/// Children that are looked for right behind their parent.
const FOLLOWERS: u32 = 3;

/// Values that are filed under topic filters. Each has a number, which is its place in the order of
/// insertion.
#[derive(Debug, Clone)]
pub struct TopicIndex<V> {
    nodes: Vec<Node>,
    /// The child nodes by parent and level. A single table for all nodes needs four bytes for each
    /// edge.
    edges: HashTable<u32>,
    hasher: hashbrown::DefaultHashBuilder,
    /// The strings of the levels, one after the other. Nodes with the same level share one.
    levels: String,
    /// The nodes that were the first with their level's string, which are needed only for building.
    first_of_level: HashTable<u32>,
    entries: Vec<Entry<V>>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    parent: u32,
    /// The position at which the level's string begins.
    start: u32,
    /// The first entry of the filters that end here, or continue with `#` from here.
    first: u32,
    /// The length in bytes of the level's string, which is at most that of a topic.
    length: u16,
    /// Whether a filter continues below this node with a level other than `#`.
    has_children: bool,
    /// Whether one continues with `+`.
    has_plus: bool,
}

impl Node {
    fn new(parent: u32, start: u32, length: u16) -> Self {
        Self { parent, start, first: NONE, length, has_children: false, has_plus: false }
    }

    /// Returns the position of the level's string.
    fn place(&self) -> Range<usize> {
        let start = self.start as usize;
        start..start + usize::from(self.length)
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry<V> {
    value: V,
    next: u32,
    /// The node at which the filter ends or, with [`REST`], from which it continues.
    end: u32,
}

impl<V: Copy> Default for TopicIndex<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Copy> TopicIndex<V> {
    #[must_use]
    pub fn new() -> Self {
        Self {
            nodes: vec![Node::new(NONE, 0, 0)],
            edges: HashTable::new(),
            hasher: hashbrown::DefaultHashBuilder::default(),
            levels: String::new(),
            first_of_level: HashTable::new(),
            entries: Vec::new(),
        }
    }

    /// Files a value under a filter. One filter may carry many values.
    pub fn insert(&mut self, filter: &TopicFilter, value: V) {
        let mut node = ROOT;
        for level in filter.as_str().split('/') {
            if level == "#" {
                return self.push_entry(node, REST, value);
            }
            let child = self.child(node, level);
            self.nodes[node as usize].has_plus |= level == "+";
            node = child;
        }
        self.push_entry(node, 0, value);
    }

    /// Replaces the value with this number, if there is one. The filter remains.
    pub fn replace(&mut self, number: u32, value: V) {
        if let Some(entry) = self.entries.get_mut(number as usize) {
            entry.value = value;
        }
    }

    /// Frees the memory that is reserved for further filters.
    pub fn shrink_to_fit(&mut self) {
        self.first_of_level = HashTable::new();
        self.nodes.shrink_to_fit();
        self.levels.shrink_to_fit();
        self.entries.shrink_to_fit();
        self.edges.shrink_to_fit(|&id| hash_of(&self.hasher, &self.nodes, &self.levels, id));
    }

    /// Returns the number of values, which is also the number that the next value gets.
    #[must_use]
    pub fn len(&self) -> u32 {
        index_of(self.entries.len() + 1)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the values with these numbers. Numbers that were not given yet are left out.
    pub fn values(&self, numbers: Range<u32>) -> impl Iterator<Item = (u32, V)> {
        let entries = self.entries.get(numbers.start as usize..numbers.end as usize);
        (numbers.start..).zip(entries.unwrap_or_default().iter().map(|entry| entry.value))
    }

    /// Returns the filter under which the value with this number was filed, or `None` if there is
    /// no such value.
    #[must_use]
    pub fn filter(&self, number: u32) -> Option<TopicFilter> {
        let end = self.entries.get(number as usize)?.end;
        let mut path = Vec::new();
        let mut node = end & !REST;
        while node != ROOT {
            let at = &self.nodes[node as usize];
            path.push(level_of(at, &self.levels));
            node = at.parent;
        }
        path.reverse();
        if end & REST != 0 {
            path.push("#");
        }
        Some(TopicFilter(path.join("/").into()))
    }

    /// Calls `found` with the value of each filter that matches the name (MQTT 5, 4.7), once for
    /// each time it was inserted, in no particular order.
    pub fn for_each_match(&self, name: &TopicName, mut found: impl FnMut(V)) {
        let name: &[u8] = name.as_ref();
        // A leading wildcard does not match a topic that begins with `$` (4.7.2).
        self.walk(ROOT, Some(name), name.starts_with(b"$"), &mut found);
    }

    /// Returns whether any filter matches the name.
    #[must_use]
    pub fn matches(&self, name: &TopicName) -> bool {
        let mut any = false;
        self.for_each_match(name, |_| any = true);
        any
    }

    /// Calls `found` with the value of each filter that covers the given one. These are the filters
    /// that match everything that it matches, including the filter itself.
    pub fn for_each_covering(&self, filter: &TopicFilter, mut found: impl FnMut(V)) {
        let filter = filter.as_str().as_bytes();
        self.walk(ROOT, Some(filter), filter.starts_with(b"$"), &mut found);
    }

    /// Returns whether any filter matches everything that the given one matches.
    #[must_use]
    pub fn covers(&self, filter: &TopicFilter) -> bool {
        let mut any = false;
        self.for_each_covering(filter, |_| any = true);
        any
    }

    /// Visits the entries below `node` that match `levels`. A level `+` or `#` of a filter is
    /// matched only by an equal or wider wildcard.
    fn walk(
        &self,
        mut node: u32,
        mut levels: Option<&[u8]>,
        no_wildcard: bool,
        found: &mut impl FnMut(V),
    ) {
        let mut no_wildcard = no_wildcard;
        loop {
            let here = &self.nodes[node as usize];
            self.visit(here.first, levels.is_none(), !no_wildcard, found);
            let Some(rest) = levels else { return };
            // Most filters end in `#`, so that most topics end here.
            if !here.has_children {
                return;
            }
            let (level, below) = split_level(rest);
            if level == b"#" {
                return;
            }
            let mut child = self.find_child(node, level);
            if here.has_plus && !no_wildcard && level != b"+" {
                let plus = self.find_child(node, b"+");
                if let (Some(plus), Some(_)) = (plus, child) {
                    self.walk(plus, below, false, found);
                }
                child = child.or(plus);
            }
            let Some(next) = child else { return };
            node = next;
            levels = below;
            no_wildcard = false;
        }
    }

    /// Visits the entries of a node: those of filters that end there, those that continue with `#`, or
    /// both.
    fn visit(&self, mut entry: u32, ending: bool, going_on: bool, found: &mut impl FnMut(V)) {
        while entry != NONE {
            let Entry { value, next, end } = self.entries[entry as usize];
            let is_wanted = if end & REST == 0 { ending } else { going_on };
            if is_wanted {
                found(value);
            }
            entry = next;
        }
    }

    /// Adds a value at a node. `rest` is [`REST`] for a filter that continues with `#`, and else 0.
    fn push_entry(&mut self, node: u32, rest: u32, value: V) {
        let first = &mut self.nodes[node as usize].first;
        self.entries.push(Entry { value, next: *first, end: node | rest });
        *first = index_of(self.entries.len());
    }

    fn child(&mut self, parent: u32, level: &str) -> u32 {
        if let Some(child) = self.find_child(parent, level.as_bytes()) {
            return child;
        }
        let child = self.push_node(parent, level);
        let hash = |&id: &u32| hash_of(&self.hasher, &self.nodes, &self.levels, id);
        self.edges.insert_unique(hash(&child), child, hash);
        child
    }

    fn push_node(&mut self, parent: u32, level: &str) -> u32 {
        let Self { nodes, hasher, levels, first_of_level, .. } = self;
        let hash = hasher.hash_one(level);
        let is_it = |&id: &u32| level_of(&nodes[id as usize], levels) == level;
        let known = first_of_level.find(hash, is_it).map(|&id| nodes[id as usize].start);
        let start = known.unwrap_or_else(|| {
            levels.push_str(level);
            index_of(levels.len() - level.len() + 1)
        });
        // A filter has at most 65,535 bytes.
        let length = u16::try_from(level.len()).unwrap_or(u16::MAX);
        nodes[parent as usize].has_children = true;
        nodes.push(Node::new(parent, start, length));
        let node = index_of(nodes.len());
        if known.is_none() {
            let hash_of_level = |&id: &u32| hasher.hash_one(level_of(&nodes[id as usize], levels));
            first_of_level.insert_unique(hash, node, hash_of_level);
        }
        node
    }

    fn find_child(&self, parent: u32, level: &[u8]) -> Option<u32> {
        let is_it = |&id: &u32| {
            let node = &self.nodes[id as usize];
            node.parent == parent && bytes_of(node, &self.levels) == level
        };
        // The nodes of a filter are made one after the other, so that the first children of a device's
        // node mostly follow it. In a large fleet, each look into the table waits for memory.
        let followers = parent + 1..index_of(self.nodes.len()).min(parent + FOLLOWERS) + 1;
        let is_child = |id: &u32| self.nodes[*id as usize].parent == parent;
        let near = followers.take_while(is_child).find(is_it);
        near.or_else(|| self.edges.find(hash_edge(&self.hasher, parent, level), is_it).copied())
    }
}

/// Returns the first level and the levels below it. Since levels are short, examining each byte is
/// faster than a search that is made for long strings.
fn split_level(levels: &[u8]) -> (&[u8], Option<&[u8]>) {
    match levels.iter().position(|&byte| byte == b'/') {
        Some(at) => (&levels[..at], Some(&levels[at + 1..])),
        None => (levels, None),
    }
}

/// Returns the hash by which [`TopicIndex::find_child`] looks up a node.
fn hash_of(hasher: &hashbrown::DefaultHashBuilder, nodes: &[Node], levels: &str, node: u32) -> u64 {
    let node = &nodes[node as usize];
    hash_edge(hasher, node.parent, bytes_of(node, levels))
}

/// Returns the hash of a parent and a level. Unlike the hash of a tuple, it does not include the
/// level's length.
fn hash_edge(hasher: &hashbrown::DefaultHashBuilder, parent: u32, level: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u32(parent);
    hasher.write(level);
    hasher.finish()
}

fn level_of<'t>(node: &Node, levels: &'t str) -> &'t str {
    &levels[node.place()]
}

/// Returns the same string as bytes, which needs no check that it begins and ends between
/// characters. A lookup incurs this cost for each level.
fn bytes_of<'t>(node: &Node, levels: &'t str) -> &'t [u8] {
    &levels.as_bytes()[node.place()]
}

/// Returns the index of the last of `len` items. A configuration of four thousand million levels
/// does not fit into memory, and the conversion therefore cannot fail before the allocation does.
fn index_of(len: usize) -> u32 {
    u32::try_from(len - 1).unwrap_or(NONE - 1)
}

#[cfg(test)]
mod tests {
    use super::Node;

    #[test]
    fn a_node_takes_16_bytes() {
        // A fleet has hundreds of thousands of them.
        assert_eq!(size_of::<Node>(), 16);
    }
}
