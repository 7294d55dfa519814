//! The sections that all nodes of a cluster share: what may be among them, and the copy that each
//! node keeps of them for starts without etcd.

use super::is_section;
use super::report::ConfigReport;
use super::section::{self, Field};
use iotmonitor_core::model::cluster::sections::{SectionsVersion, SharedSections};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use toml::de::DeTable;

/// The name of the copy, in the directory of the states.
pub const COPY: &str = "shared.toml";

/// The beginning of the copy's first line, which names the version.
const HEAD: &str = "# The sections that all nodes share, as `iotmonitor cluster apply` puts them: ";

/// The beginnings of the names of the sections that may be shared.
const SHARED: [&str; 3] = ["device_", "agent_", "fleet_"];

/// Shared sections that are to be read in place of the copy.
#[derive(Debug, Clone, Copy)]
pub struct GivenSections<'a> {
    /// What findings call their file.
    pub path: &'a Path,
    pub text: &'a str,
}

/// The shared sections that a configuration contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPart {
    /// `None` if they are not of the copy, or its first line is missing.
    pub version: Option<SectionsVersion>,
    /// The number of sections.
    pub sections: usize,
}

/// Replaces the copy, which then survives a power cut.
///
/// # Errors
/// Returns the error of a file that cannot be written. The former copy is left.
pub fn keep_copy(path: &Path, sections: &SharedSections) -> io::Result<()> {
    let new = path.with_extension("toml.new");
    let mut options = OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(&new)?;
    writeln!(file, "{HEAD}{}", sections.version.to_json())?;
    file.write_all(sections.text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// The version of a copy.
#[must_use]
pub fn version_of_copy(path: &Path) -> Option<SectionsVersion> {
    version_of(&fs::read_to_string(path).ok()?)
}

/// The version that the first line of a copy names.
pub(super) fn version_of(copy: &str) -> Option<SectionsVersion> {
    SectionsVersion::from_json(copy.lines().next()?.strip_prefix(HEAD)?)
}

/// Reports the sections that belong into the file of each node, and takes them out.
pub(super) fn refuse_others(root: &mut DeTable<'_>, report: &mut ConfigReport) {
    let mut refused = Vec::new();
    for entry in section::fields(root).iter().filter(|entry| !may_be_shared(entry)) {
        let shown = entry.key.escape_debug();
        let message = if is_section(entry.value) {
            format!("the section [{shown}] cannot be shared")
        } else {
            format!("the key `{shown}` is outside any section")
        };
        let hint = "nodes share [device_NAME], [agent_NAME] and [fleet_NAME]; everything else \
                    belongs into the file of each node";
        report.error(&entry.key_span, message, hint);
        refused.push(entry.key.to_owned());
    }
    for key in refused {
        root.remove(key.as_str());
    }
}

fn may_be_shared(entry: &Field<'_>) -> bool {
    SHARED.iter().any(|kind| entry.key.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::cluster::NodeName;
    use iotmonitor_core::model::cluster::orders::OrderStamp;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_copy_is_replaced_as_a_whole_and_belongs_to_root_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(COPY);
        let sections = |number, text: &str| SharedSections {
            version: SectionsVersion {
                number,
                stamp: OrderStamp { stamp: u64::MAX },
                given: 5,
                by: NodeName::new("pi1").unwrap(),
                bytes: text.len(),
                chunks: 1,
            },
            text: text.into(),
        };
        for (number, text) in [(1, "[device_a]\nwatchTopics = \"a\"\n"), (2, "")] {
            let sections = sections(number, text);
            keep_copy(&path, &sections).unwrap();
            let copy = fs::read_to_string(&path).unwrap();
            assert_eq!(version_of(&copy), Some(sections.version));
            assert_eq!(copy.split_once('\n').unwrap().1, text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        // What a power cut has left half is never read.
        let missing = directory.path().join("missing").join(COPY);
        assert!(keep_copy(&missing, &sections(3, "")).is_err());
        assert_eq!(version_of("[device_a]\n"), None);
    }
}
