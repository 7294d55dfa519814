//! The JSON of etcd's gateway: protocol buffers with their own names, bytes as base64, and 64-bit
//! numbers as strings.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use hyper::StatusCode;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::{Value, json};

pub const RANGE: &str = "/v3/kv/range";
pub const TXN: &str = "/v3/kv/txn";
pub const AUTHENTICATE: &str = "/v3/auth/authenticate";

/// A key with its value and the revision of its last change.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct KeyValue {
    #[serde(deserialize_with = "from_base64")]
    pub key: Vec<u8>,
    #[serde(default, deserialize_with = "from_base64")]
    pub value: Vec<u8>,
    #[serde(deserialize_with = "from_number")]
    pub mod_revision: u64,
}

#[derive(Debug, serde::Deserialize)]
struct RangeAnswer {
    header: Header,
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

/// Each answer has one, which tells it from that of another server.
#[derive(Debug, serde::Deserialize)]
struct Header {
    #[serde(deserialize_with = "from_number")]
    revision: u64,
}

#[derive(Debug, serde::Deserialize)]
struct TxnAnswer {
    header: Header,
    #[serde(default)]
    succeeded: bool,
    #[serde(default)]
    responses: Vec<TxnPart>,
}

#[derive(Debug, serde::Deserialize)]
struct TxnPart {
    response_range: Option<PartRange>,
}

#[derive(Debug, serde::Deserialize)]
struct PartRange {
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Debug, serde::Deserialize)]
struct TokenAnswer {
    token: String,
}

#[derive(Debug, serde::Deserialize)]
struct DenialAnswer {
    /// Of gRPC.
    code: u32,
    /// Later versions have the first field alone.
    message: Option<String>,
    error: Option<String>,
}

impl DenialAnswer {
    fn parts(self) -> Option<(u32, String)> {
        Some((self.code, self.message.or(self.error)?))
    }
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    Absent { key: String },
    Holds { key: String, mod_revision: u64, value: Vec<u8> },
    Present { key: String },
}

/// What came of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnResult {
    Committed {
        revision: u64,
    },
    /// A condition did not hold. What the asked key holds.
    Refused(Option<KeyValue>),
}

/// What etcd says instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The token has expired, or is of before a change of users.
    Token(String),
    Login,
    NoUser,
    NoAuthentication,
    Permission,
    NoSpace,
    Other(String),
}

impl Denial {
    #[must_use]
    pub fn is_of_token(&self) -> bool {
        matches!(self, Self::Token(_))
    }
}

/// Reads the keys from the first to before the second, linearizably.
#[must_use]
pub fn range(from: &str, to: &str) -> Bytes {
    bytes_of(&json!({ "key": base64(from.as_bytes()), "range_end": base64(to.as_bytes()) }))
}

/// Puts all if each condition holds, and reads the key `asked` if not.
#[must_use]
pub fn txn(conditions: &[Condition], puts: &[(String, Vec<u8>)], asked: &str) -> Bytes {
    let success = puts.iter().map(|(key, value)| {
        json!({ "request_put": { "key": base64(key.as_bytes()), "value": base64(value) } })
    });
    txn_of(conditions, success.collect(), asked)
}

fn txn_of(conditions: &[Condition], success: Vec<Value>, asked: &str) -> Bytes {
    let compare: Vec<Value> = conditions.iter().flat_map(Condition::to_json).collect();
    let failure = [json!({ "request_range": { "key": base64(asked.as_bytes()) } })];
    bytes_of(&json!({ "compare": compare, "success": success, "failure": failure }))
}

/// Removes the keys of ranges, from the first to before the second of each, if each condition holds,
/// and reads the key `asked` if not.
#[must_use]
pub fn removal(conditions: &[Condition], ranges: &[(String, String)], asked: &str) -> Bytes {
    let removals = ranges.iter().map(|(from, to)| {
        let (from, to) = (base64(from.as_bytes()), base64(to.as_bytes()));
        json!({ "request_delete_range": { "key": from, "range_end": to } })
    });
    txn_of(conditions, removals.collect(), asked)
}

#[must_use]
pub fn authenticate(user: &str, password: &str) -> Bytes {
    bytes_of(&json!({ "name": user, "password": password }))
}

/// # Errors
/// Returns what is odd about the answer.
pub fn range_answer(body: &[u8]) -> Result<Vec<KeyValue>, String> {
    let answer: RangeAnswer = parsed(body)?;
    let is_possible = |found: &KeyValue| found.mod_revision <= answer.header.revision;
    if answer.kvs.iter().all(is_possible) {
        Ok(answer.kvs)
    } else {
        Err("a key is newer than the answer".to_owned())
    }
}

/// # Errors
/// Returns what is odd about the answer.
pub fn txn_answer(body: &[u8]) -> Result<TxnResult, String> {
    let answer: TxnAnswer = parsed(body)?;
    if answer.succeeded {
        return Ok(TxnResult::Committed { revision: answer.header.revision });
    }
    let ranges = answer.responses.into_iter().filter_map(|part| part.response_range);
    Ok(TxnResult::Refused(ranges.flat_map(|range| range.kvs).next()))
}

/// # Errors
/// Returns what is odd about the answer.
pub fn token(body: &[u8]) -> Result<String, String> {
    parsed(body).map(|TokenAnswer { token }| token)
}

/// Takes an answer with another status than 200.
///
/// # Errors
/// Returns what is odd about the answer, if etcd does not fail in this way.
pub fn failure(status: StatusCode, body: &[u8]) -> Result<Denial, String> {
    let answer = serde_json::from_slice(body).ok();
    let Some((code, message)) = answer.and_then(DenialAnswer::parts) else {
        return Err(format!("it says {status}"));
    };
    // Codes of gRPC, and sentences of etcd (api/v3rpc/rpctypes/error.go) where a code says little.
    let says = |part: &str| message.contains(part);
    Ok(match code {
        16 => Denial::Token(message),
        _ if says("revision of auth store is old") => Denial::Token(message),
        _ if says("authentication failed") => Denial::Login,
        _ if says("user name is empty") => Denial::NoUser,
        _ if says("authentication is not enabled") => Denial::NoAuthentication,
        7 => Denial::Permission,
        _ if says("database space exceeded") => Denial::NoSpace,
        _ => Denial::Other(message),
    })
}

impl Condition {
    fn to_json(&self) -> Vec<Value> {
        match self {
            Self::Absent { key } => {
                let key = base64(key.as_bytes());
                vec![json!({ "target": "VERSION", "result": "EQUAL", "key": key, "version": "0" })]
            }
            Self::Present { key } => {
                let key = base64(key.as_bytes());
                let target = json!({ "target": "VERSION", "result": "GREATER", "key": key,
                                     "version": "0" });
                vec![target]
            }
            Self::Holds { key, mod_revision, value } => {
                let key = base64(key.as_bytes());
                let revision = mod_revision.to_string();
                vec![
                    json!({ "target": "MOD", "result": "EQUAL", "key": key,
                            "mod_revision": revision }),
                    json!({ "target": "VALUE", "result": "EQUAL", "key": key,
                            "value": base64(value) }),
                ]
            }
        }
    }
}

fn parsed<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn bytes_of(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn from_base64<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let encoded = String::deserialize(from)?;
    BASE64_STANDARD.decode(encoded).map_err(D::Error::custom)
}

fn from_number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_refuses_is_told_apart() {
        let failure = |code: u32, message: &str| {
            let body = json!({ "error": message, "code": code, "message": message }).to_string();
            failure(StatusCode::BAD_REQUEST, body.as_bytes()).unwrap()
        };
        let old = "etcdserver: revision of auth store is old";
        assert!(failure(16, "etcdserver: invalid auth token").is_of_token());
        assert!(failure(3, old).is_of_token());
        let login = "etcdserver: authentication failed, invalid user ID or password";
        assert_eq!(failure(3, login), Denial::Login);
        assert_eq!(failure(7, "etcdserver: permission denied"), Denial::Permission);
        let lost = "etcdserver: no leader";
        assert_eq!(failure(14, lost), Denial::Other(lost.to_owned()));
    }

    #[test]
    fn the_answer_of_another_server_is_not_taken_for_an_empty_one() {
        for body in ["", "{}", "[]", "null", r#"{"header":{}}"#, r#"{"kvs":[]}"#, "<html>"] {
            assert!(range_answer(body.as_bytes()).is_err(), "{body}");
            assert!(txn_answer(body.as_bytes()).is_err(), "{body}");
        }
        assert!(failure(StatusCode::NOT_FOUND, b"404 page not found").is_err());
        let newer = r#"{"header":{"revision":"3"},"kvs":[{"key":"YQ==","mod_revision":"4"}]}"#;
        assert!(range_answer(newer.as_bytes()).is_err());
    }
}
