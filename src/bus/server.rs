//! The daemon's side: owns the name, answers calls, and returns after the bus was away.

use super::callers::Callers;
use super::calls::Calls;
use super::name::{NameError, OwnedName, holder, offer};
use super::settings::BusSettings;
use super::signals::signal;
use crate::dbus::{CALL_TIMEOUT, backoff};
use crate::pulse::Pulse;
use crate::request::Request;
use futures_util::StreamExt as _;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::notice::Notice;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The queue of waiting notices has room for ten thousand devices that fall silent together, with
/// two notices each. Memory is used only for waiting ones. When it is full, and while the bus is
/// away, notices are dropped, because signals are only for present listeners.
const NOTICE_QUEUE: usize = 32_768;

/// The number of signals written to the bus at once, so that calls and the rest of the daemon have
/// their turn.
const SIGNAL_BATCH: usize = 64;

/// Sends notices to every listener on the bus.
#[derive(Debug)]
pub struct BusHandle {
    notices: mpsc::Sender<Notice>,
    /// Whether the interface is on the bus, so that there can be listeners.
    is_offered: Arc<AtomicBool>,
}

impl BusHandle {
    /// Notifies all listeners; never waits.
    pub fn notify(&self, notice: Notice) {
        if self.is_offered.load(Ordering::Relaxed) {
            // A notice is dropped where there is no room, see [`NOTICE_QUEUE`].
            let _ = self.notices.try_send(notice);
        }
    }
}

/// Offers the interface until the other end of `requests` is closed; needs a tokio runtime. Starts
/// with the place that was claimed, or claims one as soon as possible. The pulse beats twice a
/// second, also while the bus is away.
///
/// When `requests` is full, callers wait for their turn, as they wait for their answers.
pub fn spawn(
    settings: BusSettings,
    place: Option<Box<OwnedName>>,
    requests: mpsc::Sender<Request>,
    events: mpsc::Sender<Event>,
    pulse: Pulse,
) -> BusHandle {
    let (sender, notices) = mpsc::channel(NOTICE_QUEUE);
    let is_offered = Arc::new(AtomicBool::new(false));
    let server =
        BusServer { settings, requests, events, pulse, is_offered: Arc::clone(&is_offered) };
    tokio::spawn(server.serve(place, notices));
    BusHandle { notices: sender, is_offered }
}

struct BusServer {
    settings: BusSettings,
    requests: mpsc::Sender<Request>,
    events: mpsc::Sender<Event>,
    pulse: Pulse,
    is_offered: Arc<AtomicBool>,
}

impl BusServer {
    async fn serve(self, mut place: Option<Box<OwnedName>>, mut notices: mpsc::Receiver<Notice>) {
        let mut backoff = backoff();
        let mut refusal_reported = false;
        while !self.requests.is_closed() {
            let offered = match place.take() {
                Some(place) => Ok(place),
                None => {
                    let offered = timeout(CALL_TIMEOUT, offer(&self.settings));
                    self.pulse.beat_during(offered).await.unwrap_or_else(|_| Err(NameError::Silent))
                }
            };
            match offered {
                Ok(place) => {
                    if std::mem::take(&mut refusal_reported) {
                        self.report(Event::BusNameBack).await;
                    }
                    backoff.reset();
                    // Earlier events are not news.
                    while notices.try_recv().is_ok() {}
                    self.is_offered.store(true, Ordering::Relaxed);
                    self.attend(place, &mut notices).await;
                    self.is_offered.store(false, Ordering::Relaxed);
                }
                // Without a bus, the loss of systemd is reported instead.
                Err(NameError::Away(_) | NameError::Silent) => {}
                Err(refusal) => {
                    if !std::mem::replace(&mut refusal_reported, true) {
                        let reason = self.pulse.beat_during(in_words(refusal)).await;
                        self.report(Event::BusNameRefused { reason }).await;
                    }
                }
            }
            if self.pause(backoff.next_delay()).await.is_break() {
                return;
            }
        }
    }

    /// Waits, unless the daemon ends first.
    async fn pause(&self, delay: Duration) -> ControlFlow<()> {
        match self.pulse.beat_during(timeout(delay, self.requests.closed())).await {
            Ok(()) => ControlFlow::Break(()),
            Err(_elapsed) => ControlFlow::Continue(()),
        }
    }

    async fn report(&self, event: Event) {
        // This fails when the daemon has ended.
        let _ = self.pulse.beat_during(self.events.send(event)).await;
    }

    /// Answers calls and sends notices until the connection or the name is lost, or the daemon
    /// ends.
    async fn attend(&self, place: Box<OwnedName>, notices: &mut mpsc::Receiver<Notice>) {
        let OwnedName { connection, mut calls, mut losses } = *place;
        let (requests, pulse) = (&self.requests, &self.pulse);
        let server = Calls::new(self.settings.bus, connection.clone(), requests.clone());
        let mut callers = Callers::of(server);
        let mut batch = Vec::with_capacity(SIGNAL_BATCH);
        loop {
            pulse.beat();
            tokio::select! {
                call = calls.next() => match call {
                    Some(Ok(call)) => callers.push(call),
                    Some(Err(_)) => {}
                    None => return,
                },
                () = callers.done() => {}
                _ = losses.next() => return,
                count = notices.recv_many(&mut batch, SIGNAL_BATCH) => {
                    if count == 0 {
                        return;
                    }
                    let signals: Vec<_> =
                        batch.drain(..).filter_map(|notice| signal(notice).ok()).collect();
                    if pulse.beat_during(connection.send_all(&signals)).await.is_err() {
                        return;
                    }
                }
                () = requests.closed() => return,
                () = pulse.asked() => {}
            }
        }
    }
}

/// Explains to a person why commands do not get through.
async fn in_words(refusal: NameError) -> String {
    let NameError::Taken { connection, owner } = refusal else { return refusal.to_string() };
    match holder(&connection, &owner).await {
        Some(suspect) => {
            format!("another iotmonitor with its clientid runs as {}", suspect.process)
        }
        None => "another process has its name on the bus".to_owned(),
    }
}
