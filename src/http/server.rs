//! The listening socket and its connections.
//!
//! The resources of all clients are bounded: the number of connections, and what the kernel holds for them.

use super::connection::{Answering, ClientPatience, converse};
use super::daemon_client::DaemonClient;
use super::guard::RemoteAddress;
use super::page::Page;
use super::recent::Recent;
use super::settings::HttpSettings;
use super::{News, PageShared, Surroundings};
use super::{compress, guard, metrics, routes};
use crate::pulse::Pulse;
use axum::Router;
use iotmonitor_core::backoff::Backoff;
use iotmonitor_core::model::event::Event;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// The number of concurrent connections. Further ones wait in the kernel until one ends.
const MAX_CONNECTIONS: usize = 64;

/// The number of questions about the past that are answered at a time.
const MOST_PASTS: usize = 2;

/// The buffer for answers in the kernel, in bytes; it takes twice as much (tcp(7)).
const SEND_BUFFER: u32 = 128 * 1024;

/// The number of connections that wait in the kernel.
const QUEUE: u32 = 1_024;

/// The delays before the address is tried again.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// The pause after a connection could not be accepted, mostly for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// The state of the page's thread.
pub(super) struct PageServer {
    surroundings: Surroundings,
    shared: Arc<PageShared>,
}

impl PageServer {
    pub fn new(surroundings: Surroundings, shared: Arc<PageShared>) -> Self {
        Self { surroundings, shared }
    }

    /// Runs until the daemon drops its end of `settings`.
    pub async fn serve(
        self,
        mut settings: watch::Receiver<HttpSettings>,
        mut news: mpsc::Receiver<News>,
        pulse: &Pulse,
    ) {
        let recent = Arc::new(Recent::new(Arc::clone(&self.shared)));
        let daemon = DaemonClient::new(self.surroundings.requests.clone());
        let proving = recent.live.prove_life(&daemon);
        tokio::pin!(proving);
        let mut failing = false;
        loop {
            let current = settings.borrow_and_update().clone();
            let offering = self.offer(current, &recent, &mut failing);
            tokio::pin!(offering);
            loop {
                tokio::select! {
                    changed = settings.changed() => match changed {
                        Ok(()) => break,
                        Err(_ended) => return,
                    },
                    Some(news) = news.recv() => recent.take_in(news),
                    () = pulse.asked() => pulse.beat(),
                    never = &mut offering => match never {},
                    never = &mut proving => match never {},
                }
            }
        }
    }

    /// Listens and answers. An address that is not available is reported once, and tried again.
    async fn offer(
        &self,
        settings: HttpSettings,
        recent: &Arc<Recent>,
        failing: &mut bool,
    ) -> Infallible {
        let address = settings.address();
        let router = routes::router(Page {
            daemon: DaemonClient::new(self.surroundings.requests.clone()),
            recent: Arc::clone(recent),
            policy: guard::policy(&settings),
            settings: Arc::new(settings),
            started: self.surroundings.started,
            figures: Arc::default(),
            scrapes: Arc::new(Semaphore::new(metrics::MOST_SCRAPES)),
            encoders: Arc::new(Semaphore::new(compress::MOST_ENCODERS)),
            pasts: Arc::new(Semaphore::new(MOST_PASTS)),
        });
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let listener = loop {
            match listen(address) {
                Ok(listener) => break listener,
                Err(error) => {
                    if !std::mem::replace(failing, true) {
                        self.report(Event::PageFailed { error: sentence(address, &error) }).await;
                    }
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        };
        if std::mem::replace(failing, false) {
            self.report(Event::PageBack { address: address.to_string() }).await;
        }
        accept(&listener, &router).await
    }

    async fn report(&self, event: Event) {
        // A daemon that is ending no longer needs it.
        let _ = self.surroundings.events.send(event).await;
    }
}

/// Accepts connections forever; accepted ones end with this future.
async fn accept(listener: &TcpListener, router: &Router) -> Infallible {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // The semaphore is never closed, so a slot becomes free eventually.
        let slot = Arc::clone(&slots).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                let remote = RemoteAddress(peer.ip().to_canonical());
                let answering = Answering::new(router.clone(), remote);
                connections.spawn(async move {
                    converse(stream, answering, ClientPatience::OF_THE_PAGE).await;
                    drop(slot);
                });
            }
            Err(_for_a_while) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Like [`TcpListener::bind`], with a bound on what the kernel holds for a slow reader.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Accepted connections have it from here.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

fn sentence(address: SocketAddr, error: &io::Error) -> String {
    let way_out = match error.kind() {
        ErrorKind::AddrInUse => "another program uses it: choose another `port` in [http]",
        ErrorKind::AddrNotAvailable => "this machine does not have it (yet): see `bind` in [http]",
        ErrorKind::PermissionDenied => "choose a `port` from 1024 on in [http]",
        _ => "see [http] in the configuration",
    };
    format!("the status page cannot be offered on {address}: {error}; {way_out}")
}
