//! OpenDTU: `dtu/status` as birth message and will, `dtu/uptime` and others in an interval, sums in
//! `ac/…` and `dc/…`, and `SERIAL/CHANNEL/…` with what an inverter measures while the sun shines.
//! The DTU continues to publish `SERIAL/status/…` for an inverter that it no longer hears.
//! `…/cmd/…` are orders. (opendtu.solar/firmware/mqtt_topics)

use super::{Claim, Ecosystem, Facts, UsualSilence, first, is_number};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;
use std::time::Duration;

const NIGHT: UsualSilence = UsualSilence::Lasts(
    Duration::from_secs(25 * 3_600),
    "an inverter is silent from sunset to sunrise",
);

pub struct OpenDtu;

impl Ecosystem for OpenDtu {
    fn root(&self, topic: &str, _topics: &Topics) -> Option<String> {
        let sign = ["/dtu/status", "/dtu/uptime"].iter().find_map(|sign| topic.strip_suffix(sign));
        sign.map(str::to_owned)
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let dtu = format!("{root}/dtu");
        let serial = first(rest);
        Some(match rest {
            "dtu/status" => Claim::of(&dtu, TopicRole::Availability),
            _ if ["dtu", "ac", "dc"].contains(&serial) => Claim::of(&dtu, TopicRole::Telemetry),
            _ if is_number(serial) => {
                let what = rest.split('/').nth(1).unwrap_or_default();
                let role = match what {
                    "cmd" => TopicRole::Request,
                    channel if is_number(channel) => TopicRole::Telemetry,
                    _ => TopicRole::Description,
                };
                let name = format!("inverter-{serial}");
                Claim::new(format!("{root}/{serial}"), name, role).behind(dtu)
            }
            _ => return None,
        })
    }

    fn filters(&self, device: &str, contacts: &[&TopicName]) -> Vec<String> {
        if device.ends_with("/dtu") {
            return vec![format!("{device}/+")];
        }
        // Each channel that was heard is watched with all its readings.
        let channels = contacts.iter().filter_map(|topic| {
            let rest = topic.as_str().strip_prefix(device)?.strip_prefix('/')?;
            Some(format!("{device}/{}/+", first(rest)))
        });
        channels.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    fn narrow(&self, device: &str) -> Vec<String> {
        vec![format!("{device}/uptime")]
    }

    fn silence(&self, device: &str, _facts: Facts<'_>) -> Option<UsualSilence> {
        (!device.ends_with("/dtu")).then_some(NIGHT)
    }

    fn reports(&self, device: &str) -> Option<&'static str> {
        (device.ends_with("/dtu")).then_some("OpenDTU reports in an interval")
    }
}
