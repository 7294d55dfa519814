//! Determines which files the system service can read, and which sockets it can connect to. The
//! service runs as root without capabilities, so the mode applies to it as to every user
//! (path_resolution(7), unix(7), capabilities(7)).
//!
//! A user that runs `iotmonitor check` may be able to read more, or less, than the service. Access
//! control lists are not evaluated: a file that is readable only through one is reported as closed.

use super::Environment;
use super::report::{ByteSpan, ConfigReport};
use crate::http::settings::TOKEN;
use crate::mqtt::settings::{PASSWORD, socket_hint};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Warns of a file that is readable here and closed to the service.
pub(super) fn warn_if_closed(
    environment: &Environment,
    what: &str,
    credential: &str,
    path: &Path,
    span: &ByteSpan,
    report: &mut ConfigReport,
) {
    if let Some(closed) = closed_part(path, READ).filter(|_| environment.for_service) {
        let message = format!(
            "{what}: the service cannot read {}, because {} is closed to it",
            path.display(),
            closed.display()
        );
        report.warning(span, message, hint(environment, credential, path));
    }
}

/// Warns of a file beside the configuration that is closed to the service while the configuration
/// itself is not. `place` is its beginning.
pub(super) fn warn_if_part_closed(
    environment: &Environment,
    main: &Path,
    path: &Path,
    place: usize,
    report: &mut ConfigReport,
) {
    if !environment.for_service || closed_part(main, READ).is_some() {
        return;
    }
    if let Some(closed) = closed_part(path, READ) {
        let message = format!(
            "the service cannot read this file, because {} is closed to it",
            closed.display()
        );
        let hint = format!(
            "the service runs as root without capabilities: chown root {}",
            closed.display()
        );
        report.warning(&(place..place), message, hint);
    }
}

/// Warns of a file with a secret that other users can read. A file in a directory that is closed to
/// them is safe until the directory is opened.
pub(super) fn warn_if_open(secret: &str, path: &Path, span: &ByteSpan, report: &mut ConfigReport) {
    let Ok(mode) = path.metadata().map(|meta| meta.mode() & 0o7777) else { return };
    if mode & 0o077 != 0 {
        let message =
            format!("others can read the {secret} in {} (mode {mode:04o})", path.display());
        report.warning(span, message, format!("chmod 0600 {}", path.display()));
    }
}

/// Warns of a broker's socket that is closed to the service.
pub(super) fn warn_if_socket_closed(
    environment: &Environment,
    path: &Path,
    span: &ByteSpan,
    report: &mut ConfigReport,
) {
    let Some(closed) = closed_part(path, WRITE).filter(|_| environment.for_service) else { return };
    let message = format!(
        "serverAddress: the service cannot connect to {}, because {} is closed to it",
        path.display(),
        closed.display()
    );
    let hint = format!("the service {}", socket_hint(path));
    report.warning(span, message, hint);
}

/// The remedy where permission is denied; `credential` is the name that the file would have as a
/// systemd credential.
pub(super) fn hint(environment: &Environment, credential: &str, path: &Path) -> String {
    if environment.user_manager {
        return "it is read as the user whose monitor this is: give it to that user".to_owned();
    }
    if environment.files_are_credentials {
        let name = path.file_name().unwrap_or_default().display();
        return format!(
            "the service runs as a user of its own, to which systemd passes this file after \
             `systemctl edit iotmonitor-recorder`, and there `[Service]` with \
             `LoadCredential={name}:{}`",
            path.display()
        );
    }
    // The credential of a secret is found by its name, any other by the path that the key contains.
    let then = if [PASSWORD, TOKEN].contains(&credential) {
        String::new()
    } else {
        format!(", and write {credential} = \"/run/credentials/iotmonitor.service/{credential}\"")
    };
    format!(
        "the service runs as root without capabilities, which cannot read other users' 0600 files; \
         give it to root, or let systemd pass it in: LoadCredential={credential}:{}{then}",
        path.display()
    )
}

/// Whether this is a permission error.
pub(super) fn is_denied(error: &io::Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied
}

/// Bits of a class of a mode.
const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;

/// The first component of the path, or the file itself, that is closed to root without
/// capabilities; `right` is the access needed to the file itself.
fn closed_part(path: &Path, right: u32) -> Option<PathBuf> {
    let real = path.canonicalize().ok()?;
    let mut parts: Vec<&Path> = real.ancestors().collect();
    parts.reverse();
    parts
        .into_iter()
        .find(|part| {
            let need = if *part == real { right } else { SEARCH };
            part.metadata().is_ok_and(|meta| !is_open(meta.uid(), meta.gid(), meta.mode(), need))
        })
        .map(Path::to_owned)
}

/// Whether user 0 and group 0 have this right, out of the three bits of a class.
fn is_open(uid: u32, gid: u32, mode: u32, need: u32) -> bool {
    let class = if uid == 0 {
        mode >> 6
    } else if gid == 0 {
        mode >> 3
    } else {
        mode
    };
    class & need == need
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_root_decides_and_nothing_else() {
        for (uid, gid, mode, open) in [
            (0, 0, 0o600, true),
            (0, 1000, 0o044, false),
            (1000, 0, 0o640, true),
            (1000, 0, 0o604, false),
            (1000, 1000, 0o600, false),
            (1000, 1000, 0o644, true),
        ] {
            assert_eq!(is_open(uid, gid, mode, 0o4), open, "{uid} {gid} {mode:o}");
        }
    }

    #[test]
    fn as_root_what_is_closed_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().canonicalize().unwrap().join("secret");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(closed_part(&file, READ), None);
        std::os::unix::fs::chown(&file, Some(65_534), None).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        assert_eq!(closed_part(&file, READ), Some(file.clone()));
        let home = file.parent().unwrap();
        std::fs::set_permissions(home, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        std::os::unix::fs::chown(home, Some(65_534), Some(65_534)).unwrap();
        assert_eq!(closed_part(&file, READ).as_deref(), Some(home));
    }

    #[test]
    fn as_root_a_socket_takes_the_right_to_write() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().canonicalize().unwrap().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let set_mode = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&socket, mode).unwrap();
        };
        set_mode(0o755);
        assert_eq!(closed_part(&socket, WRITE), None);
        std::os::unix::fs::chown(&socket, Some(65_534), Some(65_534)).unwrap();
        assert_eq!(closed_part(&socket, WRITE), Some(socket.clone()));
        set_mode(0o757);
        assert_eq!(closed_part(&socket, WRITE), None);
    }

    #[test]
    fn the_hint_names_the_credential_where_there_is_one() {
        let system = hint(&Environment::default(), "mqtt-password", Path::new("/home/pi/p"));
        assert!(system.contains("root without capabilities"), "{system}");
        assert!(system.contains("LoadCredential=mqtt-password:/home/pi/p"), "{system}");
        let key = hint(&Environment::default(), "keyFile", Path::new("/home/pi/k"));
        assert!(key.contains("keyFile = \"/run/credentials/iotmonitor.service/keyFile\""), "{key}");
        let user = Environment { user_manager: true, ..Environment::default() };
        assert!(!hint(&user, "mqtt-password", Path::new("/home/pi/p")).contains("LoadCredential"));
    }
}
