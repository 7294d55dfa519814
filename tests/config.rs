//! The configuration by its contract: what is taken, what is refused, and in which words.

#[path = "config/alerts.rs"]
mod alerts;
#[path = "config/availability.rs"]
mod availability;
#[path = "config/certificates.rs"]
mod certificates;
#[path = "config/cluster.rs"]
mod cluster;
#[path = "config/depends_on.rs"]
mod depends_on;
#[path = "config/directory.rs"]
mod directory;
#[path = "config/empty.rs"]
mod empty;
#[path = "config/fleets.rs"]
mod fleets;
#[path = "config/growth.rs"]
mod growth;
#[path = "config/history.rs"]
mod history;
#[path = "config/home_assistant.rs"]
mod home_assistant;
#[path = "config/http.rs"]
mod http;
#[path = "config/instances.rs"]
mod instances;
#[path = "config/missing.rs"]
mod missing;
#[path = "config/recorder.rs"]
mod recorder;
#[path = "config/refused.rs"]
mod refused;
#[path = "config/secrets.rs"]
mod secrets;
#[path = "config/shared.rs"]
mod shared;
#[path = "config/shipped.rs"]
mod shipped;
#[path = "config/slips.rs"]
mod slips;
#[path = "config/start.rs"]
mod start;
#[path = "config/words.rs"]
mod words;

use iotmonitor::config::{ConfigErrors, Diagnostic, Environment, Loaded, load, parse};
use iotmonitor::mqtt::settings::{BrokerAddress, ProtocolChoice};
use iotmonitor_core::model::spec::{DeviceSpec, Exec, Sandbox};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MQTT: &str = "[mqtt]\nserverAddress = \"tcp://localhost\"\n";

fn system() -> Environment {
    Environment { host_name: Some("pi1".to_owned()), ..Environment::default() }
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
    let Loaded { config, warnings, .. } = &loaded;
    assert_eq!(config.mqtt.server, BrokerAddress::Tcp { host: "localhost".into(), port: 1883 });
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
    assert_eq!(mqtt.server, BrokerAddress::Tls { host: "fd00::1".into(), port: 8883 });
    assert_eq!(mqtt.user.as_deref(), Some("monitor"));
    assert_eq!(mqtt.password.as_ref().unwrap().reveal(), "hunter2");
    assert_eq!((mqtt.client_id.as_str(), mqtt.protocol), ("garden", ProtocolChoice::V311));
    assert_eq!(mqtt.keep_alive, seconds(60));
    assert_eq!(loaded.config.monitor.max_subscriptions, 50);
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
            (7, 12, "certFile `client.pem` is set without keyFile"),
            (10, 1, "unknown key `watchTimeout`, did you mean `watchTimeOut`?"),
            (
                11,
                31,
                "watchTopics: in `home/#/lamp`, `#` must be the last level and stand alone in it, as in `home/#`"
            ),
            (13, 2, "device_lamp and agent_lamp would share the name `lamp`"),
            (13, 2, "[agent_lamp] has no `exec`"),
            (
                14,
                16,
                "watchTimeOut: `5 parsecs` is not a time span: `parsecs` is not a unit of time"
            ),
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
  = help: [device_lamp] knows area, watchTimeOut, helloTopic, availabilityTopic, availabilityOffline, availabilityOnline, watchTopics, dependsOn, stateTopics, expireRepeat, alertUnit, restoreOnStart, enabled"
    );
    let [error] = result.errors() else { panic!("{result}") };
    assert!(error.one_line().starts_with("/etc/iotmonitor/config.toml:4:1: unknown key"));
}

#[test]
fn what_is_not_toml_gets_its_syntax_errors() {
    for (text, line, column) in [
        ("[mqtt]\nserverAddress = tcp\nuser = \"\"\n", 2, 17),
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
