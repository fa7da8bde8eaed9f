//! The client against a real sshd.

mod certificates;
mod commands;
mod host_key_table;
mod identities;
mod jumps;
mod login;
mod openssh;
mod passphrases;
mod pipe;
mod sftp;
mod trust;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

use super::keys::Sources;
use super::{Output, Pool, SshError};
use crate::config::{Peer, SshPolicy};
use crate::event::{Events, Observer, RunEvent};

const LONG: Duration = Duration::from_secs(30);

/// Counts what the pool reports.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Observer for Recorder {
    fn observe(&self, _at: Timestamp, event: &RunEvent) {
        let text = match event {
            RunEvent::PeerConnected { .. } => "connected".to_owned(),
            RunEvent::PeerFailed { reason, .. } => (*reason).to_owned(),
            other => panic!("unexpected {other:?}"),
        };
        self.0.lock().unwrap().push(text);
    }
}

struct Fixture {
    pool: Pool,
    recorder: Arc<Recorder>,
}

impl Fixture {
    fn new(policy: SshPolicy) -> Self {
        Self::with(policy, Sources::default(), LONG)
    }

    fn with(policy: SshPolicy, sources: Sources, idle_max: Duration) -> Self {
        let recorder = Arc::new(Recorder::default());
        let events = Events::new(vec![Arc::clone(&recorder) as Arc<dyn Observer>]);
        Self { pool: Pool::with(policy, events, sources, idle_max), recorder }
    }

    async fn run(&self, peer: &Peer, command: &str) -> Output {
        self.pool.exec(peer, command, b"", LONG).await.unwrap()
    }

    async fn fail(&self, peer: &Peer) -> SshError {
        self.pool.exec(peer, "true", b"", LONG).await.unwrap_err()
    }

    fn events(&self) -> Vec<String> {
        self.recorder.0.lock().unwrap().clone()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
