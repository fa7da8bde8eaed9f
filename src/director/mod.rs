//! What puts the events of an instance in order.
//!
//! [`core`] decides, purely: which lane runs when, what a signal means, when to leave. [`run`](Director::run) is the shell
//! around it: the select loop that waits for signals, for orders, for the next due time and for runs to end, and does as the core says. A
//! `pass` is one run; `orders` is what people say while an instance runs; `paused` remembers which schedules are suspended; a
//! `heartbeat` tells that the loop goes on.

pub mod core;
mod heartbeat;
mod lanes;
mod orders;
mod pass;
mod paused;
mod run;
mod signal;

pub use heartbeat::Heartbeat;
pub use lanes::{Known, Lane, lanes};
pub use orders::{Done, Inbox, JobDone, Order, Orders, Refusal, orders};
pub use paused::Paused;
pub use run::{Director, Ending, Mode, Setup};
pub use signal::Signals;
