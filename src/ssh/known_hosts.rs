//! The known_hosts files of a policy: read anew for each connection, and written to when a new key is to be accepted.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use tracing::{info, warn};

use super::error::HostKeyError;
use super::host_keys::{DEFAULT_PORT, HostKeys, Position, Verdict, listed_name};
use crate::clock;
use crate::config::{HostKeyPolicy, Peer, SshPolicy};

/// Judges the key that one peer offers on one connection.
#[derive(Debug)]
pub(super) struct HostCheck {
    peer: Peer,
    policy: HostKeyPolicy,
    /// The file that new keys are recorded in, if there is one.
    record: Option<PathBuf>,
    known: HostKeys,
}

impl HostCheck {
    /// Reads the policy's files. One that is missing is empty; one that cannot be read is empty with a warning.
    pub(super) fn read(peer: &Peer, policy: &SshPolicy) -> Self {
        let paths = policy.known_hosts_of(peer);
        let files: Vec<_> = paths.iter().filter_map(|path| Some((path.clone(), text_of(path)?))).collect();
        let (name, port) = listed_as(peer);
        let known = HostKeys::read(&files, name, port);
        for skipped in &known.malformed {
            let Position { file, line } = &skipped.at;
            warn!("skipped line {line} of {}: {}", file.display(), skipped.problem);
        }
        Self { peer: peer.clone(), policy: policy.host_key_policy, record: paths.first().cloned(), known }
    }

    /// See [`HostKeys::ordered`].
    pub(super) fn ordered(&self, algorithms: &[Algorithm]) -> Vec<Algorithm> {
        self.known.ordered(algorithms)
    }

    /// See [`HostKeys::wants_certificates`].
    pub(super) fn wants_certificates(&self) -> bool {
        self.known.wants_certificates()
    }

    /// Accepts or refuses a bare key; a new one is recorded where the policy says so.
    pub(super) fn check_key(&self, key: &PublicKey) -> Result<(), Box<HostKeyError>> {
        self.conclude(self.known.judge(key), key)
    }

    /// Accepts or refuses a certificate.
    pub(super) fn check_certificate(&self, certificate: &Certificate) -> Result<(), Box<HostKeyError>> {
        let now = u64::try_from(clock::now().as_second()).unwrap_or(0);
        let verdict = self.known.judge_certificate(certificate, listed_as(&self.peer).0, now);
        self.conclude(verdict, &PublicKey::from(certificate.public_key().clone()))
    }

    fn conclude(&self, verdict: Verdict, key: &PublicKey) -> Result<(), Box<HostKeyError>> {
        let (name, port) = listed_as(&self.peer);
        let name = listed_name(name, port);
        let algorithm = key.algorithm().to_string();
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        match verdict {
            Verdict::Known => Ok(()),
            Verdict::Unknown if self.policy == HostKeyPolicy::AcceptNew => self.accept(name, key),
            Verdict::Unknown => {
                let file = self.record.as_deref().unwrap_or(Path::new("~/.ssh/known_hosts"));
                let (keyscan, login) = (keyscan(&self.peer, file), login(&self.peer));
                Err(HostKeyError::Unknown { host: name, algorithm, fingerprint, keyscan, login }.into())
            }
            Verdict::Changed(Position { file, line }) => {
                let remove = format!("ssh-keygen -R '{name}' -f {}", file.display());
                let file = file.to_path_buf();
                Err(HostKeyError::Changed { host: name, algorithm, fingerprint, file, line, remove }.into())
            }
            Verdict::Revoked(Position { file, line }) => {
                let file = file.to_path_buf();
                Err(HostKeyError::Revoked { host: name, algorithm, fingerprint, file, line }.into())
            }
        }
    }

    fn accept(&self, host: String, key: &PublicKey) -> Result<(), Box<HostKeyError>> {
        let failed = |file: &Path, source: io::Error| {
            Box::new(HostKeyError::Record { host: host.clone(), file: file.to_path_buf(), source: Arc::new(source) })
        };
        let Some(file) = &self.record else {
            return Err(failed(Path::new("known_hosts"), io::Error::new(ErrorKind::NotFound, "no file is configured")));
        };
        append(file, &host, key).map_err(|source| failed(file, source))?;
        let fingerprint = key.fingerprint(HashAlg::Sha256);
        info!("recorded the new host key of {host} in {}: {} {fingerprint}", file.display(), key.algorithm());
        Ok(())
    }
}

/// The name and port under which known_hosts lists a peer; an alias has no port, like a host on port 22.
fn listed_as(peer: &Peer) -> (&str, u16) {
    match &peer.reach.host_key_alias {
        Some(alias) => (alias, DEFAULT_PORT),
        None => (peer.dialled(), peer.port),
    }
}

/// The command that records a peer's key; it asks from where the peer can be reached.
fn keyscan(peer: &Peer, file: &Path) -> String {
    let mut command = format!("ssh-keyscan -p {} {}", peer.port, peer.dialled());
    if !peer.reach.jumps.is_empty() {
        let hops = peer.reach.jumps.iter().map(destination).collect::<Vec<_>>();
        let (last, before) = hops.split_last().expect("there is a host on the way");
        let way = if before.is_empty() { String::new() } else { format!("-J {} ", before.join(",")) };
        command = format!("ssh {way}ssh://{last} {command}");
    }
    if let Some(alias) = &peer.reach.host_key_alias {
        command = format!("{command} | sed 's/^[^ ]*/{alias}/'");
    }
    format!("{command} >> {}", file.display())
}

/// The command that asks whether to accept a peer's key.
fn login(peer: &Peer) -> String {
    let hops = peer.reach.jumps.iter().map(destination).collect::<Vec<_>>();
    let way = if hops.is_empty() { String::new() } else { format!("-J {} ", hops.join(",")) };
    format!("ssh {way}-p {} {}@{}", peer.port, peer.user, peer.host)
}

/// A host on the way as `ssh -J` takes it.
fn destination(hop: &Peer) -> String {
    let Peer { user, host, port, .. } = hop;
    if host.contains(':') { format!("{user}@[{host}]:{port}") } else { format!("{user}@{host}:{port}") }
}

fn text_of(path: &Path) -> Option<String> {
    match fs::read(path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            warn!("could not read {}: {error}", path.display());
            None
        }
    }
}

/// Adds a line in one write, so that two processes doing so at once lose nothing. The directory is created with 0700,
/// the file with 0600.
fn append(path: &Path, host: &str, key: &PublicKey) -> io::Result<()> {
    let key = PublicKey::from(key.key_data().clone()).to_openssh().map_err(io::Error::other)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let separator = if ends_in_line(&mut file)? { "" } else { "\n" };
    file.write_all(format!("{separator}{host} {}\n", key.trim_end()).as_bytes())
}

fn ends_in_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
