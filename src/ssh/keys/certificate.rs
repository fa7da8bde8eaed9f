//! User certificates: the file beside a key, and what people are told about one (PROTOCOL.certkeys of OpenSSH).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Certificate, PublicKey};

use super::beside as named_beside;

/// The user certificate in the file with `-cert.pub` beside a key file, if there is one. What cannot be used there is the
/// error: a sentence for the message of a login that fails.
///
/// Its time is not judged: the peer's clock decides, not ours.
pub(super) fn beside(key_file: &Path, key: &PublicKey) -> Result<Option<(PathBuf, Certificate)>, String> {
    let file = named_beside(key_file, "-cert.pub");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("could not read certificate {}: {error}", file.display())),
    };
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or("");
    let certificate =
        Certificate::from_openssh(line).map_err(|error| format!("{} is not a certificate: {error}", file.display()))?;
    if certificate.cert_type() != CertType::User {
        return Err(format!("{} is a host's certificate, not a user's", file.display()));
    }
    if certificate.public_key() != key.key_data() {
        return Err(format!("{} certifies another key than {}", file.display(), key_file.display()));
    }
    Ok(Some((file, certificate)))
}

/// What a peer looks at, for the message of a login that it refused: `(ID "ann" for root, backup; expired at …)`.
pub(in crate::ssh) fn describe(certificate: &Certificate, now: Timestamp) -> String {
    let principals = match certificate.valid_principals() {
        [] => "without principals".to_owned(),
        names => format!("for {}", names.join(", ").escape_debug()),
    };
    // A time that no calendar has is "for ever".
    let at = |seconds: u64| i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let validity = match (at(certificate.valid_after()), at(certificate.valid_before())) {
        (Some(begin), _) if now < begin => format!("; not valid before {begin}"),
        (_, Some(end)) if now >= end => format!("; expired at {end}"),
        _ => String::new(),
    };
    format!("(ID {:?} {principals}{validity})", certificate.key_id())
}
