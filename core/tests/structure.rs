//! The layers of the core, read from its sources: what Cargo and the compiler let through.

#![expect(clippy::disallowed_methods, reason = "this test reads the sources of the core")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file calls only methods of the monitor in files that do not come back to it: each may be read
/// and changed with what is below it in mind, and nothing else.
#[test]
fn files_of_the_monitor_call_downward_only() {
    let files = monitor_files();
    let homes: BTreeMap<&str, &str> = files
        .iter()
        .flat_map(|(file, code)| methods(code).into_iter().map(|name| (name, file.as_str())))
        .collect();
    let calls: BTreeMap<&str, BTreeSet<&str>> = files
        .iter()
        .map(|(file, code)| {
            let called = calls(code).into_iter().filter_map(|name| homes.get(name).copied());
            (file.as_str(), called.filter(|home| home != file).collect())
        })
        .collect();
    assert!(homes.len() > 150 && calls["monitor"].len() > 10, "the sources are not understood");
    let in_circles = in_circles(calls);
    assert!(in_circles.is_empty(), "these files call each other in circles: {in_circles:#?}");
}

/// A method that two files define could not be distinguished above, nor by a reader.
#[test]
fn no_two_files_of_the_monitor_define_a_method_of_the_same_name() {
    let files = monitor_files();
    let mut names: Vec<&str> = files.iter().flat_map(|(_, code)| methods(code)).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// The machine whose matter alerts are. To any other they are what follows from an outcome.
const OF_ALERTS: &str = "notifications";

/// A machine returns outcomes. What follows from them, and for which others, is for the monitor.
#[test]
fn machines_know_neither_actions_nor_the_monitor_nor_each_other() {
    let mut broken = Vec::new();
    for file in files_below("machines") {
        let code = code_of(&file);
        let name = name_of(&file);
        let own = name.split('/').nth(1).unwrap().to_owned();
        for path in paths(&code).into_iter().map(|path| from_the_root(&path, &name)) {
            let is_foreign = path.strip_prefix("crate::machines::").is_some_and(|machine| {
                machine.split(':').next().is_some_and(|machine| machine != own)
            });
            let is_above = ["crate::monitor", "crate::model::action"]
                .iter()
                .any(|above| path.starts_with(above));
            let is_alert = path.starts_with("crate::model::alert::Alert") && own != OF_ALERTS;
            if is_foreign || is_above || is_alert {
                broken.push(format!("{name} names {path}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_model_knows_neither_machines_nor_the_monitor() {
    let mut broken = Vec::new();
    for file in files_below("model") {
        for path in paths(&code_of(&file)) {
            if path.starts_with("crate::machines") || path.starts_with("crate::monitor") {
                broken.push(format!("{} names {path}", name_of(&file)));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_way_to_name_a_path_and_to_call_a_method_is_seen() {
    let code = "use crate::{machines::agent::{Agent, Outcome as Of}, model};
use super::super::episode::Episode;
impl Monitor {
    pub(super) fn first(&self) {
        self.second(crate::topic::index::new());
        self.third.fourth();
        self
            .fifth();
        Self::sixth(Monitor::seventh);
    }
}
impl Other {
    fn eighth(&self) {
        self.ninth();
    }
}
";
    assert_eq!(
        paths(code).into_iter().collect::<Vec<_>>(),
        [
            "crate::machines::agent::Agent",
            "crate::machines::agent::Outcome",
            "crate::model",
            "crate::topic::index::new",
            "super::super::episode::Episode",
        ]
    );
    let seen = from_the_root("super::super::episode::Episode", "machines/agent/orders");
    assert_eq!(seen, "crate::machines::episode::Episode");
    assert_eq!(methods(code), ["first"]);
    assert_eq!(
        calls(code).into_iter().collect::<Vec<_>>(),
        ["fifth", "second", "seventh", "sixth"]
    );
    let circle = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")];
    let calls = circle.map(|(from, to)| (from, BTreeSet::from([to])));
    let calls = calls.into_iter().fold(BTreeMap::<_, BTreeSet<_>>::new(), |mut all, (from, to)| {
        all.entry(from).or_default().extend(to);
        all
    });
    assert_eq!(in_circles(calls).into_keys().collect::<Vec<_>>(), ["b", "c"]);
}

/// The files of the monitor by their names, with their code.
fn monitor_files() -> Vec<(String, String)> {
    let root = source().join("monitor.rs");
    let files = files_below("monitor").into_iter().chain([root]);
    files.map(|file| (name_of(&file), code_of(&file))).collect()
}

/// What is left when all that is in no circle is taken away: first what calls nothing that is left,
/// then what nothing that is left calls.
fn in_circles<'a>(
    mut calls: BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    loop {
        let called: BTreeSet<&str> = calls.values().flatten().copied().collect();
        let names: BTreeSet<&str> = calls.keys().copied().collect();
        let before = calls.values().map(|called| called.len() + 1).sum::<usize>();
        calls.retain(|file, calls| {
            calls.retain(|file| names.contains(file));
            !calls.is_empty() && called.contains(file)
        });
        if calls.values().map(|called| called.len() + 1).sum::<usize>() == before {
            return calls;
        }
    }
}

/// The blocks of a file that hold methods of the monitor.
fn blocks(code: &str) -> impl Iterator<Item = &str> {
    let blocks = code.split("\nimpl Monitor {\n").skip(1);
    blocks.map(|block| block.split("\n}\n").next().unwrap_or_default())
}

/// Methods that a file defines for the monitor.
fn methods(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for block in blocks(code) {
        let definitions =
            block.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
        found.extend(definitions.filter_map(|line| {
            let (_, definition) = line.split_once("fn ")?;
            definition.split(['(', '<']).next()
        }));
    }
    found
}

/// What methods of the monitor call on it, by whichever of its names.
fn calls(code: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let names = ["self", "monitor", "Self", "Monitor"];
    for (block, name) in blocks(code).flat_map(|block| names.map(|name| (block, name))) {
        for (at, _) in block.match_indices(name) {
            if block[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.')) {
                continue;
            }
            let rest = block[at + name.len()..].trim_start();
            let Some(rest) = rest.strip_prefix('.').or_else(|| rest.strip_prefix("::")) else {
                continue;
            };
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let is_method = rest[end..].starts_with('(') || matches!(name, "Self" | "Monitor");
            if is_method && rest.starts_with(|c: char| c.is_ascii_lowercase()) {
                found.insert(&rest[..end]);
            }
        }
    }
    found
}

/// Every path from the root of the crate or from a module above, in imports and inline.
fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':')) {
                continue;
            }
            tree(&code[at..], "", &mut found);
        }
    }
    found
}

/// Resolves `super` at the beginning of a path in a module.
fn from_the_root(path: &str, module: &str) -> String {
    let mut here: Vec<&str> = module.split('/').collect();
    let mut rest = path;
    while let Some(behind) = rest.strip_prefix("super::") {
        here.pop();
        rest = behind;
    }
    if rest == path { path.to_owned() } else { format!("crate::{}::{rest}", here.join("::")) }
}

/// Takes in the paths of one tree; gives what stands behind it.
fn tree<'a>(code: &'a str, before: &str, found: &mut BTreeSet<String>) -> &'a str {
    let is_of_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '*');
    let end = code.find(|c| !is_of_path(c)).unwrap_or(code.len());
    let path = format!("{before}{}", &code[..end]);
    let mut rest = &code[end..];
    if !path.ends_with("::") {
        found.insert(path);
        return rest.strip_prefix(" as ").map_or(rest, |renamed| {
            renamed.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
        });
    }
    if let Some(mut group) = rest.strip_prefix('{') {
        loop {
            group = group.trim_start_matches([' ', '\n', ',']);
            if group.is_empty() || group.starts_with('}') {
                break;
            }
            let behind = tree(group, &path, found);
            if behind.len() == group.len() {
                break;
            }
            group = behind;
        }
        rest = group.strip_prefix('}').unwrap_or(group);
    }
    rest
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All files of a layer but those of tests.
fn files_below(layer: &str) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![source().join(layer)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_stem().is_some_and(|name| name != "tests") {
                found.insert(path);
            }
        }
    }
    assert!(found.len() > 5, "there is no layer `{layer}`");
    found.into_iter().collect()
}

/// `machines/agent/orders` for `core/src/machines/agent/orders.rs`.
fn name_of(file: &Path) -> String {
    file.strip_prefix(source()).unwrap().with_extension("").display().to_string()
}

/// The code without comments and without the unit tests at the end of a file.
fn code_of(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.flat_map(|line| [line, "\n"]).collect()
}
