//! Patterns for the names of devices.

/// The names that a pattern stands for, in which `*` matches any characters, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    #[must_use]
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == name };
        let Some(mut name) = name.strip_prefix(first) else { return false };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        // The first place at which a part occurs leaves the most to those that follow.
        for part in middle.split('*') {
            let Some(at) = name.find(part) else { return false };
            name = &name[at + part.len()..];
        }
        name.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, matching, others) in [
            ("attic", &["attic"][..], &["attics", "att"][..]),
            ("guest*", &["guest", "guest-1"], &["a-guest", "gues"]),
            ("*", &["", "x"], &[]),
            ("a*b*c", &["abc", "a1b2c", "abcbc"], &["ac", "acb", "abcd"]),
            ("*aa*aa", &["aaaa", "xaayaa"], &["aaa"]),
            ("**x", &["x", "ax"], &["xa"]),
        ] {
            let pattern = NamePattern::new(pattern);
            matching.iter().for_each(|name| assert!(pattern.matches(name), "{pattern:?} {name}"));
            others.iter().for_each(|name| assert!(!pattern.matches(name), "{pattern:?} {name}"));
        }
    }
}
