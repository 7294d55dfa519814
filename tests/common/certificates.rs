//! Certificates for the tests, made by openssl(1).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A private authority, a server's certificate for `localhost`, and a client's.
pub struct Certificates {
    pub directory: TempDir,
}

impl Certificates {
    pub fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        std::fs::write(at.join("server.ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            .unwrap();
        std::fs::write(at.join("client.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
        for ca in ["ca", "stranger"] {
            openssl(
                at,
                &format!(
                    "req -x509 -newkey rsa:2048 -nodes -days 30 -keyout {ca}.key -out {ca}.crt -subj /CN={ca}"
                ),
            );
        }
        for name in ["server", "client"] {
            openssl(
                at,
                &format!(
                    "req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
                ),
            );
            openssl(
                at,
                &format!(
                    "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile {name}.ext -out {name}.crt"
                ),
            );
        }
        Self { directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Runs openssl(1) in a directory.
pub fn openssl(directory: &Path, arguments: &str) {
    let made = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("openssl is installed");
    assert!(made.success(), "openssl {arguments}");
}
