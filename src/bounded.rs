//! A bounded queue to one thread, whose memory is that of what waits in it.
//!
//! [`std::sync::mpsc::sync_channel`] writes to the places of all values that may ever wait when it is created.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvError, RecvTimeoutError, TryRecvError, TrySendError};
use std::time::Duration;

/// The sending end of a queue; cheap to clone.
#[derive(Debug)]
pub struct QueueSender<T> {
    sender: mpsc::Sender<T>,
    waiting: Arc<AtomicUsize>,
    most: usize,
}

/// The receiving end of a queue.
#[derive(Debug)]
pub struct QueueReceiver<T> {
    receiver: mpsc::Receiver<T>,
    waiting: Arc<AtomicUsize>,
}

/// Returns the two ends of a queue in which at most so many values wait.
pub fn queue<T>(most: usize) -> (QueueSender<T>, QueueReceiver<T>) {
    let (sender, receiver) = mpsc::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let receiving = QueueReceiver { receiver, waiting: Arc::clone(&waiting) };
    (QueueSender { sender, waiting, most }, receiving)
}

impl<T> QueueSender<T> {
    /// Adds a value without waiting.
    ///
    /// # Errors
    /// Returns the value when the queue is full, and when its other end is gone.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        // The number alone has to be right: the channel orders the values.
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(TrySendError::Full(value));
        }
        self.sender.send(value).map_err(|returned| TrySendError::Disconnected(returned.0))
    }
}

impl<T> Clone for QueueSender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), waiting: Arc::clone(&self.waiting), most: self.most }
    }
}

impl<T> QueueReceiver<T> {
    /// Waits for a value.
    ///
    /// # Errors
    /// Returns an error when nothing waits and every sender is gone.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.receiver.recv().inspect(|_| self.taken())
    }

    /// Waits for a value, at most this long.
    ///
    /// # Errors
    /// Returns an error when nothing came, and when every sender is gone.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout).inspect(|_| self.taken())
    }

    /// Takes a value that waits.
    ///
    /// # Errors
    /// Returns an error when nothing waits.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv().inspect(|_| self.taken())
    }

    fn taken(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_returns_the_value_until_one_is_taken() {
        let (sender, receiver) = queue(2);
        sender.try_send(1).unwrap();
        sender.clone().try_send(2).unwrap();
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        assert_eq!(receiver.try_recv(), Ok(1));
        sender.try_send(4).unwrap();
        assert_eq!(sender.try_send(5), Err(TrySendError::Full(5)));
        assert_eq!(receiver.recv(), Ok(2));
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(4));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        drop(receiver);
        assert_eq!(sender.try_send(6), Err(TrySendError::Disconnected(6)));
    }

    #[test]
    fn what_waits_is_received_after_every_sender_is_gone() {
        let (sender, receiver) = queue(2);
        sender.try_send(1).unwrap();
        drop(sender);
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Err(RecvError));
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn several_threads_get_no_more_into_it_than_may_wait() {
        let (sender, receiver) = queue(1_000);
        let sent: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let sender = sender.clone();
                    scope.spawn(move || (0..500).filter(|_| sender.try_send(()).is_ok()).count())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(sent, 1_000);
        assert_eq!(std::iter::from_fn(|| receiver.try_recv().ok()).count(), 1_000);
    }
}
