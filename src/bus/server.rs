//! The daemon's side: owns the name, takes calls, and comes back when the bus was away.

use super::calls::Calls;
use super::signals::signal;
use super::well_known_name;
use crate::dbus::{Backoff, Bus, CALL_TIMEOUT, connect};
use crate::pulse::Pulse;
use crate::request::Request;
use futures_util::StreamExt as _;
use iotmonitor_core::model::notice::Notice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream};

/// Which bus, and which instance.
#[derive(Debug, Clone)]
pub struct BusSettings {
    pub bus: Bus,
    pub client_id: String,
    /// D-Bus address instead of the bus's well-known one.
    pub bus_address: Option<String>,
}

/// Notices that wait to be told: room for ten thousand devices that fall silent together, with two
/// notices each. Memory is taken only for those that wait. When it is full, and while the bus is
/// away, notices are dropped: signals are for whoever happens to listen.
const NOTICE_QUEUE: usize = 32_768;

/// Signals written to the bus at once, so that calls and the rest of the daemon have their turn.
const SIGNAL_BATCH: usize = 64;

/// The way to everybody on the bus.
#[derive(Debug)]
pub struct BusHandle {
    notices: mpsc::Sender<Notice>,
    /// Whether the interface is on the bus, so that somebody could listen.
    is_offered: Arc<AtomicBool>,
}

impl BusHandle {
    /// Tells everybody who listens; never waits.
    pub fn notify(&self, notice: Notice) {
        if self.is_offered.load(Ordering::Relaxed) {
            // Dropped where there is no room, see [`NOTICE_QUEUE`].
            let _ = self.notices.try_send(notice);
        }
    }
}

/// Offers the interface until the other end of `requests` is closed; needs a tokio runtime. The
/// pulse beats twice a second, also while the bus is away.
///
/// When `requests` is full, callers wait for their turn, as they wait for their answers.
pub fn spawn(settings: BusSettings, requests: mpsc::Sender<Request>, pulse: Pulse) -> BusHandle {
    let (sender, notices) = mpsc::channel(NOTICE_QUEUE);
    let is_offered = Arc::new(AtomicBool::new(false));
    tokio::spawn(serve(settings, requests, notices, Arc::clone(&is_offered), pulse));
    BusHandle { notices: sender, is_offered }
}

async fn serve(
    settings: BusSettings,
    requests: mpsc::Sender<Request>,
    mut notices: mpsc::Receiver<Notice>,
    is_offered: Arc<AtomicBool>,
    pulse: Pulse,
) {
    let mut backoff = Backoff::new();
    while !requests.is_closed() {
        if let Ok((connection, calls)) = beating(&pulse, offer(&settings)).await {
            backoff.reset();
            // What happened before is no news.
            while notices.try_recv().is_ok() {}
            let server = Calls::new(settings.bus, connection, requests.clone());
            is_offered.store(true, Ordering::Relaxed);
            attend(&server, calls, &requests, &mut notices, &pulse).await;
            is_offered.store(false, Ordering::Relaxed);
        }
        // Not reported: without a bus systemd's loss is, and that the name belongs to another
        // instance the next command shows.
        let until = Instant::now() + backoff.delay();
        while Instant::now() < until {
            pulse.beat();
            let next = until.min(Instant::now() + pulse.until_next());
            let _ = timeout_at(next, requests.closed()).await;
            if requests.is_closed() {
                return;
            }
        }
    }
}

/// Connects, listens to calls, and only then takes the name, so that nobody who sees the name
/// calls in vain.
async fn offer(settings: &BusSettings) -> zbus::Result<(Connection, MessageStream)> {
    let name = well_known_name(&settings.client_id).ok_or(zbus::Error::InvalidName("clientid"))?;
    let connection = connect(settings.bus, settings.bus_address.as_deref(), CALL_TIMEOUT).await?;
    let rule = MatchRule::builder().msg_type(Type::MethodCall).build()?;
    let calls = MessageStream::for_match_rule(rule, &connection, None).await?;
    connection.request_name(name).await?;
    Ok((connection, calls))
}

/// Answers calls and tells notices until the connection is lost, or the daemon ends.
async fn attend(
    server: &Calls,
    mut calls: MessageStream,
    requests: &mpsc::Sender<Request>,
    notices: &mut mpsc::Receiver<Notice>,
    pulse: &Pulse,
) {
    let mut batch = Vec::with_capacity(SIGNAL_BATCH);
    loop {
        pulse.beat();
        tokio::select! {
            call = calls.next() => match call {
                // A task each, for an answer may wait for a person's password. The bus bounds how
                // many calls one caller may have waiting.
                Some(Ok(call)) => drop(tokio::spawn(server.clone().answer(call))),
                Some(Err(_)) => {}
                None => return,
            },
            count = notices.recv_many(&mut batch, SIGNAL_BATCH) => {
                if count == 0 {
                    return;
                }
                let signals: Vec<_> =
                    batch.drain(..).filter_map(|notice| signal(notice).ok()).collect();
                if beating(pulse, server.connection().send_all(&signals)).await.is_err() {
                    return;
                }
            }
            () = requests.closed() => return,
            () = tokio::time::sleep(pulse.until_next()) => {}
        }
    }
}

/// Waits for it, while the pulse beats.
async fn beating<T>(pulse: &Pulse, future: impl Future<Output = T>) -> T {
    tokio::pin!(future);
    loop {
        pulse.beat();
        tokio::select! {
            done = &mut future => return done,
            () = tokio::time::sleep(pulse.until_next()) => {}
        }
    }
}
