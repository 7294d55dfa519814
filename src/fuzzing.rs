//! The targets of fuzzing. Each function processes arbitrary bytes as the program would, and
//! compares the result with a naive implementation of the rules.
//!
//! `fuzz/` has a target for each function, and the tests below replay the inputs that it has
//! collected. The module is built only for fuzzing and for tests.

use crate::config::{self, ConfigErrors, Environment};
use crate::time_span;
use bytes::Bytes;
use iotmonitor_core::model::unit_name::{MAX_UNIT_NAME_BYTES, UnitName};
use iotmonitor_core::topic::index::TopicIndex;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::path::Path;
use std::time::Duration;

pub use crate::mqtt::fuzz_packets as packets;
pub use crate::store::fuzz_records as records;

/// A function that processes bytes, and panics if an assertion does not hold.
pub type FuzzTarget = fn(&[u8]);

/// Every function by the name of its target, which is also that of its collection of inputs.
pub const TARGETS: &[(&str, FuzzTarget)] = &[
    ("config", config),
    ("packets", packets),
    ("records", records),
    ("time_spans", time_spans),
    ("topics", topics),
    ("unit_names", unit_names),
];

/// Tests a configuration file: it is accepted, or each of its errors has a place in it and can be
/// displayed.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match config::parse(text, Path::new("/etc/iotmonitor/config.toml"), &Environment::default()) {
        Ok(loaded) => {
            let devices = &loaded.config.monitor.devices;
            for (at, device) in devices.iter().enumerate() {
                assert!(devices[..at].iter().all(|other| other.name != device.name));
            }
        }
        Err(errors @ ConfigErrors::Invalid { .. }) => assert!(!errors.to_string().is_empty()),
        Err(errors @ ConfigErrors::Unreadable { .. }) => assert!(!errors.to_string().is_empty()),
    }
}

/// Tests a filter in the first line against a topic name in the rest.
pub fn topics(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (filter, name) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let name = TopicName::from_bytes(Bytes::copy_from_slice(name)).inspect_err(|_| {
        assert!(!naive::is_name(name));
    });
    let filter = std::str::from_utf8(filter).ok().map(TopicFilter::new);
    let (Ok(name), Some(Ok(filter))) = (name, filter) else { return };
    assert!(naive::is_name(name.as_str().as_bytes()));
    let matches = naive::matches(filter.as_str(), name.as_str());
    assert_eq!(filter.matches(&name), matches);
    if matches {
        assert!(name.as_str().starts_with(filter.literal_prefix()));
    }
    // The filter is inserted among others, since the index should have branches.
    let mut index = TopicIndex::new();
    let others = ["#", "+/+", "a/b", "a/#", "/", "$SYS/#"];
    for (at, other) in others.iter().enumerate() {
        index.insert(&TopicFilter::new(*other).expect("it is one"), at);
    }
    index.insert(&filter, others.len());
    let mut found = Vec::new();
    index.for_each_match(&name, |at| found.push(at));
    found.sort_unstable();
    let expected: Vec<usize> = others
        .into_iter()
        .chain([filter.as_str()])
        .enumerate()
        .filter(|(_, filter)| naive::matches(filter, name.as_str()))
        .map(|(at, _)| at)
        .collect();
    assert_eq!(found, expected);
}

/// Tests a name: its unit's name has the form of an agent's, and is the name again once it is
/// unescaped as systemd does it.
pub fn unit_names(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else { return };
    let Ok(unit) = UnitName::for_agent("iotmonitor", name) else {
        assert!(name.len() * 4 + "iotmonitor-agent-.service".len() > MAX_UNIT_NAME_BYTES);
        return;
    };
    assert!(unit.as_str().len() <= MAX_UNIT_NAME_BYTES);
    let escaped = unit.as_str().strip_prefix("iotmonitor-agent-");
    let escaped = escaped.and_then(|rest| rest.strip_suffix(".service")).expect("its form");
    assert!(escaped.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_.\\-".contains(&byte)));
    assert!(!escaped.starts_with('.'));
    assert_eq!(naive::unescape(escaped), name.as_bytes());
}

/// Tests a time span: one that can be read is written in a form that is read as the same span, to
/// the microsecond.
pub fn time_spans(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(span) = time_span::parse(text) else { return };
    assert!(span <= time_span::MAX_TIME_SPAN);
    let micros = Duration::from_micros(u64::try_from(span.as_micros()).expect("ten years"));
    assert_eq!(time_span::parse(&time_span::format(span)), Ok(micros));
    if let Ok(seconds) = text.parse::<u32>() {
        assert_eq!(span, Duration::from_secs(seconds.into()));
    }
}

/// A second implementation of the rules, which is written to be readable and not to be fast.
mod naive {
    /// MQTT 5, 4.7.
    pub fn is_name(name: &[u8]) -> bool {
        let text = std::str::from_utf8(name);
        text.is_ok_and(|text| !text.contains(['+', '#', '\0']))
            && (1..=65_535).contains(&name.len())
    }

    /// MQTT 5, 4.7.1 and 4.7.2, level by level from the left.
    pub fn matches(filter: &str, name: &str) -> bool {
        let wild = filter.starts_with('+') || filter.starts_with('#');
        if wild && name.starts_with('$') {
            return false;
        }
        let (filter, name): (Vec<&str>, Vec<&str>) =
            (filter.split('/').collect(), name.split('/').collect());
        below(&filter, &name)
    }

    fn below(filter: &[&str], name: &[&str]) -> bool {
        match (filter, name) {
            (["#"], _) | ([], []) => true,
            ([level, filter @ ..], [here, name @ ..]) => {
                (*level == "+" || level == here) && below(filter, name)
            }
            ([], _) | (_, []) => false,
        }
    }

    /// systemd-escape(1): `-` is `/`, and `\xNN` is a byte.
    pub fn unescape(text: &str) -> Vec<u8> {
        let bytes = text.as_bytes();
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some(byte) = bytes.get(at) {
            at += 1;
            match byte {
                b'-' => out.push(b'/'),
                b'\\' => {
                    let digits = text.get(at + 1..at + 3).expect("two digits");
                    out.push(u8::from_str_radix(digits, 16).expect("two digits"));
                    at += 3;
                }
                other => out.push(*other),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_fuzzing_has_collected_holds() {
        let collections = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, target) in TARGETS {
            let files = fs::read_dir(collections.join(name)).unwrap();
            let texts: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
            assert!(!texts.is_empty(), "{name}");
            texts.iter().for_each(|text| target(text));
        }
    }

    #[test]
    fn every_target_is_one_of_fuzzings() {
        let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
        let mut names: Vec<String> = fs::read_dir(targets)
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        assert!(names.iter().eq(TARGETS.iter().map(|(name, _)| name)), "{names:?}");
    }
}
