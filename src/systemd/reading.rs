//! Derives a report from a unit's properties: pure, without a bus.

use super::condition::{Markers, Properties, UnitCondition, bytes_of, text_of};
use super::proxy::UNIT_NAMESPACE;
use iotmonitor_core::model::cluster::store::Revision;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::unit::{SharedUnit, UnitReport};
use iotmonitor_core::model::unit_name::UnitName;
use zbus::Variant;

/// Journal fields that mark a unit as an agent of this program. They are also part of every entry
/// that the agent writes.
pub(super) const FIELD_AGENT: &str = "IOTMONITOR_AGENT";
/// The clientid of the instance that the unit belongs to.
pub(super) const FIELD_INSTANCE: &str = "IOTMONITOR_INSTANCE";
/// The definition hash that the unit was started with.
pub(super) const FIELD_DEFINITION: &str = "IOTMONITOR_DEFINITION";
/// By what right an agent that several nodes share runs here.
pub(super) const FIELD_EPOCH: &str = "IOTMONITOR_EPOCH";

/// Escapes a string for a marker. systemd writes the marker into the unit's file and splits it at
/// the blanks when it reads the file again, at a daemon-reload; so each blank becomes `\xNN`, as in
/// the unit's name.
pub(super) fn marked(text: &str) -> String {
    let mut marked = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_whitespace() || character.is_ascii_control() {
            marked.push_str(&format!("\\x{:02x}", u32::from(character)));
        } else {
            marked.push(character);
        }
    }
    marked
}

/// The string behind what [`marked`] has written.
fn unmarked(field: &str) -> String {
    let mut parts = field.split("\\x");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code.filter(|code| code.is_ascii_whitespace() || code.is_ascii_control()) {
            Some(code) => {
                text.push(char::from(code));
                text.push_str(&part[2..]);
            }
            None => text.extend(["\\x", part]),
        }
    }
    text
}

/// Whether a marker names this instance. Up to 0.3 it contained the blanks, of which systemd keeps
/// only the part before the first one; the unit's name contains the rest.
fn names_instance(field: &str, unit: &UnitName, client_id: &str) -> bool {
    field == marked(client_id)
        || (client_id.split_ascii_whitespace().next() == Some(field) || field == client_id)
            && unit.is_of(client_id)
}

/// All units of all instances, for ListUnitsByPatterns.
pub(super) const UNIT_PATTERN: &str = "iotmonitor*-agent-*.service";

/// The object behind a unit's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UnitReading {
    /// Nothing: not loaded, or a name that other units mention without such a unit existing.
    Absent,
    /// A unit that does not belong to this monitor, with its file if there is one.
    Foreign {
        file: Option<String>,
    },
    Own(UnitReport),
}

/// Whether a name can be that of an agent's unit, of whatever instance.
pub(super) fn may_be_agent(name: &str) -> bool {
    name.starts_with("iotmonitor-") && name.contains("agent-") && name.ends_with(".service")
}

/// The unit behind an object path, if it may be an agent's. systemd writes every byte of the name
/// that is not an ASCII letter or digit as `_` and two hex digits (sd_bus_path_encode(3)).
pub(super) fn agent_of_path(path: &str) -> Option<UnitName> {
    let label = path.strip_prefix(UNIT_NAMESPACE)?.strip_prefix('/')?;
    if !label.starts_with("iotmonitor") {
        return None;
    }
    let mut bytes = Vec::with_capacity(label.len());
    let mut rest = label.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'_' && tail.len() >= 2 {
            let digits = std::str::from_utf8(&tail[..2]).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    may_be_agent(&name).then(|| UnitName::from_systemd(name))
}

/// Interprets the properties of a loaded unit.
pub(super) fn interpret(
    unit: &UnitName,
    client_id: &str,
    properties: &Properties<'_>,
) -> UnitReading {
    let fields = byte_strings(properties.get("LogExtraFields"));
    let field = |name: &str| {
        fields.iter().find_map(|f| f.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };

    let is_ours = field(FIELD_INSTANCE).is_some_and(|id| names_instance(&id, unit, client_id));
    if !is_ours || field(FIELD_AGENT).is_none() {
        if text_of(properties, "LoadState") == "not-found" {
            return UnitReading::Absent;
        }
        let file = text_of(properties, "FragmentPath");
        return UnitReading::Foreign { file: (!file.is_empty()).then(|| file.to_owned()) };
    }
    let markers = Markers {
        definition: field(FIELD_DEFINITION),
        shared: field(FIELD_EPOCH).and_then(|epoch| {
            let agent = agent_of(unit, client_id, field(FIELD_AGENT)?)?;
            Some(SharedUnit { agent, epoch: Revision(epoch.parse().ok()?) })
        }),
    };
    UnitReading::Own(UnitCondition::read(properties).report(unit.clone(), markers))
}

/// The agent that a marker names. A name with a backslash may look like an escaped one, so the name of
/// the unit decides.
fn agent_of(unit: &UnitName, client_id: &str, field: String) -> Option<DeviceName> {
    let is_its = |name: &String| UnitName::for_agent(client_id, name).as_ref() == Ok(unit);
    let name = [unmarked(&field), field].into_iter().find(is_its)?;
    DeviceName::new(name).ok()
}

/// An `aay` whose elements are strings.
fn byte_strings(value: Option<&Variant<'_>>) -> Vec<String> {
    let Some(Variant::Array(array)) = value else { return Vec::new() };
    array
        .iter()
        .filter_map(|element| match element {
            Variant::Array(bytes) => String::from_utf8(bytes_of(bytes)).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::unit::ActiveState;
    use std::time::Duration;

    fn properties(fields: &[&str]) -> Properties<'static> {
        let fields: Vec<Vec<u8>> = fields.iter().map(|f| f.as_bytes().to_vec()).collect();
        Properties::from([
            ("LoadState".to_owned(), Variant::from("loaded")),
            ("ActiveState".to_owned(), Variant::from("active")),
            ("FragmentPath".to_owned(), Variant::from("/etc/systemd/system/x.service")),
            ("Job".to_owned(), job(0)),
            ("MainPID".to_owned(), Variant::from(17_u32)),
            ("NRestarts".to_owned(), Variant::from(2_u32)),
            ("InvocationID".to_owned(), Variant::from(vec![0x0a_u8, 0xff])),
            ("Result".to_owned(), Variant::from("signal")),
            ("ExecMainCode".to_owned(), Variant::from(2_i32)),
            ("ExecMainStatus".to_owned(), Variant::from(9_i32)),
            ("ExecMainExitTimestamp".to_owned(), Variant::from(1_700_000_000_500_000_u64)),
            ("LogExtraFields".to_owned(), Variant::from(fields)),
        ])
    }

    /// A unit's job, or none with the number 0.
    fn job(number: u32) -> Variant<'static> {
        let path = zbus::ObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{number}"));
        Variant::from((number, path.unwrap()))
    }

    fn lamp() -> UnitName {
        UnitName::for_agent("iotmonitor", "lamp").unwrap()
    }

    #[test]
    fn a_marked_unit_is_read_in_full() {
        let marked = properties(&[
            "IOTMONITOR_AGENT=lamp",
            "IOTMONITOR_INSTANCE=iotmonitor",
            "IOTMONITOR_DEFINITION=abc",
        ]);
        let report = UnitReport {
            unit: lamp(),
            active: ActiveState::Active,
            has_job: false,
            main_pid: 17,
            invocation: "0aff".to_owned(),
            restarts: 2,
            result: "signal".to_owned(),
            last_exit: Some("killed by SIGKILL".to_owned()),
            ended_at: Some(Duration::from_millis(1_700_000_000_500)),
            definition: Some("abc".to_owned()),
            shared: None,
        };
        assert_eq!(interpret(&lamp(), "iotmonitor", &marked), UnitReading::Own(report));
    }

    #[test]
    fn the_marker_says_by_what_right_a_shared_agent_runs() {
        let shared = |agent: &str, epoch: &str| {
            let (agent, epoch) =
                (format!("IOTMONITOR_AGENT={agent}"), format!("IOTMONITOR_EPOCH={epoch}"));
            let marked = properties(&[&agent, "IOTMONITOR_INSTANCE=iotmonitor", &epoch]);
            move |name: &str| {
                let unit = UnitName::for_agent("iotmonitor", name).unwrap();
                match interpret(&unit, "iotmonitor", &marked) {
                    UnitReading::Own(report) => report.shared,
                    other => panic!("{other:?}"),
                }
            }
        };
        for name in ["lamp", "my pump", "a\\x20b", "küche"] {
            let agent = DeviceName::new(name).unwrap();
            let expected = SharedUnit { agent, epoch: Revision(7) };
            assert_eq!(shared(&marked(name), "7")(name), Some(expected));
        }
        assert_eq!(shared("lamp", "x")("lamp"), None);
        assert_eq!(shared("pump", "7")("lamp"), None);
    }

    #[test]
    fn the_marker_decides_whose_a_unit_is() {
        let file = Some("/etc/systemd/system/x.service".to_owned());
        for fields in [
            &[][..],
            &["IOTMONITOR_AGENT=lamp"],
            &["IOTMONITOR_AGENT=lamp", "IOTMONITOR_INSTANCE=garden"],
            &["IOTMONITOR_AGENT=lamp", "IOTMONITOR_INSTANCE=iotmonitor2"],
            &["IOTMONITOR_INSTANCE=iotmonitor"],
        ] {
            assert_eq!(
                interpret(&lamp(), "iotmonitor", &properties(fields)),
                UnitReading::Foreign { file: file.clone() },
                "{fields:?}"
            );
        }
    }

    #[test]
    fn blanks_in_a_marker_are_kept_over_a_daemon_reload() {
        assert_eq!(marked("the house\t2"), "the\\x20house\\x092");
        assert_eq!(marked("küche-1"), "küche-1");
        let unit = UnitName::for_agent("the house", "my pump").unwrap();
        let is_own = |unit: &UnitName, instance: &str| {
            let instance = format!("IOTMONITOR_INSTANCE={instance}");
            let marked = properties(&["IOTMONITOR_AGENT=my", &instance]);
            matches!(interpret(unit, "the house", &marked), UnitReading::Own(_))
        };
        // As it is, as earlier versions wrote it, and as systemd altered that.
        assert!(is_own(&unit, "the\\x20house"));
        assert!(is_own(&unit, "the house") && is_own(&unit, "the"));
        assert!(!is_own(&UnitName::for_agent("the", "my pump").unwrap(), "the"));
        assert!(!is_own(&unit, "house"));
    }

    #[test]
    fn a_mentioned_name_without_a_unit_is_absent() {
        let mut stub = properties(&[]);
        stub.insert("LoadState".to_owned(), Variant::from("not-found"));
        assert_eq!(interpret(&lamp(), "iotmonitor", &stub), UnitReading::Absent);
    }

    #[test]
    fn object_paths_give_back_the_names_of_units() {
        let unit = |path: &str| agent_of_path(path).map(|unit| unit.as_str().to_owned());
        let below = |label: &str| format!("/org/freedesktop/systemd1/unit/{label}");
        assert_eq!(
            unit(&below("iotmonitor_2dagent_2dled_5cx2dbox_2eservice")).as_deref(),
            Some("iotmonitor-agent-led\\x2dbox.service")
        );
        assert_eq!(
            unit(&below("iotmonitor_2dgarden_2dagent_2dpump_2eservice")).as_deref(),
            Some("iotmonitor-garden-agent-pump.service")
        );
        assert_eq!(unit(&below("iotmonitor_2eservice")), None);
        assert_eq!(unit(&below("ssh_2eservice")), None);
        assert_eq!(unit(&below("iotmonitor_2dagent_2d_zz_2eservice")), None);
        assert_eq!(unit("/org/freedesktop/systemd1"), None);
    }
}
