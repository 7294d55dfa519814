//! Writes the manual pages and the shells' completions into a directory. What `--help` says is their
//! only source.

use clap_complete::Shell;
use iotmonitor_recorder::cli::definition;
use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let directory = env::args_os().nth(1).map(PathBuf::from);
    let directory =
        directory.ok_or_else(|| io::Error::other("usage: manual-recorder DIRECTORY"))?;
    let (manual, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&manual)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(definition(), &manual)?;
    for (shell, file) in [
        (Shell::Bash, "iotmonitor-recorder"),
        (Shell::Zsh, "_iotmonitor-recorder"),
        (Shell::Fish, "iotmonitor-recorder.fish"),
    ] {
        let mut output = Vec::new();
        clap_complete::generate(shell, &mut definition(), "iotmonitor-recorder", &mut output);
        fs::write(completions.join(file), output)?;
    }
    Ok(())
}
