//! The pages for those who work on iotmonitor agree with the repository.

use super::{code, page, pages, root};
use iotmonitor::config::{self, Environment};
use roxmltree::{Document, ParsingOptions};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_readme_is_short() {
    let lines = page("README.md").lines().count();
    assert!(lines <= 150, "it has {lines} lines");
}

#[test]
fn the_code_map_names_every_module_and_nothing_else() {
    let map = page("ARCHITECTURE.md");
    let map = map.split("\n## Code map\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = map.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let named: BTreeSet<&str> = rows.collect();
    let missing: Vec<_> = named.iter().filter(|path| !exists(path)).collect();
    assert!(missing.is_empty(), "the code map names {missing:?}, which do not exist");
    for folder in ["src", "core/src"] {
        for module in fs::read_dir(root().join(folder)).unwrap() {
            let path = module.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let is_named = named.contains(format!("{folder}/{name}").as_str());
            assert!(is_named || ["lib", "main"].contains(&name.as_str()), "{name} is not in it");
        }
    }
}

/// A folder, a module that is a file, or a file.
fn exists(path: &str) -> bool {
    let path = root().join(path);
    path.exists() || path.with_extension("rs").exists()
}

#[test]
fn every_source_file_that_is_named_exists() {
    for path in pages() {
        let text = fs::read_to_string(&path).unwrap();
        for named in text.split('`').skip(1).step_by(2) {
            let first = named.split('/').next().unwrap();
            if [
                "src",
                "tests",
                "packaging",
                "benches",
                "fuzz",
                "systemd",
                ".github",
                "core",
                "recorder",
            ]
            .contains(&first)
            {
                assert!(exists(named), "{}: there is no {named}", path.display());
            }
        }
    }
}

#[test]
fn every_target_that_a_workflow_runs_exists() {
    let makefile = page("Makefile");
    let mut files = vec![root().join(".ci/run")];
    for folder in [".github/workflows", ".github/actions/prepare"] {
        files.extend(fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    let mut run = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let commands = text.lines().map(|line| line.trim_start_matches(['-', ' ']));
        let commands = commands.map(|line| line.trim_start_matches("run: "));
        for command in commands.filter_map(|line| line.strip_prefix("make ")) {
            let words = command.split(' ').take_while(|word| !["<", "|", ">"].contains(word));
            for target in words.filter(|word| !word.starts_with('-') && !word.contains('=')) {
                let is_there = makefile.contains(&format!("\n{target}:"));
                assert!(is_there, "{}: there is no `make {target}`", file.display());
                run.insert(target.to_owned());
            }
        }
    }
    assert!(run.len() > 8, "{run:?}");
}

/// An example of a configuration that a page shows can be used, with `[mqtt]` if that is not shown.
#[test]
fn every_configuration_that_is_shown_is_accepted() {
    let mut shown = 0;
    for path in pages() {
        let text = fs::read_to_string(&path).unwrap();
        let mut sections = code(&text, "toml").join("\n");
        if sections.is_empty() {
            continue;
        }
        shown += 1;
        if !sections.contains("[mqtt]") {
            sections.insert_str(0, "[mqtt]\nserverAddress = \"tcp://localhost:1883\"\n");
        }
        let parsed = config::parse(&sections, Path::new("config.toml"), &Environment::default());
        assert!(parsed.is_ok(), "{}:\n{}", path.display(), parsed.err().unwrap());
    }
    assert!(shown >= 1);
}

#[test]
fn the_changelog_has_the_form_of_keep_a_changelog() {
    let changelog = page("CHANGELOG.md");
    let headings: Vec<&str> = changelog.lines().filter(|line| line.starts_with("## ")).collect();
    assert_eq!(headings[0], "## [Unreleased]");
    let newest = headings[1];
    let version = env!("CARGO_PKG_VERSION");
    assert!(newest.starts_with(&format!("## [{version}] - 20")), "{newest} is not {version}");
    let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    for kind in changelog.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(kinds.contains(&kind), "### {kind}");
    }
}

/// The package's changelog is made from the releases, and not from what is unreleased.
#[test]
fn the_changelog_of_the_package_has_each_release() {
    let output = Command::new(root().join("packaging/changelog.sh")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = String::from_utf8(output.stdout).unwrap();
    let changelog = page("CHANGELOG.md");
    let releases: Vec<&str> = changelog
        .lines()
        .filter_map(|line| line.strip_prefix("## [")?.split_once("] - "))
        .map(|(version, _)| version)
        .collect();
    let made_of: Vec<&str> = made
        .lines()
        .filter_map(|line| {
            line.strip_prefix("iotmonitor (")?.strip_suffix(") unstable; urgency=medium")
        })
        .collect();
    assert_eq!(made_of, releases);
    let signed =
        made.lines().filter(|line| line.starts_with(" -- ") && line.contains(">  ")).count();
    assert_eq!(signed, releases.len(), "{made}");
    let unreleased = changelog.split("\n## ").nth(1).unwrap();
    let changes = unreleased.lines().filter_map(|line| line.strip_prefix("- "));
    for change in changes {
        let words: Vec<&str> = change.split_whitespace().take(6).collect();
        assert!(!made.contains(&words.join(" ")), "{change}");
    }
    let changes = made.lines().filter(|line| !line.starts_with(" -- "));
    let long: Vec<&str> = changes.filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "{long:?}");
    let items = |text: &str, sign: &str| text.lines().filter(|line| line.starts_with(sign)).count();
    let released = changelog.split_once("\n## [0").unwrap().1;
    assert_eq!(items(&made, "  * "), items(released, "- "));
}

/// The files that belong to the repository.
fn tracked() -> Vec<String> {
    // The tree may belong to another user than the test runs as.
    let arguments = ["-c", "safe.directory=*", "ls-files", "-z"];
    let output = Command::new("git").args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    let files: Vec<String> = names.split_terminator('\0').map(str::to_owned).collect();
    assert!(files.len() > 500, "{files:?}");
    files
}

#[test]
fn no_file_contains_the_markers_of_a_merge() {
    for file in tracked() {
        // Files that were deleted and not committed yet, and links to folders, have no content.
        let Ok(content) = fs::read(root().join(&file)) else { continue };
        let found = content.split(|byte| *byte == b'\n').find(|line| is_marker(line));
        assert!(found.is_none(), "{file}: {:?}", found.map(String::from_utf8_lossy));
    }
}

/// A line of `=` alone is a heading in Markdown as well, and comes with the others.
fn is_marker(line: &[u8]) -> bool {
    [b'<', b'>', b'|'].iter().any(|sign| {
        line.strip_prefix(&[*sign; 7]).is_some_and(|rest| matches!(rest.first(), None | Some(b' ')))
    })
}

#[test]
fn a_marker_is_found_and_its_like_is_not() {
    for marker in ["<<<<<<< HEAD", ">>>>>>> 302880b (Answer requests)", "||||||| base", "<<<<<<<"] {
        assert!(is_marker(marker.as_bytes()), "{marker}");
    }
    for other in [" <<<<<<< HEAD", "<<<<<<<<", "<<<", "a <<<<<<< b", "=======", "|||||||x"] {
        assert!(!is_marker(other.as_bytes()), "{other}");
    }
}

/// No target runs the examples in comments, so a program there could be wrong.
#[test]
fn comments_contain_no_programs() {
    let mut count = 0;
    for file in tracked().into_iter().filter(|file| file.ends_with(".rs")) {
        let Ok(text) = fs::read_to_string(root().join(&file)) else { continue };
        let fences = text.lines().map(str::trim_start).filter_map(|line| {
            let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))?;
            comment.trim_start().strip_prefix("```")
        });
        // Every other one ends an example.
        for language in fences.step_by(2) {
            assert_eq!(language, "text", "{file}");
            count += 1;
        }
    }
    assert!(count > 2, "{count}");
}

/// D-Bus, polkit and browsers read these files with parsers that accept nothing else.
#[test]
fn files_in_xml_are_well_formed() {
    let files = tracked().into_iter().filter(|file| {
        [".xml", ".svg", ".policy"].iter().any(|ending| file.ends_with(ending))
            || file.contains("/dbus-1/system.d/")
    });
    let mut count = 0;
    for file in files {
        let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
        let text = page(&file);
        if let Err(error) = Document::parse_with_options(&text, options) {
            panic!("{file}: {error}");
        }
        count += 1;
    }
    assert!(count > 6, "{count}");
}
