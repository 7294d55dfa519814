//! Why an agent cannot be started, in systemd's own words, in every try and on each release.

use super::harness::{Entry, Machine, config};
use std::time::Duration;

/// Agents of each kind: whether their starts can be distinguished is a matter of moments.
const TRIES: usize = 6;

/// What is wrong in a section, and what its alert has to say.
const WRONGS: [(&str, &str, &[&str]); 5] = [
    (
        "file",
        "exec = 'sleep 9d'\nenvironmentFile = '/nothere.env'\n",
        &["could not read /nothere.env"],
    ),
    ("user", "exec = 'sleep 9d'\nuser = 'ghost'\n", &["217", "USER"]),
    ("program", "exec = ['/nothere']\n", &["203", "EXEC"]),
    ("place", "exec = 'sleep 9d'\nworkingDirectory = '/nothere'\n", &["200", "CHDIR"]),
    ("exit", "exec = 'exit 7'\n", &["exited with 7"]),
];

fn every_try_has_its_reason(suite: &str) {
    let machine = Machine::boot_suite(suite);
    let mut sections = String::new();
    for (kind, section, _) in WRONGS {
        for number in 0..TRIES {
            sections.push_str(&format!("[agent_{kind}{number}]\n{section}"));
        }
    }
    machine.launch(&config("auto", &sections));
    let mut missing = Vec::new();
    for (kind, _, words) in WRONGS {
        for number in 0..TRIES {
            let name = format!("{kind}{number}");
            let what = format!("the alert of {name}");
            let alert =
                machine.journal().wait_for_within(&what, Duration::from_secs(60), |entry| {
                    entry.is_alert("agent-failed", &name)
                });
            if !words.iter().all(|word| alert.message().contains(word)) {
                missing.push(format!("{name}: {}", alert.message()));
            }
        }
    }
    let all = machine.journal().now(&machine, |entry: &Entry| entry.is_alert("agent-failed", ""));
    assert_eq!(all.len(), WRONGS.len() * TRIES, "one alert each");
    let said = "systemd says: Failed to load environment files: No such file or directory";
    assert!(all.iter().any(|alert| alert.message().contains(said)), "{said}");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn on_debian_12() {
    every_try_has_its_reason("bookworm");
}

#[test]
fn on_debian_13() {
    every_try_has_its_reason("trixie");
}
