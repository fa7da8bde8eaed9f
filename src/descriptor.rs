//! Descriptors that become readable once, when something has happened: timers, processes.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// An owned descriptor that the reactor watches.
#[derive(Debug)]
pub struct Watched(AsyncFd<OwnedFd>);

impl Watched {
    /// Registers it.
    ///
    /// # Errors
    /// When the kernel cannot watch it.
    #[expect(unsafe_code, reason = "tokio has no safe way to register a descriptor, even an owned one")]
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        // SAFETY: the descriptor is owned by the `AsyncFd` from here on and never replaced, so it is open for as long as it
        // is registered.
        Ok(Self(unsafe { AsyncFd::register(descriptor) }?))
    }

    /// Completes when it is readable.
    pub async fn readable(&self) {
        // An error here would be the reactor shutting down: then nobody waits any more.
        let _ = self.0.readable().await;
    }

    /// The descriptor.
    pub fn get(&self) -> &OwnedFd {
        self.0.get_ref()
    }
}
