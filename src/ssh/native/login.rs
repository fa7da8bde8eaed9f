//! Login by public key: the agent's keys first, then files. Nothing else is tried.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use russh::{AgentAuthError, MethodKind};
use tokio::net::UnixStream;
use tracing::debug;

use super::{Gate, from_library, lost};
use crate::config::Peer;
use crate::ssh::error::{KeyError, SshError};
use crate::ssh::keys::{AgentUse, Offer, Sources};

const DOING: &str = "login to";

type Agent = AgentClient<UnixStream>;

/// Offers keys until the peer accepts one.
pub(super) async fn login(
    handle: &mut Handle<Gate>,
    peer: &Peer,
    offer: Offer,
    sources: &Sources,
    farewell: &OnceLock<String>,
) -> Result<(), SshError> {
    let passed_over = offer.passed_over;
    let mut attempt = Attempt { handle, peer, farewell, rsa_hash: None, tried: Vec::new(), passed_over };
    if let Some((mut agent, identities)) = attempt.consult_agent(&offer.agent, sources).await? {
        for identity in identities {
            if attempt.with_agent(&mut agent, identity).await? {
                return Ok(());
            }
        }
    }
    for (path, key) in offer.files {
        if attempt.with_file(&path, key).await? {
            return Ok(());
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
    tried: Vec<String>,
    passed_over: Vec<String>,
}

impl Attempt<'_> {
    /// The agent and the keys of it to offer. An agent that cannot be asked is an error only when the configured key needs it.
    async fn consult_agent(
        &mut self,
        usage: &AgentUse,
        sources: &Sources,
    ) -> Result<Option<(Agent, Vec<AgentIdentity>)>, SshError> {
        let Some(socket) = &sources.agent else { return Ok(None) };
        let encrypted = |file: &PathBuf, agent| KeyError::Encrypted { file: file.clone(), agent };
        match usage {
            AgentUse::Nothing => Ok(None),
            AgentUse::Everything => match self.identities(socket).await {
                Ok((agent, identities)) => Ok(Some((agent, identities))),
                Err(error) => {
                    self.passed_over.push(format!("the agent at {} did not answer ({error})", socket.display()));
                    Ok(None)
                }
            },
            AgentUse::Only(wanted, file) => {
                let asked = self.identities(socket).await;
                let (agent, identities) =
                    asked.map_err(|_| encrypted(file, "the agent of SSH_AUTH_SOCK does not answer"))?;
                let ours: Vec<_> = identities.into_iter().filter(|i| is_of(i, wanted)).collect();
                if ours.is_empty() {
                    return Err(encrypted(file, "the agent does not have it").into());
                }
                Ok(Some((agent, ours)))
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

    async fn with_agent(&mut self, agent: &mut Agent, identity: AgentIdentity) -> Result<bool, SshError> {
        let public = public_key(&identity);
        let hash = self.hash_for(&public).await?;
        self.tried.push(format!("agent key {}", public.fingerprint(HashAlg::Sha256)));
        let user = self.peer.user.as_str();
        let answer = match identity {
            AgentIdentity::PublicKey { key, .. } => {
                self.handle.authenticate_publickey_with(user, key, hash, agent).await
            }
            AgentIdentity::Certificate { certificate, .. } => {
                self.handle.authenticate_certificate_with(user, certificate, hash, agent).await
            }
        };
        match answer {
            Ok(answer) => self.accepted(answer),
            Err(AgentAuthError::Key(error)) => {
                self.passed_over.push(format!("the agent did not sign ({error})"));
                Ok(false)
            }
            Err(AgentAuthError::Send(error)) => Err(lost(self.peer, DOING, error)),
        }
    }

    async fn with_file(&mut self, path: &Path, key: Arc<PrivateKey>) -> Result<bool, SshError> {
        let hash = self.hash_for(key.public_key()).await?;
        self.tried.push(format!("{} {}", path.display(), key.fingerprint(HashAlg::Sha256)));
        let key = PrivateKeyWithHashAlg::new(key, hash);
        let answer = self.handle.authenticate_publickey(self.peer.user.as_str(), key).await;
        self.accepted(answer.map_err(|error| from_library(self.peer, DOING, error))?)
    }

    /// The hash to sign with, which only RSA keys leave open. A server that names none gets SHA-256, never SHA-1.
    async fn hash_for(&mut self, key: &PublicKey) -> Result<Option<HashAlg>, SshError> {
        if !key.algorithm().is_rsa() {
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

fn public_key(identity: &AgentIdentity) -> PublicKey {
    match identity {
        AgentIdentity::PublicKey { key, .. } => key.clone(),
        AgentIdentity::Certificate { certificate, .. } => certificate.public_key().clone().into(),
    }
}

/// Compares without the comment.
fn is_of(identity: &AgentIdentity, key: &PublicKey) -> bool {
    public_key(identity).key_data() == key.key_data()
}
