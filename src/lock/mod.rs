//! Lock files that can be trusted.
//!
//! [`record`] says what a lock file holds and means; [`LocalBackend`], [`RemoteBackend`] (by a shell there) and
//! [`SftpBackend`] do the four operations on one, [`PeerBackend`] by whichever way a peer offers; [`Stores`] finds the backend
//! of a place and performs batches over several; [`LockSet`] takes all or none, and keeps them fresh until they are released;
//! [`inventory`] shows all of a configuration to a person, who may break one. [`served`] is the other end of [`RemoteBackend`] for an
//! account that gets no shell.
//!
//! Deliberately absent: any judgement by pid or `ps`. A lock is alive as long as its file is refreshed, by the clock of the
//! host that stores it.

mod backend;
mod hold;
pub mod inventory;
mod local;
mod peer;
pub mod record;
mod remote;
pub mod served;
mod set;
mod sftp;
mod stores;

pub use backend::{Answer, Answers, LockBackend, Op, Unreachable};
pub use hold::{Held, Lost};
pub use local::{LocalBackend, perform as perform_here};
pub use peer::PeerBackend;
pub use remote::RemoteBackend;
pub use set::{Attempt, LockSet};
pub use sftp::SftpBackend;
pub use stores::Stores;
