//! Sizes and quotas of systemd.resource-control(5): `"64M"`, `"1.5G"`, `"50%"`, `"infinity"`.
//!
//! A percentage of the machine's memory is not accepted as a size, because it means something else
//! on each machine.

/// A limit as written: none, or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Infinity,
    At(u64),
}

/// Reads a memory size in bytes; K, M, G, T and P count by 1024, as in systemd. `None` when the
/// string is not a size.
#[must_use]
pub fn parse_memory(text: &str) -> Option<Limit> {
    let text = text.trim();
    if text == "infinity" {
        return Some(Limit::Infinity);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let shift = match suffix.trim_start() {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = &fraction[..fraction.len().min(6)];
    if fraction.contains('.') {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(1 << shift)?;
    let bytes = scaled / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    u64::try_from(bytes).ok().map(Limit::At)
}

/// Reads a quota such as `50%`, in percent of one processor; `None` when the string is not a quota.
#[must_use]
pub fn parse_percent(text: &str) -> Option<u32> {
    text.trim().strip_suffix('%')?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_counts_by_1024() {
        for (text, bytes) in [
            ("64M", 64 << 20),
            ("1G", 1 << 30),
            ("1.5G", 3 << 29),
            ("512K", 512 << 10),
            ("2T", 2 << 40),
            ("1048576", 1 << 20),
            ("1048576B", 1 << 20),
            ("64 M", 64 << 20),
        ] {
            assert_eq!(parse_memory(text), Some(Limit::At(bytes)), "{text}");
        }
        assert_eq!(parse_memory("infinity"), Some(Limit::Infinity));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "M", "64MB", "64m", "-1", "50%", "1..5G", "1.5.5G", "99999999999P"] {
            assert_eq!(parse_memory(text), None, "{text}");
        }
    }

    #[test]
    fn percent() {
        assert_eq!(parse_percent("50%"), Some(50));
        assert_eq!(parse_percent("250 %"), Some(250));
        for text in ["", "%", "50", "-5%", "5.5%", "99999999999%"] {
            assert_eq!(parse_percent(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*|[0-9.]{0,50}[KMGTP]?") {
            let _ = parse_memory(&text);
            let _ = parse_percent(&text);
        }
    }
}
