//! What each node of a cluster retains about itself.

use serde::{Deserialize, Serialize};

/// What `nodes/NODE` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum NodeWord {
    Online {
        /// The wall clock at which the node connected, in seconds.
        since: u64,
        /// The node has not watched for long enough to have anything to hand on.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        starting: bool,
        /// The broker had no session for the node, so that it asks for the states that it has missed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        missing: bool,
    },
    Offline,
}

impl NodeWord {
    #[must_use]
    pub fn to_json(self) -> String {
        // Such a value always serializes; an empty payload would clear the topic.
        serde_json::to_string(&self).unwrap_or_else(|_| "{}".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_it_is_written() {
        let words =
            [NodeWord::Offline, NodeWord::Online { since: 7, starting: true, missing: true }];
        for word in words {
            assert_eq!(serde_json::from_str::<NodeWord>(&word.to_json()).unwrap(), word);
        }
        let plain = NodeWord::Online { since: 7, starting: false, missing: false }.to_json();
        assert_eq!(plain, r#"{"state":"online","since":7}"#);
        assert_eq!(NodeWord::Offline.to_json(), r#"{"state":"offline"}"#);
    }
}
