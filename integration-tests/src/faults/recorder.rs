//! Watches the protected directory from the host that stores it: the kernel's own order of all changes, so that a late
//! write of a run that should be dead is seen like any other.

use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::checker::Mark;

/// A change of a file in the directory.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// As inotify(7) names it.
    pub how: ReadFlags,
}

/// A watch on a directory. The kernel keeps 16,384 events until they are read.
pub struct Recorder {
    watch: OwnedFd,
}

impl Recorder {
    /// Begins to watch.
    ///
    /// # Panics
    /// When the kernel has no watch left.
    pub fn of(dir: &Path) -> Self {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("an inotify instance");
        let changes = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&watch, dir, changes).expect("a watch on the protected directory");
        Self { watch }
    }

    /// What happened since the last call.
    ///
    /// # Panics
    /// When events were lost.
    pub fn read(&self) -> Vec<Change> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.watch, &mut buffer);
        let mut seen = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW), "events of the recorder were lost");
                    let Some(name) = event.file_name() else { continue };
                    seen.push(Change { name: name.to_string_lossy().into_owned(), how: event.events() });
                }
                Err(Errno::AGAIN) => return seen,
                Err(error) => panic!("read the recorder: {error}"),
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.how, self.name)
    }
}

/// The marks in lines that runs appended to a file themselves.
pub fn journal(text: &str) -> Vec<Mark> {
    text.lines().filter_map(Mark::named).collect()
}
