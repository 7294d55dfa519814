//! What the README and the pages of `docs/` say is true.

#[path = "docs/book.rs"]
mod book;
#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/reference.rs"]
mod reference;
#[path = "docs/repository.rs"]
mod repository;
#[path = "docs/scripts.rs"]
mod scripts;
#[path = "docs/threats.rs"]
mod threats;

use std::fs;
use std::path::{Path, PathBuf};

/// A page, by its path below the root of the repository.
fn page(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page in Markdown that a person reads: those of the root and those of `docs/`.
fn pages() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = [root().to_owned(), root().join("docs")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    found.sort();
    assert!(found.len() > 15, "{found:?}");
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The lines inside of code blocks of a language, which is empty for a block without one.
fn code<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let mut current = None;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.trim_start().strip_prefix("```") {
            current = if current.is_none() { Some(name) } else { None };
        } else if current == Some(language) {
            found.push(line);
        }
    }
    found
}
