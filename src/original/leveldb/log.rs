//! Reads a log of records, which is also the format of a manifest (google/leveldb,
//! doc/log_format.md).

use super::coding::{Bytes, is_checksum};

/// The length of a block in bytes. No part of a record extends beyond the end of a block.
const BLOCK: usize = 32_768;

/// The length in bytes of the checksum, the length and the kind before each part.
const HEADER: usize = 7;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// A record and the offset at which it begins.
pub(super) struct Record {
    pub at: u64,
    pub data: Vec<u8>,
}

/// Passes each record to `take`, or the offset of one that cannot be read. After such a record,
/// reading continues with the next block, since its length may be wrong.
pub(super) fn records(log: &[u8], mut take: impl FnMut(Result<Record, u64>)) {
    let mut open: Option<Record> = None;
    let mut report = |open: &mut Option<Record>, at: usize| {
        take(Err(open.take().map_or(at as u64, |record| record.at)));
    };
    let mut done = Vec::new();
    for (number, block) in log.chunks(BLOCK).enumerate() {
        let (mut rest, begin) = (block, number * BLOCK);
        // A remainder that is shorter than a header is filled with zeros.
        while rest.len() >= HEADER {
            // Space that was allocated in advance is filled with zeros, too.
            if rest.iter().all(|byte| *byte == 0) {
                break;
            }
            let at = begin + block.len() - rest.len();
            let Some((kind, data, after)) = part(rest) else {
                report(&mut open, at);
                rest = &[];
                break;
            };
            rest = after;
            match (kind, open.as_mut()) {
                (MIDDLE, Some(record)) => record.data.extend_from_slice(data),
                (LAST, Some(record)) => {
                    record.data.extend_from_slice(data);
                    done.extend(open.take());
                }
                (FULL | FIRST, before) => {
                    // The end of the open record is missing.
                    if before.is_some() {
                        report(&mut open, at);
                    }
                    let record = Record { at: at as u64, data: data.to_vec() };
                    if kind == FULL {
                        done.push(record);
                    } else {
                        open = Some(record);
                    }
                }
                // The beginning of the record is missing.
                _ => report(&mut open, at),
            }
        }
        if rest.iter().any(|byte| *byte != 0) {
            report(&mut open, begin + block.len() - rest.len());
        }
    }
    if open.is_some() {
        report(&mut open, log.len());
    }
    done.into_iter().for_each(|record| take(Ok(record)));
}

/// Returns the kind and the data of a part and the bytes after it, or `None` if its checksum is
/// wrong.
fn part(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let mut bytes = Bytes(bytes);
    let checksum = bytes.fixed32()?;
    let length = usize::from(u16::from_le_bytes([bytes.byte()?, bytes.byte()?]));
    let kind = bytes.byte()?;
    let data = bytes.take(length)?;
    is_checksum(checksum, [&[kind], data]).then_some((kind, data, bytes.0))
}
