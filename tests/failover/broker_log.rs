//! Which client has published what, in the order in which the broker has taken it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

/// A message that the broker has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub client: String,
    pub topic: String,
}

/// The log of mosquitto, which names every packet.
pub struct BrokerLog {
    file: PathBuf,
    /// What has been read.
    offset: u64,
}

impl BrokerLog {
    pub fn new(file: PathBuf) -> Self {
        Self { file, offset: 0 }
    }

    /// What was published since the last call.
    pub fn read(&mut self) -> Vec<Published> {
        let mut file = File::open(&self.file).expect("the broker has made it");
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.offset)).expect("it is an ordinary file");
        file.read_to_end(&mut bytes).expect("it can be read");
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.offset += u64::try_from(whole).expect("it is short");
        String::from_utf8_lossy(&bytes[..whole]).lines().filter_map(published).collect()
    }
}

/// `Received PUBLISH from CLIENT (d0, q1, r0, m7, 'TOPIC', ... (5 bytes))`
fn published(line: &str) -> Option<Published> {
    let (client, rest) = line.strip_prefix("Received PUBLISH from ")?.split_once(" (")?;
    let (_, rest) = rest.split_once('\'')?;
    let (topic, _) = rest.rsplit_once("', ... (")?;
    Some(Published { client: client.to_owned(), topic: topic.to_owned() })
}

/// Tries [`published`].
pub fn check() {
    let line =
        "Received PUBLISH from iotmonitor@pi1-states (d0, q1, r0, m7, 'home/a/set', ... (5 bytes))";
    let expected = Published { client: "iotmonitor@pi1-states".into(), topic: "home/a/set".into() };
    assert_eq!(published(line), Some(expected));
    assert_eq!(published(&line.replace("Received", "Sending")), None);
}
