//! Certificates and keys are tried when the file is read.

use super::system;
use iotmonitor::config::parse;
use std::fs;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A directory with a certificate that signed itself, its key, and the same in other formats.
pub fn files() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -days 30 -keyout key.pem -out cert.pem -subj /CN=a",
        "req -x509 -newkey rsa:2048 -nodes -days 30 -keyout other.pem -out o.pem -subj /CN=b",
        "x509 -in cert.pem -outform DER -out cert.der",
        "pkey -in key.pem -aes256 -passout pass:secret -out locked.pem",
    ] {
        let made = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(directory.path())
            .stderr(Stdio::null())
            .status()
            .expect("openssl is installed");
        assert!(made.success(), "openssl {arguments}");
    }
    fs::write(directory.path().join("empty.pem"), "").unwrap();
    directory
}

#[test]
fn files_that_no_connection_can_be_made_with_are_warned_of() {
    let directory = files();
    let config = directory.path().join("config.toml");
    let warnings = |address: &str, ca: &str, certificate: &str, key: &str| {
        let text = format!(
            "[mqtt]\nserverAddress = \"{address}\"\ncaFile = \"{ca}\"\n\
             certFile = \"{certificate}\"\nkeyFile = \"{key}\"\n"
        );
        fs::write(&config, &text).unwrap();
        let loaded = parse(&text, &config, &system()).unwrap_or_else(|errors| panic!("{errors}"));
        let found = loaded.warnings.iter();
        found.map(|warning| (warning.line, warning.message.clone())).collect::<Vec<_>>()
    };
    let secure = "ssl://broker";
    assert_eq!(warnings(secure, "cert.pem", "cert.pem", "key.pem"), []);
    for (ca, certificate, key, line, message) in [
        ("cert.der", "cert.pem", "key.pem", 3, "openssl x509 -inform DER"),
        ("empty.pem", "cert.pem", "key.pem", 3, "holds no certificate in PEM format"),
        ("cert.pem", "cert.der", "key.pem", 4, "openssl x509 -inform DER"),
        ("cert.pem", "cert.pem", "other.pem", 4, "and its key do not fit"),
        ("cert.pem", "cert.pem", "locked.pem", 5, "is encrypted"),
        ("cert.pem", "cert.pem", "cert.pem", 5, "holds a certificate instead of a private key"),
        ("cert.pem", "cert.pem", "none.pem", 5, "cannot read"),
    ] {
        for address in [secure, "wss://broker/mqtt"] {
            let found = warnings(address, ca, certificate, key);
            let [(at, said)] = found.as_slice() else { panic!("{key}: {found:?}") };
            assert_eq!(*at, line, "{said}");
            assert!(said.contains(message), "{said}");
        }
    }
    let found = warnings("tcp://broker", "cert.der", "cert.pem", "key.pem");
    assert!(found.iter().all(|(_, said)| said.contains("has no effect")), "{found:?}");
}
