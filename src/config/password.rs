//! The password for the broker: from a systemd credential, else from a file, else from the
//! configuration itself.
//!
//! No message shows it, nor a value that could be it.

use super::Environment;
use super::access::{self, is_denied, warn_if_closed};
use super::mqtt::password_too_long;
use super::report::{Report, Span};
use super::section::Section;
use crate::mqtt::settings::{PASSWORD, Secret};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// A file longer than this holds no password; it bounds what is read, in bytes.
const LONGEST_FILE: u64 = 128 * 1024;

/// `None` when there is no password, or when something was wrong and has been reported.
pub(super) fn read(
    section: &Section<'_>,
    directory: &Path,
    environment: &Environment,
    report: &mut Report,
) -> Option<Secret> {
    let written = section.text("password", report);
    let file = section.text("passwordFile", report);
    if let Some(credentials) = &environment.credentials_directory {
        let path = credentials.join(PASSWORD);
        match read_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => {
                let what = format!("the credential {PASSWORD}");
                return accept(result, &path, &what, &section.header, environment, report);
            }
        }
    }
    if let Some(file) = file {
        let path = directory.join(file.value);
        let result = read_file(&path);
        if result.is_ok() {
            warn_if_closed(environment, "passwordFile", PASSWORD, &path, &file.span, report);
        }
        return accept(result, &path, "passwordFile", &file.span, environment, report);
    }
    let written = written?;
    if let Some(message) = password_too_long(written.value.len()) {
        report.error(&written.span, message, "choose a shorter one");
        return None;
    }
    Some(Secret::new(written.value.to_owned()))
}

/// The file's text without the newline at its end.
fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(LONGEST_FILE).read_to_string(&mut text)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn accept(
    result: io::Result<String>,
    path: &Path,
    what: &str,
    span: &Span,
    environment: &Environment,
    report: &mut Report,
) -> Option<Secret> {
    let (message, hint) = match result {
        Ok(text) => match password_too_long(text.len()) {
            None => return (!text.is_empty()).then(|| Secret::new(text)),
            Some(message) => (
                format!("{what} {}: {message}", path.display()),
                "it should hold the password alone, in one line".to_owned(),
            ),
        },
        Err(error) => {
            let message = format!("{what}: cannot read {}: {error}", path.display());
            let hint = if is_denied(&error) {
                access::hint(environment, PASSWORD, path)
            } else {
                "it should be a readable file of UTF-8 text that holds the password alone, in one line"
                    .to_owned()
            };
            (message, hint)
        }
    };
    report.error(span, message, hint);
    None
}
