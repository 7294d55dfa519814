//! The files of certificates and keys that the configuration names.
//!
//! A file often has the right contents in the wrong format, so each error names the command that
//! converts it.

use super::rustls;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// More than the certificates of all public authorities together.
const LARGEST_FILE: u64 = 4 << 20;

/// Explains why a file cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable { path: PathBuf, what: Content, source: io::Error },
    #[error("{} is too large for a file of {what}s", .path.display())]
    TooLarge { path: PathBuf, what: Content },
    #[error("{} holds no {what} in PEM format", .path.display())]
    Missing { path: PathBuf, what: Content },
    #[error("{} holds a {found} instead of a {what}", .path.display())]
    Mistaken { path: PathBuf, what: Content, found: Content },
    #[error("{} holds no usable {what}: {reason}", .path.display())]
    Unusable { path: PathBuf, what: Content, reason: String },
    #[error(
        "{} is in DER format, and PEM is needed: turn it into PEM with `{}`",
        .path.display(),
        from_der(.path, *.what)
    )]
    Der { path: PathBuf, what: Content },
    #[error(
        "{} is a PKCS#12 archive, and PEM is needed: take the {what} out of it with `{}`",
        .path.display(),
        from_pkcs12(.path, *.what)
    )]
    Pkcs12 { path: PathBuf, what: Content },
    #[error(
        "the private key in {} is encrypted, and its passphrase cannot be asked for: decrypt it with `{}`",
        .path.display(),
        decrypted(.path)
    )]
    Encrypted { path: PathBuf },
    #[error("the certificate {} and its key do not fit: {source}", .path.display())]
    Pair { path: PathBuf, source: rustls::Error },
}

impl FileError {
    /// The expected contents of the file.
    #[must_use]
    pub fn concerns(&self) -> Content {
        match self {
            Self::Unreadable { what, .. }
            | Self::TooLarge { what, .. }
            | Self::Missing { what, .. }
            | Self::Mistaken { what, .. }
            | Self::Unusable { what, .. }
            | Self::Der { what, .. }
            | Self::Pkcs12 { what, .. } => *what,
            Self::Encrypted { .. } => Content::Key,
            Self::Pair { .. } => Content::Certificate,
        }
    }
}

/// The object that is searched for in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Certificate,
    Key,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Key => "private key",
        })
    }
}

/// The certificates to trust.
#[derive(Debug)]
pub(super) struct Trusted {
    pub authorities: RootCertStore,
    /// The certificates of the file as they are, because a server may present one of them itself.
    pub named: Vec<CertificateDer<'static>>,
}

/// Reads the file that `caFile` names.
///
/// # Errors
/// Returns an error when no certificate in it can be used.
pub(super) fn trusted(path: &Path) -> Result<Trusted, FileError> {
    let named = certificates(path)?;
    let mut authorities = RootCertStore::empty();
    let mut reason = String::new();
    for certificate in &named {
        if let Err(error) = authorities.add(certificate.clone()) {
            reason = error.to_string();
        }
    }
    if authorities.is_empty() {
        let path = path.to_owned();
        return Err(FileError::Unusable { path, what: Content::Certificate, reason });
    }
    Ok(Trusted { authorities, named })
}

/// Reads a client's certificate, its chain, and its key.
///
/// # Errors
/// Returns an error when one of the files cannot be used, or they do not belong together.
pub(super) fn client(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, FileError> {
    let chain = certificates(certificate)?;
    let private = private_key(key)?;
    provider.key_provider.load_private_key(private.clone_key()).map_err(|error| {
        let (path, reason) = (key.to_owned(), error.to_string());
        FileError::Unusable { path, what: Content::Key, reason }
    })?;
    CertifiedKey::from_der(chain, private, provider)
        .map_err(|source| FileError::Pair { path: certificate.to_owned(), source })
}

/// Checks whether the file that `caFile` names can be used.
///
/// # Errors
/// Returns the obstacle.
pub fn check_authorities(path: &Path) -> Result<(), FileError> {
    trusted(path).map(|_| ())
}

/// Checks whether the files that `certFile` and `keyFile` name can be used.
///
/// # Errors
/// Returns the obstacle.
pub fn check_client(certificate: &Path, key: &Path) -> Result<(), FileError> {
    client(certificate, key, &ring::default_provider()).map(|_| ())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let what = Content::Certificate;
    let bytes = read(path, what)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) if holds(&bytes, "PRIVATE KEY") => {
            Err(FileError::Mistaken { path: path.to_owned(), what, found: Content::Key })
        }
        Ok(_) => Err(no_pem(path, &bytes, what)),
        Err(error) => Err(damaged(path, what, &error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let what = Content::Key;
    let bytes = read(path, what)?;
    let path = path.to_owned();
    // PKCS#8 names it in the label (RFC 7468, 11), the older formats in a header (RFC 1421, 4.6).
    if holds(&bytes, "BEGIN ENCRYPTED PRIVATE KEY") || holds(&bytes, "4,ENCRYPTED") {
        return Err(FileError::Encrypted { path });
    }
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if holds(&bytes, "BEGIN CERTIFICATE") => {
            Err(FileError::Mistaken { path, what, found: Content::Certificate })
        }
        Err(pem::Error::NoItemsFound) => Err(no_pem(&path, &bytes, what)),
        Err(error) => Err(damaged(&path, what, &error)),
    }
}

fn damaged(path: &Path, what: Content, error: &pem::Error) -> FileError {
    FileError::Unusable { path: path.to_owned(), what, reason: error.to_string() }
}

/// The contents of a file that is not PEM.
fn no_pem(path: &Path, bytes: &[u8], what: Content) -> FileError {
    let path = path.to_owned();
    match first_in_sequence(bytes) {
        // The version of a PKCS#12 archive (RFC 7292, 4).
        Some([0x02, 0x01, 0x03, ..]) => FileError::Pkcs12 { path, what },
        // A certificate begins with a sequence (RFC 5280, 4.1), a key with its version of 0 or 1
        // (RFC 5958, 2; RFC 8017, A.1.2; RFC 5915, 3).
        Some([0x30, ..]) | Some([0x02, 0x01, 0x00 | 0x01, ..]) => FileError::Der { path, what },
        Some(_) | None => FileError::Missing { path, what },
    }
}

/// The start of a sequence that takes up all the bytes (X.690, 8.1).
fn first_in_sequence(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(&[0x30])?;
    let (&first, rest) = rest.split_first()?;
    let (length, content) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, content) = rest.split_at_checked(usize::from(first & 0x7F))?;
        let shifted = |length: usize, &digit: &u8| {
            length.checked_mul(256).map(|length| length + usize::from(digit))
        };
        (digits.iter().try_fold(0, shifted)?, content)
    };
    (content.len() == length).then_some(content)
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn read(path: &Path, what: Content) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
    match read {
        Err(source) => Err(FileError::Unreadable { path: path.to_owned(), what, source }),
        Ok(_) if bytes.len() as u64 > LARGEST_FILE => {
            Err(FileError::TooLarge { path: path.to_owned(), what })
        }
        Ok(_) => Ok(bytes),
    }
}

fn from_der(path: &Path, what: Content) -> String {
    let (old, new) = names(path);
    match what {
        Content::Certificate => format!("openssl x509 -inform DER -in {old} -out {new}"),
        Content::Key => format!("openssl pkey -inform DER -in {old} -out {new}"),
    }
}

fn from_pkcs12(path: &Path, what: Content) -> String {
    let (old, new) = names(path);
    match what {
        Content::Certificate => format!("openssl pkcs12 -in {old} -nokeys -out {new}"),
        Content::Key => format!("openssl pkcs12 -in {old} -nocerts -nodes -out {new}"),
    }
}

fn decrypted(path: &Path) -> String {
    let (old, new) = names(path);
    format!("openssl pkey -in {old} -out {new}")
}

/// A file and the one to create from it, quoted for a shell.
fn names(path: &Path) -> (String, String) {
    let old = path.display().to_string();
    let new = format!("{old}.pem");
    (in_shell(&old).into_owned(), in_shell(&new).into_owned())
}

fn in_shell(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%".contains(c);
    if text.chars().all(is_plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_sequence_is_taken_for_der() {
        assert_eq!(first_in_sequence(&[0x30, 3, 2, 1, 3]), Some(&[2, 1, 3][..]));
        assert_eq!(first_in_sequence(&[0x30, 0x81, 3, 2, 1, 3]), Some(&[2, 1, 3][..]));
        let broken: [&[u8]; 7] = [
            &[],
            &[0x30],
            &[0x30, 3, 2, 1],
            &[0x30, 2, 2, 1, 3],
            &[0x30, 0x81],
            &[0x30, 0x89, 255, 255, 255, 255, 255, 255, 255, 255, 255],
            b"0\x0bhello world!",
        ];
        for bytes in broken {
            assert_eq!(first_in_sequence(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_path_is_quoted_where_the_shell_would_read_it_otherwise() {
        assert_eq!(in_shell("/etc/a-b_c.d"), "/etc/a-b_c.d");
        assert_eq!(in_shell("/etc/my key"), "'/etc/my key'");
        assert_eq!(in_shell("it's"), r"'it'\''s'");
    }
}
