//! TCP to the first of a name's addresses that answers (RFC 8305, "happy eyeballs").
//!
//! With one address after the other, a dead one would delay all that follow it for minutes.
//! Therefore the next address is tried a moment after the previous one, and the first connection
//! that is established wins. Only the connection is raced; the protocol above TCP is spoken once,
//! because a broker that receives two CONNECT packets with one clientid ends the connection of the
//! first.
//!
//! The caller limits the time that the whole connection takes, including TLS, websocket and MQTT.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// The head start of an address (RFC 8305, 5 and 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// The head start of the others before an address is tried that has failed above TCP: such an
/// address accepts connections quickly, and would win each race against a slow line.
const LONG_HEAD_START: Duration = Duration::from_secs(2);

/// The history of the addresses of one name.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// The address of the present connection.
    used: Option<SocketAddr>,
    /// Addresses that accepted a connection on which the broker never answered, the latest at the
    /// end.
    failed: Vec<SocketAddr>,
}

impl Addresses {
    /// Notes that the connection to the address that was used last, if any, led to nothing.
    pub(super) fn fail_used(&mut self) {
        if let Some(address) = self.used.take() {
            self.failed.retain(|failed| *failed != address);
            self.failed.push(address);
        }
    }

    /// The broker has accepted a connection at the address that was used last.
    pub(super) fn approve_used(&mut self) {
        if let Some(address) = self.used.take() {
            self.failed.retain(|failed| *failed != address);
        }
    }

    /// The addresses in the order in which they are tried, and the number of those that have not
    /// failed.
    fn sort(&mut self, found: Vec<SocketAddr>) -> (Vec<SocketAddr>, usize) {
        // A name's addresses change; addresses that no longer belong to it are forgotten.
        self.failed.retain(|failed| found.contains(failed));
        let (last, first): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|address| self.failed.contains(address));
        let mut sorted = alternate(first);
        let fresh = sorted.len();
        sorted.extend(self.failed.iter().filter(|failed| last.contains(failed)));
        (sorted, fresh)
    }

    /// Connects to one of the addresses of `host`.
    ///
    /// # Errors
    /// Returns an error when the name has no address, or none of them accepts a connection.
    pub(super) async fn dial(&mut self, host: &str, port: u16) -> io::Result<TcpStream> {
        self.used = None;
        let found = lookup_host((host, port)).await?.collect();
        let (sorted, fresh) = self.sort(found);
        let (stream, address) = race(&sorted, fresh).await?;
        self.used = Some(address);
        Ok(stream)
    }
}

/// Alternates the two families, beginning with the one that the resolver prefers (RFC 8305, 4), so
/// that an unreachable family costs a single head start.
fn alternate(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let count = found.len();
    let prefers_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == prefers_v6);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let mut sorted = Vec::with_capacity(count);
    while sorted.len() < count {
        sorted.extend(preferred.next());
        sorted.extend(other.next());
    }
    sorted
}

/// Returns the first established connection; the other attempts end with the race.
async fn race(addresses: &[SocketAddr], fresh: usize) -> io::Result<(TcpStream, SocketAddr)> {
    let mut attempts = JoinSet::new();
    let mut failures = Vec::new();
    let mut waiting = addresses.iter().copied().enumerate().peekable();
    let mut next_start = Instant::now();
    loop {
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok((address, Ok(stream))) => return Ok((stream, address)),
                Ok((address, Err(error))) => {
                    failures.push((address, error));
                    // The next one need not wait, unless it is only tried when all others fail.
                    let is_fresh = waiting.peek().is_some_and(|&(place, _)| place < fresh);
                    if is_fresh || attempts.is_empty() {
                        next_start = Instant::now();
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            },
            () = sleep_until(next_start), if waiting.peek().is_some() => {
                if let Some((_, address)) = waiting.next() {
                    attempts.spawn(async move { (address, TcpStream::connect(address).await) });
                }
                let leads_to_failed = waiting.peek().is_some_and(|&(place, _)| place == fresh);
                next_start =
                    Instant::now() + if leads_to_failed { LONG_HEAD_START } else { HEAD_START };
            }
            else => return Err(summary(failures)),
        }
    }
}

/// Combines the errors: that of the only address, or each with its own.
fn summary(mut failures: Vec<(SocketAddr, io::Error)>) -> io::Error {
    match failures.len() {
        0 => io::Error::new(io::ErrorKind::NotFound, "the host name has no address"),
        1 => failures.remove(0).1,
        _ => {
            let kind = failures[0].1.kind();
            let texts: Vec<String> = failures
                .iter()
                .map(|(address, error)| format!("{}: {error}", address.ip()))
                .collect();
            io::Error::new(kind, texts.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use tokio::net::{TcpListener, TcpSocket};

    /// An address whose queue of connections is full, so that the kernel answers no SYN to it.
    struct Dead {
        address: SocketAddr,
        _listener: TcpListener,
        _filler: Vec<TcpStream>,
    }

    impl Dead {
        async fn at(ip: [u8; 4], port: u16) -> Self {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((ip, port).into()).unwrap();
            let listener = socket.listen(1).unwrap();
            let address = listener.local_addr().unwrap();
            let mut filler = Vec::new();
            let moment = Duration::from_millis(300);
            while let Ok(stream) = tokio::time::timeout(moment, TcpStream::connect(address)).await {
                filler.push(stream.unwrap());
            }
            Self { address, _listener: listener, _filler: filler }
        }
    }

    async fn living(ip: [u8; 4]) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((IpAddr::from(ip), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn v4(last: u8) -> SocketAddr {
        (Ipv4Addr::new(192, 0, 2, last), 1883).into()
    }

    fn v6(last: u16) -> SocketAddr {
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last), 1883).into()
    }

    #[test]
    fn the_families_take_turns_and_the_resolver_s_favourite_begins() {
        assert_eq!(alternate(vec![v6(1), v6(2), v6(3), v4(1)]), [v6(1), v4(1), v6(2), v6(3)]);
        assert_eq!(alternate(vec![v4(1), v6(1), v6(2)]), [v4(1), v6(1), v6(2)]);
        assert_eq!(alternate(Vec::new()), []);
    }

    #[test]
    fn what_failed_above_tcp_goes_last_until_it_works() {
        let mut addresses = Addresses::default();
        let found = || vec![v4(1), v4(2), v4(3)];
        for (used, sorted, fresh) in [
            (v4(1), [v4(2), v4(3), v4(1)], 2),
            (v4(2), [v4(3), v4(1), v4(2)], 1),
            (v4(1), [v4(3), v4(2), v4(1)], 1),
        ] {
            addresses.used = Some(used);
            addresses.fail_used();
            assert_eq!(addresses.sort(found()), (sorted.to_vec(), fresh));
        }
        addresses.used = Some(v4(1));
        addresses.approve_used();
        assert_eq!(addresses.sort(found()), (vec![v4(1), v4(3), v4(2)], 2));
        assert_eq!(addresses.sort(vec![v4(4)]), (vec![v4(4)], 1));
        assert_eq!(addresses.failed, [], "what the name has lost is forgotten");
    }

    #[tokio::test]
    async fn a_dead_address_costs_a_moment() {
        let dead = Dead::at([127, 0, 0, 2], 0).await;
        let (_listener, alive) = living([127, 0, 0, 1]).await;
        let began = Instant::now();
        let (_, address) = race(&[dead.address, alive], 2).await.unwrap();
        assert_eq!(address, alive);
        // This is far less than the time after which TCP itself gives an address up.
        let took = began.elapsed();
        assert!(took >= HEAD_START && took < Duration::from_secs(5), "{took:?}");
    }

    #[tokio::test]
    async fn a_refusal_costs_nothing() {
        let (closed, refusing) = living([127, 0, 0, 1]).await;
        drop(closed);
        let (_listener, alive) = living([127, 0, 0, 1]).await;
        let began = Instant::now();
        let (_, address) = race(&[refusing, alive], 2).await.unwrap();
        assert_eq!(address, alive);
        assert!(began.elapsed() < HEAD_START, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn what_failed_before_wins_only_where_the_others_are_slow() {
        let dead = Dead::at([127, 0, 0, 2], 0).await;
        let (_listener, alive) = living([127, 0, 0, 1]).await;
        let began = Instant::now();
        let (_, address) = race(&[dead.address, alive], 1).await.unwrap();
        assert_eq!(address, alive);
        assert!(began.elapsed() >= LONG_HEAD_START, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn where_all_refuse_each_is_named() {
        let mut refusing = Vec::new();
        for last in [1, 2] {
            let (closed, address) = living([127, 0, 0, last]).await;
            drop(closed);
            refusing.push(address);
        }
        let error = race(&refusing, 2).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(text.contains("127.0.0.1: ") && text.contains("127.0.0.2: "), "{text}");
        let error = race(&refusing[..1], 1).await.unwrap_err().to_string();
        assert!(!error.contains("127.0.0.1"), "{error}");
    }
}
