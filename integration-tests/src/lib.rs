//! The harness of the tests that use real parts: rsync, sshd, signals, Prometheus.
//!
//! A test makes a [`Sandbox`] (a directory with everything in it), perhaps an [`Sshd`] or two as its peers, writes a
//! configuration and starts the binary as a [`Director`] or runs it to its end. It looks at the program from outside
//! only: files, `/proc`, `/metrics`, standard error, the exit code. Nothing sleeps to let something happen:
//! [`wait`] polls an observable under a deadline. Nothing depends on the machine's own sshd, keys or fixed ports.
//!
//! Absent on purpose: any use of the `rsyncdirector` library (but for `tests/replicas.rs`, which leaves what verifications of all kinds would
//! leave), and any skipping but of what needs a booted [`Machine`].
//! A part that is missing fails the test.

pub mod browser;
pub mod checks;
pub mod director;
pub mod dropbear;
pub mod faults;
pub mod forest;
pub mod gate;
pub mod http;
pub mod keys;
pub mod machine;
pub mod network;
pub mod package;
pub mod peers;
pub mod playbook;
pub mod ports;
pub mod procs;
pub mod prometheus;
pub mod receiver;
pub mod sandbox;
pub mod sshd;
pub mod tree;
pub mod verification;
pub mod wait;

pub use director::{Director, Finished};
pub use machine::Machine;
pub use network::Lan;
pub use package::Package;
pub use sandbox::Sandbox;
pub use sshd::Sshd;
