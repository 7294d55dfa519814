//! The section `[recorder]`.

use super::{MQTT, errors, parsed, system};
use iotmonitor::config::recorder::RecorderSettings;
use iotmonitor::config::{Environment, load, load_for_recorder};
use std::fs;
use std::path::Path;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

fn settings(text: &str) -> RecorderSettings {
    parsed(&format!("{MQTT}{text}")).config.recorder
}

fn filters(filters: &[iotmonitor_core::topic::TopicFilter]) -> Vec<&str> {
    filters.iter().map(|filter| filter.as_str()).collect()
}

#[test]
fn everything_is_recorded_for_400_days_or_4_gib_unless_the_file_says_otherwise() {
    for text in ["", "[recorder]\n", "[recorder]\ntopics = \"\"\nmaxSize = \"\"\n"] {
        let default = settings(text);
        assert_eq!(filters(&default.topics), ["#"], "{text}");
        assert_eq!(filters(&default.exclude), Vec::<&str>::new());
        assert_eq!(default.flush, Duration::from_secs(10));
        assert_eq!(default.keep, 400 * DAY);
        assert_eq!(default.max_size, Some(4 << 30));
    }
    let all = settings(
        "[recorder]\ntopics = [\"home/#\", \"garden/+/t\", \"home/#\"]\nexclude = \"home/+/camera\"\n\
         flush = \"1m\"\nkeep = \"30d\"\nmaxSize = \"512M\"\n",
    );
    assert_eq!(filters(&all.topics), ["home/#", "garden/+/t"]);
    assert_eq!(filters(&all.exclude), ["home/+/camera"]);
    assert_eq!((all.flush, all.keep), (Duration::from_secs(60), 30 * DAY));
    assert_eq!(all.max_size, Some(512 << 20));
    assert_eq!(settings("[recorder]\nmaxSize = \"infinity\"\n").max_size, None);
    assert_eq!(settings("[recorder]\nmaxSize = 20000000\n").max_size, Some(20_000_000));
}

#[test]
fn each_wrong_value_is_an_error_in_its_line() {
    for (wrong, told) in [
        ("topics = \"home/#/x\"", "topics: "),
        ("exclude = [\"a+\"]", "exclude: "),
        ("topics = 3", "topics must be"),
        ("flush = \"10ms\"", "out of range"),
        ("flush = \"2h\"", "out of range"),
        ("keep = \"1h\"", "out of range"),
        ("maxSize = \"4 GB\"", "is not a size"),
        ("maxSize = \"50%\"", "is not a size"),
        ("maxSize = \"1M\"", "too small"),
        ("maxSize = true", "maxSize must be"),
        ("maxsize = \"4G\"", "did you mean `maxSize`?"),
    ] {
        let errors = errors(&format!("{MQTT}[recorder]\n{wrong}\n"));
        assert_eq!((errors.len(), errors[0].line), (1, 4), "{wrong}");
        assert!(errors[0].message.contains(told), "{wrong}: {}", errors[0].message);
    }
}

#[test]
fn topics_that_are_excluded_as_a_whole_are_warned_of() {
    let text = format!("{MQTT}[recorder]\ntopics = [\"home/a/#\", \"b\"]\nexclude = \"home/#\"\n");
    let warnings = parsed(&text).warnings.to_string();
    assert!(warnings.contains("nothing is recorded of `home/a/#`"), "{warnings}");
    assert!(!warnings.contains("`b`"), "{warnings}");
}

/// The recorder as a service: systemd has copied the files that its unit names to `credentials`.
fn service(credentials: &Path) -> Environment {
    Environment {
        credentials_directory: Some(credentials.to_owned()),
        files_are_credentials: true,
        ..system()
    }
}

fn write(directory: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(directory.join(name), text).unwrap();
    }
}

#[test]
fn the_recorder_reads_its_two_sections_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let others = "[agent_x]\nexec = 3\n[http]\ntokenFile = \"/nowhere\"\n";
    write(directory.path(), &[("config.toml", &format!("{MQTT}{others}"))]);
    assert!(load(&path, &system()).is_err());
    let loaded = load_for_recorder(&path, &system()).unwrap();
    assert_eq!(loaded.recorder, RecorderSettings::default());
    assert_eq!(loaded.mqtt.client_id, "iotmonitor");
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    for wrong in ["[recorder]\nkeep = 3\n", "[mqtt]\nkeepAlive = 1\n", "[recorder\n"] {
        write(directory.path(), &[("config.toml", &format!("{MQTT}{wrong}"))]);
        assert!(load_for_recorder(&path, &system()).is_err(), "{wrong}");
    }
}

#[test]
fn systemd_passes_the_files_to_the_recorder_as_credentials() {
    let etc = tempfile::tempdir().unwrap();
    let credentials = tempfile::tempdir().unwrap();
    let path = etc.path().join("config.toml");
    let tls = "[mqtt]\nserverAddress = \"ssl://broker\"\nuser = \"me\"\npasswordFile = \"secret\"\n\
               caFile = \"ca.pem\"\n";
    // What is beside the file in its own directory does not count, because it cannot be read there.
    fs::create_dir(etc.path().join("config.d")).unwrap();
    write(&etc.path().join("config.d"), &[("z.toml", "[recorder\n")]);
    write(etc.path(), &[("ca.pem", "")]);
    write(
        credentials.path(),
        &[
            ("config.toml", tls),
            ("config.d_10.toml", "[recorder]\nkeep = \"30d\"\n"),
            ("config.d", ""),
            ("other.toml", "[recorder\n"),
            ("secret", "word\n"),
        ],
    );
    let loaded = load_for_recorder(&path, &service(credentials.path())).unwrap();
    assert_eq!(loaded.recorder.keep, 30 * DAY);
    assert_eq!(loaded.mqtt.password.unwrap().reveal(), "word");
    assert_eq!(loaded.mqtt.ca_file.unwrap(), etc.path().join("ca.pem"), "everybody may read it");

    // Errors name the file that a person has written.
    write(credentials.path(), &[("config.d_10.toml", "[recorder]\nkeep = 1\n")]);
    let error = load_for_recorder(&path, &service(credentials.path())).unwrap_err();
    let place = format!("{}/config.d/10.toml:2", etc.path().display());
    assert!(error.to_string().contains(&place), "{error}");
}

#[test]
fn a_file_that_systemd_does_not_pass_is_named() {
    let etc = tempfile::tempdir().unwrap();
    let credentials = tempfile::tempdir().unwrap();
    let path = etc.path().join("config.toml");
    let text = format!("{MQTT}user = \"me\"\npasswordFile = \"/nowhere/secret\"\n");
    write(credentials.path(), &[("config.toml", &text)]);
    let error = load_for_recorder(&path, &service(credentials.path())).unwrap_err();
    assert!(error.to_string().contains("cannot read /nowhere/secret"), "{error}");
}
