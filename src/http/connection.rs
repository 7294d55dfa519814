//! One connection: its requests, their answers, and the limits of its client.
//!
//! A limit on a single wait does not stop a client that always takes a little, or always asks again.
//! Therefore a connection has an end, so that each place becomes free for others.

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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

/// The times that a client has.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientPatience {
    /// The time for which a connection may be idle, and which the head of a request may take.
    pub head: Duration,
    /// The time for which a client may leave an answer unread.
    pub reader: Duration,
    /// The age at which a connection takes no further request. The answer that is on its way then has
    /// as much time again.
    pub connection: Duration,
}

impl ClientPatience {
    pub const OF_THE_PAGE: Self = Self {
        head: Duration::from_secs(15),
        reader: Duration::from_secs(15),
        connection: Duration::from_secs(60),
    };
}

/// Says of a connection that its answer has no end. A route that streams events takes it from the
/// request's extensions.
#[derive(Debug, Clone, Default)]
pub(super) struct Lasting(Arc<AtomicBool>);

impl Lasting {
    /// Keeps the connection for as long as its client takes what is sent.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The routes, for one connection.
pub(super) struct Answering {
    router: TowerToHyperService<Router>,
    remote: RemoteAddress,
    lasting: Lasting,
}

impl Answering {
    pub fn new(router: Router, remote: RemoteAddress) -> Self {
        Self { router: TowerToHyperService::new(router), remote, lasting: Lasting::default() }
    }
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response;
    type Error = Infallible;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.remote);
        request.extensions_mut().insert(self.lasting.clone());
        self.router.call(request)
    }
}

/// Answers the requests of one connection. Only an answer that lasts keeps it for more than twice
/// `patience.connection`.
pub(super) async fn converse(stream: TcpStream, answering: Answering, patience: ClientPatience) {
    let lasting = answering.lasting.clone();
    // Events are small, and are needed at once.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience.reader));
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Box::pin(stream)), answering);
    tokio::pin!(conversation);
    // How the connection ended concerns only the client.
    tokio::select! {
        _ended = &mut conversation => return,
        () = tokio::time::sleep(patience.connection) => {}
    }
    conversation.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(patience.connection, &mut conversation).await;
    if lasting.is_set() {
        let _ = conversation.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, Bytes};
    use axum::extract::Extension;
    use axum::routing::get;
    use futures_util::stream;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream as Client};
    use std::time::Instant;
    use tokio::net::TcpListener;

    const AGE: Duration = Duration::from_millis(700);
    const PATIENCE: ClientPatience =
        ClientPatience { connection: AGE, ..ClientPatience::OF_THE_PAGE };

    /// More than one connection may take, at the pace of these tests.
    const LARGE: usize = 256 << 20;
    const PIECE: usize = 64 << 10;

    fn pieces() -> Body {
        let piece = Bytes::from_static(&[b'x'; PIECE]);
        let pieces = std::iter::repeat_n(Ok::<_, Infallible>(piece), LARGE / PIECE);
        Body::from_stream(stream::iter(pieces))
    }

    /// A client of a server whose connections age soon, after this request.
    fn client_after(request: &str) -> Client {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let (stream, peer) = listener.accept().await.unwrap();
                let router = Router::new()
                    .route("/short", get(async || "short"))
                    .route("/large", get(async || pieces()))
                    .route(
                        "/events",
                        get(async |Extension(lasting): Extension<Lasting>| {
                            lasting.set();
                            pieces()
                        }),
                    );
                let answering = Answering::new(router, RemoteAddress(peer.ip()));
                converse(stream, answering, PATIENCE).await;
            });
        });
        let mut client = Client::connect(told.recv().unwrap()).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        client
    }

    fn request(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    }

    /// Takes something every few milliseconds, for as long as there is something and this holds;
    /// returns the number of bytes.
    fn drip(client: &mut Client, goes_on: impl Fn() -> bool) -> usize {
        let mut taken = 0;
        let mut buffer = vec![0; PIECE];
        while goes_on() {
            match client.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => taken += read,
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        taken
    }

    #[test]
    fn a_reader_that_always_takes_a_little_is_ended() {
        let mut client = client_after(&request("/large"));
        let began = Instant::now();
        let taken = drip(&mut client, || true);
        assert!(taken < LARGE, "it could take as long as it liked: {:?}", began.elapsed());
        assert!(taken > PIECE, "it was served");
        assert!(began.elapsed() > 2 * AGE, "{:?}", began.elapsed());
    }

    #[test]
    fn a_client_that_asks_again_and_again_is_ended_after_a_whole_answer() {
        let mut client = client_after("");
        let began = Instant::now();
        let mut text = String::new();
        while !text.contains("connection: close") {
            assert!(began.elapsed() < 20 * AGE, "it could go on for ever");
            // The connection may have been idle in the moment in which it was ended.
            if client.write_all(request("/short").as_bytes()).is_err() {
                break;
            }
            let mut buffer = [0; 4_096];
            match client.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => text.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
            }
        }
        assert!(text.ends_with("\r\n\r\nshort"), "{text}");
        assert!(began.elapsed() > AGE / 2, "{:?}", began.elapsed());
    }

    #[test]
    fn a_stream_of_events_lasts_as_long_as_its_reader() {
        let mut client = client_after(&request("/events"));
        let began = Instant::now();
        drip(&mut client, || began.elapsed() < 5 * AGE);
        assert!(client.read(&mut [0]).is_ok_and(|read| read == 1), "it was ended");
    }
}
