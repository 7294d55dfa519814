//! The data from which answers are built.

use super::daemon_client::DaemonClient;
use super::figures::FiguresCache;
use super::recent::Recent;
use super::settings::HttpSettings;
use hyper::header::HeaderValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Shared by all requests.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub daemon: DaemonClient,
    pub recent: Arc<Recent>,
    pub settings: Arc<HttpSettings>,
    /// What a browser may do with the answers.
    pub policy: HeaderValue,
    /// The wall clock at the daemon's start, since the Unix epoch.
    pub started: Duration,
    /// The latest figures of the past.
    pub figures: Arc<FiguresCache>,
    /// A scrape holds the figures of all devices in memory until it is sent, so only a few run at a
    /// time.
    pub scrapes: Arc<Semaphore>,
    /// Places for encoders, each of which takes much memory.
    pub encoders: Arc<Semaphore>,
    /// A few questions about the past run at a time, because its thread has batches to write.
    pub pasts: Arc<Semaphore>,
}
