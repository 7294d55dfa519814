//! The walls inside the program: adapters know the core and never each other.
//!
//! What the core may know is kept by Cargo and by clippy (`core/Cargo.toml`, `core/clippy.toml`);
//! here it is pinned what they let through.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Folder or file below `src`, the modules of this crate it may name, the crates it may name.
/// `std` is free to all. What is not listed (`cli`, `daemon`) may know everything.
const WALLS: &[(&str, &[&str], &[&str])] = &[
    ("pulse", &["pulse"], &[]),
    (
        "config",
        &[
            "cluster::settings",
            "config",
            "etcd::settings",
            "http::settings",
            "mqtt::settings",
            "printable",
            "secret",
            "time_span",
            "tls::TlsFiles",
            "tls::certificates",
            "trusted_path",
        ],
        &["iotmonitor_core", "nix", "serde", "strsim", "thiserror", "toml"],
    ),
    (
        "mqtt",
        &["mqtt", "secret", "pulse", "tls"],
        &[
            "async_tungstenite",
            "bytes",
            "fastrand",
            "futures_util",
            "iotmonitor_core",
            "nix",
            "rumqttc",
            "rumqttc_core",
            "rumqttc_v4",
            "socket2",
            "thiserror",
            "tokio",
            "webpki",
        ],
    ),
    (
        "store",
        &["store", "bounded", "lmdb", "pulse"],
        &["bytes", "heed", "iotmonitor_core", "serde", "serde_json", "thiserror", "tokio"],
    ),
    (
        "history",
        &["age_clock", "history", "lmdb", "pulse"],
        &["heed", "iotmonitor_core", "serde", "serde_json", "tokio"],
    ),
    ("age_clock", &["age_clock"], &[]),
    ("bounded", &["bounded"], &[]),
    (
        "cluster",
        &["cluster", "etcd", "pulse"],
        // With `tempfile` in its tests.
        &["iotmonitor_core", "nix", "serde", "serde_json", "tempfile", "thiserror", "tokio"],
    ),
    (
        "etcd",
        &["etcd", "secret", "tls"],
        &[
            "base64",
            "bytes",
            "http_body_util",
            "hyper",
            "hyper_util",
            "iotmonitor_core",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
        ],
    ),
    ("guard", &["guard"], &["iotmonitor_core", "nix", "thiserror"]),
    // With `tempfile` in its tests.
    (
        "lmdb",
        &["lmdb", "mapped_files", "pulse"],
        &["heed", "nix", "siphasher", "tempfile", "thiserror"],
    ),
    // With `tempfile` in its tests.
    ("mapped_files", &["mapped_files"], &["nix", "tempfile"]),
    (
        "systemd",
        &["systemd", "dbus", "printable", "pulse", "request", "trusted_path"],
        &[
            "futures_util",
            "iotmonitor_core",
            "nix",
            "sd_notify",
            "serde",
            "serde_json",
            "tempfile",
            "thiserror",
            "tokio",
            "zbus",
        ],
    ),
    ("dbus", &["dbus"], &["iotmonitor_core", "tokio", "zbus"]),
    (
        "bus",
        &["bus", "dbus", "pulse", "request"],
        &[
            "bytes",
            "futures_util",
            "iotmonitor_core",
            "nix",
            "serde",
            // In its tests, with the next.
            "roxmltree",
            "tempfile",
            "thiserror",
            "tokio",
            "zbus",
        ],
    ),
    (
        "discovery",
        &["discovery", "printable", "time_span"],
        &["iotmonitor_core", "serde", "serde_json", "toml_writer"],
    ),
    ("original", &["original"], &["crc32c", "iotmonitor_core", "nix", "snap", "thiserror", "toml"]),
    (
        "http",
        &["http", "pulse", "recorder", "request", "printable", "secret", "time_span"],
        &[
            "axum",
            "flate2",
            "form_urlencoded",
            "futures_util",
            "hyper",
            "hyper_util",
            "iotmonitor_core",
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
    ("recorder", &["printable", "recorder"], &["serde", "serde_json", "thiserror"]),
    ("request", &["request"], &["iotmonitor_core", "thiserror", "tokio"]),
    ("secret", &["secret"], &[]),
    (
        "logging",
        &["logging", "bounded", "printable", "terminal"],
        &["iotmonitor_core", "nix", "tracing", "tracing_journald", "tracing_subscriber"],
    ),
    ("machine_id", &["machine_id"], &["nix", "siphasher"]),
    ("printable", &["printable"], &[]),
    ("terminal", &["terminal"], &[]),
    ("time_span", &["time_span"], &["thiserror"]),
    // rustls is the one that comes with the broker's client.
    ("tls", &["tls"], &["rumqttc", "rustls_native_certs", "thiserror", "webpki"]),
    ("trusted_path", &["trusted_path"], &[]),
];

/// The crates that the core depends on: none of them does anything by itself.
const CRATES_OF_THE_CORE: &[&str] =
    &["base64", "bytes", "hashbrown", "serde", "serde_json", "siphasher", "thiserror"];

/// What the core names of std: values, and nothing that looks at the world.
const STD_OF_THE_CORE: &[&str] = &[
    "std::borrow",
    "std::cmp",
    "std::collections::BTreeMap",
    "std::collections::BTreeSet",
    "std::collections::BinaryHeap",
    "std::collections::VecDeque",
    "std::fmt",
    "std::hash::BuildHasher",
    "std::hash::Hash",
    "std::hash::Hasher",
    "std::iter",
    "std::mem",
    "std::num",
    "std::ops",
    "std::path::PathBuf",
    "std::str",
    "std::sync::Arc",
    "std::time::Duration",
];

#[test]
fn modules_name_only_what_their_wall_lets_through() {
    let dependencies = dependencies("Cargo.toml");
    let mut broken = Vec::new();
    for (module, own, crates) in WALLS {
        for file in sources_of("src", module) {
            for path in paths_of(&code_of(&file), &module_of(&file)) {
                if !is_allowed(&path, own, crates, &dependencies) {
                    broken.push(format!("{} names `{path}`", file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "walls are broken:\n{}", broken.join("\n"));
}

#[test]
fn the_core_depends_on_nothing_that_acts() {
    let allowed: BTreeSet<String> = CRATES_OF_THE_CORE.iter().map(|&name| name.into()).collect();
    assert_eq!(dependencies("core/Cargo.toml"), allowed);
}

#[test]
fn the_core_names_of_std_only_values() {
    let mut broken = Vec::new();
    for file in sources_of("core/src", "") {
        for path in paths_of(&code_of(&file), &module_of(&file)) {
            let of_std = ["std::", "core::", "alloc::"].iter().any(|root| path.starts_with(root));
            if of_std && !STD_OF_THE_CORE.iter().any(|allowed| is_within(&path, allowed)) {
                broken.push(format!("{} names `{path}`", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "the core is not pure:\n{}", broken.join("\n"));
}

#[test]
fn every_way_to_name_a_module_or_a_crate_is_seen() {
    let code = "use crate::{store::Disk, pulse};
        use tokio::sync::{mpsc, oneshot as once};
        pub(super) use super::super::systemd::units::Unit;
        use zbus;
        fn f(x: super::task::Task) -> rumqttc_v4::Event {
            let text = \"heed::Env\"; // hyper::Body
            tokio::spawn(crate::http::serve(<nix::Errno as Into>::into(x), self::g()))
        }";
    let seen = paths_of(code, "mqtt::wire");
    let expected = [
        "crate::http::serve",
        "crate::mqtt::task::Task",
        "crate::mqtt::wire::g",
        "crate::pulse",
        "crate::store::Disk",
        "crate::systemd::units::Unit",
        "nix::Errno",
        "rumqttc_v4::Event",
        "tokio::spawn",
        "tokio::sync::mpsc",
        "tokio::sync::oneshot",
        "zbus",
    ];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn every_module_says_its_duty() {
    let sources = ["src", "core/src", "recorder/src"].into_iter();
    let sources = sources.flat_map(|folder| sources_of(folder, ""));
    let silent: Vec<String> = sources
        .filter(|file| !std::fs::read_to_string(file).unwrap().starts_with("//!"))
        .map(|file| file.display().to_string())
        .collect();
    assert!(silent.is_empty(), "these files begin without `//!`:\n{}", silent.join("\n"));
}

#[test]
fn no_module_is_a_mod_file() {
    let sources = ["src", "core/src", "recorder/src"].into_iter();
    let sources = sources.flat_map(|folder| sources_of(folder, ""));
    let found: Vec<String> = sources
        .filter(|file| file.file_name().is_some_and(|name| name == "mod.rs"))
        .map(|file| file.display().to_string())
        .collect();
    assert!(found.is_empty(), "a module is `foo.rs` with `foo/` beside it:\n{}", found.join("\n"));
}

/// A name that other files can use means one thing in the whole program, so that a type in an error
/// message or in a search is the one that is meant. A private type may share its name with another
/// private one only.
#[test]
fn every_public_name_of_a_type_is_declared_once() {
    let sources = sources_of("src", "").into_iter().chain(sources_of("core/src", ""));
    let declared = declarations(sources.map(|file| {
        let code = std::fs::read_to_string(&file).unwrap();
        (file.display().to_string(), code)
    }));
    let shared = shared_names(&declared);
    assert!(shared.is_empty(), "these names mean several things:\n{}", shared.join("\n"));
}

#[test]
fn a_public_name_that_is_declared_twice_is_found() {
    let declared = declarations([
        ("a.rs".to_owned(), "pub(super) struct Stage<'a> {}\nstruct Row;\nenum Kind {}".to_owned()),
        ("b.rs".to_owned(), "impl X for Y {\n    type Stage = u8;\n}\nstruct Row;".to_owned()),
        ("c.rs".to_owned(), "fn f() {\n    struct Stage;\n}\n// pub enum Kind\n".to_owned()),
    ]);
    assert_eq!(shared_names(&declared), ["Stage: a.rs, c.rs"]);
}

/// A file and its folder are one module to the outside, and a child may name what its parent holds;
/// between files beside each other the imports go one way.
#[test]
fn no_modules_import_each_other_in_a_circle() {
    for folder in ["src", "core/src", "recorder/src"] {
        let circles = circles(&imports(sources_of(folder, "").into_iter().map(|file| {
            let module = module_of(&file);
            let paths = paths_of(&code_of(&file), &module);
            (module, paths)
        })));
        assert!(circles.is_empty(), "{folder} has circles:\n{}", circles.join("\n"));
    }
}

#[test]
fn a_circle_is_found_and_a_parent_may_know_its_children() {
    let module = |name: &str, paths: &[&str]| {
        (name.to_owned(), paths.iter().map(|path| (*path).to_owned()).collect::<BTreeSet<_>>())
    };
    let modules = [
        module("a", &["crate::b::f"]),
        module("b", &["crate::c::d::T", "std::fmt"]),
        module("c", &["crate::c::d::T"]),
        module("c::d", &["crate::c::U", "crate::a"]),
        module("e", &["crate::b::f"]),
    ];
    assert_eq!(circles(&imports(modules)), ["a, b, c"]);
    let modules = [
        module("c", &["crate::c::d", "crate::c::e"]),
        module("c::d", &["crate::c::e::T", "crate::c::U"]),
        module("c::e", &["crate::c::d::T", "crate::c::U"]),
    ];
    assert_eq!(circles(&imports(modules)), ["c::d, c::e"]);
}

#[test]
fn every_walled_module_exists() {
    for (module, _, _) in WALLS {
        assert!(!sources_of("src", module).is_empty(), "there is no module `{module}`");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The crates that a package depends on when it runs, as the code names them.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(manifest)).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    manifest["dependencies"].as_table().unwrap().keys().map(|name| name.replace('-', "_")).collect()
}

/// The files that declare each name of a type, and whether one of them lets others use it. The
/// associated types of a trait are indented and are none.
fn declarations(
    sources: impl IntoIterator<Item = (String, String)>,
) -> BTreeMap<String, (bool, Vec<String>)> {
    let mut declared: BTreeMap<String, (bool, Vec<String>)> = BTreeMap::new();
    for (file, code) in sources {
        for line in code.lines() {
            let words = line.trim_start();
            let is_public = words.starts_with("pub");
            let mut words = words.split(' ').skip_while(|word| {
                word.starts_with("pub") || word.ends_with(')') || *word == "unsafe"
            });
            let is_type = match words.next() {
                Some("struct" | "enum" | "union" | "trait") => true,
                Some("type") => !line.starts_with(' '),
                _ => false,
            };
            let rest = words.next().filter(|_| is_type).unwrap_or_default();
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            if end > 0 {
                let entry = declared.entry(rest[..end].to_owned()).or_default();
                entry.0 |= is_public;
                entry.1.push(file.clone());
            }
        }
    }
    declared
}

/// Those that are declared more than once and are not private everywhere.
fn shared_names(declared: &BTreeMap<String, (bool, Vec<String>)>) -> Vec<String> {
    let shared = declared.iter().filter(|(_, (is_public, files))| *is_public && files.len() > 1);
    shared.map(|(name, (_, files))| format!("{name}: {}", files.join(", "))).collect()
}

/// Which modules each module of a crate names. An import between `a::b::c` and `a::d` is one between
/// `a::b` and `a::d`, which are beside each other; one between a module and what is below it is none.
fn imports(
    files: impl IntoIterator<Item = (String, BTreeSet<String>)>,
) -> BTreeMap<String, BTreeSet<String>> {
    let files: Vec<_> = files.into_iter().collect();
    let modules: BTreeSet<&str> = files.iter().map(|(module, _)| module.as_str()).collect();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, paths) in &files {
        for path in paths.iter().filter_map(|path| path.strip_prefix("crate::")) {
            let mut named = path;
            while !modules.contains(named) {
                match named.rsplit_once("::") {
                    Some((above, _)) => named = above,
                    None => break,
                }
            }
            let (from, to): (Vec<&str>, Vec<&str>) =
                (module.split("::").collect(), named.split("::").collect());
            let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if common < from.len() && common < to.len() && modules.contains(named) {
                let beside = |parts: &[&str]| parts[..=common].join("::");
                imports.entry(beside(&from)).or_default().insert(beside(&to));
            }
        }
    }
    imports
}

/// The sets of modules that reach each other.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let reach = |from: &str| {
        let mut reached = BTreeSet::new();
        let mut next = vec![from.to_owned()];
        while let Some(module) = next.pop() {
            for named in imports.get(&module).into_iter().flatten() {
                if reached.insert(named.clone()) {
                    next.push(named.clone());
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&String, _> = imports.keys().map(|name| (name, reach(name))).collect();
    let circles: BTreeSet<String> = reached
        .iter()
        .filter(|(module, reached_from_it)| reached_from_it.contains(**module))
        .map(|(module, reached_from_it)| {
            let back = |other: &&String| reached.get(*other).is_some_and(|it| it.contains(*module));
            reached_from_it.iter().filter(back).cloned().collect::<Vec<_>>().join(", ")
        })
        .collect();
    circles.into_iter().collect()
}

/// All source files of a module below a folder; of the whole folder for the empty name.
fn sources_of(folder: &str, module: &str) -> Vec<PathBuf> {
    let src = root().join(folder);
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

/// The path of a file's module inside its crate, `mqtt::wire` for `src/mqtt/wire.rs`.
fn module_of(file: &Path) -> String {
    let below = file.strip_prefix(root()).unwrap().with_extension("");
    let parts: Vec<&str> = below.iter().map(|part| part.to_str().unwrap()).collect();
    let parts = parts.rsplit(|part| *part == "src").next().unwrap();
    parts.iter().filter(|part| **part != "lib").copied().collect::<Vec<_>>().join("::")
}

/// The code without comments and without the unit tests at the end of a file.
fn code_of(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()
}

/// Every path of two parts or more and every import in the code of a module, from the root of its
/// crate or of another: `use`, inline, in groups, and by way of `super` and `self`. A path that
/// begins with something else, such as a type, is left out unless it is imported.
fn paths_of(code: &str, module: &str) -> BTreeSet<String> {
    let tokens = tokens(code);
    let mut paths = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" {
            at = use_tree(&tokens, at + 1, "", module, &mut paths);
            continue;
        }
        let begins = is_name(&tokens[at]) && (at == 0 || tokens[at - 1] != "::");
        let mut path = tokens[at].clone();
        at += 1;
        if !begins {
            continue;
        }
        let first = at;
        while at + 1 < tokens.len() && tokens[at] == "::" && is_name(&tokens[at + 1]) {
            path = format!("{path}::{}", tokens[at + 1]);
            at += 2;
        }
        if at > first && path.starts_with(|c: char| c.is_ascii_lowercase()) {
            paths.insert(from_the_root(&path, module));
        }
    }
    paths
}

/// Takes in one tree of a `use` from this token on; gives the place behind it.
fn use_tree(
    tokens: &[String],
    mut at: usize,
    before: &str,
    module: &str,
    paths: &mut BTreeSet<String>,
) -> usize {
    let mut path = before.to_owned();
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => {
                at += 1;
                while at < tokens.len() && tokens[at] != "}" {
                    at = use_tree(tokens, at, &path, module, paths);
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            "as" => at += 2,
            "::" | "*" => at += 1,
            name if is_name(name) => {
                let joint = if path.is_empty() { "" } else { "::" };
                path = format!("{path}{joint}{name}");
                at += 1;
            }
            _ => break,
        }
    }
    paths.insert(from_the_root(&path, module));
    at
}

/// Resolves `self` and `super` at the beginning.
fn from_the_root(path: &str, module: &str) -> String {
    let mut here: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut rest: Vec<&str> = path.split("::").collect();
    if !matches!(rest[0], "self" | "super") {
        return path.to_owned();
    }
    while let Some(up) = rest.first().filter(|part| matches!(**part, "self" | "super")) {
        if *up == "super" {
            here.pop();
        }
        rest.remove(0);
    }
    [&["crate"][..], &here, &rest].concat().join("::")
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::` and single characters, without comments and strings.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| 3 + end + 2)
        } else if first == '"' {
            end_of_string(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else if first.is_whitespace() {
            first.len_utf8()
        } else {
            let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = if rest.starts_with("::") { 2 } else { name.max(first.len_utf8()) };
            tokens.push(rest[..length].to_owned());
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the string literal that the code begins with.
fn end_of_string(code: &str) -> usize {
    let mut is_escaped = false;
    let end = code.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        ends
    });
    end.map_or(code.len(), |(at, _)| at + 1)
}

fn is_allowed(path: &str, own: &[&str], crates: &[&str], dependencies: &BTreeSet<String>) -> bool {
    if let Some(inside) = path.strip_prefix("crate::") {
        return own.iter().any(|module| is_within(inside, module));
    }
    let first = path.split("::").next().unwrap_or_default();
    // A path that begins with a sibling module stays inside the same wall.
    !dependencies.contains(first) || crates.contains(&first)
}

/// Whether a path names this module or something in it.
fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
