//! A client of the SSH file transfer protocol, version 3, with the two extensions of OpenSSH that locks need.
//!
//! [`Pool::sftp`](super::Pool::sftp) gives an [`Sftp`]: the one session that a connection has. Each method sends its request at
//! once, in the order of the calls, and returns a future of the answer; so requests that do not depend on each other travel
//! together when their futures are made before the first is awaited. A server answers in the order of the requests. Dropping
//! such a future leaves the request sent.
//!
//! Deliberately absent: bulk transfer, directories' content, links' targets. The library's companion crate is not used: its
//! answers to binary handles are lossy, its timeouts whole seconds, its tasks nobody's, and it brings a second calendar.

pub(super) mod packet;

use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

pub use packet::Attributes;
use packet::{
    ATTRIBUTE_PERMISSIONS, CLOSE, EXTENDED, FSTAT, LSTAT, MKDIR, OPEN, Packet, READ, REMOVE, Reply, STAT, WRITE,
};

use super::error::SshError;
use super::native::{Session, SftpChannel};
use super::pool::Pool;
use crate::config::Peer;

/// The name of an extension: a second name for a file, as link(2).
const HARDLINK: &[u8] = b"hardlink@openssh.com";
/// The name of an extension: a rename that replaces, as rename(2). The protocol's own refuses to replace.
const POSIX_RENAME: &[u8] = b"posix-rename@openssh.com";

/// Why a request was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SftpError {
    /// The server refused it or failed.
    #[error("{status:?}: {message}")]
    Status {
        /// The kind.
        status: Status,
        /// The server's own words.
        message: String,
    },
    /// The session is over; the request may have been done.
    #[error(transparent)]
    Broken(#[from] SshError),
}

/// The kinds of failure that the protocol knows (section 7 of the draft), as far as they differ for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The end of the file was reached.
    Eof,
    /// It is not there, or what should be a directory on the way to it is none.
    NoSuchFile,
    /// Not allowed.
    PermissionDenied,
    /// The server does not know the request.
    Unsupported,
    /// The server takes the request for malformed; OpenSSH says so of a name that is too long.
    BadMessage,
    /// Anything else: it exists already, the disk is full, the file system is read-only.
    Failure,
}

impl Status {
    fn of(code: u32) -> Option<Self> {
        Some(match code {
            0 => return None,
            1 => Self::Eof,
            2 => Self::NoSuchFile,
            3 => Self::PermissionDenied,
            5 => Self::BadMessage,
            8 => Self::Unsupported,
            _ => Self::Failure,
        })
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To be read. Follows symbolic links.
    Read,
    /// To be read and written in place. Follows symbolic links.
    Update,
    /// To be written, where nothing is; with the mode 0644. Fails at a symbolic link.
    CreateNew,
    /// To be written at its end, made with the mode 0644 where nothing is. Follows symbolic links.
    Append,
}

impl Mode {
    fn flags(self) -> u32 {
        const READ: u32 = 0x01;
        const WRITE: u32 = 0x02;
        const APPEND: u32 = 0x04;
        const CREATE: u32 = 0x08;
        const EXCLUSIVE: u32 = 0x20;
        match self {
            Self::Read => READ,
            Self::Update => READ | WRITE,
            Self::CreateNew => WRITE | CREATE | EXCLUSIVE,
            Self::Append => WRITE | CREATE | APPEND,
        }
    }
}

/// A connection's SFTP session. Cheap to clone; dropping it leaves the session to others.
#[derive(Clone)]
pub struct Sftp {
    pool: Pool,
    peer: Arc<Peer>,
    session: Arc<Session>,
    channel: Arc<SftpChannel>,
    /// So many more requests are sent; what comes after them meets a lost connection.
    #[cfg(test)]
    fuse: Option<Arc<AtomicUsize>>,
}

impl Sftp {
    pub(super) fn new(pool: Pool, peer: Peer, session: Arc<Session>, channel: Arc<SftpChannel>) -> Self {
        Self {
            pool,
            peer: Arc::new(peer),
            session,
            channel,
            #[cfg(test)]
            fuse: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn with_fuse(self, fuse: Option<Arc<AtomicUsize>>) -> Self {
        Self { fuse, ..self }
    }

    /// Ends the connection with a reset, so that requests that were not delivered yet never are. Whoever else uses it gets
    /// [`SshError::Lost`].
    pub fn cut(&self) {
        self.pool.cut(&self.peer, &self.session);
    }

    /// What is at this path, a symbolic link itself.
    pub fn lstat(&self, path: &[u8]) -> impl Future<Output = Result<Attributes, SftpError>> + Send + use<> {
        attributes(self.send(LSTAT, |packet| packet.bytes(path)))
    }

    /// What this path leads to.
    pub fn stat(&self, path: &[u8]) -> impl Future<Output = Result<Attributes, SftpError>> + Send + use<> {
        attributes(self.send(STAT, |packet| packet.bytes(path)))
    }

    /// Opens a file.
    pub fn open(&self, path: &[u8], mode: Mode) -> impl Future<Output = Result<Handle, SftpError>> + Send + use<> {
        let permissions = |packet: Packet| match mode {
            Mode::CreateNew | Mode::Append => packet.u32(ATTRIBUTE_PERMISSIONS).u32(0o644),
            Mode::Read | Mode::Update => packet.u32(0),
        };
        let answer = self.send(OPEN, |packet| permissions(packet.bytes(path).u32(mode.flags())));
        let sftp = self.clone();
        async move {
            match answer.await? {
                Reply::Handle(handle) => Ok(Handle { sftp, handle }),
                other => Err(unexpected(other)),
            }
        }
    }

    /// Removes a name that is not a directory's.
    pub fn remove(&self, path: &[u8]) -> impl Future<Output = Result<(), SftpError>> + Send + use<> {
        done(self.send(REMOVE, |packet| packet.bytes(path)))
    }

    /// Makes a directory, with the mode 0755.
    pub fn mkdir(&self, path: &[u8]) -> impl Future<Output = Result<(), SftpError>> + Send + use<> {
        done(self.send(MKDIR, |packet| packet.bytes(path).u32(ATTRIBUTE_PERMISSIONS).u32(0o755)))
    }

    /// Gives a file a second name, if nothing has that name.
    pub fn hardlink(&self, file: &[u8], name: &[u8]) -> impl Future<Output = Result<(), SftpError>> + Send + use<> {
        done(self.send(EXTENDED, |packet| packet.bytes(HARDLINK).bytes(file).bytes(name)))
    }

    /// Renames a file, replacing one that has the new name.
    pub fn rename_over(&self, file: &[u8], name: &[u8]) -> impl Future<Output = Result<(), SftpError>> + Send + use<> {
        done(self.send(EXTENDED, |packet| packet.bytes(POSIX_RENAME).bytes(file).bytes(name)))
    }

    /// Whether the server says that it can do [`Sftp::rename_over`].
    pub fn can_rename_over(&self) -> bool {
        self.channel.has(POSIX_RENAME)
    }

    /// Whether the server says that it can do [`Sftp::hardlink`]; the file system may still be without.
    pub fn can_hardlink(&self) -> bool {
        self.channel.has(HARDLINK)
    }

    fn send(&self, kind: u8, fields: impl FnOnce(Packet) -> Packet) -> Answer {
        self.session.touch();
        #[cfg(test)]
        if let Some(fuse) = &self.fuse
            && fuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
        {
            let (_gone, receiver) = oneshot::channel();
            return Answer { receiver, channel: Arc::clone(&self.channel) };
        }
        Answer { receiver: self.channel.send(kind, fields), channel: Arc::clone(&self.channel) }
    }
}

/// An open file; closed when dropped.
pub struct Handle {
    sftp: Sftp,
    handle: Vec<u8>,
}

impl Handle {
    /// Reads up to `length` bytes at `offset`; none at the end of the file.
    pub fn read(&self, offset: u64, length: u32) -> impl Future<Output = Result<Vec<u8>, SftpError>> + Send + use<> {
        let answer = self.sftp.send(READ, |packet| packet.bytes(&self.handle).u64(offset).u32(length));
        async move {
            match answer.await {
                Ok(Reply::Data(bytes)) => Ok(bytes),
                Err(SftpError::Status { status: Status::Eof, .. }) => Ok(Vec::new()),
                Ok(other) => Err(unexpected(other)),
                Err(error) => Err(error),
            }
        }
    }

    /// Writes all of `bytes` at `offset`.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> impl Future<Output = Result<(), SftpError>> + Send + use<> {
        done(self.sftp.send(WRITE, |packet| packet.bytes(&self.handle).u64(offset).bytes(bytes)))
    }

    /// What is known of the file now.
    pub fn stat(&self) -> impl Future<Output = Result<Attributes, SftpError>> + Send + use<> {
        attributes(self.sftp.send(FSTAT, |packet| packet.bytes(&self.handle)))
    }

    /// Closes it; a file server may tell only now that it could not keep what was written.
    pub fn close(mut self) -> impl Future<Output = Result<(), SftpError>> + Send + use<> {
        let handle = std::mem::take(&mut self.handle);
        done(self.sftp.send(CLOSE, |packet| packet.bytes(&handle)))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.handle.is_empty() {
            drop(self.sftp.send(CLOSE, |packet| packet.bytes(&self.handle)));
        }
    }
}

/// An answer to come.
struct Answer {
    receiver: oneshot::Receiver<Reply>,
    channel: Arc<SftpChannel>,
}

impl IntoFuture for Answer {
    type Output = Result<Reply, SftpError>;
    type IntoFuture = futures_util::future::BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.receiver.await {
                Ok(Reply::Status { code, message }) => match Status::of(code) {
                    Some(status) => Err(SftpError::Status { status, message }),
                    None => Ok(Reply::Status { code, message }),
                },
                Ok(reply) => Ok(reply),
                Err(_over) => Err(SftpError::Broken(self.channel.over())),
            }
        })
    }
}

async fn done(answer: Answer) -> Result<(), SftpError> {
    match answer.await? {
        Reply::Status { .. } => Ok(()),
        other => Err(unexpected(other)),
    }
}

async fn attributes(answer: Answer) -> Result<Attributes, SftpError> {
    match answer.await? {
        Reply::Attributes(attributes) => Ok(attributes),
        other => Err(unexpected(other)),
    }
}

fn unexpected(reply: Reply) -> SftpError {
    let message = format!("an answer that does not belong to the request: {reply:?}");
    SftpError::Status { status: Status::BadMessage, message }
}
