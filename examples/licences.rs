//! Writes the licences of everything that is linked into the program, into a file.
//!
//! Most of them ask that their text goes along with the program. Texts are taken from the sources
//! as the registry has them; a text that several crates share stands once, below their names. A
//! crate without a text is named with its licence (SPDX).

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

/// How files with licences begin, in capitals.
const BEGINNINGS: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// Sources of others inside a crate: the store's library itself.
const WITHIN: [&str; 2] = ["", "lmdb/libraries/liblmdb"];

fn main() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let file = arguments.next();
    let file = file.ok_or_else(|| io::Error::other("usage: licences FILE [MANIFEST]"))?;
    let metadata = metadata(&arguments.next().unwrap_or_else(|| "Cargo.toml".into()))?;
    let linked = linked(&metadata);
    let mut holders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // The program's own packages come from no registry.
    let is_foreign = |package: &&Value| !package["source"].is_null();
    let packages = list(&metadata, "packages").filter(|package| linked.contains(id(package)));
    for package in packages.filter(is_foreign) {
        let field = |name: &str| package[name].as_str().unwrap_or_default();
        let name = format!("{} {} ({})", field("name"), field("version"), field("license"));
        let directory = Path::new(field("manifest_path")).parent().unwrap_or(Path::new(""));
        for text in texts(directory)? {
            holders.entry(text).or_default().insert(name.clone());
        }
    }
    let mut parts: Vec<String> = holders
        .into_iter()
        .map(|(text, crates)| {
            let crates: Vec<String> = crates.into_iter().collect();
            format!("{}\n\n{}\n", crates.join("\n"), text.trim_end())
        })
        .collect();
    parts.sort();
    let opening = "The program is linked with these, each under its own licence.\n\n";
    fs::write(file, format!("{opening}{}", parts.join(&format!("\n{}\n", "=".repeat(78)))))
}

fn metadata(manifest: &OsStr) -> io::Result<Value> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--locked", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .arg("--manifest-path")
        .arg(manifest)
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Ids of all packages that the program needs at run time, without itself.
fn linked(metadata: &Value) -> BTreeSet<&str> {
    let root = metadata["resolve"]["root"].as_str().unwrap_or_default();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"], "nodes").map(|node| (id(node), node)).collect();
    let (mut found, mut open) = (BTreeSet::new(), vec![root]);
    while let Some(node) = open.pop().and_then(|id| nodes.get(id)) {
        let is_linked =
            |dependency: &&Value| list(dependency, "dep_kinds").any(|kind| kind["kind"].is_null());
        for dependency in list(node, "deps").filter(is_linked) {
            let package = dependency["pkg"].as_str().unwrap_or_default();
            if found.insert(package) {
                open.push(package);
            }
        }
    }
    found
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap_or_default()
}

/// The licences in a crate's sources; one empty text where there is none.
fn texts(directory: &Path) -> io::Result<Vec<String>> {
    let mut texts = Vec::new();
    for within in WITHIN.map(|within| directory.join(within)) {
        let Ok(entries) = fs::read_dir(within) else { continue };
        let mut files: Vec<_> =
            entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        files.sort();
        let is_licence = |file: &OsStr| {
            let name = file.to_string_lossy().to_uppercase();
            BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        };
        for file in files.iter().filter(|file| file.file_name().is_some_and(is_licence)) {
            if file.is_file() {
                texts.push(String::from_utf8_lossy(&fs::read(file)?).into_owned());
            }
        }
    }
    if texts.is_empty() {
        texts.push(String::new());
    }
    Ok(texts)
}
