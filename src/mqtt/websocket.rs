//! A websocket as the byte stream that MQTT is spoken over.
//!
//! Only binary messages carry MQTT (MQTT 5, 6.0.0-1). The library answers pings; its own reader
//! would pass their data on.

use async_tungstenite::bytes::ByteWriter;
use async_tungstenite::tungstenite::{Error, Message};
use async_tungstenite::{WebSocketReceiver, WebSocketSender, WebSocketStream};
use bytes::{Buf, Bytes};
use futures_util::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) struct WebSocket<S> {
    receiver: WebSocketReceiver<S>,
    writer: ByteWriter<WebSocketSender<S>>,
    /// The part of the last message that has not been read yet.
    rest: Bytes,
}

impl<S> WebSocket<S>
where
    WebSocketSender<S>: async_tungstenite::bytes::Sender,
{
    pub(super) fn new(socket: WebSocketStream<S>) -> Self {
        let (sender, receiver) = socket.split();
        Self { receiver, writer: ByteWriter::new(sender), rest: Bytes::new() }
    }
}

impl<S: Unpin> AsyncRead for WebSocket<S>
where
    WebSocketReceiver<S>: Stream<Item = Result<Message, Error>> + Unpin,
{
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.receiver).poll_next(context)) {
                Some(Ok(Message::Binary(data))) => this.rest = data,
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(
                    Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
                )) => {}
                Some(Err(Error::Io(error))) => return Poll::Ready(Err(error)),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest[..count]);
        this.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: Unpin> AsyncWrite for WebSocket<S>
where
    WebSocketSender<S>: async_tungstenite::bytes::Sender + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.writer), context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.writer), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.writer), context)
    }
}
