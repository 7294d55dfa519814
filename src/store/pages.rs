//! Walks a data file's trees page by page, without LMDB, which aborts the process when it meets a
//! page that a truncation took.
//!
//! Deliberately absent: records' contents. Layouts are those of `MDB_page` and `MDB_node` (mdb.c);
//! numbers are native.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const WORD: usize = size_of::<usize>();
const HEADER: usize = WORD + 8;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
const NODE_HEADER: usize = 8;
const NODE_BIG: u16 = 0x01;
const NODE_TABLE: u16 = 0x02;
/// Where `md_root` stands in an `MDB_db`.
pub(super) const ROOT_IN_TABLE: usize = 8 + 4 * WORD;
/// The root of an empty tree.
const NO_PAGE: u64 = usize::MAX as u64;

/// Whether every page that can be reached from the roots lies in the file and looks like one.
pub(super) fn all_present(
    file: &File,
    size: u64,
    page_size: usize,
    roots: [u64; 2],
) -> io::Result<bool> {
    let count = size / page_size as u64;
    let mut left = count;
    let mut wanted: Vec<u64> = roots.into_iter().filter(|root| *root != NO_PAGE).collect();
    let mut page = vec![0; page_size];
    while let Some(number) = wanted.pop() {
        // More pages than the file has means a cycle.
        if number >= count || left == 0 {
            return Ok(false);
        }
        left -= 1;
        file.read_exact_at(&mut page, number * page_size as u64)?;
        if references(&page, number, count, &mut wanted).is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Adds the pages that this one refers to; `None` when it is no such page.
fn references(page: &[u8], number: u64, count: u64, wanted: &mut Vec<u64>) -> Option<()> {
    if word_at(page, 0)? != number {
        return None;
    }
    match u16_at(page, WORD + 2)? & (BRANCH | LEAF | OVERFLOW) {
        OVERFLOW => {
            let pages = u32_at(page, WORD + 4)?;
            (number.checked_add(pages.into())? <= count).then_some(())
        }
        BRANCH => nodes(page)?.try_for_each(|node| {
            wanted.push(branch_target(page, node?)?);
            Some(())
        }),
        LEAF => nodes(page)?.try_for_each(|node| {
            let node = node?;
            let flags = u16_at(page, node + 4)?;
            let data = node + NODE_HEADER + usize::from(u16_at(page, node + 6)?);
            if flags & NODE_BIG != 0 {
                wanted.push(word_at(page, data)?);
            } else if flags & NODE_TABLE != 0 {
                let root = word_at(page, data + ROOT_IN_TABLE)?;
                wanted.extend((root != NO_PAGE).then_some(root));
            }
            Some(())
        }),
        _ => None,
    }
}

/// Offsets of the page's nodes.
fn nodes(page: &[u8]) -> Option<impl Iterator<Item = Option<usize>> + '_> {
    let lower = usize::from(u16_at(page, WORD + 4)?);
    (HEADER..=page.len())
        .contains(&lower)
        .then(|| (HEADER..lower).step_by(2).map(|at| u16_at(page, at).map(usize::from)))
}

/// A branch's page number fills the fields of a leaf node's size and, on 64 bits, its flags.
fn branch_target(page: &[u8], node: usize) -> Option<u64> {
    let low = u64::from(u16_at(page, node)?);
    let high = u64::from(u16_at(page, node + 2)?);
    let (low, high) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
    let top = if WORD == 8 { u64::from(u16_at(page, node + 4)?) } else { 0 };
    Some(low | high << 16 | top << 32)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|value| u16::from_ne_bytes(*value))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|value| u32::from_ne_bytes(*value))
}

pub(super) fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|value| usize::from_ne_bytes(*value) as u64)
}
