//! Reads the files of a configuration, the main one and those of the directory beside it, and makes
//! one table of them.

use super::Environment;
use super::error::ConfigErrors;
use super::report::{ByteSpan, ConfigReport};
use super::section::{self, Field};
use super::sources::{Sources, normal};
use super::{is_section, secrecy, shared, syntax};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longer files cannot be a configuration; the limit bounds the number of bytes read.
pub const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// The number of files that are read from the directory.
const MOST_FILES: usize = 1_000;

/// Reads the file at `path` and the files of its directory. What is not UTF-8 is reported, and
/// `secrets` receives the places not to show.
///
/// # Errors
/// Returns [`ConfigErrors::Unreadable`] with the first file or directory that cannot be read.
pub(super) fn read(
    path: &Path,
    environment: &Environment,
    secrets: &mut Vec<ByteSpan>,
    report: &mut ConfigReport,
) -> Result<Sources, ConfigErrors> {
    let mut left = MOST_BYTES;
    let place = environment.place_of(path.to_owned());
    let main = File::open(&place).and_then(|file| contents(file, &mut left));
    let (bytes, mode) = main.map_err(unreadable(path, false))?;
    let (text, is_utf8) = decoded(bytes, 0, secrets, report);
    let mut sources = Sources::new(path, text, Some(mode), is_utf8);
    for FileBeside { path, place } in files_beside(path, &place)? {
        let contents = open_regular(&place).and_then(|file| contents(file, &mut left));
        let (bytes, mode) = contents.map_err(unreadable(&path, true))?;
        let (text, is_utf8) = decoded(bytes, sources.end(), secrets, report);
        sources.push(path, text, mode, is_utf8);
    }
    Ok(sources)
}

/// Adds this node's copy of the sections that nodes share, where there is one.
pub(super) fn read_copy(
    environment: &Environment,
    sources: &mut Sources,
    secrets: &mut Vec<ByteSpan>,
    report: &mut ConfigReport,
) {
    let Some(path) = &environment.shared_copy else { return };
    match open_regular(path).and_then(|file| contents(file, &mut { MOST_BYTES })) {
        Ok((bytes, _)) => {
            let (text, is_utf8) = decoded(bytes, sources.end(), secrets, report);
            sources.push_shared(path.clone(), text, is_utf8);
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => sources.unread_copy = Some(format!("{}: {error}", path.display())),
    }
}

/// The text of a file, and whether it is UTF-8.
fn decoded(
    bytes: Vec<u8>,
    offset: usize,
    secrets: &mut Vec<ByteSpan>,
    report: &mut ConfigReport,
) -> (String, bool) {
    match String::from_utf8(bytes) {
        Ok(text) => (normal(text), true),
        Err(error) => {
            let (text, hidden) = syntax::report_encoding(error.as_bytes(), offset, report);
            secrets.extend(hidden);
            (text, false)
        }
    }
}

/// One table with the entries of all files; `None` when one of them is not TOML. Errors of syntax
/// and sections that are in two files are reported. `guarded` are the sections that contain a
/// secret, with the keys that they know; `secrets` receives the places not to show.
pub(super) fn table<'s>(
    sources: &'s Sources,
    guarded: &[(&str, &[&str])],
    secrets: &mut Vec<ByteSpan>,
    report: &mut ConfigReport,
) -> Option<DeTable<'s>> {
    let mut all = DeTable::new();
    let mut are_toml = true;
    for file in sources.files() {
        if file.is_shared && section::field_of(&all, "cluster").is_none() {
            // The copy is of a time when this machine was a node.
            continue;
        }
        if !file.is_utf8 {
            are_toml = false;
            continue;
        }
        let (root, errors) = DeTable::parse_recoverable(&file.text);
        if !errors.is_empty() {
            secrets.extend(syntax::report(&file.text, file.offset, &errors, report));
            are_toml = false;
            continue;
        }
        let mut root = moved_table(root.into_inner(), file.offset);
        secrets.extend(secrecy::secret_spans(&root, guarded));
        if file.is_shared {
            shared::refuse_others(&mut root, report);
        }
        if all.is_empty() {
            all = root;
        } else {
            merge(&mut all, root, report);
        }
    }
    are_toml.then_some(all)
}

/// Adds the entries of one more file.
fn merge<'t>(all: &mut DeTable<'t>, more: DeTable<'t>, report: &mut ConfigReport) {
    let first = |key: &str| {
        section::field_of(all, key).map(|field| (field.key_span, is_section(field.value)))
    };
    for entry in section::fields(&more) {
        let Some((place, was_section)) = first(entry.key) else { continue };
        report_second(&entry, &place, was_section, report);
    }
    for (key, value) in more {
        if !all.contains_key(key.get_ref().as_ref()) {
            all.insert(key, value);
        }
    }
}

fn report_second(
    entry: &Field<'_>,
    first: &ByteSpan,
    was_section: bool,
    report: &mut ConfigReport,
) {
    if !was_section && !is_section(entry.value) {
        super::warn_of_unknown_section(entry, report);
        return;
    }
    let message = format!("the section [{}] is in two files", entry.key.escape_debug());
    report.conflict(&entry.key_span, first, message, "write all its keys in one of the two");
}

/// The directory whose files are read with the file: `config.d` for `config.toml`.
fn directory_of(path: &Path) -> PathBuf {
    path.with_extension("d")
}

/// The main file of a file that belongs to such a directory.
pub(super) fn main_file_of(path: &Path) -> Option<PathBuf> {
    let directory = path.parent()?;
    let main = directory.with_extension("toml");
    (directory_of(&main) == directory && main.is_file()).then_some(main)
}

/// A file of the directory.
struct FileBeside {
    path: PathBuf,
    /// Where its contents are.
    place: PathBuf,
}

/// The files of the directory, in the order of the bytes of their names. `place` is where the
/// contents of the main file are: systemd makes of a directory `config.d` one credential for each
/// file, such as `config.d_garden.toml`.
fn files_beside(path: &Path, place: &Path) -> Result<Vec<FileBeside>, ConfigErrors> {
    let directory = directory_of(path);
    if directory == path {
        return Ok(Vec::new());
    }
    let beside = |name: &OsStr, place| FileBeside { path: directory.join(name), place };
    if let Some(credentials) = place.parent().filter(|_| place != path) {
        let prefix = [directory.file_name().unwrap_or_default().as_encoded_bytes(), b"_"].concat();
        let names = toml_files_in(credentials)?.into_iter();
        return Ok(names
            .filter_map(|name| {
                let own = name.as_bytes().strip_prefix(prefix.as_slice())?;
                Some(beside(OsStr::from_bytes(own), credentials.join(&name)))
            })
            .collect());
    }
    let names = toml_files_in(&directory)?.into_iter();
    Ok(names.map(|name| beside(&name, directory.join(&name))).collect())
}

/// The names of the TOML files in a directory, in their order; none where there is no directory.
fn toml_files_in(directory: &Path) -> Result<Vec<OsString>, ConfigErrors> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // Something that is no file, such as a pipe of a shell, has nothing beside it.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(directory, true)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.map_err(unreadable(directory, true))?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b".") || !bytes.ends_with(b".toml") {
            continue;
        }
        if files.len() == MOST_FILES {
            let problem = format!("it holds more than {MOST_FILES} files");
            return Err(unreadable(directory, true)(io::Error::other(problem)));
        }
        files.push(name);
    }
    files.sort();
    Ok(files)
}

/// Opens a file of the directory, but nothing that would have to be waited for.
fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::other("it is not a regular file"))
}

/// The contents of a file and its permissions; `left` is the number of bytes that may be read.
fn contents(file: File, left: &mut u64) -> io::Result<(Vec<u8>, u32)> {
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    let length = file.take(*left + 1).read_to_end(&mut bytes)?;
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    if length > *left {
        let problem = if *left == MOST_BYTES {
            "it is longer than 16 MiB"
        } else {
            "with the files before it, it is longer than 16 MiB"
        };
        return Err(io::Error::new(ErrorKind::FileTooLarge, problem));
    }
    *left -= length;
    Ok((bytes, mode))
}

fn unreadable(path: &Path, is_beside: bool) -> impl FnOnce(io::Error) -> ConfigErrors {
    move |source| {
        let hint = match source.kind() {
            ErrorKind::NotFound if is_beside => "remove it, or mend the link",
            ErrorKind::NotFound => "create it, or name the file to use",
            ErrorKind::PermissionDenied => {
                "run this as the file's owner or as root; the service, which has no capabilities, \
                 needs it to belong to root"
            }
            ErrorKind::NotADirectory => "rename it: the files of this directory are read too",
            ErrorKind::FileTooLarge if !is_beside => "name the right file",
            ErrorKind::FileTooLarge | ErrorKind::Other if is_beside => {
                "move away what is not needed"
            }
            _ => "make it a readable file",
        };
        ConfigErrors::Unreadable { path: path.to_owned(), source, hint }
    }
}

/// The same table with all places moved.
fn moved_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    if by == 0 {
        return table;
    }
    let entries = table.into_iter();
    entries.map(|(key, value)| (moved(key, by, |key| key), moved_value(value, by))).collect()
}

fn moved_value(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    moved(value, by, |value| match value {
        DeValue::Table(table) => DeValue::Table(moved_table(table, by)),
        DeValue::Array(items) => {
            DeValue::Array(items.into_iter().map(|item| moved_value(item, by)).collect())
        }
        other => other,
    })
}

fn moved<T>(spanned: Spanned<T>, by: usize, inner: impl FnOnce(T) -> T) -> Spanned<T> {
    let span = spanned.span();
    Spanned::new(span.start + by..span.end + by, inner(spanned.into_inner()))
}
