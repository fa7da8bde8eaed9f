//! One line of a known_hosts file: its fields, whom it is about, and the key in it.
//!
//! As lenient and as strict as OpenSSH 9.2, whose answers are the reference (`ssh::tests::host_key_table`): what it skips
//! must not make a key known here. The one line that counts here and not there is `@revoked` with a tab after it.

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::known_hosts::{HostPatterns, Marker};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, PublicKey};
use sha1::Sha1;

/// A line with a longer pattern among its names is about nobody.
const PATTERN_MAX: usize = 1022;
/// Bytes of the salt of a hashed name.
const SALT_LEN: usize = 20;

/// How RSA keys sign; ssh takes it for the key's type.
const RSA_ALGORITHMS: [&str; 2] = ["rsa-sha2-256", "rsa-sha2-512"];

/// The fields of a line, not yet looked into.
pub(super) struct Fields<'a> {
    marker: Option<&'a str>,
    hosts: &'a str,
    /// Type and base64.
    key: [&'a str; 2],
}

impl<'a> Fields<'a> {
    /// `None` for an empty line or a comment.
    pub(super) fn split(line: &'a str) -> Result<Option<Self>, &'static str> {
        let line = line.split('\0').next().unwrap_or(line).trim_start_matches([' ', '\t']);
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let Some(mut first) = words.next().filter(|word| !word.starts_with('#')) else { return Ok(None) };
        let mut marker = None;
        if first.starts_with('@') {
            // In a line that has a space somewhere, that is where ssh looks for the marker's end.
            let overlooked = line[first.len()..].starts_with('\t') && line.contains(' ');
            if overlooked && first != Marker::Revoked.as_str() {
                return Err("a tab after the marker");
            }
            marker = Some(first);
            first = words.next().ok_or("no host after the marker")?;
        }
        let (Some(key_type), Some(key)) = (words.next(), words.next()) else { return Err("fields are missing") };
        Ok(Some(Self { marker, hosts: first, key: [key_type, key] }))
    }

    pub(super) fn marker(&self) -> Result<Option<Marker>, &'static str> {
        self.marker.map(str::parse).transpose().map_err(|_| "unknown marker")
    }

    /// The key; a certificate stays one.
    pub(super) fn key(&self) -> Result<PublicKey, &'static str> {
        let [key_type, key] = self.key;
        let key_type = if RSA_ALGORITHMS.contains(&key_type) { "ssh-rsa" } else { key_type };
        let line = format!("{key_type} {}", key.trim_ascii_end());
        if key_type.ends_with("-cert-v01@openssh.com") {
            let certificate = Certificate::from_openssh(&line).map_err(|_| "not a certificate")?;
            return Ok(KeyData::Certificate(Box::new(certificate)).into());
        }
        let key = PublicKey::from_openssh(&line).map_err(|_| "not a public key")?;
        // The library lets a certificate pass under the type of its key.
        if matches!(key.key_data(), KeyData::Certificate(_)) { Err("not a public key") } else { Ok(key) }
    }

    /// Whether the line is about the host of this name, which is in lower case.
    pub(super) fn lists(&self, name: &str) -> Result<bool, &'static str> {
        if self.hosts.starts_with('|') {
            return match self.hosts.parse() {
                Ok(HostPatterns::HashedName { salt, hash }) if salt.len() == SALT_LEN => is_hash_of(name, &salt, &hash),
                _ => Err("hashed host name is damaged"),
            };
        }
        let mut listed = false;
        for pattern in self.hosts.split(',').filter(|pattern| !pattern.is_empty()) {
            let pattern = pattern.to_ascii_lowercase();
            let (excludes, pattern) = pattern.strip_prefix('!').map_or((false, &*pattern), |rest| (true, rest));
            if pattern.len() > PATTERN_MAX {
                return Err("a host pattern is too long");
            }
            if matches_glob(pattern.as_bytes(), name.as_bytes()) {
                if excludes {
                    return Ok(false);
                }
                listed = true;
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
