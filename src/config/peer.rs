//! A peer: a remote host and everything that is needed to reach it, resolved when the configuration is read.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A remote host as the configuration names it. Two equal peers share one connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// Login name there, by the configuration, else ssh_config(5), else ours.
    pub user: String,
    /// Host name or address as the configuration has it; see [`Peer::dialled`].
    pub host: String,
    /// TCP port of its sshd, by the configuration, else ssh_config(5), else 22.
    pub port: u16,
    /// Private key to use instead of the agent's and the user's default keys.
    pub private_key: Option<PathBuf>,
    /// What else is known of how it is reached.
    pub reach: Arc<Reach>,
}

/// How a host is reached, as far as [`Peer`] does not show it. The default is a host about which ssh_config(5) says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reach {
    /// The name or address to dial, if it is another one (`HostName`).
    pub host_name: Option<String>,
    /// The name under which known_hosts lists the host, if it is not that of the host and the port (`HostKeyAlias`).
    pub host_key_alias: Option<String>,
    /// Which addresses of the host count (`AddressFamily`).
    pub address_family: AddressFamily,
    /// Private keys to offer instead of the user's default keys (`IdentityFile`); one that cannot be used is passed over.
    pub identities: Option<Vec<PathBuf>>,
    /// Whether the agent's other keys are not offered (`IdentitiesOnly`).
    pub identities_only: bool,
    /// Files of known host keys, where ssh_config(5) names some; see [`super::SshPolicy::known_hosts_of`].
    pub known_hosts: Option<Vec<PathBuf>>,
    /// The bound on connecting, where ssh_config(5) has one; see [`super::SshPolicy::connect_timeout_of`].
    pub connect_timeout: Option<Duration>,
    /// The hosts on the way to it, the first to connect to first. Their own ways are empty.
    pub jumps: Vec<Peer>,
    /// What of this is left to the system's `ssh`, since it comes from ssh_config(5) or is a default.
    pub left: LeftToSsh,
}

/// What the configuration does not say itself of a peer, so that the system's `ssh` has to find it. All values are equal: peers that
/// are reached in the same way are the same, whoever says how.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeftToSsh {
    /// The port.
    pub port: bool,
    /// The way, directly or by jumps.
    pub way: bool,
}

impl PartialEq for LeftToSsh {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LeftToSsh {}

impl Hash for LeftToSsh {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl PartialOrd for LeftToSsh {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LeftToSsh {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

/// Which addresses of a host are tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressFamily {
    /// All of them.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Peer {
    /// The name or address that is dialled.
    pub fn dialled(&self) -> &str {
        self.reach.host_name.as_deref().unwrap_or(&self.host)
    }
}

impl fmt::Display for Peer {
    /// `user@host:port`, the value of the `peer` label.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.user, self.host, self.port)
    }
}
