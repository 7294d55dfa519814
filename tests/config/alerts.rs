//! The section `[alerts]`, and `alertUnit` in others.

use super::{MQTT, device, errors, parsed};

fn units(text: &str) -> [Option<String>; 3] {
    let loaded = parsed(text);
    let lamp = device(&loaded, "lamp").alert_unit.as_ref().map(ToString::to_string);
    let bell = device(&loaded, "bell").alert_unit.as_ref().map(ToString::to_string);
    [loaded.config.monitor.alert_unit.as_ref().map(ToString::to_string), lamp, bell]
}

const LAMP: &str = "[device_lamp]\nwatchTopics = \"home/lamp\"\n";
const BELL: &str = "[agent_bell]\nexec = \"run\"\n";

#[test]
fn nothing_is_started_unless_the_file_says_so() {
    assert_eq!(units(&format!("{MQTT}{LAMP}{BELL}")), [None, None, None]);
}

#[test]
fn a_section_wins_over_the_unit_for_all() {
    let all = "[alerts]\nalertUnit = \"notify@.service\"\n";
    let (notify, call) = (Some("notify@.service".to_owned()), Some("call@.service".to_owned()));
    let text = format!("{MQTT}{LAMP}{BELL}alertUnit = \"call@.service\"\n{all}");
    assert_eq!(units(&text), [notify.clone(), notify, call.clone()]);
    let text = format!("{MQTT}{LAMP}{BELL}alertUnit = \"call@.service\"\n");
    assert_eq!(units(&text), [None, None, call]);
}

#[test]
fn anything_but_a_template_is_an_error() {
    for wrong in
        ["notify.service", "notify@", "notify@lamp.service", "notify@.timer", "a b@.service"]
    {
        let errors = errors(&format!("{MQTT}[alerts]\nalertUnit = \"{wrong}\"\n"));
        assert_eq!((errors.len(), errors[0].line), (1, 4), "{wrong}");
        assert!(
            errors[0].message.contains("not the name of a service template"),
            "{}",
            errors[0].message
        );
    }
}

#[test]
fn the_section_is_checked_like_the_others() {
    let errors = errors(&format!("{MQTT}[alerts]\nalertUnits = \"notify@.service\"\n"));
    assert_eq!(errors[0].message, "unknown key `alertUnits`, did you mean `alertUnit`?");
    let wrong = parsed(&format!("{MQTT}[alert]\nalertUnit = \"notify@.service\"\n"));
    assert!(wrong.warnings[0].to_string().contains("did you mean [alerts]?"));
}

#[test]
fn a_loss_of_the_broker_is_delivered_after_a_minute_or_as_configured() {
    let grace = |text: &str| parsed(&format!("{MQTT}{text}")).config.monitor.broker_grace.as_secs();
    assert_eq!(grace(""), 60);
    assert_eq!(grace("[alerts]\nalertUnit = \"notify@.service\"\n"), 60);
    assert_eq!(grace("[alerts]\nbrokerGrace = \"5m\"\n"), 300);
    assert_eq!(grace("[alerts]\nbrokerGrace = 0\n"), 0);
    let errors = errors(&format!("{MQTT}[alerts]\nbrokerGrace = \"2d\"\n"));
    assert!(errors[0].message.contains("out of range"), "{}", errors[0].message);
}
