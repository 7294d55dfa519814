//! The configuration by its contract: what is taken, what is refused, and in which words.

#[path = "config/alerts.rs"]
mod alerts;
#[path = "config/availability.rs"]
mod availability;
#[path = "config/depends_on.rs"]
mod depends_on;
#[path = "config/home_assistant.rs"]
mod home_assistant;
#[path = "config/http.rs"]
mod http;

use iotmonitor::cli::check::check;
use iotmonitor::config::{ConfigErrors, Diagnostic, Environment, Loaded, load, parse};
use iotmonitor::monitor::spec::{DeviceSpec, Exec, Sandbox};
use iotmonitor::mqtt::settings::{ProtocolChoice, Server};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MQTT: &str = "[mqtt]\nserverAddress = \"tcp://localhost\"\n";

fn system() -> Environment {
    Environment::default()
}

fn fixture(name: &str) -> String {
    fs::read_to_string(format!("tests/fixtures/config/{name}")).unwrap()
}

fn parsed(text: &str) -> Loaded {
    parse(text, Path::new("config.toml"), &system()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> Vec<Diagnostic> {
    match parse(text, Path::new("config.toml"), &system()) {
        Ok(_) => panic!("taken as good:\n{text}"),
        Err(errors) => errors.errors().to_vec(),
    }
}

fn device<'l>(loaded: &'l Loaded, name: &str) -> &'l DeviceSpec {
    loaded.config.monitor.devices.iter().find(|device| device.name.as_str() == name).unwrap()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn an_automatic_timeout_begins_long_and_needs_topics_to_learn_from() {
    let text = |topics: &str| format!("{MQTT}[device_x]\n{topics}\nwatchTimeOut = \"auto\"\n");
    let loaded = parsed(&text("watchTopics = \"x\""));
    let watched = device(&loaded, "x");
    assert_eq!((watched.watch_timeout, watched.auto_timeout), (Some(seconds(90_000)), true));
    let loaded = parsed(&text("helloTopic = \"x\""));
    let unwatched = device(&loaded, "x");
    assert_eq!((unwatched.watch_timeout, unwatched.auto_timeout), (None, false));
    assert!(loaded.warnings[0].message.contains("no effect without watchTopics"));
    let loaded = parsed(&format!("{MQTT}[device_x]\nwatchTopics = \"x\"\nwatchTimeOut = 5\n"));
    assert!(!device(&loaded, "x").auto_timeout);
}

#[test]
fn a_file_of_the_original_works_unchanged() {
    let loaded = parsed(&fixture("original.toml"));
    let Loaded { config, warnings } = &loaded;
    assert_eq!(config.mqtt.server, Server::Tcp { host: "localhost".into(), port: 1883 });
    assert_eq!((&config.mqtt.user, &config.mqtt.password), (&None, &None));
    assert_eq!(config.mqtt.client_id, "iotmonitor");
    assert_eq!(config.monitor.base_topic.as_str(), "mybaseTopic/monitoring");
    let names: Vec<_> = config.monitor.devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["nodered", "esp05", "esp08", "ledboxdaemon", "switchcontrol"]);

    assert_eq!(device(&loaded, "nodered").watch_timeout, Some(seconds(2)));
    let esp08 = device(&loaded, "esp08");
    assert_eq!(esp08.watch_timeout, Some(seconds(60)));
    assert_eq!(esp08.hello.as_ref().unwrap().as_str(), "home/esp08");
    assert_eq!(esp08.watch[0].as_str(), "home/esp08/sensors/#");
    assert_eq!(esp08.state[0].as_str(), "home/esp08/actuators/relay1");
    assert!(esp08.enabled && esp08.restore_on_start && esp08.agent.is_none());

    let ledbox = device(&loaded, "ledboxdaemon");
    assert_eq!(ledbox.watch_timeout, Some(seconds(30)));
    let agent = ledbox.agent.as_ref().unwrap();
    assert_eq!(agent.unit.as_str(), "iotmonitor-agent-ledboxdaemon.service");
    assert_eq!(agent.mqtt_server, "tcp://localhost:1883");
    assert_eq!(agent.user, None);
    let command = "source ~/mqttagents/p3/bin/activate;cd ~/mqttagents/mqtt-agent-ledbox;python3 ledboxdaemon.py";
    assert_eq!(agent.exec, Exec::Shell(command.into()));

    let lines: Vec<_> = warnings.iter().map(|warning| warning.line).collect();
    assert_eq!(lines, [12, 31]);
    assert!(warnings[0].message.contains("[leveldb]"));
    assert!(warnings[1].message.contains("`~`"));
    let page = config.http.as_ref().unwrap();
    assert_eq!(page.address().to_string(), "127.0.0.1:8079");
}

#[test]
fn every_key_arrives() {
    let loaded = parsed(&fixture("full.toml"));
    let mqtt = &loaded.config.mqtt;
    assert_eq!(mqtt.server, Server::Tls { host: "fd00::1".into(), port: 8883 });
    assert_eq!(mqtt.user.as_deref(), Some("monitor"));
    assert_eq!(mqtt.password.as_ref().unwrap().reveal(), "hunter2");
    assert_eq!((mqtt.client_id.as_str(), mqtt.protocol), ("garden", ProtocolChoice::V311));
    assert_eq!(mqtt.keep_alive, seconds(60));
    assert_eq!(loaded.config.monitor.client_id, "garden");

    let lamp = device(&loaded, "lamp");
    assert_eq!(lamp.watch_timeout, Some(seconds(5_400)));
    assert_eq!(lamp.expire_repeat, Some(seconds(3_600)));
    assert_eq!(
        lamp.watch.iter().map(|f| f.as_str()).collect::<Vec<_>>(),
        ["home/lamp/#", "home/+/lamp"]
    );
    assert!(!lamp.enabled && !lamp.restore_on_start);

    let kitchen = device(&loaded, "küche 1");
    assert_eq!(kitchen.watch_timeout, None);
    let agent = kitchen.agent.as_ref().unwrap();
    assert_eq!(agent.unit.as_str(), "iotmonitor-garden-agent-k\\xc3\\xbcche\\x201.service");
    assert_eq!(
        agent.exec,
        Exec::Argv(vec!["/usr/bin/printf".into(), "%s $HOME".into(), String::new()])
    );
    assert_eq!((agent.user.as_deref(), agent.group.as_deref()), (Some("pi"), Some("pi")));
    assert_eq!(agent.working_directory, Some(PathBuf::from("~")));
    let variables = [("DEBUG", "true"), ("LEVEL", "3"), ("TZ", "Europe/Paris")];
    assert_eq!(agent.environment, BTreeMap::from(variables.map(|(n, v)| (n.into(), v.into()))));
    assert_eq!(agent.environment_file, Some(PathBuf::from("/etc/default/kitchen")));
    assert_eq!(agent.restart_delay, Duration::from_millis(500));
    assert_eq!(agent.restart_max_delay, seconds(120));
    assert_eq!(agent.stop_timeout, Some(seconds(10)));
    assert_eq!(agent.memory_max, Some(3 << 29));
    assert_eq!((agent.cpu_quota_percent, agent.tasks_max), (Some(250), Some(20)));
    assert_eq!(agent.sandbox, Sandbox::Strict);
    assert!(agent.restart_on_expire);
    let credentials: Vec<_> = agent.credentials.keys().copied().collect();
    assert_eq!(credentials, ["mqtt-password", "mqtt-server", "mqtt-user"]);

    let plain = device(&loaded, "plain");
    assert!(plain.watch.is_empty() && plain.watch_timeout.is_none());
    let agent = plain.agent.as_ref().unwrap();
    assert_eq!(agent.exec, Exec::Shell("echo \"$HOME\" 100%".into()));
    assert_eq!((agent.restart_delay, agent.restart_max_delay), (seconds(1), seconds(60)));
    assert_eq!((agent.memory_max, agent.stop_timeout, agent.sandbox), (None, None, Sandbox::None));
    let page = loaded.config.http.as_ref().unwrap();
    assert_eq!(page.address().to_string(), "[::1]:8080");
    assert_eq!((page.host_names.len(), page.token.is_some()), (2, true));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let text = fixture("many-errors.toml");
    let result = parse(&text, Path::new("config.toml"), &system()).unwrap_err();
    let places: Vec<_> =
        result.errors().iter().map(|e| (e.line, e.column, e.message.as_str())).collect();
    assert_eq!(
        places,
        [
            (3, 2, "[mqtt] has no `serverAddress`"),
            (4, 1, "unknown key `serverAddres`, did you mean `serverAddress`?"),
            (5, 13, "baseTopic: `home/monitoring/` ends with a slash"),
            (6, 12, "unknown protocol `4`, did you mean \"5\"?"),
            (7, 12, "certFile `client.pem` stands without keyFile"),
            (10, 1, "unknown key `watchTimeout`, did you mean `watchTimeOut`?"),
            (
                11,
                31,
                "watchTopics: in `home/#/lamp`, `#` must be the last level and stand alone in it, as in `home/#`"
            ),
            (13, 2, "device_lamp and agent_lamp would share the name `lamp`"),
            (13, 2, "[agent_lamp] has no `exec`"),
            (14, 16, "watchTimeOut: `5 parsecs` is no time span: `parsecs` is no unit of time"),
            (16, 2, "[device_door] has no topics"),
            (17, 1, "unknown key `exec` in [device_door]"),
        ]
    );
    let warned: Vec<_> = result.warnings().iter().map(|w| (w.line, w.column)).collect();
    assert_eq!(warned, [(1, 1), (19, 2)]);
    assert_eq!(result.warnings()[1].hint, "did you mean [device_NAME]?");
    assert_eq!(result.to_string().matches("error: ").count(), 12);
}

#[test]
fn an_error_shows_file_line_marker_and_help() {
    let text = format!("{MQTT}[device_lamp]\nwatchTimeout = 60\nwatchTopics = \"home/lamp\"\n");
    let result = parse(&text, Path::new("/etc/iotmonitor/config.toml"), &system()).unwrap_err();
    assert_eq!(
        result.to_string(),
        "error: unknown key `watchTimeout`, did you mean `watchTimeOut`?
 --> /etc/iotmonitor/config.toml:4:1
  |
4 | watchTimeout = 60
  | ^^^^^^^^^^^^
  = help: [device_lamp] knows watchTimeOut, helloTopic, availabilityTopic, watchTopics, dependsOn, stateTopics, expireRepeat, alertUnit, restoreOnStart, enabled"
    );
    let [error] = result.errors() else { panic!("{result}") };
    assert!(error.one_line().starts_with("/etc/iotmonitor/config.toml:4:1: unknown key"));
}

/// One wrong line in a section: the message names the value, the hint says what would be right.
fn assert_refused(before: &str, line: &str, column: usize, message: &str, hint: &str) {
    let text = format!("{before}{line}\n");
    let found = errors(&text);
    let at = before.matches('\n').count() + 1;
    let error =
        found.iter().find(|error| error.line == at).unwrap_or_else(|| panic!("{line}: {found:?}"));
    assert_eq!(error.column, column, "{error}");
    assert!(error.message.contains(message), "{error}");
    assert!(error.hint.contains(hint), "{error}");
    assert_eq!(found.len(), 1, "{line}: one slip, one error: {found:#?}");
}

#[test]
fn wrong_values_in_mqtt() {
    for (line, column, message, hint) in [
        ("baseTopic = \"home/+\"", 13, "`home/+`", "home/monitoring"),
        ("baseTopic = \"a/\"", 13, "`a/`", "baseTopic = \"a\""),
        ("baseTopic = \"\"", 13, "empty", "home/monitoring"),
        ("baseTopic = \"$SYS/x\"", 13, "`$SYS/x`", "home/monitoring"),
        ("baseTopic = 7", 13, "`7`", "baseTopic = \"…\""),
        ("clientid = \"\"", 12, "empty", "iotmonitor"),
        ("clientid = \"a/b\"", 12, "`a/b` may not contain '/'", "unit names"),
        ("clientid = \"a\\tb\"", 12, "'\\t'", "unit names"),
        ("protocol = \"3.1.2\"", 12, "`3.1.2`, did you mean \"3.1.1\"?", "\"auto\""),
        ("protocol = 5", 12, "`5`", "protocol = \"…\""),
        ("keepAlive = 4", 13, "`4` is out of range", "from 5s to"),
        ("keepAlive = 65536", 13, "`65536`", "18h 12min 15s"),
        ("keepAlive = \"5500ms\"", 13, "`5500ms`", "keepAlive = 30"),
        ("keepAlive = -30", 13, "`-30`", "90s"),
        ("keepAlive = true", 13, "`true`", "keepAlive = 60"),
        ("certFile = \"/x.pem\"", 12, "certFile `/x.pem`", "keyFile"),
        ("keyFile = \"/x.pem\"", 11, "keyFile `/x.pem`", "certFile"),
        ("passwordFile = \"/nowhere/at all\"", 16, "/nowhere/at all: No such file", "alone"),
        ("keepalive = 30", 1, "unknown key `keepalive`, did you mean `keepAlive`?", "caFile"),
        ("colour = 30", 1, "unknown key `colour` in [mqtt]", "serverAddress"),
        ("user = \"a\\u0000b\"", 8, "U+0000", "remove"),
    ] {
        assert_refused(MQTT, line, column, message, hint);
    }
    for (address, message, hint) in [
        ("htp://x", "`htp://`", "tcp"),
        ("tcp://x:0", "`0`", "tcp://localhost:1883"),
        ("tcp://::1", "`::1`", "[fd00::1]"),
        ("", "empty", "tcp://localhost:1883"),
    ] {
        let line = format!("serverAddress = \"{address}\"");
        assert_refused("[mqtt]\n", &line, 17, message, hint);
    }
}

#[test]
fn wrong_values_in_devices() {
    let before = format!("{MQTT}[device_x]\nhelloTopic = \"x\"\n");
    for (line, column, message, hint) in [
        ("watchTopics = \"a/#/b\"", 15, "`a/#/b`", "home/+/sensors/#"),
        ("watchTopics = [\"a\", \"ä+\", \"b\"]", 21, "`ä+`", "home/+/sensors/#"),
        ("watchTopics = [\"ä\", \"\"]", 21, "empty", "home/+/sensors/#"),
        ("watchTopics = [\"a\", 5]", 21, "`5`", "watchTopics = \"…\""),
        ("watchTopics = 5", 15, "`5`", "[\"home/lamp/#\"]"),
        ("stateTopics = \"$share/g/x\"", 15, "`$share/g/x`", "home/+/sensors/#"),
        ("expireRepeat = \"10ms\"", 16, "`10ms`", "1s"),
        ("expireRepeat = \"soon\"", 16, "`soon`", "1h 30min"),
        ("watchTimeOut = -1", 16, "`-1`", "90s"),
        ("watchTimeOut = \"1ms\"", 16, "`1ms`", "10ms"),
        ("watchTimeOut = 999999999999", 16, "`999999999999`", "90s"),
        ("watchTimeOut = 0x10", 16, "`0x10`", "watchTimeOut = 60"),
        ("watchTimeOut = [5]", 16, "`[…]`", "watchTimeOut = 60"),
        ("watchTimeOut = 2026-01-01", 16, "`2026-01-01`", "watchTimeOut = 60"),
        ("restoreOnStart = \"no\"", 18, "`no`", "restoreOnStart = true"),
        ("enabled = 1", 11, "`1`", "enabled = true"),
        ("exec = \"true\"", 1, "`exec`", "[agent_x]"),
        ("memoryMax = 5", 1, "`memoryMax`", "[agent_x]"),
        ("exce = \"true\"", 1, "`exce`", "watchTopics"),
    ] {
        assert_refused(&before, line, column, message, hint);
    }
    let too_long = format!("helloTopic = \"{}\"", "x".repeat(65_536));
    assert_refused(&format!("{MQTT}[device_x]\n"), &too_long, 14, "65536", "whole level");
}

#[test]
fn wrong_values_in_agents() {
    let before = format!("{MQTT}[agent_x]\nexec = \"true\"\n");
    for (line, column, message, hint) in [
        ("user = \"a b\"", 8, "`a b`", "user = \"pi\""),
        ("group = 5", 9, "`5`", "group = \"…\""),
        ("workingDirectory = \"~/x\"", 20, "`~/x`", "\"~\" alone"),
        ("environmentFile = \"x.env\"", 19, "`x.env`", "from `/` on"),
        (
            "environment = \"A=b\"",
            15,
            "environment must be a table, and this is a text",
            "environment = {",
        ),
        ("environment = { 1A = \"b\" }", 17, "`1A`", "digit"),
        ("environment = { A = [1] }", 21, "A must be a text", "A = \"…\""),
        ("environment = { IOTMONITOR_AGENT = \"b\" }", 17, "IOTMONITOR_AGENT", "another"),
        ("environment = { A = \"\\u0007\" }", 21, "`A`", "tabs"),
        ("restartSec = 0", 14, "`0`", "100ms"),
        ("restartMaxSec = \"500ms\"", 17, "`500ms` is less than restartSec, 1s", "grows"),
        ("stopTimeout = 0", 15, "`0`", "1ms"),
        ("memoryMax = \"64MB\"", 13, "`64MB`", "64M"),
        ("memoryMax = 64", 13, "`64`", "64M"),
        ("memoryMax = -1", 13, "`-1`", "64M"),
        ("memoryMax = 1.5", 13, "`1.5`", "64M"),
        ("cpuQuota = \"50\"", 12, "`50`", "50%"),
        ("cpuQuota = 0", 12, "`0`", "50%"),
        ("tasksMax = 0", 12, "`0`", "tasksMax = 20"),
        ("sandbox = \"strikt\"", 11, "`strikt`, did you mean \"strict\"?", "\"none\""),
        ("restartOnExpire = \"yes\"", 19, "`yes`", "restartOnExpire = false"),
        ("exce = 5", 1, "`exce`, did you mean `exec`?", "exec, user"),
    ] {
        assert_refused(&before, line, column, message, hint);
    }
    let before = format!("{MQTT}[agent_x]\n");
    for (line, message) in [
        ("exec = \"\"", "[agent_x]"),
        ("exec = []", "[agent_x]"),
        ("exec = [\"\", \"a\"]", "[agent_x]"),
        ("exec = 5", "`5`"),
        ("exec = \"a\\u0000b\"", "U+0000"),
    ] {
        assert_refused(&before, line, 8, message, "");
    }
    assert_refused(&before, "exec = [\"a\", \"\\u0000\"]", 14, "U+0000", "remove");
}

#[test]
fn wrong_sections() {
    let long = "ü".repeat(60);
    for (section, message, hint) in [
        ("[\"device_\"]\nhelloTopic = \"x\"", "name after the underscore", "anything but"),
        ("[\"device_a/b\"]\nhelloTopic = \"x\"", "\"a/b\"", "anything but"),
        ("[\"device_a\\u0001\"]\nhelloTopic = \"x\"", "\\u{1}", "anything but"),
        ("[device_a]", "[device_a] has no topics", "watchTopics"),
        ("[device_a]\nwatchTopics = \"\"\nstateTopics = []", "[device_a]", "watchTopics"),
        ("[agent_a]", "[agent_a] has no `exec`", "exec = "),
        (&format!("[\"agent_{long}\"]\nexec = \"true\""), "\\xc3\\xbc", "four bytes"),
    ] {
        let found = errors(&format!("{MQTT}{section}\n"));
        let [error] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((error.line, error.column), (3, 2), "{error}");
        assert!(error.message.contains(message) && error.hint.contains(hint), "{error}");
    }
    let found = errors("[[mqtt]]\nserverAddress = \"x\"\n[[device_a]]\nhelloTopic = \"x\"\n");
    assert_eq!(found.iter().map(|error| error.line).collect::<Vec<_>>(), [1, 3]);
    let found = errors(&format!("{MQTT}[device_a.b]\nhelloTopic = \"x\"\n"));
    assert!(found.iter().any(|error| error.hint.contains("[\"device_a.b\"]")), "{found:?}");
    let [missing] = &errors("")[..] else { panic!() };
    assert_eq!((missing.line, missing.column), (1, 1));
    assert!(missing.message.contains("[mqtt]") && missing.hint.contains("serverAddress"));
}

#[test]
fn what_is_not_toml_gets_its_first_syntax_error() {
    for (text, line, column) in [
        ("[mqtt]\nserverAddress = tcp\nuser =\n", 2, 17),
        ("[mqtt]\nuser = \"a\"\nuser = \"b\"\n", 3, 1),
        ("[device_x]\n[device_x]\n", 2, 2),
        ("[mqtt\n", 1, 6),
    ] {
        let found = errors(text);
        let [error] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((error.line, error.column), (line, column), "{error}");
        assert!(!error.hint.is_empty());
    }
}

#[test]
fn odd_but_usable_things_are_warnings() {
    for (rest, line, message) in [
        ("[leveldb]\nport = 80\n", 3, "[leveldb]"),
        ("[[rules]]\n", 3, "[rules]"),
        ("[agent_x]\nexec = \"cd ~/x\"\n", 4, "`~`"),
        ("[agent_x]\nexec = \"cd ~/x\"\nuser = \"\"\n", 4, "`~`"),
        ("caFile = \"/x.pem\"\n", 3, "`/x.pem`"),
        ("[device_x]\nwatchTopics = \"home/monitoring/#\"\n", 4, "`home/monitoring/#`"),
        ("[device_x]\nhelloTopic = \"home/monitoring\"\n", 4, "`home/monitoring`"),
        ("[device_x]\nhelloTopic = \"x\"\nwatchTimeOut = 5\n", 5, "`5`"),
        ("[agent_x]\nexec = \"x\"\nrestartOnExpire = true\n", 5, "[agent_x]"),
    ] {
        let loaded = parsed(&format!("{MQTT}{rest}"));
        let [warning] = loaded.warnings.as_slice() else { panic!("{rest}: {:?}", loaded.warnings) };
        assert_eq!(warning.line, line, "{warning}");
        assert!(warning.message.contains(message), "{warning}");
        assert!(warning.to_string().starts_with("warning: "), "{warning}");
    }
    assert!(
        parsed(&format!("{MQTT}[agent_x]\nexec = \"cd ~\"\nuser = \"pi\"\n")).warnings.is_empty()
    );
    assert!(parsed(&format!("{MQTT}[device_x]\nwatchTopics = \"home/#\"\n")).warnings.is_empty());
}

#[test]
fn in_a_user_manager_a_tilde_is_clear_and_a_user_is_not() {
    let environment = Environment { user_manager: true, ..Environment::default() };
    let text = format!("{MQTT}[agent_x]\nexec = \"cd ~\"\n");
    let loaded = parse(&text, Path::new("c"), &environment).unwrap();
    assert!(loaded.warnings.is_empty());
    let loaded = parse(&format!("{text}user = \"pi\"\n"), Path::new("c"), &environment).unwrap();
    assert!(loaded.warnings[0].message.contains("`pi`"));
}

#[test]
fn a_longer_first_delay_raises_the_default_of_the_longest() {
    let loaded = parsed(&format!("{MQTT}[agent_x]\nexec = \"x\"\nrestartSec = \"5m\"\n"));
    assert_eq!(device(&loaded, "x").agent.as_ref().unwrap().restart_max_delay, seconds(300));
}

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
fn a_file_that_cannot_be_read_is_one_sentence_with_a_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let missing = load(&directory.path().join("none.toml"), &system()).unwrap_err();
    assert!(matches!(missing, ConfigErrors::Unreadable { .. }));
    let sentence = missing.to_string();
    assert!(sentence.contains("none.toml") && sentence.contains("create it"), "{sentence}");
    assert!(!sentence.contains('\n'));
    assert!(load(directory.path(), &system()).unwrap_err().to_string().contains("directory"));
    let binary = directory.path().join("binary.toml");
    fs::write(&binary, b"\xff\xfe").unwrap();
    assert!(load(&binary, &system()).unwrap_err().to_string().contains("UTF-8"));
}

fn checked(path: &Path) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = check(path, &system(), &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn the_shipped_file_passes() {
    let (code, out, err) = checked(Path::new("config.toml"));
    assert_eq!((code, out.as_str()), (0, "config.toml: ok, 1 device\n"), "{err}");
    assert_eq!(err, "");
}

#[test]
fn the_examples_of_the_shipped_file_pass_too() {
    let shipped = fs::read_to_string("config.toml").unwrap();
    let commented = |line: &str| {
        let rest = line.strip_prefix("# ").unwrap_or_default();
        rest.starts_with('[') || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    let live: String = shipped
        .lines()
        .map(|line| if commented(line) { &line[2..] } else { line })
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(live.contains("\n[agent_ledbox]\n") && live.contains("\nsandbox = \"strict\""));
    let loaded = parsed(&live);
    assert_eq!(loaded.config.monitor.devices.len(), 3);
}

#[test]
fn check_says_what_it_found_and_with_which_code() {
    let (code, out, err) = checked(Path::new("tests/fixtures/config/original.toml"));
    assert_eq!(code, 0);
    assert_eq!(out, "tests/fixtures/config/original.toml: ok, 3 devices and 2 agents\n");
    assert_eq!(err.matches("warning: ").count(), 2);
    let (code, out, err) = checked(Path::new("tests/fixtures/config/many-errors.toml"));
    assert_eq!((code, out.as_str()), (78, ""));
    assert_eq!(err.matches("error: ").count(), 12);
    assert_eq!(err.matches("warning: ").count(), 2);
    assert!(err.ends_with("many-errors.toml: 12 errors\n"), "{err}");
    let (code, _, err) = checked(Path::new("tests/fixtures/config/none.toml"));
    assert_eq!(code, 78);
    assert!(err.contains("none.toml"), "{err}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in "(\\PC|\n){0,300}") {
        if let Err(errors) = parse(&text, Path::new("c"), &system()) {
            prop_assert!(!errors.errors().is_empty());
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn a_mutated_file_never_panics(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "\\PC{0,3}|[\"'\\[\\]{}=,\n]"), 1..6)
    ) {
        let mut text: Vec<char> = fixture("full.toml").chars().collect();
        for (at, length, put) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(errors) = parse(&text, Path::new("c"), &system()) {
            prop_assert!(errors.errors().iter().all(|error| error.line >= 1 && error.column >= 1));
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn one_slip_of_the_hand_shows_no_password(
        at in any::<prop::sample::Index>(), length in 0_usize..12, put in "[a-z\"'\\[\\]{}=,#\n]{0,2}"
    ) {
        let mut text: Vec<char> = fixture("full.toml").chars().collect();
        let at = at.index(text.len());
        let end = (at + length).min(text.len());
        text.splice(at..end, put.chars());
        let text: String = text.into_iter().collect();
        let output = match parse(&text, Path::new("c"), &system()) {
            Ok(loaded) => format!("{loaded:?}"),
            Err(errors) => format!("{errors} {errors:?}"),
        };
        prop_assert!(!output.contains("hunter2"), "{}", output);
    }

    #[test]
    fn a_time_span_in_a_file_is_read_as_written(millis in 10_u64..300_000_000) {
        let span = iotmonitor::config::time_span::format(Duration::from_millis(millis));
        let text = format!("{MQTT}[device_x]\nwatchTopics = \"x\"\nwatchTimeOut = \"{span}\"\n");
        let loaded = parsed(&text);
        prop_assert_eq!(device(&loaded, "x").watch_timeout, Some(Duration::from_millis(millis)));
    }
}
