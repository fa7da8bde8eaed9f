//! The second wall: this process, and the rsync that it becomes, can reach nothing but the policy's directories, whatever they are led to do.
//!
//! Landlock (Linux 5.19 and later) lets only those files be opened, read or written, that lie there, plus what a program needs to run at all: its
//! libraries, the names of users and groups, the time zone. It does not care about modes and times; so root, who could change those
//! of any file, gets a mount namespace of its own in which all else is read-only and no device can be opened, and keeps only the
//! capabilities by which a tree is copied with its attributes.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, remove_capability_from_bounding_set, set_capabilities,
    unshare_unsafe,
};

use super::Access;
use super::admit::Call;
use super::policy::{Confinement, Policy};

/// What a dynamically linked rsync reads beside its data. What is not there is left out.
const SYSTEM: [&str; 14] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/dev/urandom",
];
/// What the agent reads beside its data: names of users and groups.
const ACCOUNTS: [&str; 2] = ["/etc/passwd", "/etc/group"];
/// What is written beside the data.
const SINK: &str = "/dev/null";
/// What of root's rights makes a copy with owners, modes, attributes and file capabilities.
const KEPT: [CapabilitySet; 6] = [
    CapabilitySet::CHOWN,
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::DAC_READ_SEARCH,
    CapabilitySet::FOWNER,
    CapabilitySet::FSETID,
    CapabilitySet::SETFCAP,
];
/// The variables that rsync may see of those that the client can send (sshd_config(5), `AcceptEnv`): they name character sets.
const LOCALE: [&str; 3] = ["LANG", "LC_ALL", "LC_CTYPE"];

/// Why this process could not be shut in; then nothing is started.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The kernel has no Landlock, or too old a one.
    #[error("this kernel cannot confine rsync: Landlock of Linux 5.19 is needed (`confinement: paths` does without)")]
    Landlock(#[source] RulesetError),
    /// It has, but does not enforce it.
    #[error("this kernel has Landlock switched off (`confinement: paths` does without)")]
    Off,
    /// A directory cannot be opened.
    #[error("{}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Root could not get a view of its own.
    #[error("could not make a mount namespace, which root needs (`confinement: paths` does without)")]
    Namespace(#[source] io::Error),
    /// A right could not be given up.
    #[error("could not give up a capability")]
    Capability(#[source] io::Error),
    /// rsync could not be started.
    #[error("could not start {}", program.display())]
    Exec {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Becomes rsync; returns only if that fails.
pub fn become_rsync(policy: &Policy, call: &Call) -> ConfineError {
    if let Err(error) = shut_in_for(policy, call) {
        return error;
    }
    let locale = LOCALE.iter().filter_map(|name| std::env::var(name).ok().map(|value| (name, value)));
    // Neither a configuration of the account (`~/.popt` has aliases for options) nor a variable of the client.
    let source = Command::new(&policy.rsync)
        .args(&call.args)
        .env_clear()
        .envs(locale.filter(|(_, value)| is_locale(value)))
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .current_dir("/")
        .exec();
    ConfineError::Exec { program: policy.rsync.clone(), source }
}

fn is_locale(value: &str) -> bool {
    value.len() <= 64 && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-@".contains(&byte))
}

fn shut_in_for(policy: &Policy, call: &Call) -> Result<(), ConfineError> {
    if policy.confinement == Confinement::Paths {
        return Ok(());
    }
    let real = |roots: &[super::policy::Root]| roots.iter().map(|root| root.real.clone()).collect::<Vec<_>>();
    let (mut read, mut write) = match call.access {
        None => (Vec::new(), Vec::new()),
        Some(Access::Read) => ([real(&policy.read), real(&policy.write)].concat(), Vec::new()),
        Some(Access::Write) => (real(&policy.read), real(&policy.write)),
    };
    if rustix::process::geteuid().is_root() {
        freeze_all_but(&write).map_err(ConfineError::Namespace)?;
        give_up_rights(policy.devices)?;
    }
    read.extend(SYSTEM.iter().map(PathBuf::from).filter(|path| path.exists()));
    write.push(SINK.into());
    let execute = [policy.rsync.clone()];
    restrict(&read, &write, &execute)
}

/// For lock operations: the directories of the policy's lock files, which are made if they are not there.
///
/// # Errors
/// [`ConfineError`].
pub fn shut_in_for_locks(policy: &Policy) -> Result<(), ConfineError> {
    let directories: Vec<PathBuf> = policy.locks.iter().filter_map(|lock| lock.parent().map(Path::to_owned)).collect();
    for path in &directories {
        std::fs::create_dir_all(path).map_err(|source| ConfineError::Path { path: path.clone(), source })?;
    }
    if policy.confinement == Confinement::Paths {
        return Ok(());
    }
    let zones = ["/etc/localtime", "/usr/share/zoneinfo"].map(PathBuf::from);
    restrict(&zones.into_iter().filter(|path| path.exists()).collect::<Vec<_>>(), &directories, &[])
}

/// For the agent of a verification, which this process then is: the directories of the policy can be read, nothing can be written. Before any thread
/// is started, since each is shut in by itself.
///
/// # Errors
/// [`ConfineError`].
pub fn shut_in_for_agent(policy: &Policy) -> Result<(), ConfineError> {
    if policy.confinement == Confinement::Paths {
        return Ok(());
    }
    if rustix::process::geteuid().is_root() {
        freeze_all_but(&[]).map_err(ConfineError::Namespace)?;
        keep_reading().map_err(|error| ConfineError::Capability(error.into()))?;
    }
    let accounts = ACCOUNTS.iter().map(PathBuf::from).filter(|path| path.exists());
    let read: Vec<PathBuf> = policy.readable().map(|root| root.real.clone()).chain(accounts).collect();
    restrict(&read, &[], &[])
}

/// Takes from this process all of root's rights but that to read everything.
fn keep_reading() -> Result<(), Errno> {
    let held = capabilities(None)?.permitted;
    let kept = held.intersection(CapabilitySet::DAC_READ_SEARCH);
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })
}

/// Landlock: from here on these can be opened, and nothing else. No network, no signals to others.
fn restrict(read: &[PathBuf], write: &[PathBuf], execute: &[PathBuf]) -> Result<(), ConfineError> {
    // The second version is the first that lets files be linked and renamed between directories.
    let (needed, known) = (ABI::V2, ABI::V6);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(needed))
        .map_err(ConfineError::Landlock)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(known))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(known)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(known)))
        .and_then(Ruleset::create)
        .map_err(ConfineError::Landlock)?;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    // The loader maps libraries to execute them.
    let running = reading | AccessFs::Execute;
    let writing = AccessFs::from_all(known) & !(AccessFs::Execute | AccessFs::IoctlDev);
    let rules = (read.iter().map(|path| (path, if is_system(path) { running } else { reading })))
        .chain(write.iter().map(|path| (path, writing)))
        .chain(execute.iter().map(|path| (path, running)));
    let mut created = ruleset;
    for (path, access) in rules {
        created = created.add_rule(rule(path, access)?).map_err(ConfineError::Landlock)?;
    }
    let status = created.restrict_self().map_err(ConfineError::Landlock)?;
    if status.ruleset == RulesetStatus::NotEnforced { Err(ConfineError::Off) } else { Ok(()) }
}

fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|system| Path::new(system) == path)
}

fn rule(path: &Path, access: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, ConfineError> {
    let failed = |source| ConfineError::Path { path: path.to_owned(), source };
    let is_directory = std::fs::metadata(path).map_err(failed)?.is_dir();
    let opened = PathFd::new(path).map_err(|error| failed(io::Error::other(error)))?;
    let access = if is_directory { access } else { access & AccessFs::from_file(ABI::V6) };
    Ok(PathBeneath::new(opened, access))
}

/// A view of the file systems in which only these directories can be changed, and no device be opened there.
fn freeze_all_but(write: &[PathBuf]) -> io::Result<()> {
    // SAFETY: of what `unshare` can do, only the mount namespace is asked for; no descriptor table is unshared.
    #[expect(unsafe_code, reason = "rustix marks the call for its other flags")]
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // Copies keep what is read-only in them; they cover the frozen originals.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copies: Vec<OwnedFd> = write.iter().map(|path| open_tree(CWD, path, flags)).collect::<Result<_, Errno>>()?;
    let root = open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    add_attributes(&root, libc::MOUNT_ATTR_RDONLY)?;
    for (copy, path) in copies.iter().zip(write) {
        add_attributes(copy, libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC)?;
        move_mount(copy, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    }
    Ok(())
}

/// mount_setattr(2) on a mount and all below it.
fn add_attributes(mount: &OwnedFd, attributes: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the descriptor is open, the path is a C string, the structure is of the size that is told, and all outlive the call.
    #[expect(unsafe_code, reason = "no crate in use has this system call")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes from whatever is executed next all of root's rights but those that copy a tree.
fn give_up_rights(devices: bool) -> Result<(), ConfineError> {
    let kept = KEPT
        .into_iter()
        .chain(devices.then_some(CapabilitySet::MKNOD))
        .fold(CapabilitySet::empty(), CapabilitySet::union);
    for right in CapabilitySet::all().difference(kept).iter() {
        match remove_capability_from_bounding_set(right) {
            // The kernel is older than that right.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(ConfineError::Capability(error.into())),
        }
    }
    Ok(())
}
