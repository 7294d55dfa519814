//! What fleets decide, without a monitor around them.

use super::*;
use crate::model::message::{Connection, Message, QoS};
use crate::model::name_pattern::NamePattern;
use crate::topic::TopicFilter;
use std::collections::BTreeMap;

const T: fn(u64) -> Duration = Duration::from_secs;

fn name(text: &str) -> DeviceName {
    DeviceName::new(text).unwrap()
}

fn spec(fleet: &str, watch: &str, max_devices: usize) -> FleetSpec {
    let template = DeviceSpec {
        name: name("{name}"),
        area: None,
        watch_timeout: Some(T(30)),
        auto_timeout: false,
        expire_repeat: None,
        watch: vec![TopicFilter::new(watch).unwrap()],
        hello: None,
        availability: Vec::new(),
        availability_words: None,
        depends_on: Vec::new(),
        alert_unit: None,
        state: Vec::new(),
        restore_on_start: true,
        enabled: true,
        agent: None,
    };
    let ignore = vec![NamePattern::new("guest*")];
    FleetSpec { name: name(fleet), template, exceptions: BTreeMap::new(), max_devices, ignore }
}

fn fleets(max_devices: usize) -> (Fleets, FleetId) {
    let fleets = Fleets::new(vec![spec("esp", "home/{name}/#", max_devices)]);
    let id = fleets.named(&name("esp")).unwrap();
    (fleets, id)
}

#[test]
fn a_topic_has_the_name_of_the_fleet_that_it_belongs_to() {
    let fleets =
        Fleets::new(vec![spec("esp", "home/{name}/#", 9), spec("tasmota", "tele/{name}/+", 9)]);
    let found = |topic: &str| {
        let topic = TopicName::new(topic).unwrap();
        let (id, name) = fleets.name_in(&topic)?;
        Some((fleets.spec(id).name.to_string(), name.to_owned()))
    };
    let is = |fleet: &str, name: &str| Some((fleet.to_owned(), name.to_owned()));
    assert_eq!(found("home/cellar/t"), is("esp", "cellar"));
    assert_eq!(found("tele/lamp/STATE"), is("tasmota", "lamp"));
    assert_eq!(found("tele/lamp"), None);
}

#[test]
fn names_are_checked_before_there_is_anything_to_keep() {
    let (mut fleets, esp) = fleets(9);
    let mut meet = |text: &str| fleets.meet(esp, text, |name| name.as_str() == "bell");
    assert!(matches!(meet("attic"), Meeting::New(spec) if spec.name == name("attic")));
    assert_eq!(meet("guest-1"), Meeting::Ignored);
    assert_eq!(meet("bell"), Meeting::Refused(Some(NameRefusal::Taken)));
    assert_eq!(meet(""), Meeting::Refused(None), "one was reported");
    for (bad, refusal) in [
        ("", NameRefusal::Empty),
        ("a\u{7}", NameRefusal::Character('\u{7}')),
        (&"x".repeat(256), NameRefusal::TooLong),
    ] {
        let (mut fleets, esp) = self::fleets(9);
        assert_eq!(fleets.meet(esp, bad, |_| false), Meeting::Refused(Some(refusal)));
        assert_eq!(fleets.refused(), 1);
    }
}

#[test]
fn room_is_news_when_it_changes() {
    let (mut fleets, esp) = fleets(2);
    fleets.joined(esp);
    assert_eq!(fleets.room(esp), Room::Unchanged);
    fleets.joined(esp);
    assert_eq!((fleets.room(esp), fleets.room(esp)), (Room::Full, Room::Unchanged));
    assert_eq!(fleets.meet(esp, "attic", |_| false), Meeting::Ignored);
    // The configuration changes, and its members are counted again.
    assert_eq!(fleets.replace(vec![spec("esp", "home/{name}/#", 3)]), []);
    (0..2).for_each(|_| fleets.joined(esp));
    assert_eq!(fleets.room(esp), Room::Again);
    fleets.joined(esp);
    assert_eq!(fleets.room(esp), Room::Full);
    assert_eq!(fleets.replace(Vec::new()), [name("esp")], "nobody else could report its end");
}

#[test]
fn members_stay_unless_they_are_excluded() {
    let (mut fleets, esp) = fleets(1);
    fleets.joined(esp);
    assert_eq!(fleets.readmits(&name("esp"), &name("attic")), Some(esp), "despite the bound");
    assert_eq!(fleets.readmits(&name("esp"), &name("guest")), None);
    assert_eq!(fleets.readmits(&name("other"), &name("attic")), None);
    fleets.forgotten_mut().remember(&name("attic"), T(1));
    assert_eq!(fleets.readmits(&name("esp"), &name("attic")), None);
    assert_eq!(fleets.meet(esp, "attic", |_| false), Meeting::Ignored);
    assert_eq!(fleets.forgotten_mut().named(|_| true), [name("attic")]);
    assert_eq!(fleets.readmits(&name("esp"), &name("attic")), Some(esp));
}

#[test]
fn many_finds_are_reported_together_once_a_minute() {
    let (mut fleets, esp) = fleets(1_000);
    let attic = name("attic");
    for _ in 0..10 {
        assert_eq!(fleets.found(esp, &attic, T(5)), FindReport::ByItself);
    }
    assert_eq!(fleets.found(esp, &name("shed"), T(6)), FindReport::At(T(65)));
    assert_eq!(fleets.found(esp, &attic, T(7)), FindReport::Later);
    assert_eq!(fleets.summaries(T(64)), []);
    let summary = |count, example: &str| [(esp, FindSummary { count, example: name(example) })];
    assert_eq!(fleets.summaries(T(65)), summary(2, "shed"));
    // It goes on.
    assert_eq!(fleets.found(esp, &attic, T(66)), FindReport::At(T(125)));
    assert_eq!(fleets.summaries(T(125)), summary(1, "attic"));
    // And is over.
    assert_eq!(fleets.summaries(T(185)), []);
    assert_eq!(fleets.found(esp, &attic, T(186)), FindReport::ByItself);
}

#[test]
fn of_very_many_forgotten_names_the_oldest_goes() {
    let mut forgotten = ForgottenNames::default();
    for number in 0..1_000 {
        assert_eq!(forgotten.remember(&name(&format!("n{number}")), T(number + 1)), None);
    }
    assert_eq!(forgotten.remember(&name("late"), T(0)), Some(name("n0")));
    assert!(forgotten.contains("late") && !forgotten.contains("n0"));
    assert_eq!(forgotten.records().count(), 1_000);
    let record = forgotten.record(&name("late")).unwrap();
    assert!(record.forgotten && record.fleet.is_none());
}

fn early(topic: &str, payload: &str) -> Message {
    Message {
        topic: TopicName::new(topic).unwrap(),
        payload: payload.to_owned().into(),
        qos: QoS::AtMostOnce,
        retain: false,
        restored: false,
        waited_micros: 0,
    }
}

#[test]
fn what_is_kept_of_early_messages_is_bounded_in_bytes_and_in_number() {
    let kept = |length: usize| {
        let mut messages = EarlyMessages::default();
        for number in 0..2_000 {
            let message = early(&format!("home/{number}/{}", "x".repeat(length)), "1");
            messages.keep((Connection::Watch, &message), false, false);
        }
        messages.take()
    };
    assert_eq!(kept(1).len(), 1_000);
    let long = kept(60_000);
    let bytes: usize = long.iter().map(|early| early.message.topic.as_str().len()).sum();
    assert!(long.len() > 1 && bytes <= 1_048_576, "{} messages of {bytes} bytes", long.len());
}

#[test]
fn of_early_messages_on_one_topic_each_new_word_is_kept() {
    let mut messages = EarlyMessages::default();
    let long = "x".repeat(1_000);
    for (payload, is_report) in [("on", true), ("on", true), ("off", true), ("on", true)] {
        messages.keep((Connection::Watch, &early("a/LWT", payload)), false, is_report);
    }
    for payload in ["1", "2", "", &long] {
        messages.keep((Connection::Watch, &early("a/t", payload)), false, false);
    }
    messages.keep((Connection::State, &early("a/t", "3")), true, false);
    messages.keep((Connection::Watch, &early("a/LWT", &long)), false, true);
    let kept = messages.take();
    let lengths: Vec<_> = kept.iter().map(|early| early.message.payload.len()).collect();
    assert_eq!(lengths, [2, 3, 2, 1, 0, 1, 1, 255]);
    assert!(messages.take().is_empty());
}

#[test]
fn a_name_that_nobody_can_have_is_not_kept() {
    let (fleets, esp) = fleets(9);
    assert!(fleets.could_admit(esp, "attic"));
    for name in ["", "a\u{7}", "guest-1", &"x".repeat(256)] {
        assert!(!fleets.could_admit(esp, name), "{name}");
    }
}
