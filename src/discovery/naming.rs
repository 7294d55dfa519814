//! Names for devices: what people call them, as one level of a topic, each once.

use crate::printable::is_printable;
use iotmonitor_core::model::device_name::DeviceName;
use std::collections::BTreeSet;

/// Longer names are cut, in characters.
const LONGEST: usize = 60;

/// Gives names out.
#[derive(Debug)]
pub struct UniqueNames {
    taken: BTreeSet<String>,
}

impl UniqueNames {
    pub fn new(taken: BTreeSet<String>) -> Self {
        Self { taken }
    }

    /// A name that nobody has; a number makes it one where it must.
    pub fn give(&mut self, wish: &str) -> DeviceName {
        let plain = plain(wish);
        let numbered = (2_u64..).map(|number| format!("{plain}-{number}"));
        let mut wishes = std::iter::once(plain.clone()).chain(numbered);
        // There is always a number that nobody has, and a plain name is a valid one.
        loop {
            let name = wishes.next().unwrap_or_default();
            if let Ok(valid) = DeviceName::new(name.as_str())
                && self.taken.insert(name)
            {
                return valid;
            }
        }
    }
}

/// Without what a name may not hold, and without spaces, which would need quotes in every shell.
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
    fn names_are_levels_of_topics_and_nobody_shares_one() {
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
}
