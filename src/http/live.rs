//! The stream of events for connected clients.
//!
//! Each client has what it has not read yet, and of each device only the last state: a slow client
//! never gets what is out of date by then, and a thousand devices that change at once cost it a
//! thousand events at most, however often they change meanwhile. What it has missed for lack of room,
//! it requests anew.

use super::PageShared;
use super::daemon_client::DaemonClient;
use axum::response::sse::Event;
use futures_util::{Stream, stream};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The number of clients that can stream events at a time; each is a permanent connection.
const MAX_STREAMS: usize = 32;

/// The number of alerts, and of devices, that wait for a slow client. One that falls further behind is
/// asked to request everything again.
const MOST_WAITING: usize = 2_000;

/// A client is asked to request everything again at this interval at most: the answer may be
/// megabytes.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);

/// An idle connection is kept alive at this interval.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The event after which a client requests everything again. A browser drops an event without data.
const REFRESH: &str = "refresh";
const NOTHING: &str = "{}";

/// The event that proves that the daemon answers, and its interval.
const HEARTBEAT: &str = "heartbeat";
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// The delay before the browser reconnects after the connection was lost, as when the monitor
/// restarts.
const RETRY: Duration = Duration::from_secs(1);

/// One event of the stream (HTML Living Standard, "Server-sent events").
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    event: &'static str,
    data: String,
}

/// Owned by the page's thread alone, whose tasks share it.
#[derive(Debug)]
pub(super) struct Live {
    shared: Arc<PageShared>,
    /// Those that have gone are removed with the next event, or when another one comes.
    clients: Mutex<Vec<Weak<StreamClient>>>,
    /// A client has been added.
    joined: Notify,
}

impl Live {
    pub fn new(shared: Arc<PageShared>) -> Self {
        Self { shared, clients: Mutex::default(), joined: Notify::new() }
    }

    /// Whether any client would receive an event.
    pub fn has_clients(&self) -> bool {
        self.clients().iter().any(|client| client.strong_count() > 0)
    }

    /// Reports at intervals that the daemon answers. A browser shows no comments to scripts, and a
    /// proxy may hold a stream whose source is gone.
    pub async fn prove_life(&self, daemon: &DaemonClient) -> Infallible {
        loop {
            // Each client has had its first heartbeat when it joined.
            while !self.has_clients() {
                self.joined.notified().await;
            }
            tokio::time::sleep(HEARTBEAT_INTERVAL).await;
            if self.has_clients() && daemon.summary().await.is_ok() {
                let frame = Frame { event: HEARTBEAT, data: proof_of_life() };
                self.give(frame, |waiting, frame| waiting.heartbeat = Some(frame));
            }
        }
    }

    /// Sends an event that no later one replaces.
    pub fn send(&self, event: &'static str, data: String) {
        self.give(Frame { event, data }, Waiting::append);
    }

    /// Sends the state of a device.
    pub fn device(&self, name: &str, data: String) {
        let frame = Frame { event: "device", data };
        self.give(frame, |waiting, frame| waiting.note_device(name, frame));
    }

    /// Sends the figures of the whole.
    pub fn summary(&self, data: String) {
        let frame = Frame { event: "summary", data };
        self.give(frame, |waiting, frame| waiting.summary = Some(frame));
    }

    /// Asks all clients to request everything again.
    pub fn refresh(&self) {
        let frame = Frame { event: REFRESH, data: NOTHING.to_owned() };
        self.give(frame, |waiting, _| waiting.miss());
    }

    fn give(&self, frame: Frame, to: impl Fn(&mut Waiting, Arc<Frame>)) {
        let frame = Arc::new(frame);
        self.clients().retain(|client| {
            let Some(client) = client.upgrade() else { return false };
            to(&mut client.waiting(), Arc::clone(&frame));
            client.news.notify_one();
            true
        });
    }

    /// Streams the events from now on; `None` when the maximum number of clients is reached.
    pub fn follow(&self) -> Option<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let client = self.join()?;
        // The daemon has answered just now.
        let first = Event::default().retry(RETRY).event(HEARTBEAT).data(proof_of_life());
        Some(stream::unfold((client, Some(first)), |(client, first)| async move {
            let event = match first {
                Some(first) => first,
                None => match client.next().await {
                    Some(frame) => Event::default().event(frame.event).data(&frame.data),
                    None => Event::default().comment(""),
                },
            };
            Some((Ok(event), (client, None)))
        }))
    }

    fn join(&self) -> Option<Arc<StreamClient>> {
        let client = Arc::new(StreamClient {
            waiting: Mutex::default(),
            news: Notify::new(),
            _slot: StreamSlot::take(&self.shared)?,
        });
        let mut clients = self.clients();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(&client));
        drop(clients);
        self.joined.notify_one();
        Some(client)
    }

    fn clients(&self) -> MutexGuard<'_, Vec<Weak<StreamClient>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A streaming client.
#[derive(Debug)]
struct StreamClient {
    waiting: Mutex<Waiting>,
    /// Something has been added to what waits.
    news: Notify,
    _slot: StreamSlot,
}

impl StreamClient {
    /// The next event; `None` where there is none for so long that the connection is to be kept
    /// alive.
    async fn next(&self) -> Option<Arc<Frame>> {
        let idle_at = Instant::now() + KEEP_ALIVE;
        loop {
            let now = Instant::now();
            let due = match self.waiting().take(now) {
                Ok(frame) => return Some(frame),
                Err(due) => due,
            };
            if now >= idle_at {
                return None;
            }
            let until = due.unwrap_or(idle_at).min(idle_at);
            // What has come, or not, is looked at above.
            let _ = tokio::time::timeout_at(until, self.news.notified()).await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a client has not read yet.
#[derive(Debug, Default)]
struct Waiting {
    /// Something was dropped that the client is to request.
    is_stale: bool,
    refreshed_at: Option<Instant>,
    heartbeat: Option<Arc<Frame>>,
    summary: Option<Arc<Frame>>,
    /// In their order.
    others: VecDeque<Arc<Frame>>,
    /// By name, the last state of each.
    devices: BTreeMap<Box<str>, Arc<Frame>>,
    /// The device whose state was taken last. The next in the order of names has its turn, so that
    /// none waits for one that changes all the time.
    last_device: Box<str>,
}

impl Waiting {
    fn append(&mut self, frame: Arc<Frame>) {
        if self.is_stale {
            return;
        }
        if self.others.len() >= MOST_WAITING {
            return self.miss();
        }
        self.others.push_back(frame);
    }

    fn note_device(&mut self, name: &str, frame: Arc<Frame>) {
        if self.is_stale {
            return;
        }
        if let Some(waiting) = self.devices.get_mut(name) {
            *waiting = frame;
        } else if self.devices.len() >= MOST_WAITING {
            self.miss();
        } else {
            self.devices.insert(name.into(), frame);
        }
    }

    /// Drops what the client requests anew.
    fn miss(&mut self) {
        self.is_stale = true;
        self.others = VecDeque::new();
        self.devices = BTreeMap::new();
    }

    /// Takes the next event, or returns the time at which there is one, if that is known.
    fn take(&mut self, now: Instant) -> Result<Arc<Frame>, Option<Instant>> {
        let due = self.refreshed_at.map_or(now, |at| at + REFRESH_INTERVAL);
        if self.is_stale && now >= due {
            self.is_stale = false;
            self.refreshed_at = Some(now);
            return Ok(Arc::new(Frame { event: REFRESH, data: NOTHING.to_owned() }));
        }
        let single = self.heartbeat.take().or_else(|| self.summary.take());
        let next = single.or_else(|| self.others.pop_front()).or_else(|| self.take_device());
        next.ok_or(self.is_stale.then_some(due))
    }

    fn take_device(&mut self) -> Option<Arc<Frame>> {
        let behind = (Bound::Excluded(&*self.last_device), Bound::Unbounded);
        let next = self.devices.range::<str, _>(behind).next().map(|(name, _)| name.clone());
        let name = next.or_else(|| self.devices.keys().next().cloned())?;
        let frame = self.devices.remove(&name);
        self.last_device = name;
        frame
    }
}

fn proof_of_life() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({ "time": now.as_secs() }).to_string()
}

/// One of [`MAX_STREAMS`] places, returned when it is dropped.
#[derive(Debug)]
struct StreamSlot(Arc<PageShared>);

impl StreamSlot {
    fn take(shared: &Arc<PageShared>) -> Option<Self> {
        let place = Self(Arc::clone(shared));
        // Dropping a surplus place returns it.
        (shared.streams.fetch_add(1, Ordering::Relaxed) < MAX_STREAMS).then_some(place)
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a client has not read, for tests of what is sent.
#[cfg(test)]
pub(super) struct Listener(Arc<StreamClient>);

#[cfg(test)]
impl Listener {
    pub fn to(live: &Live) -> Self {
        Self(live.join().unwrap())
    }

    /// The kind and the data of the next event, if one waits.
    pub fn next(&self) -> Option<(&'static str, String)> {
        let frame = self.0.waiting().take(Instant::now()).ok()?;
        Some((frame.event, frame.data.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Live {
        Live::new(PageShared::new())
    }

    fn all(listener: &Listener) -> Vec<(&'static str, String)> {
        std::iter::from_fn(|| listener.next()).collect()
    }

    #[test]
    fn so_many_look_on_and_the_next_when_one_has_gone() {
        let live = live();
        let mut streams: Vec<_> = (0..MAX_STREAMS).map(|_| live.follow().unwrap()).collect();
        assert!(live.follow().is_none());
        streams.pop();
        assert!(live.follow().is_some());
        drop(streams);
        assert!(!live.has_clients());
    }

    /// Nothing happens in a quiet house, where a program connects again and again.
    #[test]
    fn clients_that_have_gone_leave_nothing_behind() {
        let live = live();
        let listener = Listener::to(&live);
        for _ in 0..1_000 {
            drop(live.follow());
        }
        assert!(live.clients().len() <= 2, "{}", live.clients().len());
        live.send("alert", String::new());
        assert!(listener.next().is_some());
    }

    #[test]
    fn a_slow_client_gets_the_last_state_of_each_device_once() {
        let live = live();
        let slow = Listener::to(&live);
        for state in 0..100 {
            for device in 0..1_000 {
                live.device(&format!("d{device:03}"), state.to_string());
            }
            live.summary(state.to_string());
        }
        let sent = all(&slow);
        assert_eq!(sent.len(), 1_001);
        assert!(sent.iter().all(|(_, data)| data == "99"), "{sent:?}");
        assert_eq!(sent[0].0, "summary");
    }

    #[test]
    fn a_device_that_changes_all_the_time_holds_no_other_up() {
        let live = live();
        let client = Listener::to(&live);
        for device in ["a", "b", "c"] {
            live.device(device, device.to_owned());
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            live.device("a", "a".to_owned());
            seen.extend(client.next());
        }
        let names: Vec<_> = seen.iter().map(|(_, data)| data.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "a"]);
    }

    #[test]
    fn alerts_come_in_their_order_and_the_proof_of_life_before_all() {
        let live = live();
        let client = Listener::to(&live);
        for number in 0..3 {
            live.send("alert", number.to_string());
        }
        live.give(Frame { event: HEARTBEAT, data: String::new() }, |waiting, frame| {
            waiting.heartbeat = Some(frame);
        });
        let sent = all(&client).into_iter().map(|(kind, data)| kind.to_owned() + &data);
        assert_eq!(sent.collect::<Vec<_>>(), ["heartbeat", "alert0", "alert1", "alert2"]);
    }

    /// Ten thousand devices expire at once, three times, before the client reads on.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_far_behind_refreshes_once_in_a_while() {
        let live = live();
        let slow = Listener::to(&live);
        let storm = || {
            for device in 0..10_000 {
                live.device(&device.to_string(), String::new());
                live.send("alert", String::new());
            }
        };
        storm();
        storm();
        assert_eq!(all(&slow), [(REFRESH, NOTHING.to_owned())]);
        storm();
        assert_eq!(all(&slow), [], "it has been asked just now");
        live.device("lamp", "too early to be sent by itself".to_owned());
        tokio::time::advance(REFRESH_INTERVAL).await;
        assert_eq!(all(&slow), [(REFRESH, NOTHING.to_owned())]);
        live.device("lamp", "news".to_owned());
        assert_eq!(all(&slow), [("device", "news".to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_connection_is_kept_alive_and_news_comes_at_once() {
        let live = live();
        let client = live.join().unwrap();
        let began = Instant::now();
        assert_eq!(client.next().await, None);
        assert_eq!(began.elapsed(), KEEP_ALIVE);
        let (next, ()) = tokio::join!(client.next(), async { live.send("alert", "x".into()) });
        assert_eq!(next.unwrap().event, "alert");
        assert_eq!(began.elapsed(), KEEP_ALIVE);
    }
}
