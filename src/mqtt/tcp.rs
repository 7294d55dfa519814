//! A connection over TCP, of which the kernel may collect what arrives.

use nix::sys::socket::setsockopt;
use nix::{libc, setsockopt_impl, sockopt_impl};
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::linux::net::TcpStreamExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// While the kernel collects what arrives, the process wakes when this many bytes have arrived.
pub(super) const MANY_BYTES: i32 = 64 * 1024;

/// A connection below TLS and websockets.
pub(super) struct TcpConnection {
    stream: TcpStream,
    looks: Arc<AtomicBool>,
}

/// How the kernel treats a connection.
pub(super) struct TcpOptions {
    /// The same socket.
    socket: std::net::TcpStream,
    /// The next reads take what the kernel has collected, until there is no more.
    looks: Arc<AtomicBool>,
}

impl TcpConnection {
    /// Takes a connection, and returns its options beside it.
    ///
    /// # Errors
    /// Returns the errors of the socket.
    pub(super) fn new(stream: TcpStream) -> io::Result<(Self, TcpOptions)> {
        // Packets are gathered before they are written, so a further delay would only delay alerts.
        stream.set_nodelay(true)?;
        let socket = stream.as_fd().try_clone_to_owned()?.into();
        let looks = Arc::new(AtomicBool::new(false));
        let options = TcpOptions { socket, looks: Arc::clone(&looks) };
        options.acknowledge_at_once();
        Ok((Self { stream, looks }, options))
    }
}

impl TcpOptions {
    /// Has the kernel acknowledge small packets as soon as they are read (`TCP_QUICKACK` in tcp(7)).
    /// It stops to do so when the socket sends, since an answer often carries the acknowledgement; here
    /// none follows, and the kernel would hold it back for up to 40 ms.
    ///
    /// A broker that writes its small packets one by one, and does not set `TCP_NODELAY` (mosquitto
    /// sets it only where configured to), sends none while the one before it is unacknowledged.
    pub(super) fn acknowledge_at_once(&self) {
        // An error here affects only the speed, and a broken socket is noticed when it is read.
        let _set = self.socket.set_quickack(true);
    }

    #[cfg(test)]
    pub(super) fn acknowledges_at_once(&self) -> bool {
        self.socket.quickack().unwrap()
    }

    /// Has the kernel reset the connection when it is closed (`SO_LINGER` in socket(7)).
    pub(super) fn drop_unsent_at_close(&self) {
        // A socket that takes no options is broken, and sends nothing either.
        let _set = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Has the kernel give the connection up after this long without TCP's acknowledgement.
    pub(super) fn give_up_after(&self, after: Duration) {
        // A socket that takes no options is broken, which its first use shows.
        let _set = SockRef::from(&self.socket).set_tcp_user_timeout(Some(after));
    }

    /// Has the kernel collect what arrives: the process wakes when there are [`MANY_BYTES`], or the end
    /// of the stream (`SO_RCVLOWAT` in socket(7)). Without `collects`, each byte wakes the process, at
    /// once where there are some already.
    pub(super) fn collect(&self, collects: bool) {
        let bytes = if collects { MANY_BYTES } else { 1 };
        // As above.
        let _set = setsockopt(&self.socket, ReceiveLowWater, &bytes);
    }

    /// Has the next reads take what the kernel has collected, until there is no more.
    pub(super) fn look(&self) {
        self.looks.store(true, Ordering::Relaxed);
    }
}

sockopt_impl!(ReceiveLowWater, SetOnly, libc::SOL_SOCKET, libc::SO_RCVLOWAT, i32);

impl AsyncRead for TcpConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() || !self.looks.load(Ordering::Relaxed) {
            return read;
        }
        // What the kernel collects makes the socket not ready.
        let socket = SockRef::from(&self.stream);
        #[expect(unsafe_code, reason = "the memory need not be cleared before the kernel fills it")]
        // SAFETY: recv(2) only writes to the memory, and nothing else does.
        let received = socket.recv(unsafe { buffer.unfilled_mut() });
        match received {
            Ok(count) => {
                #[expect(
                    unsafe_code,
                    reason = "the compiler cannot know what the kernel has filled"
                )]
                // SAFETY: recv(2) has filled so many bytes.
                unsafe {
                    buffer.assume_init(count);
                }
                buffer.advance(count);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.looks.store(false, Ordering::Relaxed);
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for TcpConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
