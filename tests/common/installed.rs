//! Programs from npm and PyPI, installed once into directories below target/.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What npm and pip say when they cannot reach their registry.
const UNREACHABLE: [&str; 8] = [
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ETIMEDOUT",
    "NewConnectionError",
    "ConnectTimeoutError",
    "ProxyError",
    "ReadTimeoutError",
];

/// The directory below target/ in which this command of the shell was run once, or the reason that the
/// registry cannot be reached. Any other failure panics.
pub fn installed(group: &str, name: &str, install: &str) -> Result<PathBuf, String> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(group).join(name);
    let done = home.join("installed");
    // What an earlier version installed in another way is replaced.
    if fs::read_to_string(&done).is_ok_and(|before| before == install) {
        return Ok(home);
    }
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(&home).unwrap();
    let output = Command::new("sh").args(["-c", install]).current_dir(&home).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let is_unreachable = UNREACHABLE.iter().any(|word| said.contains(word));
        assert!(is_unreachable, "`{install}` failed:\n{said}");
        return Err(format!("{name} is left out: its registry cannot be reached (`{install}`)"));
    }
    fs::write(done, install).unwrap();
    Ok(home)
}
