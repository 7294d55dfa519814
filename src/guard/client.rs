//! The monitor's end of the connection to its guard.

use super::renewal::{LENGTH, from_bytes, to_bytes};
use super::{LEASE_FILE, SOCKET};
use iotmonitor_core::machines::cluster::Guarded;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Sends renewals to a guard. Made anew when the guard was restarted.
#[derive(Debug)]
pub struct GuardClient {
    socket: UnixDatagram,
}

impl GuardClient {
    /// Connects to the guard with this runtime directory.
    ///
    /// # Errors
    /// Returns an error if no guard listens there.
    pub fn connect(directory: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(directory.join(SOCKET))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Reports a confirmed renewal. It does not wait.
    ///
    /// # Errors
    /// Returns an error if the guard is gone or has not read for long.
    pub fn renew(&self, guarded: Guarded) -> io::Result<()> {
        self.socket.send(&to_bytes(guarded)).map(drop)
    }
}

/// The renewal that the guard with this runtime directory has accepted last, from which a monitor
/// that was restarted continues. `None` if no guard has a lease.
#[must_use]
pub fn last_renewal(directory: &Path) -> Option<Guarded> {
    let mut bytes = Vec::with_capacity(LENGTH);
    let file = File::open(directory.join(LEASE_FILE)).ok()?;
    file.take(2 * LENGTH as u64).read_to_end(&mut bytes).ok()?;
    from_bytes(&bytes)
}
