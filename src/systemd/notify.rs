//! Notifications from the service to its service manager (sd_notify(3)).
//!
//! Each call sends one datagram and does nothing outside of systemd. A notification that cannot be
//! sent is ignored; the manager's own timeouts then apply. `NOTIFY_SOCKET` stays in the
//! environment, because the process has no children: systemd starts its agents.

use sd_notify::NotifyState;
use std::time::Duration;

/// EXTEND_TIMEOUT_USEC=: the start may take this long, whatever `TimeoutStartSec=` says.
pub fn starting(within: Duration) {
    let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::ExtendTimeoutUsec(micros)]);
}

/// READY=1: started, or done with reloading.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// RELOADING=1, with the time that `Type=notify-reload` of systemd 253 and later requires.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(time) => send(&[NotifyState::Reloading, time]),
        Err(_no_clock) => send(&[NotifyState::Reloading]),
    }
}

/// STOPPING=1: the last actions are being carried out.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The line that `systemctl status` shows. Line breaks, which would end it, become spaces.
pub fn status(line: &str) {
    let line = line.replace(['\n', '\r'], " ");
    send(&[NotifyState::Status(&line)]);
}

/// WATCHDOG=1: the process is alive.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// The longest time between two [`watchdog`] calls; call it at half of that interval. `None` when
/// the service has no watchdog, or the variable is meant for another process.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Whether a service manager started this process, and so may start it again.
#[must_use]
pub fn is_supervised() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

fn send(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
