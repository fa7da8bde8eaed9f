//! What a login offers, in order, once the agent has told what it has.
//!
//! As ssh(1): first the listed keys that the agent has, then the agent's others, then the listed keys that it does not have.
//! No key is offered twice, since sshd counts offers (MaxAuthTries). A key's certificate comes before the key, since where an
//! authority vouches for users, hosts do not list their keys; ssh(1) does so with a `CertificateFile`, and has the key first
//! where the certificate just stands beside it.

use std::sync::Arc;

use jiff::Timestamp;
use russh::keys::agent::AgentIdentity;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey};

use crate::ssh::keys::{ListedKey, Secret, describe};

/// A key or certificate to offer.
#[derive(Debug)]
pub(super) struct Candidate {
    /// What the peer is shown.
    pub(super) shown: AgentIdentity,
    /// Who proves that we have it.
    pub(super) signer: SignedBy,
    /// For people.
    pub(super) name: String,
}

/// Who signs.
#[derive(Debug, Clone)]
pub(super) enum SignedBy {
    /// The agent, asked for this identity of its own.
    Agent(Box<AgentIdentity>),
    /// We.
    File(Arc<PrivateKey>),
}

/// Whether the agent's identities contain this key, or a certificate for it.
pub(super) fn has(agent: &[AgentIdentity], key: &ListedKey) -> bool {
    agent.iter().any(|identity| key_of(identity) == key.public.key_data())
}

/// All candidates, and what cannot be one, with the reason.
pub(super) fn in_order(
    agent: &[AgentIdentity],
    listed: &[ListedKey],
    others_of_agent: bool,
    now: Timestamp,
) -> (Vec<Candidate>, Vec<String>) {
    let mut list = List { now, candidates: Vec::new(), passed_over: Vec::new() };
    listed.iter().filter(|key| has(agent, key)).for_each(|key| list.add_listed(key, agent));
    let is_listed = |identity: &AgentIdentity| listed.iter().any(|key| key.public.key_data() == key_of(identity));
    if others_of_agent {
        agent.iter().filter(|identity| !is_listed(identity)).for_each(|identity| list.add_of_agent(identity));
    }
    listed.iter().filter(|key| !has(agent, key)).for_each(|key| list.add_listed(key, agent));
    (list.candidates, list.passed_over)
}

struct List {
    now: Timestamp,
    candidates: Vec<Candidate>,
    passed_over: Vec<String>,
}

impl List {
    /// The certificate beside the key, other certificates for it that the agent has, and the key itself.
    fn add_listed(&mut self, key: &ListedKey, agent: &[AgentIdentity]) {
        let of_key: Vec<_> = agent.iter().filter(|identity| key_of(identity) == key.public.key_data()).collect();
        let signer = match &key.secret {
            Secret::Here(secret) => Some(SignedBy::File(Arc::clone(secret))),
            Secret::Agent(_) => {
                of_key.iter().find(|identity| is_plain(identity)).map(|&i| SignedBy::Agent(Box::new(i.clone())))
            }
        };
        let fingerprint = key.public.fingerprint(HashAlg::Sha256);
        let beside = key.certificate.as_ref().filter(|_| signer.is_some());
        if let (Some(signer), Some((file, certificate))) = (signer.clone(), beside) {
            let name = format!("{} {fingerprint} {}", file.display(), describe(certificate, self.now));
            self.candidates.push(Candidate { shown: certificate.clone().into(), signer, name });
        }
        let is_beside =
            |identity: &AgentIdentity| beside.is_some_and(|(_, certificate)| is_certificate(identity, certificate));
        for identity in of_key.iter().filter(|identity| !is_plain(identity) && !is_beside(identity)) {
            self.add_of_agent(identity);
        }
        match (signer, &key.secret) {
            (Some(signer), _) => {
                let name = format!("{} {fingerprint}", key.file.display());
                self.candidates.push(Candidate { shown: key.public.clone().into(), signer, name });
            }
            (None, Secret::Agent(why)) if of_key.is_empty() => {
                self.passed_over.push(format!("{} {}", key.file.display(), why.text()));
            }
            // The agent has certificates for it, which it can sign for.
            (None, _) => {}
        }
    }

    fn add_of_agent(&mut self, identity: &AgentIdentity) {
        let fingerprint = key_of(identity).fingerprint(HashAlg::Sha256);
        let name = match identity {
            AgentIdentity::PublicKey { .. } => format!("agent key {fingerprint}"),
            AgentIdentity::Certificate { certificate, .. } => {
                format!("agent certificate {fingerprint} {}", describe(certificate, self.now))
            }
        };
        match unusable(identity) {
            Some(why) => self.passed_over.push(format!("{name} {why}")),
            None => {
                let signer = SignedBy::Agent(Box::new(identity.clone()));
                self.candidates.push(Candidate { shown: identity.clone(), signer, name });
            }
        }
    }
}

/// Why no peer would take it, as OpenSSH since 7.0 (no DSA) judges.
fn unusable(identity: &AgentIdentity) -> Option<&'static str> {
    match identity {
        _ if key_of(identity).algorithm() == Algorithm::Dsa => Some("is of the type DSA"),
        AgentIdentity::Certificate { certificate, .. } if certificate.cert_type() != CertType::User => {
            Some("is a host's")
        }
        _ => None,
    }
}

/// The key itself, which has no comment to differ by.
pub(super) fn key_of(identity: &AgentIdentity) -> &KeyData {
    match identity {
        AgentIdentity::PublicKey { key, .. } => key.key_data(),
        AgentIdentity::Certificate { certificate, .. } => certificate.public_key(),
    }
}

fn is_plain(identity: &AgentIdentity) -> bool {
    matches!(identity, AgentIdentity::PublicKey { .. })
}

/// Whether it is this certificate, whose authority's signature covers all but the comment.
fn is_certificate(identity: &AgentIdentity, certificate: &Certificate) -> bool {
    matches!(identity, AgentIdentity::Certificate { certificate: other, .. }
        if other.public_key() == certificate.public_key() && other.signature() == certificate.signature())
}
