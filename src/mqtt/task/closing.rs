//! Determines why the broker has closed a connection, as far as possible.
//!
//! Only in MQTT 5 can a broker state the reason, and not all do. An unstated reason is one of
//! three: the broker objects to something that this side has sent (see `suspects`), the monitor's
//! other connection has displaced this one (see `pair`), or another client has the same clientid.

use super::ConnectionTask;
use super::witness::Witness;
use crate::mqtt::settings::MqttSettings;
use crate::mqtt::suspects::Unanswered;
use crate::mqtt::task::Over;
use crate::mqtt::transport;
use crate::mqtt::trouble::Trouble;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// This many connections in a row that were closed within [`STRUGGLE_TIME`] of their CONNACK, each
/// of them made at the first try and with nothing unanswered, indicate a conflict over the
/// clientid, if the broker accepted a new connection right after each: one that stops or dies no
/// longer listens when its clients notice. A broker that is restarted as often looks the same, so
/// the proof is that a connection with another clientid has outlived the last one (see [`Witness`]).
const STRUGGLE_COUNT: u32 = 3;
pub(super) const STRUGGLE_TIME: Duration = Duration::from_secs(15);

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
    pub witness: Option<Witness>,
}

impl ConnectionTask {
    /// Returns the trouble behind a closing.
    pub(super) async fn judge(
        &mut self,
        closing: Closing,
        settings: &MqttSettings,
    ) -> Result<Trouble, Over> {
        let Closing { trouble, unanswered, ended, stood, at_first_try, witness } = closing;
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
        let stands = match witness {
            Some(witness) => self.unless_disturbed(witness.stands()).await?.unwrap_or(false),
            None => false,
        };
        Ok(if stands { Trouble::TakenOver } else { trouble })
    }

    /// Connects a witness of how the next connection ends, where that may be the proof.
    pub(super) async fn call_witness(
        &self,
        settings: &MqttSettings,
    ) -> Result<Option<Witness>, Over> {
        if self.history.struggles + 1 < STRUGGLE_COUNT {
            return Ok(None);
        }
        let witness = Witness::call(settings, self.history.settled);
        Ok(self.unless_disturbed(witness).await?.flatten())
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
}
