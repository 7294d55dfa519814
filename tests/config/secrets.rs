//! Where passwords come from, which connections get them, and that nothing shows them.

use super::{MQTT, device, parsed, system};
use iotmonitor::config::{Environment, load, parse};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[test]
fn the_password_comes_from_the_credential_then_the_file_then_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    let credentials = directory.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    let environment =
        Environment { credentials_directory: Some(credentials.clone()), ..Environment::default() };
    let password = |text: &str| {
        let loaded = parse(text, &config, &environment).unwrap_or_else(|errors| panic!("{errors}"));
        loaded.config.mqtt.password.map(|secret| secret.reveal().to_owned())
    };
    let key = format!("{MQTT}password = \"from the key\"\n");
    let file = format!("{key}passwordFile = \"secret\"\n");
    fs::write(directory.path().join("secret"), "from the file \r\n").unwrap();
    assert_eq!(password(MQTT), None);
    assert_eq!(password(&key).as_deref(), Some("from the key"));
    assert_eq!(password(&file).as_deref(), Some("from the file "));
    fs::write(credentials.join("mqtt-password"), "from the credential\n").unwrap();
    assert_eq!(password(&file).as_deref(), Some("from the credential"));
    fs::write(credentials.join("mqtt-password"), "\n").unwrap();
    assert_eq!(password(MQTT), None);
}

#[test]
fn an_agent_is_given_the_credentials_that_the_broker_wants() {
    let given = |mqtt: &str, keys: &str| {
        let environment =
            Environment { runtime_directory: "/run/own".into(), ..Environment::default() };
        let text = format!(
            "[mqtt]\nserverAddress = \"wss://broker/mqtt?token=9\"\n{mqtt}[agent_x]\nexec = \"x\"\n{keys}"
        );
        let loaded = parse(&text, Path::new("/etc/c.toml"), &environment).unwrap();
        let agent = device(&loaded, "x").agent.clone().unwrap();
        assert_eq!(agent.mqtt_server, "wss://broker:443/mqtt");
        let files = agent.credentials.iter();
        files.map(|(name, file)| format!("{name}:{}", file.display())).collect::<Vec<_>>().join(" ")
    };
    let pass = "passCredentials = true\n";
    let account = "user = \"u\"\npassword = \"p\"\n";
    let certificate = "certFile = \"c.pem\"\nkeyFile = \"k.pem\"\n";
    assert_eq!(given(account, ""), "");
    assert_eq!(given("", pass), "mqtt-server:/run/own/mqtt-server");
    assert_eq!(
        given(&format!("{account}{certificate}"), pass),
        "mqtt-cert:/etc/c.pem mqtt-key:/etc/k.pem mqtt-password:/run/own/mqtt-password \
         mqtt-server:/run/own/mqtt-server mqtt-user:/run/own/mqtt-user"
    );
}

#[test]
fn a_password_file_that_is_no_text_is_an_error_without_its_contents() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("secret"), b"hunter2\xff").unwrap();
    let text = format!("{MQTT}passwordFile = \"secret\"\n");
    let result = parse(&text, &directory.path().join("config.toml"), &system()).unwrap_err();
    assert_eq!(result.errors()[0].line, 3);
    assert!(result.to_string().contains("UTF-8"));
    assert!(!format!("{result} {result:?}").contains("hunter2"));
}

#[test]
fn secrets_are_in_no_output() {
    for text in [
        "password = \"hunter2\"\nkeepAlive = 1",
        "password = [\"hunter2\"]",
        "password = { a = \"hunter2\" }",
        "pasword = \"hunter2\"",
        "sesame = \"hunter2\"",
        "password = \"hunter2",
        "password = hunter2",
        "password = \"\"\"\nhunter2\\q\"\"\"",
        "password = \"a\\u0000hunter2\"",
        "x = 1 [\npassword = \"hunter2\"",
        "serverAddress = \"tcp://u:hunter2@broker\"",
        "[agent_x]\nexec = \"x\"\nenvironment = { A = \"hunter2\", 1 = 1 }",
        "[agent_x]\nexec = \"x\"\nenvironment = [\"hunter2\"]",
        "[agent_x]\nexec = \"x\"\nenvironment = \"hunter2\"",
        "[agent_x]\nexec = \"x\"\n[agent_x.environment]\nA = [\"hunter2\"]",
        "[agent_x]\nexec = \"x\"\n[agent_x.environment]\nA = hunter2",
        "[device_x]\npassword = \"hunter2\"",
    ] {
        let result = parse(&format!("[mqtt]\n{text}\n"), Path::new("c"), &system()).unwrap_err();
        assert!(!format!("{result} {result:?}").contains("hunter2"), "{text}\n{result}");
    }
    let text = format!("{MQTT}password = \"hunter2\"\n[web]\npassword = \"hunter2\"\n");
    let loaded = parsed(&text);
    assert!(!format!("{loaded:?} {}", loaded.warnings[0]).contains("hunter2"));
}

#[test]
fn a_password_that_others_can_read_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let warnings = |text: &str, mode: u32| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        load(&path, &system()).unwrap().warnings
    };
    let secret = format!("{MQTT}password = \"hunter2\"\n");
    assert!(warnings(&secret, 0o600).is_empty());
    assert!(warnings(&format!("{MQTT}password = \"\"\n"), 0o644).is_empty());
    for mode in [0o640, 0o604, 0o644] {
        let found = warnings(&secret, mode);
        let [warning] = found.as_slice() else { panic!("{found:?}") };
        assert!(warning.message.contains(&format!("{mode:04o}")), "{warning}");
        assert!(warning.hint.contains("chmod 0600"), "{warning}");
        assert!(!warning.to_string().contains("hunter2"), "{warning}");
    }
}

#[test]
fn an_agent_that_shares_its_user_shares_its_credentials() {
    let warnings = |text: &str| {
        let loaded = parsed(&format!("{MQTT}password = \"p\"\nuser = \"u\"\n{text}"));
        loaded.warnings.iter().map(|warning| warning.message.clone()).collect::<Vec<_>>()
    };
    let pass = "passCredentials = true\n";
    let agent = |name: &str, keys: &str| format!("[agent_{name}]\nexec = 'x'\n{keys}");
    for quiet in [
        agent("x", &format!("user = \"dynamic\"\n{pass}")) + &agent("y", "user = \"dynamic\"\n"),
        agent("x", &format!("user = \"pi\"\n{pass}")) + &agent("y", ""),
        agent("x", &format!("user = \"root\"\n{pass}")) + &agent("y", "user = \"root\"\n"),
        agent("x", "") + &agent("y", ""),
    ] {
        assert_eq!(warnings(&quiet), [""; 0], "{quiet}");
    }
    for (text, warning) in [
        (agent("x", pass), "every agent without a `user` can read the credentials of [agent_x]"),
        (
            agent("x", pass) + &agent("y", "user = \"iotmonitor\"\n"),
            "`y` with the same user can read the credentials of [agent_x]",
        ),
        (
            agent("x", &format!("user = \"pi\"\n{pass}")) + &agent("y", "user = \"pi\"\n"),
            "`y` with the same user can read the credentials of [agent_x]",
        ),
    ] {
        assert_eq!(warnings(&text), [warning], "{text}");
    }
    let loaded = parsed(&format!("{MQTT}{}", agent("x", pass)));
    assert_eq!(loaded.warnings[0].line, 5);
    assert!(loaded.warnings[0].hint.contains("user = \"dynamic\""), "{}", loaded.warnings[0]);
    let owner = Environment { user_manager: true, ..Environment::default() };
    let text = format!("{MQTT}{}", agent("x", pass));
    assert!(parse(&text, Path::new("c"), &owner).unwrap().warnings.is_empty());
}

#[test]
fn as_root_files_that_others_may_replace_are_warned_of_for_the_service() {
    let directory = tempfile::tempdir_in("/run").unwrap();
    let file = directory.path().join("env");
    fs::write(&file, "A=1\n").unwrap();
    let text = format!(
        "{MQTT}[agent_x]\nexec = 'x'\nuser = \"pi\"\nenvironmentFile = '{}'\n",
        file.display()
    );
    let service = Environment { for_service: true, ..Environment::default() };
    let warnings = || parse(&text, Path::new("/etc/c.toml"), &service).unwrap().warnings;
    let swayed = |warnings: &[iotmonitor::config::Diagnostic]| {
        warnings.iter().any(|warning| warning.message.contains("belongs to user 1000"))
    };
    assert!(!swayed(&warnings()));
    std::os::unix::fs::chown(&file, Some(1000), None).unwrap();
    assert!(swayed(&warnings()));
}
