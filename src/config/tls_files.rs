//! Certificates and keys that sections name: whether they can be read, and belong together.

use super::Environment;
use super::access::{self, is_denied, warn_if_closed};
use super::report::ConfigReport;
use super::section::Section;
use crate::tls::certificates::{self, Content, FileError};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Warns of a file that cannot be read. `server` is what is reached with it, in words.
pub(super) fn try_to_read(
    section: &Section<'_>,
    key: &str,
    path: &Path,
    server: &str,
    environment: &Environment,
    report: &mut ConfigReport,
) {
    let Some(field) = section.field(key) else { return };
    match File::open(path) {
        Ok(_) => warn_if_closed(environment, key, key, path, &field.span, report),
        Err(error) => {
            let message = format!("{key}: cannot read {}: {error}", path.display());
            let hint = if is_denied(&error) {
                access::hint(environment, key, path)
            } else {
                format!("{server} cannot be reached until the file exists and is readable")
            };
            report.warning(&field.span, message, hint);
        }
    }
}

/// Warns of files that no connection could be made with.
pub(super) fn try_certificates(
    section: &Section<'_>,
    ca_file: Option<&Path>,
    client: Option<&(PathBuf, PathBuf)>,
    server: &str,
    report: &mut ConfigReport,
) {
    let authorities = ca_file.and_then(|path| certificates::check_authorities(path).err());
    let client = client.and_then(|(path, key)| certificates::check_client(path, key).err());
    for (error, of_certificate) in
        authorities.map(|e| (e, "caFile")).into_iter().chain(client.map(|e| (e, "certFile")))
    {
        let key = if error.concerns() == Content::Key { "keyFile" } else { of_certificate };
        if let Some(field) = section.field(key)
            // A file that cannot be read already has a warning.
            && !matches!(error, FileError::Unreadable { .. })
        {
            let hint = format!("{server} cannot be reached until the file is usable");
            report.warning(&field.span, format!("{key}: {error}"), hint);
        }
    }
}
