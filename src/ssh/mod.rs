//! The native SSH client: one authenticated connection per peer, shared by all commands that run there.
//!
//! The way of a command: [`Pool::exec`] finds the peer's connection or makes one (resolve and connect, key exchange with the
//! host key judged by [`host_keys`], login by public key), opens a channel, and hands back status and output when the
//! peer has closed it.
//!
//! Files on a peer without a shell are reached by [`Pool::sftp`], over the same connection.
//!
//! The SSH library is used inside `native` alone; everything else sees its `Session` (connect, exec, disconnect) and plain
//! key types. A connection that carries bulk data belongs beside it as another kind of session: it must not share one with
//! commands, since the library stops reading for all channels when one of them is not read.
//!
//! rsync itself runs over the system's `ssh` with [`Pool::openssh_command`], under the same policy, or over a connection of ours
//! ([`transport`]).
//!
//! A peer behind others is reached through these ([`crate::config::Reach`]): each session makes its whole way by itself. What `ssh_config`
//! says was resolved when the configuration was read.
//!
//! Deliberately absent: passwords, agent forwarding, terminals, compression.

mod dial;
mod error;
pub mod host_keys;
mod keys;
mod known_hosts;
mod native;
mod openssh;
mod pool;
mod precedence;
mod sftp;
pub mod transport;

#[cfg(test)]
pub(crate) mod test_sshd;
#[cfg(test)]
mod tests;

pub use error::{Cause, HostKeyError, KeyError, SshError};
pub use keys::judge as judge_key;
pub use pool::{Output, Pool, SHELL};
pub use sftp::{Attributes, Handle, Mode, Sftp, SftpError, Status};
pub use transport::{Ticket, Transport};
