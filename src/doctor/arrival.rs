//! What came of connecting to a peer, as findings. Pure: the error knows everything.
//!
//! What comes behind a failure is not told: nobody knows it.

use super::finding::{Check, Finding};
use crate::config::Peer;
use crate::error_chain;
use crate::ssh::{HostKeyError, KeyError, SshError};

/// The steps of connecting, in order.
const STEPS: [Check; 4] = [Check::Resolve, Check::Connect, Check::HostKey, Check::Login];

/// All went well; `keys` are those that let us in, at each host on the way and at the peer.
pub fn arrived(peer: &Peer, keys: &[String]) -> Vec<Finding> {
    let hosts = peer.reach.jumps.iter().chain([peer]);
    let mut way = String::new();
    let mut findings = Vec::new();
    for (host, key) in hosts.zip(keys) {
        findings.extend(STEPS.into_iter().filter_map(|step| went_well(host, step, &way)));
        let login = findings.last_mut().filter(|finding: &&mut Finding| finding.check == Check::Login);
        login.into_iter().for_each(|finding| finding.text = format!("it lets us in by {key}"));
        way = host.to_string();
    }
    findings
}

/// It failed: what went well before, and what did not.
pub fn failed(peer: &Peer, error: &SshError) -> Vec<Finding> {
    let SshError::Jump { hop, source, .. } = error else {
        return judged(peer, error, "");
    };
    let host = peer.reach.jumps.iter().find(|jump| jump.to_string() == **hop);
    let (Some(host), Some(error)) = (host, source.downcast_ref::<SshError>()) else {
        return judged(peer, error, "");
    };
    let text = format!("it is not reached, since {hop} on the way to it is not, or does not take us further");
    let mut findings = judged(host, error, "");
    findings.push(Finding::fail(Check::Connect, &peer.to_string(), text, format!("see {hop}")));
    findings
}

fn judged(peer: &Peer, error: &SshError, way: &str) -> Vec<Finding> {
    let problem = problem(peer, error);
    // A key that cannot be used is noticed before anything else is tried.
    let before = STEPS.into_iter().take_while(|step| *step != problem.check && !matches!(error, SshError::Key(_)));
    let mut findings: Vec<Finding> = before.filter_map(|step| went_well(peer, step, way)).collect();
    findings.push(problem);
    findings
}

/// `way` is the host by which it is reached; empty for none.
fn went_well(peer: &Peer, step: Check, way: &str) -> Option<Finding> {
    let text = match step {
        // Its name is not resolved here.
        Check::Resolve if !way.is_empty() || peer.dialled().parse::<std::net::IpAddr>().is_ok() => return None,
        Check::Resolve => format!("{} has an address", peer.dialled()),
        Check::Connect if way.is_empty() => "it takes connections".into(),
        Check::Connect => format!("it is reached by way of {way}"),
        Check::HostKey => "it proves to be the host that is known".into(),
        _ => "it lets us in".into(),
    };
    Some(Finding::ok(step, &peer.to_string(), text))
}

fn problem(peer: &Peer, error: &SshError) -> Finding {
    let place = peer.to_string();
    let because = error_chain(error);
    let (check, fix) = match error {
        SshError::Resolve { host, .. } => {
            (Check::Resolve, format!("mend `host`, or add {host} to DNS or /etc/hosts: `getent hosts {host}`"))
        }
        SshError::Timeout { doing: "login to", .. } => (Check::Login, "see the log of its sshd".to_owned()),
        SshError::Timeout { doing: "key exchange with", .. } => (
            Check::Connect,
            "something there takes connections and does not speak SSH in time: see its sshd".to_owned(),
        ),
        SshError::Timeout { .. } => (Check::Connect, reaching(peer)),
        SshError::Connect { .. } => (Check::Connect, reaching(peer)),
        SshError::Forward { .. } => {
            (Check::Connect, "allow it in its sshd_config, and see that it reaches it".to_owned())
        }
        SshError::HostKey(error) => return host_key(&place, error),
        SshError::Key(error) => return key(Check::Login, &place, error),
        SshError::Auth { .. } => (Check::Login, add_key(peer)),
        SshError::Lost { .. } | SshError::Protocol { .. } | SshError::Jump { .. } => {
            (Check::Connect, "see the log of its sshd (MaxStartups, a firewall, an old version?)".to_owned())
        }
    };
    Finding::fail(check, &place, because, fix)
}

fn reaching(peer: &Peer) -> String {
    let (host, port) = (peer.dialled(), peer.port);
    format!("is the host on, does its sshd listen, does a firewall let us through? Try `nc -vz {host} {port}`")
}

fn add_key(peer: &Peer) -> String {
    let key = peer.private_key.as_ref().map(|key| format!("-i {} ", key.display())).unwrap_or_default();
    let (user, host, port) = (&peer.user, peer.dialled(), peer.port);
    format!("add the public key to authorized_keys of {user} there: `ssh-copy-id {key}-p {port} {user}@{host}`")
}

fn host_key(place: &str, error: &HostKeyError) -> Finding {
    let (text, fix) = match error {
        HostKeyError::Unknown { host, algorithm, fingerprint, keyscan, login } => (
            format!("its key is not known as that of {host}: it offers {algorithm} {fingerprint}"),
            format!("compare the fingerprint with `ssh-keygen -lf` there, then pin it: `{keyscan}`, or `{login}`"),
        ),
        HostKeyError::Changed { host, algorithm, fingerprint, file, line, remove } => (
            format!(
                "its key is another than that of {host} in {}:{line}: it offers {algorithm} {fingerprint}; somebody may be in between",
                file.display()
            ),
            format!("only if the host was given a new key, remove the old one: `{remove}`, and look again"),
        ),
        HostKeyError::Revoked { .. } => (error.to_string(), "give the host another key".into()),
        HostKeyError::Record { .. } => (error_chain(error), "let the file be written, or add the key by hand".into()),
    };
    Finding::fail(Check::HostKey, place, text, fix)
}

/// A private key that cannot be used.
pub fn key(check: Check, place: &str, error: &KeyError) -> Finding {
    let (text, fix) = match error {
        KeyError::TooOpen { file, mode } => (
            format!("permissions {mode:04o} of private key {} are too open", file.display()),
            format!("`chmod 600 {}`", file.display()),
        ),
        KeyError::Unreadable { file, .. } => (
            error_chain(error),
            format!("make it: `ssh-keygen -t ed25519 -N '' -f {}`, or mend `private_ssh_key`", file.display()),
        ),
        KeyError::Public { file } => {
            (format!("{} is a public key", file.display()), "name the private key, the file without `.pub`".into())
        }
        KeyError::Unsupported { file, algorithm } => (
            format!("private key {} is of the type {algorithm}, which nobody takes", file.display()),
            "make another: `ssh-keygen -t ed25519`".into(),
        ),
        KeyError::Encrypted { file, agent } => (
            format!("private key {} has a passphrase and {agent}", file.display()),
            "hand the passphrase over as the credential `ssh-passphrase`, or use a key without one".into(),
        ),
        KeyError::SecurityKey { file, agent } => (
            format!("private key {} is on a security key and {agent}", file.display()),
            format!("load it: `ssh-add {}`", file.display()),
        ),
        KeyError::Invalid { .. } | KeyError::Credential { .. } | KeyError::Passphrase { .. } => {
            (error_chain(error), "put the right file there".into())
        }
    };
    Finding::fail(check, place, text, fix)
}

#[cfg(test)]
#[path = "tests/arrival.rs"]
mod tests;
