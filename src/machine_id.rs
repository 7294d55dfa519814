//! The number of this machine, by which a store that was copied to another one is known.
//!
//! Of machine-id(5) only a hash leaves this module, as that page asks for.

use nix::sys::utsname::uname;
use siphasher::sip128::SipHasher13;
use std::fmt::Write as _;
use std::fs;

/// Different for each program that makes a number of its own from the machine's.
const PROGRAM: &[u8] = b"iotmonitor 5f1f6b0e2c7f4d0f9a0a7b1d6c9e3a58";

/// `None` where the machine has no number, or has one for this start alone.
#[must_use]
pub fn machine_id() -> Option<String> {
    let id = fs::read_to_string("/etc/machine-id").ok()?;
    let id = id.trim();
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| hashed(id))
}

/// The host name; `None` where none has been set.
#[must_use]
pub fn host_name() -> Option<String> {
    // The service does not see /proc/sys.
    let system = uname().ok()?;
    let name = system.nodename().to_str()?.trim();
    (!name.is_empty() && name != "(none)").then(|| name.to_owned())
}

fn hashed(id: &str) -> String {
    let hash = SipHasher13::new().hash(&[PROGRAM, id.as_bytes()].concat());
    hash.as_bytes().iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::hashed;

    #[test]
    fn the_number_is_another_for_each_machine_and_shows_none() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(hashed(id), hashed(id));
        assert_ne!(hashed(id), hashed("1123456789abcdef0123456789abcdef"));
        assert_eq!(hashed(id).len(), 32);
        assert_ne!(hashed(id), id);
    }
}
