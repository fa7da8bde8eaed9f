//! The socket's file.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, os::unix::net::UnixListener as StdUnixListener};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// The socket's file. Removed when dropped.
#[derive(Debug)]
pub struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Listens on a path that only our user may connect to, from its first moment on. What an instance left there that did not end well is
/// replaced; the pid file says that none lives.
///
/// # Errors
/// The kernel's answer: a path that is too long (107 bytes), a directory that is not ours.
pub fn bind(path: &Path) -> io::Result<(UnixListener, Socket)> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = Socket(path.to_owned());
    // Nobody can connect before it listens.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((UnixListener::from_std(StdUnixListener::from(socket))?, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_user_may_connect_and_a_leftover_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("photos.sock");
        fs::write(&path, "left behind").expect("written");
        let (listener, file) = bind(&path).expect("bound");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let _client = tokio::net::UnixStream::connect(&path).await.expect("connects");
        listener.accept().await.expect("is accepted");
        drop((listener, file));
        assert!(!path.exists());
    }
}
