//! Single steps on a peer's files: what is there, a temporary file, a name given only once; and what an error means.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::local::{CONTENT_LIMIT, beside};
use super::super::record::{Content, Record};
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

/// The hidden name beside a lock.
pub(super) fn hidden(path: &Path, kind: &str, token: &str) -> Result<PathBuf, Trouble> {
    beside(path, kind, token).map_err(|error| Trouble::Failed(format!("{}: {error}", path.display())))
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
        There::File(Seen { content, modified: attributes.modified.unwrap_or(u32::MAX) })
    };
    match sftp.open(remote(path), Mode::Read).await {
        Ok(handle) => Ok(There::File(read(path, &handle).await?.0)),
        Err(SftpError::Status { status: Status::NoSuchFile, .. }) => Ok(There::Absent),
        // It exists, and that is what counts.
        Err(SftpError::Status { .. }) => Ok(unreadable(attributes)),
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
    // A server that tells no time: never old.
    let modified = attributes.modified.unwrap_or(u32::MAX);
    Ok((Seen { content: Content::parse(&bytes), modified }, bytes))
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

/// What must not be done late: if it is given up before it is [`Act::over`], the connection is cut.
pub(super) struct Act<'a>(Option<&'a Sftp>);

impl<'a> Act<'a> {
    pub(super) fn of(sftp: &'a Sftp) -> Self {
        Self(Some(sftp))
    }

    pub(super) fn over(mut self) {
        self.0 = None;
    }
}

impl Drop for Act<'_> {
    fn drop(&mut self) {
        if let Some(sftp) = self.0 {
            sftp.cut();
        }
    }
}

/// A file of ours that the server has just made; removed when dropped.
pub(super) struct Temporary<'a> {
    sftp: &'a Sftp,
    pub(super) path: PathBuf,
    /// The server's clock when it was filled, seconds since 1970.
    pub(super) now: u32,
    /// Not when it has become the lock.
    exists: bool,
}

/// A temporary file with nothing in it yet.
pub(super) struct Blank<'a> {
    temporary: Temporary<'a>,
    handle: Handle,
}

impl<'a> Temporary<'a> {
    /// Makes one. The name is this run's alone: what is there already was left by an operation that broke off.
    pub(super) async fn create(sftp: &'a Sftp, path: PathBuf) -> Result<Blank<'a>, Trouble> {
        let opened = sftp.open(remote(&path), Mode::CreateNew).await;
        Self::created(sftp, path, opened).await
    }

    /// The rest of [`Temporary::create`], from the answer of the open on.
    pub(super) async fn created(
        sftp: &'a Sftp,
        path: PathBuf,
        opened: Result<Handle, SftpError>,
    ) -> Result<Blank<'a>, Trouble> {
        let opened = match status(&opened) {
            Some(Status::NoSuchFile) => {
                make_parents(sftp, &path).await?;
                sftp.open(remote(&path), Mode::CreateNew).await
            }
            Some(Status::Failure) => {
                let (removed, again) = (sftp.remove(remote(&path)), sftp.open(remote(&path), Mode::CreateNew));
                // Fails where nothing was left; then the second attempt tells why.
                let _ = removed.await;
                again.await
            }
            _ => opened,
        };
        let handle = opened.map_err(|error| failed("create", &path, error))?;
        Ok(Blank { temporary: Self { sftp, path, now: 0, exists: true }, handle })
    }

    /// It is the lock now.
    pub(super) fn renamed(mut self) {
        self.exists = false;
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.exists {
            drop(self.sftp.remove(remote(&self.path)));
        }
    }
}

impl<'a> Blank<'a> {
    /// The server's clock, seconds since 1970: when the file was made. Asked for at once.
    pub(super) fn now(&self) -> impl Future<Output = Result<u32, Trouble>> + Send + use<> {
        let (attributes, path) = (self.handle.stat(), self.temporary.path.clone());
        async move { attributes.await.map(time).map_err(|error| failed("look at", &path, error)) }
    }

    /// Fills it.
    pub(super) async fn fill(self, record: &Record) -> Result<Temporary<'a>, Trouble> {
        let Self { mut temporary, handle } = self;
        let filled = fill(handle, record).await;
        temporary.now = filled.map_err(|error| failed("write", &temporary.path, error))?;
        Ok(temporary)
    }
}

/// Writes a record into a new file; returns the server's clock.
async fn fill(handle: Handle, record: &Record) -> Result<u32, SftpError> {
    let (written, attributes) = (handle.write(0, record.encode().as_bytes()), handle.stat());
    let closed = handle.close();
    written.await?;
    let attributes = attributes.await?;
    closed.await?;
    Ok(time(attributes))
}

/// A server that tells no time: nothing is old.
fn time(attributes: Attributes) -> u32 {
    attributes.modified.unwrap_or(0)
}

/// Gives `path` the content of `temporary` if nothing is there: `false` if something is.
pub(super) async fn link_or_create(
    sftp: &Sftp,
    temporary: &Temporary<'_>,
    path: &Path,
    record: &Record,
) -> Result<bool, Trouble> {
    // The answer is the same for "something is there" and for "no hard links here". What was there may just have gone, so
    // that counts for the latter only when it comes twice.
    for _ in 0..if sftp.can_hardlink() { 2 } else { 0 } {
        match sftp.hardlink(remote(&temporary.path), remote(path)).await {
            Ok(()) => return Ok(true),
            Err(error @ SftpError::Broken(_)) => return Err(failed("create", path, error)),
            Err(SftpError::Status { .. }) => {}
        }
        if exists(sftp, path).await? {
            return Ok(false);
        }
    }
    let handle = match sftp.open(remote(path), Mode::CreateNew).await {
        Ok(handle) => handle,
        Err(error @ SftpError::Broken(_)) => return Err(failed("create", path, error)),
        Err(_) if exists(sftp, path).await? => return Ok(false),
        Err(error) => return Err(failed("create", path, error)),
    };
    let act = Act::of(sftp);
    let filled = fill(handle, record).await;
    if matches!(filled, Err(SftpError::Status { .. })) {
        sftp.remove(remote(path)).await.map_err(|error| failed("remove", path, error))?;
    }
    if !matches!(filled, Err(SftpError::Broken(_))) {
        act.over();
    }
    filled.map(|_| true).map_err(|error| failed("write", path, error))
}

async fn exists(sftp: &Sftp, path: &Path) -> Result<bool, Trouble> {
    match sftp.lstat(remote(path)).await {
        Ok(_) => Ok(true),
        Err(SftpError::Status { status: Status::NoSuchFile, .. }) => Ok(false),
        Err(error) => Err(failed("look at", path, error)),
    }
}
