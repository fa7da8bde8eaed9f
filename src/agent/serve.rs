//! The agent's part: performs what its client asks for, one thing at a time, until the client goes.
//!
//! Two threads. One reads what comes, always, so that the end of the client is noticed in the midst of a scan or of a large file; the other does the work
//! and writes. Whichever ends first ends [`serve`]: what the other does then ends with the process.

use std::io::{Read as Input, Write as Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use super::proto::message::{CAPABILITIES, Failed, Hello, Request, RequestError};
use super::proto::{self, Kind, Preface, ProtoError};
use super::{volume, work};
use crate::verify::side::{Scan, Side, SideError};
use crate::{clock, error_chain};

/// Bound on what may be asked for ahead of the work, bytes.
const AHEAD_MAX: usize = 64 << 20;

/// How far an agent may look.
pub trait Bounds: Send + Sync {
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

    /// Whether a path below a root that [`Bounds::root`] gave may be looked at.
    fn path(&self, root: &[u8], path: &[u8]) -> bool;
}

/// Everything that its user may see.
#[derive(Debug, Clone, Copy)]
pub struct Unbounded;

impl Bounds for Unbounded {
    fn root(&self, root: &[u8]) -> Result<Vec<u8>, String> {
        Ok(root.to_vec())
    }

    fn rules(&self, _: &Scan) -> Result<(), String> {
        Ok(())
    }

    fn path(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

/// Why an agent ends before its client has gone.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client says what is not understood, or cannot be told anything any more.
    #[error(transparent)]
    Client(#[from] ProtoError),
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
    output: impl Output + Send + 'static,
    side: Box<dyn Side>,
    bounds: Box<dyn Bounds>,
) -> Result<(), ServeError> {
    let (told, end) = mpsc::channel();
    let (frames, inbox) = mpsc::channel();
    let shared = Arc::new(Shared::default());
    let inbox = Inbox { frames: inbox, shared: Arc::clone(&shared) };
    let reader = {
        let (told, shared) = (told.clone(), Arc::clone(&shared));
        move || {
            let result = listen(input, &frames, &shared);
            shared.is_stopped.store(true, Ordering::Relaxed);
            // Fails when the work has ended it already.
            let _ = told.send(result);
        }
    };
    let worker = move || {
        let mut worker = Worker { inbox, output, side, bounds };
        // Fails when the client has gone.
        let _ = told.send(worker.run());
    };
    for (name, thread) in [("reads", Box::new(reader) as Box<dyn FnOnce() + Send>), ("works", Box::new(worker))] {
        thread::Builder::new().name(name.into()).spawn(thread).map_err(ServeError::Thread)?;
    }
    Ok(end.recv().unwrap_or(Ok(()))?)
}

/// Reads frames until the client goes.
fn listen(
    mut input: impl Input,
    frames: &mpsc::Sender<(Kind, Vec<u8>)>,
    shared: &Shared,
) -> Result<(), ProtoError> {
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
        self.send(&Preface::line())?;
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
            Request::Hello { .. } => Ok(self.send(&proto::json(Kind::Hello, &hello())?)?),
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
        if root.is_empty() || root.contains(&0) {
            return Err(ProtoError::Malformed("a directory that cannot be").into());
        }
        self.bounds.root(root).map_err(Unable::Told)
    }

    fn statfs(&mut self, root: &[u8]) -> Result<(), Unable> {
        use std::os::unix::ffi::OsStrExt;
        let root = self.root(root)?;
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(&root));
        let failed = |error| Unable::Told(format!("could not look at {}: {error}", path.display()));
        let volume = volume::look(path).map_err(failed)?;
        Ok(self.send(&proto::json(Kind::Volume, &volume)?)?)
    }

    /// Sends a frame.
    pub(super) fn send(&mut self, frame: &[u8]) -> Result<(), ProtoError> {
        Ok(proto::write(&mut self.output, frame)?)
    }
}

fn hello() -> Hello {
    Hello {
        version: crate::VERSION.to_owned(),
        capabilities: CAPABILITIES.iter().map(|verb| (*verb).to_owned()).collect(),
        now: clock::now().as_duration().as_secs_f64(),
        user: rustix::process::geteuid().as_raw(),
    }
}
