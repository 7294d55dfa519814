//! A stream with its two buffers; every step can be cancelled without losing a byte.

use super::stream::Stream;
use super::transport::{OpenStream, Receipts};
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

pub(super) struct Link {
    stream: Stream,
    receipts: Option<Receipts>,
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
            receipts: opened.receipts,
            has_read: false,
            last_receipt: Instant::now(),
            owed: false,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            last_write: Instant::now(),
            stalled_since: None,
        }
    }

    /// When bytes last left for the broker.
    pub(super) fn last_write(&self) -> Instant {
        self.last_write
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
    /// messages for which the answer was awaited come behind it; see [`Receipts`]. Returns the time
    /// of the next call, if nothing happens before.
    pub(super) fn hurry(&mut self, owes: bool) -> Option<Instant> {
        let is_awaited = std::mem::replace(&mut self.owed, owes) || owes;
        let receipts = self.receipts.as_ref().filter(|_| is_awaited && self.has_read)?;
        let now = Instant::now();
        let due = self.last_receipt + RECEIPT_INTERVAL;
        if now < due {
            self.owed = true;
            return Some(due);
        }
        receipts.send_now();
        (self.has_read, self.last_receipt) = (false, now);
        None
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
        if let Some(receipts) = &self.receipts {
            receipts.drop_unsent_at_close();
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
                Ok(Poll::Ready(LinkStep::Read))
            }
        }
    }
}
