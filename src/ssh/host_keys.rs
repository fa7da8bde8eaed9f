//! What known_hosts files say of a host, and what follows for a key that the host offers: text in, decision out.
//!
//! The format and the rules are OpenSSH's (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). Where that leaves a question open, what ssh
//! 9.2 does is the answer: `ssh::tests::host_key_table` compares case by case, and nothing in it that ssh refuses is accepted here.
//! In short:
//! - a host on a port other than 22 is looked up as `[host]:port`, and as plain `host` where that has no line;
//! - a key is known when any line of the host has it; when lines of the host list only other keys, of whichever type,
//!   it has changed; an `@revoked` line wins over everything;
//! - an `@cert-authority` line vouches for host certificates and never for a bare key.
//!
//! Reading files and recording new keys is not done here.

mod line;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::known_hosts::Marker;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};

use self::line::Fields;

/// The port whose hosts are listed without it.
pub const DEFAULT_PORT: u16 = 22;

/// The name under which known_hosts lists a host: `host`, or `[host]:port` when the port is not 22; in lower case, an address
/// in its usual form.
pub fn listed_name(host: &str, port: u16) -> String {
    let host = canonical(host);
    if port == DEFAULT_PORT { host } else { format!("[{host}]:{port}") }
}

fn canonical(host: &str) -> String {
    host.parse::<IpAddr>().map_or_else(|_| host.to_ascii_lowercase(), |address| address.to_string())
}

/// What is known of one host.
#[derive(Debug, Default)]
pub struct HostKeys {
    /// Lines of the host under its full name.
    named: Vec<Entry>,
    /// Lines of the host without the port; they count only for a port other than 22 that has no lines of its own.
    portless: Vec<Entry>,
    /// Lines that could not be read and were skipped.
    pub malformed: Vec<Malformed>,
}

/// A line that lists a key.
#[derive(Debug)]
struct Entry {
    marker: Option<Marker>,
    key: PublicKey,
    at: Position,
}

/// Where a line stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file.
    pub file: Arc<Path>,
    /// Number of the line, from 1.
    pub line: usize,
}

/// A line that is not as the format wants it.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Where.
    pub at: Position,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// What follows for a key that the host offers.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the host's.
    Known,
    /// Nothing is known of the host.
    Unknown,
    /// The host is known by other keys; the position is that of one of them, of the same type if there is one.
    Changed(Position),
    /// The key must not be trusted.
    Revoked(Position),
}

impl HostKeys {
    /// Collects what `files` (path and content, in order of preference) say of `host` on `port`.
    pub fn read(files: &[(PathBuf, String)], host: &str, port: u16) -> Self {
        let names = [listed_name(host, port), listed_name(host, DEFAULT_PORT)];
        let mut found = Self::default();
        for (path, text) in files {
            let file: Arc<Path> = path.as_path().into();
            for (index, line) in text.lines().enumerate() {
                let at = Position { file: Arc::clone(&file), line: index + 1 };
                if let Err(problem) = found.add(line, &names, &at) {
                    found.malformed.push(Malformed { at, problem });
                }
            }
        }
        found
    }

    /// Takes in a line that is about the host with these names, the full one and the one without a port. The key of a line
    /// about others is not looked at: files of thousands of lines are common.
    fn add(&mut self, line: &str, [name, portless]: &[String; 2], at: &Position) -> Result<(), &'static str> {
        let Some(fields) = Fields::split(line)? else { return Ok(()) };
        let entries = if fields.lists(name)? {
            &mut self.named
        } else if fields.lists(portless)? {
            &mut self.portless
        } else {
            return Ok(());
        };
        let (marker, key) = (fields.marker()?, fields.key()?);
        entries.push(Entry { marker, key, at: at.clone() });
        Ok(())
    }

    /// Judges a bare key.
    pub fn judge(&self, key: &PublicKey) -> Verdict {
        if let Some(entry) = self.revoking(key) {
            return Verdict::Revoked(entry.at.clone());
        }
        match judge_among(&self.named, key) {
            Verdict::Unknown if judge_among(&self.portless, key) == Verdict::Known => Verdict::Known,
            verdict => verdict,
        }
    }

    /// Judges a host certificate for `host` (without a port) at `now` (seconds since the Unix epoch): one that a listed
    /// authority vouches for is known; any other is judged by the key inside it, as a bare key.
    pub fn judge_certificate(&self, certificate: &Certificate, host: &str, now: u64) -> Verdict {
        let authority = PublicKey::from(certificate.signature_key().clone());
        let key = PublicKey::from(certificate.public_key().clone());
        if let Some(entry) = self.revoking(&authority).or_else(|| self.revoking(&key)) {
            return Verdict::Revoked(entry.at.clone());
        }
        if self.vouches(certificate, &canonical(host), now) { Verdict::Known } else { self.judge(&key) }
    }

    /// Whether certificates are worth asking for: there is an authority that may vouch for the host, or a revoked key that
    /// may turn out to be its authority.
    pub fn wants_certificates(&self) -> bool {
        self.named.iter().chain(&self.portless).any(|e| e.marker.is_some())
    }

    /// `algorithms` in the order in which to ask for them: those of which a key of the host is listed, and not revoked, come
    /// first, so that the host proves itself with a key that can be checked. As with ssh, lines without the port have no say.
    pub fn ordered(&self, algorithms: &[Algorithm]) -> Vec<Algorithm> {
        let plain = self.named.iter().filter(|e| e.marker.is_none() && self.revoking(&e.key).is_none());
        let listed: Vec<_> = plain.map(|e| family(&e.key.algorithm())).collect();
        let (mut first, rest): (Vec<_>, Vec<_>) =
            algorithms.iter().cloned().partition(|algorithm| listed.contains(&family(algorithm)));
        first.extend(rest);
        first
    }

    fn revoking(&self, key: &PublicKey) -> Option<&Entry> {
        let mut all = self.named.iter().chain(&self.portless);
        all.find(|e| e.marker == Some(Marker::Revoked) && bare(&e.key) == key.key_data())
    }

    fn authorities(&self) -> impl Iterator<Item = &Entry> {
        self.named.iter().chain(&self.portless).filter(|e| e.marker == Some(Marker::CertAuthority))
    }

    /// The rules of OpenSSH's PROTOCOL.certkeys for host certificates; signatures by SHA-1 do not count, and a principal is a
    /// name, not a pattern.
    fn vouches(&self, certificate: &Certificate, host: &str, now: u64) -> bool {
        let trusted: Vec<_> = self.authorities().map(|e| e.key.fingerprint(HashAlg::Sha256)).collect();
        let principals = certificate.valid_principals();
        certificate.cert_type() == CertType::Host
            && certificate.signature().algorithm() != (Algorithm::Rsa { hash: None })
            && certificate.validate_at(now, &trusted).is_ok()
            && certificate.critical_options().is_empty()
            && (principals.is_empty() || principals.iter().any(|p| p == host))
    }
}

fn judge_among(entries: &[Entry], key: &PublicKey) -> Verdict {
    let plain = || entries.iter().filter(|e| e.marker.is_none());
    if plain().any(|e| e.key.key_data() == key.key_data()) {
        return Verdict::Known;
    }
    let other = plain().find(|e| e.key.algorithm() == key.algorithm()).or_else(|| plain().next());
    other.map_or(Verdict::Unknown, |e| Verdict::Changed(e.at.clone()))
}

/// The key that a line is about; that of a certificate is the certified one.
fn bare(listed: &PublicKey) -> &KeyData {
    match listed.key_data() {
        KeyData::Certificate(certificate) => certificate.public_key(),
        key => key,
    }
}

/// The key type behind an algorithm: RSA keys sign with several hashes.
fn family(algorithm: &Algorithm) -> Algorithm {
    match algorithm {
        Algorithm::Rsa { .. } => Algorithm::Rsa { hash: None },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
