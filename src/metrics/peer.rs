//! `rsyncdirector_` series about peers.
//!
//! A peer's label is `user@host:port`; peers that differ only in their key share their series.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::{GaugeVec, IntCounterVec};

use super::registrar::Registrar;
use crate::config::{ActionKind, Job, Location, Peer, Place};

/// Every reason of [`RunEvent::PeerFailed`](crate::event::RunEvent::PeerFailed), for series that start at 0.
const FAILURE_REASONS: [&str; 6] = ["unreachable", "timeout", "host_key", "auth", "key", "protocol"];

/// All families about peers.
pub(super) struct Families {
    known: RwLock<BTreeSet<Peer>>,
    up: GaugeVec,
    connects: IntCounterVec,
    failures: IntCounterVec,
}

impl Families {
    pub(super) fn new(registrar: &Registrar, jobs: &[Arc<Job>]) -> Self {
        let families = Self {
            known: RwLock::default(),
            up: registrar.gauges(
                "rsyncdirector_peer_up",
                "1 if the last connection to the peer could be made, else 0; absent before the first.",
                &["peer"],
            ),
            connects: registrar.counters(
                "rsyncdirector_ssh_connects_total",
                "Connections made to the peer.",
                &["peer"],
            ),
            failures: registrar.counters(
                "rsyncdirector_ssh_connect_failures_total",
                "Connections to the peer that could not be made.",
                &["peer", "reason"],
            ),
        };
        families.set_jobs(jobs);
        families
    }

    /// Makes the peers of these jobs the ones that count.
    pub(super) fn set_jobs(&self, jobs: &[Arc<Job>]) {
        let known: BTreeSet<Peer> = jobs.iter().flat_map(|job| peers_of(job)).cloned().collect();
        for peer in known.iter().map(Peer::to_string) {
            self.connects.with_label_values(&[&peer]);
            for reason in FAILURE_REASONS {
                self.failures.with_label_values(&[peer.as_str(), reason]);
            }
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    fn knows(&self, peer: &Peer) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains(peer)
    }

    /// A connection was made.
    pub(super) fn connected(&self, peer: &Peer) {
        if self.knows(peer) {
            let peer = peer.to_string();
            self.up.with_label_values(&[&peer]).set(1.0);
            self.connects.with_label_values(&[&peer]).inc();
        }
    }

    /// A connection could not be made.
    pub(super) fn failed(&self, peer: &Peer, reason: &'static str) {
        if self.knows(peer) {
            let peer = peer.to_string();
            self.up.with_label_values(&[&peer]).set(0.0);
            self.failures.with_label_values(&[peer.as_str(), reason]).inc();
        }
    }
}

/// Every peer that a job names: its own, those of its lock files and blocks, those of its syncs.
fn peers_of(job: &Job) -> impl Iterator<Item = &Peer> {
    let lock_files = job.lock_files.iter().map(|lock| &lock.location);
    let blocks = job.blocks_on.iter().map(|block| &block.location);
    let syncs = job.actions.iter().filter_map(|action| match &action.kind {
        ActionKind::Sync(sync) => sync.peer(),
        ActionKind::Verify(verify) => verify.sync.peer(),
        ActionKind::Command(_) => None,
    });
    job.peer.iter().chain(lock_files.chain(blocks).filter_map(remote)).chain(syncs)
}

fn remote(location: &Location) -> Option<&Peer> {
    match &location.place {
        Place::Local => None,
        Place::Remote(peer, _) => Some(peer),
    }
}
