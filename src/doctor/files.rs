//! The files on this host that a configuration names: private keys, lists of known hosts, certificates, secrets.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::{Check, Finding};
use super::needs::{self, Needs};
use super::{HERE, arrival};
use crate::config::{Config, Credentials, HostKeyPolicy, Password, Peer, Secret, SecretFile, Way};
use crate::ssh;

/// A file, and what names it.
type Named = (PathBuf, String);

/// The private keys that the configuration names, each once.
pub fn keys(needs: &Needs) -> Vec<PathBuf> {
    let mut keys: Vec<PathBuf> = hosts(needs).filter_map(|host| host.private_key.clone()).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// All peers, and the hosts on the way to them.
fn hosts(needs: &Needs) -> impl Iterator<Item = &Peer> {
    needs.peers.iter().flat_map(|(peer, _)| peer.reach.jumps.iter().chain([peer]))
}

/// Whether systemd hands the file over, so that its owner and mode do not matter before.
pub fn is_credential(path: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY")
        .is_some_and(|directory| !directory.is_empty() && path.starts_with(directory))
}

/// Judges a private key for whoever runs this.
pub fn key(file: &Path) -> Finding {
    match ssh::judge_key(file) {
        Ok(()) => Finding::ok(Check::Key, HERE, format!("private key {} can be used", file.display())),
        Err(error) => arrival::key(Check::Key, HERE, &error),
    }
}

/// Other files that are read: certificates, secrets, lists for rsync.
pub fn read(config: &Config, needs: &Needs) -> Vec<Named> {
    let mut files = Vec::new();
    let metrics = &config.metrics;
    for credentials in [&metrics.page_auth, &metrics.metrics_auth].into_iter().flatten() {
        match credentials {
            Credentials::Bearer(secret) | Credentials::Basic { password: Password::Secret(secret), .. } => {
                files.extend(of_secret_file(secret).map(|path| (path, "`metrics.auth`".to_owned())));
            }
            Credentials::Basic { password: Password::Hash(_), .. } => {}
        }
    }
    if let Some(tls) = &metrics.tls {
        files.extend([&tls.cert, &tls.key].map(|path| (path.clone(), "`metrics.tls`".to_owned())));
    }
    for target in config.jobs.iter().flat_map(|job| &job.notify) {
        if let Way::Http(http) = &target.way {
            let secrets = [&http.url].into_iter().chain(http.headers.iter().map(|(_, secret)| secret));
            let paths = secrets.filter_map(|secret| match secret {
                Secret::File(path) => Some(path.clone()),
                Secret::Text(_) | Secret::Credential(_) => None,
            });
            files.extend(paths.chain(http.ca_file.clone()).map(|path| (path, "`notify`".to_owned())));
        }
    }
    for end in &needs.here.ends {
        files.extend(needs::option_files(&end.opts).0.into_iter().map(|path| (path, end.name.clone())));
    }
    files.sort();
    files.dedup();
    files
}

fn of_secret_file(secret: &SecretFile) -> Option<PathBuf> {
    match secret {
        SecretFile::File(path) => Some(path.clone()),
        SecretFile::Credential(_) => None,
    }
}

/// Judges a file that has to be read.
pub fn file((path, who): &Named) -> Finding {
    let shown = path.display();
    match File::open(path) {
        Ok(_) => Finding::ok(Check::File, HERE, format!("{shown} can be read ({who})")),
        Err(error) => {
            let fix = if error.kind() == io::ErrorKind::NotFound {
                "put it there, or mend the path"
            } else {
                "let it be read"
            };
            Finding::fail(Check::File, HERE, format!("{shown} cannot be read: {error}, which {who} names"), fix)
        }
    }
}

/// The lists of known host keys, where there are peers.
pub fn known_hosts(config: &Config, needs: &Needs) -> Vec<Finding> {
    let mut files: Vec<&PathBuf> = hosts(needs).flat_map(|host| config.ssh.known_hosts_of(host)).collect();
    files.sort();
    files.dedup();
    let mut findings = Vec::new();
    let mut read = Vec::new();
    for file in &files {
        match fs::metadata(file).and_then(|metadata| File::open(file).map(|_| metadata)) {
            Ok(metadata) if metadata.mode() & 0o022 != 0 => {
                let text = format!("others can write {}, and so say whom we trust", file.display());
                findings.push(Finding::warn(Check::KnownHosts, HERE, text, format!("`chmod go-w {}`", file.display())));
            }
            Ok(_) => read.push(file.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let text = format!("{} cannot be read: {error}", file.display());
                findings.push(Finding::warn(Check::KnownHosts, HERE, text, "let it be read"));
            }
        }
    }
    let is_strict = config.ssh.host_key_policy == HostKeyPolicy::Strict;
    if !read.is_empty() {
        findings.push(Finding::ok(Check::KnownHosts, HERE, format!("host keys are looked up in {}", read.join(", "))));
    } else if findings.is_empty() && !files.is_empty() && is_strict {
        let list = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
        let text = format!("no host is known: there is none of {list}");
        findings.push(Finding::fail(
            Check::KnownHosts,
            HERE,
            text,
            "`ssh-keyscan HOST >> FILE`, once the key was compared",
        ));
    }
    findings
}
