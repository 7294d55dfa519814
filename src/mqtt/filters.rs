//! Splits the filters of a fleet into packets that a broker accepts.

use iotmonitor_core::topic::TopicFilter;
use std::collections::VecDeque;

/// The number of filters in one packet. MQTT sets no limit but brokers do; two hundred is far below
/// the smallest reasonable limit that is known, and ten thousand filters still need only fifty
/// packets.
pub(super) const FILTERS_PER_PACKET: usize = 200;

/// What one filter adds to its own length: two bytes of length and one of options.
const FILTER_OVERHEAD: usize = 3;

/// Takes as many from the front as fit into one packet, but always one.
pub(super) fn chunk<T>(
    from: &mut VecDeque<T>,
    most_filters: usize,
    most_bytes: usize,
    filter: impl Fn(&T) -> &TopicFilter,
) -> Vec<T> {
    let mut bytes = 0;
    let count = from
        .iter()
        .take(most_filters)
        .take_while(|item| {
            bytes += filter(item).as_str().len() + FILTER_OVERHEAD;
            bytes <= most_bytes
        })
        .count();
    let chunk = from.drain(..count.max(1).min(from.len())).collect();
    if from.is_empty() {
        // The filters of a whole fleet took room that is not needed again.
        *from = VecDeque::new();
    }
    chunk
}
