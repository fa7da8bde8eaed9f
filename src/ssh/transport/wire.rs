//! What shim and daemon say to each other.
//!
//! The shim: its token (32 bytes), the length of the command (4 bytes, little endian), the command; its standard input and output come with
//! the first byte. The daemon: frames of a kind (1 byte), a length (4 bytes, little endian) and as many bytes, which are either for the
//! shim's standard error or its exit status (4 bytes, little endian), the last frame.

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
const ERROR: u8 = 1;
const STATUS: u8 = 2;

/// What a shim says first.
pub(super) struct Hello {
    pub(super) token: String,
    pub(super) input: OwnedFd,
    pub(super) output: OwnedFd,
    /// Of the command, which follows; bytes.
    length: usize,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// The shim's first words.
pub(super) fn send_hello(daemon: &mut StdUnixStream, token: &str, command: &[u8]) -> io::Result<()> {
    let (input, output) = (io::stdin(), io::stdout());
    let descriptors = [input.as_fd(), output.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
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
    let (Some(input), Some(output), None) = (descriptors.next(), descriptors.next(), descriptors.next()) else {
        return Err(invalid("two descriptors are expected"));
    };
    Ok(Hello { token, input, output, length })
}

/// The command that follows the hello of a shim whose token is good.
pub(super) async fn receive_command(shim: &UnixStream, hello: &Hello) -> io::Result<Vec<u8>> {
    let mut command = vec![0; hello.length];
    Reading(shim).exact(&mut command).await?;
    Ok(command)
}

fn receive_descriptors(shim: &UnixStream, head: &mut [u8], found: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
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

/// Completes when the shim is gone: it says nothing after its hello.
pub(super) async fn gone(shim: &UnixStream) {
    let mut byte = [0];
    let _ = Reading(shim).exact(&mut byte).await;
}

/// Text for the shim's standard error.
pub(super) async fn send_error(shim: &UnixStream, text: &[u8]) -> io::Result<()> {
    send(shim, ERROR, text).await
}

/// The last word.
pub(super) async fn send_status(shim: &UnixStream, status: i32) -> io::Result<()> {
    send(shim, STATUS, &status.to_le_bytes()).await
}

async fn send(shim: &UnixStream, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| invalid("too long"))?;
    let frame = [&[kind][..], &length.to_le_bytes(), bytes].concat();
    let mut rest = &frame[..];
    while !rest.is_empty() {
        shim.writable().await?;
        match shim.try_write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The shim's part: shows what is for standard error, until the exit status comes.
pub(super) fn receive_status(daemon: &mut StdUnixStream) -> io::Result<i32> {
    loop {
        let mut head = [0; 5];
        daemon.read_exact(&mut head)?;
        let length = u32::from_le_bytes(head[1..].try_into().expect("four bytes"));
        let mut bytes = Vec::new();
        daemon.take(length.into()).read_to_end(&mut bytes)?;
        match (head[0], <[u8; 4]>::try_from(&bytes[..])) {
            (STATUS, Ok(status)) => return Ok(i32::from_le_bytes(status)),
            (ERROR, _) if bytes.len() == length as usize => {
                // Nobody may read it any more.
                let _ = io::stderr().write_all(&bytes);
            }
            _ => return Err(invalid("the director broke off")),
        }
    }
}
