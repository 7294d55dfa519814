//! The status page, its JSON and the metrics, over HTTP.
//!
//! It runs on a separate thread, so that no client can delay the monitoring: it queries the daemon
//! as the D-Bus interface does, a few devices at a time, and receives a notice of every change.
//! Every client that reaches it may read; commands require the token, where one is configured.
//!
//! | module | duty |
//! |---|---|
//! | [`settings`] | the validated section of the configuration |
//! | [`server`] | the listening socket and the number of its connections |
//! | [`connection`] | one connection, and the limits of its client |
//! | [`guard`] | admission: host names, origins, the token; and the headers that restrict the browser |
//! | [`routes`] | the mapping of paths to answers |
//! | [`answer`] | what answers have in common |
//! | [`commands`] | the commands, which require the token |
//! | [`contents`] | what only clients with the token may read |
//! | [`parameters`] | the query of an address |
//! | [`past`] | the past of devices |
//! | [`compress`] | compression of large answers |
//! | [`files`] | the files of the page, and how browsers keep them |
//! | [`values`] | recorded numbers of devices |
//! | [`page`] | the data from which answers are built |
//! | [`refusal`] | the answer to a refused request |
//! | [`daemon_client`] | requests to the daemon |
//! | [`alerts`] | alerts of the past, and their acknowledgement |
//! | [`recent`] | the news for the streaming clients |
//! | [`live`] | the streaming clients |
//! | [`json`], [`metrics`] | the formats of the answers |
//!
//! TLS is left to a proxy. The server keeps no state of a client, which requests everything again
//! after it has missed something.

mod alerts;
mod answer;
mod commands;
mod compress;
mod connection;
mod contents;
mod daemon_client;
mod figures;
mod files;
mod guard;
mod json;
mod live;
mod metrics;
mod page;
mod parameters;
mod past;
mod recent;
mod refusal;
mod routes;
mod server;
pub mod settings;
mod values;

use crate::pulse::Pulse;
use crate::request::Request;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::history::alert_record::AlertRecord;
use iotmonitor_core::model::notice::Notice;
use iotmonitor_core::model::view::{DeviceView, Summary};
use settings::HttpSettings;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The number of notices that wait for the page. Memory is used only for waiting ones. When the
/// queue is full they are dropped, and streaming clients are asked to request everything again.
const NEWS_QUEUE: usize = 8_192;

/// The notices to the page.
#[derive(Debug)]
enum News {
    Alert(Arc<AlertRecord>),
    /// An alert was acknowledged at this time.
    Acknowledged {
        id: u64,
        time: Duration,
    },
    Device(Box<DeviceView>),
    Summary(Summary),
    /// Everything may have changed.
    Reloaded,
}

/// Data that the daemon's thread leaves for the page's without waiting.
#[derive(Debug)]
struct PageShared {
    /// The number of alerts since the start, by their kind's index in [`AlertKind::ALL`].
    alerts: [AtomicU64; AlertKind::ALL.len()],
    /// Something was dropped since the streaming clients were last notified.
    missed: AtomicBool,
    /// The number of streaming clients.
    streams: AtomicUsize,
}

impl PageShared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            alerts: std::array::from_fn(|_| AtomicU64::new(0)),
            missed: AtomicBool::new(false),
            streams: AtomicUsize::new(0),
        })
    }
}

/// The page's connections to the rest of the program.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The channel to the daemon. When it is full, clients wait for their turn.
    pub requests: mpsc::Sender<Request>,
    /// The channel for the page's own errors.
    pub events: mpsc::Sender<Event>,
    /// The wall clock at the daemon's start, since the Unix epoch.
    pub started: Duration,
}

/// The channel to the page, which ends when this is dropped.
#[derive(Debug)]
pub struct HttpHandle {
    settings: watch::Sender<HttpSettings>,
    news: PageNews,
}

/// The channel for what the streaming clients are to know.
#[derive(Debug, Clone)]
pub struct PageNews {
    news: mpsc::Sender<News>,
    shared: Arc<PageShared>,
}

/// Starts the page on a separate thread. The pulse beats when it is asked to, also while the address
/// is not available, which is tried again with growing delays.
///
/// # Errors
/// Returns an error when the system allows no more threads or file descriptors.
pub fn spawn(
    settings: HttpSettings,
    surroundings: Surroundings,
    pulse: Pulse,
) -> io::Result<HttpHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (settings, changes) = watch::channel(settings);
    let (news, incoming) = mpsc::channel(NEWS_QUEUE);
    let shared = PageShared::new();
    let server = server::PageServer::new(surroundings, Arc::clone(&shared));
    let work = move || runtime.block_on(server.serve(changes, incoming, &pulse));
    std::thread::Builder::new().name("http".to_owned()).spawn(work)?;
    Ok(HttpHandle { settings, news: PageNews { news, shared } })
}

impl HttpHandle {
    /// Applies new settings.
    pub fn reconfigure(&self, settings: HttpSettings) {
        self.settings.send_if_modified(|current| {
            let changed = *current != settings;
            *current = settings;
            changed
        });
    }

    /// Reports an alert; never waits.
    pub fn alert(&self, kind: AlertKind, alert: Arc<AlertRecord>) {
        if let Some(count) = self.news.shared.alerts.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if self.news.is_followed() {
            self.news.forward(News::Alert(alert));
        }
    }

    /// Reports a change to the streaming clients; never waits.
    pub fn notify(&self, notice: &Notice) {
        if !self.news.is_followed() {
            return;
        }
        match notice {
            Notice::StateChanged(view) | Notice::UnitChanged(view) => {
                self.news.forward(News::Device(view.clone()));
            }
            Notice::SummaryChanged(summary) => self.news.forward(News::Summary(*summary)),
            // The state that accompanies each of these contains everything.
            Notice::Expired { .. } | Notice::Recovered { .. } | Notice::AgentRestarted { .. } => {}
        }
    }

    /// Reports to the streaming clients that devices may have been added or removed.
    pub fn reloaded(&self) {
        self.news.forward(News::Reloaded);
    }

    /// A sender of news that outlives the turn in which it is made.
    pub fn news(&self) -> PageNews {
        self.news.clone()
    }
}

impl PageNews {
    /// Reports that an alert was acknowledged; never waits.
    pub fn acknowledged(&self, id: u64, time: Duration) {
        self.forward(News::Acknowledged { id, time });
    }

    fn is_followed(&self) -> bool {
        self.shared.streams.load(Ordering::Relaxed) > 0
    }

    fn forward(&self, news: News) {
        if self.news.try_send(news).is_err() {
            self.shared.missed.store(true, Ordering::Relaxed);
        }
    }
}
