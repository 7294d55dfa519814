//! Finds the subscriptions that differ from each other in one level.

use super::is_coverable;
use crate::model::message::Subscription;
use std::cmp::Reverse;

/// The number of levels considered: each costs a pass over all filters.
const MOST_LEVELS: usize = 16;

/// Subscriptions whose filters are equal except for one level.
#[derive(Debug)]
pub struct Group {
    /// The place of the first of them in the plan.
    pub example: usize,
    /// The level in which they differ.
    pub level: usize,
    size: usize,
}

/// The groups of at least `fewest`, the largest first.
#[expect(clippy::disallowed_types, reason = "the groups are sorted, so the map's order is nowhere")]
pub fn groups(plan: &[Subscription], fewest: usize) -> Vec<Group> {
    let mut all = Vec::new();
    for level in 0..MOST_LEVELS {
        let mut found: hashbrown::HashMap<(&str, &str), Group> = hashbrown::HashMap::new();
        let mut is_deep_enough = false;
        for (at, subscription) in plan.iter().enumerate().filter(|(_, s)| is_coverable(s)) {
            let Some((before, own, after)) = part(subscription.filter.as_str(), level) else {
                continue;
            };
            is_deep_enough = true;
            if own != "+" && own != "#" {
                let new = || Group { example: at, level, size: 0 };
                found.entry((before, after)).or_insert_with(new).size += 1;
            }
        }
        all.extend(found.into_values().filter(|group| group.size >= fewest));
        if !is_deep_enough {
            break;
        }
    }
    all.sort_unstable_by_key(|group| (Reverse(group.size), group.level, group.example));
    all
}

/// The part before a level, the level, and the part behind it, with their slashes.
fn part(filter: &str, level: usize) -> Option<(&str, &str, &str)> {
    let start = match level {
        0 => 0,
        above => filter.match_indices('/').nth(above - 1)?.0 + 1,
    };
    let end = filter[start..].find('/').map_or(filter.len(), |at| start + at);
    Some((&filter[..start], &filter[start..end], &filter[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_parted_at_each_of_its_levels() {
        assert_eq!(part("a/b/#", 0), Some(("", "a", "/b/#")));
        assert_eq!(part("a/b/#", 1), Some(("a/", "b", "/#")));
        assert_eq!(part("a/b/#", 2), Some(("a/b/", "#", "")));
        assert_eq!(part("a/b/#", 3), None);
        assert_eq!(part("/", 1), Some(("/", "", "")));
    }
}
