//! The agent: a process on a peer that looks at its file systems for a verification here, `rsyncdirector agent`, started like an rsync by
//! whatever reaches the peer.
//!
//! [`proto`] is what both say, and pure; [`serve`](mod@serve) is the peer's part, [`client`] ours: an [`Agent`] is a
//! [`Side`](crate::verify::side::Side) of a verification. The way of one: the agent greets with a line that no shell prints by chance;
//! the client asks who it is, then one thing after the other (`scan`, `look`, `hash`, `statfs`); it ends when its input does.
//!
//! It reads and never writes, lowers its own priority ([`priority`]), and goes when its client does, in the midst of a file as well.
//!
//! Deliberately absent: a port, a daemon, a login of its own, compression (ssh's), and any verb that changes something.

pub mod client;
pub mod priority;
pub mod proto;
pub mod serve;
pub mod volume;
mod work;

pub use client::{Agent, ConnectError};
pub use serve::{Bounds, ServeError, Unbounded, serve};
