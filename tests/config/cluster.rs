//! The section `[cluster]`.

use super::{MQTT, certificates, errors, parsed, system};
use iotmonitor::config::{ConfigErrors, Environment, Instance, load, parse};
use std::path::Path;

const WHOLE: &str = "[cluster]\nname = \"house\"\nnode = \"pi1\"\nstandby = \"cold\"\nfailoverAfter = \"12s\"\n\
    endpoints = [\"https://pi1:2379\", \"https://nas\"]\ncertFile = \"a.pem\"\nkeyFile = \"b.pem\"\n";

/// The errors of these sections beside the one of the broker, if any.
fn found(text: &str) -> Vec<(usize, String)> {
    match parse(&format!("{MQTT}{text}"), Path::new("/etc/iotmonitor/config.toml"), &system()) {
        Err(ConfigErrors::Invalid { errors, .. }) => {
            errors.iter().map(|error| (error.line, error.message.clone())).collect()
        }
        Err(error) => panic!("{error}"),
        Ok(_) => Vec::new(),
    }
}

#[test]
fn a_whole_cluster_is_accepted_and_a_part_of_one_is_not() {
    assert!(parsed(&format!("{MQTT}{WHOLE}")).config.cluster.is_some());
    let local =
        "[cluster]\nname = \"house\"\nnode = \"pi1\"\nendpoints = \"http://127.0.0.1:2379\"\n";
    let config = parsed(&format!("{MQTT}{local}")).config;
    assert_eq!(config.cluster.unwrap().node.as_str(), "pi1");
    let missing: Vec<_> = found("[cluster]\n").into_iter().map(|(_, message)| message).collect();
    assert_eq!(missing[..2], ["[cluster] has no `name`", "[cluster] has no `endpoints`"]);
}

#[test]
fn each_wrong_value_is_an_error_in_its_line() {
    for (wrong, told) in [
        ("name = \"a/b\"", "`a/b` may not contain '/'"),
        ("node = \"a#\"", "the node name \"a#\" may not contain"),
        ("node = 7", "node must be a string"),
        ("endpoints = \"pi1:2379\"", "is not an address"),
        ("endpoints = \"tcp://pi1:2379\"", "etcd is reached by `https://`"),
        ("failoverAfter = \"7s\"", "set failoverAfter to 8s or more"),
        ("failoverAfter = \"2h\"", "shorten failoverAfter"),
        ("standby = \"hod\"", "did you mean `hot`?"),
        ("allowRootAgents = \"yes\"", "allowRootAgents must be true or false"),
        ("user = \"pi\"", "user is set without passwordFile"),
        ("failoverafter = \"8s\"", "did you mean `failoverAfter`?"),
    ] {
        let key = wrong.split(' ').next().unwrap();
        let rest: String = WHOLE
            .lines()
            .skip(1)
            .filter(|line| line.split(' ').next() != Some(key))
            .map(|line| format!("{line}\n"))
            .collect();
        let all = found(&format!("[cluster]\n{wrong}\n{rest}"));
        assert_eq!(all.len(), 1, "{wrong}: {all:?}");
        assert!(all[0].0 == 4 && all[0].1.contains(told), "{wrong}: {all:?}");
    }
}

#[test]
fn what_goes_over_the_network_needs_tls_and_authentication() {
    let with = |lines: &str| found(&format!("[cluster]\nname = \"house\"\n{lines}"));
    let open = with(
        "endpoints = [\"http://localhost:2379\", \"http://pi1:2379\"]\ncertFile = \"a\"\nkeyFile = \"b\"\n",
    );
    assert_eq!(open.len(), 1, "{open:?}");
    assert!(open[0].1.contains("http://pi1:2379 is on the network, and without TLS"), "{open:?}");
    let anybody = with("endpoints = \"https://pi1:2379\"\n");
    assert_eq!(anybody.len(), 1, "{anybody:?}");
    assert!(anybody[0].1.contains("lets in everybody"), "{anybody:?}");
    let user = "endpoints = \"https://pi1:2379\"\nuser = \"pi\"\npassword = \"secret\"\n";
    assert_eq!(with(user), []);
    let half = with("endpoints = \"https://pi1:2379\"\ncertFile = \"a\"\n");
    assert!(half[0].1.contains("certFile is set without keyFile"), "{half:?}");
}

#[test]
fn agents_that_machines_share_end_quickly_and_are_not_root() {
    let agents = "[agent_a]\nexec = \"/bin/a\"\nuser = \"root\"\n[agent_b]\nexec = \"/bin/b\"\nstopTimeout = \"2s\"\n\
        [agent_c]\nexec = \"/bin/c\"\nstopTimeout = \"1s\"\n";
    let all = found(&format!("{WHOLE}{agents}"));
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].1.contains("[agent_a] would run as root on each machine"), "{all:?}");
    assert!(all[1].1.contains("stopTimeout = `2s` is too long"), "{all:?}");
    let allowed = found(&format!("{WHOLE}allowRootAgents = true\n{agents}"));
    assert_eq!(allowed.len(), 1, "{allowed:?}");
}

#[test]
fn what_runs_on_one_node_alone_is_not_shared() {
    let pinned =
        "[agent_a]\nexec = \"/bin/a\"\nuser = \"root\"\nstopTimeout = \"2s\"\nnodes = [\"pi1\"]\n";
    assert_eq!(found(&format!("{WHOLE}{pinned}")), []);
    assert_eq!(found(&format!("{WHOLE}{}", pinned.replace("[\"pi1\"]", "\"pi1\""))), []);
    let two = pinned.replace("\"pi1\"", "\"pi1\", \"pi2\"");
    assert_eq!(found(&format!("{WHOLE}{two}")).len(), 2);
    let useless = found(&format!("{WHOLE}{pinned}whenCut = \"keep\"\n"));
    assert_eq!(useless[0].1, "whenCut has no effect on an agent that runs on pi1 alone");
}

#[test]
fn each_wrong_place_of_an_agent_is_an_error_in_its_line() {
    for (wrong, told) in [
        ("nodes = [\"pi 1\"]", "nodes: the node name \"pi 1\" may not contain ' '"),
        ("nodes = []", "[agent_a] may run on no node"),
        ("nodes = [\"pi1\", \"\"]", "nodes: the name of a node is empty"),
        ("nodes = [\"pi1\", \"pi1\"]", "nodes: `pi1` is named twice"),
        ("nodes = 7", "nodes must be a string or a list of strings"),
        ("whenCut = \"keeep\"", "whenCut: `keeep` is unknown, did you mean `keep`?"),
        ("whenCut = true", "whenCut must be a string"),
    ] {
        let all = found(&format!("{WHOLE}[agent_a]\nexec = \"/bin/a\"\n{wrong}\n"));
        assert_eq!(all.len(), 1, "{wrong}: {all:?}");
        assert!(all[0].0 == 13 && all[0].1.contains(told), "{wrong}: {all:?}");
    }
    for right in ["nodes = [\"pi1\", \"pi2.lan\"]\nwhenCut = \"keep\"", "whenCut = \"stop\""] {
        assert_eq!(found(&format!("{WHOLE}[agent_a]\nexec = \"/bin/a\"\n{right}\n")), []);
    }
}

#[test]
fn keys_of_clusters_need_a_cluster_and_an_agent() {
    let agent = "[agent_a]\nexec = \"/bin/a\"\nnodes = \"pi1\"\nwhenCut = \"keep\"\n";
    let found: Vec<_> =
        errors(&format!("{MQTT}{agent}")).into_iter().map(|it| it.message).collect();
    let needs = |key| format!("`{key}` in [agent_a] needs the section [cluster]");
    assert_eq!(found, [needs("nodes"), needs("whenCut")]);
    let device = "[device_a]\nwatchTopics = \"a\"\nnodes = \"pi1\"\n";
    let found = errors(&format!("{MQTT}{device}"));
    assert!(found.len() == 1 && found[0].hint.contains("`nodes` belongs to an agent"), "{found:?}");
}

#[test]
fn a_users_service_manager_has_no_clusters() {
    let environment = Environment { user_manager: true, ..system() };
    let text = format!("{MQTT}{WHOLE}");
    let refused = parse(&text, Path::new("config.toml"), &environment).unwrap_err().to_string();
    assert!(refused.contains("a cluster needs the system's service manager"), "{refused}");
    assert!(parse(MQTT, Path::new("config.toml"), &environment).is_ok());
}

#[test]
fn the_files_of_a_cluster_are_tried_like_those_of_the_broker() {
    let directory = certificates::files();
    let config = directory.path().join("config.toml");
    let warnings = |ca: &str, certificate: &str, key: &str| {
        let keys =
            format!("caFile = \"{ca}\"\ncertFile = \"{certificate}\"\nkeyFile = \"{key}\"\n");
        let text =
            format!("{MQTT}[cluster]\n{keys}name = \"house\"\nendpoints = \"https://pi1\"\n");
        let loaded = parse(&text, &config, &system()).unwrap_or_else(|errors| panic!("{errors}"));
        let found = loaded.warnings.iter();
        found.map(|it| (it.line, format!("{} ({})", it.message, it.hint))).collect::<Vec<_>>()
    };
    assert_eq!(warnings("cert.pem", "cert.pem", "key.pem"), []);
    for (ca, certificate, key, line, message) in [
        ("none.pem", "cert.pem", "key.pem", 4, "etcd cannot be reached until the file exists"),
        ("empty.pem", "cert.pem", "key.pem", 4, "holds no certificate in PEM format"),
        ("cert.pem", "cert.pem", "other.pem", 5, "and its key do not fit"),
        ("cert.pem", "cert.pem", "locked.pem", 6, "is encrypted"),
    ] {
        let found = warnings(ca, certificate, key);
        let [(at, said)] = found.as_slice() else { panic!("{key}: {found:?}") };
        assert!(*at == line && said.contains(message), "{line}: {found:?}");
    }
}

#[test]
fn a_machine_is_one_node_at_most() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |name: &str| {
        let file = directory.path().join(name);
        let config_directory = Some(directory.path().to_owned());
        let instance = Instance::of_file(&file, directory.path());
        load(&file, &Environment { config_directory, instance, ..system() }).is_err_and(|errors| {
            let other = if name == "config.toml" { "garden.toml" } else { "config.toml" };
            let said = errors.to_string();
            assert!(said.contains("a machine can only be one") && said.contains(other), "{said}");
            true
        })
    };
    for name in ["config.toml", "garden.toml"] {
        std::fs::write(directory.path().join(name), MQTT).unwrap();
    }
    let node = format!("{MQTT}{WHOLE}");
    std::fs::write(directory.path().join("config.toml"), &node).unwrap();
    assert!(!refused("config.toml") && !refused("garden.toml"));
    std::fs::write(directory.path().join("garden.toml"), &node).unwrap();
    assert!(refused("config.toml") && refused("garden.toml"));
}
