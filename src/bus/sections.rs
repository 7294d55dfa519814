//! The sections that all nodes of a cluster share, on the bus: both sides of the call that replaces
//! them.

use super::calls::{Call, Calls};
use super::client::{CallError, Caller};
use super::error::BusError;
use crate::request::Request;
use zbus::Message;

impl Calls {
    /// What runs on all nodes, and as which user, is for root to say. Authorization to command the
    /// monitor does not include it.
    pub(super) async fn apply_sections(&self, call: &Call<'_>) -> Result<Message, BusError> {
        if !self.trusts(call.user()) {
            let sentence = "only root may say what runs on all nodes of the cluster";
            return Err(BusError::Denied(sentence.to_owned()));
        }
        let (path, text): (String, String) = call.arguments()?;
        let (path, text) = (path.into(), text.into());
        call.reply(&self.ask(|reply| Request::ApplySections { path, text, reply }).await?)
    }
}

impl Caller {
    /// Replaces the sections that all nodes of the cluster share by this text, which findings call by
    /// the path. Returns what has changed, for people.
    ///
    /// # Errors
    /// Returns an error if the sections cannot be used on this node, or etcd does not answer.
    pub async fn apply_sections(&self, path: &str, text: &str) -> Result<String, CallError> {
        self.ask("ApplySections", &(path, text)).await
    }
}
