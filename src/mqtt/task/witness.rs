//! A second connection that shows whether it is the clientid that a broker closes a connection for.
//!
//! A broker that is restarted, or dies, closes every connection; one that gives the clientid to
//! another client closes the one that had it. So a witness with a clientid of its own connects
//! ahead of the connection that is in doubt, and is asked when that one has been closed.

use super::{Established, Way};
use crate::mqtt::ConnectionOptions;
use crate::mqtt::dial::Addresses;
use crate::mqtt::link::LinkStep;
use crate::mqtt::session::FAREWELL;
use crate::mqtt::settings::MqttSettings;
use crate::mqtt::wire::Incoming;
use iotmonitor_core::model::message::{Connection, Protocol};
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// For connecting, and later for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The witness sends nothing before it is asked.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

pub(super) struct Witness(Established);

impl Witness {
    /// Connects with the same settings, but for the clientid.
    pub(super) async fn call(settings: &MqttSettings, settled: Option<Protocol>) -> Option<Self> {
        let random = fastrand::u64(..);
        let client_id = format!("{}-{random:016x}", settings.client_id);
        let settings = MqttSettings { client_id, keep_alive: KEEP_ALIVE, ..settings.clone() };
        let options = ConnectionOptions::default();
        let way = Way { connection: Connection::Watch, settings: &settings, options: &options };
        let mut addresses = Addresses::default();
        match timeout(PATIENCE, way.attempt(&mut addresses, settled)).await {
            Ok(Ok(established)) => Some(Self(established)),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Whether the broker serves it still.
    pub(super) async fn stands(mut self) -> bool {
        let Established { link, wire, .. } = &mut self.0;
        wire.pingreq(&mut link.output);
        let is_answered = async {
            loop {
                match wire.decode(&mut link.input) {
                    Ok(Some(Incoming::PingResp)) => return true,
                    Ok(None) => {}
                    Ok(Some(_)) | Err(_) => return false,
                }
                match link.step(true).await {
                    Ok(LinkStep::Read | LinkStep::Wrote | LinkStep::Ticked) => {}
                    Ok(LinkStep::Closed) | Err(_) => return false,
                }
            }
        };
        let stands = timeout(PATIENCE, is_answered).await.unwrap_or(false);
        self.dismiss().await;
        stands
    }

    pub(super) async fn dismiss(self) {
        let Established { mut link, wire, .. } = self.0;
        wire.disconnect(&mut link.output);
        link.finish(FAREWELL).await;
    }
}

/// Lets a witness go that is not needed for longer than this.
pub(super) async fn dismiss_after(patience: Duration, witness: &mut Option<Witness>) -> Infallible {
    sleep(patience).await;
    if let Some(witness) = witness.take() {
        witness.dismiss().await;
    }
    pending().await
}
