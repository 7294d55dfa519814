//! Checks a data file's trees page by page before LMDB opens it, because LMDB trusts what it maps:
//! a flipped bit in a page's structure would end the process with a signal, or make it overwrite
//! pages that are in use.
//!
//! The contents of records are not checked here; they have checksums of their own. Layouts are those of
//! `MDB_page`, `MDB_node` and `MDB_db` (mdb.c); numbers are native.

use crate::pulse::Pulse;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

const WORD: usize = size_of::<usize>();
const HEADER: usize = WORD + 8;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
const NODE_HEADER: usize = 8;
const NODE_BIG: u16 = 0x01;
const NODE_TABLE: u16 = 0x02;
/// The root of an empty tree.
const NO_PAGE: u64 = usize::MAX as u64;
/// The meta pages come before all others.
const FIRST_PAGE: u64 = 2;
/// LMDB's cursors are no deeper (`CURSOR_STACK`).
const DEEPEST: u16 = 32;
const LONGEST_KEY: usize = 511;
/// Even the slowest cards read this many pages in a moment.
const PAGES_BETWEEN_BEATS: u64 = 64;

/// Size of an `MDB_db`.
pub const TABLE_BYTES: usize = 8 + 5 * WORD;
/// `MDB_INTEGERKEY`, which the tree of the free pages has; the store's own trees have no flags.
pub const FREE_LIST_FLAGS: u16 = 0x08;

/// The description of a tree in an `MDB_db`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    flags: u16,
    levels: u16,
    root: u64,
}

/// The size of the file and the contents of its current meta page.
pub struct Extent {
    pub page_size: usize,
    /// The number of pages in the file.
    pub in_file: u64,
    /// The number of pages that were ever used; the file may lack some of them at its end if they
    /// are free.
    pub used: u64,
}

/// Explains why a file cannot be trusted.
#[derive(Debug)]
pub enum Flaw {
    /// This page is not of the expected kind.
    Page(u64, &'static str),
    Io(io::Error),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Tree {
    /// Reads an `MDB_db`; `None` when the bytes are too few.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            flags: u16_at(bytes, 4)?,
            levels: u16_at(bytes, 6)?,
            root: word_at(bytes, 8 + 4 * WORD)?,
        })
    }
}

/// Checks every page that can be reached: that it lies in the file, belongs to one place only, has
/// the right kind and sound bounds, and keys in their order; and that no free page is in use.
///
/// Returns the first flaw, or a failed read.
/// The first flaw, or a failed read.
pub fn check(
    file: &File,
    extent: Extent,
    free: Tree,
    main: Tree,
    pulse: &Pulse,
) -> Result<(), Flaw> {
    let known = usize::try_from(extent.in_file.min(extent.used)).unwrap_or(usize::MAX);
    let mut walk =
        Walk { file, extent, seen: vec![false; known], wanted: Vec::new(), free: Vec::new() };
    walk.want(0, free, FREE_LIST_FLAGS, Holds::FreeLists)?;
    walk.want(0, main, 0, Holds::Tables)?;
    let mut page = vec![0; walk.extent.page_size];
    for number in 0_u64.. {
        let Some(wanted) = walk.wanted.pop() else { break };
        if number % PAGES_BETWEEN_BEATS == 0 {
            pulse.beat();
        }
        walk.claim(wanted.page, 1)?;
        walk.file.read_exact_at(&mut page, walk.offset(wanted.page))?;
        walk.visit(&page, &wanted)?;
    }
    walk.check_free_pages()
}

/// The contents of a tree's leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Tables,
    Records,
    FreeLists,
}

/// A page that another one refers to, and its expected properties.
struct Wanted {
    page: u64,
    /// Levels from here down to the leaves, this one included.
    levels: u16,
    holds: Holds,
    /// Its keys are not below the first bound, and are below the second.
    low: Option<Rc<[u8]>>,
    high: Option<Rc<[u8]>>,
}

struct Walk<'a> {
    file: &'a File,
    extent: Extent,
    seen: Vec<bool>,
    wanted: Vec<Wanted>,
    free: Vec<u64>,
}

impl Walk<'_> {
    fn offset(&self, page: u64) -> u64 {
        page * self.extent.page_size as u64
    }

    /// Schedules the tree that this page refers to.
    fn want(&mut self, from: u64, tree: Tree, flags: u16, holds: Holds) -> Result<(), Flaw> {
        if tree.flags != flags {
            return Err(Flaw::Page(from, "gives a table flags that it never had"));
        }
        let empty = tree.root == NO_PAGE;
        if empty != (tree.levels == 0) || tree.levels > DEEPEST {
            return Err(Flaw::Page(from, "gives a table a depth that it cannot have"));
        }
        if !empty {
            let (page, levels) = (tree.root, tree.levels);
            self.wanted.push(Wanted { page, levels, holds, low: None, high: None });
        }
        Ok(())
    }

    /// Notes that these pages are in use, here and nowhere else.
    fn claim(&mut self, first: u64, count: u64) -> Result<(), Flaw> {
        let range =
            usize::try_from(first).ok().zip(usize::try_from(first.saturating_add(count)).ok());
        let pages = range
            .filter(|_| first >= FIRST_PAGE)
            .and_then(|(from, to)| self.seen.get_mut(from..to))
            .ok_or(Flaw::Page(first, "is referred to and is not in the file"))?;
        if pages.iter().any(|seen| *seen) {
            return Err(Flaw::Page(first, "is referred to twice"));
        }
        pages.fill(true);
        Ok(())
    }

    /// Checks one page of a tree, and schedules those below it.
    fn visit(&mut self, page: &[u8], wanted: &Wanted) -> Result<(), Flaw> {
        let flaw = |what| Flaw::Page(wanted.page, what);
        let kind = if wanted.levels == 1 { LEAF } else { BRANCH };
        if word_at(page, 0) != Some(wanted.page) || u16_at(page, WORD + 2) != Some(kind) {
            return Err(flaw("is not the page that it has to be"));
        }
        let nodes = nodes(page, kind).ok_or(flaw("has nodes out of its bounds"))?;
        let fewest = if kind == BRANCH && wanted.holds != Holds::FreeLists { 2 } else { 1 };
        if nodes.len() < fewest {
            return Err(flaw("has too few nodes"));
        }
        if !in_order(&nodes, kind, wanted) {
            return Err(flaw("has keys out of order"));
        }
        for (index, node) in nodes.iter().enumerate() {
            if kind == BRANCH {
                let child = self.child(&nodes, index, wanted);
                self.wanted.push(child);
            } else {
                self.leaf_node(page, node, wanted)?;
            }
        }
        Ok(())
    }

    fn child(&self, nodes: &[Node<'_>], index: usize, parent: &Wanted) -> Wanted {
        let key = |index: usize| nodes.get(index).map(|node| Rc::from(node.key));
        Wanted {
            page: nodes[index].target,
            levels: parent.levels - 1,
            holds: parent.holds,
            // The first key of a branch is empty and takes its meaning from the parent.
            low: if index == 0 { parent.low.clone() } else { key(index) },
            high: key(index + 1).or_else(|| parent.high.clone()),
        }
    }

    fn leaf_node(&mut self, page: &[u8], node: &Node<'_>, wanted: &Wanted) -> Result<(), Flaw> {
        let flaw = |what| Flaw::Page(wanted.page, what);
        match (node.flags, wanted.holds) {
            (0, Holds::Records) => Ok(()),
            (0, Holds::FreeLists) => self.free_list(wanted.page, &page[node.data.clone()]),
            (NODE_BIG, Holds::Records | Holds::FreeLists) => {
                let first = word_at(page, node.data.start).ok_or(flaw("lacks a page number"))?;
                let big = self.overflow(first, node.size)?;
                match wanted.holds {
                    Holds::FreeLists => {
                        let mut list = vec![0; node.size];
                        self.file.read_exact_at(&mut list, self.offset(first) + big)?;
                        self.free_list(first, &list)
                    }
                    Holds::Records | Holds::Tables => Ok(()),
                }
            }
            (NODE_TABLE, Holds::Tables) => {
                let table =
                    (node.size == TABLE_BYTES).then(|| Tree::read(&page[node.data.clone()]));
                let table = table.flatten().ok_or(flaw("has a table of the wrong size"))?;
                self.want(wanted.page, table, 0, Holds::Records)
            }
            _ => Err(flaw("has a node of a kind that does not belong there")),
        }
    }

    /// Claims the overflow pages of a large value; returns the offset of its bytes. There may be
    /// more pages than it needs: a value that was written twice in one transaction keeps the pages
    /// of the larger one.
    fn overflow(&mut self, first: u64, size: usize) -> Result<u64, Flaw> {
        // The size is a number from the file, and the sum may not fit a word of 32 bits.
        let fewest = (HEADER as u64 + size as u64).div_ceil(self.extent.page_size as u64);
        self.claim(first, fewest)?;
        let mut header = [0; HEADER];
        self.file.read_exact_at(&mut header, self.offset(first))?;
        let count = u32_at(&header, WORD + 4).map_or(0, u64::from);
        let sound = word_at(&header, 0) == Some(first)
            && u16_at(&header, WORD + 2) == Some(OVERFLOW)
            && count >= fewest;
        if !sound {
            return Err(Flaw::Page(first, "is not the page that it has to be"));
        }
        if count > fewest {
            self.claim(first + fewest, count - fewest)?;
        }
        Ok(HEADER as u64)
    }

    /// Reads a list of free pages: their number, then the pages from the last to the first.
    fn free_list(&mut self, page: u64, list: &[u8]) -> Result<(), Flaw> {
        let flaw = Flaw::Page(page, "has a list of free pages that makes no sense");
        let mut words = list.chunks_exact(WORD).filter_map(|word| word_at(word, 0));
        let count = words.next().and_then(|count| usize::try_from(count).ok());
        let Some(count) = count.filter(|count| *count < list.len() / WORD) else {
            return Err(flaw);
        };
        let pages: Vec<u64> = words.take(count).collect();
        if !pages.is_sorted_by(|a, b| a > b) {
            return Err(flaw);
        }
        self.free.extend(pages);
        Ok(())
    }

    /// A free page must be neither in use nor listed twice.
    fn check_free_pages(mut self) -> Result<(), Flaw> {
        self.free.sort_unstable();
        if let Some(twice) = self.free.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Flaw::Page(twice[0], "is free twice"));
        }
        for page in &self.free {
            let seen = usize::try_from(*page).ok().and_then(|page| self.seen.get(page));
            if seen == Some(&true) || *page < FIRST_PAGE || *page >= self.extent.used {
                return Err(Flaw::Page(*page, "is in use and listed as free"));
            }
        }
        Ok(())
    }
}

/// One entry of a branch or leaf page.
struct Node<'a> {
    key: &'a [u8],
    flags: u16,
    /// In a leaf, the size of the value.
    size: usize,
    /// In a leaf, the value, or the number of the page where it is.
    data: Range<usize>,
    /// In a branch, the page below.
    target: u64,
}

impl Node<'_> {
    /// The bytes that it takes in the page.
    fn space(&self) -> usize {
        (NODE_HEADER + self.key.len() + self.data.len()).next_multiple_of(2)
    }
}

/// The page's nodes; `None` when one does not lie in the page.
fn nodes(page: &[u8], kind: u16) -> Option<Vec<Node<'_>>> {
    let (lower, upper) =
        (usize::from(u16_at(page, WORD + 4)?), usize::from(u16_at(page, WORD + 6)?));
    let sound = HEADER <= lower && lower % 2 == 0 && lower <= upper && upper <= page.len();
    if !sound {
        return None;
    }
    let at = |index| u16_at(page, index).map(usize::from).filter(|at| *at >= upper && at % 2 == 0);
    let nodes: Vec<Node<'_>> = (HEADER..lower)
        .step_by(2)
        .map(|index| node(page, at(index)?, kind))
        .collect::<Option<_>>()?;
    // LMDB leaves no gaps, so a missing node or two that overlap change the sum.
    let filled: usize = nodes.iter().map(Node::space).sum();
    (filled == page.len() - upper).then_some(nodes)
}

fn node(page: &[u8], at: usize, kind: u16) -> Option<Node<'_>> {
    let key_end = at + NODE_HEADER + usize::from(u16_at(page, at + 6)?);
    let key = page.get(at + NODE_HEADER..key_end).filter(|key| key.len() <= LONGEST_KEY)?;
    let target = branch_target(page, at)?;
    let flags = u16_at(page, at + 4)?;
    let size = usize::try_from(target & 0xFFFF_FFFF).ok()?;
    let bytes = match (kind, flags & NODE_BIG) {
        (BRANCH, _) => 0,
        (_, 0) => size,
        _ => WORD,
    };
    let data = key_end..key_end.checked_add(bytes).filter(|end| *end <= page.len())?;
    Some(Node { key, flags, size, data, target })
}

/// In a branch, the page number fills the fields of a leaf node's size and, on 64 bits, its flags.
fn branch_target(page: &[u8], node: usize) -> Option<u64> {
    let low = u64::from(u16_at(page, node)?);
    let high = u64::from(u16_at(page, node + 2)?);
    let (low, high) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
    let top = if WORD == 8 { u64::from(u16_at(page, node + 4)?) } else { 0 };
    Some(low | high << 16 | top << 32)
}

/// Whether the keys rise strictly, within the bounds that the parent page sets.
fn in_order(nodes: &[Node<'_>], kind: u16, wanted: &Wanted) -> bool {
    let integers = wanted.holds == Holds::FreeLists;
    let less = |a: &[u8], b: &[u8]| match (integers, word_at(a, 0), word_at(b, 0)) {
        (true, Some(a), Some(b)) => a < b,
        (true, ..) => false,
        (false, ..) => a < b,
    };
    let keys = if kind == BRANCH { &nodes[1..] } else { nodes };
    let above = |key| wanted.low.as_deref().is_none_or(|low| !less(key, low));
    let below = |key| wanted.high.as_deref().is_none_or(|high| less(key, high));
    let whole = !integers || keys.iter().all(|node| node.key.len() == WORD);
    whole
        && keys.is_sorted_by(|a, b| less(a.key, b.key))
        && keys.first().is_none_or(|first| above(first.key))
        && keys.last().is_none_or(|last| below(last.key))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|value| u16::from_ne_bytes(*value))
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|value| u32::from_ne_bytes(*value))
}

pub fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|value| usize::from_ne_bytes(*value) as u64)
}
