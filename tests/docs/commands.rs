//! Commands that the pages show exist, with the options that they are given.

use super::{code, page, pages, root};
use std::fs;

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = page("Makefile");
    for path in pages() {
        let text = fs::read_to_string(&path).unwrap();
        let named = text.split("`make ").skip(1).map(|piece| piece.split('`').next().unwrap());
        let shown = code(&text, "sh").into_iter().filter_map(|line| line.strip_prefix("make "));
        for command in named.chain(shown) {
            let target = command.split([' ', '&']).next().unwrap();
            let is_there = makefile.contains(&format!("\n{target}:"));
            assert!(is_there, "{}: there is no `make {target}`", path.display());
        }
    }
}

/// A command line that the pages show is one that the program takes.
#[test]
fn every_command_that_is_shown_is_understood() {
    let mut shown = 0;
    for path in pages() {
        let text = fs::read_to_string(&path).unwrap();
        for line in code(&text, "").into_iter().chain(code(&text, "sh")) {
            let line = line.trim_start_matches(['$', '#', ' ']);
            let Some(arguments) = line.strip_prefix("iotmonitor ") else { continue };
            shown += 1;
            let understood = understand(arguments);
            assert!(understood.is_ok(), "{}: {line}\n{understood:?}", path.display());
        }
    }
    assert!(shown >= 15, "only {shown} commands were found");
}

#[test]
fn a_command_that_does_not_exist_is_not_understood() {
    assert!(understand("nonsense").is_err());
    assert!(understand("status --nonsense").is_err());
    assert!(understand("status --json esp04 # as JSON").is_ok());
}

/// Without comments, redirections and what comes after a pipe.
fn understand(arguments: &str) -> Result<(), String> {
    let command = arguments.split([';', '|']).next().unwrap_or_default();
    let is_for_the_shell = |word: &str| ["#", ">", "2>"].iter().any(|sign| word.starts_with(sign));
    // What is between double quotes is one word.
    let parts = command.split('"').enumerate().flat_map(|(place, part)| match place % 2 {
        0 => part.split_whitespace().collect(),
        _ => vec![part],
    });
    let words = parts.take_while(|word| !is_for_the_shell(word));
    let line = std::iter::once("iotmonitor").chain(words);
    let parsed = iotmonitor::cli::definition().try_get_matches_from(line);
    parsed.map(|_| ()).map_err(|error| error.to_string())
}

#[test]
fn every_file_that_is_named_as_installed_is_shipped() {
    for path in pages() {
        let text = fs::read_to_string(&path).unwrap();
        for piece in text.split("`/usr/share/").skip(1) {
            let name = piece.split('`').next().unwrap();
            let shipped = root().join("systemd/usr/share").join(name);
            let is_there = name.contains('*') || shipped.exists();
            assert!(is_there, "{}: /usr/share/{name} is not shipped", path.display());
        }
    }
}
