//! What the configuration says about this node's part in a cluster.

use super::Membership;
use super::kept::KeptParts;
use crate::etcd::settings::EtcdSettings;
use iotmonitor_core::machines::cluster::MemberSettings;
use iotmonitor_core::model::cluster::sharing::StandbyMode;
use iotmonitor_core::model::cluster::timing::Timing;
use iotmonitor_core::model::cluster::{Items, NodeName};

/// The section `[cluster]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    pub etcd: EtcdSettings,
    pub node: NodeName,
    pub timing: Timing,
    pub standby: StandbyMode,
}

impl ClusterSettings {
    /// The part of this node, as the machine with this identifier, in a new session. It is without a
    /// broker until that is connected.
    #[must_use]
    pub fn membership(&self, machine: String, items: Items, kept: KeptParts) -> Membership {
        let settings = MemberSettings {
            name: self.node.clone(),
            machine,
            timing: self.timing,
            broker: false,
            drains: false,
            config: None,
        };
        let etcd = self.etcd.clone();
        Membership { settings, items, etcd, resumes: None, kept, sections: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TlsFiles;
    use std::path::Path;
    use std::time::Duration;

    #[test]
    fn a_node_joins_with_its_name_and_without_a_broker() {
        let settings = ClusterSettings {
            etcd: EtcdSettings {
                cluster: "house".to_owned(),
                endpoints: Vec::new(),
                tls: TlsFiles { ca_file: None, client_certificate: None },
                login: None,
            },
            node: NodeName::new("pi1").unwrap(),
            timing: Timing::new(Duration::from_secs(9), Duration::from_secs(1)).unwrap(),
            standby: StandbyMode::Hot,
        };
        let kept = KeptParts::read(Path::new("/nowhere"), None);
        let membership = settings.membership("m".to_owned(), Items::default(), kept);
        let MemberSettings { name, machine, timing, broker, drains, config } = membership.settings;
        assert_eq!((name, machine.as_str(), timing), (settings.node, "m", settings.timing));
        assert!(!broker && !drains && config.is_none() && membership.resumes.is_none());
        assert_eq!(membership.etcd.cluster, "house");
    }
}
