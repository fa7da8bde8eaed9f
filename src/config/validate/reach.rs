//! From what a configuration says of a peer, and what ssh_config(5) adds, to the [`Peer`].
//!
//! The configuration's own word wins, then ssh_config(5), then the default. The first host of a way may itself have a way by
//! ssh_config(5), as with ssh; the others are reached from the one before. A host on a `proxy_jump` for which ssh_config(5) names no key is
//! shown the peer's configured one; a host on a `ProxyJump` is not, as with ssh.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::context::{Context, Report};
use crate::config::diagnostics::Severity;
use crate::config::model::{Carrier, LeftToSsh, Peer, Reach};
use crate::config::raw::Node;
use crate::config::ssh_config::expand::{self, Tokens};
use crate::config::ssh_config::jump::Jump;
use crate::config::ssh_config::{self, Complaint, Place, Placed, Query, Remedy, Settings, Way};
use crate::config::value;

/// The system's files of known host keys.
pub(super) const SYSTEM_KNOWN_HOSTS: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];
const SSH_PORT: u16 = 22;
/// No way is longer.
const MOST_JUMPS: usize = 8;

/// What a configuration says of a peer.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub user: Option<String>,
    pub host: String,
    pub port: Option<u16>,
    pub private_key: Option<PathBuf>,
    /// The hosts on the way; empty for none in spite of ssh_config(5).
    pub way: Option<Vec<Jump>>,
}

/// The place in the configuration that names a peer.
pub(super) struct Site<'a> {
    pub ctx: &'a Context<'a>,
    /// The host.
    pub node: &'a Node,
    /// What reaches it.
    pub by: Carrier,
    /// Our own name, which is the login name where nothing says otherwise.
    pub local_user: Option<String>,
}

/// A host with its user and port, to notice a way that leads in a circle.
type Name = (String, String, u16);

/// Why a peer cannot be made; it was reported.
struct Reported;

/// The user's files of known host keys.
pub(super) fn own_known_hosts(ctx: &Context<'_>) -> Vec<PathBuf> {
    let home = home(ctx);
    home.iter().flat_map(|home| ["known_hosts", "known_hosts2"].map(|name| home.join(".ssh").join(name))).collect()
}

fn home(ctx: &Context<'_>) -> Option<PathBuf> {
    ctx.env("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

impl Site<'_> {
    /// The peer; `None` when something was reported.
    pub(super) fn peer(&self, said: Said) -> Option<Peer> {
        self.resolve(said, None, &mut Vec::new()).ok()
    }

    /// `stand_in` is the key of a host for which ssh_config(5) names none. `behind` are the hosts that are reached by way of this one.
    fn resolve(&self, said: Said, stand_in: Option<&Path>, behind: &mut Vec<Name>) -> Result<Peer, Reported> {
        let home = home(self.ctx);
        let local_user = self.local_user.as_deref().unwrap_or_default();
        let query = Query { host: &said.host, user: said.user.as_deref(), local_user, home: home.as_deref() };
        let (settings, complaints) = ssh_config::lookup(self.ctx.files, &query);
        self.complain(&complaints, said.way.as_ref().and(settings.way.as_ref()))?;

        let user = self.user(&said, &settings)?;
        let port = said.port.or(settings.port).unwrap_or(SSH_PORT);
        let name = self.host_name(&said, &settings)?;
        let private_key = said
            .private_key
            .clone()
            .or_else(|| stand_in.filter(|_| settings.identity_files.is_empty()).map(Path::to_owned));
        let tokens = Tokens {
            original: &said.host,
            host: &name,
            alias: settings.host_key_alias.as_deref().unwrap_or(&said.host),
            port,
            user: &user,
            local_user,
            home: home.as_deref(),
            uid: rustix::process::geteuid().as_raw(),
            env: self.ctx.environment(),
        };
        let identities =
            (private_key.is_none() && !settings.identity_files.is_empty()).then(|| self.identities(&settings, &tokens));
        let known_hosts = self.known_hosts(&settings, &tokens);
        let jumps = self.jumps(&said, &settings, (said.host.clone(), user.clone(), port), behind)?;
        let reach = Reach {
            host_name: Some(name).filter(|name| !name.eq_ignore_ascii_case(&said.host)),
            host_key_alias: settings.host_key_alias,
            address_family: settings.address_family.unwrap_or_default(),
            identities,
            identities_only: settings.identities_only.unwrap_or(false),
            known_hosts,
            connect_timeout: settings.connect_timeout.flatten(),
            jumps,
            left: LeftToSsh { port: said.port.is_none(), way: said.way.is_none() },
        };
        Ok(Peer { user, host: said.host, port, private_key, reach: Arc::new(reach) })
    }

    fn user(&self, said: &Said, settings: &Settings) -> Result<String, Reported> {
        if let Some(user) = &said.user {
            return Ok(user.clone());
        }
        match &settings.user {
            Some(user) if value::is_login_name(&user.value) => Ok(user.value.clone()),
            Some(user) => Err(self.wrong(&user.at, format!("`User {}` is no login name", user.value))),
            None => self.local_user.clone().ok_or_else(|| {
                let report = Report::error("there is no \"user\" for this host");
                let help = "the default is the user who runs rsyncdirector, whose name cannot be found out".to_owned();
                self.ctx.report(self.node.span.clone(), report.help(help));
                Reported
            }),
        }
    }

    /// The name to dial.
    fn host_name(&self, said: &Said, settings: &Settings) -> Result<String, Reported> {
        let Some(Placed { value, at }) = &settings.host_name else { return Ok(said.host.to_lowercase()) };
        let name =
            expand::host_name(value, &said.host).map_err(|why| self.wrong(at, format!("`HostName {value}`: {why}")))?;
        match value::is_host(&name) {
            true => Ok(name.to_lowercase()),
            false => Err(self.wrong(at, format!("`HostName {value}` is no host name or address"))),
        }
    }

    fn identities(&self, settings: &Settings, tokens: &Tokens<'_>) -> Vec<PathBuf> {
        let files = settings.identity_files.iter().filter(|file| !file.value.eq_ignore_ascii_case("none"));
        files.filter_map(|file| self.path("IdentityFile", &file.value, &file.at, tokens)).collect()
    }

    /// The files of known host keys, if ssh_config(5) names any. New keys are recorded in the first, so one must be the user's.
    fn known_hosts(&self, settings: &Settings, tokens: &Tokens<'_>) -> Option<Vec<PathBuf>> {
        let Settings { user_known_hosts, global_known_hosts, .. } = settings;
        if user_known_hosts.is_none() && global_known_hosts.is_none() {
            return None;
        }
        let own = match user_known_hosts {
            None => own_known_hosts(self.ctx),
            Some(files) if files.value.is_empty() => vec![PathBuf::from("/dev/null")],
            Some(Placed { value, at }) => {
                value.iter().filter_map(|file| self.path("UserKnownHostsFile", file, at, tokens)).collect()
            }
        };
        let global = match global_known_hosts {
            None => SYSTEM_KNOWN_HOSTS.map(PathBuf::from).to_vec(),
            Some(files) => files.value.iter().map(PathBuf::from).collect(),
        };
        Some([own, global].concat())
    }

    fn path(&self, keyword: &str, text: &str, at: &Place, tokens: &Tokens<'_>) -> Option<PathBuf> {
        let expanded = expand::path(text, tokens);
        expanded
            .map_err(|why| {
                let message = format!("`{keyword} {text}` is not followed: {why}");
                self.say(&Complaint { severity: Severity::Warning, at: at.clone(), message, remedy: Remedy::OpenSsh });
            })
            .ok()
    }

    /// The hosts on the way, each with everything but a way of its own.
    fn jumps(
        &self,
        said: &Said,
        settings: &Settings,
        own: Name,
        behind: &mut Vec<Name>,
    ) -> Result<Vec<Peer>, Reported> {
        if behind.contains(&own) {
            return Err(self.lost("the way to this host leads in a circle".to_owned()));
        }
        let (jumps, stand_in) = match (&said.way, &settings.way) {
            (Some(jumps), _) => (jumps.as_slice(), said.private_key.as_deref()),
            (None, Some(Placed { value: Way::Jumps(jumps), .. })) => (jumps.as_slice(), None),
            _ => (&[][..], None),
        };
        behind.push(own);
        let mut hosts: Vec<Peer> = Vec::new();
        for (index, Jump { user, host, port }) in jumps.iter().enumerate() {
            if behind.len() + hosts.len() > MOST_JUMPS {
                return Err(self.lost(format!("there are more than {MOST_JUMPS} others on the way to this host")));
            }
            // The first one's way is what ssh_config(5) says; the others have one already.
            let way = (index > 0).then(Vec::new);
            let hop = Said { user: user.clone(), host: host.clone(), port: *port, private_key: None, way };
            let mut hop = self.resolve(hop, stand_in, behind)?;
            let reach = Arc::make_mut(&mut hop.reach);
            hosts.append(&mut reach.jumps);
            hosts.push(hop);
        }
        behind.pop();
        Ok(hosts)
    }

    /// Reports a way that leads nowhere.
    fn lost(&self, message: String) -> Reported {
        let help = "look at `proxy_jump` here and at `ProxyJump` in ssh_config".to_owned();
        self.ctx.report(self.node.span.clone(), Report::error(message).help(help));
        Reported
    }

    /// Reports what is to be said of the lines of ssh_config(5) that apply, but for a way that does not count.
    fn complain(&self, complaints: &[Complaint], overruled: Option<&Placed<Way>>) -> Result<(), Reported> {
        let counting = complaints.iter().filter(|complaint| overruled.is_none_or(|way| way.at != complaint.at));
        counting.clone().for_each(|complaint| self.say(complaint));
        match counting.clone().any(|complaint| complaint.severity == Severity::Error) {
            true => Err(Reported),
            false => Ok(()),
        }
    }

    fn wrong(&self, at: &Place, message: String) -> Reported {
        let remedy = Remedy::Advice("write another name there, or in this configuration");
        self.say(&Complaint { severity: Severity::Error, at: at.clone(), message, remedy });
        Reported
    }

    /// Reports a complaint at the peer that it is about; of many peers, at the first.
    fn say(&self, Complaint { severity, at, message, remedy }: &Complaint) {
        let is_idle = match remedy {
            Remedy::HostKeyPolicy => self.ctx.has_host_key_policy.get(),
            Remedy::OpenSsh | Remedy::Followed(_) => self.by == Carrier::OpenSsh,
            Remedy::Advice(_) => false,
        };
        if *severity == Severity::Warning && (is_idle || !self.ctx.is_first_complaint(at)) {
            return;
        }
        let help = match remedy {
            Remedy::HostKeyPolicy => "set `host_key_policy`, which holds for every connection",
            Remedy::OpenSsh => {
                "with `transport: openssh` the syncs of a job follow it; lock files and blocks are always reached by the \
                 director's own connections"
            }
            Remedy::Followed(help) | Remedy::Advice(help) => help,
        };
        let message = format!("{at}: {message}");
        let report = match severity {
            Severity::Error => Report::error(message),
            Severity::Warning => Report::warning(message),
        };
        self.ctx.report(self.node.span.clone(), report.label("holds for this host").help(help.to_owned()));
    }
}

/// Our own name.
pub(super) fn local_user(ctx: &Context<'_>) -> Option<String> {
    let names = ["LOGNAME", "USER"].iter().filter_map(|name| ctx.env(name).map(OsString::into_string)?.ok());
    names.into_iter().find(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
