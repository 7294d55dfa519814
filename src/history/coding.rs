//! Records as sealed JSON.

use crate::lmdb::seal;
use serde::{Serialize, de::DeserializeOwned};

pub(super) fn to_json<T: Serialize>(key: &[u8], value: &T) -> heed::Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map(|content| seal::seal(key, &content))
        .map_err(|error| heed::Error::Encoding(error.into()))
}

pub(super) fn from_json<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Option<T> {
    serde_json::from_slice(seal::unseal(key, value)?).ok()
}
