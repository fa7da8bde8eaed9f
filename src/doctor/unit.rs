//! The unit under which an instance runs, as `systemctl show` tells its properties (systemd.exec(5)). Pure but for the asking.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::child;
use crate::process::Spawner;

/// systemd answers within this time, or there is none.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The properties that are asked for.
const PROPERTIES: &str = "LoadState,ActiveState,UnitFileState,User,Group,ProtectSystem,ProtectHome,ReadWritePaths,ReadOnlyPaths,InaccessiblePaths,\
    BindPaths,BindReadOnlyPaths,TemporaryFileSystem,PrivateTmp,PrivateDevices,DevicePolicy,PrivateNetwork,RestrictSUIDSGID,\
    NoNewPrivileges,CapabilityBoundingSet,AmbientCapabilities,SystemCallFilter,RestrictAddressFamilies,IPAddressDeny,StateDirectory,\
    RuntimeDirectory,CacheDirectory,LogsDirectory,DynamicUser,DeviceAllow,Environment,ProtectKernelModules";

/// A unit's properties, as far as they decide what a job can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// `rsyncdirector@photos.service`.
    pub name: String,
    properties: HashMap<String, String>,
}

/// What a unit does to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Free,
    /// It can only be read, by this directive.
    ReadOnly(String),
    /// It is not there, or another is, by this directive.
    Hidden(String),
}

impl Unit {
    /// Reads what `systemctl show` prints; `None` for a unit that is not loaded.
    pub fn parse(name: &str, shown: &str) -> Option<Self> {
        let mut properties = HashMap::<String, String>::new();
        for (key, value) in shown.lines().filter_map(|line| line.split_once('=')) {
            // Some lists have a line for each element.
            let known = properties.entry(key.to_owned()).or_default();
            *known = format!("{known} {}", value.trim()).trim().to_owned();
        }
        (properties.get("LoadState")? == "loaded").then(|| Self { name: name.to_owned(), properties })
    }

    /// Asks the system's systemd. `None` where there is none, or no such unit.
    pub(super) async fn ask(spawner: &Spawner, name: &str) -> Option<Self> {
        let args: Vec<OsString> = vec!["show".into(), "--property".into(), PROPERTIES.into(), "--".into(), name.into()];
        let output = child::output(spawner, "systemctl".into(), args, ANSWER_MAX).await.ok()?;
        if output.code != Some(0) {
            return None;
        }
        Self::parse(name, &String::from_utf8_lossy(&output.stdout))
    }

    /// Whether it runs, or is to run at boot. A template is loaded for every name.
    pub fn is_in_use(&self) -> bool {
        matches!(self.get("ActiveState"), "active" | "activating" | "reloading" | "failed")
            || matches!(self.get("UnitFileState"), "enabled" | "enabled-runtime" | "linked")
    }

    pub(super) fn get(&self, property: &str) -> &str {
        self.properties.get(property).map(String::as_str).unwrap_or_default()
    }

    pub(super) fn is_set(&self, property: &str) -> bool {
        !matches!(self.get(property), "" | "no" | "false" | "0")
    }

    /// The elements of a list.
    pub(super) fn list(&self, property: &str) -> impl Iterator<Item = &str> {
        self.get(property).split_whitespace()
    }

    /// Its user; root where none is named.
    pub fn user(&self) -> &str {
        Some(self.get("User")).filter(|user| !user.is_empty()).unwrap_or("root")
    }

    /// Whether its user is the superuser.
    pub fn is_root(&self) -> bool {
        matches!(self.user(), "root" | "0") && !self.is_set("DynamicUser")
    }

    /// Whether its processes have a capability, such as `cap_chown`.
    pub fn has(&self, capability: &str) -> bool {
        let is_bounded = self.properties.contains_key("CapabilityBoundingSet");
        let is_allowed = !is_bounded || self.list("CapabilityBoundingSet").any(|allowed| allowed == capability);
        is_allowed && (self.is_root() || self.list("AmbientCapabilities").any(|ambient| ambient == capability))
    }

    /// Whether its processes may use one of these system calls.
    pub fn may_call(&self, calls: &[&str]) -> bool {
        let mut filter = self.list("SystemCallFilter").peekable();
        let Some(first) = filter.peek() else { return true };
        let denies = first.starts_with('~');
        // `name:errno` is one that fails with that error.
        let listed: Vec<&str> =
            filter.map(|name| name.trim_start_matches('~').split(':').next().unwrap_or_default()).collect();
        calls.iter().any(|call| listed.contains(call) != denies)
    }

    /// A variable that it sets (systemd.exec(5), Environment=).
    pub fn variable(&self, name: &str) -> Option<&str> {
        let values = self.list("Environment").filter_map(|word| word.trim_matches('"').split_once('='));
        values.filter(|(variable, _)| *variable == name).map(|(_, value)| value).last()
    }

    /// Whether its processes may make device files (systemd.resource-control(5), DeviceAllow=).
    pub fn may_make_devices(&self) -> bool {
        let listed: Vec<&str> = self.list("DeviceAllow").collect();
        // Pairs: which, and what may be done with it.
        let mut allowed = listed.chunks(2);
        let is_open = !matches!(self.get("DevicePolicy"), "closed" | "strict") && listed.is_empty();
        is_open || allowed.any(|pair| matches!(pair, ["block-*" | "char-*", rights] if rights.contains('m')))
    }

    /// What of a tree it hides: a path below this one, and the directive.
    pub fn hidden_below(&self, path: &Path) -> Vec<(PathBuf, String)> {
        let hidden = self.rules().into_iter().filter_map(|(prefix, access)| match access {
            Access::Hidden(by) if prefix != path && prefix.starts_with(path) => Some((prefix, by)),
            _ => None,
        });
        hidden.collect()
    }

    /// What it does to a path.
    pub fn access(&self, path: &Path) -> Access {
        let rules = self.rules();
        // What is below something inaccessible is never mounted (systemd.exec(5), InaccessiblePaths=).
        if let Some((_, access)) = rules.iter().find(|(prefix, access)| {
            path.starts_with(prefix) && matches!(access, Access::Hidden(by) if by.starts_with("InaccessiblePaths") || by == "ProtectHome=yes")
        }) {
            return access.clone();
        }
        let nearest = rules.into_iter().filter(|(prefix, _)| path.starts_with(prefix));
        // Of rules for one path the later one counts: those that a person wrote.
        nearest.max_by_key(|(prefix, _)| prefix.components().count()).map_or(Access::Free, |(_, access)| access)
    }

    /// Paths, and what holds for all below them unless another rule is nearer.
    fn rules(&self) -> Vec<(PathBuf, Access)> {
        let mut rules = Vec::new();
        let mut rule = |paths: &[&str], access: Access| {
            rules.extend(paths.iter().map(|path| (PathBuf::from(*path), access.clone())));
        };
        let system = self.get("ProtectSystem");
        let by_system = Access::ReadOnly(format!("ProtectSystem={system}"));
        match system {
            "strict" => {
                rule(&["/"], by_system);
                rule(&["/dev", "/proc", "/sys"], Access::Free);
            }
            "full" => rule(&["/usr", "/boot", "/efi", "/etc"], by_system),
            "yes" | "true" | "1" => rule(&["/usr", "/boot", "/efi"], by_system),
            _ => {}
        }
        let homes = ["/home", "/root", "/run/user"];
        match self.get("ProtectHome") {
            "read-only" => rule(&homes, Access::ReadOnly("ProtectHome=read-only".into())),
            "tmpfs" => rule(&homes, Access::Hidden("ProtectHome=tmpfs".into())),
            "" | "no" | "false" | "0" => {}
            _ => rule(&homes, Access::Hidden("ProtectHome=yes".into())),
        }
        if self.is_set("PrivateTmp") {
            rule(&["/tmp", "/var/tmp"], Access::Hidden(format!("PrivateTmp={}", self.get("PrivateTmp"))));
        }
        if self.is_set("ProtectKernelModules") {
            rule(&["/usr/lib/modules", "/lib/modules"], Access::Hidden("ProtectKernelModules=yes".into()));
        }
        if self.is_set("PrivateDevices") {
            rule(&["/dev"], Access::Hidden("PrivateDevices=yes".into()));
            rule(&["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/shm"], Access::Free);
        }
        for (property, parent) in [
            ("StateDirectory", "/var/lib"),
            ("RuntimeDirectory", "/run"),
            ("CacheDirectory", "/var/cache"),
            ("LogsDirectory", "/var/log"),
        ] {
            let names = self.list(property).map(|name| name.split(':').next().unwrap_or(name));
            let paths: Vec<String> = names.map(|name| format!("{parent}/{name}")).collect();
            rule(&paths.iter().map(String::as_str).collect::<Vec<_>>(), Access::Free);
        }
        for property in [
            "TemporaryFileSystem",
            "InaccessiblePaths",
            "ReadOnlyPaths",
            "BindReadOnlyPaths",
            "ReadWritePaths",
            "BindPaths",
        ] {
            for entry in self.list(property) {
                // `-` and `+` before a path (systemd.exec(5)); a bind is `source:destination:options`, or the path for both.
                let entry = entry.trim_start_matches(['-', '+', '!']);
                let mut parts = entry.split(':');
                let first = parts.next().unwrap_or_default();
                let path = if property.starts_with("Bind") { parts.next().unwrap_or(first) } else { first };
                let access = match property {
                    "ReadOnlyPaths" | "BindReadOnlyPaths" => Access::ReadOnly(format!("{property}={path}")),
                    "ReadWritePaths" | "BindPaths" => Access::Free,
                    _ => Access::Hidden(format!("{property}={path}")),
                };
                rule(&[path], access);
            }
        }
        rules
    }

    /// The words by which a command runs as the unit's user with its capabilities (setpriv(1)); none are needed when these are ours.
    pub fn disguise(&self) -> Vec<OsString> {
        let bounds = self.properties.contains_key("CapabilityBoundingSet");
        let plain = |name: &str| name.trim_start_matches("cap_").to_owned();
        let set = |names: Vec<String>| names.into_iter().fold("-all".to_owned(), |set, name| set + ",+" + &name);
        let bounding = bounds.then(|| set(self.list("CapabilityBoundingSet").map(plain).collect()));
        let mut words: Vec<String> = Vec::new();
        if !self.is_root() {
            let allowed = |name: &&str| !bounds || self.list("CapabilityBoundingSet").any(|bounding| bounding == *name);
            let ambient = set(self.list("AmbientCapabilities").filter(allowed).map(plain).collect());
            let user = self.user();
            // A system user has a group of its own name.
            let group = Some(self.get("Group")).filter(|group| !group.is_empty()).unwrap_or(user);
            words.extend([format!("--reuid={user}"), format!("--regid={group}"), "--init-groups".into()]);
            words.extend([format!("--inh-caps={ambient}"), format!("--ambient-caps={ambient}")]);
        }
        words.extend(bounding.map(|bounding| format!("--bounding-set={bounding}")));
        if words.is_empty() {
            Vec::new()
        } else {
            ["setpriv".to_owned()].into_iter().chain(words).map(OsString::from).collect()
        }
    }
}

#[cfg(test)]
#[path = "tests/unit.rs"]
mod tests;
