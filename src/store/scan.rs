//! Determines which of the recorded topics a read has to examine, in the order of their keys.
//!
//! A filter that begins with a wildcard matches topics that are spread over the table. Where one
//! does not match, the next possible match is known in most cases, and the read continues from
//! there. So it visits the matches, and about two topics more for each value of a wildcard that has
//! literal levels behind it; in a table of a million topics these may be a few.

use iotmonitor_core::topic::TopicFilter;

/// The result of the filters for a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ScanVerdict {
    Matches,
    /// The filters match neither this topic nor any before this bound, which is greater.
    NotBefore(Vec<u8>),
    /// The filters match neither this topic nor any behind it.
    NoMore,
}

/// The lower bound of the topics that any of the filters matches; without a filter, all match.
pub(super) fn start(filters: &[TopicFilter]) -> &[u8] {
    filters.iter().map(|filter| filter.literal_prefix().as_bytes()).min().unwrap_or_default()
}

/// Combines the results of all filters. Without a filter, all topics match.
pub(super) fn judge(filters: &[TopicFilter], topic: &[u8]) -> ScanVerdict {
    if filters.is_empty() {
        return ScanVerdict::Matches;
    }
    let mut nearest = ScanVerdict::NoMore;
    for filter in filters {
        match (judge_one(filter.as_str(), topic), &nearest) {
            (ScanVerdict::Matches, _) => return ScanVerdict::Matches,
            (ScanVerdict::NoMore, _) => {}
            (ScanVerdict::NotBefore(bound), ScanVerdict::NotBefore(least)) if bound >= *least => {}
            (verdict @ ScanVerdict::NotBefore(_), _) => nearest = verdict,
        }
    }
    nearest
}

fn judge_one(filter: &str, topic: &[u8]) -> ScanVerdict {
    if topic.starts_with(b"$") && filter.starts_with(['+', '#']) {
        return ScanVerdict::NotBefore(vec![b'$' + 1]);
    }
    // The start of the current level; none behind the last one.
    let mut level = Some(0);
    // The end of the level that the last `+` stands for.
    let mut wildcard = None;
    for pattern in filter.split('/') {
        if pattern == "#" {
            return ScanVerdict::Matches;
        }
        let Some(start) = level else {
            // With a longer value, the `+` could stand for a topic that comes before the slash.
            let next = if wildcard == Some(topic.len()) { 0 } else { b'/' };
            return ScanVerdict::NotBefore([topic, &[next]].concat());
        };
        let rest = &topic[start..];
        let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        if pattern == "+" {
            wildcard = Some(start + length);
        } else if pattern.as_bytes() != &rest[..length] {
            // Topics with this level lie ahead, or some that go on below it, or none.
            let mut bound = [&topic[..start], pattern.as_bytes()].concat();
            if bound.as_slice() < topic {
                bound.push(b'/');
            }
            return if bound.as_slice() > topic {
                ScanVerdict::NotBefore(bound)
            } else {
                behind(topic, wildcard)
            };
        }
        level = (length < rest.len()).then_some(start + length + 1);
    }
    if level.is_none() { ScanVerdict::Matches } else { behind(topic, wildcard) }
}

/// Nothing more matches with this value of the last wildcard: continue with the next value.
fn behind(topic: &[u8], wildcard: Option<usize>) -> ScanVerdict {
    match wildcard {
        Some(end) => ScanVerdict::NotBefore([&topic[..end], &[b'/' + 1]].concat()),
        None => ScanVerdict::NoMore,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::topic::TopicName;
    use proptest::prelude::{Strategy, prop, proptest};
    use std::collections::BTreeSet;

    /// Visits the topics that must be visited; returns the matches, and the number examined.
    fn scan<'a>(topics: &'a BTreeSet<String>, filters: &[TopicFilter]) -> (Vec<&'a str>, usize) {
        let (mut found, mut visited) = (Vec::new(), 0);
        let mut bound = start(filters).to_vec();
        let ahead = |bound: &[u8]| topics.iter().find(|topic| topic.as_bytes() >= bound);
        while let Some(topic) = ahead(&bound) {
            visited += 1;
            bound = match judge(filters, topic.as_bytes()) {
                ScanVerdict::NoMore => break,
                ScanVerdict::NotBefore(next) => {
                    assert!(next.as_slice() > topic.as_bytes(), "{topic}: {next:?}");
                    next
                }
                ScanVerdict::Matches => {
                    found.push(topic.as_str());
                    [topic.as_bytes(), &[0]].concat()
                }
            };
        }
        (found, visited)
    }

    fn filters(texts: &[&str]) -> Vec<TopicFilter> {
        texts.iter().map(|text| TopicFilter::new(*text).unwrap()).collect()
    }

    #[test]
    fn a_leading_wildcard_visits_what_matches_and_little_more() {
        let topics: BTreeSet<String> = (0..20)
            .flat_map(|room| (0..500).map(move |lamp| format!("room{room}/lamp{lamp}/set")))
            .collect();
        let (found, visited) = scan(&topics, &filters(&["+/lamp7/#"]));
        assert_eq!(found.len(), 20);
        assert!(visited <= 3 * 20, "{visited} of {} were looked at", topics.len());
        let (found, visited) = scan(&topics, &filters(&["room3/lamp7/+", "+/lamp9/set"]));
        assert_eq!(found.len(), 21);
        assert!(visited <= 4 * 20, "{visited} of {} were looked at", topics.len());
    }

    fn topic() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["", "a", "a-", "a0", "b", "$s", "ü", "~"]);
        prop::collection::vec(level, 1..5)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("not empty", |text| !text.is_empty())
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["", "a", "a-", "b", "$s", "+", "+", "+"]);
        (prop::collection::vec(level, 0..5), proptest::bool::ANY)
            .prop_map(|(mut levels, rest)| {
                levels.extend(rest.then_some("#"));
                levels.join("/")
            })
            .prop_filter("not empty", |text| !text.is_empty())
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]
        #[test]
        fn nothing_that_matches_is_passed_over(
            topics in prop::collection::btree_set(topic(), 0..60),
            texts in prop::collection::vec(filter(), 1..4),
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let filters = filters(&texts);
            let matches = |topic: &&str| {
                let name = TopicName::new(*topic).unwrap();
                filters.iter().any(|filter| filter.matches(&name))
            };
            let expected: Vec<&str> = topics.iter().map(String::as_str).filter(matches).collect();
            assert_eq!(scan(&topics, &filters).0, expected, "{texts:?}");
        }
    }
}
