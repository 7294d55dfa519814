//! The thread that records. It owns the writer, and acknowledges to the broker what is durable.
//!
//! Brokers send few messages before the first of them is acknowledged, and each commit costs a sync
//! of the disk. Therefore a commit waits for a second, so that a quiet house does not wear a memory
//! card out, but not while that could hold the broker back.

use crate::{AppendError, Damage, Error, Limits, Received, Store, Writer};
use iotmonitor::mqtt::MqttHandle;
use iotmonitor::pulse::{BEAT_INTERVAL, Pulse};
use iotmonitor_core::model::message::{Delivery, Message, QoS};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// The longest time between the arrival of a message and its commit.
const WINDOW: Duration = Duration::from_secs(1);

/// Brokers send ten messages at least before they wait for an acknowledgement (RabbitMQ; mosquitto 20,
/// EMQX 32). A commit begins before the last of these, so that the others arrive during it.
const SOON: usize = 8;

/// Half of the deliveries after which the connection stops reading.
const MANY: u32 = 2_048;

/// The delay before a failed commit or flush is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Messages in the order of their receipt.
#[derive(Debug)]
pub struct Batch {
    /// Each with its time in microseconds since 1970.
    pub messages: Vec<(i64, Message)>,
    /// The last delivery, also of a message that is not recorded.
    pub through: Delivery,
}

/// What the service asks of the thread.
#[derive(Debug)]
pub enum Order {
    Record(Batch),
    Limits(Limits),
}

/// What the service is to know of it.
#[derive(Debug)]
pub enum Report {
    Opened,
    /// Nothing can be written, or no Parquet file be made. Once for each change.
    Failed(Error),
    Recovered,
    PutAside(Damage),
    /// The thread has ended, because trying again would change nothing.
    Ended(Error),
}

/// What has become durable since the start.
#[derive(Debug, Default)]
pub struct Figures {
    pub messages: AtomicU64,
    /// Of topics and payloads.
    pub bytes: AtomicU64,
}

/// The ends of the channels, and what else the thread needs.
pub struct RecordingContext {
    pub store: Store,
    pub limits: Limits,
    pub orders: mpsc::Receiver<Order>,
    pub reports: mpsc::Sender<Report>,
    pub connection: MqttHandle,
    pub figures: Arc<Figures>,
    pub pulse: Pulse,
}

/// Starts the thread. It ends when the sender of orders is gone and all is written, and then drops
/// the sender whose receiver is returned.
///
/// # Errors
/// Returns an error when the system allows no more threads.
pub fn start(context: RecordingContext) -> std::io::Result<oneshot::Receiver<()>> {
    let (done, ended) = oneshot::channel();
    // It waits for orders and deadlines alone.
    let runtime = Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("recording".to_owned()).spawn(move || {
        let reports = context.reports.clone();
        if let Err(error) = run(context, &runtime) {
            // The receiver is gone when the service has ended as well.
            let _ = reports.blocking_send(Report::Ended(error));
        }
        drop(done);
    })?;
    Ok(ended)
}

fn run(context: RecordingContext, runtime: &Runtime) -> Result<(), Error> {
    let Some(writer) = open(&context)? else { return Ok(()) };
    let mut recording = Recording {
        writer,
        waiting: Waiting::default(),
        rest: None,
        commit_retry: None,
        flush_retry: None,
        context,
    };
    loop {
        recording.work()?;
        match recording.next_order(runtime) {
            Next::Order(Order::Record(batch)) => recording.rest = Some(batch.into()),
            Next::Order(Order::Limits(limits)) => recording.writer.limit(limits),
            Next::Deadline => {}
            Next::End => return recording.finish(),
        }
    }
}

/// Opens the store, as soon as that is possible. `None` when the service ends before.
fn open(context: &RecordingContext) -> Result<Option<Writer>, Error> {
    let mut has_failed = false;
    loop {
        context.pulse.beat();
        match Writer::open(&context.store, context.limits.clone()) {
            Ok(writer) => {
                context.report(if has_failed { Report::Recovered } else { Report::Opened });
                return Ok(Some(writer));
            }
            Err(error @ Error::InUse { .. }) => return Err(error),
            Err(error) if !has_failed => {
                has_failed = true;
                context.report(Report::Failed(error));
            }
            Err(_) => {}
        }
        let until = Instant::now() + RETRY;
        while Instant::now() < until {
            context.pulse.beat();
            std::thread::sleep(BEAT_INTERVAL);
            // The orders are left where they are, which holds the broker back.
            if context.orders.is_closed() {
                return Ok(None);
            }
        }
    }
}

impl RecordingContext {
    /// The channel has room for more reports than there can be changes in a moment; when it is full,
    /// the thread waits for the service to take one.
    fn report(&self, report: Report) {
        let _ = self.reports.blocking_send(report);
    }
}

struct Recording {
    context: RecordingContext,
    writer: Writer,
    waiting: Waiting,
    /// What there was no room for.
    rest: Option<Rest>,
    /// When a commit that has failed is tried again; `None` if the last one has not.
    commit_retry: Option<Instant>,
    flush_retry: Option<Instant>,
}

/// The messages that wait for a commit.
#[derive(Debug, Default)]
struct Waiting {
    since: Option<Instant>,
    /// Those for whose acknowledgement the broker waits.
    at_least_once: usize,
    bytes: u64,
    through: Option<Delivery>,
}

/// The part of a batch that the writer has not taken yet.
#[derive(Debug)]
struct Rest {
    messages: std::vec::IntoIter<(i64, Message)>,
    through: Delivery,
}

impl From<Batch> for Rest {
    fn from(Batch { messages, through }: Batch) -> Self {
        Self { messages: messages.into_iter(), through }
    }
}

enum Next {
    Order(Order),
    Deadline,
    End,
}

impl Recording {
    /// Does what is due, and takes what has arrived as far as there is room.
    fn work(&mut self) -> Result<(), Error> {
        self.context.pulse.beat();
        while let Some(rest) = self.rest.take() {
            self.take(rest);
            if self.is_commit_due() {
                self.commit()?;
            }
            // Without a commit there is no more room.
            if self.commit_retry.is_some() {
                break;
            }
        }
        if self.is_commit_due() {
            self.commit()?;
        }
        let now = Instant::now();
        if self.flush_retry.is_none_or(|retry| retry <= now) && self.writer.flush_due(now) {
            self.flush()?;
        }
        Ok(())
    }

    /// Appends messages until there is no room for one, which the rest then begins with.
    fn take(&mut self, mut rest: Rest) {
        while let Some((time, message)) = rest.messages.as_slice().first() {
            let received = Received {
                time: *time,
                topic: message.topic.as_str(),
                payload: &message.payload,
                qos: message.qos as u8,
                retain: message.retain,
            };
            match self.writer.append(received) {
                Ok(_) => {
                    self.waiting.since.get_or_insert_with(Instant::now);
                    self.waiting.at_least_once += usize::from(message.qos == QoS::AtLeastOnce);
                    self.waiting.bytes += (received.topic.len() + received.payload.len()) as u64;
                }
                Err(AppendError::Full) => {
                    self.rest = Some(rest);
                    return;
                }
                // No MQTT packet can carry it.
                Err(AppendError::TopicTooLong { .. } | AppendError::PayloadTooLong { .. }) => {}
            }
            rest.messages.next();
        }
        self.waiting.through = Some(rest.through);
        // The broker does not wait for the acknowledgement of a message at QoS 0, but the connection
        // counts them all.
        if self.waiting.at_least_once == 0 {
            self.acknowledge();
        }
    }

    fn is_commit_due(&self) -> bool {
        let now = Instant::now();
        match (self.commit_retry, self.waiting.since) {
            (Some(retry), _) => retry <= now,
            (None, None) => false,
            (None, Some(since)) => {
                self.rest.is_some()
                    || self.writer.waiting() >= MANY && self.waiting.at_least_once > 0
                    || self.waiting.at_least_once >= SOON && self.context.orders.is_empty()
                    || now.saturating_duration_since(since) >= WINDOW
            }
        }
    }

    fn commit(&mut self) -> Result<(), Error> {
        let rows = u64::from(self.writer.waiting());
        match self.writer.commit(Instant::now()) {
            Ok(_) => {
                self.context.figures.messages.fetch_add(rows, Ordering::Relaxed);
                self.context.figures.bytes.fetch_add(self.waiting.bytes, Ordering::Relaxed);
                self.acknowledge();
                self.waiting = Waiting::default();
                if self.commit_retry.take().is_some() && self.flush_retry.is_none() {
                    self.context.report(Report::Recovered);
                }
                Ok(())
            }
            Err(error) => {
                let was_failing = self.is_failing();
                self.commit_retry = Some(Instant::now() + RETRY);
                self.fail(was_failing, error)
            }
        }
    }

    fn acknowledge(&mut self) {
        if let Some(through) = self.waiting.through.take() {
            self.context.connection.acknowledge(through);
        }
    }

    /// Makes Parquet files of all segments.
    fn flush(&mut self) -> Result<(), Error> {
        self.writer.seal();
        let flushed = loop {
            self.context.pulse.beat();
            match self.writer.flush_oldest() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        for damage in self.writer.take_damages() {
            self.context.report(Report::PutAside(damage));
        }
        match flushed {
            Ok(()) => {
                if self.flush_retry.take().is_some() && self.commit_retry.is_none() {
                    self.context.report(Report::Recovered);
                }
                Ok(())
            }
            Err(error) => {
                let was_failing = self.is_failing();
                self.flush_retry = Some(Instant::now() + RETRY);
                self.fail(was_failing, error)
            }
        }
    }

    fn is_failing(&self) -> bool {
        self.commit_retry.is_some() || self.flush_retry.is_some()
    }

    /// A directory that was removed is made anew at the next start alone.
    fn fail(&self, was_failing: bool, error: Error) -> Result<(), Error> {
        if error.is_missing() {
            return Err(error);
        }
        if !was_failing {
            self.context.report(Report::Failed(error));
        }
        Ok(())
    }

    /// Waits for the next order, but not while there is no room for it, and not beyond what is due.
    fn next_order(&mut self, runtime: &Runtime) -> Next {
        let now = Instant::now();
        let commit = self.commit_retry.or(self.waiting.since.map(|since| since + WINDOW));
        let flush = self.flush_retry.or_else(|| self.writer.flush_deadline(now));
        let deadline = commit.into_iter().chain(flush).fold(now + BEAT_INTERVAL, Instant::min);
        let wait = deadline.saturating_duration_since(now);
        if self.rest.is_some() {
            std::thread::sleep(wait.min(BEAT_INTERVAL));
            return if self.context.orders.is_closed() { Next::End } else { Next::Deadline };
        }
        // Most of the time in a flood there is one already.
        match self.context.orders.try_recv() {
            Ok(order) => return Next::Order(order),
            Err(mpsc::error::TryRecvError::Disconnected) => return Next::End,
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        match runtime.block_on(async { timeout(wait, self.context.orders.recv()).await }) {
            Ok(Some(order)) => Next::Order(order),
            Ok(None) => Next::End,
            Err(_) => Next::Deadline,
        }
    }

    /// Writes what has been taken, once.
    fn finish(mut self) -> Result<(), Error> {
        self.commit_retry = None;
        while let Some(rest) = self.rest.take() {
            self.take(rest);
            self.commit()?;
            if self.commit_retry.is_some() {
                return Ok(());
            }
        }
        self.commit()?;
        self.flush()
    }
}
