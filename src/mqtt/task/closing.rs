//! Determines why the broker has closed a connection, as far as possible.
//!
//! Only in MQTT 5 can a broker state the reason, and not all do. An unstated reason is one of
//! three: the broker objects to something that this side has sent (see `suspects`), the monitor's
//! other connection has displaced this one (see `pair`), or another client has the same clientid.

use super::{ConnectionTask, Way};
use crate::mqtt::ConnectionOptions;
use crate::mqtt::dial::Addresses;
use crate::mqtt::link::LinkStep;
use crate::mqtt::settings::MqttSettings;
use crate::mqtt::suspects::Unanswered;
use crate::mqtt::task::Over;
use crate::mqtt::transport;
use crate::mqtt::trouble::Trouble;
use iotmonitor_core::model::message::Connection;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// This many connections in a row that were closed within [`STRUGGLE_TIME`] of their CONNACK, each
/// of them made at the first try and with nothing unanswered, indicate a conflict over the
/// clientid, if the broker accepted a new connection right after each: one that stops or dies no
/// longer listens when its clients notice. The proof is that a connection with another clientid
/// stays open.
const STRUGGLE_COUNT: u32 = 3;
const STRUGGLE_TIME: Duration = Duration::from_secs(15);

/// The time limit for checking whether a broker that has just closed a connection still listens.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The time in which the other connection of the pair notices what has happened to it.
const PAIR_PATIENCE: Duration = Duration::from_millis(300);

/// How a session ended.
pub(super) struct Closing {
    pub trouble: Trouble,
    pub unanswered: Vec<Unanswered>,
    pub ended: Instant,
    pub stood: Duration,
    pub at_first_try: bool,
}

impl ConnectionTask {
    /// Returns the trouble behind a closing.
    pub(super) async fn judge(
        &mut self,
        closing: Closing,
        settings: &MqttSettings,
    ) -> Result<Trouble, Over> {
        let Closing { trouble, unanswered, ended, stood, at_first_try } = closing;
        let server = || settings.server.clone();
        let may_be_displaced = matches!(trouble, Trouble::Closed { .. } | Trouble::TakenOver);
        if may_be_displaced && self.is_displaced(ended).await? {
            self.history.struggles = 0;
            let connection = self.connection;
            let is_proven = self.options.pair.as_ref().is_some_and(|pair| pair.is_proven());
            return Ok(match (is_proven, trouble) {
                (true, _) => Trouble::OwnPair { server: server(), connection },
                (false, Trouble::TakenOver) => {
                    let reason = "another connection has its client identifier".to_owned();
                    Trouble::Farewell { server: server(), reason }
                }
                (false, trouble) => trouble,
            });
        }
        let is_blamed = matches!(trouble, Trouble::Closed { .. } | Trouble::Objection { .. })
            && !unanswered.is_empty();
        let is_suspicious = matches!(trouble, Trouble::Closed { .. })
            && !is_blamed
            && at_first_try
            && stood <= STRUGGLE_TIME;
        if !(is_blamed || is_suspicious) || !self.is_broker_up(settings).await? {
            self.history.struggles = 0;
            return Ok(trouble);
        }
        if is_blamed {
            self.history.struggles = 0;
            let (item, is_news) = self.history.suspects.closed_on(unanswered);
            if is_news {
                self.history.backoff.learned();
            }
            return Ok(match item {
                Some(item) => Trouble::ClosedOn { server: server(), what: item.to_string() },
                None => trouble,
            });
        }
        self.history.struggles += 1;
        let is_due = self.history.struggles.is_multiple_of(STRUGGLE_COUNT);
        if is_due && self.is_left_alone_as_another(settings, stood).await? {
            return Ok(Trouble::TakenOver);
        }
        Ok(trouble)
    }

    /// Whether the monitor's other connection began when this one ended.
    async fn is_displaced(&mut self, ended: Instant) -> Result<bool, Over> {
        let Some(pair) = self.options.pair.clone() else { return Ok(false) };
        // When the broker itself stopped, the other one is closed as well.
        self.unless_disturbed(sleep(PAIR_PATIENCE)).await?;
        Ok(pair.note_end(self.connection, ended))
    }

    async fn is_broker_up(&mut self, settings: &MqttSettings) -> Result<bool, Over> {
        let mut addresses = std::mem::take(&mut self.history.addresses);
        let probe = timeout(PROBE_TIMEOUT, async {
            let dialled = transport::dial(settings, &mut addresses).await?;
            transport::open(settings, dialled).await
        });
        let probe = self.unless_disturbed(probe).await?;
        self.history.addresses = addresses;
        Ok(matches!(probe, Some(Ok(Ok(_)))))
    }

    /// Whether the broker keeps a connection that differs only in its clientid, for longer than the
    /// one that it has closed.
    async fn is_left_alone_as_another(
        &self,
        settings: &MqttSettings,
        stood: Duration,
    ) -> Result<bool, Over> {
        let random = fastrand::u64(..);
        let client_id = format!("{}-{random:016x}", settings.client_id);
        let settings = MqttSettings { client_id, ..settings.clone() };
        let options = ConnectionOptions::default();
        let way = Way { connection: Connection::Watch, settings: &settings, options: &options };
        let patience = (2 * stood).max(Duration::from_secs(1)).min(settings.keep_alive);
        let probe = async {
            let mut addresses = Addresses::default();
            let attempt = way.attempt(&mut addresses, self.history.settled);
            let Ok(Ok(mut established)) = timeout(PROBE_TIMEOUT, attempt).await else {
                return false;
            };
            let ended = async {
                while matches!(
                    established.link.step(true).await,
                    Ok(LinkStep::Read | LinkStep::Wrote)
                ) {}
            };
            let is_kept = timeout(patience, ended).await.is_err();
            established.wire.disconnect(&mut established.link.output);
            established.link.finish(Duration::from_millis(500)).await;
            is_kept
        };
        Ok(self.unless_disturbed(probe).await?.unwrap_or(false))
    }
}
