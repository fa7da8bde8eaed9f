//! Files to be read go to the agent while digests come back: by two threads of their own, for what is wanted may come slowly, and so may the agent take it.
//!
//! `wanted ─► (taken as they come) ─► frames ─► agent ─► digests ─► told`. No more than a window of them is under way.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use super::Agent;
use crate::agent::proto::message::Failed;
use crate::agent::proto::pack::{Packer, Unpacker};
use crate::agent::proto::{self, Kind, ProtoError};
use crate::verify::side::{Read, SideError, Wanted};

/// So many files are under way at most: at 20 ms to the peer, 200,000 a second.
const FILES_MAX: usize = 4096;
/// And so much of their paths, bytes: less than an agent takes ahead.
const PATHS_MAX: usize = 8 << 20;

/// What is under way: what was sent and is not answered yet.
#[derive(Default)]
struct Window {
    state: Mutex<UnderWay>,
    changed: Condvar,
}

#[derive(Default)]
struct UnderWay {
    files: VecDeque<Wanted>,
    paths: usize,
    /// Nobody takes answers any more.
    is_over: bool,
}

impl Window {
    /// Waits until there is room, and takes it; `false` when that is in vain.
    fn enter(&self, wanted: Wanted) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(state, |state| is_full(state));
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if !state.is_over {
            state.paths += wanted.path.len();
            state.files.push_back(wanted);
        }
        !state.is_over
    }

    /// Whether one more may enter without waiting.
    fn has_room(&self) -> bool {
        !is_full(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The file that is answered next.
    fn leave(&self) -> Option<Wanted> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = state.files.pop_front()?;
        state.paths -= wanted.path.len();
        self.changed.notify_one();
        Some(wanted)
    }

    fn end(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        self.changed.notify_one();
    }
}

fn is_full(state: &UnderWay) -> bool {
    !state.is_over && (state.files.len() >= FILES_MAX || state.paths >= PATHS_MAX)
}

/// Why digests do not come any more.
enum Unheard {
    /// The agent says so.
    Failed(Failed),
    /// Who is told of them does not want them.
    Ours(SideError),
    /// What came is no answer.
    Proto(ProtoError),
}

/// Has the agent read what is wanted, after it was asked to. Ends only when `wanted` has ended, or gives one more.
pub(super) fn hash(
    agent: &mut Agent,
    wanted: &mut (dyn Iterator<Item = Wanted> + Send),
    told: &mut (dyn FnMut(Wanted, Read) -> Result<(), SideError> + Send),
) -> Result<(), SideError> {
    let Agent { input, output, payload, child, .. } = agent;
    let window = Window::default();
    let (taken, files) = sync_channel(FILES_MAX);
    let (sent, heard) = thread::scope(|scope| {
        scope.spawn(move || take(wanted, &taken));
        let sender = scope.spawn(|| send(files, input, &window));
        let heard = hear(output, payload, &window, told);
        if matches!(heard, Err(Unheard::Ours(_) | Unheard::Proto(_))) {
            // A write that nobody takes would be waited for.
            let _ = child.kill();
        }
        window.end();
        (sender.join(), heard)
    });
    let sent = sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    match (heard, sent) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(Unheard::Failed(Failed { what })), _) => Err(agent.failed(what)),
        (Err(Unheard::Ours(error)), _) => {
            // It goes on with what it was asked for, so nothing else can be asked.
            agent.broken = Some("what it was to read was given up".into());
            Err(error)
        }
        (Err(Unheard::Proto(error)), _) | (Ok(()), Err(error)) => Err(agent.lost(&error)),
    }
}

fn take(wanted: &mut (dyn Iterator<Item = Wanted> + Send), taken: &SyncSender<Wanted>) {
    for wanted in wanted {
        if taken.send(wanted).is_err() {
            // Nobody sends them any more.
            return;
        }
    }
}

/// Sends what is wanted, as many at once as there are.
fn send(files: Receiver<Wanted>, input: &mut impl Write, window: &Window) -> Result<(), ProtoError> {
    let mut packer = Packer::new(Kind::Wanted);
    while let Ok(first) = files.recv() {
        let mut next = Some(first);
        while let Some(wanted) = next {
            packer.wanted(&wanted)?;
            if !window.enter(wanted) {
                return Ok(());
            }
            // What waits for room must not keep back what is to be answered before there is any.
            next = if packer.is_full() || !window.has_room() { None } else { files.try_recv().ok() };
        }
        if let Some(frame) = packer.take() {
            proto::write(input, &frame)?;
        }
    }
    Ok(proto::write(input, &proto::bare(Kind::Last))?)
}

/// Takes digests until the agent has told all.
fn hear(
    output: &mut impl std::io::Read,
    payload: &mut Vec<u8>,
    window: &Window,
    told: &mut (dyn FnMut(Wanted, Read) -> Result<(), SideError> + Send),
) -> Result<(), Unheard> {
    loop {
        match proto::read(output, payload).map_err(Unheard::Proto)? {
            Some(Kind::Digests) => {}
            Some(Kind::End) if window.leave().is_none() => return Ok(()),
            Some(Kind::Failed) => {
                let failed = serde_json::from_slice(payload);
                return Err(failed.map_or_else(|error| Unheard::Proto(error.into()), Unheard::Failed));
            }
            Some(kind) => return Err(Unheard::Proto(proto::out_of_turn(kind))),
            None => return Err(Unheard::Proto(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())),
        }
        let mut unpacker = Unpacker::new(std::mem::take(payload));
        while !unpacker.is_empty() {
            let read = unpacker.read().map_err(Unheard::Proto)?;
            let unasked = || Unheard::Proto(ProtoError::Malformed("a digest that nobody asked for"));
            let wanted = window.leave().ok_or_else(unasked)?;
            told(wanted, read).map_err(Unheard::Ours)?;
        }
        *payload = unpacker.into_payload();
    }
}
