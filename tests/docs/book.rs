//! The pages form a book: all are in its summary, and every link leads somewhere.

use super::{page, pages, prose, root};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn the_summary_lists_every_page() {
    let summary = page("docs/SUMMARY.md");
    let listed: BTreeSet<String> = links(&summary).into_iter().collect();
    let there: BTreeSet<String> = pages()
        .iter()
        .filter(|path| path.parent() == Some(&root().join("docs")))
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .filter(|name| name != "SUMMARY.md")
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    for path in pages() {
        let text = fs::read_to_string(&path).unwrap();
        for link in links(&text) {
            if !leads_somewhere(&path, &text, &link) {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

fn leads_somewhere(path: &Path, text: &str, link: &str) -> bool {
    if link.contains("://") {
        return true;
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = path.parent().unwrap().join(file);
    let text = match file {
        "" => text.to_owned(),
        _ if !target.exists() => return false,
        _ if heading.is_empty() => return true,
        _ => fs::read_to_string(target).unwrap(),
    };
    prose(&text).filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading)
}

/// The targets of the links outside of code blocks.
fn links(text: &str) -> Vec<String> {
    let prose: Vec<&str> = prose(text).collect();
    let prose = prose.join("\n");
    let targets = prose.split("](").skip(1);
    targets.map(|rest| rest.split(')').next().unwrap().to_owned()).collect()
}

/// How a heading is named in a link, by GitHub and by mdBook.
fn anchor(heading: &str) -> String {
    let title = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn a_link_to_nowhere_is_found_out() {
    let path = root().join("docs/topics.md");
    let text = "# Topics\n\nSee [a](alerts.md#nowhere), [b](#topics), [c](nowhere.md).";
    let [nowhere, topics, missing] = &links(text)[..] else { panic!("{:?}", links(text)) };
    assert!(leads_somewhere(&path, text, topics));
    assert!(!leads_somewhere(&path, text, nowhere) && !leads_somewhere(&path, text, missing));
}
