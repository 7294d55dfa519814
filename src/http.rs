//! The status page, its JSON and the metrics, over HTTP.
//!
//! It runs on a thread of its own, so that no reader of it holds the monitoring up: it asks the daemon
//! as the D-Bus interface does, a few devices at a time, and is told what changes. Everybody who
//! reaches it may look; to command takes the token, where one is configured.
//!
//! | module | duty |
//! |---|---|
//! | [`settings`] | the validated section of the configuration |
//! | [`server`] | the listening socket, its connections and their limits |
//! | [`guard`] | who is let in: names, origins, the token; and what every answer forbids |
//! | [`routes`] | which path is answered with what |
//! | [`page`] | what answers are made from |
//! | [`refusal`] | the answer to a request that is not done |
//! | [`daemon_client`] | questions to the daemon |
//! | [`past_alert`] | an alert as it is kept |
//! | [`recent`] | the alerts of the last day, and who looks on live |
//! | [`json`], [`metrics`] | how answers look |
//!
//! TLS is left to a proxy. The server keeps no state of a client, which requests everything again
//! after it has missed something.

mod daemon_client;
mod guard;
mod json;
mod metrics;
mod page;
mod past_alert;
mod recent;
mod refusal;
mod routes;
mod server;
pub mod settings;

use crate::pulse::Pulse;
use crate::request::Request;
use iotmonitor_core::model::alert::{Alert, AlertKind};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::notice::Notice;
use iotmonitor_core::model::view::{DeviceView, Summary};
use settings::HttpSettings;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// News that wait for the page. Memory is taken only for those that wait. When it is full they are
/// dropped: alerts are missing on the page then, though not in the journal, and who looks on is told to
/// ask again.
const NEWS_QUEUE: usize = 8_192;

/// What the page is told.
#[derive(Debug)]
enum News {
    Alert(Box<past_alert::PastAlert>),
    Device(Box<DeviceView>),
    Summary(Summary),
    /// Everything may be another.
    Reloaded,
}

/// What the daemon's thread leaves for the page's without waiting.
#[derive(Debug)]
struct PageShared {
    /// Alerts since the start, by their kind's place in [`AlertKind::ALL`].
    alerts: [AtomicU64; AlertKind::ALL.len()],
    /// Something was dropped since who looks on was last told.
    missed: AtomicBool,
    /// Who looks on live.
    streams: AtomicUsize,
}

/// What the page needs of the world.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The way to the daemon. When it is full, readers wait for their turn.
    pub requests: mpsc::Sender<Request>,
    /// Where the page's own trouble is told.
    pub events: mpsc::Sender<Event>,
    /// Wall clock of the daemon's start, since the Unix epoch.
    pub started: Duration,
}

/// The way to the page, which ends when this is dropped.
#[derive(Debug)]
pub struct HttpHandle {
    settings: watch::Sender<HttpSettings>,
    news: mpsc::Sender<News>,
    shared: Arc<PageShared>,
}

/// Offers the page on a thread of its own. The pulse beats twice a second, also while the address
/// cannot be had, which is tried again with growing delays.
///
/// # Errors
/// When the system allows no more threads or file descriptors.
pub fn spawn(
    settings: HttpSettings,
    surroundings: Surroundings,
    pulse: Pulse,
) -> io::Result<HttpHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (settings, changes) = watch::channel(settings);
    let (news, incoming) = mpsc::channel(NEWS_QUEUE);
    let shared = Arc::new(PageShared {
        alerts: std::array::from_fn(|_| AtomicU64::new(0)),
        missed: AtomicBool::new(false),
        streams: AtomicUsize::new(0),
    });
    let server = server::PageServer::new(surroundings, Arc::clone(&shared));
    let work = move || runtime.block_on(server.serve(changes, incoming, &pulse));
    std::thread::Builder::new().name("http".to_owned()).spawn(work)?;
    Ok(HttpHandle { settings, news, shared })
}

impl HttpHandle {
    /// Offers it as these settings say from now on.
    pub fn reconfigure(&self, settings: HttpSettings) {
        self.settings.send_if_modified(|current| {
            let changed = *current != settings;
            *current = settings;
            changed
        });
    }

    /// Tells of an alert; never waits.
    pub fn alert(&self, time: Duration, alert: &Alert) {
        if let Some(count) = self.shared.alerts.get(alert.kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.tell(News::Alert(Box::new(past_alert::PastAlert::new(time, alert))));
    }

    /// Tells who looks on of a change; never waits.
    pub fn notify(&self, notice: &Notice) {
        if self.shared.streams.load(Ordering::Relaxed) == 0 {
            return;
        }
        match notice {
            Notice::StateChanged(view) | Notice::UnitChanged(view) => {
                self.tell(News::Device(Box::new(view.clone())));
            }
            Notice::SummaryChanged(summary) => self.tell(News::Summary(*summary)),
            // The state that comes with each of these says it all.
            Notice::Expired { .. } | Notice::Recovered { .. } | Notice::AgentRestarted { .. } => {}
        }
    }

    /// Tells who looks on that devices may have come and gone.
    pub fn reloaded(&self) {
        self.tell(News::Reloaded);
    }

    fn tell(&self, news: News) {
        if self.news.try_send(news).is_err() {
            self.shared.missed.store(true, Ordering::Relaxed);
        }
    }
}
