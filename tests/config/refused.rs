//! Wrong values, key by key.

use super::{MQTT, errors};

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
        ("baseTopic = \"$SYS/x\"", 13, "`$SYS/x`", "home/monitoring"),
        ("baseTopic = 7", 13, "`7`", "baseTopic = \"…\""),
        ("clientid = \"a/b\"", 12, "`a/b` may not contain '/'", "unit names"),
        ("clientid = \"a\\tb\"", 12, "'\\t'", "unit names"),
        ("protocol = \"3.1.2\"", 12, "`3.1.2`, did you mean \"3.1.1\"?", "\"auto\""),
        ("protocol = 5", 12, "`5`", "protocol = \"…\""),
        ("keepAlive = 4", 13, "`4` is out of range", "from 5s to"),
        ("keepAlive = 65536", 13, "`65536`", "18h 12min 15s"),
        ("keepAlive = \"5500ms\"", 13, "`5500ms`", "keepAlive = 30"),
        ("keepAlive = -30", 13, "`-30`", "90s"),
        ("keepAlive = true", 13, "`true`", "keepAlive = 60"),
        ("maxSubscriptions = 0", 20, "`0`", "maxSubscriptions = 50"),
        ("maxSubscriptions = \"50\"", 20, "found string `50`", "maxSubscriptions = 50"),
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
        ("", "no `serverAddress`", "tcp://localhost:1883"),
        (" ", "empty", "tcp://localhost:1883"),
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
        ("watchTimeOut = 0x10", 16, "`0x10`", "watchTimeOut = 16"),
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
            "environment must be a table, found string",
            "environment = {",
        ),
        ("environment = { 1A = \"b\" }", 17, "`1A`", "digit"),
        ("environment = { A = [1] }", 21, "A must be a string", "A = \"…\""),
        ("environment = { IOTMONITOR_EXEC = \"b\" }", 17, "IOTMONITOR_EXEC", "another"),
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
