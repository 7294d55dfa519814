//! The sections that all nodes of a cluster share, beside a node's own file.

use super::{MQTT, system};
use iotmonitor::cli::check::{EXIT_CONFIG, check};
use iotmonitor::config::{
    COPY, ConfigErrors, Environment, GivenSections, Loaded, keep_copy, load, load_with,
};
use iotmonitor_core::model::cluster::NodeName;
use iotmonitor_core::model::cluster::orders::OrderStamp;
use iotmonitor_core::model::cluster::sections::{SectionsVersion, SharedSections};
use std::fs;
use std::path::{Path, PathBuf};

const CLUSTER: &str =
    "[cluster]\nname = \"house\"\nnode = \"pi1\"\nendpoints = \"http://127.0.0.1:2379\"\n";
const OWN: &str = "[device_own]\nwatchTopics = \"own\"\n";
const LAMP: &str = "[device_lamp]\nwatchTopics = \"lamp\"\n";
const ROOT: &str = "[agent_pump]\nexec = \"/bin/pump\"\nuser = \"root\"\n";

/// A node with a file of its own.
struct Node {
    directory: tempfile::TempDir,
}

impl Node {
    fn new(own: &str) -> Self {
        let node = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(node.path("config.toml"), format!("{MQTT}{own}")).unwrap();
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn environment(&self) -> Environment {
        Environment { shared_copy: Some(self.path(COPY)), ..system() }
    }

    fn keep(&self, text: &str) -> SectionsVersion {
        let version = SectionsVersion {
            number: 7,
            stamp: OrderStamp { stamp: 1 },
            given: 0,
            by: NodeName::new("pi2").unwrap(),
            bytes: text.len(),
            chunks: 1,
        };
        let sections = SharedSections { version: version.clone(), text: text.into() };
        keep_copy(&self.path(COPY), &sections).unwrap();
        version
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        load(&self.path("config.toml"), &self.environment())
    }

    /// The findings about sections that are given, with their files and lines.
    fn given(&self, text: &str) -> Vec<String> {
        let given = GivenSections { path: Path::new("house.toml"), text };
        match load_with(&self.path("config.toml"), &self.environment(), given) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.errors().iter().map(|error| error.one_line()).collect(),
        }
    }
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.config.monitor.devices.iter().map(|device| device.name.as_str()).collect()
}

#[test]
fn a_node_uses_its_copy_with_its_own_file() {
    let node = Node::new(&format!("{CLUSTER}{OWN}"));
    let loaded = node.load().unwrap();
    assert_eq!((names(&loaded), &loaded.shared), (vec!["own"], &None));
    let version = node.keep(&format!("{LAMP}dependsOn = \"own\"\n"));
    let loaded = node.load().unwrap();
    assert_eq!(names(&loaded), ["own", "lamp"]);
    let shared = loaded.shared.unwrap();
    assert_eq!((shared.version, shared.sections), (Some(version), 1));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    // Without a version, whatever etcd has is another one.
    fs::write(node.path(COPY), LAMP).unwrap();
    assert_eq!(node.load().unwrap().shared.unwrap().version, None);
}

#[test]
fn a_machine_that_is_no_node_passes_the_copy_over() {
    let node = Node::new(OWN);
    fs::write(node.path(COPY), "not TOML").unwrap();
    let loaded = node.load().unwrap();
    assert_eq!((names(&loaded), &loaded.shared), (vec!["own"], &None));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
}

#[test]
fn a_copy_that_cannot_be_read_is_left_out_with_a_warning() {
    let node = Node::new(&format!("{CLUSTER}{OWN}"));
    fs::create_dir(node.path(COPY)).unwrap();
    let loaded = node.load().unwrap();
    assert_eq!(names(&loaded), ["own"]);
    let [warning] = loaded.warnings.as_slice() else { panic!("{}", loaded.warnings) };
    assert!(warning.message.contains("are left out: ") && warning.message.contains(COPY));
}

#[test]
fn what_belongs_into_the_file_of_each_node_is_not_shared() {
    let node = Node::new(CLUSTER);
    let fleet = "[fleet_esp]\nnames = [\"a\", \"b\"]\nwatchTopics = \"{name}/#\"\n";
    assert_eq!(node.given(&format!("{LAMP}{fleet}[agent_a1]\nexec = \"/bin/true\"\n")), [""; 0]);
    assert_eq!(node.given(""), [""; 0]);
    for section in ["mqtt", "cluster", "http", "alerts", "history", "homeassistant", "devise_x"] {
        let said = node.given(&format!("{LAMP}[{section}]\npassword = \"hunter2\"\n"));
        let [said] = said.as_slice() else { panic!("{section}: {said:?}") };
        let expected = format!("house.toml:3:2: the section [{section}] cannot be shared (");
        assert!(said.starts_with(&expected) && !said.contains("hunter2"), "{said}");
    }
    let said = node.given("watchTimeOut = 5\n");
    assert!(said[0].contains("the key `watchTimeOut` is outside any section"), "{said:?}");
}

#[test]
fn a_section_is_in_one_of_the_two() {
    let node = Node::new(&format!("{CLUSTER}{OWN}"));
    let said = node.given(&format!("{LAMP}{OWN}"));
    let [said] = said.as_slice() else { panic!("{said:?}") };
    assert!(said.starts_with("house.toml:3:2: the section [device_own] is in two files"), "{said}");
    assert!(said.contains("config.toml"), "{said}");
    // A name may not be that of an agent either.
    let said = node.given("[agent_own]\nexec = \"/bin/true\"\n");
    assert!(said[0].contains("would share the name `own`"), "{said:?}");
}

#[test]
fn agents_of_root_need_the_consent_of_each_node() {
    let node = Node::new(CLUSTER);
    let said = node.given(&format!("{LAMP}{ROOT}"));
    let [said] = said.as_slice() else { panic!("{said:?}") };
    let expected = "[agent_pump] would run as root, which this node does not allow";
    assert!(said.contains(expected) && said.contains("allowRootAgents = true"), "{said}");
    // A pin to this node is no consent of it, and what never runs here needs none.
    assert_eq!(node.given(&format!("{ROOT}nodes = \"pi1\"\n")).len(), 1);
    assert_eq!(node.given(&format!("{ROOT}nodes = \"pi2\"\n")), [""; 0]);
    assert_eq!(node.given(&format!("{ROOT}nodes = [\"pi2\", \"nas\"]\n")), [""; 0]);
    let without = ROOT.replace("user = \"root\"\n", "");
    assert_eq!(node.given(&without), [""; 0], "without a user it is not root");
    let consents = Node::new(&format!("{CLUSTER}allowRootAgents = true\n"));
    assert_eq!(consents.given(ROOT), [""; 0]);
    // The node's own file needs none for what runs here alone.
    let own = Node::new(&format!("{CLUSTER}{ROOT}nodes = \"pi1\"\n"));
    assert!(own.load().is_ok());
}

#[test]
fn check_says_what_is_shared_and_refuses_a_copy_that_does_not_fit() {
    let node = Node::new(&format!("{CLUSTER}{OWN}"));
    let checked = || {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check(&node.path("config.toml"), &node.environment(), &mut out, &mut err);
        (code, String::from_utf8(out).unwrap() + &String::from_utf8(err).unwrap())
    };
    node.keep(LAMP);
    let (code, said) = checked();
    assert_eq!(code, 0, "{said}");
    let expected = "ok, 2 devices; 1 section of version 7 of those that all nodes share\n";
    assert!(said.ends_with(expected), "{said}");
    node.keep(OWN);
    let (code, said) = checked();
    assert_eq!(code, EXIT_CONFIG, "{said}");
    assert!(said.contains("[device_own] is in two files") && said.contains(COPY), "{said}");
}
