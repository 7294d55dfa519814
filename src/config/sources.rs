//! The texts of a configuration's files, which share one space of places.
//!
//! The place of a byte is its position in its file, moved by the lengths of the files that were read
//! before. The configuration is therefore checked as if it were one file, and only
//! [`super::report`] asks which file a place is in.

use std::path::{Path, PathBuf};

/// All files, in the order in which they were read.
pub(super) struct Sources {
    files: Vec<SourceFile>,
    /// Why there are no shared sections although there is a copy of them.
    pub unread_copy: Option<String>,
}

/// One file.
pub(super) struct SourceFile {
    pub path: PathBuf,
    pub text: String,
    /// The place of its first byte.
    pub offset: usize,
    /// Its permissions; `None` for a string.
    pub mode: Option<u32>,
    /// Whether it was valid UTF-8. If not, its text is for display only.
    pub is_utf8: bool,
    /// Whether it holds the sections that the nodes of a cluster share. It is the last one then.
    pub is_shared: bool,
}

impl Sources {
    /// The main file.
    pub fn new(path: &Path, text: String, mode: Option<u32>, is_utf8: bool) -> Self {
        let path = path.to_owned();
        let main = SourceFile { path, text, offset: 0, mode, is_utf8, is_shared: false };
        Self { files: vec![main], unread_copy: None }
    }

    /// A string in place of files.
    pub fn of_text(path: &Path, text: &str) -> Self {
        Self::new(path, normal(text.to_owned()), None, true)
    }

    pub fn push(&mut self, path: PathBuf, text: String, mode: u32, is_utf8: bool) {
        let offset = self.end();
        let mode = Some(mode);
        self.files.push(SourceFile { path, text, offset, mode, is_utf8, is_shared: false });
    }

    /// Adds the sections that nodes share.
    pub fn push_shared(&mut self, path: PathBuf, text: String, is_utf8: bool) {
        let offset = self.end();
        self.files.push(SourceFile { path, text, offset, mode: None, is_utf8, is_shared: true });
    }

    /// The file with the sections that nodes share.
    pub fn shared(&self) -> Option<&SourceFile> {
        self.files.last().filter(|file| file.is_shared)
    }

    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// The first place that is free. The end of a file is a place of its own.
    pub fn end(&self) -> usize {
        self.files.last().map_or(0, |last| last.offset + last.text.len() + 1)
    }

    /// The file that contains a place.
    pub fn at(&self, place: usize) -> &SourceFile {
        // The first file contains the place 0.
        let after = self.files.partition_point(|file| file.offset <= place);
        &self.files[after.saturating_sub(1)]
    }
}

/// TOML does not define the line ending in a multi-line string, and a shell would take the carriage
/// return as part of the command. An escaped carriage return is intended, and stays.
pub(super) fn normal(text: String) -> String {
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    if text.contains("\r\n") { text.replace("\r\n", "\n") } else { text }
}
