//! What shim and daemon say to each other.
//!
//! The shim: its token (32 bytes), the length of the command (4 bytes, little endian), the command; its standard input, output and error
//! come with the first byte. The daemon: one byte when it has them all, or nothing.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

pub(super) const TOKEN: usize = 32;
/// No command line is longer (Linux' limit on one argument is 128 KiB).
const COMMAND_MAX: usize = 4 << 20;
const TAKEN: u8 = 1;

/// What a shim says first.
pub(super) struct Hello {
    pub(super) token: String,
    pub(super) input: OwnedFd,
    pub(super) output: OwnedFd,
    pub(super) error: OwnedFd,
    /// Of the command, which follows; bytes.
    length: usize,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// The shim's first words.
pub(super) fn send_hello(daemon: &mut StdUnixStream, token: &str, command: &[u8]) -> io::Result<()> {
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let descriptors = [input.as_fd(), output.as_fd(), error.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let length = u32::try_from(command.len()).map_err(|_| invalid("the command is too long"))?;
    let head = [token.as_bytes(), &length.to_le_bytes()].concat();
    let sent = rustix::net::sendmsg(&*daemon, &[IoSlice::new(&head)], &mut control, SendFlags::empty())?;
    daemon.write_all(&head[sent..])?;
    daemon.write_all(command)
}

pub(super) async fn receive_hello(shim: &UnixStream) -> io::Result<Hello> {
    let mut head = [0; TOKEN + 4];
    let mut descriptors = Vec::new();
    let received = loop {
        shim.readable().await?;
        match shim.try_io(Interest::READABLE, || receive_descriptors(shim, &mut head, &mut descriptors)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => break result?,
        }
    };
    Reading(shim).exact(&mut head[received..]).await?;
    let token = std::str::from_utf8(&head[..TOKEN]).map_err(|_| invalid("no token"))?.to_owned();
    let length = u32::from_le_bytes(head[TOKEN..].try_into().expect("four bytes")) as usize;
    if length > COMMAND_MAX {
        return Err(invalid("the command is too long"));
    }
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next();
    let (Some(input), Some(output), Some(error), None) = (next(), next(), next(), next()) else {
        return Err(invalid("three descriptors are expected"));
    };
    Ok(Hello { token, input, output, error, length })
}

/// The command that follows the hello of a shim whose token is good.
pub(super) async fn receive_command(shim: &UnixStream, hello: &Hello) -> io::Result<Vec<u8>> {
    let mut command = vec![0; hello.length];
    Reading(shim).exact(&mut command).await?;
    Ok(command)
}

fn receive_descriptors(shim: &UnixStream, head: &mut [u8], found: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::net::recvmsg(shim, &mut [IoSliceMut::new(head)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            found.extend(descriptors);
        }
    }
    Ok(message.bytes)
}

/// A shared stream, read in order by one.
struct Reading<'a>(&'a UnixStream);

impl Reading<'_> {
    async fn exact(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            self.0.readable().await?;
            match self.0.try_read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Tells a shim that it is not needed any more.
pub(super) async fn take(shim: &UnixStream) -> io::Result<()> {
    loop {
        shim.writable().await?;
        match shim.try_write(&[TAKEN]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return written.map(drop),
        }
    }
}

/// The shim's part: waits until the daemon has taken over.
pub(super) fn wait_until_taken(daemon: &mut StdUnixStream) -> io::Result<()> {
    let mut answer = [0];
    daemon.read_exact(&mut answer)?;
    if answer == [TAKEN] { Ok(()) } else { Err(invalid("another answer than expected")) }
}
