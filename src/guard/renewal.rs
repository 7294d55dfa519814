//! The form of a renewal between a monitor and its guard. It stays when either is upgraded: a guard
//! outlives the monitor's restarts, so the two may be of different versions.

use iotmonitor_core::machines::cluster::Guarded;
use iotmonitor_core::model::cluster::SessionId;
use std::time::Duration;

/// The length of a renewal in bytes.
pub(super) const LENGTH: usize = 50;

/// What every renewal begins with, and the version of the form.
const MAGIC: &[u8; 10] = b"iotguard\0\x01";

/// The bytes of a renewal.
#[must_use]
pub(super) fn to_bytes(guarded: Guarded) -> [u8; LENGTH] {
    let nanos = u64::try_from(guarded.deadline.as_nanos()).unwrap_or(u64::MAX);
    let mut bytes = [0; LENGTH];
    bytes[..10].copy_from_slice(MAGIC);
    bytes[10..26].copy_from_slice(&guarded.session.boot.to_be_bytes());
    bytes[26..34].copy_from_slice(&guarded.session.number.to_be_bytes());
    bytes[34..42].copy_from_slice(&guarded.n.to_be_bytes());
    bytes[42..].copy_from_slice(&nanos.to_be_bytes());
    bytes
}

/// Reads a renewal; `None` if the bytes have another form.
#[must_use]
pub(super) fn from_bytes(bytes: &[u8]) -> Option<Guarded> {
    let (magic, numbers) = bytes.split_first_chunk()?;
    let (boot, numbers) = numbers.split_first_chunk()?;
    let (number, numbers) = numbers.split_first_chunk()?;
    let (n, nanos) = numbers.split_first_chunk()?;
    let nanos = u64::from_be_bytes(nanos.try_into().ok()?);
    let session =
        SessionId { boot: u128::from_be_bytes(*boot), number: u64::from_be_bytes(*number) };
    let guarded =
        Guarded { session, n: u64::from_be_bytes(*n), deadline: Duration::from_nanos(nanos) };
    (magic == MAGIC).then_some(guarded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded() -> Guarded {
        let session = SessionId { boot: u128::MAX - 1, number: 7 };
        Guarded { session, n: 9, deadline: Duration::new(3, 5) }
    }

    #[test]
    fn a_renewal_is_read_as_it_was_written_and_its_form_stays() {
        let mut expected = b"iotguard\0\x01".to_vec();
        expected.extend([0xff; 15]);
        expected.extend([0xfe, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9]);
        expected.extend(3_000_000_005_u64.to_be_bytes());
        assert_eq!(to_bytes(guarded()).to_vec(), expected);
        assert_eq!(from_bytes(&expected), Some(guarded()));
    }

    #[test]
    fn everything_else_is_ignored() {
        let good = to_bytes(guarded());
        assert_eq!(from_bytes(&good[..LENGTH - 1]), None);
        assert_eq!(from_bytes(&[&good[..], &[0]].concat()), None);
        assert_eq!(from_bytes(&[]), None);
        for (place, value) in [(0, b'I'), (9, 2)] {
            let mut bad = good;
            bad[place] = value;
            assert_eq!(from_bytes(&bad), None, "byte {place}");
        }
    }
}
