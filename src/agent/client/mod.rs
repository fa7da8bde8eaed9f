//! The peer's tree, as its agent tells it.
//!
//! [`Agent::connect`] starts whatever reaches the peer, as rsync would, and finds out who answers; an [`Agent`] is then a [`Side`]. It asks one thing at
//! a time; files to be read and their digests go both ways at once (`reading`). What fails names the peer, and what was said on its standard error.
//!
//! The program that reaches the peer ends with the [`Agent`], and so does the agent there, since its input does.

pub mod connect;
mod reading;

use std::io::BufReader;
use std::process::{Child, ChildStdin, ChildStdout};

use self::connect::Complaints;
pub use self::connect::ConnectError;
use super::proto::message::{Failed, Request, Volume};
use super::proto::pack::{Packer, Unpacker};
use super::proto::{self, Kind, ProtoError};
use crate::error_chain;
use crate::scan::Entry;
use crate::verify::side::{About, Entries, Read, Scan, Side, SideError, Wanted};

/// So many frames of paths are sent ahead of their answers.
const AHEAD: usize = 8;

/// An agent on a peer.
pub struct Agent {
    who: String,
    about: About,
    capabilities: Vec<String>,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    complaints: Complaints,
    /// Why nothing can be asked any more.
    broken: Option<String>,
    /// For frames.
    payload: Vec<u8>,
}

impl Agent {
    /// What its host knows of the file system of a directory.
    ///
    /// # Errors
    /// [`SideError`].
    pub fn volume(&mut self, root: &[u8]) -> Result<Volume, SideError> {
        self.ask("statfs", &Request::Statfs { root: root.to_vec() })?;
        match self.answer()? {
            Kind::Volume => serde_json::from_slice(&self.payload).map_err(|error| self.lost(&error.into())),
            kind => Err(self.lost(&proto::out_of_turn(kind))),
        }
    }

    /// Sends a request for something that it must be able to do.
    fn ask(&mut self, verb: &str, request: &Request) -> Result<(), SideError> {
        if !self.capabilities.iter().any(|capability| capability == verb) {
            let what = format!("its agent (rsyncdirector {}) cannot {verb}", self.about.version);
            return Err(self.failed(what));
        }
        let frame = proto::json(Kind::Request, request).map_err(|error| self.failed(error_chain(&error)))?;
        self.send(&frame)
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), SideError> {
        if let Some(why) = &self.broken {
            return Err(self.failed(why.clone()));
        }
        proto::write(&mut self.input, frame).map_err(|error| self.lost(&error.into()))
    }

    /// Reads the next frame into [`Agent::payload`]. That something cannot be told is an error; the agent can be asked for something else.
    fn answer(&mut self) -> Result<Kind, SideError> {
        match proto::read(&mut self.output, &mut self.payload) {
            Ok(Some(Kind::Failed)) => Err(match serde_json::from_slice(&self.payload) {
                Ok(Failed { what }) => self.failed(what),
                Err(error) => self.lost(&error.into()),
            }),
            Ok(Some(kind)) => Ok(kind),
            Ok(None) => Err(self.lost(&ProtoError::Io(std::io::ErrorKind::UnexpectedEof.into()))),
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// The connection is of no use any more.
    fn lost(&mut self, error: &ProtoError) -> SideError {
        let what = match error {
            // Its last words say more.
            ProtoError::Io(_) | ProtoError::Truncated => {
                let said = self.complaints.heard();
                let words = if said.is_empty() { String::new() } else { format!("; it said: {said}") };
                format!("its agent has ended, or the connection to it{words}")
            }
            error => error_chain(error),
        };
        // Ends whatever waits for it.
        let _ = self.child.kill();
        self.broken = Some(what.clone());
        self.failed(what)
    }

    fn failed(&self, what: String) -> SideError {
        SideError::Peer { who: self.who.clone(), what }
    }

    /// Reads to the end of an answer of which no more is wanted.
    fn skip(&mut self) {
        if self.send(&proto::bare(Kind::Stop)).is_err() {
            return;
        }
        // A failure ends the answer, too.
        while matches!(self.answer(), Ok(kind) if kind != Kind::End) {}
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // What has exited cannot be killed; both are right.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Side for Agent {
    fn volume(&mut self, root: &[u8]) -> Option<Volume> {
        Self::volume(self, root).ok()
    }

    fn about(&self) -> About {
        self.about.clone()
    }

    fn scan(&mut self, scan: &Scan) -> Result<Entries<'_>, SideError> {
        self.ask("scan", &Request::Scan { scan: scan.clone() })?;
        Ok(Box::new(Scanned { agent: self, unpacker: Unpacker::default(), is_over: false }))
    }

    fn look(&mut self, scan: &Scan, paths: &[Vec<u8>]) -> Result<Vec<Option<Entry>>, SideError> {
        self.ask("look", &Request::Look { scan: scan.clone() })?;
        let mut looked = Vec::with_capacity(paths.len());
        // How many are answered when a frame is.
        let mut ahead = std::collections::VecDeque::new();
        let (mut packer, mut sent) = (Packer::new(Kind::Paths), 0);
        loop {
            while ahead.len() < AHEAD && sent < paths.len() {
                while sent < paths.len() && !packer.is_full() {
                    packer.path(&paths[sent]).map_err(|error| self.lost(&error))?;
                    sent += 1;
                }
                if let Some(frame) = packer.take() {
                    self.send(&frame)?;
                    ahead.push_back(sent);
                }
            }
            let Some(answered) = ahead.pop_front() else { break };
            while looked.len() < answered {
                self.found(&mut looked)?;
            }
        }
        self.send(&proto::bare(Kind::Last))?;
        match self.answer()? {
            Kind::End if looked.len() == paths.len() => Ok(looked),
            kind => Err(self.lost(&proto::out_of_turn(kind))),
        }
    }

    fn reads(&self) -> bool {
        self.capabilities.iter().any(|capability| capability == "hash")
    }

    fn hash(
        &mut self,
        scan: &Scan,
        wanted: &mut (dyn Iterator<Item = Wanted> + Send),
        rate: Option<u64>,
        told: &mut (dyn FnMut(Wanted, Read) -> Result<(), SideError> + Send),
    ) -> Result<(), SideError> {
        self.ask("hash", &Request::Hash { scan: scan.clone(), rate })?;
        reading::hash(self, wanted, told)
    }
}

impl Agent {
    /// Takes a frame of what was found.
    fn found(&mut self, looked: &mut Vec<Option<Entry>>) -> Result<(), SideError> {
        match self.answer()? {
            Kind::Entries => {}
            kind => return Err(self.lost(&proto::out_of_turn(kind))),
        }
        let mut unpacker = Unpacker::new(std::mem::take(&mut self.payload));
        while !unpacker.is_empty() {
            looked.push(unpacker.entry().map_err(|error| self.lost(&error))?);
        }
        self.payload = unpacker.into_payload();
        Ok(())
    }
}

/// The entries of a scan, as they come.
struct Scanned<'a> {
    agent: &'a mut Agent,
    unpacker: Unpacker,
    is_over: bool,
}

impl Scanned<'_> {
    fn next_entry(&mut self) -> Result<Option<Entry>, SideError> {
        while self.unpacker.is_empty() {
            self.agent.payload = std::mem::take(&mut self.unpacker).into_payload();
            match self.agent.answer()? {
                Kind::Entries => self.unpacker = Unpacker::new(std::mem::take(&mut self.agent.payload)),
                Kind::End => return Ok(None),
                kind => return Err(self.agent.lost(&proto::out_of_turn(kind))),
            }
        }
        let entry = self.unpacker.entry().map_err(|error| self.agent.lost(&error))?;
        entry.map(Some).ok_or_else(|| self.agent.lost(&ProtoError::Malformed("an entry that is none")))
    }
}

impl Iterator for Scanned<'_> {
    type Item = Result<Entry, SideError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.next_entry().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Drop for Scanned<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.agent.skip();
        }
    }
}
