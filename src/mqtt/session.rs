//! An established connection, from CONNACK to its end.
//!
//! One loop owns the socket, so that none of its waits can delay the rest: a full event channel or
//! a full window stops the reading (and with it, through TCP, the broker), while commands, pings
//! and the pulse continue. The task makes the connection and handles its end.

mod blame;
mod deliveries;
mod sending;

pub(super) use deliveries::Reported;

use super::Client;
use super::density::DensityMeter;
use super::ledger::Ledger;
use super::link::{Link, LinkStep};
use super::settings::BrokerAddress;
use super::shared::ConnectionShared;
use super::stall::StallDetector;
use super::suspects::{SuspectItem, SuspectItems, Unanswered};
use super::trouble::Trouble;
use super::wire::{Accepted, Farewell, Incoming, Limits, Wire};
use crate::pulse::{BEAT_INTERVAL, Pulse};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{
    Connection, Delivery, FilterRefusal, Publication, Subscription,
};
use iotmonitor_core::topic::TopicFilter;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

/// The number of unacknowledged deliveries at which the reading stops.
pub(super) const DELIVERY_WINDOW: usize = 4_096;

/// The number of bytes of their payloads at which the reading stops. At QoS 0 nothing else would
/// stop a flood of large messages.
const DELIVERY_BYTES: usize = 8 << 20;

/// QoS 1 publications without PUBACK, or fewer where the broker requires it.
const PUBLISH_WINDOW: usize = 100;

/// SUBSCRIBE and UNSUBSCRIBE packets without answer.
const SUBSCRIBE_WINDOW: usize = 8;

/// Bytes of filters in one packet where the broker announces no limit: well below the 64 KiB to
/// which brokers on small machines limit packets.
const SUBSCRIBE_BYTES: usize = 32 * 1024;

/// Headers and properties of a SUBSCRIBE.
const SUBSCRIBE_OVERHEAD: usize = 16;

/// A SUBACK or UNSUBACK that is later than this will not come.
const SUBACK_TIMEOUT: Duration = Duration::from_secs(30);

/// While packets are sent one at a time, the next packet waits for an answer no longer than this: a
/// broker may lose an answer, and continue without it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// With more unwritten bytes than this nothing is added, neither commands nor acknowledgements.
const MAX_OUTPUT: usize = 256 * 1024;

/// A connection that has lasted this long with everything answered has avoided what the broker
/// closed on before.
const CAREFUL_TIME: Duration = Duration::from_secs(10);

/// Keep alive and timeouts are checked with every beat, or more often where the keep alive is short.
const CHECKS_PER_KEEP_ALIVE: u32 = 10;

/// Checks further apart than this number of intervals mean that the process was stopped or starved
/// between them.
const MAX_INTERVALS: u32 = 3;

/// The time limit for the last bytes, and for the broker's closing after a DISCONNECT.
pub(super) const FAREWELL: Duration = Duration::from_millis(500);

/// The inputs of a session from the task that created it.
pub(super) struct SessionContext<'a> {
    pub connection: Connection,
    pub client: Client,
    pub server: BrokerAddress,
    /// The clientid of the settings: the value of the restored property.
    pub owner: String,
    pub keep_alive: Duration,
    pub shared: &'a ConnectionShared,
    pub events: &'a mpsc::Sender<Event>,
    pub pulse: &'a Pulse,
    pub next_delivery: &'a mut u64,
    /// Deliveries that earlier connections have reported and the broker may send again.
    pub reported: &'a mut Reported,
    /// The last time that bytes arrived from the broker.
    pub last_heard: &'a mut Instant,
    /// Whether a publication was refused, so that the core also needs reports of those that are
    /// not.
    pub has_refused: &'a mut bool,
    pub suspects: &'a mut SuspectItems,
}

pub(super) struct MqttSession<'a> {
    context: SessionContext<'a>,
    wire: Box<dyn Wire>,
    link: Link,
    limits: Limits,
    keep_alive: Duration,
    /// Events other than packets, which wait for room in the channel.
    owed: VecDeque<Event>,
    unacknowledged: VecDeque<Unacknowledged>,
    /// The sum of their payloads' bytes.
    unacknowledged_bytes: usize,
    subscribing: VecDeque<Subscription>,
    unsubscribing: VecDeque<TopicFilter>,
    /// SUBSCRIBE and UNSUBSCRIBE packets that wait for their answer.
    requests: BTreeMap<u16, FilterRequest>,
    /// Whether a call of `subscribe` has not been reported as done yet.
    reporting: bool,
    refused: Vec<FilterRefusal>,
    /// The contents of the last report.
    told_refused: Vec<FilterRefusal>,
    /// Subscriptions that are not requested, because the broker closes on them.
    aside: Vec<Subscription>,
    ledger: Ledger,
    /// The time from which an answer of the broker is awaited.
    last_read: Instant,
    density: DensityMeter,
    stall: StallDetector,
    began: Instant,
    last_tick: Instant,
    ping_sent: Option<Instant>,
    /// The time since which nothing is sent before an answer arrives.
    held_since: Option<Instant>,
    closing: Option<Instant>,
}

/// A delivery that the core has not acknowledged yet.
struct Unacknowledged {
    delivery: Delivery,
    /// `None` at QoS 0, which takes a place in the window but has no PUBACK.
    pkid: Option<u16>,
    bytes: usize,
    /// Never reported, so never acknowledged by the core: complete as soon as those before it are.
    unreported: bool,
}

struct FilterRequest {
    filters: Vec<TopicFilter>,
    is_subscribe: bool,
    sent: Instant,
}

/// The end of a session.
#[derive(Debug)]
pub(super) enum SessionEnd {
    /// The end by the broker or an error, with the unanswered packets.
    Lost(Trouble, Vec<Unanswered>),
    /// Closed as asked.
    Closed,
    /// Ended as asked, so that nothing arrives any more.
    Severed,
    /// The receiver of events is gone.
    Unheard,
}

/// The reason why the reading of packets stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// No complete packet is buffered: read on.
    Starved,
    /// The event channel is full.
    ChannelFull,
    /// The window of deliveries is full.
    WindowFull,
    /// More than [`MAX_OUTPUT`] bytes wait for the broker to take them.
    OutputFull,
}

impl<'a> MqttSession<'a> {
    pub(super) fn new(
        context: SessionContext<'a>,
        wire: Box<dyn Wire>,
        link: Link,
        accepted: &Accepted,
    ) -> Self {
        let keep_alive = accepted.limits.keep_alive.unwrap_or(context.keep_alive);
        Self {
            context,
            wire,
            link,
            limits: accepted.limits,
            keep_alive,
            owed: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            unacknowledged_bytes: 0,
            subscribing: VecDeque::new(),
            unsubscribing: VecDeque::new(),
            requests: BTreeMap::new(),
            reporting: false,
            refused: Vec::new(),
            told_refused: Vec::new(),
            aside: Vec::new(),
            ledger: Ledger::default(),
            last_read: Instant::now(),
            density: DensityMeter::new(Instant::now()),
            stall: StallDetector::default(),
            began: Instant::now(),
            last_tick: Instant::now(),
            ping_sent: None,
            held_since: None,
            closing: None,
        }
    }

    /// Serves the connection until it ends. Returns its end together with the results of
    /// publications that were not reported, because the channel was full or the end came first.
    pub(super) async fn run(mut self) -> (SessionEnd, Vec<Event>) {
        let mut ticks = interval_at(self.context.pulse.next_moment().into(), self.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let served = self.serve(&mut ticks).await;
        self.remember_reported();
        let end = match served {
            Ok(end @ (SessionEnd::Closed | SessionEnd::Lost(Trouble::SettingsChanged, _))) => {
                self.wire.disconnect(&mut self.link.output);
                self.link.finish(FAREWELL).await;
                end
            }
            Ok(SessionEnd::Severed) => {
                self.link.sever();
                SessionEnd::Severed
            }
            Ok(end) => end,
            Err(trouble) => SessionEnd::Lost(trouble, self.unanswered()),
        };
        self.owed.retain(is_outcome);
        (end, self.owed.into())
    }

    async fn serve(&mut self, ticks: &mut Interval) -> Result<SessionEnd, Trouble> {
        loop {
            self.context.pulse.beat();
            let Some(pause) = self.take_in()? else { return Ok(SessionEnd::Unheard) };
            if let Some(end) = self.obey() {
                return Ok(end);
            }
            // The results of the commands are reported before any wait.
            if !self.owed.is_empty() && pause != Pause::ChannelFull {
                continue;
            }
            let owes = self.stall.is_checking()
                || self.ping_sent.is_some()
                || !self.requests.is_empty()
                || self.context.shared.lock().outbox.has_unacknowledged();
            self.stall.note(owes && pause == Pause::Starved);
            if pause == Pause::Starved {
                let is_dense = self.density.is_dense(Instant::now());
                self.link.collect(is_dense && !owes);
            }
            let closing = self.closing;
            tokio::select! {
                step = self.link.step(pause == Pause::Starved) => self.on_step(step)?,
                room = self.context.events.reserve(), if pause == Pause::ChannelFull => {
                    if room.is_err() {
                        return Ok(SessionEnd::Unheard);
                    }
                }
                () = self.context.shared.woken() => {}
                () = self.context.pulse.asked() => {}
                _ = ticks.tick() => self.on_tick(pause)?,
                // It only makes the loop turn, as being asked to beat does.
                () = sleep_until(closing.unwrap_or_else(Instant::now)), if closing.is_some() => {}
            }
        }
    }

    fn on_step(&mut self, step: std::io::Result<LinkStep>) -> Result<(), Trouble> {
        match step {
            Ok(LinkStep::Read) => {
                self.last_read = self.link.last_read();
                *self.context.last_heard = self.last_read;
                self.ping_sent = None;
                if let Some(after) = self.stall.heard(self.last_read)
                    && self.context.connection == Connection::Watch
                {
                    self.owed.push_back(Event::AnsweredLate { after });
                }
                Ok(())
            }
            Ok(LinkStep::Wrote | LinkStep::Ticked) => Ok(()),
            Ok(LinkStep::Closed) => Err(Trouble::Closed { server: self.context.server.clone() }),
            Err(error) => Err(Trouble::from_stream(&self.context.server, error)),
        }
    }

    /// Turns all buffered packets into events, as far as the channel and the window allow. Returns
    /// `None` when the receiver is gone.
    fn take_in(&mut self) -> Result<Option<Pause>, Trouble> {
        loop {
            let permit = match self.context.events.try_reserve() {
                Ok(permit) => Some(permit),
                Err(TrySendError::Closed(())) => return Ok(None),
                // The daemon's loop no longer reads while it closes: the expected acknowledgements
                // still arrive, and the events are dropped.
                Err(TrySendError::Full(())) if self.closing.is_some() => None,
                Err(TrySendError::Full(())) => return Ok(Some(Pause::ChannelFull)),
            };
            if let Some(event) = self.owed.pop_front() {
                if let Some(permit) = permit {
                    permit.send(event);
                }
                continue;
            }
            if self.unacknowledged.len() >= DELIVERY_WINDOW
                || self.unacknowledged_bytes >= DELIVERY_BYTES
            {
                return Ok(Some(Pause::WindowFull));
            }
            if self.link.output.len() > MAX_OUTPUT {
                return Ok(Some(Pause::OutputFull));
            }
            let packet = match self.wire.decode(&mut self.link.input) {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(Some(Pause::Starved)),
                Err(error) => return Err(self.protocol_error(error.to_string())),
            };
            // The permit borrows the sender rather than the session, so handling may change both.
            if let Some(event) = self.on_packet(packet)?
                && let Some(permit) = permit
            {
                permit.send(event);
            }
        }
    }

    fn on_packet(&mut self, packet: Incoming) -> Result<Option<Event>, Trouble> {
        match packet {
            Incoming::Publish(incomer) => Ok(self.on_publish(incomer)),
            Incoming::BadPublish { pkid } => {
                self.discard(pkid);
                Ok(None)
            }
            Incoming::PubAck { pkid, refused } => {
                self.answered(pkid);
                let publication = self.context.shared.lock().outbox.acknowledged(pkid);
                if let Some(publication) = &publication {
                    self.context.suspects.answered(&SuspectItem::Topic(publication.topic.clone()));
                }
                Ok(publication.and_then(|publication| match refused {
                    Some(reason) => Some(self.refused(publication, reason.to_owned())),
                    None => self.accepted(publication),
                }))
            }
            Incoming::SubAck { pkid, refused } => Ok(self.on_suback(pkid, refused)),
            Incoming::UnsubAck { pkid } => {
                self.answered(pkid);
                self.requests.remove(&pkid);
                Ok(None)
            }
            Incoming::PingResp => {
                self.stall.ping_answered();
                let taken = self.ledger.ping_answered();
                self.note_taken(taken);
                // One check at a time: packets sent after it need another.
                if self.ledger.plain().next().is_some() {
                    self.check();
                }
                Ok(None)
            }
            Incoming::Disconnect(Farewell::TakenOver) => Err(Trouble::TakenOver),
            Incoming::Disconnect(Farewell::NotAuthorized) if self.is_unanswered() => {
                let (server, reason) = (self.context.server.clone(), "not authorized".to_owned());
                Err(Trouble::Objection { server, reason })
            }
            Incoming::Disconnect(Farewell::NotAuthorized) => {
                Err(Trouble::BadCredentials { server: self.context.server.clone() })
            }
            Incoming::Disconnect(Farewell::Objection(reason)) => {
                Err(Trouble::Objection { server: self.context.server.clone(), reason })
            }
            Incoming::Disconnect(Farewell::Other(reason)) => {
                Err(Trouble::Farewell { server: self.context.server.clone(), reason })
            }
            Incoming::Accepted(_) | Incoming::Rejected(_) => {
                Err(self.protocol_error("it sent a second CONNACK".into()))
            }
            Incoming::Unexpected(name) => {
                Err(self.protocol_error(format!("it sent the packet {name}")))
            }
        }
    }

    fn refused(&mut self, publication: Publication, reason: String) -> Event {
        *self.context.has_refused = true;
        let Publication { topic, token, .. } = publication;
        Event::PublishRefused { topic, reason, token }
    }

    fn accepted(&mut self, publication: Publication) -> Option<Event> {
        let Publication { topic, token, .. } = publication;
        if *self.context.has_refused {
            self.owed.push_back(Event::PublishAccepted { topic });
        }
        token.map(|token| Event::Published { token })
    }

    fn on_suback(&mut self, pkid: u16, refused: Vec<Option<&'static str>>) -> Option<Event> {
        self.answered(pkid);
        let request = self.requests.remove(&pkid)?;
        for filter in &request.filters {
            self.context.suspects.answered(&SuspectItem::Filter(filter.clone()));
        }
        for (filter, reason) in request.filters.into_iter().zip(refused) {
            if let Some(reason) = reason {
                self.refused.push(FilterRefusal { filter, reason: reason.to_owned() });
            }
        }
        self.subscribed()
    }

    /// Reports, once, that all subscriptions are acknowledged.
    fn subscribed(&mut self) -> Option<Event> {
        let waits = self.requests.values().any(|request| request.is_subscribe);
        if !self.reporting || waits || !self.subscribing.is_empty() {
            return None;
        }
        self.reporting = false;
        let refused = std::mem::take(&mut self.refused);
        self.told_refused.clone_from(&refused);
        Some(Event::Subscribed { connection: self.context.connection, refused })
    }

    /// Carries out the waiting commands in order, as far as the windows allow.
    fn obey(&mut self) -> Option<SessionEnd> {
        let shared = self.context.shared;
        let mut state = shared.lock();
        self.closing = state.closing;
        let settings_changed = state.settings_changed;
        let acknowledged = state.acknowledged.take();
        let is_severed = std::mem::take(&mut state.severing);
        drop(state);
        if is_severed {
            return Some(SessionEnd::Severed);
        }
        if let Some(through) = acknowledged {
            self.acknowledge(through);
        }
        if settings_changed {
            return Some(SessionEnd::Lost(Trouble::SettingsChanged, Vec::new()));
        }
        self.send_commands();
        if let Some(deadline) = self.closing {
            let settled = shared.lock().outbox.is_settled() && self.link.is_flushed();
            if settled || Instant::now() >= deadline {
                return Some(SessionEnd::Closed);
            }
        }
        None
    }

    /// The interval between two checks of keep alive and timeouts.
    fn tick(&self) -> Duration {
        BEAT_INTERVAL.min(self.keep_alive / CHECKS_PER_KEEP_ALIVE)
    }

    /// Checks keep alive and timeouts. While nothing is read (`pause`), an answer cannot be seen,
    /// so none counts as missing; pings continue, which is all that the broker needs to keep the
    /// connection. A broker that accepts no bytes is lost, unless it may be waiting for this side
    /// to read.
    fn on_tick(&mut self, pause: Pause) -> Result<(), Trouble> {
        let now = Instant::now();
        let since_tick = now - std::mem::replace(&mut self.last_tick, now);
        // The process was held up: the bytes that arrived meanwhile are read before anything counts
        // as missing.
        if since_tick > self.tick() * MAX_INTERVALS {
            return Ok(());
        }
        match pause {
            Pause::ChannelFull | Pause::WindowFull => self.link.forgive_stall(),
            Pause::Starved | Pause::OutputFull => {
                let stalled = self.link.stalled_since().map(|since| now - since);
                if let Some(after) = stalled.filter(|&after| after >= self.keep_alive.mul_f32(1.5))
                {
                    return Err(Trouble::Unanswered { server: self.context.server.clone(), after });
                }
            }
        }
        if pause != Pause::Starved {
            self.last_read = now;
            self.ping_sent = None;
            for request in self.requests.values_mut() {
                request.sent = now;
            }
            self.held_since = self.held_since.map(|_| now);
        }
        if self.requests.values().any(|request| now - request.sent > SUBACK_TIMEOUT) {
            let server = self.context.server.clone();
            return Err(Trouble::Unsubscribed { server, after: SUBACK_TIMEOUT });
        }
        // Three quarters of the interval to the ping and three quarters for its answer: a dead link
        // is noticed after one and a half times the keep alive, which is also what a broker grants.
        let patience = self.keep_alive.mul_f32(0.75);
        if let Some(sent) = self.ping_sent
            && now - sent >= patience
        {
            let after = now - self.last_read;
            return Err(Trouble::Unanswered { server: self.context.server.clone(), after });
        }
        let idle = now - self.link.last_write().min(self.last_read);
        // Behind a full output a ping would not reach the broker any sooner than the bytes before
        // it.
        if self.ping_sent.is_none() && idle >= patience && pause != Pause::OutputFull {
            self.ledger.ping_sent();
            self.wire.pingreq(&mut self.link.output);
            self.ping_sent = Some(now);
        }
        if now - self.began >= CAREFUL_TIME && !self.is_unanswered() {
            self.context.suspects.settle();
        }
        // A packet that has been unanswered for so long is not the one that the broker closes on.
        if self.held_since.is_some_and(|since| now - since > ANSWER_TIMEOUT) {
            self.held_since = None;
            self.context.suspects.settle();
        }
        self.retry_aside();
        self.retry_publications();
        Ok(())
    }

    fn protocol_error(&self, what: String) -> Trouble {
        Trouble::Protocol { server: self.context.server.clone(), what }
    }
}

/// Whether an event reports the result of a publication, which is not sent again.
fn is_outcome(event: &Event) -> bool {
    matches!(
        event,
        Event::Published { .. } | Event::PublishAccepted { .. } | Event::PublishRefused { .. }
    )
}
