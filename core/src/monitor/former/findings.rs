//! Formulates the alerts that report the results for former identities.

use crate::machines::takedown::{Finding, Sign, TakedownEnd};
use crate::model::alert::AlertKind;
use crate::model::identity::{Former, Identity};
use crate::model::words::counted;

/// The alert that reports a finding.
pub(super) fn alert_of(finding: &Finding) -> (AlertKind, String) {
    match finding {
        Finding::CopiedStore => (
            AlertKind::LeftBehind,
            "the store was made on another machine, which may still be in use: nothing that was \
             published from there is taken back. If both are to run, give one of them another \
             clientid and baseTopic"
                .to_owned(),
        ),
        Finding::Renamed { last, now } => (
            AlertKind::IdentityChanged,
            format!(
                "the monitor had the clientid `{}` and the baseTopic `{}`, and now has `{}` and `{}`: what it left under the former ones is taken down",
                last.connection_id(),
                last.base_topic,
                now.connection_id(),
                now.base_topic
            ),
        ),
        Finding::Elsewhere { former, server } => {
            (AlertKind::LeftBehind, elsewhere_sentence(former, server))
        }
        Finding::UnitsStopped { client_id, count } => {
            let agents = counted(*count, "agent");
            let were = if *count == 1 { "was" } else { "were" };
            let message = format!("{agents} of the former clientid `{client_id}` {were} stopped");
            (AlertKind::AgentStopped, message)
        }
        Finding::UnitsNotStopped { client_id, reason } => (
            AlertKind::AgentFailed,
            format!(
                "agents of the former clientid `{client_id}` cannot be stopped ({reason}): no agent \
                 is started before they are, it is tried again"
            ),
        ),
        Finding::ClientIdInUse { client_id } => (
            AlertKind::LeftBehind,
            format!(
                "another monitor of this machine uses the former clientid `{client_id}`: what was left under it is left to that monitor"
            ),
        ),
        Finding::Ended { identity, end } => ended_alert(identity, *end),
    }
}

fn elsewhere_sentence(former: &Former, now: &str) -> String {
    let Identity { base_topic, server, .. } = &former.identity;
    let client_id = former.identity.connection_id();
    let devices = counted(former.devices.len(), "device");
    let described = match former.prefixes.as_slice() {
        [] => String::new(),
        prefixes => {
            format!(", their descriptions below `{}/device/`", prefixes.join("/device/`, `"))
        }
    };
    format!(
        "the broker was {server} and is {now} now: what iotmonitor left at the former one stays \
         there, `{base_topic}/availability` and `{base_topic}/status/NAME` of {devices}{described}, \
         and the session of `{client_id}-states`"
    )
}

fn ended_alert(identity: &Identity, end: TakedownEnd) -> (AlertKind, String) {
    let (client_id, base_topic) = (identity.connection_id(), &identity.base_topic);
    let names = format!("the former clientid `{client_id}` and baseTopic `{base_topic}`");
    match end {
        TakedownEnd::Done => (
            AlertKind::IdentityChanged,
            format!("what was left at the broker under {names} has been taken down"),
        ),
        TakedownEnd::InUse(sign) => {
            let sign = match sign {
                Sign::TakesConnection => "it takes the connection away",
                Sign::SharesBase => "another monitor publishes below the same baseTopic",
                Sign::Publishes => "a monitor publishes below its baseTopic",
            };
            (
                AlertKind::LeftBehind,
                format!("another monitor goes by {names} ({sign}): what was left is left to it"),
            )
        }
        TakedownEnd::Unseen => (
            AlertKind::LeftBehind,
            format!(
                "the broker does not show whether another monitor uses {names}: what was left under them is not taken down"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device_name::DeviceName;

    #[test]
    fn what_stays_on_another_broker_is_named() {
        let identity = Identity {
            machine: None,
            client_id: "a".to_owned(),
            node: None,
            base_topic: "base".to_owned(),
            discovery_prefix: None,
            server: "tcp://old:1883".to_owned(),
        };
        let former = Former {
            identity,
            devices: vec![DeviceName::new("lamp").unwrap()],
            prefixes: vec!["ha".to_owned()],
            units_done: false,
            broker_done: false,
        };
        let server = "tcp://new:1883".to_owned();
        let (kind, sentence) = alert_of(&Finding::Elsewhere { former, server });
        assert_eq!(kind, AlertKind::LeftBehind);
        let words = [
            "tcp://old:1883",
            "tcp://new:1883",
            "base/status/",
            "1 device",
            "ha/device/",
            "a-states",
        ];
        for word in words {
            assert!(sentence.contains(word), "{word} is missing in {sentence}");
        }
    }

    #[test]
    fn agents_that_were_stopped_are_counted() {
        let sentence =
            |count| alert_of(&Finding::UnitsStopped { client_id: "a".to_owned(), count }).1;
        assert_eq!(sentence(1), "1 agent of the former clientid `a` was stopped");
        assert_eq!(sentence(2), "2 agents of the former clientid `a` were stopped");
    }
}
