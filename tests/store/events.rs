//! Waits for what a thread reports.

use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

/// Waits for the next event for at most this long, and takes no processor from the thread meanwhile.
pub fn next_event<Event>(events: &mut Receiver<Event>, patience: Duration) -> Event {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let event = runtime.block_on(async { timeout(patience, events.recv()).await });
    event.expect("something is reported").expect("the thread is alive")
}
