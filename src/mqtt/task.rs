//! The life of one connection: attempts, sessions, delays, and the reports about them.

mod closing;
mod witness;

use super::backoff::RetryDelays;
use super::dial::Addresses;
use super::link::{Link, LinkStep};
use super::session::{FAREWELL, MqttSession, Reported, SessionContext, SessionEnd};
use super::settings::{MqttSettings, ProtocolChoice};
use super::shared::ConnectionShared;
use super::suspects::SuspectItems;
use super::trouble::{Trouble, TroubleKind};
use super::wire::{Accepted, ConnackRejection, Hello, Incoming, Wire, wire};
use super::{Client, ConnectionOptions, transport};
use crate::pulse::{BEAT_INTERVAL, Pulse};
use closing::{Closing, STRUGGLE_TIME};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, FormerPart, Protocol, QoS};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use witness::Witness;

/// The timeout of a connection to one of the broker's addresses.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout of TLS and the websocket.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout of the answer to CONNECT.
const CONNACK_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer within this time counts as immediate.
const PROMPT: Duration = Duration::from_secs(2);

/// The first byte of a peer that requires TLS: a record of type alert (RFC 8446, 5.1). In MQTT it
/// would be a CONNECT with invalid flags.
const TLS_ALERT: &[u8] = &[0x15, 3];

pub(super) struct ConnectionTask {
    pub connection: Connection,
    pub options: ConnectionOptions,
    pub shared: Arc<ConnectionShared>,
    pub events: mpsc::Sender<Event>,
    pub pulse: Pulse,
    pub done: watch::Sender<bool>,
    pub history: History,
}

/// The state that is kept from one connection to the next.
#[derive(Debug)]
pub(super) struct History {
    /// The version that the broker is known to support, where the settings leave the choice.
    settled: Option<Protocol>,
    backoff: RetryDelays,
    addresses: Addresses,
    /// The kind of trouble that was reported since the last success.
    reported: Option<TroubleKind>,
    attempts_failed: u32,
    struggles: u32,
    deliveries: u64,
    reported_deliveries: Reported,
    /// The last time that bytes arrived from the broker; before that, the start of the task.
    last_heard: Instant,
    /// Whether the broker has refused a publication.
    has_refused: bool,
    suspects: SuspectItems,
    /// The broker has refused a will that is retained, or one of QoS 1.
    lacks_retain: bool,
    lacks_qos: bool,
    /// The features that the broker lacks, as reported.
    lacks: String,
}

impl History {
    pub(super) fn new() -> Self {
        Self {
            settled: None,
            backoff: RetryDelays::default(),
            addresses: Addresses::default(),
            reported: None,
            attempts_failed: 0,
            struggles: 0,
            deliveries: 0,
            reported_deliveries: Reported::default(),
            last_heard: Instant::now(),
            has_refused: false,
            suspects: SuspectItems::default(),
            lacks_retain: false,
            lacks_qos: false,
            lacks: String::new(),
        }
    }
}

/// An established connection.
struct Established {
    link: Link,
    wire: Box<dyn Wire>,
    accepted: Accepted,
    /// Whether the version is known from the broker's answers, rather than guessed from a closing
    /// without one, which also happens when a broker restarts.
    is_certain: bool,
}

/// The task must end: it was closed, or the receiver is gone.
struct Over;

impl ConnectionTask {
    pub(super) async fn run(mut self) {
        while let Ok(()) = self.live_once().await {}
        let mut state = self.shared.lock();
        state.connected = false;
        drop(state);
        self.done.send_replace(true);
    }

    /// Makes one attempt, and then serves the session or waits.
    async fn live_once(&mut self) -> Result<(), Over> {
        let settings = self.take_settings();
        let mut addresses = std::mem::take(&mut self.history.addresses);
        let mut options = self.options.clone();
        if let Some(will) = &mut options.will {
            will.retain &= !self.history.lacks_retain;
            will.qos = if self.history.lacks_qos { QoS::AtMostOnce } else { will.qos };
        }
        let witness = self.call_witness(&settings).await?;
        let way = Way { connection: self.connection, settings: &settings, options: &options };
        let attempt = way.attempt(&mut addresses, self.history.settled);
        let outcome = self.unless_disturbed(attempt).await?;
        self.history.addresses = addresses;
        let trouble = match outcome {
            None => return Ok(()),
            Some(Ok(established)) => {
                self.history.addresses.approve_used();
                self.serve(established, witness, &settings).await?
            }
            Some(Err(trouble)) => {
                if self.concede(&trouble) {
                    return Ok(());
                }
                self.history.addresses.fail_used();
                self.history.attempts_failed += 1;
                self.history.struggles = 0;
                if self.history.reported != Some(trouble.kind()) {
                    self.report(&trouble).await?;
                }
                trouble
            }
        };
        if matches!(trouble, Trouble::SettingsChanged) {
            return Ok(());
        }
        let delay = self.history.backoff.next(trouble.kind());
        self.unless_disturbed(sleep(delay)).await?;
        Ok(())
    }

    async fn serve(
        &mut self,
        established: Established,
        mut witness: Option<Witness>,
        settings: &MqttSettings,
    ) -> Result<Trouble, Over> {
        let protocol = established.wire.protocol();
        let session_present = established.accepted.session_present;
        if settings.protocol == ProtocolChoice::Auto && established.is_certain {
            self.history.settled = Some(protocol);
        }
        {
            let mut state = self.shared.lock();
            state.outbox.connected(session_present);
            state.acknowledged = None;
            state.connected = true;
            state.severing = false;
            state.reported += 1;
        }
        let at_first_try = self.history.attempts_failed == 0;
        self.history.attempts_failed = 0;
        self.history.reported = None;
        self.history.last_heard = Instant::now();
        let connection = self.connection;
        self.send(Event::Connected { connection, protocol, session_present }).await?;
        if connection == Connection::Watch {
            let what = established.accepted.limits.lacks();
            if self.history.lacks != what {
                self.history.lacks.clone_from(&what);
                self.send(Event::BrokerLacks { what }).await?;
            }
        }
        self.history.reported_deliveries.connected(&settings.server, session_present);
        let began = Instant::now();
        self.note_standing(Some(began));
        let context = SessionContext {
            connection,
            client: self.options.client,
            server: settings.server.clone(),
            owner: settings.client_id.clone(),
            keep_alive: settings.keep_alive,
            shared: &self.shared,
            events: &self.events,
            pulse: &self.pulse,
            next_delivery: &mut self.history.deliveries,
            reported: &mut self.history.reported_deliveries,
            last_heard: &mut self.history.last_heard,
            has_refused: &mut self.history.has_refused,
            suspects: &mut self.history.suspects,
        };
        let session =
            MqttSession::new(context, established.wire, established.link, &established.accepted);
        let (end, outcomes) = tokio::select! {
            ended = session.run() => ended,
            // A connection that has stood for this long is not in doubt.
            never = witness::dismiss_after(STRUGGLE_TIME, &mut witness) => match never {},
        };
        {
            let mut state = self.shared.lock();
            state.connected = false;
            state.outbox.disconnected();
        }
        self.note_standing(None);
        let (trouble, unanswered) = match end {
            SessionEnd::Lost(trouble, unanswered) => (trouble, unanswered),
            SessionEnd::Severed => (Trouble::SettingsChanged, Vec::new()),
            SessionEnd::Closed | SessionEnd::Unheard => return Err(Over),
        };
        let (ended, stood) = (Instant::now(), began.elapsed());
        for outcome in outcomes {
            self.send(outcome).await?;
        }
        self.history.backoff.stood(stood);
        let closing = Closing { trouble, unanswered, ended, stood, at_first_try, witness };
        let trouble = self.judge(closing, settings).await?;
        self.report(&trouble).await?;
        Ok(trouble)
    }

    /// Avoids the property for which the broker has refused a will; returns whether that is new.
    fn concede(&mut self, trouble: &Trouble) -> bool {
        let lacks = match trouble {
            Trouble::NoRetain { .. } => &mut self.history.lacks_retain,
            Trouble::NoQos { .. } => &mut self.history.lacks_qos,
            _ => return false,
        };
        !std::mem::replace(lacks, true)
    }

    /// Reports to the other connection since when this one has been established.
    fn note_standing(&self, since: Option<Instant>) {
        if let Some(pair) = &self.options.pair {
            pair.stands(self.connection, since);
        }
    }

    async fn report(&mut self, trouble: &Trouble) -> Result<(), Over> {
        self.history.reported = Some(trouble.kind());
        let reason = trouble.loss_reason(self.history.last_heard.elapsed());
        self.send(Event::Disconnected { connection: self.connection, reason }).await
    }

    /// Waits for room in the channel; no socket can be delayed by it.
    async fn send(&self, event: Event) -> Result<(), Over> {
        let mut send = pin!(self.events.send(event));
        loop {
            self.pulse.beat();
            tokio::select! {
                sent = &mut send => return sent.map_err(|_| Over),
                () = self.pulse.asked() => {}
                () = self.shared.woken() => {
                    if self.shared.lock().closing.is_some() {
                        return Err(Over);
                    }
                }
            }
        }
    }

    /// Runs a future while the pulse beats; `None` when the settings changed before it completed.
    async fn unless_disturbed<T>(
        &self,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>, Over> {
        let mut future = pin!(future);
        // What finds no room in the channel is reported later.
        let mut ticks = interval(BEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.pulse.beat();
            {
                let state = self.shared.lock();
                // Without a connection there is nothing to wait for: unacknowledged publications
                // cannot be sent.
                if state.closing.is_some() {
                    return Err(Over);
                }
                if state.settings_changed {
                    return Ok(None);
                }
            }
            self.report_replaced()?;
            tokio::select! {
                output = &mut future => return Ok(Some(output)),
                _ = ticks.tick() => {}
                () = self.pulse.asked() => {}
                () = self.shared.woken() => {}
            }
        }
    }

    /// Reports publications that were replaced while there was no connection, as far as the
    /// channel has room.
    fn report_replaced(&self) -> Result<(), Over> {
        loop {
            let permit = match self.events.try_reserve() {
                Ok(permit) => permit,
                Err(mpsc::error::TrySendError::Full(())) => return Ok(()),
                Err(mpsc::error::TrySendError::Closed(())) => return Err(Over),
            };
            match self.shared.pop_replaced() {
                Some(token) => permit.send(Event::Published { token }),
                None => return Ok(()),
            }
        }
    }

    fn take_settings(&mut self) -> MqttSettings {
        let mut state = self.shared.lock();
        if std::mem::take(&mut state.settings_changed) {
            self.history.settled = None;
            self.history.backoff = RetryDelays::default();
            self.history.addresses = Addresses::default();
            self.history.struggles = 0;
            self.history.attempts_failed = 0;
            self.history.suspects = SuspectItems::default();
            (self.history.lacks_retain, self.history.lacks_qos) = (false, false);
        }
        state.settings.clone()
    }
}

/// The inputs of an attempt.
#[derive(Clone, Copy)]
struct Way<'a> {
    connection: Connection,
    settings: &'a MqttSettings,
    options: &'a ConnectionOptions,
}

impl Way<'_> {
    /// Connects with the version that the settings name; `auto` tries 5 first, and 3.1.1 when the
    /// broker's answer shows that it does not support 5. A closing without an answer may have the
    /// same cause, so it is followed by 3.1.1 for this once, as long as 5 has not worked.
    async fn attempt(
        self,
        addresses: &mut Addresses,
        settled: Option<Protocol>,
    ) -> Result<Established, Trouble> {
        let first = match (self.settings.protocol, settled) {
            (ProtocolChoice::V5, _) => Protocol::V5,
            (ProtocolChoice::V311, _) => Protocol::V311,
            (ProtocolChoice::Auto, settled) => settled.unwrap_or(Protocol::V5),
        };
        let outcome = self.establish(addresses, first, CONNACK_TIMEOUT).await;
        let may_fall_back = self.settings.protocol == ProtocolChoice::Auto && first == Protocol::V5;
        let is_certain = match &outcome {
            Err(Trouble::Version { .. }) if may_fall_back => true,
            Err(Trouble::ClosedUnanswered { .. }) if may_fall_back && settled.is_none() => false,
            Err(Trouble::Silent { .. }) if may_fall_back && settled.is_none() => {
                return match self.answers_only_the_older(addresses).await {
                    Some(established) => established,
                    None => outcome,
                };
            }
            Ok(_) | Err(_) => return outcome,
        };
        let older = self.establish(addresses, Protocol::V311, CONNACK_TIMEOUT).await?;
        Ok(Established { is_certain, ..older })
    }

    /// A broker that does not answer MQTT 5 may support 3.1.1 alone, or hang. It supports 3.1.1
    /// alone if it answers that at once, and again does not answer MQTT 5. This is not remembered:
    /// a broker that hung in between, as at the start of its machine, is asked anew each time.
    async fn answers_only_the_older(
        self,
        addresses: &mut Addresses,
    ) -> Option<Result<Established, Trouble>> {
        let mut older = match self.establish(addresses, Protocol::V311, PROMPT).await {
            Ok(older) => older,
            // That is an answer as well, and no other can be had with these credentials.
            Err(refusal @ (Trouble::BadCredentials { .. } | Trouble::NoCredentials { .. })) => {
                return Some(Err(refusal));
            }
            Err(_) => return None,
        };
        older.wire.disconnect(&mut older.link.output);
        older.link.finish(FAREWELL).await;
        match self.establish(addresses, Protocol::V5, CONNACK_TIMEOUT).await {
            Err(Trouble::Silent { .. }) => {
                let older = self.establish(addresses, Protocol::V311, CONNACK_TIMEOUT).await;
                Some(older.map(|older| Established { is_certain: false, ..older }))
            }
            newer => Some(newer),
        }
    }

    async fn establish(
        self,
        addresses: &mut Addresses,
        protocol: Protocol,
        patience: Duration,
    ) -> Result<Established, Trouble> {
        let Self { connection, settings, options } = self;
        let server = || settings.server.clone();
        let dialled = match timeout(DIAL_TIMEOUT, transport::dial(settings, addresses)).await {
            Ok(dialled) => dialled?,
            Err(_) => {
                return Err(Trouble::UnreachableInTime { server: server(), after: DIAL_TIMEOUT });
            }
        };
        if let Some(after) = options.gives_up_after {
            dialled.give_up_after(after);
        }
        let opened = match timeout(OPEN_TIMEOUT, transport::open(settings, dialled)).await {
            Ok(opened) => opened?,
            Err(_) => return Err(Trouble::Silent { server: server(), after: OPEN_TIMEOUT }),
        };
        let wire = wire(protocol);
        let mut link = Link::new(opened);
        let hello = hello(connection, settings, options);
        wire.connect(&hello, &mut link.output).map_err(|error| Trouble::Rejected {
            server: server(),
            reason: format!("the CONNECT packet cannot be written, {error}"),
        })?;
        match timeout(patience, answer(wire.as_ref(), &mut link, settings)).await {
            Ok(accepted) => Ok(Established { accepted: accepted?, link, wire, is_certain: true }),
            Err(_) => Err(Trouble::Silent { server: server(), after: patience }),
        }
    }
}

fn hello<'a>(
    connection: Connection,
    settings: &'a MqttSettings,
    options: &'a ConnectionOptions,
) -> Hello<'a> {
    let client_id = match connection {
        Connection::Watch => settings.client_id.clone(),
        Connection::State if options.client == Client::Recorder => {
            format!("{}-recorder", settings.client_id)
        }
        Connection::State | Connection::Former(FormerPart::Drain | FormerPart::End) => {
            format!("{}-states", settings.client_id)
        }
        Connection::Former(FormerPart::Look) => format!("{}-former", settings.client_id),
    };
    Hello {
        connection,
        client_id,
        keep_alive_seconds: u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX),
        user: settings.user.as_deref(),
        password: settings.password.as_ref(),
        will: options.will.as_ref(),
        client: options.client,
    }
}

/// Waits for CONNACK, the only packet that may come first (MQTT-3.2.0-1).
async fn answer(
    wire: &dyn Wire,
    link: &mut Link,
    settings: &MqttSettings,
) -> Result<Accepted, Trouble> {
    let server = || settings.server.clone();
    loop {
        if link.input.starts_with(TLS_ALERT) {
            return Err(Trouble::AnswersInTls { server: server() });
        }
        if link.input.starts_with(b"HTTP/") {
            return Err(Trouble::AnswersInHttp { server: server() });
        }
        let packet = wire
            .decode(&mut link.input)
            .map_err(|error| Trouble::Protocol { server: server(), what: error.to_string() })?;
        match packet {
            Some(Incoming::Accepted(accepted)) => return Ok(accepted),
            Some(Incoming::Rejected(rejection)) => return Err(rejected(rejection, settings)),
            Some(other) => {
                let what = format!("{other:?} came before CONNACK");
                return Err(Trouble::Protocol { server: server(), what });
            }
            None => {}
        }
        match link.step(true).await {
            Ok(LinkStep::Read | LinkStep::Wrote | LinkStep::Ticked) => {}
            Ok(LinkStep::Closed) => return Err(Trouble::ClosedUnanswered { server: server() }),
            Err(error) => {
                return Err(match Trouble::from_stream(&settings.server, error) {
                    Trouble::Closed { server } => Trouble::ClosedUnanswered { server },
                    trouble => trouble,
                });
            }
        }
    }
}

fn rejected(rejection: ConnackRejection, settings: &MqttSettings) -> Trouble {
    let server = settings.server.clone();
    match rejection {
        ConnackRejection::Version => Trouble::Version { server },
        ConnackRejection::Credentials if settings.user.is_none() => {
            Trouble::NoCredentials { server }
        }
        ConnackRejection::Credentials => Trouble::BadCredentials { server },
        ConnackRejection::NoRetain => Trouble::NoRetain { server },
        ConnackRejection::NoQos => Trouble::NoQos { server },
        ConnackRejection::Other(reason) => Trouble::Rejected { server, reason },
    }
}
