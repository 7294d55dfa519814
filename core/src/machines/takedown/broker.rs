//! The objects of one former identity at the broker: checks whether it is in use, clears its
//! messages, and drains and ends its session.
//!
//! MQTT has no way to query whether a client is connected, and a connection under its identifier
//! ends its own. So nothing is done before it has been quiet: a monitor publishes `up` each second,
//! and `availability` is `offline` once it is gone. A client that was connected all the same
//! returns at once, and finds its session unchanged: nothing is acknowledged before it would have
//! returned.

use super::Order;
use crate::model::description::description_topic;
use crate::model::identity::{Former, Identity};
use crate::model::message::{Delivery, FormerPart, LossReason, Message, QoS, Subscription};
use crate::topic::{TopicFilter, TopicName};
use bytes::Bytes;
use std::time::Duration;

/// A monitor that has not published `up` for this long is gone.
pub const LOOK: Duration = Duration::from_secs(10);

/// The same where the broker still reports it present: its will may have been lost with a broker
/// that crashed, and its watchdog ends a hanging monitor within half a minute.
pub const LONG_LOOK: Duration = Duration::from_secs(60);

/// After this long without a message behind the marker, the session is drained.
const QUIET: Duration = Duration::from_millis(250);

/// A marker that has not come back this long after the last message is given up.
const MARKER_PATIENCE: Duration = Duration::from_secs(10);

/// Another client with the same clientid would have taken the connection back by then.
pub const HOLD: Duration = Duration::from_secs(10);

/// The time limit for a session in which it is never quiet.
const DRAIN_PATIENCE: Duration = Duration::from_secs(300);

/// The end of the work on one former identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakedownEnd {
    /// Everything has been removed.
    Done,
    /// Another monitor uses its names, as this sign shows: nothing more is changed.
    InUse(Sign),
    /// It cannot be determined whether another monitor uses them.
    Unseen,
}

/// The sign that another monitor uses the names of a former identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It takes the connection away.
    TakesConnection,
    /// It publishes below the base topic, which is this monitor's, too.
    SharesBase,
    /// It publishes below the former base topic.
    Publishes,
}

/// The work on one former identity.
#[derive(Debug)]
pub struct Broker {
    stage: TakedownStage,
    /// Its base topic, where that has changed.
    base: Option<String>,
    /// Retained messages to be removed.
    retained: Vec<TopicName>,
    /// Its clientid and base topic, where its session must be ended.
    session: Option<(String, String)>,
    /// Whether the session's contents are wanted.
    records: bool,
    own_client_id: String,
    markers: u32,
    /// The connection of the session was lost before.
    lost: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TakedownStage {
    /// Waits for the connection on which the check begins.
    Look,
    Looking {
        since: Duration,
        until: Duration,
        claims_to_live: bool,
    },
    /// Waits for the last acknowledgement.
    Clearing,
    /// Waits for this monitor's own session, so that between the two nothing is lost.
    AwaitOwnSession,
    /// Waits for the connection.
    Drain,
    Draining {
        marker: String,
        returned: bool,
        /// When the session is known to be unused.
        held_until: Duration,
        until: Duration,
        latest: Duration,
        /// The last delivery that is not on disk.
        uncommitted: Option<Delivery>,
        /// The last one that is, and is not acknowledged yet.
        committed: Option<Delivery>,
        /// All of it has come and is on disk.
        complete: bool,
    },
    /// Waits for the connection with which the session ends.
    End,
    Over,
}

impl Broker {
    /// The work and its first orders; `None` where there is nothing to do.
    pub fn begin(former: &Former, own: &Identity, records: bool) -> Option<(Self, Vec<Order>)> {
        let Identity { client_id, node, base_topic, .. } = &former.identity;
        let connection_id = former.identity.connection_id();
        let has_session = connection_id != own.connection_id();
        let moved = *base_topic != own.base_topic;
        let mut retained = Vec::new();
        if moved {
            let below = former.devices.iter().map(|name| format!("{base_topic}/status/{name}"));
            let topics = below.chain([format!("{base_topic}/availability")]);
            retained.extend(topics.filter_map(|topic| TopicName::new(topic).ok()));
        }
        if *node != own.node {
            let word = node.as_ref().map(|node| format!("{base_topic}/nodes/{node}"));
            retained.extend(word.and_then(|topic| TopicName::new(topic).ok()));
        }
        if *client_id != own.client_id {
            for prefix in &former.prefixes {
                let topics = former.devices.iter();
                retained
                    .extend(topics.filter_map(|name| description_topic(prefix, client_id, name)));
            }
        }
        if !has_session && retained.is_empty() {
            return None;
        }
        let broker = Self {
            stage: TakedownStage::Look,
            base: moved.then(|| base_topic.clone()),
            retained,
            session: has_session.then(|| (connection_id, base_topic.clone())),
            records,
            own_client_id: own.connection_id(),
            markers: 0,
            lost: false,
        };
        let orders = vec![broker.connect(FormerPart::Look)];
        Some((broker, orders))
    }

    fn connect(&self, part: FormerPart) -> Order {
        let former = self.session.as_ref().map(|(client_id, _)| client_id);
        let client_id = match part {
            FormerPart::Look => &self.own_client_id,
            FormerPart::Drain | FormerPart::End => former.unwrap_or(&self.own_client_id),
        };
        Order::Connect { part, client_id: client_id.clone() }
    }

    /// The part whose events are awaited.
    fn part(&self) -> Option<FormerPart> {
        match self.stage {
            TakedownStage::Look | TakedownStage::Looking { .. } | TakedownStage::Clearing => {
                Some(FormerPart::Look)
            }
            TakedownStage::Drain | TakedownStage::Draining { .. } => Some(FormerPart::Drain),
            TakedownStage::End => Some(FormerPart::End),
            TakedownStage::AwaitOwnSession | TakedownStage::Over => None,
        }
    }

    /// Whether the session's contents may still include something newer than the recorded states.
    pub fn may_bring_states(&self) -> bool {
        match self.stage {
            TakedownStage::Look
            | TakedownStage::Looking { .. }
            | TakedownStage::Clearing
            | TakedownStage::AwaitOwnSession
            | TakedownStage::Drain
            | TakedownStage::Draining { complete: false, .. } => {
                self.session.is_some() && self.records
            }
            TakedownStage::Draining { complete: true, .. }
            | TakedownStage::End
            | TakedownStage::Over => false,
        }
    }

    pub fn connected(
        &mut self,
        now: Duration,
        part: FormerPart,
        session_present: bool,
    ) -> (Vec<Order>, Option<TakedownEnd>) {
        if self.part() != Some(part) {
            return (Vec::new(), None);
        }
        match part {
            FormerPart::Look => (self.look(now), None),
            FormerPart::Drain if session_present => (self.drain(now), None),
            FormerPart::Drain => (self.end(), None),
            FormerPart::End => {
                self.stage = TakedownStage::Over;
                (vec![Order::Disconnect], Some(TakedownEnd::Done))
            }
        }
    }

    /// Begins the check, also after a connection was lost in between.
    fn look(&mut self, now: Duration) -> Vec<Order> {
        let until = now + LOOK;
        self.stage = TakedownStage::Looking { since: now, until, claims_to_live: false };
        let Some(base) = &self.base else { return vec![Order::WakeAt(until)] };
        let filters = [format!("{base}/up"), format!("{base}/availability")];
        let wanted = |filter: String| {
            let filter = TopicFilter::new(filter).ok()?;
            Some(Subscription { filter, qos: QoS::AtLeastOnce, replay: true })
        };
        let subscriptions = filters.into_iter().filter_map(wanted).collect();
        vec![subscribe(FormerPart::Look, subscriptions), Order::WakeAt(until)]
    }

    /// Without the subscriptions it cannot be determined whether another monitor is there.
    pub fn subscribed(
        &mut self,
        part: FormerPart,
        refused: bool,
    ) -> (Vec<Order>, Option<TakedownEnd>) {
        if refused && part == FormerPart::Look && self.part() == Some(part) {
            return self.leave(TakedownEnd::Unseen);
        }
        (Vec::new(), None)
    }

    pub fn disconnected(
        &mut self,
        part: FormerPart,
        reason: &LossReason,
    ) -> (Vec<Order>, Option<TakedownEnd>) {
        if self.part() != Some(part) {
            return (Vec::new(), None);
        }
        match part {
            FormerPart::Look => {
                self.stage = TakedownStage::Look;
                (Vec::new(), None)
            }
            FormerPart::Drain | FormerPart::End => self.lose_session(reason),
        }
    }

    /// A client that takes the connection away is in use, and is not fought over it. Not every
    /// broker reports that a connection was taken over, so a second loss counts as that, too, and
    /// the first leads to another check.
    fn lose_session(&mut self, reason: &LossReason) -> (Vec<Order>, Option<TakedownEnd>) {
        let was_connected = matches!(self.stage, TakedownStage::Draining { .. });
        if *reason == LossReason::TakenOver || (was_connected && self.lost) {
            return self.leave(TakedownEnd::InUse(Sign::TakesConnection));
        }
        if !was_connected {
            // The broker is away, or refuses the connection for now.
            return (Vec::new(), None);
        }
        self.lost = true;
        self.stage = TakedownStage::Look;
        (vec![self.connect(FormerPart::Look)], None)
    }

    /// Another monitor was heard below the base topic that both share.
    pub fn another_heard(&mut self) -> (Vec<Order>, Option<TakedownEnd>) {
        match self.stage {
            TakedownStage::Looking { .. } if self.base.is_none() => {
                self.leave(TakedownEnd::InUse(Sign::SharesBase))
            }
            _ => (Vec::new(), None),
        }
    }

    pub fn looked_at(&mut self, message: &Message) -> (Vec<Order>, Option<TakedownEnd>) {
        let TakedownStage::Looking { claims_to_live, .. } = &mut self.stage else {
            return (Vec::new(), None);
        };
        let below = self.base.as_deref().and_then(|base| message.topic.as_str().strip_prefix(base));
        let is_online = message.payload == "online".as_bytes();
        match below {
            Some("/availability") if message.retain => *claims_to_live = is_online,
            Some("/availability") if !is_online => *claims_to_live = false,
            Some("/up") if message.retain => {}
            Some("/up" | "/availability") => {
                return self.leave(TakedownEnd::InUse(Sign::Publishes));
            }
            Some(_) | None => {}
        }
        (Vec::new(), None)
    }

    /// Removes the retained messages; the last acknowledgement is the last of all (MQTT-4.6.0-2).
    fn clear(&mut self) -> Vec<Order> {
        let Some(last) = self.retained.len().checked_sub(1) else { return self.cleared().0 };
        self.stage = TakedownStage::Clearing;
        let topics = self.retained.iter().enumerate();
        topics
            .map(|(at, topic)| Order::Publish {
                part: FormerPart::Look,
                topic: topic.clone(),
                payload: Bytes::new(),
                retain: true,
                awaited: at == last,
            })
            .collect()
    }

    /// The broker has acknowledged all of it.
    pub fn cleared(&mut self) -> (Vec<Order>, Option<TakedownEnd>) {
        if self.session.is_none() {
            self.stage = TakedownStage::Over;
            return (vec![Order::Disconnect], Some(TakedownEnd::Done));
        }
        self.stage = TakedownStage::AwaitOwnSession;
        if self.records { (vec![Order::Disconnect], None) } else { (self.end(), None) }
    }

    /// Whether the next step waits for this monitor's own session.
    pub fn awaits_own_session(&self) -> bool {
        self.stage == TakedownStage::AwaitOwnSession
    }

    /// This monitor's own session is established and receives everything from now on.
    pub fn own_session_stands(&mut self) -> Vec<Order> {
        self.stage = TakedownStage::Drain;
        vec![self.connect(FormerPart::Drain)]
    }

    fn drain(&mut self, now: Duration) -> Vec<Order> {
        let Some((client_id, base)) = &self.session else { return Vec::new() };
        self.markers += 1;
        let marker = format!("{}-{}", now.as_nanos(), self.markers);
        let until = now + MARKER_PATIENCE;
        let mut orders = vec![Order::WakeAt(until)];
        let held_until = now + HOLD;
        if held_until != until {
            orders.push(Order::WakeAt(held_until));
        }
        let topics = format!("{base}/marker/{client_id}");
        if let (Ok(filter), Ok(topic)) =
            (TopicFilter::new(format!("{topics}/+")), TopicName::new(format!("{topics}/1")))
        {
            let wanted = Subscription { filter, qos: QoS::AtLeastOnce, replay: false };
            orders.push(subscribe(FormerPart::Drain, vec![wanted]));
            orders.push(Order::Publish {
                part: FormerPart::Drain,
                topic,
                payload: Bytes::from(marker.clone()),
                retain: false,
                awaited: false,
            });
        }
        self.stage = TakedownStage::Draining {
            marker,
            returned: false,
            held_until,
            until,
            latest: now + DRAIN_PATIENCE,
            uncommitted: None,
            committed: None,
            complete: false,
        };
        orders
    }

    /// A message of the session, which will be recorded or skipped as `delivery`.
    pub fn drained(&mut self, now: Duration, delivery: Delivery, message: &Message) -> Vec<Order> {
        let TakedownStage::Draining { marker, returned, until, latest, uncommitted, .. } =
            &mut self.stage
        else {
            return Vec::new();
        };
        *uncommitted = Some(delivery);
        let is_marker = message.payload == marker.as_bytes()
            && self.session.as_ref().is_some_and(|(client_id, base)| {
                message.topic.as_str() == format!("{base}/marker/{client_id}/1")
            });
        *returned |= is_marker;
        let patience = if *returned { QUIET } else { MARKER_PATIENCE };
        *until = (now + patience).min(*latest);
        vec![Order::WakeAt(*until)]
    }

    /// The session's messages up to here are on disk.
    pub fn on_disk(&mut self, now: Duration, through: Delivery) -> Vec<Order> {
        let TakedownStage::Draining { uncommitted, committed, .. } = &mut self.stage else {
            return Vec::new();
        };
        *uncommitted = uncommitted.filter(|last| *last > through);
        *committed = Some(through);
        self.settle(now)
    }

    /// Acknowledges what may be acknowledged, and ends the session once all of it has arrived.
    fn settle(&mut self, now: Duration) -> Vec<Order> {
        let TakedownStage::Draining { held_until, until, uncommitted, committed, complete, .. } =
            &mut self.stage
        else {
            return Vec::new();
        };
        *complete = uncommitted.is_none() && now >= *until;
        let (is_held, complete) = (now < *held_until, *complete);
        let mut orders = Vec::new();
        if !is_held {
            orders.extend(committed.take().map(|through| Order::Acknowledge { through }));
        }
        if complete && !is_held {
            orders.extend(self.end());
        }
        orders
    }

    pub fn time_passed(&mut self, now: Duration) -> (Vec<Order>, Option<TakedownEnd>) {
        match &mut self.stage {
            TakedownStage::Looking { since, until, claims_to_live } if now >= *until => {
                let long = *since + LONG_LOOK;
                if *claims_to_live && now < long {
                    *until = long;
                    return (vec![Order::WakeAt(long)], None);
                }
                if self.retained.is_empty() { self.cleared() } else { (self.clear(), None) }
            }
            TakedownStage::Draining { .. } => (self.settle(now), None),
            TakedownStage::Look
            | TakedownStage::Looking { .. }
            | TakedownStage::Clearing
            | TakedownStage::AwaitOwnSession
            | TakedownStage::Drain
            | TakedownStage::End
            | TakedownStage::Over => (Vec::new(), None),
        }
    }

    /// Ends the session: one with a clean start replaces it, and leaves nothing.
    fn end(&mut self) -> Vec<Order> {
        self.stage = TakedownStage::End;
        vec![self.connect(FormerPart::End)]
    }

    fn leave(&mut self, end: TakedownEnd) -> (Vec<Order>, Option<TakedownEnd>) {
        self.stage = TakedownStage::Over;
        (vec![Order::Disconnect], Some(end))
    }
}

fn subscribe(part: FormerPart, subscriptions: Vec<Subscription>) -> Order {
    Order::Subscribe { part, subscriptions }
}
