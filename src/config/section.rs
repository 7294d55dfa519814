//! A section of the file as typed keys. Each reader checks one value, reports an error in it, and
//! then returns nothing, so that the following keys are still checked.
//!
//! One rule holds for every key, whatever its type: an empty string (`user = ""`, `port = ""`) is
//! the same as a missing key. Entries of lists and of `environment` are not keys in this sense, and
//! may be empty.

use super::nearest::nearest;
use super::report::{ByteSpan, ConfigReport};
use super::secrecy::sounds_secret;
use crate::time_span;
use iotmonitor_core::model::words::counted;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// A section, and how messages name it.
pub(super) struct Section<'t> {
    /// As in the file: `[device_lamp]`.
    pub title: String,
    /// The place of its name.
    pub header: ByteSpan,
    pub table: &'t DeTable<'t>,
}

/// One key with its value.
pub(super) struct Field<'t> {
    pub key: &'t str,
    pub key_span: ByteSpan,
    pub span: ByteSpan,
    pub value: &'t DeValue<'t>,
}

/// A string and its place.
pub(super) struct Text<'t> {
    pub value: &'t str,
    pub span: ByteSpan,
}

impl<'t> Section<'t> {
    /// The keys in the order of the file.
    pub fn fields(&self) -> Vec<Field<'t>> {
        fields(self.table)
    }

    /// A key whose value is not empty.
    pub fn field(&self, key: &str) -> Option<Field<'t>> {
        field_of(self.table, key).filter(|field| field.value.as_str() != Some(""))
    }

    /// The place of an empty key, or the section's name when the key is missing.
    pub fn gap(&self, key: &str) -> ByteSpan {
        field_of(self.table, key).map_or_else(|| self.header.clone(), |empty| empty.span)
    }

    /// Reports every key that is not among the known ones. `elsewhere` may know of a key that
    /// belongs to another kind of section, and what to do then.
    pub fn report_unknown_keys(
        &self,
        known: &[&str],
        elsewhere: impl Fn(&str) -> Option<String>,
        report: &mut ConfigReport,
    ) {
        for field in self.fields() {
            let key = field.key;
            if known.contains(&key) {
                continue;
            }
            let list = format!("{} knows {}", self.title, known.join(", "));
            let unknown = format!("unknown key `{key}` in {}", self.title);
            if let Some(hint) = elsewhere(key) {
                report.error(&field.key_span, unknown, hint);
            } else if let Some(near) = nearest(key, known.iter().copied()) {
                let message = format!("unknown key `{key}`, did you mean `{near}`?");
                report.error(&field.key_span, message, list);
            } else if matches!(field.value, DeValue::Table(_)) {
                let name = self.title.trim_matches(['[', ']']);
                let hint = format!("a name with a dot in it needs quotes: [\"{name}.{key}\"]");
                report.error(&field.key_span, unknown, hint);
            } else {
                report.error(&field.key_span, unknown, list);
            }
        }
    }

    /// A string that is not empty; `None` when the key is absent, empty, or wrong.
    pub fn text(&self, key: &str, report: &mut ConfigReport) -> Option<Text<'t>> {
        let field = self.field(key)?;
        let value = field.text(report)?;
        Some(Text { value, span: field.span })
    }

    /// The meaning of one of these words; `None` when the key is absent, empty, or wrong. The hint names
    /// the words.
    pub fn word<T: Copy>(
        &self,
        key: &str,
        words: &[(&str, T)],
        hint: &str,
        report: &mut ConfigReport,
    ) -> Option<T> {
        let text = self.text(key, report)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*meaning);
        }
        let near = nearest(text.value, words.iter().map(|(word, _)| *word))
            .map_or(String::new(), |near| format!(", did you mean `{near}`?"));
        let message = format!("{key}: `{}` is unknown{near}", text.value.escape_debug());
        report.error(&text.span, message, hint);
        None
    }

    pub fn boolean(&self, key: &str, default: bool, report: &mut ConfigReport) -> bool {
        let Some(field) = self.field(key) else { return default };
        field.value.as_bool().unwrap_or_else(|| {
            field.report_type("true or false", &format!("{key} = {default}"), report);
            default
        })
    }

    /// A time span in seconds or as a string; `None` when the key is absent or wrong.
    pub fn time_span(
        &self,
        key: &str,
        limits: &RangeInclusive<Duration>,
        report: &mut ConfigReport,
    ) -> Option<Duration> {
        let field = self.field(key)?;
        let span = field.time_span(report)?;
        if limits.contains(&span) {
            return Some(span);
        }
        let (least, most) = (time_span::format(*limits.start()), time_span::format(*limits.end()));
        let message = format!("{key} = {} is out of range", field.shown());
        report.error(&field.span, message, format!("it must be from {least} to {most}"));
        None
    }

    /// One string such as the example, or a list of strings; empty when the key is absent, or wrong
    /// throughout.
    pub fn texts(&self, key: &str, example: &str, report: &mut ConfigReport) -> Vec<Text<'t>> {
        let Some(field) = self.field(key) else { return Vec::new() };
        match field.value {
            DeValue::Array(items) => field.items(items, report),
            DeValue::String(_) => self.text(key, report).into_iter().collect(),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => {
                let example = format!("{key} = \"{example}\" or {key} = [\"{example}\"]");
                field.report_type("a string or a list of strings", &example, report);
                Vec::new()
            }
        }
    }

    /// An absolute path.
    pub fn absolute_path(&self, key: &str, report: &mut ConfigReport) -> Option<PathBuf> {
        let text = self.text(key, report)?;
        if text.value.starts_with('/') {
            return Some(PathBuf::from(text.value));
        }
        let message = format!("{key} must be an absolute path, found `{}`", text.value);
        report.error(&text.span, message, "write the path from `/` on");
        None
    }
}

impl<'t> Field<'t> {
    /// A string, perhaps empty.
    pub fn text(&self, report: &mut ConfigReport) -> Option<&'t str> {
        let Some(text) = self.value.as_str() else {
            self.report_type("a string", &format!("{} = \"…\"", self.key), report);
            return None;
        };
        if text.contains('\0') {
            let message = format!("{} holds the character U+0000", self.key);
            report.error(&self.span, message, "remove it: `\\u0000` cannot be passed on");
            return None;
        }
        Some(text)
    }

    /// An integer that TOML can hold and is not below zero.
    pub fn unsigned(&self) -> Option<u64> {
        let integer = self.value.as_integer()?;
        u64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    /// The value as messages show it.
    pub fn shown(&self) -> String {
        match self.value {
            DeValue::String(text) => format!("`{}`", abbreviated(text)),
            DeValue::Integer(integer) => format!("`{integer}`"),
            DeValue::Float(float) => format!("`{}`", float.as_str()),
            DeValue::Boolean(boolean) => format!("`{boolean}`"),
            DeValue::Datetime(datetime) => format!("`{datetime}`"),
            DeValue::Array(items) => format!("`[…]` with {}", counted(items.len(), "value")),
            DeValue::Table(table) => format!("`{{…}}` with {}", counted(table.len(), "key")),
        }
    }

    /// Reports a value of the wrong type, and shows it unless the key sounds like a secret's.
    pub fn report_type(&self, expected: &str, example: &str, report: &mut ConfigReport) {
        let shown =
            if sounds_secret(self.key) { String::new() } else { format!(" {}", self.shown()) };
        let message = format!("{} must be {expected}, found {}{shown}", self.key, self.type_name());
        report.error(&self.span, message, format!("write it like {example}"));
    }

    /// The type of the value as messages name it.
    pub fn type_name(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "string",
            DeValue::Integer(_) | DeValue::Float(_) => "number",
            DeValue::Boolean(_) => "boolean",
            DeValue::Datetime(_) => "date",
            DeValue::Array(_) => "list",
            DeValue::Table(_) => "table",
        }
    }

    fn time_span(&self, report: &mut ConfigReport) -> Option<Duration> {
        let seconds = match self.value {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            DeValue::Integer(_) => {
                let seconds = self.unsigned().map(|seconds| seconds.to_string());
                self.report_notation("is not decimal", seconds, report);
                return None;
            }
            DeValue::Float(float) if !float.as_str().bytes().all(is_plain) => {
                let seconds = float.as_str().parse().ok().filter(|it: &f64| it.is_finite());
                let seconds = seconds.map(|seconds| seconds.to_string());
                self.report_notation("is not a plain number", seconds, report);
                return None;
            }
            DeValue::Float(float) => float.as_str(),
            DeValue::String(text) => text,
            DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                let example = format!("{} = 60 or {} = \"1h 30min\"", self.key, self.key);
                self.report_type("a number of seconds or a time span", &example, report);
                return None;
            }
        };
        time_span::parse(seconds.strip_prefix('+').unwrap_or(seconds))
            .map_err(|error| {
                let hint = "a time span is a number of seconds, or like \"90s\", \"5m\", \"1h 30min\", \"2d\"";
                report.error(&self.span, format!("{}: {error}", self.key), hint);
            })
            .ok()
    }

    /// Reports a number that is valid, but not written as times are.
    fn report_notation(&self, problem: &str, seconds: Option<String>, report: &mut ConfigReport) {
        let message = format!("{} = {} {problem}", self.key, self.shown());
        let seconds = seconds.unwrap_or_else(|| "60".to_owned());
        report.error(&self.span, message, format!("write {} = {seconds}", self.key));
    }

    fn items(&self, items: &'t DeArray<'t>, report: &mut ConfigReport) -> Vec<Text<'t>> {
        let mut texts = Vec::new();
        for item in items.iter() {
            let element = Field {
                key: self.key,
                key_span: self.key_span.clone(),
                span: item.span(),
                value: item.get_ref(),
            };
            if let Some(value) = element.text(report) {
                texts.push(Text { value, span: item.span() });
            }
        }
        texts
    }
}

/// A known section; reports a key that has a section's name but is not a section.
pub(super) fn section_of<'t>(entry: &Field<'t>, report: &mut ConfigReport) -> Option<Section<'t>> {
    let title = format!("[{}]", entry.key.escape_debug());
    if let DeValue::Table(table) = entry.value {
        return Some(Section { title, header: entry.key_span.clone(), table });
    }
    let message = format!("`{}` must be a section", entry.key.escape_debug());
    report.error(&entry.key_span, message, format!("write {title} in a line of its own, once"));
    None
}

/// One entry of a table.
pub(super) fn field_of<'t>(table: &'t DeTable<'t>, key: &str) -> Option<Field<'t>> {
    table.get_key_value(key).map(field)
}

/// A key of a section, wherever that section is found.
pub(super) fn value_of<'t>(root: &'t DeTable<'t>, section: &str, key: &str) -> Option<Field<'t>> {
    let DeValue::Table(table) = field_of(root, section)?.value else { return None };
    field_of(table, key)
}

/// The entries of a table in the order of the file.
pub(super) fn fields<'t>(table: &'t DeTable<'t>) -> Vec<Field<'t>> {
    let mut fields: Vec<_> = table.iter().map(field).collect();
    fields.sort_by_key(|field| field.key_span.start);
    fields
}

fn field<'t>(
    (key, value): (&'t Spanned<toml::de::DeString<'t>>, &'t Spanned<DeValue<'t>>),
) -> Field<'t> {
    Field { key: key.get_ref(), key_span: key.span(), span: value.span(), value: value.get_ref() }
}

/// Whether a number is written as times are.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'.' | b'+' | b'-' | b'_')
}

/// The first 80 characters.
fn abbreviated(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
