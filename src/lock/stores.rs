//! Which backend serves which place, and batches over several places.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use super::backend::{Answer, LockBackend, Op, Unreachable};
use super::local::LocalBackend;
use super::peer::PeerBackend;
use super::remote::RemoteBackend;
use super::sftp::SftpBackend;
use crate::config::{Location, Peer, Place, Via};
use crate::ssh::Pool;

/// All hosts that store lock and block files. Cheap to clone.
#[derive(Clone)]
pub struct Stores {
    pool: Pool,
    timeout: Duration,
    host: Arc<str>,
    known: Arc<Mutex<HashMap<Place, Arc<dyn LockBackend>>>>,
}

impl Stores {
    /// Over these connections. A remote batch may take `timeout` on a connection that stands, and what its peer is allowed to make one;
    /// `host` is this host's name.
    pub fn new(pool: Pool, timeout: Duration, host: Arc<str>) -> Self {
        Self { pool, timeout, host, known: Arc::default() }
    }

    /// The same with another backend for a place.
    #[cfg(test)]
    pub(super) fn served_by(self, place: Place, backend: Arc<dyn LockBackend>) -> Self {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(place, backend);
        self
    }

    /// The backend of a place.
    pub fn at(&self, place: &Place) -> Arc<dyn LockBackend> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let backend = known.entry(place.clone()).or_insert_with(|| match place {
            Place::Local => Arc::new(LocalBackend),
            Place::Remote(peer, via) => self.remote(peer, *via),
        });
        Arc::clone(backend)
    }

    /// Connects to a place, if that takes a connection, for those to whom the time of a batch matters and that of a login does not.
    pub(super) async fn warm(&self, place: &Place) -> Result<(), Unreachable> {
        match place {
            Place::Local => Ok(()),
            Place::Remote(peer, _) => Ok(self.pool.warm(peer).await?),
        }
    }

    fn remote(&self, peer: &Peer, via: Via) -> Arc<dyn LockBackend> {
        let timeout = self.pool.connect_timeout_of(peer) + self.timeout;
        let shell = RemoteBackend::new(self.pool.clone(), peer.clone(), timeout);
        let sftp = SftpBackend::new(self.pool.clone(), peer.clone(), timeout);
        match via {
            Via::Auto => Arc::new(PeerBackend::new(peer.clone(), shell, sftp)),
            Via::Exec => Arc::new(shell),
            Via::Sftp => Arc::new(sftp),
        }
    }

    /// The name by which locks are ordered, the same for every instance of a fleet that names its hosts alike.
    pub(super) fn order<'a>(&'a self, location: &'a Location) -> (&'a str, &'a std::path::Path) {
        let host = match &location.place {
            Place::Local => &self.host,
            Place::Remote(peer, _) => peer.host.as_str(),
        };
        (host, &location.path)
    }

    /// Looks at files, one round trip a place, all places at once. The answers are in the order of `locations`.
    pub async fn look(&self, locations: &[Location]) -> Vec<Result<Answer, Unreachable>> {
        self.each(locations, |n| Op::Look { path: locations[n].path.clone() }).await
    }

    /// One operation on each of several files, one round trip a place, all places at once. For operations that do not end a
    /// batch; the answers are in the order of `locations`.
    pub async fn each(&self, locations: &[Location], op: impl Fn(usize) -> Op) -> Vec<Result<Answer, Unreachable>> {
        let mut places: Vec<&Place> = Vec::new();
        for location in locations {
            if !places.contains(&&location.place) {
                places.push(&location.place);
            }
        }
        let batches = places.iter().map(|place| {
            let indices: Vec<usize> = (0..locations.len()).filter(|&index| locations[index].place == **place).collect();
            let ops = indices.iter().map(|&index| op(index)).collect();
            let answers = self.at(place).perform(ops);
            async move { (indices, answers.await) }
        });
        let mut all: Vec<_> = locations.iter().map(|_| Err(Unreachable::because("no answer"))).collect();
        for (indices, answers) in join_all(batches).await {
            match answers {
                Ok(answers) => indices.into_iter().zip(answers).for_each(|(index, answer)| all[index] = Ok(answer)),
                Err(Unreachable { why, .. }) => {
                    indices.into_iter().for_each(|index| all[index] = Err(Unreachable::because(why.clone())));
                }
            }
        }
        all
    }
}
