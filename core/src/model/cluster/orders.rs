//! What people have ordered once for all nodes, as the shared store holds it.

use super::NodeName;
use crate::model::device_name::DeviceName;
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that people have ordered and that still holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SharedOrders {
    /// Whether devices and agents are monitored, where a person has chosen it.
    pub choices: BTreeMap<DeviceName, SharedChoice>,
    /// What no notifications are sent about. `None` means everything.
    pub silences: BTreeMap<Option<DeviceName>, TimedOrder>,
    /// The nodes that give away what they have, and take nothing.
    pub drains: BTreeMap<NodeName, OrderStamp>,
    /// Where agents are to be.
    pub moves: BTreeMap<DeviceName, MoveOrder>,
}

/// Distinguishes each order from all others.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct OrderStamp {
    /// A random number.
    pub stamp: u64,
}

/// A person's choice whether something is monitored, which takes precedence over its section.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct SharedChoice {
    pub enabled: bool,
    /// A person had enabled it before, and it is so again when the time is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enabled_before: bool,
    /// It ends by itself.
    #[serde(flatten)]
    pub time: TimedOrder,
}

/// When an order was given, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct TimedOrder {
    #[serde(flatten)]
    pub stamp: OrderStamp,
    /// On the wall clock of the node that took the order, in seconds.
    pub given: u64,
    /// In seconds.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<u64>,
}

/// Which node an agent is to move to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct MoveOrder {
    pub to: NodeName,
    #[serde(flatten)]
    pub stamp: OrderStamp,
}

/// A person's choice that is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Enabled,
    Disabled,
    /// For so long. After that the section says it, or an earlier choice.
    Paused {
        span: Duration,
        enabled_before: bool,
    },
}

/// A change of what holds on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SharedOrder {
    /// Whether a device or agent is monitored; without a choice its section says it.
    Choose { device: DeviceName, choice: Option<Choice> },
    /// No notifications about this, or about everything, for so long. Without a time the silence ends.
    Silence { of: Option<DeviceName>, span: Option<Duration> },
    /// A node gives away what it has and takes nothing, or takes part again.
    Drain { node: NodeName, drains: bool },
    /// An agent moves to a node.
    Move { agent: DeviceName, to: NodeName },
    /// This order to move is over.
    Withdraw { agent: DeviceName, order: MoveOrder },
}

impl TimedOrder {
    /// What is left of the time. Wall clocks of nodes differ, and may have been set since; neither
    /// makes the time longer than it was to be.
    #[must_use]
    pub fn left(&self, wall: Duration) -> Option<Duration> {
        let passed = wall.as_secs().saturating_sub(self.given);
        self.lasts.map(|lasts| Duration::from_secs(lasts.saturating_sub(passed)))
    }

    #[must_use]
    pub fn is_over(&self, wall: Duration) -> bool {
        self.left(wall).is_some_and(|left| left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_lasts_as_long_as_it_was_to_whatever_the_clocks_say() {
        let stamp = OrderStamp { stamp: 1 };
        let order = TimedOrder { stamp, given: 1_000, lasts: Some(60) };
        let left = |wall| order.left(Duration::from_secs(wall)).map(|left| left.as_secs());
        assert_eq!((left(1_000), left(1_040), left(1_060)), (Some(60), Some(20), Some(0)));
        // The clock of this node is behind, or was never set.
        assert_eq!(left(3), Some(60));
        assert!(order.is_over(Duration::from_secs(9_999)));
        let forever = TimedOrder { lasts: None, ..order };
        assert!(!forever.is_over(Duration::MAX) && forever.left(Duration::ZERO).is_none());
    }

    #[test]
    fn orders_are_flat_json_and_come_back_as_they_were() {
        let stamp = OrderStamp { stamp: u64::MAX };
        let time = TimedOrder { stamp, given: 5, lasts: Some(7_200) };
        let choice = SharedChoice { enabled: false, enabled_before: false, time };
        let json = serde_json::to_string(&choice).unwrap();
        assert_eq!(json, r#"{"enabled":false,"stamp":18446744073709551615,"given":5,"for":7200}"#);
        assert_eq!(serde_json::from_str::<SharedChoice>(&json).unwrap(), choice);
        let to = NodeName::new("pi2").unwrap();
        let order = MoveOrder { to, stamp };
        let json = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<MoveOrder>(&json).unwrap(), order);
    }
}
