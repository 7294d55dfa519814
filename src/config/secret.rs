//! A secret of the configuration: read from a systemd credential, else from a file, else from the
//! configuration itself.
//!
//! No message shows the secret, nor a value that could be the secret.

use super::Environment;
use super::access::{self, is_denied, warn_if_closed, warn_if_open};
use super::report::{ByteSpan, ConfigReport};
use super::section::{Section, Text};
use crate::secret::Secret;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// A longer file holds no secret; the limit bounds the number of bytes read.
const LONGEST_FILE: u64 = 128 * 1024;

/// One secret and its possible sources.
pub(super) struct Source {
    /// The key that holds the secret itself; messages use it as the name.
    pub key: &'static str,
    /// The key that names a file.
    pub file_key: &'static str,
    /// Its name as a systemd credential.
    pub credential: &'static str,
    /// Describes an invalid string, without showing it, and the correction.
    pub check: fn(&str) -> Result<(), (String, &'static str)>,
}

/// Returns `None` when there is no such secret, or when an error has been reported.
pub(super) fn read(
    section: &Section<'_>,
    source: &Source,
    directory: &Path,
    environment: &Environment,
    report: &mut ConfigReport,
) -> Option<Secret> {
    let written = section.text(source.key, report);
    let file = section.text(source.file_key, report);
    if let Some(credentials) = &environment.credentials_directory {
        let path = credentials.join(source.credential);
        match read_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => {
                let what = format!("the credential {}", source.credential);
                let place = SecretFile { what: &what, path: &path, span: &section.header };
                return accept(result, source, &place, environment, report);
            }
        }
    }
    if let Some(file) = file {
        let path = environment.place_of(directory.join(file.value));
        let result = read_file(&path);
        if result.is_ok() {
            let (key, credential) = (source.file_key, source.credential);
            warn_if_closed(environment, key, credential, &path, &file.span, report);
            warn_if_open(source.key, &path, &file.span, report);
        }
        let place = SecretFile { what: source.file_key, path: &path, span: &file.span };
        return accept(result, source, &place, environment, report);
    }
    let written = written?;
    let (key, credential) = (source.key, source.credential);
    let hint = format!(
        "keep the {key} out of the file with a systemd credential, \
         LoadCredential={credential}:/etc/iotmonitor/{key}, or with {}",
        source.file_key
    );
    warn_if_reference(key, &written, &hint, report);
    if let Err((message, hint)) = (source.check)(written.value) {
        report.error(&written.span, message, hint);
        return None;
    }
    Some(Secret::new(written.value.to_owned()))
}

/// Warns of a reference that other programs would expand, and this one does not.
pub(super) fn warn_if_reference(key: &str, text: &Text<'_>, hint: &str, report: &mut ConfigReport) {
    let rest = text.value.strip_prefix(['$', '%']).unwrap_or_default();
    let is_variable = rest.starts_with(['{', '('])
        || !rest.is_empty()
            && rest.bytes().all(|b| b.is_ascii_uppercase() || b == b'_' || b == b'%');
    if is_variable || text.value.starts_with("!secret") || text.value.starts_with("{{") {
        let message =
            format!("{key} is taken literally: `${{NAME}}` and `!secret` are not expanded");
        report.warning(&text.span, message, hint);
    }
}

/// The file's contents without the newline at the end.
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

/// A file that should hold the secret.
struct SecretFile<'a> {
    /// The name of the file in messages.
    what: &'a str,
    path: &'a Path,
    span: &'a ByteSpan,
}

fn accept(
    result: io::Result<String>,
    source: &Source,
    &SecretFile { what, path, span }: &SecretFile<'_>,
    environment: &Environment,
    report: &mut ConfigReport,
) -> Option<Secret> {
    let alone = format!("hold the {} alone, in one line", source.key);
    let (message, hint) = match result {
        Ok(text) if text.is_empty() => return None,
        Ok(text) => match (source.check)(&text) {
            Ok(()) => return Some(Secret::new(text)),
            Err((message, _)) => {
                (format!("{what} {}: {message}", path.display()), format!("it should {alone}"))
            }
        },
        Err(error) => {
            let message = format!("{what}: cannot read {}: {error}", path.display());
            let hint = if is_denied(&error) {
                access::hint(environment, source.credential, path)
            } else {
                format!("it should be a readable file of UTF-8 text and {alone}")
            };
            (message, hint)
        }
    };
    report.error(span, message, hint);
    None
}
