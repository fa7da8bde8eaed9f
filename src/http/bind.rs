//! Taking the port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::config::Metrics;

/// Why the port could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there, still after the last attempt.
    #[error("could not listen on {address}: the port is in use; stop what listens there or set `metrics.port`")]
    InUse {
        /// The configured address.
        address: SocketAddr,
    },
    /// Something else: no such address on this host, a privileged port.
    #[error("could not listen on {address}")]
    Other {
        /// The configured address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Listens on the configured address, with `SO_REUSEADDR`, so that connections of a predecessor that linger in TIME_WAIT
/// are no obstacle.
///
/// The first attempt is immediate. A port in use, or an address that the host does not have (yet), is tried again after
/// `startup_retry_wait`, at most `startup_retry_limit` times and not after `startup_timeout`; any other error is final.
///
/// # Errors
/// What the last attempt met.
pub async fn bind(metrics: &Metrics) -> Result<TcpListener, BindError> {
    let address = super::address(metrics);
    let mut pauses = Pauses::new(metrics);
    loop {
        let error = match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        };
        match pauses.next().filter(|_| may_mend(&error)) {
            Some(pause) => {
                tracing::warn!(%address, %error, ?pause, "could not listen yet, will try again");
                tokio::time::sleep(pause).await;
            }
            None if error.kind() == io::ErrorKind::AddrInUse => return Err(BindError::InUse { address }),
            None => return Err(BindError::Other { address, source: error }),
        }
    }
}

fn may_mend(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

/// The pauses between attempts. An attempt itself takes no time, so the sum of the pauses is what the timeout bounds.
struct Pauses {
    each: Duration,
    retries_left: u32,
    time_left: Duration,
}

impl Pauses {
    fn new(metrics: &Metrics) -> Self {
        Self {
            each: metrics.startup_retry_wait,
            retries_left: metrics.startup_retry_limit,
            time_left: metrics.startup_timeout,
        }
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.retries_left = self.retries_left.checked_sub(1)?;
        self.time_left = self.time_left.checked_sub(self.each)?;
        Some(self.each)
    }
}
