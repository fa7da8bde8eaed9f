//! The agent's part: performs what its client asks for, one thing at a time, until the client goes.
//!
//! Two threads. One reads what comes, always, so that the end of the client is noticed in the midst of a scan or of a large file; the other does the work
//! and writes. Whichever ends first ends [`serve`]: what the other does then ends with the process.

use std::ffi::OsStr;
use std::io::{Read as Input, Write as Output};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use super::proto::message::{CAPABILITIES, Failed, Hello, Request, RequestError};
use super::proto::{self, Kind, Preface, ProtoError};
use super::{volume, work};
use crate::rsync::expand;
use crate::verify::side::{About, Scan, Side, SideError};
use crate::{clock, error_chain};

/// Bound on what may be asked for ahead of the work, bytes.
const AHEAD_MAX: usize = 64 << 20;

/// How far an agent may look. Below a root, paths are judged as they come, and opened so that the kernel lets no link and no `..` lead out.
pub trait Bounds: Send {
    /// The directory that a scan begins at, as it is to be opened.
    ///
    /// # Errors
    /// Why not, for the client.
    fn root(&self, root: &[u8]) -> Result<Vec<u8>, String>;

    /// Whether the rules of a scan may be followed at all.
    ///
    /// # Errors
    /// Why not, for the client.
    fn rules(&self, scan: &Scan) -> Result<(), String>;
}

/// Everything that its user may see. Roots are as rsync would take them.
#[derive(Debug, Clone, Default)]
pub struct Unbounded {
    /// What `~/` means.
    pub home: Option<PathBuf>,
}

impl Bounds for Unbounded {
    fn root(&self, root: &[u8]) -> Result<Vec<u8>, String> {
        let root = OsStr::from_bytes(if root.is_empty() { b"." } else { root });
        match expand::expand_home(root, self.home.as_deref()) {
            Ok(root) => Ok(root.into_vec()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn rules(&self, _: &Scan) -> Result<(), String> {
        Ok(())
    }
}

/// Why an agent ends before its client has gone.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client says what is not understood, or cannot be told anything any more.
    #[error(transparent)]
    Client(#[from] ProtoError),
    /// The standard streams cannot be used.
    #[error("could not use the standard streams")]
    Streams(#[source] std::io::Error),
    /// It has a defect.
    #[error("the agent has failed; standard error says where")]
    Panicked,
    /// A thread could not be started.
    #[error("could not start a thread")]
    Thread(#[source] std::io::Error),
}

/// What the two threads share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Nobody wants more of what is being told.
    pub(super) is_stopped: AtomicBool,
    /// So much was read and not worked at yet, bytes.
    ahead: AtomicUsize,
}

/// What came, for who works.
#[derive(Debug)]
pub(super) struct Inbox {
    frames: mpsc::Receiver<(Kind, Vec<u8>)>,
    pub(super) shared: Arc<Shared>,
}

impl Inbox {
    /// The next frame; `None` when the client has gone.
    pub(super) fn next(&mut self) -> Option<(Kind, Vec<u8>)> {
        let (kind, payload) = self.frames.recv().ok()?;
        self.shared.ahead.fetch_sub(payload.len(), Ordering::Relaxed);
        Some((kind, payload))
    }
}

/// Serves a client: what `side` sees within `bounds`. Returns when the client has gone, whatever is being worked at; the process should end then. The
/// client keeps its end open until it has its answers.
///
/// # Errors
/// [`ServeError`].
pub fn serve(
    input: impl Input + Send + 'static,
    mut output: impl Output + Send + 'static,
    side: Box<dyn Side>,
    bounds: Box<dyn Bounds>,
) -> Result<(), ServeError> {
    // Before anything else: who asks for no more than this may have closed its end already.
    proto::write(&mut output, &Preface::line()).map_err(ProtoError::from)?;
    let (told, end) = mpsc::channel();
    let (frames, inbox) = mpsc::channel();
    let shared = Arc::new(Shared::default());
    let inbox = Inbox { frames: inbox, shared: Arc::clone(&shared) };
    let reader = {
        let (end, shared) = (Teller(told.clone()), Arc::clone(&shared));
        move || {
            let result = listen(input, &frames, &shared);
            shared.is_stopped.store(true, Ordering::Relaxed);
            end.tell(result);
        }
    };
    let worker = move || {
        let end = Teller(told);
        let mut worker = Worker { inbox, output, side, bounds };
        end.tell(worker.run());
    };
    for (name, thread) in [("reads", Box::new(reader) as Box<dyn FnOnce() + Send>), ("works", Box::new(worker))] {
        thread::Builder::new().name(name.into()).spawn(thread).map_err(ServeError::Thread)?;
    }
    end.recv().unwrap_or(Err(ServeError::Panicked))
}

/// Tells the end of a thread, also when that is a panic.
struct Teller(mpsc::Sender<Result<(), ServeError>>);

impl Teller {
    fn tell(&self, result: Result<(), ProtoError>) {
        // Fails when the other thread has told its end already.
        let _ = self.0.send(result.map_err(ServeError::from));
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(Err(ServeError::Panicked));
        }
    }
}

/// Reads frames until the client goes.
fn listen(mut input: impl Input, frames: &mpsc::Sender<(Kind, Vec<u8>)>, shared: &Shared) -> Result<(), ProtoError> {
    loop {
        let mut payload = Vec::new();
        let Some(kind) = proto::read(&mut input, &mut payload)? else { return Ok(()) };
        match kind {
            Kind::Stop => {
                shared.is_stopped.store(true, Ordering::Relaxed);
                continue;
            }
            // The client has heard the end of what it stopped.
            Kind::Request => shared.is_stopped.store(false, Ordering::Relaxed),
            _ => {}
        }
        let ahead = shared.ahead.fetch_add(payload.len(), Ordering::Relaxed) + payload.len();
        if ahead > AHEAD_MAX {
            return Err(ProtoError::Malformed("more than may be asked for ahead"));
        }
        if frames.send((kind, payload)).is_err() {
            return Ok(());
        }
    }
}

/// Why a request ends without what was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unable {
    /// The client is told, and may ask for something else.
    #[error("{0}")]
    Told(String),
    /// There is nobody to be told.
    #[error(transparent)]
    Gone(ProtoError),
}

impl From<SideError> for Unable {
    fn from(error: SideError) -> Self {
        Self::Told(error_chain(&error))
    }
}

impl From<RequestError> for Unable {
    fn from(error: RequestError) -> Self {
        Self::Told(error_chain(&error))
    }
}

impl From<ProtoError> for Unable {
    fn from(error: ProtoError) -> Self {
        match error {
            ProtoError::Io(_) => Self::Gone(error),
            said => Self::Told(error_chain(&said)),
        }
    }
}

/// Who works.
pub(super) struct Worker<W> {
    pub(super) inbox: Inbox,
    pub(super) output: W,
    pub(super) side: Box<dyn Side>,
    pub(super) bounds: Box<dyn Bounds>,
}

impl<W: Output + Send> Worker<W> {
    fn run(&mut self) -> Result<(), ProtoError> {
        while let Some((kind, payload)) = self.inbox.next() {
            let done = match kind {
                Kind::Request => self.request(&payload),
                // They belong to a request that was not understood, or ended early.
                Kind::Paths | Kind::Wanted | Kind::Last => continue,
                kind => Err(Unable::Told(format!(
                    "{}; the agent is rsyncdirector {}",
                    proto::out_of_turn(kind),
                    crate::VERSION
                ))),
            };
            match done {
                Ok(()) => {}
                Err(Unable::Told(what)) => self.send(&proto::json(Kind::Failed, &Failed { what })?)?,
                Err(Unable::Gone(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn request(&mut self, payload: &[u8]) -> Result<(), Unable> {
        match Request::parse(payload)? {
            Request::Hello { .. } => {
                let hello = hello(self.side.about());
                Ok(self.send(&proto::json(Kind::Hello, &hello)?)?)
            }
            Request::Scan { scan } => self.admitted(scan).and_then(|scan| work::scan(self, &scan)),
            Request::Look { scan } => self.admitted(scan).and_then(|scan| work::look(self, &scan)),
            Request::Hash { scan, rate } => self.admitted(scan).and_then(|scan| work::hash(self, &scan, rate)),
            Request::Statfs { root } => self.statfs(&root),
        }
    }

    /// A scan with its root as it is to be opened.
    fn admitted(&self, scan: Scan) -> Result<Scan, Unable> {
        let is_name = |name: &Vec<u8>| work::is_below(name) && !name.is_empty() && !name.contains(&b'/');
        if !scan.only.iter().all(is_name) {
            return Err(ProtoError::Malformed("names that are none").into());
        }
        self.bounds.rules(&scan).map_err(Unable::Told)?;
        Ok(Scan { root: self.root(&scan.root)?, ..scan })
    }

    fn root(&self, root: &[u8]) -> Result<Vec<u8>, Unable> {
        if root.contains(&0) {
            return Err(ProtoError::Malformed("a directory that cannot be").into());
        }
        self.bounds.root(root).map_err(Unable::Told)
    }

    fn statfs(&mut self, root: &[u8]) -> Result<(), Unable> {
        let root = self.root(root)?;
        let path = Path::new(OsStr::from_bytes(&root));
        let failed = |error| Unable::Told(format!("could not look at {}: {error}", path.display()));
        let volume = volume::look(path).map_err(failed)?;
        Ok(self.send(&proto::json(Kind::Volume, &volume)?)?)
    }

    /// Sends a frame.
    pub(super) fn send(&mut self, frame: &[u8]) -> Result<(), ProtoError> {
        Ok(proto::write(&mut self.output, frame)?)
    }
}

fn hello(about: About) -> Hello {
    let capabilities = CAPABILITIES.iter().map(|verb| (*verb).to_owned()).collect();
    Hello { capabilities, now: clock::now().as_duration().as_secs_f64(), about }
}

#[cfg(test)]
mod tests;
