//! Recorded states on the bus: their format, and both sides of the calls about them.
//!
//! Payloads may be private, so reading them requires the same authorization as commands.

use super::calls::{Call, Calls, device_name};
use super::client::{CallError, Caller};
use super::error::BusError;
use crate::request::{Forgotten, Imported, Request, Selection, StatePage};
use bytes::Bytes;
use iotmonitor_core::model::message::QoS;
use iotmonitor_core::model::state::StateRecord;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::time::Duration;
use zbus::Message;

/// A bus rejects messages larger than 32 MiB (dbus-daemon(1), system.conf).
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;

/// A page's state: topic, payload, size of the payload, QoS, retain flag, Unix microseconds.
type Listed = (String, Vec<u8>, u64, u8, bool, u64);

/// A state to import: topic, payload, QoS, retain flag, Unix microseconds.
type Given = (String, Vec<u8>, u8, bool, u64);

/// A recorded state as a caller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedState {
    pub topic: String,
    /// `None` when it is too large for the bus.
    pub payload: Option<Vec<u8>>,
    /// The size of the payload, in bytes.
    pub size: u64,
    /// 0 or 1.
    pub qos: u8,
    pub retain: bool,
    /// The time since the Unix epoch, to the microsecond.
    pub time: Duration,
}

impl Calls {
    pub(super) async fn list_states(&self, call: &Call<'_>) -> Result<Message, BusError> {
        self.authorise(call).await?;
        let (device, filter, after): (String, String, String) = call.arguments()?;
        let of = match (device.as_str(), filter.as_str()) {
            ("", "") => Selection::All,
            ("", _) => Selection::Filter(
                TopicFilter::new(filter).map_err(|error| BusError::Failed(error.to_string()))?,
            ),
            _ => Selection::Device(device_name(device)?),
        };
        let after = if after.is_empty() { None } else { Some(topic(after)?) };
        let page = self.ask(|reply| Request::States { of, after, reply }).await?;
        let StatePage { states, next } = page;
        let next = next.map(|topic| topic.to_string()).unwrap_or_default();
        call.reply(&(states.into_iter().map(listed).collect::<Vec<Listed>>(), next))
    }

    pub(super) async fn set_state(&self, call: &Call<'_>) -> Result<Message, BusError> {
        self.authorise(call).await?;
        let (topic, payload, qos, retain): (String, Vec<u8>, u8, bool) = call.arguments()?;
        let state = record((topic, payload, qos, retain, 0))?;
        call.reply(&self.ask(|reply| Request::SetState { state, reply }).await?)
    }

    pub(super) async fn forget_state(&self, call: &Call<'_>) -> Result<Message, BusError> {
        self.authorise(call).await?;
        let (text, clear): (String, bool) = call.arguments()?;
        let topic = topic(text)?;
        let Forgotten { recorded, cleared } =
            self.ask(|reply| Request::ForgetState { topic, clear, reply }).await?;
        call.reply(&(recorded, cleared))
    }

    pub(super) async fn import_states(&self, call: &Call<'_>) -> Result<Message, BusError> {
        self.authorise(call).await?;
        let states: Vec<Given> = call.arguments()?;
        let states = states.into_iter().map(record).collect::<Result<_, _>>()?;
        let Imported { recorded, unclaimed } =
            self.ask(|reply| Request::ImportStates { states, reply }).await?;
        call.reply(&(recorded as u64, unclaimed as u64))
    }
}

fn topic(text: String) -> Result<TopicName, BusError> {
    TopicName::new(text).map_err(|error| BusError::Failed(error.to_string()))
}

fn listed(state: StateRecord) -> Listed {
    let size = state.payload.len();
    let payload = if size > MAX_PAYLOAD_BYTES { Vec::new() } else { state.payload.into() };
    let qos = match state.qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
    };
    let micros = u64::try_from(state.time.as_micros()).unwrap_or(u64::MAX);
    (state.topic.to_string(), payload, size as u64, qos, state.retain, micros)
}

fn record((text, payload, qos, retain, micros): Given) -> Result<StateRecord, BusError> {
    let qos = match qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => {
            let sentence = format!("QoS {qos} of `{text}` is not recorded; only 0 and 1 are");
            return Err(BusError::Failed(sentence));
        }
    };
    let payload = Bytes::from(payload);
    Ok(StateRecord {
        topic: topic(text)?,
        payload,
        qos,
        retain,
        time: Duration::from_micros(micros),
    })
}

impl Caller {
    /// A page of recorded states after a topic; the empty string begins. Also returns the topic
    /// after which the next page begins, empty where there is none.
    ///
    /// # Errors
    /// Returns the errors of [`super::call`].
    pub async fn states(
        &self,
        of: &Selection,
        after: &str,
    ) -> Result<(Vec<RecordedState>, String), CallError> {
        let (device, filter) = match of {
            Selection::All => ("", ""),
            Selection::Device(name) => (name.as_str(), ""),
            Selection::Filter(filter) => ("", filter.as_str()),
        };
        let (states, next): (Vec<Listed>, String) =
            self.ask("ListStates", &(device, filter, after)).await?;
        let state = |(topic, payload, size, qos, retain, micros): Listed| RecordedState {
            topic,
            payload: (payload.len() as u64 == size).then_some(payload),
            size,
            qos,
            retain,
            time: Duration::from_micros(micros),
        };
        Ok((states.into_iter().map(state).collect(), next))
    }

    /// Records and publishes a state; returns whether it was published.
    ///
    /// # Errors
    /// Returns the errors of [`super::call`].
    pub async fn set_state(
        &self,
        topic: &str,
        payload: &[u8],
        qos: u8,
        retain: bool,
    ) -> Result<bool, CallError> {
        self.ask("SetState", &(topic, payload, qos, retain)).await
    }

    /// Deletes a state, and with `clear` makes the broker drop its retained message.
    ///
    /// # Errors
    /// Returns the errors of [`super::call`].
    pub async fn forget_state(&self, topic: &str, clear: bool) -> Result<Forgotten, CallError> {
        let (recorded, cleared) = self.ask("ForgetState", &(topic, clear)).await?;
        Ok(Forgotten { recorded, cleared })
    }

    /// Records the states that are not older than the recorded ones.
    ///
    /// # Errors
    /// Returns the errors of [`super::call`], and an error when a payload is too large for the bus.
    pub async fn import_states(&self, states: &[RecordedState]) -> Result<Imported, CallError> {
        let mut given = Vec::with_capacity(states.len());
        for state in states {
            let payload = state.payload.as_deref().unwrap_or_default();
            if payload.len() > MAX_PAYLOAD_BYTES {
                return Err(CallError::Rejected(format!(
                    "the payload of `{}` has {} bytes, but at most {MAX_PAYLOAD_BYTES} fit through the bus",
                    state.topic,
                    payload.len()
                )));
            }
            let micros = u64::try_from(state.time.as_micros()).unwrap_or(u64::MAX);
            given.push((&state.topic, payload, state.qos, state.retain, micros));
        }
        let (recorded, unclaimed): (u64, u64) = self.ask("ImportStates", &given).await?;
        let count = |count| usize::try_from(count).unwrap_or(usize::MAX);
        Ok(Imported { recorded: count(recorded), unclaimed: count(unclaimed) })
    }
}
