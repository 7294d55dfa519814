//! A start that reads a file which takes its time.

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The file is a pipe here, so that nothing can be read before systemd has been asked.
#[test]
fn systemd_is_asked_for_patience_before_the_file_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let [socket, config] = ["notify", "config.toml"].map(|name| directory.path().join(name));
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    mkfifo(&config, Mode::S_IRWXU).unwrap();
    let mut monitor = Command::new(env!("CARGO_BIN_EXE_iotmonitor"))
        .args(["run", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", &socket)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = [0; 64];
    let length = manager.recv(&mut said);
    fs::write(&config, "colour = 5\n").unwrap();
    assert_eq!(monitor.wait().unwrap().code(), Some(78));
    let said = std::str::from_utf8(&said[..length.unwrap()]).unwrap();
    assert_eq!(said.trim_end(), "EXTEND_TIMEOUT_USEC=300000000");
}
