//! The section `[homeassistant]`.

use super::{MQTT, errors, parsed};

#[test]
fn home_assistant_gets_no_descriptions_unless_the_file_says_so() {
    let off = parsed(MQTT).config.monitor.home_assistant;
    assert_eq!((off.discovery, off.commands), (None, false));
    let text = format!("{MQTT}[homeassistant]\ndiscovery = true\n");
    let on = parsed(&text).config.monitor.home_assistant;
    assert_eq!(on.discovery.unwrap().as_str(), "homeassistant");
    assert!(!on.commands);
    let text = format!(
        "{MQTT}[homeassistant]\ndiscovery = true\ndiscoveryPrefix = \"ha/x\"\nallowCommands = true\n"
    );
    let both = parsed(&text).config.monitor.home_assistant;
    assert_eq!((both.discovery.unwrap().as_str(), both.commands), ("ha/x", true));
}

#[test]
fn the_section_of_home_assistant_is_checked_like_the_others() {
    let text = format!("{MQTT}[homeassistant]\ndiscover = true\ndiscoveryPrefix = \"ha/#\"\n");
    let errors = errors(&text);
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[0].message, "unknown key `discover`, did you mean `discovery`?");
    assert_eq!(errors[1].line, 5);
    let wrong = format!("{MQTT}[homeasistant]\ndiscovery = true\n");
    assert!(parsed(&wrong).warnings[0].to_string().contains("did you mean [homeassistant]?"));
}
