//! Names for devices. A name is what people call the device, fits into one level of a topic, and is
//! given only once.

use crate::printable::is_printable;
use iotmonitor_core::model::device_name::DeviceName;
use std::collections::{BTreeMap, BTreeSet};

/// The length in characters to which a name is cut.
const LONGEST: usize = 60;

/// Levels that say what kind of thing is below them and do not name it.
const EMPTY_WORDS: [&str; 9] =
    ["sensor", "sensors", "device", "devices", "data", "state", "status", "stat", "value"];

/// Gives out names.
#[derive(Debug)]
pub struct UniqueNames {
    taken: BTreeSet<String>,
    /// The last number with which each name was given.
    numbers: BTreeMap<String, u64>,
    #[cfg(test)]
    tries: u64,
}

impl UniqueNames {
    pub fn new(taken: BTreeSet<String>) -> Self {
        Self {
            taken,
            numbers: BTreeMap::new(),
            #[cfg(test)]
            tries: 0,
        }
    }

    /// Returns a name that no device has, with a number where it is needed.
    pub fn give(&mut self, wish: &str) -> DeviceName {
        let plain = plain(wish);
        let mut number = self.numbers.get(&plain).copied().unwrap_or(0);
        // There is always a number that no device has, and a plain name is a valid one.
        loop {
            number += 1;
            let name = if number == 1 { plain.clone() } else { format!("{plain}-{number}") };
            #[cfg(test)]
            {
                self.tries += 1;
            }
            if let Ok(valid) = DeviceName::new(name.as_str())
                && self.taken.insert(name)
            {
                self.numbers.insert(plain, number);
                return valid;
            }
        }
    }
}

/// Returns the wished names of devices, from the name of each and the levels above it, the nearest
/// last. The level above is added where a name alone says nothing, or where several devices have
/// it.
pub fn wishes(devices: &[(String, String)]) -> Vec<String> {
    let mut named: Vec<(String, Vec<&str>)> = devices
        .iter()
        .map(|(name, path)| {
            let levels: Vec<&str> =
                path.split('/').filter(|level| !level.trim().is_empty()).collect();
            let at = levels.iter().rposition(|level| level == name).unwrap_or(0);
            (name.clone(), levels[..at].to_vec())
        })
        .collect();
    for (name, above) in &mut named {
        if says_nothing(name) {
            extend(name, above);
        }
    }
    // Names with two more levels are long enough; numbers distinguish the rest.
    for _ in 0..2 {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (name, _) in &named {
            *counts.entry(plain(name)).or_default() += 1;
        }
        for (name, above) in &mut named {
            if counts.get(&plain(name)).is_some_and(|count| *count > 1) {
                extend(name, above);
            }
        }
    }
    named.into_iter().map(|(name, _)| name).collect()
}

fn extend(name: &mut String, above: &mut Vec<&str>) {
    if let Some(level) = above.pop() {
        *name = format!("{level}-{name}");
    }
}

fn says_nothing(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '_' | ':' | '.'))
        || EMPTY_WORDS.iter().any(|word| word.eq_ignore_ascii_case(name))
}

/// Returns the name without characters that a name may not contain, and without spaces, which would
/// need quotes in every shell.
fn plain(wish: &str) -> String {
    let allowed = |c: char| match c {
        '/' | '+' | '#' | '"' | '\\' => '-',
        c if c.is_whitespace() => '_',
        c if !is_printable(c) => '-',
        c => c,
    };
    let name: String = wish.trim().chars().map(allowed).take(LONGEST).collect();
    if name.chars().all(|c| matches!(c, '-' | '_')) { "device".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_levels_of_topics_and_unique() {
        let mut names = UniqueNames::new(BTreeSet::from(["lamp".to_owned()]));
        for (wish, given) in [
            ("lamp", "lamp-2"),
            ("lamp", "lamp-3"),
            ("Living Room Sensor", "Living_Room_Sensor"),
            ("kitchen/floor", "kitchen-floor"),
            ("", "device"),
            ("//", "device-2"),
            ("a\u{0}\"\n\u{202e}b", "a--_-b"),
            ("küche", "küche"),
        ] {
            assert_eq!(names.give(wish).as_str(), given);
        }
        assert_eq!(names.give(&"x".repeat(500)).as_str().len(), LONGEST);
    }

    #[test]
    fn a_name_that_says_nothing_or_is_not_the_only_one_keeps_the_level_above() {
        let wished = |devices: &[(&str, &str)]| {
            let owned: Vec<(String, String)> = devices
                .iter()
                .map(|(name, path)| ((*name).to_owned(), (*path).to_owned()))
                .collect();
            wishes(&owned)
        };
        assert_eq!(
            wished(&[("1", "cars/1"), ("kitchen", "temps/kitchen"), ("kitchen", "lights/kitchen")]),
            ["cars-1", "temps-kitchen", "lights-kitchen"]
        );
        assert_eq!(wished(&[("0", "0"), ("Bath sensor", "A4C1")]), ["0", "Bath sensor"]);
        assert_eq!(wished(&[("x", "a/k/x"), ("x", "b/k/x"), ("x", "x")]), ["a-k-x", "b-k-x", "x"]);
    }

    #[test]
    fn names_of_the_same_kind_take_one_try_each() {
        let tries = |count: u64| {
            let mut names = UniqueNames::new(BTreeSet::new());
            for _ in 0..count {
                names.give("lamp");
            }
            names.tries
        };
        assert_eq!((tries(100), tries(10_000)), (100, 10_000));
    }
}
