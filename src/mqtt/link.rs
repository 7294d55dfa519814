//! A stream with its two buffers; every step can be cancelled without losing a byte.

use super::stream::Stream;
use super::tcp::TcpOptions;
use super::ticker::Ticker;
use super::transport::OpenStream;
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

/// The longest time that bytes wait in a dense stream.
const COLLECTED: Duration = Duration::from_millis(8);

pub(super) struct Link {
    stream: Stream,
    tcp: Option<TcpOptions>,
    /// Bytes from the broker that are not yet decoded.
    pub input: BytesMut,
    /// Bytes for the broker that are not yet written.
    pub output: BytesMut,
    unflushed: bool,
    last_write: Instant,
    last_read: Instant,
    /// When it was last looked for bytes, and those that there were have been read.
    last_look: Instant,
    /// What the last step has read.
    gathered: Gathered,
    /// The end of the stream, found behind bytes that are taken first. A stream need not repeat it.
    ended: Option<io::Result<()>>,
    /// Reads, while the kernel collects what arrives.
    ticker: Option<Ticker>,
    stalled_since: Option<Instant>,
}

/// What one step has read.
#[derive(Debug, Default)]
struct Gathered {
    bytes: usize,
    /// The time in which they arrived, in microseconds. Zero where each packet wakes the process.
    micros: u32,
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkStep {
    Read,
    Wrote,
    /// Nothing had arrived in a dense stream.
    Ticked,
    /// The peer has closed its side.
    Closed,
}

impl Link {
    pub(super) fn new(opened: OpenStream) -> Self {
        Self {
            stream: opened.stream,
            tcp: opened.tcp,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            last_write: Instant::now(),
            last_read: Instant::now(),
            last_look: Instant::now(),
            gathered: Gathered::default(),
            ended: None,
            ticker: None,
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

    /// How long what has just been decoded had waited when it was read, in microseconds: in a dense
    /// stream, bytes wait in the kernel, and are taken to have arrived at an even rate.
    pub(super) fn waited_micros(&self) -> u32 {
        let Gathered { bytes, micros } = self.gathered;
        if micros == 0 {
            return 0;
        }
        let behind = self.input.len().min(bytes) as u64;
        u32::try_from(u64::from(micros) * behind / bytes as u64).unwrap_or(0)
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

    /// Lets the kernel collect what arrives, or no longer: in place of each packet, much of them wakes the
    /// process, or a timer.
    pub(super) fn collect(&mut self, collects: bool) {
        if collects == self.ticker.is_some() {
            return;
        }
        let Some(tcp) = &self.tcp else { return };
        // Without a timer, each packet wakes the process as before.
        let ticker = if collects { Ticker::every(COLLECTED).ok() } else { None };
        if ticker.is_some() != self.ticker.is_some() {
            tcp.collect(ticker.is_some());
        }
        self.ticker = ticker;
    }

    /// Writes what can be written, reads once if requested, and waits until one of them was
    /// possible. Safe to cancel: progress lies in the buffers, never in the future.
    ///
    /// # Errors
    /// Returns the errors of the stream.
    pub(super) async fn step(&mut self, read: bool) -> io::Result<LinkStep> {
        poll_fn(|context| {
            let wrote = self.poll_write(context)?;
            // What is not read need not wake the process either.
            let ticker = self.ticker.as_ref().filter(|_| read);
            let has_ticked = ticker.is_some_and(|ticker| ticker.poll_tick(context));
            if has_ticked && let Some(tcp) = &self.tcp {
                tcp.look();
            }
            if read && let Poll::Ready(step) = self.poll_read(context)? {
                return Poll::Ready(Ok(step));
            }
            if has_ticked {
                self.last_look = Instant::now();
            }
            match (wrote, has_ticked) {
                (true, _) => Poll::Ready(Ok(LinkStep::Wrote)),
                (false, true) => Poll::Ready(Ok(LinkStep::Ticked)),
                (false, false) => Poll::Pending,
            }
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
            if let Some(tcp) = &self.tcp {
                tcp.acknowledge_at_once();
            }
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
        let mut bytes = 0;
        while self.ended.is_none() {
            if self.input.capacity() - self.input.len() < SMALLEST_READ {
                self.input.reserve(READ_CHUNK);
            }
            // The future of `read_buf` keeps nothing between two polls, so a new one each time is the
            // same as one that is kept.
            let read = pin!(self.stream.read_buf(&mut self.input));
            match read.poll(context) {
                Poll::Pending => break,
                Poll::Ready(Ok(count @ 1..)) => bytes += count,
                Poll::Ready(end) => self.ended = Some(end.map(drop)),
            }
            // TCP acknowledges the first packet of a dense stream when it is read. A broker that gathers
            // small packets (Nagle's algorithm) sends those behind it only then.
            if self.ticker.is_none() || bytes >= READ_CHUNK {
                break;
            }
        }
        if bytes > 0 {
            self.note_read(bytes);
            return Ok(Poll::Ready(LinkStep::Read));
        }
        match self.ended.take() {
            Some(end) => end.map(|()| Poll::Ready(LinkStep::Closed)),
            None => Ok(Poll::Pending),
        }
    }

    fn note_read(&mut self, bytes: usize) {
        self.last_read = Instant::now();
        let looked = std::mem::replace(&mut self.last_look, self.last_read);
        let within = self.last_read - looked;
        // After a longer time, the process was held up.
        let is_gathered = self.ticker.is_some() && within <= COLLECTED * 2;
        let within = if is_gathered { within } else { Duration::ZERO };
        let micros = u32::try_from(within.as_micros()).unwrap_or(0);
        self.gathered = Gathered { bytes, micros };
    }
}

#[cfg(test)]
mod tests {
    use super::super::tcp::MANY_BYTES;
    use super::super::transport;
    use super::*;
    use std::io::Write as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};
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

    /// A link whose bytes the kernel collects without a timer, after it has read something.
    async fn collecting() -> (Link, std::net::TcpStream) {
        let (mut link, mut peer) = linked().await;
        peer.write_all(b"first").unwrap();
        assert!(reads_within(&mut link, LONG).await);
        options(&link).collect(true);
        // The socket is not ready any more.
        assert!(pin!(link.step(true)).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        (link, peer)
    }

    fn options(link: &Link) -> &TcpOptions {
        link.tcp.as_ref().unwrap()
    }

    async fn reads_within(link: &mut Link, time: Duration) -> bool {
        timeout(time, link.step(true)).await.is_ok()
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Whether these bytes wake a step that waits for them.
    async fn wake(link: &mut Link, peer: &mut std::net::TcpStream, bytes: &[u8]) -> bool {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Arc::clone(&woken).into();
        assert!(pin!(link.step(true)).poll(&mut Context::from_waker(&waker)).is_pending());
        peer.write_all(bytes).unwrap();
        let began = Instant::now();
        while !woken.0.load(Ordering::Relaxed) && began.elapsed() < SHORT {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        woken.0.load(Ordering::Relaxed)
    }

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn in_a_usual_stream_each_byte_wakes_it() {
        let (mut link, mut peer) = linked().await;
        for _ in 0..3 {
            peer.write_all(b"x").unwrap();
            assert!(reads_within(&mut link, LONG).await);
            link.collect(false);
        }
    }

    #[tokio::test]
    async fn few_bytes_are_collected_and_the_next_look_takes_them() {
        let (mut link, mut peer) = collecting().await;
        assert!(!wake(&mut link, &mut peer, b"x").await);
        options(&link).look();
        assert!(reads_within(&mut link, LONG).await);
        assert_eq!(&link.input[..], b"firstx");
    }

    #[tokio::test]
    async fn many_bytes_wake_it() {
        let (mut link, mut peer) = collecting().await;
        assert!(
            wake(&mut link, &mut peer, &vec![b'x'; usize::try_from(MANY_BYTES).unwrap()]).await
        );
    }

    #[tokio::test]
    async fn without_collecting_each_byte_wakes_it_also_those_that_were_collected() {
        let (mut link, mut peer) = collecting().await;
        assert!(!wake(&mut link, &mut peer, b"x").await);
        options(&link).collect(false);
        assert!(reads_within(&mut link, LONG).await);
        assert!(wake(&mut link, &mut peer, b"x").await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_stream_wakes_it() {
        let (mut link, peer) = collecting().await;
        drop(peer);
        assert_eq!(link.step(true).await.unwrap(), LinkStep::Closed);
    }

    #[tokio::test]
    async fn in_a_dense_stream_a_timer_reads() {
        let (mut link, mut peer) = linked().await;
        link.collect(true);
        for count in 1..=3 {
            assert_eq!(timeout(LONG, link.step(true)).await.unwrap().unwrap(), LinkStep::Ticked);
            peer.write_all(b"x").unwrap();
            while link.input.len() < count {
                timeout(LONG, link.step(true)).await.unwrap().unwrap();
            }
        }
        assert!(timeout(SHORT, link.step(false)).await.is_err(), "nothing is to be read");
        link.collect(false);
        assert!(timeout(SHORT, link.step(true)).await.is_err(), "nothing ticks any more");
    }

    #[tokio::test]
    async fn what_was_collected_arrived_at_an_even_rate() {
        let (mut link, mut peer) = linked().await;
        link.collect(true);
        while link.step(true).await.unwrap() != LinkStep::Ticked {}
        peer.write_all(b"0123456789").unwrap();
        while link.input.is_empty() {
            timeout(LONG, link.step(true)).await.unwrap().unwrap();
        }
        assert_eq!(link.input.len(), 10);
        let all = link.waited_micros();
        // A process that is held up between two looks knows nothing of the time in between.
        assert!(Duration::from_micros(all.into()) <= 2 * COLLECTED, "{all}");
        link.input.advance(5);
        assert_eq!(link.waited_micros(), all / 2);
        link.input.advance(5);
        assert_eq!(link.waited_micros(), 0);
    }

    #[tokio::test]
    async fn the_first_of_a_read_has_waited_longest() {
        let (mut link, _peer) = linked().await;
        link.gathered = Gathered { bytes: 10, micros: 8_000 };
        for (behind, waited) in [(12, 8_000), (10, 8_000), (5, 4_000), (0, 0)] {
            link.input.resize(behind, b'x');
            assert_eq!(link.waited_micros(), waited, "{behind} bytes behind");
        }
    }

    #[tokio::test]
    async fn the_end_behind_bytes_is_found_after_them() {
        let (mut link, mut peer) = linked().await;
        link.collect(true);
        peer.write_all(b"last").unwrap();
        drop(peer);
        let mut steps = Vec::new();
        while !steps.contains(&LinkStep::Closed) {
            steps.push(timeout(LONG, link.step(true)).await.unwrap().unwrap());
        }
        assert!(steps.contains(&LinkStep::Read) && &link.input[..] == b"last", "{steps:?}");
    }

    #[tokio::test]
    async fn in_a_usual_stream_nothing_has_waited() {
        let (mut link, mut peer) = linked().await;
        for _ in 0..3 {
            peer.write_all(b"0123456789").unwrap();
            assert!(reads_within(&mut link, LONG).await);
            assert_eq!(link.waited_micros(), 0);
        }
    }

    #[tokio::test]
    async fn small_packets_are_acknowledged_at_once_also_after_a_write() {
        let (mut link, mut peer) = linked().await;
        assert!(options(&link).acknowledges_at_once());
        for _ in 0..3 {
            peer.write_all(b"x").unwrap();
            assert!(reads_within(&mut link, LONG).await);
            link.output.extend_from_slice(b"answer");
            link.flush().await.unwrap();
            assert!(options(&link).acknowledges_at_once());
        }
    }
}
