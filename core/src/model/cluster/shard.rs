//! The division of watched devices into groups of which each has one owner.

use super::{Item, SHARDS};
use crate::model::device_name::DeviceName;
use siphasher::sip::SipHasher24;

/// Returns the shard of the devices behind this one, which depends on no other, and its own.
///
/// The shard is SipHash-2-4 of the name's UTF-8 bytes with a key of zeros, modulo the number of
/// shards. All nodes of a cluster have to agree, whatever their architecture and version, so this
/// never changes.
#[must_use]
pub fn shard_of(root: &DeviceName) -> Item {
    let hash = SipHasher24::new().hash(root.as_str().as_bytes());
    Item::Shard(u8::try_from(hash % u64::from(SHARDS)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(name: &str) -> u8 {
        match shard_of(&DeviceName::new(name).unwrap()) {
            Item::Shard(number) => number,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn the_shard_of_a_name_is_the_same_on_each_machine_and_in_each_version() {
        let shards = ["lamp", "esp04", "Küche", "zigbee2mqtt"].map(number);
        assert_eq!(shards, [9, 31, 4, 7]);
    }

    #[test]
    fn devices_are_spread_over_all_shards() {
        let mut counts = [0_u32; SHARDS as usize];
        for at in 0..3_200 {
            counts[usize::from(number(&format!("device{at}")))] += 1;
        }
        assert!(counts.iter().all(|&count| (60..150).contains(&count)), "{counts:?}");
    }
}
