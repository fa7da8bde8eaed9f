//! What known_hosts files say of a host, and what follows for a key that the host offers: text in, decision out.
//!
//! The format and the rules are OpenSSH's (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"; the treatment of several lines was
//! checked against OpenSSH 9.2):
//! - a host on a port other than 22 is looked up as `[host]:port`, and as plain `host` where that has no line;
//! - a key is known when any line of the host has it; when lines of the host list only other keys, of whichever type,
//!   it has changed; an `@revoked` line wins over everything;
//! - an `@cert-authority` line vouches for host certificates and never for a bare key.
//!
//! Reading files and recording new keys is not done here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::known_hosts::{HostPatterns, Marker};
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use sha1::Sha1;

/// The port whose hosts are listed without it.
const DEFAULT_PORT: u16 = 22;

/// The name under which known_hosts lists a host: `host`, or `[host]:port` when the port is not 22; in lower case.
pub fn listed_name(host: &str, port: u16) -> String {
    let host = host.to_lowercase();
    if port == DEFAULT_PORT { host } else { format!("[{host}]:{port}") }
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
        if self.vouches(certificate, &host.to_lowercase(), now) { Verdict::Known } else { self.judge(&key) }
    }

    /// Whether certificates are worth asking for.
    pub fn has_authority(&self) -> bool {
        self.authorities().next().is_some()
    }

    /// `algorithms` in the order in which to ask for them: those of which a key of the host is listed come first, so that the
    /// host proves itself with a key that can be checked.
    pub fn ordered(&self, algorithms: &[Algorithm]) -> Vec<Algorithm> {
        let plain = |entries: &[Entry]| {
            entries.iter().filter(|e| e.marker.is_none()).map(|e| family(&e.key.algorithm())).collect::<Vec<_>>()
        };
        let mut listed = plain(&self.named);
        if listed.is_empty() {
            listed = plain(&self.portless);
        }
        let (mut first, rest): (Vec<_>, Vec<_>) =
            algorithms.iter().cloned().partition(|algorithm| listed.contains(&family(algorithm)));
        first.extend(rest);
        first
    }

    fn revoking(&self, key: &PublicKey) -> Option<&Entry> {
        let mut all = self.named.iter().chain(&self.portless);
        all.find(|e| e.marker == Some(Marker::Revoked) && e.key.key_data() == key.key_data())
    }

    fn authorities(&self) -> impl Iterator<Item = &Entry> {
        self.named.iter().chain(&self.portless).filter(|e| e.marker == Some(Marker::CertAuthority))
    }

    /// The rules of OpenSSH's PROTOCOL.certkeys for host certificates; signatures by SHA-1 do not count.
    fn vouches(&self, certificate: &Certificate, host: &str, now: u64) -> bool {
        let trusted: Vec<_> = self.authorities().map(|e| e.key.fingerprint(HashAlg::Sha256)).collect();
        let principals = certificate.valid_principals();
        certificate.cert_type() == CertType::Host
            && certificate.signature().algorithm() != (Algorithm::Rsa { hash: None })
            && certificate.validate_at(now, &trusted).is_ok()
            && certificate.critical_options().is_empty()
            && (principals.is_empty() || principals.iter().any(|p| matches_glob(p.as_bytes(), host.as_bytes())))
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

/// The key type behind an algorithm: RSA keys sign with several hashes.
fn family(algorithm: &Algorithm) -> Algorithm {
    match algorithm {
        Algorithm::Rsa { .. } => Algorithm::Rsa { hash: None },
        other => other.clone(),
    }
}

/// The fields of a line, not yet looked into.
struct Fields<'a> {
    marker: Option<&'a str>,
    hosts: &'a str,
    /// Type and base64.
    key: [&'a str; 2],
}

impl<'a> Fields<'a> {
    /// `None` for an empty line or a comment.
    fn split(line: &'a str) -> Result<Option<Self>, &'static str> {
        let mut words = line.split_ascii_whitespace();
        let Some(mut first) = words.next().filter(|word| !word.starts_with('#')) else { return Ok(None) };
        let mut marker = None;
        if first.starts_with('@') {
            marker = Some(first);
            first = words.next().ok_or("no host after the marker")?;
        }
        let (Some(key_type), Some(key)) = (words.next(), words.next()) else { return Err("fields are missing") };
        Ok(Some(Self { marker, hosts: first, key: [key_type, key] }))
    }

    fn marker(&self) -> Result<Option<Marker>, &'static str> {
        self.marker.map(str::parse).transpose().map_err(|_| "unknown marker")
    }

    fn key(&self) -> Result<PublicKey, &'static str> {
        PublicKey::from_openssh(&self.key.join(" ")).map_err(|_| "not a public key")
    }

    fn lists(&self, name: &str) -> Result<bool, &'static str> {
        if self.hosts.starts_with("|") {
            return match self.hosts.parse() {
                Ok(HostPatterns::HashedName { salt, hash }) => is_hash_of(name, &salt, &hash),
                _ => Err("hashed host name is damaged"),
            };
        }
        let mut listed = false;
        for pattern in self.hosts.split(',').filter(|pattern| !pattern.is_empty()) {
            let pattern = pattern.to_lowercase();
            match pattern.strip_prefix('!') {
                Some(excluded) if matches_glob(excluded.as_bytes(), name.as_bytes()) => return Ok(false),
                Some(_) => {}
                None => listed |= matches_glob(pattern.as_bytes(), name.as_bytes()),
            }
        }
        Ok(listed)
    }
}

/// HMAC-SHA1 of the name with the salt as key, in constant time.
fn is_hash_of(name: &str, salt: &[u8], hash: &[u8]) -> Result<bool, &'static str> {
    let mut mac = Hmac::<Sha1>::new_from_slice(salt).map_err(|_| "salt of the hashed host name is damaged")?;
    mac.update(name.as_bytes());
    Ok(mac.verify_slice(hash).is_ok())
}

/// `*` stands for any number of characters, `?` for one; everything else, brackets too, for itself.
fn matches_glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((after_star, from)) => {
                    retry = Some((after_star, from + 1));
                    (p, n) = (after_star, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests;
