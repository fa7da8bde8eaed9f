//! What puts the events of an instance in order.
//!
//! [`core`] decides, purely: which lane runs when, what a signal means, when to leave. [`run`](Director::run) is the shell
//! around it: the select loop that waits for signals, for the next due time and for runs to end, and does as the core says.

pub mod core;
mod run;
mod signal;

pub use run::{Director, Lane, Mode, lanes};
pub use signal::Signals;
