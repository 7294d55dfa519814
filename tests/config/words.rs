//! Words where people stumble: each finding says what was probably meant.

use super::{MQTT, errors, parsed, system};
use iotmonitor::config::load;
use std::fs;

/// The lines and hints of all errors.
fn said(text: &str) -> Vec<(usize, String)> {
    errors(text).into_iter().map(|error| (error.line, error.hint)).collect()
}

#[test]
fn a_name_that_needs_quotes_is_shown_with_them() {
    for (header, quoted) in [
        ("[device_Küche]", "[\"device_Küche\"]"),
        ("[device_Living Room]", "[\"device_Living Room\"]"),
        ("[ agent_bell&light ]", "[\"agent_bell&light\"]"),
    ] {
        let text = format!("{MQTT}{header}\nwatchTopics = \"x\"\n");
        let found = errors(&text);
        let [error] = &found[..] else { panic!("{found:?}") };
        assert!(error.line == 3 && error.message.contains("needs quotes"), "{error}");
        assert_eq!(error.hint, format!("write {quoted}"));
        parsed(
            &text
                .replace(header, quoted)
                .replace("watchTopics", "exec")
                .replace("device_", "agent_"),
        );
    }
}

#[test]
fn all_lines_that_are_not_toml_are_named_at_once() {
    let text = "[mqtt]\nserverAddress = tcp\nuser = \"pi\npassword = !secret mqtt\n\
                [device_Küche]\nwatchTimeOut = 08\nwatchTopics = 'x' y\npath = \"C:\\users\"\n";
    let lines: Vec<usize> = errors(text).iter().map(|error| error.line).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn what_follows_from_a_list_that_is_not_closed_is_not_said() {
    for list in ["[\"a\", \"b", "[\"a\"\n\"b\"", "[\"a\","] {
        let text =
            format!("{MQTT}x = 08\n[device_x]\nwatchTopics = {list}\nuser = \"x\"\n[c]\nd = 1\n");
        let found = errors(&text);
        assert!(found.len() <= 3 && found[0].line == 3 && found[1].line >= 5, "{list}: {found:?}");
    }
}

#[test]
fn other_programs_files_are_recognised() {
    for (text, line, hint) in [
        ("[program:bell]\ncommand = \"x\"\n", 1, "[agent_bell]"),
        ("include conf.d/*\n", 1, "config.d"),
        ("mqtt:\n  server: x\n", 1, "[device_lamp]"),
        ("{\"mqtt\": {}}\n", 1, "[device_lamp]"),
        ("[mqtt]\npassword = !secret mqtt\n", 2, "no `!secret`"),
        ("[mqtt]\npath = \"C:\\users\"\n", 2, "single quotes"),
        ("[mqtt]\nKüche = 1\n", 2, "quotes"),
        ("[mqtt]\nkeepAlive = 030\n", 2, "without the zeros"),
    ] {
        let found = said(text);
        assert!(found[0].0 == line && found[0].1.contains(hint), "{text}: {found:?}");
    }
    for (key, own) in [
        ("command", "`exec`"),
        ("script", "`exec`"),
        ("ExecStart", "`exec`"),
        ("directory", "`workingDirectory`"),
        ("cwd", "`workingDirectory`"),
        ("env_file", "`environmentFile`"),
        ("autorestart", "remove it"),
    ] {
        let found = said(&format!("{MQTT}[agent_x]\nexec = \"x\"\n{key} = \"x\"\n"));
        let [(5, hint)] = &found[..] else { panic!("{key}: {found:?}") };
        assert!(hint.contains(own), "{key}: {hint}");
    }
    let found = said(&format!("{MQTT}[device_x]\nwatchTopics = \"x\"\nscript = \"x\"\n"));
    assert!(found[0].1.contains("[agent_x]"), "{found:?}");
}

#[test]
fn times_in_another_notation_are_shown_as_they_are_written_here() {
    for (wrong, right) in
        [("0x3C", "60"), ("0b11", "3"), ("1e3", "1000"), ("1.5e2", "150"), ("inf", "60")]
    {
        let text = format!("{MQTT}[device_x]\nwatchTopics = \"x\"\nwatchTimeOut = {wrong}\n");
        let found = errors(&text);
        let [error] = &found[..] else { panic!("{wrong}: {found:?}") };
        assert!(error.message.starts_with(&format!("watchTimeOut = `{wrong}` is not")), "{error}");
        assert_eq!(error.hint, format!("write watchTimeOut = {right}"));
        parsed(&text.replace(wrong, right));
    }
}

#[test]
fn bytes_that_are_not_utf8_are_named_with_their_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let found = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        load(&path, &system()).unwrap_err()
    };
    let text = b"# K\xfcche\n[mqtt]\nserverAddress = \"tcp://x\"\n[device_x]\nwatchTopics = \"T\xfcr \xe4\"\n";
    let shown = found(text);
    let places: Vec<_> = shown.errors().iter().map(|error| (error.line, error.column)).collect();
    assert_eq!(places, [(1, 4), (5, 17)]);
    assert_eq!(shown.errors()[0].message, "the byte 0xFC is not UTF-8 (in ISO-8859-1 it is `ü`)");
    assert!(shown.errors()[0].hint.contains("iconv -f ISO-8859-1 -t UTF-8"));
    let shown = found(b"[mqtt]\npassword = \"hunter2\xfc\"\n").to_string();
    assert!(
        !shown.contains("hunter2") && !shown.contains("0xFC") && shown.contains(":2:"),
        "{shown}"
    );
    let shown = found(b"\xff\xfe[\0m\0q\0t\0t\0]\0\n\0");
    assert_eq!(shown.errors().len(), 1);
    assert!(shown.to_string().contains("UTF-16"), "{shown}");
}

#[test]
fn a_reference_that_nothing_replaces_is_a_warning() {
    for value in
        ["${MQTT_PASSWORD}", "$MQTT_PASSWORD", "!secret mqtt", "%MQTT_PASSWORD%", "{{ mqtt }}"]
    {
        let loaded = parsed(&format!("{MQTT}password = \"{value}\"\n"));
        let [warning] = loaded.warnings.as_slice() else { panic!("{value}: {}", loaded.warnings) };
        assert!(warning.line == 3 && warning.message.contains("taken literally"), "{warning}");
        assert!(warning.hint.contains("LoadCredential=mqtt-password:"), "{warning}");
        assert_eq!(loaded.config.mqtt.password.as_ref().unwrap().reveal(), value);
        assert!(!warning.to_string().contains(value), "the value is a secret all the same");
    }
    for value in ["hunter2", "$ecret", "p${x}", "!", "%1"] {
        assert!(parsed(&format!("{MQTT}password = \"{value}\"\n")).warnings.is_empty(), "{value}");
    }
    assert_eq!(parsed(&format!("{MQTT}user = \"${{USER}}\"\n")).warnings.len(), 1);
}

#[test]
fn an_include_is_called_what_it_is() {
    for (text, what) in [
        (
            "include = \"conf.d/*.toml\"\n",
            "the key `include` is outside any section and is ignored",
        ),
        ("include = [\"a\", \"b\"]\n", "the key `include` is outside any section and is ignored"),
        ("[include]\nfiles = \"x\"\n", "the section [include] is unknown"),
    ] {
        let text =
            if text.starts_with('[') { format!("{MQTT}{text}") } else { format!("{text}{MQTT}") };
        let loaded = parsed(&text);
        let warning = &loaded.warnings[0];
        assert!(warning.message.starts_with(what), "{warning}");
        assert!(warning.hint.contains("there is no `include`"), "{warning}");
        assert!(warning.hint.contains("config.d"), "{warning}");
    }
}
