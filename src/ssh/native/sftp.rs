//! The SFTP session of a connection: a channel with the subsystem `sftp`, opened when it is first needed and kept.
//!
//! A task of its own serves the channel: it writes what is queued, hands each answer to who waits for it, and closes the
//! channel when nobody can send any more. Writing and reading do not wait for each other.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::exec::ExecError;
use super::{Session, from_library, lost, protocol};
use crate::config::Peer;
use crate::ssh::error::SshError;
use crate::ssh::sftp::packet::{self, INIT, Packet, Reply, STAT, VERSION};

const DOING: &str = "opening an SFTP session on";
const USING: &str = "using the SFTP session of";
/// Requests that are put into one SSH packet at most.
const REQUESTS_AT_ONCE: usize = 32;

/// An open SFTP session.
pub(in crate::ssh) struct SftpChannel {
    peer: Peer,
    extensions: Vec<Vec<u8>>,
    requests: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<Waiting>,
}

/// Who waits for answers, by number of the request.
#[derive(Default)]
struct Waiting(Mutex<Table>);

#[derive(Default)]
struct Table {
    over: bool,
    last: u32,
    senders: HashMap<u32, oneshot::Sender<Reply>>,
}

impl Waiting {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails who waits and who comes.
    fn end(&self) {
        let mut table = self.table();
        table.over = true;
        table.senders.clear();
    }
}

impl SftpChannel {
    /// Queues a request. What is received fails when the session is over.
    pub(in crate::ssh) fn send(&self, kind: u8, fields: impl FnOnce(Packet) -> Packet) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        // Numbered and queued under one lock: the order of the calls is the order on the line.
        let mut table = self.waiting.table();
        if !table.over {
            table.last = table.last.wrapping_add(1);
            let id = table.last;
            table.senders.insert(id, sender);
            // Fails when the session is over, which then drops the table's senders.
            let _ = self.requests.send(fields(Packet::new(kind).u32(id)).finish());
        }
        receiver
    }

    /// Waits until all that was sent before is done, or the session is over.
    pub(super) async fn flush(&self) {
        // A server answers in the order of the requests. Whatever this one's answer is, it is the last.
        let _ = self.send(STAT, |packet| packet.bytes(b".")).await;
    }

    /// Whether the server named this extension.
    pub(in crate::ssh) fn has(&self, extension: &[u8]) -> bool {
        self.extensions.iter().any(|name| name == extension)
    }

    /// The error of who waited when it was over.
    pub(in crate::ssh) fn over(&self) -> SshError {
        lost(&self.peer, USING, io::Error::new(io::ErrorKind::ConnectionAborted, "the session ended"))
    }

    fn is_over(&self) -> bool {
        self.waiting.table().over || self.requests.is_closed()
    }
}

type Opened = oneshot::Sender<Result<Arc<SftpChannel>, ExecError>>;

impl Session {
    /// The connection's SFTP session; opened if there is none, or if it is over.
    pub(in crate::ssh) async fn sftp(self: &Arc<Self>, tasks: &TaskTracker) -> Result<Arc<SftpChannel>, ExecError> {
        self.touch();
        let mut slot = self.sftp.lock().await;
        if let Some(channel) = slot.as_ref().filter(|channel| !channel.is_over()) {
            return Ok(Arc::clone(channel));
        }
        let (sender, receiver) = oneshot::channel();
        let session = Arc::clone(self);
        tasks.spawn(async move { session.open_sftp(sender).await });
        let opened = receiver.await.unwrap_or_else(|gone| Err(ExecError::Failed(lost(&self.peer, DOING, gone))));
        opened.inspect(|channel| *slot = Some(Arc::clone(channel)))
    }

    /// Opens a session and serves it to its end. The connection is not kept alive by it.
    async fn open_sftp(self: Arc<Self>, mut answer: Opened) {
        // A peer of SFTP alone has no use for a shell that waits, and may not allow a second session.
        self.close_shell().await;
        let channel = match self.open_channel(&mut answer, DOING).await {
            Ok(Some(channel)) => channel,
            Ok(None) => return,
            // The caller may be gone; then nobody wants the answer. So below.
            Err(error) => return drop(answer.send(Err(error))),
        };
        let (mut reader, writer) = channel.split();
        let mut stream = Vec::new();
        let greeted = tokio::select! {
            greeted = self.greet(&mut reader, &writer, &mut stream) => greeted,
            () = answer.closed() => return self.abandon(&writer).await,
        };
        let extensions = match greeted {
            Ok(extensions) => extensions,
            Err(error) => {
                self.abandon(&writer).await;
                return drop(answer.send(Err(error)));
            }
        };
        let (requests, queue) = mpsc::unbounded_channel();
        let waiting = Arc::new(Waiting::default());
        let channel = SftpChannel { peer: self.peer.clone(), extensions, requests, waiting: Arc::clone(&waiting) };
        drop(answer.send(Ok(Arc::new(channel))));
        drop(self);
        tokio::select! {
            () = write(&writer, queue) => {}
            () = read(&mut reader, stream, &waiting) => {}
        }
        waiting.end();
        // Fails when the connection is over, and the channel with it.
        let _ = writer.close().await;
    }

    /// Starts the subsystem and agrees on the version; returns the server's extensions.
    async fn greet(
        &self,
        reader: &mut ChannelReadHalf,
        writer: &ChannelWriteHalf<Msg>,
        stream: &mut Vec<u8>,
    ) -> Result<Vec<Vec<u8>>, ExecError> {
        let requested = writer.request_subsystem(true, "sftp").await;
        requested.map_err(|error| ExecError::NotSent(from_library(&self.peer, DOING, error)))?;
        // Nothing may be written to a channel before the peer has started something there.
        let hello = async {
            // Fails when the connection is over, which the reader learns too.
            let _ = writer.data_bytes(Packet::new(INIT).u32(VERSION).finish()).await;
            std::future::pending().await
        };
        tokio::select! {
            greeted = self.greeting(reader, stream) => greeted,
            never = hello => never,
        }
    }

    async fn greeting(&self, reader: &mut ChannelReadHalf, stream: &mut Vec<u8>) -> Result<Vec<Vec<u8>>, ExecError> {
        let refused = |why: &str| ExecError::Failed(protocol(&self.peer, DOING, io::Error::other(why.to_owned())));
        loop {
            match reader.wait().await {
                Some(ChannelMsg::Failure) => return Err(refused("the peer has no SFTP")),
                Some(ChannelMsg::Data { data }) => stream.extend_from_slice(&data),
                Some(ChannelMsg::Close | ChannelMsg::Eof) => return Err(refused("its SFTP server ended at once")),
                Some(_) => {}
                None => {
                    let why = io::Error::new(io::ErrorKind::ConnectionAborted, "the connection ended");
                    return Err(ExecError::NotSent(lost(&self.peer, DOING, why)));
                }
            }
            if packet::is_too_long(stream) {
                return Err(refused("its answer is not SFTP"));
            }
            if let Some((greeting, used)) = packet::split(stream) {
                let (version, extensions) =
                    packet::parse_version(greeting).ok_or_else(|| refused("its answer is not SFTP"))?;
                if version < VERSION {
                    return Err(refused("its SFTP is older than version 3"));
                }
                stream.drain(..used);
                return Ok(extensions);
            }
        }
    }
}

/// Writes what is queued until nobody can queue any more, or the connection is over.
async fn write(writer: &ChannelWriteHalf<Msg>, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    let mut requests = Vec::new();
    while queue.recv_many(&mut requests, REQUESTS_AT_ONCE).await > 0 {
        let bytes = requests.concat();
        requests.clear();
        if writer.data_bytes(bytes).await.is_err() {
            return;
        }
    }
}

/// Hands out answers until the session is over. A server that does not keep to the protocol is one that is over.
async fn read(reader: &mut ChannelReadHalf, mut stream: Vec<u8>, waiting: &Waiting) {
    loop {
        while let Some((body, used)) = packet::split(&stream) {
            let Some((id, reply)) = packet::parse_reply(body) else { return };
            if let Some(sender) = waiting.table().senders.remove(&id) {
                // Who does not wait any more is content without.
                let _ = sender.send(reply);
            }
            stream.drain(..used);
        }
        if packet::is_too_long(&stream) {
            return;
        }
        match reader.wait().await {
            Some(ChannelMsg::Data { data }) => stream.extend_from_slice(&data),
            Some(ChannelMsg::Close | ChannelMsg::Eof) | None => return,
            Some(_) => {}
        }
    }
}
