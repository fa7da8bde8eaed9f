//! What the options of the syncs and the commands need of the unit's user, capabilities and system calls. Pure; tested with `sandbox`.

use super::HERE;
use super::finding::{Check, Finding};
use super::needs::End;
use super::sandbox::{Wants, drop_in};
use super::unit::Unit;
use crate::config::Command;
use crate::logging::escaped;
use crate::redact;

/// Everything that is missing.
pub(super) fn judge(unit: &Unit, wants: &Wants) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (end, setgid) in &wants.receives {
        if end.is_dry_run() || end.has(&["fake-super"]) {
            continue;
        }
        match unit.is_root() {
            true => findings.extend(as_root(unit, end)),
            false => findings.extend(as_user(unit, end)),
        }
        findings.extend(set_id(unit, end, setgid.as_deref()));
    }
    let read_here = wants.receives.iter().map(|(end, _)| end).filter(|_| unit.is_root()).chain(&wants.sends);
    findings.extend(read_here.filter_map(|end| trusted(unit, end)));
    for (name, command) in &wants.commands {
        findings.extend(privileged_command(unit, name, command));
    }
    if !unit.has("cap_net_bind_service") && (1..1024).contains(&wants.port) {
        let text = format!("port {} of `metrics` needs the capability CAP_NET_BIND_SERVICE", wants.port);
        findings.push(Finding::fail(Check::UnitRights, HERE, text, "use a port from 1024 on"));
    }
    findings
}

/// A kept property: the option, what it needs of a superuser's process, and what happens without.
struct Kept {
    option: &'static str,
    letter: &'static str,
    capability: &'static str,
    calls: &'static [&'static str],
    what: &'static str,
    /// Whether it fails for every file, or only for some that a source may have.
    always: bool,
}

/// rsync(1) on what a superuser's rsync does; capabilities(7) on what that needs.
const KEPT: [Kept; 6] = [
    Kept {
        option: "owner",
        letter: "-o",
        capability: "cap_chown",
        calls: &["chown", "lchown", "fchownat"],
        what: "owners",
        always: true,
    },
    Kept {
        option: "group",
        letter: "-g",
        capability: "cap_chown",
        calls: &["chown", "lchown", "fchownat"],
        what: "groups",
        always: true,
    },
    Kept {
        option: "perms",
        letter: "-p",
        capability: "cap_fowner",
        calls: &["chmod", "fchmod", "fchmodat"],
        what: "permissions and times of files that are not root's",
        always: true,
    },
    Kept {
        option: "devices",
        letter: "-D",
        capability: "cap_mknod",
        calls: &["mknod", "mknodat"],
        what: "devices",
        always: false,
    },
    Kept {
        option: "xattrs",
        letter: "-X",
        capability: "cap_setfcap",
        calls: &["setxattr", "lsetxattr", "fsetxattr"],
        what: "capabilities of files (security.capability)",
        always: false,
    },
    Kept {
        option: "hard-links",
        letter: "-H",
        capability: "cap_fowner",
        calls: &["link", "linkat"],
        what: "hard links of files that are not root's",
        always: false,
    },
];

fn as_root(unit: &Unit, end: &End) -> Vec<Finding> {
    let name = &end.name;
    let mut findings = Vec::new();
    for kept in KEPT.iter().filter(|kept| end.keeps(kept.option)) {
        let Kept { letter, capability, calls, what, .. } = kept;
        let by_devices = (kept.option == "devices").then(|| devices_denied(unit)).flatten();
        let missing = match by_devices {
            Some(directive) => format!("{directive} is set"),
            None if !unit.has(capability) => format!("{} is missing", capability.to_uppercase()),
            None if !unit.may_call(calls) => format!("SystemCallFilter= lacks {}", calls.join(" ")),
            None => continue,
        };
        let fix = drop_in(
            unit,
            &match (by_devices, unit.has(capability)) {
                (Some(_), _) => "PrivateDevices=no, DeviceAllow=block-* m, DeviceAllow=char-* m".to_owned(),
                (None, false) => format!("CapabilityBoundingSet={}", capability.to_uppercase()),
                (None, true) => format!("SystemCallFilter={}", calls.join(" ")),
            },
        ) + &format!("; or leave {letter} out");
        findings.push(match kept.always {
            true => {
                let text = format!("{missing}, so {letter} of {name} cannot keep {what}: rsync would end with 23");
                Finding::fail(Check::UnitRights, HERE, text, fix)
            }
            false => {
                let text = format!("{missing}, so {letter} of {name} ends with 23 as soon as the source has {what}");
                Finding::warn(Check::UnitRights, HERE, text, fix)
            }
        });
    }
    if end.dest.is_some() && !unit.has("cap_dac_override") {
        let text = format!("CAP_DAC_OVERRIDE is missing, so {name} can only write where root itself may");
        let fix = drop_in(unit, "CapabilityBoundingSet=CAP_DAC_OVERRIDE");
        findings.push(Finding::warn(Check::UnitRights, HERE, text, fix));
    }
    findings
}

/// Who may not administer the host does not even see attributes of this kind (xattr(7)): file servers and container stores keep such.
fn trusted(unit: &Unit, end: &End) -> Option<Finding> {
    if !end.keeps("xattrs") || end.is_dry_run() || unit.has("cap_sys_admin") {
        return None;
    }
    let name = &end.name;
    let text =
        format!("CAP_SYS_ADMIN is missing, so -X of {name} leaves attributes `trusted.*` out, and does not say so");
    let fix = drop_in(unit, "CapabilityBoundingSet=CAP_SYS_ADMIN") + ", if `getfattr -R -m '^trusted' DIR` finds any";
    Some(Finding::warn(Check::UnitRights, HERE, text, fix))
}

fn devices_denied(unit: &Unit) -> Option<&'static str> {
    match unit.get("DevicePolicy") {
        _ if unit.is_set("PrivateDevices") => Some("PrivateDevices=yes"),
        _ if unit.may_make_devices() => None,
        "strict" => Some("DevicePolicy=strict"),
        _ => Some("DevicePolicy=closed"),
    }
}

/// rsync of another user does not even try what only a superuser's can (rsync(1), `--super`).
fn as_user(unit: &Unit, end: &End) -> Option<Finding> {
    let (name, user) = (&end.name, unit.user());
    let owned =
        [("owner", "owners"), ("devices", "devices"), ("xattrs", "extended attributes but those of users (`user.*`)")];
    let mut lost: Vec<&str> = owned.iter().filter(|(option, _)| end.keeps(option)).map(|(_, what)| *what).collect();
    if end.keeps("group") {
        lost.push("groups that the user is not in");
    }
    if lost.is_empty() {
        return None;
    }
    let list = lost.join(", ");
    if end.has(&["super"]) {
        let text =
            format!("the unit runs as {user}, and --super makes {name} try to keep {list}: it would end with 23");
        return Some(Finding::fail(Check::UnitRights, HERE, text, "leave --super out, or run the unit as root"));
    }
    let text = format!("the unit runs as {user}: {name} does not keep {list}, and does not say so");
    Some(Finding::warn(Check::UnitRights, HERE, text, "use --fake-super, or the unit's default mode (root)"))
}

/// `RestrictSUIDSGID=` refuses to make files and directories with these bits, and so does a user who is not in the group.
fn set_id(unit: &Unit, end: &End, setgid: Option<&str>) -> Option<Finding> {
    if !unit.is_set("RestrictSUIDSGID") || !end.keeps("perms") {
        return None;
    }
    let (name, fix) = (&end.name, drop_in(unit, "RestrictSUIDSGID=no") + "; or add --chmod=ug-s");
    Some(match setgid {
        Some(directory) => {
            let text = format!(
                "RestrictSUIDSGID=yes refuses the setgid directory {directory} of {name}: rsync would end with 23"
            );
            Finding::fail(Check::UnitRights, HERE, text, fix)
        }
        None => {
            let text =
                format!("RestrictSUIDSGID=yes: {name} ends with 23 as soon as its source has a setuid or setgid file");
            Finding::warn(Check::UnitRights, HERE, text, fix)
        }
    })
}

/// A command that needs what the unit takes.
fn privileged_command(unit: &Unit, name: &str, command: &Command) -> Option<Finding> {
    let line = match command {
        Command::Shell(line) => line.to_string_lossy().into_owned(),
        Command::Exec { program, .. } => program.to_string_lossy().into_owned(),
    };
    let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || ";|&(".contains(c)).collect();
    let uses = |programs: &[&'static str]| {
        let called = |program: &&&str| words.iter().any(|word| word.rsplit('/').next() == Some(**program));
        programs.iter().find(called).copied()
    };
    let shown = escaped(&redact::command_line(&line)).into_owned();
    let becomes_another = uses(&["sudo", "su", "doas", "runuser", "setpriv"]);
    // A superuser needs no setuid program for that, but the capabilities.
    if let Some(program) = becomes_another.filter(|_| !unit.is_root() && unit.is_set("NoNewPrivileges")) {
        let text = format!("NoNewPrivileges=yes keeps `{program}` of {name} (`{shown}`) from working");
        return Some(Finding::fail(Check::UnitRights, HERE, text, drop_in(unit, "NoNewPrivileges=no")));
    }
    let lacks = ["cap_setuid", "cap_setgid"].into_iter().find(|capability| !unit.has(capability));
    if let (Some(program), Some(capability), true) = (becomes_another, lacks, unit.is_root()) {
        let capability = capability.to_uppercase();
        let text = format!("{capability} is missing, so `{program}` of {name} (`{shown}`) cannot become another user");
        let fix = drop_in(unit, "CapabilityBoundingSet=CAP_SETUID CAP_SETGID");
        return Some(Finding::fail(Check::UnitRights, HERE, text, fix));
    }
    if let Some(program) =
        uses(&["mount", "umount"]).filter(|_| !unit.has("cap_sys_admin") || !unit.may_call(&["mount"]))
    {
        let text =
            format!("`{program}` of {name} (`{shown}`) needs CAP_SYS_ADMIN and @mount, which the unit does not have");
        let fix = "let systemd mount it (`systemctl start mnt-x.mount`), or use the drop-in host.conf".to_owned();
        return Some(Finding::fail(Check::UnitRights, HERE, text, fix));
    }
    None
}
