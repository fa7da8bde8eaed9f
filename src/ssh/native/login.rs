//! Login by public key or user certificate: what the agent and the key files give (`candidates`), one after the other.
//! Nothing else is tried.

use std::path::Path;
use std::sync::OnceLock;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::ssh_key::{self, Signature};
use russh::keys::{HashAlg, PrivateKey, signature};
use russh::{AgentAuthError, MethodKind, Signer};
use tokio::net::UnixStream;
use tracing::debug;

use super::candidates::{self, Candidate, SignedBy, key_of};
use super::{Gate, from_library, lost};
use crate::clock;
use crate::config::Peer;
use crate::ssh::error::SshError;
use crate::ssh::keys::{AgentUse, Offer, Sources};

const DOING: &str = "login to";

type Agent = AgentClient<UnixStream>;

/// Offers keys until the peer accepts one; tells which, for people.
pub(super) async fn login(
    handle: &mut Handle<Gate>,
    peer: &Peer,
    offer: Offer,
    sources: &Sources,
    farewell: &OnceLock<String>,
) -> Result<String, SshError> {
    let (agent, tried, passed_over) = (None, Vec::new(), offer.passed_over);
    let mut attempt = Attempt { handle, peer, farewell, rsa_hash: None, agent, tried, passed_over };
    let identities = attempt.consult_agent(&offer.agent, sources).await?;
    let (candidates, unusable) = match &offer.agent {
        AgentUse::Listed(why, file) if !offer.keys.iter().any(|key| candidates::has(&identities, key)) => {
            return Err(why.error(file, "the agent does not have it").into());
        }
        usage => {
            let others_of_agent = matches!(usage, AgentUse::Everything);
            candidates::in_order(&identities, &offer.keys, others_of_agent, clock::now())
        }
    };
    attempt.passed_over.extend(unusable);
    for candidate in candidates {
        let name = candidate.name.clone();
        if attempt.with(candidate).await? {
            return Ok(name);
        }
    }
    Err(attempt.refused())
}

struct Attempt<'a> {
    handle: &'a mut Handle<Gate>,
    peer: &'a Peer,
    /// What the peer said when it ended the connection by itself.
    farewell: &'a OnceLock<String>,
    /// What the peer's SSH server takes for RSA keys; asked for once, at the first such key.
    rsa_hash: Option<HashAlg>,
    /// The agent, once it has answered.
    agent: Option<Agent>,
    tried: Vec<String>,
    passed_over: Vec<String>,
}

impl Attempt<'_> {
    /// What the agent has. One that cannot be asked is an error only when the configured key needs it.
    async fn consult_agent(&mut self, usage: &AgentUse, sources: &Sources) -> Result<Vec<AgentIdentity>, SshError> {
        let Some(socket) = &sources.agent else { return Ok(Vec::new()) };
        if matches!(usage, AgentUse::Nothing) {
            return Ok(Vec::new());
        }
        match (self.identities(socket).await, usage) {
            (Ok((agent, identities)), _) => {
                self.agent = Some(agent);
                Ok(identities)
            }
            (Err(_), AgentUse::Listed(why, file)) => {
                Err(why.error(file, "the agent of SSH_AUTH_SOCK does not answer").into())
            }
            (Err(error), _) => {
                self.passed_over.push(format!("the agent at {} did not answer ({error})", socket.display()));
                Ok(Vec::new())
            }
        }
    }

    async fn identities(&self, socket: &Path) -> Result<(Agent, Vec<AgentIdentity>), russh::keys::Error> {
        let mut agent = AgentClient::connect_uds(socket).await?;
        if let Some(binding) = self.handle.agent_session_binding() {
            // Needed for keys that are restricted to certain hosts; agents older than OpenSSH 8.9 do not know it.
            if let Err(error) = agent.bind_session(binding, false).await {
                debug!("the agent did not bind the session: {error}");
            }
        }
        let identities = agent.request_identities().await?;
        Ok((agent, identities))
    }

    /// Offers one candidate.
    async fn with(&mut self, candidate: Candidate) -> Result<bool, SshError> {
        let hash = self.hash_for(&candidate.shown).await?;
        let (user, mut pen) = (self.peer.user.as_str(), Pen { agent: self.agent.as_mut(), signer: candidate.signer });
        let answer = match candidate.shown {
            AgentIdentity::PublicKey { key, .. } => {
                self.handle.authenticate_publickey_with(user, key, hash, &mut pen).await
            }
            AgentIdentity::Certificate { certificate, .. } => {
                self.handle.authenticate_certificate_with(user, certificate, hash, &mut pen).await
            }
        };
        if let Err(AgentAuthError::Key(error)) = &answer {
            self.passed_over.push(format!("{} could not sign ({error})", candidate.name));
            return Ok(false);
        }
        self.tried.push(candidate.name);
        match answer {
            Ok(answer) => self.accepted(answer),
            Err(_) if self.farewell.get().is_some() => Err(self.refused()),
            Err(error) => Err(lost(self.peer, DOING, error)),
        }
    }

    /// The hash to sign with, which only RSA keys leave open. A server that names none gets SHA-256, never SHA-1.
    async fn hash_for(&mut self, identity: &AgentIdentity) -> Result<Option<HashAlg>, SshError> {
        if !key_of(identity).is_rsa() {
            return Ok(None);
        }
        if self.rsa_hash.is_none() {
            let best = self.handle.best_supported_rsa_hash().await;
            let best = best.map_err(|error| from_library(self.peer, DOING, error))?;
            self.rsa_hash = Some(best.flatten().unwrap_or(HashAlg::Sha256));
        }
        Ok(self.rsa_hash)
    }

    fn accepted(&self, answer: AuthResult) -> Result<bool, SshError> {
        match answer {
            AuthResult::Success => Ok(true),
            // The library reports a connection that ended as a refusal that leaves no method.
            AuthResult::Failure { .. } if self.handle.is_closed() => match self.farewell.get() {
                Some(_) => Err(self.refused()),
                None => Err(lost(self.peer, DOING, russh::Error::Disconnect)),
            },
            AuthResult::Failure { remaining_methods, .. } if !remaining_methods.contains(&MethodKind::PublicKey) => {
                Err(self.refused())
            }
            AuthResult::Failure { .. } => Ok(false),
        }
    }

    fn refused(&self) -> SshError {
        let mut tried = match self.tried.is_empty() {
            true if self.peer.reach.identities.is_some() => {
                "no key to offer: neither an agent nor a file of ssh_config has one".to_owned()
            }
            true => "no key to offer: no agent has one, and no default key exists".to_owned(),
            false => format!("keys that it did not accept: {}", self.tried.join(", ")),
        };
        if let Some(farewell) = self.farewell.get() {
            tried.push_str(&format!("; it said \"{farewell}\""));
        }
        if !self.passed_over.is_empty() {
            tried.push_str("; not usable: ");
            tried.push_str(&self.passed_over.join(", "));
        }
        SshError::Auth { peer: self.peer.to_string(), tried }
    }
}

/// Signs for one candidate.
struct Pen<'a> {
    agent: Option<&'a mut Agent>,
    signer: SignedBy,
}

impl Signer for Pen<'_> {
    type Error = AgentAuthError;

    /// Appends the signature to the data, as an SSH string. The library names the certificate that is shown, but who signs
    /// may have its plain key only.
    async fn auth_sign(
        &mut self,
        _shown: &AgentIdentity,
        hash: Option<HashAlg>,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>, AgentAuthError> {
        match (&self.signer, &mut self.agent) {
            (SignedBy::File(key), _) => {
                let signature = sign(key, hash, &data).and_then(|signature| Ok(signature.encode_vec()?));
                signature.and_then(|signature| Ok(signature.encode(&mut data)?)).map_err(russh::keys::Error::from)?;
                Ok(data)
            }
            (SignedBy::Agent(identity), Some(agent)) => Ok(agent.sign_request(identity, hash, data).await?),
            // What the agent has is offered only after it has answered.
            (SignedBy::Agent(_), None) => Err(russh::keys::Error::AgentFailure.into()),
        }
    }
}

/// Signs; an RSA key by this hash.
fn sign(key: &PrivateKey, hash: Option<HashAlg>, data: &[u8]) -> Result<Signature, ssh_key::Error> {
    let signed = match key.key_data() {
        KeypairData::Rsa(pair) => signature::Signer::try_sign(&(pair, hash), data),
        _ => signature::Signer::try_sign(key, data),
    };
    signed.map_err(ssh_key::Error::from)
}
