//! Looks at a peer's files, and what an error means.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::local::{CONTENT_LIMIT, beside};
use super::super::record::Content;
use crate::ssh::{Attributes, Handle, Mode, Sftp, SftpError, SshError, Status};

/// Why an operation has no proper answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It cannot be done; for people.
    Failed(String),
    /// The connection is over.
    Broken(SshError),
}

/// What is at a path.
#[derive(Debug)]
pub(super) enum There {
    Absent,
    /// What it is instead of a file, as [`super::super::record::Found::Other`] names it.
    Other(&'static str),
    File(Seen),
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) content: Content,
    /// Its time by the server's clock, seconds since 1970.
    pub(super) modified: u32,
}

impl There {
    /// The lock of the run with this token.
    pub(super) fn held_by(&self, token: &str) -> Option<&Seen> {
        match self {
            Self::File(seen) if matches!(&seen.content, Content::Director(record) if record.token == token) => {
                Some(seen)
            }
            _ => None,
        }
    }
}

/// A path as the server reads it: what does not begin with `/` is below the directory in which a login arrives.
pub(super) fn remote(path: &Path) -> &[u8] {
    let bytes = path.as_os_str().as_bytes();
    match bytes.strip_prefix(b"~/") {
        Some(below) => &below[below.iter().take_while(|&&byte| byte == b'/').count()..],
        None => bytes,
    }
}

/// The hidden name of a take's own file.
pub(super) fn hidden(path: &Path, token: &str) -> Result<PathBuf, Trouble> {
    named(path, beside(path, "", token))
}

/// A name that was derived from a lock's.
pub(super) fn named(path: &Path, name: io::Result<PathBuf>) -> Result<PathBuf, Trouble> {
    name.map_err(|error| Trouble::Failed(format!("{}: {error}", path.display())))
}

/// The error of doing something to a path.
pub(super) fn failed(doing: &str, path: &Path, error: SftpError) -> Trouble {
    let (status, message) = match error {
        SftpError::Status { status, message } => (status, message),
        SftpError::Broken(error) => return Trouble::Broken(error),
    };
    let why = match status {
        Status::NoSuchFile => "no such file or directory".to_owned(),
        Status::PermissionDenied => "permission denied".to_owned(),
        Status::Unsupported => "its SFTP server cannot do that".to_owned(),
        Status::BadMessage => format!("its SFTP server rejects the request ({message}); the name may be too long"),
        Status::Failure | Status::Eof => format!(
            "its SFTP server says only {message:?}, as it does of a full disk, a quota or a read-only file system"
        ),
    };
    Trouble::Failed(format!("could not {doing} {}: {why}", path.display()))
}

pub(super) fn status<T>(result: &Result<T, SftpError>) -> Option<Status> {
    match result {
        Err(SftpError::Status { status, .. }) => Some(*status),
        _ => None,
    }
}

/// What `lstat` says of a path: a regular file, or the answer.
fn sort(path: &Path, lstat: Result<Attributes, SftpError>) -> Result<Result<Attributes, There>, Trouble> {
    Ok(match lstat {
        Ok(attributes) if attributes.is_dir() => Err(There::Other("a directory")),
        Ok(attributes) if attributes.is_link() => Err(There::Other("a symbolic link")),
        Ok(attributes) if attributes.is_file() => Ok(attributes),
        Ok(_) => Err(There::Other("not a regular file")),
        Err(SftpError::Status { status: Status::NoSuchFile, .. }) => Err(There::Absent),
        Err(error) => return Err(failed("look at", path, error)),
    })
}

/// Looks at a path. What could be another's is opened only when it is a regular file: a pipe would hold the server up.
pub(super) async fn see(sftp: &Sftp, path: &Path) -> Result<There, Trouble> {
    let lstat = sftp.lstat(remote(path)).await;
    see_more(sftp, path, lstat).await
}

/// The rest of [`see`], from the answer of `lstat` on.
pub(super) async fn see_more(sftp: &Sftp, path: &Path, lstat: Result<Attributes, SftpError>) -> Result<There, Trouble> {
    let attributes = match sort(path, lstat)? {
        Ok(attributes) => attributes,
        Err(there) => return Ok(there),
    };
    let unreadable = |attributes: Attributes| {
        let content = Content::Foreign("unreadable".into());
        There::File(Seen { content, modified: attributes.modified.unwrap_or_default() })
    };
    match sftp.open(remote(path), Mode::Read).await {
        Ok(handle) => Ok(There::File(read(path, &handle).await?.0)),
        Err(SftpError::Status { status: Status::NoSuchFile, .. }) => Ok(There::Absent),
        // It exists, and that is what counts.
        Err(SftpError::Status { status: Status::PermissionDenied, .. }) => Ok(unreadable(attributes)),
        Err(error) => Err(failed("open", path, error)),
    }
}

/// Opens what should be our own lock, to be changed in place; tells what is there instead if it is not a regular file.
///
/// The open does not wait for the look: as it is also for writing, not even a pipe can hold it up.
pub(super) async fn open_own(sftp: &Sftp, path: &Path) -> Result<Result<Handle, There>, Trouble> {
    let (lstat, handle) = (sftp.lstat(remote(path)), sftp.open(remote(path), Mode::Update));
    let (lstat, handle) = (lstat.await, handle.await);
    if let Err(there) = sort(path, lstat)? {
        return Ok(Err(there));
    }
    match handle {
        Ok(handle) => Ok(Ok(handle)),
        Err(SftpError::Status { status: Status::NoSuchFile, .. }) => Ok(Err(There::Absent)),
        Err(error) => Err(failed("open", path, error)),
    }
}

/// An open file's content with the bytes that it was read from.
pub(super) async fn read(path: &Path, handle: &Handle) -> Result<(Seen, Vec<u8>), Trouble> {
    let limit = u32::try_from(CONTENT_LIMIT).expect("a small number");
    let (first, attributes) = (handle.read(0, limit), handle.stat());
    let mut bytes = first.await.map_err(|error| failed("read", path, error))?;
    let attributes = attributes.await.map_err(|error| failed("read", path, error))?;
    let size = attributes.size.unwrap_or(CONTENT_LIMIT).min(CONTENT_LIMIT);
    while (bytes.len() as u64) < size {
        let offset = bytes.len() as u64;
        let length = u32::try_from(size - offset).expect("within the limit");
        match handle.read(offset, length).await.map_err(|error| failed("read", path, error))? {
            more if more.is_empty() => break,
            more => bytes.extend_from_slice(&more),
        }
    }
    Ok((Seen { content: Content::parse(&bytes), modified: time(path, attributes)? }, bytes))
}

/// The time of a file's last change, seconds since 1970.
pub(super) fn time(path: &Path, attributes: Attributes) -> Result<u32, Trouble> {
    let none = || Trouble::Failed(format!("could not look at {}: its SFTP server tells no times", path.display()));
    attributes.modified.ok_or_else(none)
}

/// Adds a line to a file.
pub(super) async fn append(sftp: &Sftp, path: &Path, line: &[u8]) -> Result<(), SftpError> {
    let handle = sftp.open(remote(path), Mode::Append).await?;
    // The server puts it at the end, whatever the offset.
    let written = handle.write(0, line);
    let closed = handle.close();
    written.await?;
    closed.await
}

/// Makes the directories that a path lacks.
pub(super) async fn make_parents(sftp: &Sftp, path: &Path) -> Result<(), Trouble> {
    let mut missing = Vec::new();
    for parent in path.ancestors().skip(1) {
        if parent == Path::new("") || parent == Path::new("~") {
            break;
        }
        match sftp.stat(remote(parent)).await {
            Ok(attributes) if attributes.is_dir() => break,
            Ok(_) => return Err(Trouble::Failed(format!("{} is not a directory", parent.display()))),
            Err(SftpError::Status { status: Status::NoSuchFile, .. }) => missing.push(parent),
            Err(error) => return Err(failed("look at", parent, error)),
        }
    }
    for parent in missing.into_iter().rev() {
        match sftp.mkdir(remote(parent)).await {
            Ok(()) => {}
            // Another may have made it in the same moment.
            Err(error) => match sftp.stat(remote(parent)).await {
                Ok(attributes) if attributes.is_dir() => {}
                _ => return Err(failed("create directory", parent, error)),
            },
        }
    }
    Ok(())
}

pub(super) async fn exists(sftp: &Sftp, path: &Path) -> Result<bool, Trouble> {
    match sftp.lstat(remote(path)).await {
        Ok(_) => Ok(true),
        Err(SftpError::Status { status: Status::NoSuchFile, .. }) => Ok(false),
        Err(error) => Err(failed("look at", path, error)),
    }
}
