//! What a monitor is called where its file does not say, and files that share a name.

use super::{MQTT, system};
use iotmonitor::cli::check::check;
use iotmonitor::config::{Environment, Instance, Loaded, parse};
use std::fs;
use std::path::Path;

fn garden() -> Environment {
    Environment { instance: Instance::new("garden").unwrap(), ..Environment::default() }
}

fn read(text: &str, environment: &Environment) -> Loaded {
    parse(text, Path::new("garden.toml"), environment).unwrap_or_else(|errors| panic!("{errors}"))
}

fn identity(loaded: &Loaded) -> (&str, &str) {
    let monitor = &loaded.config.monitor;
    assert_eq!(monitor.client_id, loaded.config.mqtt.client_id);
    (&monitor.client_id, monitor.base_topic.as_str())
}

#[test]
fn an_instance_has_a_clientid_and_a_base_topic_of_its_own() {
    let loaded = read(MQTT, &garden());
    assert_eq!(identity(&loaded), ("iotmonitor-garden", "home/monitoring-garden"));
    assert_eq!(loaded.warnings.as_slice(), []);
    let loaded = read(MQTT, &system());
    assert_eq!(identity(&loaded), ("iotmonitor", "home/monitoring"));
    let own = format!("{MQTT}clientid = \"shed\"\nbaseTopic = \"shed\"\n");
    assert_eq!(identity(&read(&own, &garden())), ("shed", "shed"));
}

/// A person types the command that an alert names, and it must reach this monitor and no other.
#[test]
fn alerts_name_the_command_line_that_reaches_the_monitor() {
    let command =
        |text: &str, environment: &Environment| read(text, environment).config.monitor.command;
    let user = Environment { user_manager: true, ..system() };
    assert_eq!(command(MQTT, &system()), "iotmonitor");
    assert_eq!(command(MQTT, &user), "iotmonitor --user");
    assert_eq!(command(MQTT, &garden()), "iotmonitor --clientid iotmonitor-garden");
    let blank = format!("{MQTT}clientid = \"my house's\"\n");
    assert_eq!(command(&blank, &system()), r"iotmonitor --clientid 'my house'\''s'");
}

/// Its units and topics must not move with an upgrade.
#[test]
fn an_instance_that_was_begun_with_the_names_of_the_main_monitor_keeps_them() {
    let before = Environment { main_defaults: true, ..garden() };
    let loaded = read(MQTT, &before);
    assert_eq!(identity(&loaded), ("iotmonitor", "home/monitoring"));
    let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
    let said = warning.one_line();
    for word in ["clientid", "baseTopic", "iotmonitor-garden", "home/monitoring-garden"] {
        assert!(said.contains(word), "{word} is missing in {said}");
    }
    let half = format!("{MQTT}clientid = \"shed\"\n");
    let loaded = read(&half, &before);
    assert_eq!(identity(&loaded), ("shed", "home/monitoring"));
    let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
    assert!(!warning.message.contains("clientid"), "{}", warning.message);
    let both = format!("{MQTT}clientid = \"shed\"\nbaseTopic = \"shed\"\n");
    assert_eq!(read(&both, &before).warnings.as_slice(), []);
    assert_eq!(
        read(MQTT, &Environment { main_defaults: true, ..system() }).warnings.as_slice(),
        []
    );
}

#[test]
fn a_name_that_is_no_topic_level_needs_the_keys() {
    let environment =
        Environment { instance: Instance::new("a+b").unwrap(), ..Environment::default() };
    let errors = parse(MQTT, Path::new("a+b.toml"), &environment).unwrap_err();
    let said = errors.to_string();
    assert!(said.contains("clientid") && said.contains("baseTopic"), "{said}");
    let own = format!("{MQTT}clientid = \"ab\"\nbaseTopic = \"ab\"\n");
    assert_eq!(identity(&read(&own, &environment)), ("ab", "ab"));
}

#[test]
fn the_instance_follows_from_the_name_of_the_file() {
    let directory = Path::new("/etc/iotmonitor");
    let of = |file: &str| Instance::of_file(Path::new(file), directory);
    let garden = Instance::new("garden").unwrap();
    assert_eq!(of("/etc/iotmonitor/garden.toml"), garden);
    assert_eq!(of("/etc/iotmonitor/./garden.toml"), garden);
    for main in [
        "/etc/iotmonitor/config.toml",
        "/etc/iotmonitor/config.d/garden.toml",
        "/etc/iotmonitor/garden",
        "/home/pi/garden.toml",
        "garden.toml",
        "/",
    ] {
        assert_eq!(of(main), Instance::MAIN, "{main}");
    }
    for name in ["", "a/b", ".", ".."] {
        assert!(Instance::new(name).is_err(), "{name:?}");
    }
}

/// What `check` says of one of the files of a directory.
fn checked(directory: &Path, name: &str) -> String {
    let file = directory.join(name);
    let environment = Environment {
        instance: Instance::of_file(&file, directory),
        config_directory: Some(directory.to_owned()),
        ..Environment::default()
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(check(&file, &environment, &mut out, &mut err), 0);
    String::from_utf8(err).unwrap()
}

#[test]
fn check_warns_of_files_that_share_a_clientid_or_a_base_topic() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let write = |name: &str, keys: &str| {
        fs::write(directory.join(name), format!("{MQTT}{keys}\n")).unwrap();
    };
    write("config.toml", "");
    write("garden.toml", "");
    fs::write(directory.join("broken.toml"), b"[mqtt\nclientid = \"iotmonitor\"\xff").unwrap();
    fs::write(directory.join("notes.txt"), MQTT).unwrap();
    assert_eq!(checked(directory, "config.toml"), "");
    assert_eq!(checked(directory, "garden.toml"), "");

    write("garden.toml", "clientid = \"iotmonitor\"");
    for (name, other) in [("config.toml", "garden.toml"), ("garden.toml", "config.toml")] {
        let said = checked(directory, name);
        assert!(said.contains("clientid") && said.contains(other), "{said}");
        assert!(!said.contains("baseTopic"), "{said}");
    }
    write("garden.toml", "clientid = \"x\"\nbaseTopic = \"home/monitoring\"");
    let said = checked(directory, "garden.toml");
    assert!(said.contains("baseTopic") && said.contains("config.toml"), "{said}");
    assert_eq!(said.matches("warning: ").count(), 1, "{said}");

    // The state connection of the one has the clientid of the other.
    write("garden.toml", "clientid = \"iotmonitor-states\"");
    let said = checked(directory, "garden.toml");
    assert!(said.contains("clientid") && said.contains("iotmonitor-states"), "{said}");

    // On another broker the same topics are others, and units are on the machine all the same.
    let elsewhere = "[mqtt]\nserverAddress = \"tcp://elsewhere\"\nbaseTopic = \"home/monitoring\"";
    fs::write(directory.join("garden.toml"), format!("{elsewhere}\n")).unwrap();
    assert_eq!(checked(directory, "garden.toml"), "");
    fs::write(directory.join("garden.toml"), format!("{elsewhere}\nclientid = \"iotmonitor\"\n"))
        .unwrap();
    assert!(checked(directory, "garden.toml").contains("clientid"));
}
