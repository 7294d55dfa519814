//! The format of exports: one [`StateLine`] a line (jsonlines.org).

use crate::bus::RecordedState;
use crate::printable::escaped_json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iotmonitor_core::model::state_line::StateLine;
use iotmonitor_core::topic::TopicName;
use std::time::Duration;

/// A time of at least this value is in milliseconds: as seconds it would be in the year 5138, and
/// as milliseconds it is in 1973.
const MILLISECONDS: std::ops::Range<f64> = 1e11..1e14;

/// Explains why a line is not a state.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Topic(#[from] iotmonitor_core::topic::TopicError),
    #[error("a state has either `payload` or `payloadBase64`")]
    Payload,
    #[error("`payloadBase64` is not valid base64: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("`qos` is {0}, but only 0 and 1 are recorded")]
    Qos(u8),
    #[error("`time` must be Unix seconds, found {0}")]
    Time(f64),
    #[error("`time` is {0}, which is in milliseconds: write Unix seconds, {seconds}", seconds = .0 / 1000.0)]
    Milliseconds(f64),
}

/// The state as one line, without the line break; `None` when its payload is missing.
pub fn write(state: &RecordedState) -> Option<String> {
    let RecordedState { topic, payload, qos, retain, time, .. } = state;
    let line = StateLine::of(topic, payload.as_deref()?, *qos, *retain, *time);
    Some(escaped_json(line.to_json()))
}

/// Parses the state in one line; `now` is the time of a state without one.
///
/// # Errors
/// Returns the error in the line.
pub fn read(line: &str, now: Duration) -> Result<RecordedState, LineError> {
    let line: StateLine = serde_json::from_str(line)?;
    TopicName::new(line.topic.as_str())?;
    let payload = match (line.payload, line.payload_base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => STANDARD.decode(text)?,
        (Some(_), Some(_)) | (None, None) => return Err(LineError::Payload),
    };
    if line.qos > 1 {
        return Err(LineError::Qos(line.qos));
    }
    let time = match line.time {
        Some(time) if MILLISECONDS.contains(&time) => return Err(LineError::Milliseconds(time)),
        Some(seconds) => {
            let time = Duration::try_from_secs_f64(seconds);
            let micros = |time: Duration| (time + Duration::from_nanos(500)).as_micros();
            // Unix microseconds are sent as 64 bits.
            let micros = time.ok().and_then(|time| u64::try_from(micros(time)).ok());
            Duration::from_micros(micros.ok_or(LineError::Time(seconds))?)
        }
        None => now,
    };
    Ok(RecordedState {
        size: payload.len() as u64,
        payload: Some(payload),
        topic: line.topic,
        qos: line.qos,
        retain: line.retain,
        time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(9);

    fn state(payload: &[u8]) -> RecordedState {
        RecordedState {
            topic: "home/lamp/set/color".to_owned(),
            payload: Some(payload.to_vec()),
            size: payload.len() as u64,
            qos: 0,
            retain: true,
            time: Duration::from_micros(1_795_473_762_123_457),
        }
    }

    #[test]
    fn every_payload_comes_back_to_the_microsecond() {
        for payload in [&b"on"[..], b"", b"\0\xff\"\n", "ü\u{1f600}\r".as_bytes()] {
            let state = state(payload);
            let line = write(&state).unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(read(&line, NOW).unwrap(), state);
        }
        assert_eq!(write(&RecordedState { payload: None, ..state(b"") }), None);
    }

    #[test]
    fn a_line_reads_as_it_is_documented() {
        assert_eq!(
            write(&state(b"on")).unwrap(),
            r#"{"topic":"home/lamp/set/color","payload":"on","qos":0,"retain":true,"time":1795473762.123457}"#
        );
        let short = read(r#"{"topic":"a","payloadBase64":"AP8="}"#, NOW).unwrap();
        assert_eq!((short.payload.as_deref(), short.qos), (Some(&b"\0\xff"[..]), 1));
        assert_eq!((short.retain, short.time), (false, NOW));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, said) in [
            ("on", "expected value"),
            (r#"{"payload":""}"#, "missing field `topic`"),
            (r#"{"topic":"a/#","payload":""}"#, "wildcards"),
            (r#"{"topic":"a"}"#, "either `payload` or `payloadBase64`"),
            (r#"{"topic":"a","payload":"","payloadBase64":""}"#, "either"),
            (r#"{"topic":"a","payloadBase64":"?"}"#, "not valid base64"),
            (r#"{"topic":"a","payload":"","qos":2}"#, "only 0 and 1"),
            (r#"{"topic":"a","payload":"","time":-1}"#, "must be Unix seconds"),
            (r#"{"topic":"a","payload":"","time":1e300}"#, "must be Unix seconds"),
            (
                r#"{"topic":"a","payload":"","time":1795473762123}"#,
                "milliseconds: write Unix seconds, 1795473762.123",
            ),
            (r#"{"topic":"a","payload":"","retained":true}"#, "unknown field `retained`"),
        ] {
            let error = read(line, NOW).unwrap_err().to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
