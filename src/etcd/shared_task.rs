//! Work that several callers need and one task does.

use std::io;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// A task that goes on when those who wait for it have given up, such as a TLS handshake that takes
/// longer than a request may. While it runs, no second one is started.
#[derive(Debug)]
pub struct SharedTask<T>(Arc<Mutex<Option<JoinHandle<T>>>>);

impl<T: Send + 'static> SharedTask<T> {
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Waits for the task, which is started if it does not run. The first that waits gets the
    /// result; `None` goes to the others, who look again for what they need.
    pub async fn join(&self, start: impl FnOnce() -> JoinHandle<T>) -> io::Result<Option<T>> {
        let Ok(mut running) = self.0.try_lock() else {
            drop(self.0.lock().await);
            return Ok(None);
        };
        let result = running.get_or_insert_with(start).await;
        *running = None;
        result.map(Some).map_err(io::Error::other)
    }
}
