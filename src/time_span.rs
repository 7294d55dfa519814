//! Time spans as people write them: `30`, `"90s"`, `"5m"`, `"1h 30min"`.
//!
//! The syntax is that of systemd.time(7), section "Parsing time spans"; a number without a unit
//! counts seconds. `infinity` is not accepted, because each key has its own notation for "never".

use std::time::Duration;

/// The longest span that a key may hold, ten years: a longer one is certainly a typing error.
pub const MAX_TIME_SPAN: Duration = Duration::from_secs(10 * 31_557_600);

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Names of the units and their length in nanoseconds; month and year as in systemd.time(7).
const UNITS: &[(&[&str], u128)] = &[
    (&["usec", "us", "µs", "μs"], 1_000),
    (&["msec", "ms"], 1_000_000),
    (&["seconds", "second", "sec", "s"], NANOS_PER_SECOND),
    (&["minutes", "minute", "min", "m"], 60 * NANOS_PER_SECOND),
    (&["hours", "hour", "hr", "h"], 3_600 * NANOS_PER_SECOND),
    (&["days", "day", "d"], 86_400 * NANOS_PER_SECOND),
    (&["weeks", "week", "w"], 604_800 * NANOS_PER_SECOND),
    (&["months", "month", "M"], 2_629_800 * NANOS_PER_SECOND),
    (&["years", "year", "y"], 31_557_600 * NANOS_PER_SECOND),
];

/// Explains why a string is not a time span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeSpanError {
    #[error("a time span may not be empty")]
    Empty,
    #[error("`{text}` is not a time span: `{rest}` does not start with a number")]
    NoNumber { text: String, rest: String },
    #[error("`{text}` is not a time span: `{unit}` is not a unit of time")]
    UnknownUnit { text: String, unit: String },
    #[error("`{text}` is longer than ten years")]
    TooLong { text: String },
}

/// Reads a time span.
///
/// # Errors
/// When the string is empty, contains anything but numbers and units, or exceeds [`MAX_TIME_SPAN`].
pub fn parse(text: &str) -> Result<Duration, TimeSpanError> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(TimeSpanError::Empty);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or_else(|| TimeSpanError::NoNumber {
            text: text.to_owned(),
            rest: rest.to_owned(),
        })?;
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let nanos = unit_nanos(unit).ok_or_else(|| TimeSpanError::UnknownUnit {
            text: text.to_owned(),
            unit: unit.to_owned(),
        })?;
        total = number
            .times(nanos)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= MAX_TIME_SPAN.as_nanos())
            .ok_or_else(|| TimeSpanError::TooLong { text: text.to_owned() })?;
        rest = after.trim_start();
    }
    // The limit above is far below the range of a Duration, so neither conversion truncates.
    let seconds = u64::try_from(total / NANOS_PER_SECOND).unwrap_or(u64::MAX);
    let nanos = u32::try_from(total % NANOS_PER_SECOND).unwrap_or(0);
    Ok(Duration::new(seconds, nanos))
}

/// Writes a span so that [`parse`] reads the same back: `1h 30min`, `500ms`, `0`. Fractions of a
/// microsecond are dropped.
#[must_use]
pub fn format(span: Duration) -> String {
    let mut micros = span.as_micros();
    let mut parts = Vec::new();
    for (unit, length) in [
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("min", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
        ("us", 1),
    ] {
        if micros >= length {
            parts.push(format!("{}{unit}", micros / length));
            micros %= length;
        }
    }
    if parts.is_empty() { "0".to_owned() } else { parts.join(" ") }
}

/// A decimal number as an integer and the power of ten that divides it.
struct Decimal {
    digits: u128,
    divisor: u128,
}

impl Decimal {
    fn times(&self, factor: u128) -> Option<u128> {
        Some(self.digits.checked_mul(factor)? / self.divisor)
    }
}

/// Splits a number off the front; `None` when there is none, or when it is absurdly long.
fn split_number(text: &str) -> Option<(Decimal, &str)> {
    let is_digit = |c: char| c.is_ascii_digit();
    let whole_end = text.find(|c| !is_digit(c)).unwrap_or(text.len());
    let (whole, mut rest) = text.split_at(whole_end);
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        let end = after.find(|c| !is_digit(c)).unwrap_or(after.len());
        (fraction, rest) = after.split_at(end);
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // The resolution is a nanosecond, even in a year: twelve decimals are enough.
    let fraction = &fraction[..fraction.len().min(12)];
    let digits = format!("{whole}{fraction}").parse().ok()?;
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some((Decimal { digits, divisor }, rest))
}

fn unit_nanos(unit: &str) -> Option<u128> {
    if unit.is_empty() {
        return Some(NANOS_PER_SECOND);
    }
    UNITS.iter().find(|(names, _)| names.contains(&unit)).map(|(_, nanos)| *nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_systemd_time_allows() {
        for (text, millis) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("5m", 300_000),
            ("5min", 300_000),
            ("1h 30min", 5_400_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("2w", 1_209_600_000),
            ("500ms", 500),
            ("2 h", 7_200_000),
            ("2hours 3seconds", 7_203_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("5m 30", 330_000),
            ("1M", 2_629_800_000),
            ("1y", 31_557_600_000),
            ("2500µs 500us", 3),
            ("0", 0),
            (" 7 ", 7_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_and_names_the_culprit() {
        for (text, culprit) in [
            ("", "empty"),
            ("-5", "`-5`"),
            ("5 parsecs", "`parsecs`"),
            ("5S", "`S`"),
            ("soon", "`soon`"),
            ("1h, 30min", "`, 30min`"),
            ("infinity", "`infinity`"),
            ("11y", "`11y`"),
            ("99999999999999999999999999999999999999999999y", "`9999"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(culprit), "{text}: {error}");
        }
        assert_eq!(parse("10y"), Ok(MAX_TIME_SPAN));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(micros in 0..=MAX_TIME_SPAN.as_secs() * 1_000_000) {
            let span = Duration::from_micros(micros);
            prop_assert_eq!(parse(&format(span)), Ok(span));
        }

        #[test]
        fn no_text_panics(text in "\\PC*|[0-9.a-zµ ]{0,30}") {
            if let Ok(span) = parse(&text) {
                prop_assert!(span <= MAX_TIME_SPAN);
            }
        }
    }
}
