//! Reads numbers and strings as LevelDB writes them (google/leveldb, util/coding.cc), and verifies
//! its checksums.

/// The bytes that are left to be read. A read beyond their end returns `None`.
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn fixed32(&mut self) -> Option<u32> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*taken))
    }

    pub fn fixed64(&mut self) -> Option<u64> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*taken))
    }

    /// Reads a number with seven bits in each byte, the lowest first. The highest bit is set in all
    /// bytes but the last.
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    /// Reads a string that follows its length.
    pub fn prefixed(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }
}

/// Returns whether this is the checksum of the concatenated parts. Checksums are stored masked,
/// since the checksum of bytes that contain a checksum would otherwise be weak (google/leveldb,
/// util/crc32c.h).
pub(super) fn is_checksum(stored: u32, parts: [&[u8]; 2]) -> bool {
    let [first, second] = parts;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(first), second);
    stored == checksum.rotate_right(15).wrapping_add(0xA282_EAD8)
}
