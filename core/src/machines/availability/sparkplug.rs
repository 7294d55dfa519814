//! The number in the certificates of Sparkplug B ([`crate::model::sparkplug`]): `NBIRTH` and `NDEATH`
//! hold the metric `bdSeq`, by which a will that the broker publishes late is known to be of an earlier
//! connection.

/// The metric `bdSeq` of a payload (`org.eclipse.tahu.protobuf.Payload`); `None` where there is none.
#[must_use]
pub(super) fn birth_number(payload: &[u8]) -> Option<u64> {
    const METRICS: u64 = 2;
    Fields(payload)
        .filter(|(number, _)| *number == METRICS)
        .find_map(|(_, metric)| birth_number_in(metric.bytes()?))
}

fn birth_number_in(metric: &[u8]) -> Option<u64> {
    const NAME: u64 = 1;
    const INT_VALUE: u64 = 10;
    const LONG_VALUE: u64 = 11;
    let field = |wanted: &[u64]| Fields(metric).find(|(number, _)| wanted.contains(number));
    let (_, name) = field(&[NAME])?;
    if name.bytes()? != b"bdSeq" {
        return None;
    }
    match field(&[INT_VALUE, LONG_VALUE])? {
        (_, Value::Number(number)) => Some(number),
        (_, Value::Bytes(_)) => None,
    }
}

/// The fields of a protobuf message, up to its end or to what is none
/// (<https://protobuf.dev/programming-guides/encoding/>).
struct Fields<'p>(&'p [u8]);

enum Value<'p> {
    Number(u64),
    Bytes(&'p [u8]),
}

impl<'p> Value<'p> {
    fn bytes(&self) -> Option<&'p [u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            Value::Number(_) => None,
        }
    }
}

impl<'p> Iterator for Fields<'p> {
    type Item = (u64, Value<'p>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'p> Fields<'p> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'p [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Eclipse Tahu's Python client encodes an NDEATH with `bdSeq` 7: name, timestamp, type Int64,
    /// `long_value`.
    const DEATH: &[u8] = b"\x12\x12\x0a\x05bdSeq\x18\x80\xd0\x95\xff\xbb\x31\x20\x04\x58\x07";

    #[test]
    fn the_number_of_a_birth_is_read() {
        assert_eq!(birth_number(DEATH), Some(7));
        // With a time before it, another metric, and the number as an `int_value`.
        let birth = b"\x08\x01\x12\x05\x0a\x01x\x50\x09\x12\x09\x0a\x05bdSeq\x50\x2a\x18\x00";
        assert_eq!(birth_number(birth), Some(42));
        for none in [&b""[..], b"offline", &DEATH[..DEATH.len() - 1], b"\x12\xff\xff\xff\xff\x0f"] {
            assert_eq!(birth_number(none), None);
        }
    }

    proptest! {
        #[test]
        fn no_payload_is_too_odd(payload: Vec<u8>) {
            let number = birth_number(&payload);
            prop_assert!(number.is_none() || payload.len() > 8);
        }
    }
}
