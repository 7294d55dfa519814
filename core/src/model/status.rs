//! The JSON of a device's status. It is used for the retained `status/NAME`, for the answers over
//! HTTP, and for the output of `iotmonitor status --json`.

use crate::model::alert::Reason;
use crate::model::view::{AgentView, DeviceView, Learned, Liveness};
use serde::{Deserialize, Serialize, Serializer};
use siphasher::sip::SipHasher13;
use std::time::Duration;

/// The status of a device or agent. [`DeviceStatus::published`] leaves out values that change
/// without a change of the state, or that concern only this host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus<'a> {
    name: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<&'a str>,
    /// The area of the house.
    #[serde(skip_serializing_if = "Option::is_none")]
    area: Option<&'a str>,
    /// The devices and agents through which it is heard.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    depends_on: &'a [String],
    state: &'static str,
    /// The reason for the alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// The time of the last change of `state`, in Unix seconds.
    since: u64,
    /// The time of the last contact in Unix seconds, or `null` if there never was one.
    last_contact: Option<u64>,
    /// The timeout in seconds. With 0, the watch never expires.
    watch_time_out: JsonSeconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    hellos: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_until: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    silenced_until: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    /// The revision of the plan by which the node has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    /// The alert waits for the state of another device, and is the next owner's to send.
    #[serde(skip_serializing_if = "is_false")]
    unsent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<AgentStatus<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rhythm: Option<RhythmStatus>,
    /// The uptime of the last 30 days, from 0 to 1, where Home Assistant shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime: Option<f64>,
}

/// The silences between the contacts of a device; null where they are not learned yet.
#[derive(Debug, Serialize)]
struct RhythmStatus {
    usual: Option<JsonSeconds>,
    rare: Option<JsonSeconds>,
    longest: Option<JsonSeconds>,
    /// The timeout that `watchTimeOut = "auto"` uses.
    auto: Option<JsonSeconds>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentStatus<'a> {
    unit: &'a str,
    /// systemd's ActiveState.
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    main_pid: Option<u32>,
    restarts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_exit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_exit_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_start: Option<u64>,
}

/// A duration that is written in seconds, without a fraction where there is none.
#[derive(Debug)]
struct JsonSeconds(Duration);

impl Serialize for JsonSeconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.subsec_nanos() == 0 {
            serializer.serialize_u64(self.0.as_secs())
        } else {
            serializer.serialize_f64(self.0.as_secs_f64())
        }
    }
}

impl<'a> DeviceStatus<'a> {
    /// Returns the status with everything that is known.
    #[must_use]
    pub fn of(view: &'a DeviceView) -> Self {
        Self {
            name: &view.name,
            kind: view.kind(),
            fleet: view.fleet.as_deref(),
            area: view.area.as_deref(),
            depends_on: &view.depends_on,
            state: view.state.as_str(),
            reason: view.reason.as_deref(),
            since: view.since.as_secs(),
            last_contact: view.last_contact.map(|contact| contact.as_secs()),
            watch_time_out: JsonSeconds(view.watch_timeout.unwrap_or_default()),
            hellos: Some(view.hellos),
            disabled_until: view.disabled_until.map(|until| until.as_secs()),
            silenced_until: view.silenced_until.map(|until| until.as_secs()),
            node: view.node.as_deref(),
            epoch: view.epoch,
            unsent: view.is_unsent,
            agent: view.agent.as_ref().map(AgentStatus::of),
            rhythm: None,
            uptime: None,
        }
    }

    /// Returns the same with the rhythm of the device, which lists leave out.
    #[must_use]
    pub fn with_rhythm(view: &'a DeviceView) -> Self {
        let learned = view.learned;
        let seconds = |of: fn(Learned) -> Duration| learned.map(|it| JsonSeconds(of(it)));
        let rhythm = RhythmStatus {
            usual: seconds(|it| it.usual),
            rare: seconds(|it| it.rare),
            longest: seconds(|it| it.longest),
            auto: learned.and_then(|it| it.proposed).map(JsonSeconds),
        };
        Self { rhythm: Some(rhythm), ..Self::of(view) }
    }

    /// Returns the status that is retained on `status/NAME`, with the uptime if it is to be there.
    #[must_use]
    pub fn published(view: &'a DeviceView, uptime: Option<f64>) -> Self {
        let agent = view.agent.as_ref().map(AgentStatus::published);
        let (area, depends_on, hellos, disabled_until, silenced_until) =
            (None, &[][..], None, None, None);
        Self {
            area,
            depends_on,
            hellos,
            disabled_until,
            silenced_until,
            agent,
            uptime,
            ..Self::of(view)
        }
    }

    /// Returns the status as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and numbers always serialize; an empty payload would clear a retained status.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

impl<'a> AgentStatus<'a> {
    fn of(agent: &'a AgentView) -> Self {
        Self {
            unit: &agent.unit,
            state: &agent.state,
            main_pid: Some(agent.main_pid),
            restarts: agent.restarts,
            last_exit: agent.last_exit.as_deref(),
            last_exit_at: agent.last_exit_at.map(|at| at.as_secs()),
            next_start: agent.next_start.map(|at| at.as_secs()),
        }
    }

    fn published(agent: &'a AgentView) -> Self {
        let (main_pid, last_exit, last_exit_at, next_start) = (None, None, None, None);
        Self { main_pid, last_exit, last_exit_at, next_start, ..Self::of(agent) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What the retained status of a device says to the other nodes of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusWord {
    pub state: Liveness,
    pub reason: Option<Reason>,
    /// Of the last change of `state`, since the Unix epoch.
    pub since: Duration,
    pub last_contact: Option<Duration>,
    /// People have not been notified of the alarm.
    pub is_unsent: bool,
    /// The node that says so has the device by a plan, and does not stand in for another one.
    pub is_owned: bool,
    /// Distinguishes the whole of it from others.
    pub digest: u64,
}

impl StatusWord {
    /// Reads what [`DeviceStatus::published`] has written. Returns `None` for anything else.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct WrittenStatus {
            state: String,
            reason: Option<String>,
            since: u64,
            last_contact: Option<u64>,
            #[serde(default)]
            unsent: bool,
            epoch: Option<u64>,
        }
        let word: WrittenStatus = serde_json::from_slice(payload).ok()?;
        let reason = word.reason.as_deref();
        Some(Self {
            state: Liveness::named(&word.state)?,
            reason: Reason::ALL.iter().copied().find(|known| Some(known.as_str()) == reason),
            since: Duration::from_secs(word.since),
            last_contact: word.last_contact.map(Duration::from_secs),
            is_unsent: word.unsent,
            is_owned: word.epoch.is_some(),
            digest: digest(payload),
        })
    }

    /// Whether what depends on the device cannot be heard.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.state == Liveness::Expired || self.reason == Some(Reason::AgentFailed)
    }
}

/// The [`StatusWord::digest`] of a status.
#[must_use]
pub fn digest(payload: &[u8]) -> u64 {
    SipHasher13::new().hash(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_it_was_published() {
        let view = DeviceView {
            name: "lamp".to_owned(),
            state: Liveness::Expired,
            reason: Some("upstream".to_owned()),
            since: Duration::from_secs(7),
            last_contact: Some(Duration::from_secs(5)),
            is_unsent: true,
            epoch: Some(7),
            ..DeviceView::default()
        };
        let json = DeviceStatus::published(&view, None).to_json();
        let word = StatusWord::parse(json.as_bytes()).unwrap();
        let expected = StatusWord {
            state: Liveness::Expired,
            reason: Some(Reason::Upstream),
            since: view.since,
            last_contact: view.last_contact,
            is_unsent: true,
            is_owned: true,
            digest: digest(json.as_bytes()),
        };
        assert_eq!(word, expected);
        assert!(word.is_down());
        let alive = DeviceView { state: Liveness::Alive, ..DeviceView::default() };
        let json = DeviceStatus::published(&alive, None).to_json();
        assert!(!json.contains("unsent") && !json.contains("epoch"), "{json}");
        assert!(!StatusWord::parse(json.as_bytes()).unwrap().is_down());
        for other in ["", "{}", "online", r#"{"state":"lost","since":1}"#] {
            assert_eq!(StatusWord::parse(other.as_bytes()), None);
        }
    }
}
