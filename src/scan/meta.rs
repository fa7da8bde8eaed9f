//! What rsync keeps of a file beside its content: owners, modes, link targets, extended attributes, hard links.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{Statx, lgetxattr, llistxattr, readlinkat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::entry::Meta;

/// Bound on the names and on a value of the attributes of one file, bytes: the kernel's own (xattr(7)).
const ATTRIBUTES_MAX: usize = 64 * 1024;

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
    attributes: bool,
    links: &mut Links,
) -> io::Result<Meta> {
    let is_link = rustix::fs::FileType::from_raw_mode(about.stx_mode.into()).is_symlink();
    Ok(Meta {
        mode: u32::from(about.stx_mode) & 0o7777,
        owner: about.stx_uid,
        group: about.stx_gid,
        target: if is_link { Some(readlinkat(parent, name, Vec::new())?.into_bytes()) } else { None },
        attributes: if attributes { digest(parent, name)? } else { None },
        links: links.number(about),
    })
}

/// A digest of all extended attributes that rsync copies for this user; `None` when there are none.
fn digest(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<[u8; 16]>> {
    // There is no call for a name in a directory: this is its path, through the directory that is open.
    let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name.to_bytes()].concat();
    let path = CString::new(path)?;
    let mut buffer = vec![0; ATTRIBUTES_MAX];
    let length = match llistxattr(&path, &mut buffer) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut names: Vec<&[u8]> = buffer[..length].split(|&byte| byte == 0).filter(|name| is_copied(name)).collect();
    if names.is_empty() {
        return Ok(None);
    }
    names.sort_unstable();
    let mut digest = Sha256::new();
    let mut value = vec![0; ATTRIBUTES_MAX];
    for name in names {
        let length = lgetxattr(&path, CString::new(name)?, &mut value)?;
        for part in [name, &value[..length]] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    let digest = digest.finalize();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    Ok(Some(short))
}

/// rsync(1), `--xattrs`: by default all but `system.*` are copied by root; ACLs, which are there, go by `--acls`.
fn is_copied(name: &[u8]) -> bool {
    let is_acl = matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default");
    !name.is_empty() && (is_acl || !name.starts_with(b"system."))
}
