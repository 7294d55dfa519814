//! What the file names and this machine does not have, and secrets that others can read.

use super::{MQTT, parsed, system};
use iotmonitor::config::{Environment, load, parse};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Line and message of each warning.
fn warnings(text: &str, environment: &Environment) -> Vec<(usize, String)> {
    let loaded =
        parse(text, Path::new("c"), environment).unwrap_or_else(|errors| panic!("{errors}"));
    loaded.warnings.iter().map(|warning| (warning.line, warning.message.clone())).collect()
}

fn looking() -> Environment {
    Environment { look_around: true, ..system() }
}

#[test]
fn each_thing_that_is_not_there_is_a_warning_of_check() {
    let agent = "[agent_x]\nexec = \"true\"\n";
    for (section, line, said) in [
        ("user = \"ghost-user\"", 5, "user: there is no user `ghost-user` on this machine"),
        ("group = \"ghost-group\"", 5, "group: there is no group `ghost-group` on this machine"),
        (
            "workingDirectory = \"/nothere\"",
            5,
            "workingDirectory: there is no directory `/nothere`",
        ),
        ("workingDirectory = \"/etc/passwd\"", 5, "no directory `/etc/passwd`"),
        (
            "environmentFile = \"/etc/nothere.env\"",
            5,
            "environmentFile: there is no file `/etc/nothere.env`",
        ),
        (
            "alertUnit = \"nothere@.service\"",
            5,
            "alertUnit: there is no template `nothere@.service`",
        ),
        ("[alerts]\nalertUnit = \"nothere@.service\"", 6, "alertUnit: there is no template"),
    ] {
        let text = format!("{MQTT}{agent}{section}\n");
        let found = warnings(&text, &looking());
        let [(at, message)] = found.as_slice() else { panic!("{section}: {found:?}") };
        assert!(*at == line && message.contains(said), "{section}: {at} {message}");
        assert!(parsed(&text).warnings.is_empty(), "the service itself does not look");
    }
    for (exec, program) in [
        ("[\"/opt/nothere/run\"]", Some("/opt/nothere/run")),
        ("[\"not-there-at-all\", \"x\"]", Some("not-there-at-all")),
        ("[\"/etc/passwd\"]", Some("/etc/passwd")),
        ("\"/opt/nothere/run --fast\"", Some("/opt/nothere/run")),
        ("\" /opt/nothere/run; true\"", Some("/opt/nothere/run")),
        ("[\"/bin/true\"]", None),
        ("[\"true\"]", None),
        ("\"/bin/true\"", None),
        ("\"cd /tmp && nothere\"", None),
        ("\"/opt/*/run\"", None),
    ] {
        let found = warnings(&format!("{MQTT}[agent_x]\nexec = {exec}\n"), &looking());
        let said =
            program.map(|it| (4, format!("exec: there is no program `{it}` on this machine")));
        assert_eq!(found, Vec::from_iter(said), "{exec}");
    }
}

#[test]
fn what_is_there_is_no_warning() {
    let text = format!(
        "{MQTT}[agent_x]\nexec = \"true\"\nuser = \"root\"\ngroup = \"0\"\n\
         workingDirectory = \"/tmp\"\nenvironmentFile = \"/etc/passwd\"\n\
         [agent_y]\nexec = \"true\"\nuser = \"12345\"\nworkingDirectory = \"~\"\n\
         [agent_z]\nexec = \"true\"\nuser = \"dynamic\"\n"
    );
    assert_eq!(warnings(&text, &looking()), []);
}

#[test]
fn a_secret_in_a_command_or_in_the_environment_is_public() {
    let text = format!(
        "{MQTT}[agent_x]\nexec = \"run --password hunter2\"\n\
         environment = {{ MQTT_PASSWORD = \"hunter2\", TOKEN_FILE = \"/t\", API_KEY = \"\", TZ = \"x\" }}\n\
         [agent_y]\nexec = [\"run\", \"--token=hunter2\"]\n[agent_y.environment]\napiToken = \"hunter2\"\n"
    );
    let loaded = parsed(&text);
    let found: Vec<_> =
        loaded.warnings.iter().map(|warning| (warning.line, warning.message.as_str())).collect();
    assert_eq!(
        found,
        [
            (4, "exec of [agent_x] seems to hold a secret, and every user can read it"),
            (5, "`MQTT_PASSWORD` sounds like a secret, and every user can read it"),
            (7, "exec of [agent_y] seems to hold a secret, and every user can read it"),
            (9, "`apiToken` sounds like a secret, and every user can read it"),
        ]
    );
    assert!(loaded.warnings[0].hint.contains("environmentFile"));
    assert!(!loaded.warnings.to_string().contains("hunter2"), "{}", loaded.warnings);
    let broken = parse(&format!("{text}[device_z]\n"), Path::new("c"), &system());
    assert!(!broken.unwrap_err().to_string().contains("hunter2"));
}

#[test]
fn a_file_with_a_secret_that_others_can_read_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let [config, secret] = ["config.toml", "secret"].map(|name| directory.path().join(name));
    fs::write(&secret, "a-token-of-32-good-characters-at-least\n").unwrap();
    fs::write(
        &config,
        format!("{MQTT}passwordFile = \"secret\"\n[http]\ntokenFile = \"secret\"\n"),
    )
    .unwrap();
    let warnings = |mode| {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        load(&config, &system()).unwrap().warnings
    };
    assert!(warnings(0o600).is_empty() && warnings(0o400).is_empty());
    for mode in [0o640, 0o604, 0o644] {
        let found = warnings(mode);
        let [password, token] = found.as_slice() else { panic!("{found}") };
        assert_eq!((password.line, token.line), (3, 5));
        let said =
            format!("others can read the password in {} (mode {mode:04o})", secret.display());
        assert_eq!(password.message, said);
        assert!(token.message.contains("the token") && token.hint.starts_with("chmod 0600"));
    }
}
