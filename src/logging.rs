//! Alerts become journal entries with fields, or lines on stderr where there is no journal.
//!
//! A journald that hangs blocks its writers for seconds, and one that is gone is waited for, so a
//! separate thread writes the entries from a bounded queue. When the queue is full, entries are
//! dropped and counted, and the count is logged once entries flow again. The subscriber that writes
//! to the journal is set for that thread alone, so messages that libraries log never reach it.
//!
//! The log level is not configurable, because every alert is meant for a person.

#[cfg(test)]
mod catalog;
mod presence;
mod stderr;

use crate::bounded::{QueueReceiver, QueueSender, queue};
use crate::terminal::is_coloured;
use iotmonitor_core::model::alert::{Alert, Priority, Reason};
use presence::{JOURNAL_SOCKET, SocketProbe};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;

/// The number of entries that wait for the journal: room for ten thousand devices that fall silent
/// with their broker. It bounds the memory to about 5 MB, which is used only in such a burst.
const QUEUE_LENGTH: usize = 16_384;

/// `SYSLOG_IDENTIFIER` of the monitor's entries.
pub const IDENTIFIER: &str = "iotmonitor";

/// The destination of the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTarget {
    Journal,
    Stderr,
}

impl LogTarget {
    /// The journal if stderr is connected to it, as it is in a service; else stderr.
    #[must_use]
    pub fn detect() -> Self {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let stderr = std::io::stderr().as_fd().try_clone_to_owned().map(File::from);
        match stderr.and_then(|stderr| stderr.metadata()) {
            Ok(status) if is_journal_stream(&stream, status.dev(), status.ino()) => {
                LogTarget::Journal
            }
            Ok(_) | Err(_) => LogTarget::Stderr,
        }
    }
}

/// Whether `JOURNAL_STREAM`, "device:inode" in decimal, names this file (systemd.exec(5)).
fn is_journal_stream(variable: &str, device: u64, inode: u64) -> bool {
    variable.split_once(':').is_some_and(|(stream_device, stream_inode)| {
        stream_device.parse() == Ok(device) && stream_inode.parse() == Ok(inode)
    })
}

/// Accepts alerts without ever blocking; cheap to clone.
#[derive(Debug, Clone)]
pub struct Logger {
    queue: QueueSender<Entry>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    Alert(Box<Alert>),
    /// Answered when all entries before it have been written.
    Flush(SyncSender<()>),
}

/// Starts the writing thread; entries carry the identifier of the program. Where the journal cannot be reached at all, stderr replaces it.
///
/// # Errors
/// Returns an error when the system allows no more threads.
pub fn start(target: LogTarget, identifier: &'static str) -> std::io::Result<Logger> {
    let (queue, entries) = queue(QUEUE_LENGTH);
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&dropped);
    let writer = move || match target {
        LogTarget::Journal => {
            match journal_layer(identifier).and_then(|layer| Ok((layer, SocketProbe::new()?))) {
                Ok((layer, probe)) => {
                    let subscriber = tracing_subscriber::registry().with(layer);
                    tracing::subscriber::with_default(subscriber, || {
                        write_all(&entries, &counter, |line| {
                            probe.await_holder(JOURNAL_SOCKET.as_ref());
                            write_to_journal(line);
                        });
                    });
                }
                Err(_no_journal) => write_all(&entries, &counter, stderr_writer()),
            }
        }
        LogTarget::Stderr => write_all(&entries, &counter, stderr_writer()),
    };
    std::thread::Builder::new().name("logging".to_owned()).spawn(writer)?;
    Ok(Logger { queue, dropped })
}

impl Logger {
    /// Queues an entry; a full queue drops and counts it.
    pub fn alert(&self, alert: &Alert) {
        match self.queue.try_send(Entry::Alert(Box::new(alert.clone()))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until earlier entries are written, at most `timeout`. Returns whether they are. It
    /// blocks, and is meant for the end of the process.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        let begun = std::time::Instant::now();
        let (done, written) = sync_channel(1);
        let mut entry = Entry::Flush(done);
        loop {
            match self.queue.try_send(entry) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(_)) if begun.elapsed() >= timeout => return false,
                Err(TrySendError::Full(back)) => {
                    // The queue cannot wait for room with a time limit.
                    std::thread::sleep(Duration::from_millis(5));
                    entry = back;
                }
            }
        }
        match written.recv_timeout(timeout.saturating_sub(begun.elapsed())) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
        }
    }
}

/// One thing to write.
enum Line<'a> {
    Alert(&'a Alert),
    /// The number of entries that were dropped.
    Dropped(u64),
}

/// The thread's loop; ends with the last [`Logger`].
fn write_all(
    entries: &QueueReceiver<Entry>,
    dropped: &AtomicU64,
    mut write: impl FnMut(&Line<'_>),
) {
    while let Ok(entry) = entries.recv() {
        match entry {
            Entry::Alert(alert) => write(&Line::Alert(&alert)),
            // This fails when the caller has stopped waiting.
            Entry::Flush(done) => drop(done.try_send(())),
        }
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            write(&Line::Dropped(missing));
        }
    }
}

fn dropped_sentence(count: u64) -> String {
    format!("{count} log entries were dropped because the journal did not take them in time")
}

/// No prefix is added, so that MESSAGE_ID does not become F_MESSAGE_ID. The subscriber's mapping of
/// levels to priorities is the intended one: INFO is a notice (5), DEBUG is an info (6).
fn journal_layer(identifier: &str) -> std::io::Result<tracing_journald::Layer> {
    Ok(tracing_journald::layer()?
        .with_field_prefix(None)
        .with_syslog_identifier(identifier.to_owned()))
}

/// Writes one entry through this thread's subscriber.
fn write_to_journal(line: &Line<'_>) {
    let alert = match line {
        Line::Alert(alert) => alert,
        Line::Dropped(count) => {
            tracing::warn!("{}", dropped_sentence(*count));
            return;
        }
    };
    // The level of an entry must be known at compile time, so there is one statement for each. A
    // field that is `None` is left out.
    macro_rules! entry {
        ($level:ident) => {
            tracing::event!(
                tracing::Level::$level,
                MESSAGE_ID = alert.kind.message_id(),
                IOTMONITOR_EVENT = alert.kind.event(),
                IOTMONITOR_REASON = alert.reason.map(Reason::as_str),
                IOTMONITOR_DEVICE = alert.device.as_ref().map(|device| device.as_str()),
                IOTMONITOR_EXIT =
                    alert.account.as_ref().and_then(|account| account.exit.as_deref()),
                IOTMONITOR_MEMORY_PEAK =
                    alert.account.as_ref().and_then(|account| account.memory_peak),
                OBJECT_SYSTEMD_UNIT = alert.unit.as_ref().map(|unit| unit.as_str()),
                "{}",
                alert.text()
            )
        };
    }
    match alert.kind.priority() {
        Priority::Error => entry!(ERROR),
        Priority::Warning => entry!(WARN),
        Priority::Notice => entry!(INFO),
        Priority::Info => entry!(DEBUG),
    }
}

fn stderr_writer() -> impl FnMut(&Line<'_>) {
    let style = stderr::Style {
        colour: is_coloured(&std::io::stderr()),
        // systemd sets it for every unit that it starts, and adds its own times there.
        time: std::env::var_os("INVOCATION_ID").is_none(),
    };
    move |line| {
        let text = match line {
            Line::Alert(alert) => {
                let rest = alert.account.iter().flat_map(|account| account.text());
                style.lines(alert.kind.priority(), &alert.message, rest)
            }
            Line::Dropped(count) => style.line(Priority::Warning, &dropped_sentence(*count)),
        };
        // When stderr is closed, the error cannot be reported anywhere.
        let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::alert::AlertKind;

    fn alert(message: &str) -> Alert {
        Alert::plain(AlertKind::Expired, message.to_owned())
    }

    fn logger() -> (Logger, QueueReceiver<Entry>) {
        let (queue, entries) = queue(QUEUE_LENGTH);
        (Logger { queue, dropped: Arc::default() }, entries)
    }

    /// The output of the writing thread, once every logger is gone.
    fn written(entries: &QueueReceiver<Entry>, dropped: &AtomicU64) -> Vec<String> {
        let mut lines = Vec::new();
        write_all(entries, dropped, |line| {
            lines.push(match line {
                Line::Alert(alert) => alert.message.clone(),
                Line::Dropped(count) => dropped_sentence(*count),
            });
        });
        lines
    }

    #[test]
    fn a_full_queue_counts_what_it_drops_and_says_so_once_it_flows() {
        let (logger, entries) = logger();
        for number in 0..QUEUE_LENGTH + 3 {
            logger.alert(&alert(&number.to_string()));
        }
        let dropped = Arc::clone(&logger.dropped);
        drop(logger);
        let lines = written(&entries, &dropped);
        assert_eq!(lines.len(), QUEUE_LENGTH + 1);
        assert_eq!(lines[0], "0");
        assert_eq!(lines[1], dropped_sentence(3));
        assert_eq!(lines[QUEUE_LENGTH], (QUEUE_LENGTH - 1).to_string());
    }

    #[test]
    fn a_flush_waits_for_all_before_it_and_not_for_ever() {
        let (logger, entries) = logger();
        logger.alert(&alert("one"));
        assert!(!logger.flush(Duration::from_millis(1)), "no thread writes");

        let dropped = Arc::clone(&logger.dropped);
        let thread = std::thread::spawn(move || written(&entries, &dropped));
        logger.alert(&alert("two"));
        assert!(logger.flush(Duration::from_secs(10)));
        drop(logger);
        assert_eq!(thread.join().unwrap(), ["one", "two"]);
    }

    #[test]
    fn the_journal_is_used_only_if_stderr_is_connected_to_it() {
        assert!(is_journal_stream("8:1234", 8, 1234));
        assert!(!is_journal_stream("8:1234", 8, 1235));
        assert!(!is_journal_stream("9:1234", 8, 1234));
        assert!(!is_journal_stream("", 0, 0));
    }
}
