//! A stream with its two buffers; every step can be cancelled without losing a byte.

use super::stream::Stream;
use super::transport::{OpenStream, TcpOptions};
use bytes::{Buf, BytesMut};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, timeout};

/// One read takes up to this many bytes, so that a flood costs one system call per several hundred
/// messages.
const READ_CHUNK: usize = 64 * 1024;

/// A new block of memory is taken only when less than this is free in the old one.
const SMALLEST_READ: usize = 4 * 1024;

/// The least time between two immediate acknowledgements: each makes the peer send what it has, so
/// that a flood would arrive message by message instead of hundreds at once.
const RECEIPT_INTERVAL: Duration = Duration::from_millis(1);

/// In a flood, the process wakes when this many bytes have arrived, or after [`HELD_BACK`].
const MANY_BYTES: u16 = 16 * 1024;

/// The longest time that bytes are held back in a flood. The runtime's timers may add a millisecond.
const HELD_BACK: Duration = Duration::from_millis(1);

pub(super) struct Link {
    stream: Stream,
    tcp: Option<TcpOptions>,
    /// Whether something was read since the last immediate acknowledgement.
    has_read: bool,
    /// The time of the last immediate acknowledgement.
    last_receipt: Instant,
    /// Whether the next read is to be acknowledged immediately.
    owed: bool,
    /// Bytes from the broker that are not yet decoded.
    pub input: BytesMut,
    /// Bytes for the broker that are not yet written.
    pub output: BytesMut,
    unflushed: bool,
    last_write: Instant,
    last_read: Instant,
    /// Whether the kernel holds back what is less than [`MANY_BYTES`].
    holds_back: bool,
    stalled_since: Option<Instant>,
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkStep {
    Read,
    Wrote,
    /// The peer has closed its side.
    Closed,
}

impl Link {
    pub(super) fn new(opened: OpenStream) -> Self {
        Self {
            stream: opened.stream,
            tcp: opened.tcp,
            has_read: false,
            last_receipt: Instant::now(),
            owed: false,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            last_write: Instant::now(),
            last_read: Instant::now(),
            holds_back: false,
            stalled_since: None,
        }
    }

    /// When bytes last left for the broker.
    pub(super) fn last_write(&self) -> Instant {
        self.last_write
    }

    /// When bytes last arrived from the broker.
    pub(super) fn last_read(&self) -> Instant {
        self.last_read
    }

    /// The time since which bytes wait and the stream accepts none.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since
    }

    /// Restarts the measurement of a stall: the delay so far is not the peer's fault.
    pub(super) fn forgive_stall(&mut self) {
        self.stalled_since = self.stalled_since.map(|_| Instant::now());
    }

    /// Whether everything written has been sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.unflushed
    }

    /// Makes the peer continue at once while it owes an answer, and once after that, because the
    /// messages for which the answer was awaited come behind it; see [`TcpOptions`]. Returns the time
    /// of the next call, if nothing happens before.
    pub(super) fn hurry(&mut self, owes: bool) -> Option<Instant> {
        let is_awaited = std::mem::replace(&mut self.owed, owes) || owes;
        let tcp = self.tcp.as_ref().filter(|_| is_awaited && self.has_read)?;
        let now = Instant::now();
        let due = self.last_receipt + RECEIPT_INTERVAL;
        if now < due {
            self.owed = true;
            return Some(due);
        }
        tcp.acknowledge_now();
        (self.has_read, self.last_receipt) = (false, now);
        None
    }

    /// Lets the kernel hold back what arrives in a flood, until there is much of it or for a moment after
    /// the last read, or no longer. Returns the time of the next call, if nothing is read before.
    pub(super) fn hold_back(&mut self, is_flood: bool) -> Option<Instant> {
        if !is_flood && !self.holds_back {
            return None;
        }
        let tcp = self.tcp.as_ref()?;
        let until = self.last_read + HELD_BACK;
        let holds_back = is_flood && Instant::now() < until;
        if std::mem::replace(&mut self.holds_back, holds_back) != holds_back {
            tcp.wake_at(if holds_back { MANY_BYTES } else { 1 });
        }
        holds_back.then_some(until)
    }

    /// Writes what can be written, reads once if requested, and waits until one of them was
    /// possible. Safe to cancel: progress lies in the buffers, never in the future.
    ///
    /// # Errors
    /// Returns the errors of the stream.
    pub(super) async fn step(&mut self, read: bool) -> io::Result<LinkStep> {
        poll_fn(|context| {
            let wrote = self.poll_write(context)?;
            if read && let Poll::Ready(step) = self.poll_read(context)? {
                return Poll::Ready(Ok(step));
            }
            if wrote { Poll::Ready(Ok(LinkStep::Wrote)) } else { Poll::Pending }
        })
        .await
    }

    /// Writes everything out.
    ///
    /// # Errors
    /// Returns the errors of the stream.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while !self.is_flushed() {
            self.step(false).await?;
        }
        Ok(())
    }

    /// Ends the stream gracefully, so that everything written arrives. Closing a socket with unread
    /// bytes would send a reset that can overtake them, so those are read until the peer closes.
    pub(super) async fn finish(mut self, at_most: Duration) {
        let last = async {
            self.flush().await?;
            poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await?;
            loop {
                self.input.clear();
                if self.step(true).await? == LinkStep::Closed {
                    return io::Result::Ok(());
                }
            }
        };
        // After an error or the timeout, nothing more can be done for it.
        let _ended = timeout(at_most, last).await;
    }

    /// Ends the stream at once. What the kernel has not sent is dropped with it.
    pub(super) fn sever(self) {
        if let Some(tcp) = &self.tcp {
            tcp.drop_unsent_at_close();
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut wrote = false;
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.output)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    self.output.advance(count);
                    self.unflushed = true;
                    wrote = true;
                }
                Poll::Pending => break,
            }
        }
        if wrote {
            self.last_write = Instant::now();
            self.stalled_since = None;
        }
        if !self.output.is_empty() {
            self.stalled_since.get_or_insert_with(Instant::now);
        }
        if self.unflushed && Pin::new(&mut self.stream).poll_flush(context)?.is_ready() {
            self.unflushed = false;
            wrote = true;
        }
        Ok(wrote)
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> io::Result<Poll<LinkStep>> {
        if self.input.capacity() - self.input.len() < SMALLEST_READ {
            self.input.reserve(READ_CHUNK);
        }
        // The future of `read_buf` keeps nothing between two polls, so a new one each time is the
        // same as one that is kept.
        let read = pin!(self.stream.read_buf(&mut self.input));
        match read.poll(context)? {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(0) => Ok(Poll::Ready(LinkStep::Closed)),
            Poll::Ready(_) => {
                self.has_read = true;
                self.last_read = Instant::now();
                Ok(Poll::Ready(LinkStep::Read))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::transport;
    use super::*;
    use std::io::Write as _;
    use tokio::net::TcpListener;

    /// A link, and the end of the peer.
    async fn linked() -> (Link, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (peer, _) = listener.accept().await.unwrap();
        let peer = peer.into_std().unwrap();
        peer.set_nonblocking(false).unwrap();
        peer.set_nodelay(true).unwrap();
        (Link::new(transport::over_tcp(stream).unwrap()), peer)
    }

    /// A link that holds back after it has read something.
    async fn holding_back() -> (Link, std::net::TcpStream) {
        let (mut link, mut peer) = linked().await;
        peer.write_all(b"first").unwrap();
        assert_eq!(link.step(true).await.unwrap(), LinkStep::Read);
        assert!(link.hold_back(true).is_some());
        (link, peer)
    }

    async fn reads_within(link: &mut Link, time: Duration) -> bool {
        timeout(time, link.step(true)).await.is_ok()
    }

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn outside_of_a_flood_each_byte_wakes_it() {
        let (mut link, mut peer) = linked().await;
        for _ in 0..3 {
            peer.write_all(b"x").unwrap();
            assert!(reads_within(&mut link, LONG).await);
            assert_eq!(link.hold_back(false), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_flood_a_few_bytes_wait_until_it_is_asked_again() {
        let (mut link, mut peer) = holding_back().await;
        peer.write_all(b"second").unwrap();
        assert!(!reads_within(&mut link, SHORT).await);
        assert_eq!(link.hold_back(true), None, "the time has passed");
        assert!(reads_within(&mut link, LONG).await);
        assert_eq!(&link.input[..], b"firstsecond");
        assert!(link.hold_back(true).is_some(), "and begins again with what was read");
    }

    #[tokio::test(start_paused = true)]
    async fn many_bytes_end_the_wait() {
        let (mut link, mut peer) = holding_back().await;
        peer.write_all(&vec![b'x'; usize::from(MANY_BYTES)]).unwrap();
        assert!(reads_within(&mut link, LONG).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_stream_ends_the_wait() {
        let (mut link, peer) = holding_back().await;
        drop(peer);
        assert_eq!(link.step(true).await.unwrap(), LinkStep::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_flood_ends_the_wait() {
        let (mut link, mut peer) = holding_back().await;
        peer.write_all(b"answer").unwrap();
        assert_eq!(link.hold_back(false), None);
        assert!(reads_within(&mut link, LONG).await);
    }
}
