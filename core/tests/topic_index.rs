//! Topic filters against a second matcher, written from the text of MQTT 5, section 4.7.

use iotmonitor_core::topic::index::TopicIndex;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use proptest::prelude::*;

/// Section 4.7 word by word, over lists of levels and with no shortcut.
fn naive(filter: &[&str], name: &[&str]) -> bool {
    // 4.7.2: the server must not match filters that start with a wildcard with topic names that
    // begin with `$`.
    let leading_wildcard = filter[0] == "#" || filter[0] == "+";
    if leading_wildcard && name[0].starts_with('$') {
        return false;
    }
    naive_levels(filter, name)
}

fn naive_levels(filter: &[&str], name: &[&str]) -> bool {
    match (filter.split_first(), name.split_first()) {
        // 4.7.1.2: `#` represents the parent and any number of child levels.
        (Some((&"#", _)), _) => true,
        // 4.7.1.3: `+` matches exactly one level, which may be empty.
        (Some((&"+", filter)), Some((_, name))) => naive_levels(filter, name),
        (Some((literal, filter)), Some((level, name))) => {
            literal == level && naive_levels(filter, name)
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn naive_text(filter: &TopicFilter, name: &TopicName) -> bool {
    let filter: Vec<&str> = filter.as_str().split('/').collect();
    let name: Vec<&str> = name.as_str().split('/').collect();
    naive(&filter, &name)
}

/// Few different levels, so that names and filters meet often; the empty one among them.
fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "a", "b", "aa", "$SYS", "$", "ü"])
}

fn name() -> impl Strategy<Value = TopicName> {
    prop::collection::vec(level(), 1..6)
        .prop_map(|levels| levels.join("/"))
        .prop_filter_map("a topic is not empty", |text| TopicName::new(text).ok())
}

fn filter() -> impl Strategy<Value = TopicFilter> {
    let part = prop_oneof![3 => level(), 2 => Just("+")];
    (prop::collection::vec(part, 0..5), any::<bool>())
        .prop_map(|(mut levels, rest)| {
            if rest {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter_map("a filter is not empty", |text| TopicFilter::new(text).ok())
}

/// A name that the filter matches: wildcards filled in by the given levels.
fn fill(filter: &TopicFilter, fillings: &[&str], depth: usize) -> Option<TopicName> {
    let mut fillings = fillings.iter().cycle();
    let mut levels = Vec::new();
    for level in filter.as_str().split('/') {
        match level {
            "+" => levels.push(*fillings.next()?),
            "#" => levels.extend(fillings.by_ref().take(depth)),
            literal => levels.push(literal),
        }
    }
    TopicName::new(levels.join("/")).ok().filter(|name| naive_text(filter, name))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_filter_matches_as_the_standard_says(filter in filter(), name in name()) {
        prop_assert_eq!(filter.matches(&name), naive_text(&filter, &name));
    }

    #[test]
    fn the_index_finds_each_filter_that_matches_once_for_each_time_it_was_put_in(
        filters in prop::collection::vec(filter(), 0..40),
        names in prop::collection::vec(name(), 1..20),
    ) {
        let mut index = TopicIndex::new();
        for (number, filter) in filters.iter().enumerate() {
            index.insert(filter, number);
        }
        for name in &names {
            let mut found = Vec::new();
            index.for_each_match(name, |number| found.push(number));
            found.sort_unstable();
            let wanted: Vec<usize> = (0..filters.len())
                .filter(|number| naive_text(&filters[*number], name))
                .collect();
            prop_assert_eq!(index.matches(name), !wanted.is_empty());
            prop_assert_eq!(found, wanted, "{}", name);
        }
    }

    #[test]
    fn the_index_gives_back_each_filter_and_value_by_its_number(
        filters in prop::collection::vec(filter(), 0..40),
    ) {
        let mut index = TopicIndex::new();
        for (number, filter) in (0_u32..).zip(&filters) {
            prop_assert_eq!(index.len(), number);
            index.insert(filter, number * 10);
        }
        index.shrink_to_fit();
        for (number, filter) in (0_u32..).zip(&filters) {
            prop_assert_eq!(index.filter(number), Some(filter.clone()));
            prop_assert_eq!(index.values(number..number + 1).next(), Some((number, number * 10)));
        }
        prop_assert_eq!(index.filter(index.len()), None);
        prop_assert_eq!(index.values(0..index.len()).count(), filters.len());
    }

    #[test]
    fn the_index_finds_each_filter_that_covers(
        filters in prop::collection::vec(filter(), 0..40),
        other in filter(),
    ) {
        let mut index = TopicIndex::new();
        for (number, filter) in filters.iter().enumerate() {
            index.insert(filter, number);
        }
        let mut found = Vec::new();
        index.for_each_covering(&other, |number| found.push(number));
        found.sort_unstable();
        let wanted: Vec<usize> =
            (0..filters.len()).filter(|number| filters[*number].covers(&other)).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn what_a_covered_filter_matches_the_covering_one_matches_too(
        wide in filter(),
        narrow in filter(),
        fillings in prop::collection::vec(level(), 1..6),
        depth in 0_usize..4,
    ) {
        prop_assert!(narrow.covers(&narrow));
        if let Some(name) = fill(&narrow, &fillings, depth)
            && wide.covers(&narrow)
        {
            prop_assert!(naive_text(&wide, &name), "{} does not match {}", wide, name);
        }
    }

    /// Names whose levels occur nowhere else distinguish two filters: when the wide one matches
    /// all of them, it matches whatever the narrow one does.
    #[test]
    fn what_matches_all_that_another_matches_covers_it(wide in filter(), narrow in filter()) {
        let all = (0..8).flat_map(|depth| {
            [["x"; 6], ["$x", "x", "x", "x", "x", "x"], [""; 6]]
                .into_iter()
                .filter_map(|fillings| fill(&narrow, &fillings, depth))
                .collect::<Vec<_>>()
        });
        let names: Vec<TopicName> = all.collect();
        prop_assume!(!names.is_empty());
        // The exception that is stated: `#` and `/#` match one topic more than `+/#` and `/+/#`
        // only in the empty one, which does not exist.
        let narrow = match narrow.as_str() {
            "#" | "/#" => TopicFilter::new(narrow.as_str().replace('#', "+/#")).unwrap(),
            _ => narrow,
        };
        if names.iter().all(|name| naive_text(&wide, name)) {
            prop_assert!(wide.covers(&narrow), "{} matches all of {}", wide, narrow);
        }
    }

    #[test]
    fn every_name_that_matches_begins_with_the_literal_prefix(filter in filter(), name in name()) {
        if filter.matches(&name) {
            prop_assert!(name.as_str().starts_with(filter.literal_prefix()));
        }
    }
}

#[test]
fn the_examples_of_the_standard_hold() {
    for (filter, name, matches) in [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("#", "sport/tennis", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$SYS/monitor", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("$SYS/#", "$SYS/monitor/Clients", true),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ("ACCOUNTS", "Accounts", false),
        ("/finance", "finance", false),
        ("a//b", "a/b", false),
        ("a/+/b", "a//b", true),
        ("a/", "a", false),
        ("a/#", "a/", true),
        ("a/$x", "a/$x", true),
        ("a/+", "a/$x", true),
    ] {
        let filter = TopicFilter::new(filter).unwrap();
        let name = TopicName::new(name).unwrap();
        assert_eq!(filter.matches(&name), matches, "{filter} and {name}");
        assert_eq!(naive_text(&filter, &name), matches, "{filter} and {name}, naively");
    }
}

#[test]
fn filters_that_break_the_rules_are_refused() {
    for bad in ["", "a#", "#/a", "a/#/b", "a/b+", "+a", "a/+b/c", "a\0", "$share/g/a", "##", "++"] {
        assert!(TopicFilter::new(bad).is_err(), "{bad:?}");
    }
    for good in ["#", "+", "/", "+/+/#", "/#", "a//b", "$SYS/#", "ä/ö", " "] {
        assert!(TopicFilter::new(good).is_ok(), "{good:?}");
    }
    for bad in ["", "a/+", "#", "a\0b"] {
        assert!(TopicName::new(bad).is_err(), "{bad:?}");
    }
    assert!(TopicName::from_bytes(vec![0xff].into()).is_err());
    assert!(TopicName::new("a".repeat(65_535)).is_ok());
    assert!(TopicName::new("a".repeat(65_536)).is_err());
    assert!(TopicFilter::new("a".repeat(65_536)).is_err());
}
