//! A proxy between a browser and the page, which has faults on demand.

use super::house::House;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Each request is answered with 502.
    BadGateway,
    /// Nothing of the stream of events gets through, as in a proxy that buffers.
    HoldsEvents,
}

/// The proxy's own answer to a request for this path, if it has one.
type Answers = fn(&str) -> Option<String>;

#[derive(Debug)]
struct Shared {
    upstream: u16,
    /// Where the page is, without the slash at its end.
    prefix: &'static str,
    answers: Answers,
    fault: Mutex<Fault>,
    requests: AtomicUsize,
    streams: AtomicUsize,
}

/// It listens until the test ends.
#[derive(Debug)]
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn to(house: &House) -> Self {
        Self::started("", house, |_| None)
    }

    /// Offers the page below this path.
    pub fn below(prefix: &'static str, house: &House) -> Self {
        Self::started(prefix, house, |_| None)
    }

    /// Answers some requests itself.
    pub fn answering(house: &House, answers: Answers) -> Self {
        Self::started("", house, answers)
    }

    fn started(prefix: &'static str, house: &House, answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            upstream: house.port,
            prefix,
            answers,
            fault: Mutex::new(Fault::None),
            requests: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
        });
        let proxy = Self { port: listener.local_addr().unwrap().port(), shared };
        let shared = Arc::clone(&proxy.shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                // A browser or the monitor may go at any time.
                std::thread::spawn(move || shared.forward(client).unwrap_or_default());
            }
        });
        proxy
    }

    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many streams of events are open.
    pub fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    /// One request a connection.
    fn forward(&self, client: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let mut client = client;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let Some(inner) = path.strip_prefix(self.prefix).filter(|it| it.starts_with('/')) else {
            return client.write_all(&answer("404 Not Found"));
        };
        if self.fault() == Fault::BadGateway {
            return client.write_all(&answer("502 Bad Gateway"));
        }
        if let Some(body) = (self.answers)(inner) {
            let length = format!("Content-Length: {}", body.len());
            let head =
                String::from_utf8_lossy(&answer("200 OK")).replace("Content-Length: 0", &length);
            return client.write_all(format!("{head}{body}").as_bytes());
        }
        let head = head.replacen(&path, inner, 1).replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let head = head.replace("Connection: keep-alive\r\n", "");
        let mut server = TcpStream::connect(("127.0.0.1", self.upstream))?;
        server.write_all(head.as_bytes())?;
        let is_stream = inner == "/api/v1/events";
        if !is_stream {
            return std::io::copy(&mut server, &mut client).map(|_| ());
        }
        // The browser ends a stream by closing its end.
        let ended = server.try_clone()?;
        std::thread::spawn(move || {
            let _ = reader.read(&mut [0]);
            let _ = ended.shutdown(Shutdown::Both);
        });
        self.streams.fetch_add(1, Ordering::Relaxed);
        let outcome = self.pass_events(&mut server, &mut client);
        self.streams.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    fn pass_events(&self, server: &mut TcpStream, client: &mut TcpStream) -> std::io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let length = server.read(&mut buffer)?;
            match self.fault() {
                _ if length == 0 => return client.shutdown(Shutdown::Both),
                Fault::None => client.write_all(&buffer[..length])?,
                Fault::BadGateway => return client.shutdown(Shutdown::Both),
                Fault::HoldsEvents => {}
            }
        }
    }
}

fn answer(status: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}
