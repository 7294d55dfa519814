//! The walls between modules: who may know whom.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folder or file below `src`, the modules of this crate it may name, the crates it may name.
/// `std` is free to all but the core.
const WALLS: &[(&str, &[&str], &[&str])] = &[
    ("topic", &["topic"], &["bytes", "hashbrown", "serde", "thiserror"]),
    ("monitor", &["monitor", "topic", "unit_name"], &["bytes", "serde", "serde_json", "thiserror"]),
    ("unit_name", &["unit_name"], &["thiserror"]),
    ("pulse", &["pulse"], &[]),
    (
        "config",
        &["config", "http::settings", "monitor", "mqtt::settings", "secret", "topic", "unit_name"],
        &["nix", "serde", "strsim", "thiserror", "toml"],
    ),
    (
        "mqtt",
        &["mqtt", "monitor", "secret", "topic", "pulse"],
        &["bytes", "futures_util", "rumqttc", "rumqttc_v4", "rustls", "thiserror", "tokio"],
    ),
    (
        "store",
        &["store", "monitor", "topic", "pulse"],
        &[
            "bytes",
            "crc32fast",
            "heed",
            "nix",
            "serde",
            "serde_json",
            "siphasher",
            "thiserror",
            "tokio",
        ],
    ),
    (
        "systemd",
        &["systemd", "dbus", "monitor", "topic", "unit_name", "pulse"],
        &["futures_util", "nix", "sd_notify", "serde", "thiserror", "tokio", "zbus"],
    ),
    ("dbus", &["dbus"], &["tokio", "zbus"]),
    (
        "bus",
        &["bus", "dbus", "monitor", "pulse", "request", "topic", "unit_name"],
        &["bytes", "futures_util", "serde", "thiserror", "tokio", "zbus"],
    ),
    (
        "discovery",
        &["config::time_span", "discovery", "monitor", "topic"],
        &["serde", "serde_json"],
    ),
    ("original", &["original", "topic"], &["nix", "rusty_leveldb", "thiserror", "toml"]),
    (
        "http",
        &["http", "monitor", "pulse", "request", "secret"],
        &[
            "axum",
            "futures_util",
            "hyper",
            "hyper_util",
            "nix",
            "prometheus_client",
            "serde",
            "serde_json",
            "subtle",
            "thiserror",
            "tokio",
            "tokio_io_timeout",
        ],
    ),
    ("request", &["request", "monitor", "topic"], &["thiserror", "tokio"]),
    ("secret", &["secret"], &[]),
    ("logging", &["logging", "monitor"], &["tracing", "tracing_journald", "tracing_subscriber"]),
];

/// What the core must not touch of `std`.
const NOT_IN_THE_CORE: &[&str] = &[
    "Instant",
    "SystemTime",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::io",
    "Mutex",
    "RwLock",
    "OnceLock",
    "LazyLock",
    "Condvar",
    "mpsc",
    "Atomic",
    "HashMap",
    "HashSet",
    "async ",
    "println!",
    "panic!",
    "unwrap()",
];

#[test]
fn modules_import_only_what_their_wall_lets_through() {
    let mut broken = Vec::new();
    for (module, own, crates) in WALLS {
        for file in sources_of(module) {
            for path in imported_paths(&code_of(&file)) {
                if !is_allowed(&path, own, crates) {
                    broken.push(format!("{} names `{path}`", file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "walls are broken:\n{}", broken.join("\n"));
}

#[test]
fn the_core_touches_no_clock_no_io_and_no_unordered_collection() {
    let mut broken = Vec::new();
    for module in ["monitor", "topic"] {
        for file in sources_of(module) {
            let code = code_of(&file);
            for word in NOT_IN_THE_CORE.iter().filter(|word| code.contains(**word)) {
                broken.push(format!("{} has `{word}`", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "the core is not pure:\n{}", broken.join("\n"));
}

#[test]
fn every_module_says_its_duty() {
    let silent: Vec<String> = sources_of("")
        .into_iter()
        .filter(|file| !std::fs::read_to_string(file).unwrap().starts_with("//!"))
        .map(|file| file.display().to_string())
        .collect();
    assert!(silent.is_empty(), "these files begin without `//!`:\n{}", silent.join("\n"));
}

#[test]
fn every_walled_module_exists() {
    for (module, _, _) in WALLS {
        assert!(!sources_of(module).is_empty(), "there is no module `{module}`");
    }
}

/// All source files of a module; of the whole crate for the empty name.
fn sources_of(module: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeSet::new();
    let single = src.join(format!("{module}.rs"));
    if !module.is_empty() && single.exists() {
        found.insert(single);
    }
    let mut folders = vec![src.join(module)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.insert(path);
            }
        }
    }
    found.into_iter().collect()
}

/// The code without comments and without the unit tests at the end of a file.
fn code_of(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Everything behind `use`, and every path in the code that begins with `crate::`.
fn imported_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest: String =
            code[at..].chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
        paths.push(rest);
    }
    for statement in code.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("use ")
    }) {
        let end = statement.find(['{', ';']).unwrap_or(statement.len());
        paths.push(statement[..end].trim_end_matches("::").trim().to_owned());
    }
    paths
}

fn is_allowed(path: &str, own: &[&str], crates: &[&str]) -> bool {
    if let Some(inside) = path.strip_prefix("crate::") {
        return own.iter().any(|module| {
            inside
                .strip_prefix(module)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        });
    }
    let first = path.split("::").next().unwrap_or_default();
    // A path that begins with a type or a sibling module stays inside the same wall.
    let is_a_dependency = DEPENDENCIES.contains(&first);
    !is_a_dependency || crates.contains(&first)
}

/// The crates that a wall can keep out.
const DEPENDENCIES: &[&str] = &[
    "axum",
    "base64",
    "bytes",
    "clap",
    "crc32fast",
    "futures_util",
    "hashbrown",
    "heed",
    "hyper",
    "hyper_util",
    "indicatif",
    "nix",
    "prometheus_client",
    "rumqttc",
    "rumqttc_v4",
    "rustls",
    "rusty_leveldb",
    "sd_notify",
    "serde",
    "serde_json",
    "siphasher",
    "strsim",
    "subtle",
    "thiserror",
    "tokio",
    "tokio_io_timeout",
    "toml",
    "tracing",
    "tracing_journald",
    "tracing_subscriber",
    "zbus",
];
