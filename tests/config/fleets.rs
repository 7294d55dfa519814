//! Sections `[fleet_NAME]`: many devices of one shape.

use super::{MQTT, device, errors, parsed};
use iotmonitor::cli::check::check;
use iotmonitor::config::{Environment, Findings};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::topic::TopicName;
use std::fs;
use std::time::Duration;

const ESP: &str = "watchTopics = \"home/{name}/sensors/#\"
helloTopic = \"home/{name}\"
stateTopics = [\"home/{name}/actuators/#\"]
";

fn fleet(keys: &str) -> String {
    format!("{MQTT}[fleet_esp]\n{keys}\n{ESP}")
}

fn names(text: &str) -> Vec<String> {
    parsed(text).config.monitor.devices.iter().map(|device| device.name.to_string()).collect()
}

fn messages(findings: &Findings) -> Vec<String> {
    findings.iter().map(|found| format!("{} {}", found.line, found.message)).collect()
}

fn refused(text: &str) -> Vec<String> {
    errors(text).iter().map(|found| format!("{} {}", found.line, found.message)).collect()
}

#[test]
fn each_name_is_a_device() {
    let text =
        fleet("names = [\"attic\", \"cellar\"]\nwatchTimeOut = 60\ndependsOn = \"gw-{name}\"");
    let gateways =
        ["attic", "cellar"].map(|name| format!("[device_gw-{name}]\nhelloTopic = \"g\"\n"));
    let loaded = parsed(&format!("{text}{}", gateways.concat()));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert!(loaded.config.monitor.fleets.is_empty());
    for name in ["attic", "cellar"] {
        let member = device(&loaded, name);
        assert_eq!(member.watch[0].as_str(), format!("home/{name}/sensors/#"));
        assert_eq!(member.hello.as_ref().unwrap().as_str(), format!("home/{name}"));
        assert_eq!(member.state[0].as_str(), format!("home/{name}/actuators/#"));
        assert_eq!(member.watch_timeout, Some(Duration::from_secs(60)));
        assert_eq!(member.depends_on[0].as_str(), format!("gw-{name}"));
    }
}

#[test]
fn an_area_is_a_name_for_people() {
    let of = |keys: &str| {
        let text = format!("{MQTT}[device_lamp]\nwatchTopics = \"lamp\"\n{keys}\n");
        let loaded = parsed(&text);
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        device(&loaded, "lamp").area.as_deref().map(str::to_owned)
    };
    assert_eq!(of("area = \" Living room \"").as_deref(), Some("Living room"));
    assert_eq!(of("area = \"Küche <1>\"").as_deref(), Some("Küche <1>"));
    assert_eq!(of("area = \"\""), None);
    assert_eq!(of(""), None);

    let members = fleet("names = [\"attic\", \"cellar\"]\narea = \"Room of {name}\"");
    let loaded = parsed(&format!("{members}[device_cellar]\narea = \"Below\"\n"));
    assert_eq!(device(&loaded, "attic").area.as_deref(), Some("Room of attic"));
    assert_eq!(device(&loaded, "cellar").area.as_deref(), Some("Below"));
    let agent = format!("{MQTT}[agent_pump]\nexec = \"run\"\narea = \"Cellar\"\n");
    assert_eq!(device(&parsed(&agent), "pump").area.as_deref(), Some("Cellar"));
    let learning = fleet("names = \"auto\"\narea = \"Garden\"");
    let loaded = parsed(&learning);
    assert_eq!(loaded.config.monitor.fleets[0].template.area.as_deref(), Some("Garden"));

    for (value, words) in [
        ("3".to_owned(), "area must be a string"),
        ("[\"Kitchen\"]".to_owned(), "area must be a string"),
        ("\"a\\nb\"".to_owned(), "not the name of a room"),
        (format!("\"{}\"", "x".repeat(101)), "not the name of a room"),
    ] {
        let text = format!("{MQTT}[device_lamp]\nwatchTopics = \"lamp\"\narea = {value}\n");
        let errors = refused(&text);
        assert!(errors.len() == 1 && errors[0].contains(words), "{value}: {errors:?}");
    }
}

#[test]
fn the_devices_stand_at_the_place_of_their_fleet() {
    let text = format!(
        "{MQTT}[device_a]\nhelloTopic = \"a\"\n[fleet_esp]\nnames = [\"z\", \"b\"]\n{ESP}[device_b]\n\
         enabled = false\n[device_c]\nhelloTopic = \"c\"\n"
    );
    assert_eq!(names(&text), ["a", "z", "b", "c"]);
}

#[test]
fn a_section_of_its_own_wins_key_by_key() {
    let own = "[device_attic]\nwatchTimeOut = 5\nhelloTopic = \"hi\"\nstateTopics = []\nalertUnit = \"\"\n";
    let keys =
        "names = [\"attic\", \"cellar\"]\nwatchTimeOut = 60\nalertUnit = \"notify@.service\"";
    for text in
        [format!("{}{own}", fleet(keys)), format!("{MQTT}{own}{}", fleet(keys).replace(MQTT, ""))]
    {
        let loaded = parsed(&text);
        let attic = device(&loaded, "attic");
        assert_eq!(attic.watch_timeout, Some(Duration::from_secs(5)));
        assert_eq!(attic.watch[0].as_str(), "home/attic/sensors/#");
        assert_eq!(attic.hello.as_ref().unwrap().as_str(), "hi");
        assert!(attic.state.is_empty());
        assert_eq!(
            attic.alert_unit.as_ref().unwrap().to_string(),
            "notify@.service",
            "empty is no key"
        );
        assert_eq!(device(&loaded, "cellar").watch_timeout, Some(Duration::from_secs(60)));
        assert_eq!(names(&text), ["attic", "cellar"]);
    }
    let empty = format!("{}[device_attic]\n", fleet(keys));
    assert_eq!(names(&empty), ["attic", "cellar"]);
    let wrong =
        format!("{}[device_attic]\nwatchTimeout = 5\n", fleet("names = [\"attic\", \"b\"]"));
    assert_eq!(refused(&wrong), ["9 unknown key `watchTimeout`, did you mean `watchTimeOut`?"]);
}

#[test]
fn what_is_wrong_for_all_is_said_once() {
    let keys = "names = [\"a\", \"b\", \"c\"]\nwatchTimeOut = \"soon\"\ncolour = 1\navailabilityTopic = \"{name}/+\"";
    let found = refused(&fleet(keys));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("5 watchTimeOut: `soon`"), "{found:?}");
    assert_eq!(found[1], "6 unknown key `colour` in [fleet_esp]");
    assert!(found[2].starts_with("7 availabilityTopic: `{name}/+`"), "{found:?}");
    let keys = "names = [\"a\", \"b\"]\navailabilityTopic = \"home/monitoring/{name}\"\navailabilityOffline = []";
    let found = parsed(&fleet(keys)).warnings;
    assert_eq!(found.len(), 1, "{found}");
    let found = refused(&fleet("names = [\"a\", \"b\"]\ndependsOn = \"nowhere\""));
    assert_eq!(found, ["5 dependsOn: there is no device or agent `nowhere`"]);
}

#[test]
fn what_comes_of_a_name_says_the_name() {
    for (keys, expected) in [
        ("names = [\"a\", \"b/c\"]", "4 the device name \"b/c\" may not contain '/'"),
        ("names = [\"a\", \"\"]", "4 names of [fleet_esp] holds an empty name"),
        ("names = [\"a\", 5]", "4 names must be a string, found number `5`"),
        (
            "names = [\"a\", \"b c\"]\nalertUnit = \"n-{name}@.service\"",
            "5 alertUnit: `n-b c@.service`",
        ),
        (
            "names = [\"b\"]\ndependsOn = \"gw-{name}\"",
            "5 dependsOn: there is no device or agent `gw-b`",
        ),
    ] {
        let text = fleet(keys);
        let found = refused(&text);
        assert_eq!(found.len(), 1, "{keys}: {found:?}");
        assert!(found[0].starts_with(expected), "{keys}: {found:?}");
    }
    let long = format!("names = [\"a\", \"{}\"]", "x".repeat(65_530));
    let found = refused(&fleet(&long));
    assert!(
        !found.is_empty() && found.iter().all(|found| found.contains("too long")),
        "{}",
        found.len()
    );
    let share =
        format!("{MQTT}[fleet_x]\nnames = [\"a\", \"$share\"]\nwatchTopics = \"{{name}}/b/c\"\n");
    assert_eq!(refused(&share).len(), 1);
    assert!(refused(&share)[0].contains("$share"));
}

#[test]
fn a_name_is_given_once() {
    let also = |rest: &str| format!("{}{rest}", fleet("names = [\"a\", \"b\"]"));
    let second = "[fleet_two]\nnames = [\"c\", \"a\"]\nwatchTopics = \"{name}/#\"\n";
    for (text, found, first) in [
        (fleet("names = [\"a\", \"b\", \"a\"]"), "4 `a` is", "config.toml:4"),
        (also(second), "9 `a` is", "config.toml:4"),
        (
            format!("{MQTT}[agent_b]\nexec = \"x\"\n{}", also("").replace(MQTT, "")),
            "6 `b` is the name of an agent",
            "config.toml:3",
        ),
        (also("[agent_b]\nexec = \"x\"\n"), "8 device_b and agent_b would share", "config.toml:4"),
    ] {
        let errors = errors(&text);
        let [error] = &errors[..] else { panic!("{text}: {errors:?}") };
        assert!(format!("{} {}", error.line, error.message).starts_with(found), "{error}");
        assert!(error.hint.contains(first), "{error}");
    }
}

#[test]
fn a_fleet_needs_names_and_topics_with_them() {
    for (text, expected) in [
        (fleet(""), "3 [fleet_esp] has no `names`"),
        (fleet("names = []"), "4 names of [fleet_esp] is empty"),
        (fleet("names = \"autto\""), "4 names = `autto` is neither a list nor \"auto\""),
        (fleet("names = 5"), "4 names must be a list of names or \"auto\", found number `5`"),
        (fleet("names = [\"a\"]\nexec = \"x\""), "5 unknown key `exec` in [fleet_esp]"),
        (fleet("names = [\"a\"]\nmaxDevices = 0"), "5 maxDevices = `0` is out of range"),
        (
            format!("{MQTT}[fleet_x]\nnames = [\"a\"]\nwatchTopics = \"home/#\"\n"),
            "3 no topic of [fleet_x] contains `{name}`",
        ),
        (format!("{MQTT}[fleet_x]\nnames = [\"a\"]\n"), "3 [fleet_x] has no topics"),
        (
            format!("{MQTT}[\"fleet_a/b\"]\nnames = [\"a\"]\nhelloTopic = \"{{name}}\"\n"),
            "3 the device name \"a/b\"",
        ),
        (format!("fleet_x = 5\n{MQTT}"), "1 `fleet_x` must be a section"),
    ] {
        let found = refused(&text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(expected), "{text}: {found:?}");
    }
    let agent = errors(&fleet("names = [\"a\"]\nexec = \"x\""));
    assert!(agent[0].hint.contains("an agent needs a section of its own"), "{}", agent[0]);
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    for (keys, topics, expected) in [
        (
            "names = [\"a\"]",
            "watchTopics = \"home/#\"\nhelloTopic = \"{name}\"",
            "watchTopics of [fleet_x] has no `{name}`",
        ),
        (
            "names = [\"a\"]",
            "stateTopics = \"home/#\"\nhelloTopic = \"{name}\"",
            "stateTopics of [fleet_x] has no `{name}`",
        ),
        (
            "names = [\"a\"]",
            "watchTopics = [\"{name}/#\", \"x/{Name}\"]",
            "`{Name}` in watchTopics is taken literally",
        ),
        (
            "names = [\"a\"]\nmaxDevices = 5",
            "watchTopics = \"{name}/#\"",
            "maxDevices has no effect with a list of names",
        ),
        (
            "names = [\"a\"]\nignore = \"b\"",
            "watchTopics = \"{name}/#\"",
            "ignore has no effect with a list of names",
        ),
    ] {
        let warnings = parsed(&format!("{MQTT}[fleet_x]\n{keys}\n{topics}\n")).warnings;
        let found = messages(&warnings);
        assert_eq!(found.len(), 1, "{topics}: {found:?}");
        assert!(found[0].contains(expected), "{topics}: {found:?}");
    }
    let quiet = "names = [\"a\"]\nhelloTopic = \"hello\"\navailabilityTopic = \"gw/LWT\"\nwatchTopics = \"{name}\"";
    assert!(parsed(&format!("{MQTT}[fleet_x]\n{quiet}\n")).warnings.is_empty());
    for members in ["", "[fleet_y]\nnames = [\"x\"]\nwatchTopics = \"{name}\"\n"] {
        let own = format!("{MQTT}[device_x]\nhelloTopic = \"home/{{name}}\"\n{members}");
        let found = messages(&parsed(&own).warnings);
        assert_eq!(found, ["4 `{name}` in helloTopic of [device_x] is taken literally"]);
    }
    let warnings = parsed(&format!("{MQTT}[flet_x]\nnames = [\"a\"]\n")).warnings;
    assert_eq!(warnings[0].hint, "did you mean [fleet_NAME]?");
}

#[test]
fn an_automatic_fleet_is_a_template() {
    let text = fleet(
        "names = \"auto\"\nwatchTimeOut = \"auto\"\nmaxDevices = 50\nignore = [\"guest*\", \"phone\"]\ndependsOn = \"gw\"",
    );
    let text = format!("{text}[device_gw]\nhelloTopic = \"gw\"\n");
    let loaded = parsed(&text);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(names(&text), ["gw"]);
    let [fleet] = &loaded.config.monitor.fleets[..] else { panic!("{:?}", loaded.config.monitor) };
    assert_eq!((fleet.name.as_str(), fleet.max_devices), ("esp", 50));
    assert!(fleet.ignores("guest-7") && fleet.ignores("phone") && !fleet.ignores("attic"));
    let topic = TopicName::new("home/attic/sensors/t").unwrap();
    assert_eq!(fleet.heard_on().name_in(&topic), Some("attic"));
    let member = fleet.member(&DeviceName::new("attic").unwrap());
    assert_eq!(member.watch[0].as_str(), "home/attic/sensors/#");
    assert_eq!(member.state[0].as_str(), "home/attic/actuators/#");
    assert_eq!(member.depends_on[0].as_str(), "gw");
    assert!(member.auto_timeout);
    let default =
        parsed(&super::fleets::fleet("names = \"auto\"")).config.monitor.fleets[0].clone();
    assert_eq!((default.max_devices, default.ignore.len()), (1_000, 0));
}

#[test]
fn a_section_without_topics_is_a_member_of_the_only_automatic_fleet() {
    let own = "[device_attic]\nwatchTimeOut = 5\n[device_shed]\nhelloTopic = \"other/shed\"\nenabled = false\n";
    let alerts = "[alerts]\nalertUnit = \"notify@.service\"\n";
    let text = format!("{}{own}{alerts}", fleet("names = \"auto\"\nwatchTimeOut = 60"));
    let loaded = parsed(&text);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(names(&text), ["attic", "shed"]);
    let attic = device(&loaded, "attic");
    assert_eq!(attic.watch[0].as_str(), "home/attic/sensors/#");
    assert_eq!(attic.watch_timeout, Some(Duration::from_secs(5)));
    let fleet = &loaded.config.monitor.fleets[0];
    assert_eq!(&fleet.member(&attic.name), attic);
    let shed = device(&loaded, "shed");
    assert!(shed.watch.is_empty() && shed.hello.as_ref().unwrap().as_str() == "other/shed");
    let merged = fleet.member(&shed.name);
    assert_eq!(merged.hello.unwrap().as_str(), "other/shed");
    assert_eq!(merged.watch[0].as_str(), "home/shed/sensors/#");
    assert!(!merged.enabled && merged.alert_unit.is_some());
    assert!(fleet.template.alert_unit.is_some());

    let second = "[fleet_two]\nnames = \"auto\"\nwatchTopics = \"two/{name}/#\"\n";
    let found = errors(&format!("{text}{second}"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].message.contains("[device_attic] has no topics"), "{}", found[0]);
    assert!(found[0].hint.contains("`names`"), "{}", found[0]);
}

#[test]
fn an_automatic_fleet_has_its_name_as_a_level_of_every_topic() {
    let auto = |rest: &str| format!("{MQTT}[fleet_x]\nnames = \"auto\"\n{rest}\n");
    for (rest, expected) in [
        (
            "watchTopics = \"home/esp-{name}/#\"",
            "5 watchTopics: `{name}` is not a whole level of `home/esp-{name}/#`",
        ),
        (
            "watchTopics = [\"{name}/#\", \"home/#\"]",
            "5 watchTopics: `home/#` does not contain `{name}`",
        ),
        (
            "watchTopics = \"{name}/#\"\navailabilityTopic = \"gw/LWT\"",
            "6 availabilityTopic: `gw/LWT` does not contain",
        ),
        ("stateTopics = \"{name}/#\"", "3 no message shows which members [fleet_x] has"),
        (
            "watchTopics = \"{name}/#\"\ndependsOn = \"gw-{name}\"",
            "6 dependsOn of [fleet_x] contains `{name}`",
        ),
        (
            "watchTopics = \"{name}/#\"\nalertUnit = \"n-{name}@.service\"",
            "6 alertUnit of [fleet_x] contains `{name}`",
        ),
        ("watchTopics = \"{name}/#\"\nignore = \"a/b\"", "6 ignore: `a/b` can match no name"),
        ("watchTopics = \"{name}/#\"\nignore = 5", "6 ignore must be"),
        (
            "watchTopics = \"{name}/#\"\nmaxDevices = 100001",
            "6 maxDevices = `100001` is out of range",
        ),
    ] {
        let found = refused(&auto(rest));
        assert_eq!(found.len(), 1, "{rest}: {found:?}");
        assert!(found[0].starts_with(expected), "{rest}: {found:?}");
    }
    let long = format!("watchTopics = \"{}/{{name}}\"", "x".repeat(65_400));
    let found = refused(&auto(&long));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("too long"), "{}", found[0].len());
}

/// A name could be at either place: `home/hello/attic` could be of `hello` or of `attic`.
#[test]
fn a_message_contains_its_name_at_one_place() {
    let auto = |topics: &str| format!("{MQTT}[fleet_x]\nnames = \"auto\"\n{topics}\n");
    for (topics, expected) in [
        (
            "watchTopics = \"home/{name}/#\"\nhelloTopic = \"home/hello/{name}\"",
            "6 helloTopic: `home/hello/{name}` and `home/{name}/#` have the name at different levels",
        ),
        (
            "watchTopics = [\"{name}/x/#\", \"+/+/{name}\"]",
            "5 watchTopics: `+/+/{name}` and `{name}/x/#` have the name at different levels",
        ),
        (
            "watchTopics = \"+/{name}/#\"\navailabilityTopic = \"{name}/a/LWT\"",
            "6 availabilityTopic: `{name}/a/LWT` and `+/{name}/#` have the name at",
        ),
    ] {
        let found = refused(&auto(topics));
        assert_eq!(found.len(), 1, "{topics}: {found:?}");
        assert!(found[0].starts_with(expected), "{topics}: {found:?}");
    }
    for topics in [
        "watchTopics = \"home/{name}/#\"\nhelloTopic = \"hello/{name}\"",
        "watchTopics = [\"home/{name}/#\", \"home/{name}/x/{name}\", \"tele/x/{name}\"]",
    ] {
        assert_eq!(messages(&parsed(&auto(topics)).warnings), [""; 0]);
    }
}

#[test]
fn an_order_that_introduces_a_device_is_a_warning() {
    let auto = |topics: &str| format!("{MQTT}[fleet_x]\nnames = \"auto\"\n{topics}\n");
    let found =
        parsed(&auto("watchTopics = \"home/{name}/#\"\nstateTopics = \"home/{name}/set/+\""));
    assert_eq!(
        messages(&found.warnings),
        ["6 stateTopics: a state on `home/{name}/set/+` is a message on `home/{name}/#` as well"]
    );
    let apart = "watchTopics = \"home/{name}/sensors/#\"\nstateTopics = \"home/{name}/set/+\"";
    assert_eq!(messages(&parsed(&auto(apart)).warnings), [""; 0]);
}

#[test]
fn automatic_fleets_share_no_topic() {
    let two = |first: &str, second: &str| {
        format!(
            "{MQTT}[fleet_a]\nnames = \"auto\"\nwatchTopics = \"{first}\"\n[fleet_b]\nnames = \"auto\"\nwatchTopics = \"{second}\"\n"
        )
    };
    for (first, second) in
        [("home/{name}/#", "home/esp/{name}"), ("{name}/a", "x/{name}"), ("a/{name}", "a/{name}")]
    {
        let found = errors(&two(first, second));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].message.contains("[fleet_a]") && found[0].hint.contains("config.toml:3"),
            "{}",
            found[0]
        );
    }
    assert_eq!(parsed(&two("a/{name}", "b/{name}")).config.monitor.fleets.len(), 2);
}

#[test]
fn check_counts_the_members() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let said = |text: &str| {
        fs::write(&file, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(check(&file, &Environment::default(), &mut out, &mut err), 0);
        let out = String::from_utf8(out).unwrap();
        out.split_once(": ok, ").unwrap().1.trim_end().to_owned()
    };
    let one = "[device_x]\nhelloTopic = \"x\"\n";
    assert_eq!(
        said(&format!("{}{one}", fleet("names = [\"a\", \"b\"]"))),
        "3 devices (2 of [fleet_esp])"
    );
    let auto = "[fleet_guests]\nnames = \"auto\"\nwatchTopics = \"guests/{name}/#\"\n";
    assert_eq!(
        said(&format!("{}{one}{auto}", fleet("names = [\"a\"]"))),
        "2 devices (1 of [fleet_esp]), and the devices that join [fleet_guests]"
    );
}

#[test]
fn the_members_of_all_fleets_are_bounded() {
    let names = (0..20_000).map(|at| format!("\"d{at}\",")).collect::<String>();
    let topics = (0..2_000).map(|at| format!("\"{{name}}/{at}\",")).collect::<String>();
    let text = format!("{MQTT}[fleet_x]\nnames = [{names}]\nwatchTopics = [{topics}]\n");
    let found = refused(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("4 the members of [fleet_x] have too many topics"), "{found:?}");
}
