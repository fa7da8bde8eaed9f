//! Files that are made on a peer: a temporary one, a name given only once; and what must not be done late.

use std::path::{Path, PathBuf};

use super::super::record::Record;
use super::files::{Trouble, exists, failed, make_parents, remote, status, time};
use crate::ssh::{Attributes, Handle, Mode, Sftp, SftpError, Status};

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
    /// Makes one, from the answer of the first open on. The name is this take's alone: what is there already was left by an
    /// operation that broke off.
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
        async move { time(&path, attributes.await.map_err(|error| failed("look at", &path, error))?) }
    }

    /// Fills it.
    pub(super) async fn fill(self, record: &Record) -> Result<Temporary<'a>, Trouble> {
        let Self { mut temporary, handle } = self;
        let filled = fill(handle, record).await.map_err(|error| failed("write", &temporary.path, error))?;
        temporary.now = time(&temporary.path, filled)?;
        Ok(temporary)
    }
}

/// Writes a record into a new file; returns what is known of the file then.
async fn fill(handle: Handle, record: &Record) -> Result<Attributes, SftpError> {
    let (written, attributes) = (handle.write(0, record.encode().as_bytes()), handle.stat());
    let closed = handle.close();
    written.await?;
    let attributes = attributes.await?;
    closed.await?;
    Ok(attributes)
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
    let attempts = if sftp.can_hardlink() { 2 } else { 0 };
    for _ in 0..attempts {
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
