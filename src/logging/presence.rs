//! Whether a process holds the journal's socket.
//!
//! An entry for a socket that no process holds is lost silently. Therefore the writing thread waits
//! here before each entry, and new entries stay in its queue. A journald that holds its socket
//! without reading is not detected here; the kernel makes the writer wait for it.

use iotmonitor_core::backoff::Backoff;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

/// The socket of journald's native protocol (systemd-journald.service(8)).
pub(super) const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A separate socket for the check, so that no check needs a new descriptor.
pub(super) struct SocketProbe(UnixDatagram);

impl SocketProbe {
    pub fn new() -> std::io::Result<Self> {
        UnixDatagram::unbound().map(Self)
    }

    /// Waits until a process holds the socket.
    pub fn await_holder(&self, socket: &Path) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        while !self.is_held(socket) {
            std::thread::sleep(backoff.next_delay());
        }
    }

    /// Only these two errors mean that no process holds it; any other occurs again with the entry.
    fn is_held(&self, socket: &Path) -> bool {
        match self.0.connect(socket) {
            Ok(()) => true,
            Err(error) => {
                !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_held_while_a_process_has_it_open_and_again_by_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let probe = SocketProbe::new().unwrap();
        assert!(!probe.is_held(&path), "it does not exist");
        for _ in 0..2 {
            let holder = UnixDatagram::bind(&path).unwrap();
            assert!(probe.is_held(&path));
            probe.await_holder(&path);
            drop(holder);
            assert!(!probe.is_held(&path), "its file is left");
            std::fs::remove_file(&path).unwrap();
        }
    }
}
