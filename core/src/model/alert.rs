//! Alerts to people: one kind per event, each with its name, priority and MESSAGE_ID.

use super::device_name::DeviceName;
use super::unit_name::UnitName;
use super::words::mebibytes;
use serde::{Deserialize, Serialize};

/// The reason of an alarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No contact within its watchTimeOut, and no other reason is known.
    #[default]
    Silent,
    /// Its availabilityTopic reports that it is gone.
    LwtOffline,
    /// systemd cannot keep its process up.
    AgentFailed,
    /// Its process is alive, but it is silent.
    AgentHung,
    /// A device that it depends on is down.
    Upstream,
    /// It alternates between present and gone.
    Flapping,
}

impl Reason {
    pub const ALL: &[Reason] = &[
        Reason::Silent,
        Reason::LwtOffline,
        Reason::AgentFailed,
        Reason::AgentHung,
        Reason::Upstream,
        Reason::Flapping,
    ];

    /// The reason as in `status/NAME` and the journal field `IOTMONITOR_REASON`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::LwtOffline => "lwt-offline",
            Self::AgentFailed => "agent-failed",
            Self::AgentHung => "agent-hung",
            Self::Upstream => "upstream",
            Self::Flapping => "flapping",
        }
    }
}

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub kind: AlertKind,
    pub device: Option<DeviceName>,
    /// The agent's unit, under which the entry can be found too.
    pub unit: Option<UnitName>,
    /// The reason of the episode that it begins or ends.
    pub reason: Option<Reason>,
    /// Details about the agent's unit, where they are useful.
    pub account: Option<Box<Account>>,
    /// One sentence, with the remedy where a person can do something.
    pub message: String,
}

/// Details about a unit that failed or hangs. The core knows how it ended; the rest is added on the
/// way to the journal, as far as it is available.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// How its last process ended.
    pub exit: Option<String>,
    /// The peak memory, in bytes.
    pub memory_peak: Option<u64>,
    /// The last lines that it has printed.
    pub lines: Vec<String>,
    /// The messages of the service manager, where the unit has printed nothing.
    pub complaints: Vec<String>,
}

impl Account {
    /// The details, line by line.
    #[must_use]
    pub fn text(&self) -> Vec<String> {
        let mut text = Vec::new();
        text.extend(self.exit.as_ref().map(|exit| format!("last exit: {exit}")));
        text.extend(self.memory_peak.map(|peak| format!("memory peak: {}", mebibytes(peak))));
        if !self.lines.is_empty() {
            text.push("last lines of its output:".to_owned());
            text.extend(self.lines.iter().map(|line| format!("  {line}")));
        }
        text.extend(self.complaints.iter().map(|line| format!("systemd says: {line}")));
        text
    }
}

impl Alert {
    /// The message, and the account below it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.message.clone();
        for line in self.account.iter().flat_map(|account| account.text()) {
            text.push('\n');
            text.push_str(&line);
        }
        text
    }

    /// An alert that concerns no device.
    #[must_use]
    pub fn plain(kind: AlertKind, message: String) -> Self {
        Self { kind, device: None, unit: None, reason: None, account: None, message }
    }
}

impl AlertKind {
    /// Whether the last lines of an agent's output belong to it.
    #[must_use]
    pub const fn wants_account(self) -> bool {
        matches!(self, Self::Expired | Self::AgentFailed | Self::Flapping)
    }

    /// Whether it starts an alert unit: it needs a person's attention, or ends a matter that needed
    /// it.
    #[must_use]
    pub fn starts_unit(self) -> bool {
        match self {
            // The person is present.
            Self::ConfigWarning | Self::ReloadFailed => false,
            // It would be delivered by the same way.
            Self::AlertUnitFailed => false,
            Self::Recovered
            | Self::AgentHealthy
            | Self::BrokerBack
            | Self::PublishAccepted
            | Self::StoreBack
            | Self::HistoryBack
            | Self::RecordingBack
            | Self::ManagerBack
            | Self::FleetRoom
            | Self::NodeBack
            | Self::ClusterBack => true,
            other => other.priority() <= Priority::Warning,
        }
    }

    /// The matter that people are notified of with this alert: kinds that withdraw or replace each
    /// other share one matter, which is the kind that begins it.
    #[must_use]
    pub const fn matter(self) -> Self {
        match self {
            Self::Flapping | Self::Recovered => Self::Expired,
            Self::AgentHealthy => Self::AgentFailed,
            Self::BrokerRefused | Self::ClientIdTaken | Self::BrokerBack => Self::BrokerLost,
            Self::PublishAccepted => Self::PublishRefused,
            Self::StoreBack => Self::StoreFailed,
            Self::HistoryBack => Self::HistoryFailed,
            Self::RecordingBack => Self::RecordingFailed,
            Self::ManagerBack => Self::ManagerLost,
            Self::PageBack => Self::PageFailed,
            Self::BusNameBack => Self::BusNameRefused,
            Self::FleetRoom => Self::FleetFull,
            Self::NodeBack => Self::NodeLost,
            Self::ClusterBack => Self::ClusterCut,
            other => other,
        }
    }

    /// Whether it reports that its matter is over.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(
            self,
            Self::Recovered
                | Self::AgentHealthy
                | Self::BrokerBack
                | Self::PublishAccepted
                | Self::StoreBack
                | Self::HistoryBack
                | Self::RecordingBack
                | Self::ManagerBack
                | Self::PageBack
                | Self::BusNameBack
                | Self::FleetRoom
                | Self::NodeBack
                | Self::ClusterBack
        )
    }

    /// Whether another alert follows at the end of the matter.
    #[must_use]
    pub fn has_end(self) -> bool {
        !self.is_end()
            && Self::ALL.iter().any(|kind| kind.is_end() && kind.matter() == self.matter())
    }

    /// Whether it neither ends nor withdraws anything.
    #[must_use]
    pub fn is_fact(self) -> bool {
        !self.is_end() && !self.has_end()
    }

    /// The kind of this name.
    #[must_use]
    pub fn of_event(event: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.event() == event)
    }
}

/// syslog(3) priorities that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
}

impl Priority {
    /// The gravest first.
    pub const ALL: [Self; 4] = [Self::Error, Self::Warning, Self::Notice, Self::Info];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
        }
    }

    /// The priority of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.as_str() == name)
    }
}

macro_rules! alert_kinds {
    ($($variant:ident $event:literal $priority:ident $id:literal,)*) => {
        /// The kinds of alert; `IOTMONITOR_EVENT` and `MESSAGE_ID` name them in the journal.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AlertKind { $($variant,)* }

        impl AlertKind {
            pub const ALL: &[AlertKind] = &[$(AlertKind::$variant,)*];

            /// Value of the journal field `IOTMONITOR_EVENT`.
            #[must_use]
            pub const fn event(self) -> &'static str {
                match self { $(AlertKind::$variant => $event,)* }
            }

            #[must_use]
            pub const fn priority(self) -> Priority {
                match self { $(AlertKind::$variant => Priority::$priority,)* }
            }

            /// Value of the journal field `MESSAGE_ID` (sd_journal_print(3)), the key into the
            /// journal catalog.
            #[must_use]
            pub const fn message_id(self) -> &'static str {
                match self { $(AlertKind::$variant => $id,)* }
            }
        }
    };
}

alert_kinds! {
    Expired "expired" Warning "14c1a339a18d449ca5f837e76874ec55",
    Recovered "recovered" Notice "e08d8baf2d0d421183fe42d3efa1e6b2",
    AgentStarted "agent-started" Notice "574e41cde42a4b08895b1bae0ba47ef8",
    AgentStopped "agent-stopped" Notice "3468d4626d9f40a098dd9e79803b63ba",
    AgentRelaunched "agent-relaunched" Warning "af8b4935650e457b81612f58f44c90aa",
    AgentFailed "agent-failed" Error "28affabcc8d14b91a32dfe34e96fc29c",
    AgentLingers "agent-lingers" Notice "d9f63deef80c469a8568ab64bbd39626",
    AgentAdopted "agent-adopted" Info "8528ccfda83a45c982d8c47d20e32d72",
    AgentHealthy "agent-healthy" Notice "410a342ced7d46919d3c333e52f16b71",
    Flapping "flapping" Warning "6084289afea642f88712bc3c2be973e4",
    Restored "restored" Info "6bf403ebe4434f8aa3a3c53050961f2e",
    BrokerLost "broker-lost" Warning "61a721f5f07a4b509946012159abda24",
    BrokerBack "broker-back" Notice "6873f7e487ac4c5fb71e74dfef188ee2",
    BrokerRefused "broker-refused" Error "a2fef233161840f8b08bd4a4792b0370",
    ClientIdTaken "clientid-taken" Error "779b282c5a074d689e319b5e7a4aa6ab",
    FilterRefused "filter-refused" Error "96380676169d48ba99d4d5d0b78e47b0",
    PublishRefused "publish-refused" Error "a41b80a9930a444f8c3d43e8c22fee10",
    PublishAccepted "publish-accepted" Notice "00bfdf0e08e54477a83af727b9e48534",
    BrokerLimited "broker-limited" Warning "d4ab15513e1f47a9b420ab7b51372219",
    StoreFailed "store-failed" Error "1b1e18b479384821b992ae6831a5c353",
    StoreBack "store-back" Notice "14ebbbc1ace446b49c57a904a231ac08",
    StorePutAside "store-put-aside" Error "d43f9a14460b4e6987792a5178145586",
    StoreReplaced "store-replaced" Error "a799c27bbabc4025adeb5ef64642a1c2",
    HistoryFailed "history-failed" Warning "0b6f16c66a194f2a8536ee718f2726df",
    HistoryBack "history-back" Notice "f7f762a2fcb24c529ae584c6c3547600",
    HistoryPutAside "history-put-aside" Warning "ff61f7bd0c4d41a9ac9d9e305dbcedd6",
    HistoryReplaced "history-replaced" Warning "b659a5c88a8149518fded09e9b7780e8",
    RecordingFailed "recording-failed" Error "fe9ee5b864b34e8790b3ea194610bf63",
    RecordingBack "recording-back" Notice "d3cd66ea2fec4b44bc635b44c4e8a771",
    RecordingPutAside "recording-put-aside" Error "80470072b2284f75bd221c5f666c1e12",
    ManagerLost "manager-lost" Error "5df8233e356a4393adf099d8cc849c4e",
    ManagerBack "manager-back" Notice "ebc838b6e6414fb19bedc8717279f3c6",
    BusNameRefused "bus-name-refused" Error "5748d3f734e940ffa979739e9bfb2346",
    BusNameBack "bus-name-back" Notice "86f5aabfd46749198ae4ef361a776f8f",
    PageFailed "page-failed" Error "a430daaed3e44050b1b42283c66aa6b7",
    PageBack "page-back" Notice "fac00bbc13694a91bdcb9d7e841bc39e",
    Enabled "enabled" Notice "a149a16e16b849108203186bcf351ca8",
    Disabled "disabled" Notice "17fbbf23e8ff45fdbab7bed6ba0df8a3",
    AlertUnitFailed "alert-unit-failed" Error "dcc6fd080b5a4291a74efd1af9dbadd4",
    AlertUnitBack "alert-unit-back" Notice "408711c3c438459281e7331c3474a85e",
    Silenced "silenced" Notice "e1ae3e49d0e64424a03259256223f302",
    Unsilenced "unsilenced" Notice "ff20b62cfc4c4227b39b2d09c6aba409",
    Started "started" Info "0dc4ef58d6db4e45874a3dbfe1eb938f",
    Stopped "stopped" Info "d8990a3d055645b8b15ac3f1ad3cf042",
    Reloaded "reloaded" Notice "097eb76141524122ad7561309c053181",
    ReloadFailed "reload-failed" Error "fe82f4ee33d94d629ecedadf31195ba0",
    StartFailed "start-failed" Error "7b7e54b0de9b4ca9a592d0711d24326c",
    IdentityChanged "identity-changed" Notice "8396a28f13184df1a528f7c45461952f",
    BaseTopicShared "basetopic-shared" Error "cc3a4f2a44c64b43bef579ca303816b2",
    LeftBehind "left-behind" Warning "89845b5806e240e589eff2e9bbdb1ad4",
    DeviceFound "device-found" Notice "045a3e2a4c074c2aaee3fd19697dd014",
    DeviceForgotten "device-forgotten" Notice "e5e3fe069cd34f3a90d0dd334c1777d9",
    NameRefused "name-refused" Notice "f5a83431e7504accbfd17f27f5707acf",
    FleetFull "fleet-full" Warning "d9ab556c611a42959db8402a12cd0125",
    FleetRoom "fleet-room" Notice "ac155c3a78a347c18dcc365c4554f568",
    NodeLost "node-lost" Error "a3280d378a364f22bdd1bf3a054172f7",
    NodeBack "node-back" Notice "41c235955b57449aa138e1a28c179975",
    ClusterCut "cluster-cut" Error "beb0fd6f26584758adb766833554f38e",
    ClusterBack "cluster-back" Notice "62ea3e4c5cb5459db0f1aab00e03ba89",
    Moved "moved" Notice "ddfdf8e3d7534dd8bce220928aef7164",
    GuardLost "guard-lost" Error "99bfb1274fc34c629c1ece3670970a90",
    NodeNameTaken "node-name-taken" Error "a53a8299bda54636b9a82c128d090f8e",
    SharedRefused "shared-refused" Error "e3659a55794647ef92b97d44f037db6b",
    ConfigWarning "config-warning" Warning "f1b24bac53504a32bd51a677ea3c5a37",
}
