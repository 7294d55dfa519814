//! One connection: its requests, their answers, and the limits of its client.

use super::guard::RemoteAddress;
use axum::Router;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

/// The time for which a connection may be idle, and which the head of a request may take.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);

/// The time for which a client may leave an answer unread before the connection is ended.
const READER_PATIENCE: Duration = Duration::from_secs(15);

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The routes, for one connection.
pub(super) struct Answering {
    router: TowerToHyperService<Router>,
    remote: RemoteAddress,
}

impl Answering {
    pub fn new(router: Router, remote: RemoteAddress) -> Self {
        Self { router: TowerToHyperService::new(router), remote }
    }
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response;
    type Error = Infallible;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.remote);
        self.router.call(request)
    }
}

/// Answers the requests of one connection.
pub(super) async fn converse(stream: TcpStream, answering: Answering) {
    // Events are small, and are needed at once.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(READER_PATIENCE));
    // How the connection ended concerns only the client.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Box::pin(stream)), answering)
        .await;
}
