//! Reads a sorted table (google/leveldb, doc/table_format.md).

use super::What;
use super::coding::{Bytes, is_checksum};
use std::borrow::Cow;

/// The length of a table's footer in bytes, and the bytes with which it ends.
const FOOTER: usize = 48;
const MAGIC: [u8; 8] = 0xDB47_7524_8B80_FB57_u64.to_le_bytes();

/// The length in bytes of the kind and the checksum after each block.
const TRAILER: usize = 5;

const PLAIN: u8 = 0;
const SNAPPY: u8 = 1;

/// The maximum length in bytes of a decompressed block. A single value of the original could be as
/// large as an MQTT message.
const LARGEST_BLOCK: usize = 512 << 20;

/// Passes each key and value to `take`, and returns the parts that cannot be read. `take` returns
/// `None` for bytes that cannot be a key of a table.
pub(super) fn entries(table: &[u8], mut take: impl FnMut(&[u8], &[u8]) -> Option<()>) -> Vec<What> {
    let mut blocks = Vec::new();
    let index = index(table).and_then(|index| {
        each(&index, |_, handle| {
            blocks.push(handle_of(&mut Bytes(handle))?);
            Some(())
        })
    });
    if index.is_none() {
        return vec![What::Index];
    }
    let mut lost = Vec::new();
    for (offset, size) in blocks {
        let read = block(table, offset, size).and_then(|block| each(&block, &mut take));
        if read.is_none() {
            lost.push(What::Block(offset));
        }
    }
    lost
}

/// Returns the block that contains the positions of the others.
fn index(table: &[u8]) -> Option<Cow<'_, [u8]>> {
    let (_, footer) = table.split_last_chunk::<FOOTER>()?;
    let mut handles = Bytes(footer.strip_suffix(&MAGIC)?);
    // The first handle leads to a block that helps to find a key, and is not needed to read all.
    handle_of(&mut handles)?;
    let (offset, size) = handle_of(&mut handles)?;
    block(table, offset, size)
}

fn handle_of(bytes: &mut Bytes<'_>) -> Option<(u64, u64)> {
    Some((bytes.varint()?, bytes.varint()?))
}

/// Returns a decompressed block, provided that its checksum is right.
fn block(table: &[u8], offset: u64, size: u64) -> Option<Cow<'_, [u8]>> {
    let (offset, size) = (usize::try_from(offset).ok()?, usize::try_from(size).ok()?);
    let mut bytes = Bytes(table.get(offset..)?);
    let data = bytes.take(size)?;
    let trailer = bytes.take(TRAILER)?;
    let kind = &trailer[..1];
    let stored = Bytes(&trailer[1..]).fixed32()?;
    if !is_checksum(stored, [data, kind]) {
        return None;
    }
    match kind[0] {
        PLAIN => Some(Cow::Borrowed(data)),
        SNAPPY if snap::raw::decompress_len(data).ok()? <= LARGEST_BLOCK => {
            Some(Cow::Owned(snap::raw::Decoder::new().decompress_vec(data).ok()?))
        }
        _ => None,
    }
}

/// Passes each entry of a block to `take`. Returns `None` if the block breaks off or `take` refuses
/// an entry.
fn each(block: &[u8], mut take: impl FnMut(&[u8], &[u8]) -> Option<()>) -> Option<()> {
    let (rest, restarts) = block.split_last_chunk::<4>()?;
    // The restarts are the positions of keys that are stored in full, which only a search needs.
    let restarts = usize::try_from(u32::from_le_bytes(*restarts)).ok()?.checked_mul(4)?;
    let mut bytes = Bytes(rest.get(..rest.len().checked_sub(restarts)?)?);
    let mut key = Vec::new();
    while !bytes.0.is_empty() {
        let (shared, own, value) = (bytes.length()?, bytes.length()?, bytes.length()?);
        if shared > key.len() {
            return None;
        }
        key.truncate(shared);
        key.extend_from_slice(bytes.take(own)?);
        take(&key, bytes.take(value)?)?;
    }
    Some(())
}
