//! What the jobs of a configuration need, against what their unit lets them do. Pure.

use std::collections::HashMap;
use std::path::PathBuf;

use super::finding::{Check, Finding};
use super::needs::End;
use super::rights;
use super::unit::{Access, Unit};
use crate::config::Command;

/// Findings are about this host.
const HERE: &str = super::HERE;

/// What an instance does on its host.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    /// What is read, and by whom: `job home, action copy`.
    pub reads: Vec<(PathBuf, String)>,
    /// What is written, and by whom.
    pub writes: Vec<(PathBuf, String)>,
    /// For what is written and not there yet, the nearest directory above: only what is there can be opened by a unit.
    pub above: HashMap<PathBuf, PathBuf>,
    /// Lock and block files, and whose.
    pub locks: Vec<(PathBuf, String)>,
    /// The ends of syncs that write here, each with a setgid directory of its sources, if one was found.
    pub receives: Vec<(End, Option<String>)>,
    /// The ends of syncs that only read here.
    pub sends: Vec<End>,
    /// The commands that are executed.
    pub commands: Vec<(String, Command)>,
    /// How many hosts are connected to.
    pub peers: usize,
    /// The port of metrics.
    pub port: u16,
}

/// Everything that the unit does not allow; where there is nothing, that it allows all.
pub fn judge(unit: &Unit, wants: &Wants) -> Vec<Finding> {
    let mut findings = paths(unit, wants);
    let or_well = |findings: &mut Vec<Finding>, check, text: &str| {
        if !findings.iter().any(|finding| finding.check == check) {
            findings.push(Finding::ok(check, HERE, text));
        }
    };
    or_well(&mut findings, Check::UnitPaths, "the unit hides and protects nothing that the jobs need");
    findings.extend(rights::judge(unit, wants));
    or_well(&mut findings, Check::UnitRights, "the unit's user and capabilities are enough for the jobs' options");
    findings.extend(network(unit, wants));
    or_well(&mut findings, Check::UnitNetwork, "the unit lets the jobs reach their peers");
    findings
}

pub(super) fn drop_in(unit: &Unit, lines: &str) -> String {
    format!("`systemctl edit {}`: {lines}", unit.name)
}

fn paths(unit: &Unit, wants: &Wants) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, who) in &wants.reads {
        if let Access::Hidden(by) = unit.access(path) {
            let text = format!("{by} hides {}, which {who} reads", path.display());
            findings.push(Finding::fail(Check::UnitPaths, HERE, text, drop_in(unit, &shown(&by, path))));
        }
        for (hidden, by) in unit.hidden_below(path) {
            let text = format!(
                "{by} hides {}, so {who}, which reads {}, leaves out what is there, and does not say so",
                hidden.display(),
                path.display()
            );
            let fix = drop_in(unit, &shown(&by, &hidden)) + "; or exclude it";
            findings.push(Finding::warn(Check::UnitPaths, HERE, text, fix));
        }
    }
    for (path, who) in &wants.writes {
        let text = |by: &str, does: &str| format!("{by} {does} {}, which {who} writes", path.display());
        match unit.access(path) {
            Access::Free => {}
            Access::Hidden(by) => {
                let fix = drop_in(unit, &shown(&by, path));
                findings.push(Finding::fail(Check::UnitPaths, HERE, text(&by, "hides"), fix));
            }
            Access::ReadOnly(by) => {
                let fix = drop_in(unit, &format!("ReadWritePaths={}", wants.above.get(path).unwrap_or(path).display()));
                findings.push(Finding::fail(Check::UnitPaths, HERE, text(&by, "protects"), fix));
            }
        }
    }
    for (path, who) in &wants.locks {
        match unit.access(path) {
            Access::Free => {}
            Access::Hidden(by) if by.starts_with("PrivateTmp") => {
                let text = format!(
                    "{by} gives the unit a {} of its own: no other sees its lock file, of {who}",
                    path.display()
                );
                findings.push(Finding::fail(
                    Check::UnitPaths,
                    HERE,
                    text,
                    "put lock files into /run/lock, or use PrivateTmp=no",
                ));
            }
            Access::Hidden(by) => {
                let text = format!("{by} hides {}, the lock or block file of {who}", path.display());
                findings.push(Finding::fail(Check::UnitPaths, HERE, text, drop_in(unit, &shown(&by, path))));
            }
            Access::ReadOnly(by) => {
                let directory = path.parent().unwrap_or(path).display();
                let text = format!("{by} protects {}, the lock file of {who}", path.display());
                let fix = drop_in(unit, &format!("ReadWritePaths={directory}"));
                findings.push(Finding::fail(Check::UnitPaths, HERE, text, fix));
            }
        }
    }
    findings
}

/// What undoes a directive that hides a path.
fn shown(by: &str, path: &std::path::Path) -> String {
    match by.split_once('=') {
        Some(("ProtectHome" | "TemporaryFileSystem", "tmpfs")) => format!("BindPaths={}", path.display()),
        Some((name @ ("ProtectHome" | "PrivateTmp" | "PrivateDevices"), _)) => format!("{name}=no"),
        Some((name, _)) => format!("`{name}=` without it"),
        None => String::new(),
    }
}

fn network(unit: &Unit, wants: &Wants) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut refuse = |text: String, fix: &str| {
        findings.push(Finding::fail(Check::UnitNetwork, HERE, text, drop_in(unit, fix)));
    };
    let families: Vec<&str> = unit.list("RestrictAddressFamilies").collect();
    let denies = families.first().is_some_and(|first| first.starts_with('~'));
    let allows = |family: &str| {
        families.is_empty() || families.iter().any(|listed| listed.trim_start_matches('~') == family) != denies
    };
    if wants.peers > 0 && unit.is_set("PrivateNetwork") {
        refuse("PrivateNetwork=yes leaves no network to reach peers".into(), "PrivateNetwork=no");
    }
    if wants.peers > 0 && !allows("AF_INET") && !allows("AF_INET6") {
        refuse(
            "RestrictAddressFamilies= has neither AF_INET nor AF_INET6 to reach peers".into(),
            "RestrictAddressFamilies=AF_INET AF_INET6",
        );
    }
    if !allows("AF_UNIX") {
        refuse(
            "RestrictAddressFamilies= lacks AF_UNIX, for the control socket and for rsync's connections".into(),
            "RestrictAddressFamilies=AF_UNIX",
        );
    }
    if wants.peers > 0
        && unit.list("IPAddressDeny").any(|denied| denied == "any" || denied == "::/0" || denied == "0.0.0.0/0")
    {
        let text = "IPAddressDeny=any: see that IPAddressAllow= has every peer";
        findings.push(Finding::warn(Check::UnitNetwork, HERE, text, drop_in(unit, "IPAddressAllow=ADDRESS")));
    }
    findings
}

#[cfg(test)]
#[path = "tests/sandbox.rs"]
mod tests;
