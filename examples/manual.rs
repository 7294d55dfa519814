//! Writes the manual pages and the shells' completions into a directory.
//!
//! What `--help` says and `docs/configuration.md` are their only sources: iotmonitor(1) and the
//! pages of its commands come from the definition of the command line, iotmonitor.toml(5) from the
//! reference of the configuration, whose keys a test compares with those that are known.

use clap_complete::Shell;
use roff::{Inline, Roff, bold, roman};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

const REFERENCE: &str = include_str!("../docs/configuration.md");

fn main() -> io::Result<()> {
    let directory = env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or_else(|| io::Error::other("usage: manual DIRECTORY"))?;
    let (manual, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&manual)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(iotmonitor::cli::definition(), &manual)?;
    fs::write(manual.join("iotmonitor.toml.5"), configuration().to_roff())?;
    complete(&completions)
}

fn complete(directory: &Path) -> io::Result<()> {
    for (shell, file) in
        [(Shell::Bash, "iotmonitor"), (Shell::Zsh, "_iotmonitor"), (Shell::Fish, "iotmonitor.fish")]
    {
        let mut output = Vec::new();
        let mut definition = iotmonitor::cli::definition();
        clap_complete::generate(shell, &mut definition, "iotmonitor", &mut output);
        fs::write(directory.join(file), output)?;
    }
    Ok(())
}

/// iotmonitor.toml(5).
fn configuration() -> Roff {
    let mut page = Roff::new();
    page.control("TH", ["iotmonitor.toml", "5", "", env!("CARGO_PKG_VERSION")]);
    page.control("SH", ["NAME"]);
    page.text([roman("iotmonitor.toml - configuration of iotmonitor(1)")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman("By default /etc/iotmonitor/config.toml and /etc/iotmonitor/config.d/*.toml. See also https://toml.io.")]);
    let mut in_code = false;
    // The first line is the title of the page.
    for line in REFERENCE.lines().skip(1) {
        if line.starts_with("```") {
            in_code = !in_code;
            page.control(if in_code { "nf" } else { "fi" }, []);
        } else if in_code {
            page.text([roman(line)]);
        } else if let Some(section) = line.strip_prefix("## ") {
            page.control("SH", [section.replace('`', "").as_str()]);
        } else if line.starts_with("| `") {
            key(line, &mut page);
        } else if line.is_empty() {
            page.control("PP", []);
        } else if !line.starts_with('|') {
            page.text(words(line));
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("iotmonitor"), roman("(1), "), bold("systemd.exec"), roman("(5)")]);
    page
}

/// A row `| keys | default | meaning |`.
fn key(row: &str, page: &mut Roff) {
    let mut cells = row.trim_matches('|').split('|').map(str::trim);
    let [keys, default, meaning] = std::array::from_fn(|_| cells.next().unwrap_or_default());
    page.control("TP", []);
    let mut head = words(keys);
    if !default.is_empty() {
        head.push(roman(format!(" ({})", default.replace('`', ""))));
    }
    page.text(head);
    page.text(words(meaning));
}

/// What stands between backquotes is bold, and a link is its text alone.
fn words(text: &str) -> Vec<Inline> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("](") {
        let (before, text) = before.rsplit_once('[').unwrap_or((before, ""));
        plain.extend([before, text]);
        rest = link.split_once(')').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    let pieces = plain.split('`').enumerate();
    pieces.map(|(at, piece)| if at % 2 == 1 { bold(piece) } else { roman(piece) }).collect()
}
