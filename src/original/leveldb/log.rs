//! A log of records, which is what a manifest is, too (google/leveldb, doc/log_format.md).

use super::coding::{Bytes, is_checksum};

/// No part of a record reaches over the end of a block.
const BLOCK: usize = 32_768;

/// Checksum, length and kind before each part.
const HEADER: usize = 7;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// A record and the byte where it begins.
pub(super) struct Record {
    pub at: u64,
    pub data: Vec<u8>,
}

/// Hands over each record, or the byte where one begins that cannot be read; after that the next
/// block is tried, since a length that is wrong leads nowhere.
pub(super) fn records(log: &[u8], mut take: impl FnMut(Result<Record, u64>)) {
    let mut open: Option<Record> = None;
    let mut tell = |open: &mut Option<Record>, at: usize| {
        take(Err(open.take().map_or(at as u64, |record| record.at)));
    };
    let mut done = Vec::new();
    for (number, block) in log.chunks(BLOCK).enumerate() {
        let (mut rest, begin) = (block, number * BLOCK);
        // Fewer bytes than a header are filled with zeros.
        while rest.len() >= HEADER {
            // So is room that was made before it was needed.
            if rest.iter().all(|byte| *byte == 0) {
                break;
            }
            let at = begin + block.len() - rest.len();
            let Some((kind, data, after)) = part(rest) else {
                tell(&mut open, at);
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
                    // Its end is not there.
                    if before.is_some() {
                        tell(&mut open, at);
                    }
                    let record = Record { at: at as u64, data: data.to_vec() };
                    if kind == FULL {
                        done.push(record);
                    } else {
                        open = Some(record);
                    }
                }
                // Its beginning is not there.
                _ => tell(&mut open, at),
            }
        }
        if rest.iter().any(|byte| *byte != 0) {
            tell(&mut open, begin + block.len() - rest.len());
        }
    }
    if open.is_some() {
        tell(&mut open, log.len());
    }
    done.into_iter().for_each(|record| take(Ok(record)));
}

/// Kind and data of a part, and what follows it; `None` where its checksum is wrong.
fn part(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let mut bytes = Bytes(bytes);
    let checksum = bytes.fixed32()?;
    let length = usize::from(u16::from_le_bytes([bytes.byte()?, bytes.byte()?]));
    let kind = bytes.byte()?;
    let data = bytes.take(length)?;
    is_checksum(checksum, [&[kind], data]).then_some((kind, data, bytes.0))
}
