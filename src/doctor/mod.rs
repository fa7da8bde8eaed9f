//! `rsyncdirector doctor`: what will fail at three in the morning, said now.
//!
//! [`examine`] looks at this host (`here`) and at each peer (`peer`), all at once, each in bounded time. What is asked follows from what the
//! jobs need ([`needs`]); a shell answers most of it in one script that changes nothing ([`probe`], here and there alike), lock files are
//! probed in the way in which the director makes them ([`locks`]). What the answers mean is decided by pure functions: [`build`] for rsyncs,
//! [`places`] for paths, rooms and clocks, [`arrival`] for connections, [`zones`] for schedules, [`sandbox`] for the unit of systemd
//! ([`mod@unit`]). Behind a gate, where no script is executed, syncs are tried by dry runs (`trial`). Each is a [`Finding`], with a name that stays.
//!
//! Where the instance has a unit, this host is looked at by its user and capabilities, whoever asks; what the unit hides is judged by its
//! properties.
//!
//! Deliberately absent: mending anything, and copying data.

pub mod arrival;
mod asked;
pub mod build;
mod child;
mod files;
pub mod finding;
mod here;
pub mod locks;
pub mod needs;
mod peer;
pub mod places;
pub mod probe;
mod rights;
pub mod sandbox;
mod starting;
pub mod survey;
mod trial;
pub mod unit;
pub mod zones;

use futures_util::future::{OptionFuture, join, join_all};

pub use self::finding::{Check, Finding, Grade};
use self::needs::Needs;
use crate::config::{Config, Peer};
use crate::lock::Stores;
use crate::process::Spawner;
use crate::ssh::Pool;

/// How this host is called in findings.
pub const HERE: &str = "here";

/// What a look needs.
pub struct Doctor<'a> {
    /// What is looked at.
    pub config: &'a Config,
    /// The instance's name for systemd: `photos` of `rsyncdirector@photos.service`.
    pub instance: &'a str,
    /// Whether the configuration is where the unit looks for it.
    pub is_installed: bool,
    /// The connections.
    pub pool: Pool,
    /// The hosts that store lock files.
    pub stores: Stores,
    /// Who starts commands here.
    pub spawner: Spawner,
}

/// Which peers are meant by what a person wrote: `host`, `user@host`, `user@host:port`; a host on the way to a peer means that peer.
///
/// # Errors
/// A name that is no peer's, for people.
pub fn meant(needs: &Needs, names: &[String]) -> Result<Vec<Peer>, String> {
    let is = |peer: &Peer, name: &str| {
        let user = format!("{}@{}", peer.user, peer.host);
        [peer.host.as_str(), user.as_str(), peer.to_string().as_str()].contains(&name)
    };
    let means = |peer: &Peer, name: &str| is(peer, name) || peer.reach.jumps.iter().any(|jump| is(jump, name));
    for name in names {
        if !needs.peers.iter().any(|(peer, _)| means(peer, name)) {
            let known: Vec<String> = needs.peers.iter().map(|(peer, _)| peer.to_string()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(format!("the configuration has no peer {name}; it has {known}"));
        }
    }
    let chosen = needs.peers.iter().map(|(peer, _)| peer).filter(|peer| names.iter().any(|name| means(peer, name)));
    Ok(chosen.cloned().collect())
}

/// Looks at this host and at all peers, or at some peers only. The findings are in the order of the configuration, this host's first.
pub async fn examine(doctor: &Doctor<'_>, only: Option<&[Peer]>) -> Vec<Finding> {
    let needs = Needs::of(doctor.config);
    let chosen = needs.peers.iter().filter(|(peer, _)| only.is_none_or(|only| only.contains(peer)));
    let peers = join_all(chosen.map(|(peer, site)| peer::examine(doctor, peer, site)));
    let here: OptionFuture<_> = only.is_none().then(|| here::examine(doctor, &needs)).into();
    let (here, peers) = join(here, peers).await;
    here.unwrap_or_default().into_iter().chain(peers.into_iter().flatten()).collect()
}
