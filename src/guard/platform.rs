//! What the guard needs of the system, prepared at its start. The calls of the loop allocate
//! nothing and wait for no other process.

use super::renewal::{LENGTH, from_bytes, to_bytes};
use super::{GuardError, LEASE_FILE, SOCKET};
use iotmonitor_core::machines::cluster::Guarded;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId as Clock, clock_gettime};
use nix::unistd::write;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

/// Kills everything in the slice of the shared agents (Linux, "Control Group v2").
const KILL_FILE: &CStr = c"/sys/fs/cgroup/iotmonitor.slice/iotmonitor-shared.slice/cgroup.kill";

/// Everything that was opened before the loop.
pub(super) struct GuardPlatform {
    socket: UnixDatagram,
    lease: File,
    /// `None` outside of systemd.
    manager: Option<UnixDatagram>,
    timer: TimerFd,
}

impl GuardPlatform {
    pub fn prepare(directory: &Path) -> Result<Self, GuardError> {
        check_kill()?;
        let system = |what| move |error: Errno| GuardError::System { what, error: error.into() };
        let socket = directory.join(SOCKET);
        let lease = directory.join(LEASE_FILE);
        let failed =
            |path: &Path, error| GuardError::File { path: path.display().to_string(), error };
        // An earlier guard may have left it behind.
        let _ = std::fs::remove_file(&socket);
        let socket = UnixDatagram::bind(&socket)
            .and_then(|made| made.set_nonblocking(true).map(|()| made))
            .map_err(|error| failed(&socket, error))?;
        let lease = File::create(&lease).map_err(|error| failed(&lease, error))?;
        let manager = manager()
            .map_err(|error| GuardError::System { what: "reach the service manager", error })?;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK)
            .map_err(system("make a timer"))?;
        Ok(Self { socket, lease, manager, timer })
    }

    /// Keeps the pages of the process in memory, so that no disk delays the guard.
    ///
    /// # Errors
    /// Returns an error where that is not allowed, as in some containers.
    pub fn lock_memory() -> io::Result<()> {
        mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).map_err(io::Error::from)
    }

    /// The time of the boot clock, which also counts while the machine is suspended.
    pub fn now(&self) -> Duration {
        // Without a clock every lease has ended.
        clock_gettime(Clock::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
    }

    /// Waits until this time, or until a datagram arrives.
    pub fn wait(&self, until: Duration) {
        // A time of zero would switch the timer off.
        let until = TimeSpec::from_duration(until.max(Duration::from_nanos(1)));
        let at = Expiration::OneShot(until);
        if self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME).is_err() {
            return;
        }
        let mut files = [
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
        ];
        // After an interruption the caller looks at the time again.
        let _ = poll(&mut files, PollTimeout::NONE);
    }

    /// Takes a renewal that has arrived.
    pub fn receive(&self) -> Option<Guarded> {
        let mut bytes = [0; LENGTH + 1];
        loop {
            match self.socket.recv(&mut bytes) {
                Ok(length) => match from_bytes(&bytes[..length]) {
                    Some(renewal) => return Some(renewal),
                    None => continue,
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_empty) => return None,
            }
        }
    }

    /// Keeps a renewal for a monitor that is restarted. The file is in memory.
    pub fn keep(&self, renewal: Guarded) {
        let _ = self.lease.write_all_at(&to_bytes(renewal), 0);
    }

    /// READY=1, and the first sign of life.
    pub fn ready(&self, watchdog: Duration) {
        self.notify(format_args!("READY=1\nWATCHDOG_USEC={}\nWATCHDOG=1\n", watchdog.as_micros()));
    }

    /// WATCHDOG=1, with the time in which the next one is to arrive.
    pub fn is_alive(&self, watchdog: Duration) {
        self.notify(format_args!("WATCHDOG_USEC={}\nWATCHDOG=1\n", watchdog.as_micros()));
    }

    /// STOPPING=1, upon which systemd stops the units that are bound to this one.
    pub fn stopping(&self) {
        self.notify(format_args!("STOPPING=1\n"));
    }

    /// Kills everything shared. Where nothing shared ever ran, there is no such file.
    pub fn kill(&self) {
        if let Ok(file) = open(KILL_FILE, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            let _ = write(&file, b"1");
        }
    }

    /// Numbers are formatted without an allocation.
    fn notify(&self, message: std::fmt::Arguments<'_>) {
        let Some(manager) = &self.manager else { return };
        let mut bytes = [0; 128];
        let mut cursor = Cursor::new(&mut bytes[..]);
        if cursor.write_fmt(message).is_err() {
            return;
        }
        let length = usize::try_from(cursor.position()).unwrap_or_default();
        // A manager that does not read has no room for more, and is not waited for.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = send(manager.as_raw_fd(), &bytes[..length], flags);
    }
}

/// The socket of the service manager (sd_notify(3)).
fn manager() -> io::Result<Option<UnixDatagram>> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(Some(socket))
}

/// Whether the kernel can kill a control group as a whole. The root has no such file, so the guard's
/// own group is looked at.
fn check_kill() -> Result<(), GuardError> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    if Path::new("/sys/fs/cgroup").join(own.trim_start_matches('/')).join("cgroup.kill").exists() {
        return Ok(());
    }
    Err(GuardError::NoKill(own.to_owned()))
}
