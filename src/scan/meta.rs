//! What rsync keeps of a file beside its content: owners, modes, link targets, extended attributes, hard links.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{Statx, lgetxattr, llistxattr, readlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::entry::Meta;

/// Bound on the names and on a value of the attributes of one file, bytes: the kernel's own (xattr(7)).
const ATTRIBUTES_MAX: usize = 64 * 1024;

/// Which extended attributes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// ACLs (`--acls`).
    pub acls: bool,
    /// All others (`--xattrs`).
    pub others: bool,
    /// Of the others those of the namespace `user` alone: rsync copies no more where one of its ends is not run by root.
    pub user_only: bool,
}

impl Attributes {
    /// Whether any do.
    pub fn any(self) -> bool {
        self.acls || self.others
    }

    /// Whether rsync copies one of this name. rsync(1), `--xattrs`: all but `system.*` by root, and not what `--fake-super` keeps there; ACLs,
    /// which the kernel has among them, go by `--acls`.
    fn has(self, name: &[u8]) -> bool {
        match name {
            b"" => false,
            b"system.posix_acl_access" | b"system.posix_acl_default" => self.acls,
            name if name.starts_with(b"system.") || name.starts_with(b"user.rsync.%") => false,
            name => self.others && (!self.user_only || name.starts_with(b"user.")),
        }
    }
}

/// Files with several names that were met, each with its number.
#[derive(Debug, Default)]
pub(super) struct Links {
    known: HashMap<(u32, u32, u64), u64>,
}

impl Links {
    fn number(&mut self, about: &Statx) -> Option<u64> {
        let is_directory = rustix::fs::FileType::from_raw_mode(about.stx_mode.into()).is_dir();
        if about.stx_nlink < 2 || is_directory {
            return None;
        }
        let next = self.known.len() as u64;
        Some(*self.known.entry((about.stx_dev_major, about.stx_dev_minor, about.stx_ino)).or_insert(next))
    }
}

/// Everything about a name in an open directory (of the directory itself, where the name is empty).
pub(super) fn of(
    parent: BorrowedFd<'_>,
    name: &CStr,
    about: &Statx,
    attributes: Attributes,
    links: &mut Links,
) -> io::Result<Meta> {
    let is_link = rustix::fs::FileType::from_raw_mode(about.stx_mode.into()).is_symlink();
    Ok(Meta {
        mode: u32::from(about.stx_mode) & 0o7777,
        owner: about.stx_uid,
        group: about.stx_gid,
        target: if is_link { Some(readlinkat(parent, name, Vec::new())?.into_bytes()) } else { None },
        attributes: if attributes.any() { digest(parent, name, attributes)? } else { None },
        links: links.number(about),
    })
}

/// A digest of the extended attributes that count; `None` when there are none.
fn digest(parent: BorrowedFd<'_>, name: &CStr, attributes: Attributes) -> io::Result<Option<[u8; 16]>> {
    let user_only = attributes.user_only || !rustix::process::geteuid().is_root();
    let attributes = Attributes { user_only, ..attributes };
    // There is no call for a name in a directory: this is its path, through the directory that is open.
    let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name.to_bytes()].concat();
    let path = CString::new(path)?;
    let listed = read(|buffer| match llistxattr(&path, buffer) {
        Err(Errno::OPNOTSUPP) => Ok(0),
        answer => answer,
    })?;
    let mut names: Vec<&[u8]> = listed.split(|&byte| byte == 0).filter(|name| attributes.has(name)).collect();
    names.sort_unstable();
    let mut digest = None;
    for name in names {
        let attribute = CString::new(name)?;
        let value = match read(|buffer| lgetxattr(&path, &attribute, buffer)) {
            Ok(value) => value,
            // Taken away since it was listed.
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        };
        let digest = digest.get_or_insert_with(Sha256::new);
        for part in [name, &value[..]] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    Ok(digest.map(|digest| {
        let mut short = [0; 16];
        short.copy_from_slice(&digest.finalize()[..16]);
        short
    }))
}

/// What a call puts into a buffer: a small one, and the largest where that does not do.
fn read(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; 512];
    match call(&mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; ATTRIBUTES_MAX];
            let length = call(&mut large)?;
            large.truncate(length);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}
