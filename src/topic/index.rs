//! Many topic filters against one topic name: a trie whose cost is the topic's depth.
//!
//! Built once for a configuration and then only read, so nothing here removes. A lookup allocates
//! nothing. Deliberately absent: any knowledge of devices; a value is whatever the user puts in.

use super::{TopicFilter, TopicName};
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// End of a list, or no node.
const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

/// Values filed under topic filters.
#[derive(Debug, Clone)]
pub struct TopicIndex<V> {
    nodes: Vec<Node>,
    /// Child nodes by (parent, level); one table for all nodes costs four bytes an edge.
    edges: HashTable<u32>,
    hasher: hashbrown::DefaultHashBuilder,
    entries: Vec<Entry<V>>,
}

#[derive(Debug, Clone)]
struct Node {
    parent: u32,
    level: Box<str>,
    /// The child for `+`.
    plus: u32,
    /// First entry of the filters that end here.
    exact: u32,
    /// First entry of the filters that continue with `#` from here.
    rest: u32,
}

#[derive(Debug, Clone)]
struct Entry<V> {
    value: V,
    next: u32,
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
            nodes: vec![Node::new(NONE, "")],
            edges: HashTable::new(),
            hasher: hashbrown::DefaultHashBuilder::default(),
            entries: Vec::new(),
        }
    }

    /// Files a value under a filter. One filter may carry many values.
    pub fn insert(&mut self, filter: &TopicFilter, value: V) {
        let mut node = ROOT;
        for level in filter.as_str().split('/') {
            if level == "#" {
                let head = self.nodes[node as usize].rest;
                self.nodes[node as usize].rest = self.push_entry(value, head);
                return;
            }
            node = if level == "+" { self.plus_child(node) } else { self.child(node, level) };
        }
        let head = self.nodes[node as usize].exact;
        self.nodes[node as usize].exact = self.push_entry(value, head);
    }

    /// Gives back the room that further filters would take.
    pub fn shrink_to_fit(&mut self) {
        self.nodes.shrink_to_fit();
        self.entries.shrink_to_fit();
        self.edges.shrink_to_fit(|&id| hash_of(&self.hasher, &self.nodes[id as usize]));
    }

    /// Calls `found` with the value of each filter that matches the name (MQTT 5, 4.7), once for
    /// each time it was inserted, in no particular order.
    pub fn for_each_match(&self, name: &TopicName, mut found: impl FnMut(V)) {
        let name = name.as_str();
        // 4.7.2: a leading wildcard does not match a topic that begins with `$`.
        self.walk(ROOT, Some(name), name.starts_with('$'), &mut found);
    }

    /// Whether any filter matches the name.
    #[must_use]
    pub fn matches(&self, name: &TopicName) -> bool {
        let mut any = false;
        self.for_each_match(name, |_| any = true);
        any
    }

    /// Calls `found` with the value of each filter that covers the given one, which is every
    /// filter that matches all that it matches, itself included.
    pub fn for_each_covering(&self, filter: &TopicFilter, mut found: impl FnMut(V)) {
        let filter = filter.as_str();
        self.walk(ROOT, Some(filter), filter.starts_with('$'), &mut found);
    }

    /// Visits what matches `levels` below `node`. A level `+` or `#` of a filter is found only
    /// by an equal or wider wildcard, since no literal child bears such a name.
    fn walk(
        &self,
        mut node: u32,
        mut levels: Option<&str>,
        no_wildcard: bool,
        found: &mut impl FnMut(V),
    ) {
        let mut no_wildcard = no_wildcard;
        loop {
            let here = &self.nodes[node as usize];
            if !no_wildcard {
                self.visit(here.rest, found);
            }
            let Some(rest) = levels else {
                self.visit(here.exact, found);
                return;
            };
            let (level, below) = match rest.split_once('/') {
                Some((level, below)) => (level, Some(below)),
                None => (rest, None),
            };
            if level == "#" {
                return;
            }
            let literal = self.find_child(node, level);
            if here.plus != NONE && !no_wildcard {
                match literal {
                    None => {
                        node = here.plus;
                        levels = below;
                        continue;
                    }
                    Some(_) => self.walk(here.plus, below, false, found),
                }
            }
            let Some(child) = literal else { return };
            node = child;
            levels = below;
            no_wildcard = false;
        }
    }

    fn visit(&self, mut entry: u32, found: &mut impl FnMut(V)) {
        while entry != NONE {
            let Entry { value, next } = self.entries[entry as usize];
            found(value);
            entry = next;
        }
    }

    fn push_entry(&mut self, value: V, next: u32) -> u32 {
        self.entries.push(Entry { value, next });
        index_of(self.entries.len())
    }

    fn plus_child(&mut self, node: u32) -> u32 {
        if self.nodes[node as usize].plus == NONE {
            self.nodes.push(Node::new(node, "+"));
            self.nodes[node as usize].plus = index_of(self.nodes.len());
        }
        self.nodes[node as usize].plus
    }

    fn child(&mut self, parent: u32, level: &str) -> u32 {
        if let Some(child) = self.find_child(parent, level) {
            return child;
        }
        self.nodes.push(Node::new(parent, level));
        let child = index_of(self.nodes.len());
        let hash = |&id: &u32| hash_of(&self.hasher, &self.nodes[id as usize]);
        self.edges.insert_unique(hash(&child), child, hash);
        child
    }

    fn find_child(&self, parent: u32, level: &str) -> Option<u32> {
        let hash = self.hasher.hash_one((parent, level));
        let is_it = |&id: &u32| {
            let node = &self.nodes[id as usize];
            node.parent == parent && &*node.level == level
        };
        self.edges.find(hash, is_it).copied()
    }
}

impl<V> Copy for Entry<V> where V: Copy {}

impl Node {
    fn new(parent: u32, level: &str) -> Self {
        Self { parent, level: level.into(), plus: NONE, exact: NONE, rest: NONE }
    }
}

/// What [`TopicIndex::find_child`] looks a node up by.
fn hash_of(hasher: &hashbrown::DefaultHashBuilder, node: &Node) -> u64 {
    hasher.hash_one((node.parent, &*node.level))
}

/// Index of the last of `len` items. A configuration of four thousand million levels does not fit
/// into memory, so the conversion cannot fail before the allocation does.
fn index_of(len: usize) -> u32 {
    u32::try_from(len - 1).unwrap_or(NONE - 1)
}
