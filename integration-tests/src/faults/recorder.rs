//! Watches the protected directory from the host that stores it: the kernel's own order of all changes, so that a late
//! write of a run that should be dead is seen like any other.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::checker::{Deed, Mark};

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

    /// What happened since the last call: the file's name and what was done to it.
    ///
    /// # Panics
    /// When events were lost.
    pub fn read(&self) -> Vec<(String, Deed)> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.watch, &mut buffer);
        let mut seen = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW), "events of the recorder were lost");
                    let Some(name) = event.file_name() else { continue };
                    let name = name.to_string_lossy().into_owned();
                    let temporary = name.starts_with('.');
                    let cleanup = temporary && event.events().contains(ReadFlags::DELETE);
                    seen.push((name, if cleanup { Deed::Cleanup } else { Deed::Write }));
                }
                Err(Errno::AGAIN) => return seen,
                Err(error) => panic!("read the recorder: {error}"),
            }
        }
    }
}

/// The marks in lines that runs appended to a file themselves.
pub fn journal(text: &str) -> Vec<Mark> {
    text.lines().filter_map(|line| Mark::named(line, Deed::Write)).collect()
}
