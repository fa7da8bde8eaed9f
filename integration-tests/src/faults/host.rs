//! The protected host: an sshd, a small file system for the lock files, and the directory that nobody but the holder of the
//! locks may change. Needs root, for the file system.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::recorder::{Change, Recorder};
use crate::{Sandbox, Sshd, procs, wait};

/// The file that takes all room.
const FILLER: &str = "filler";

/// One of them. Dropping it takes everything away again.
pub struct Host {
    sshd: Sshd,
    up: bool,
    locks: PathBuf,
    protected: PathBuf,
    journal: PathBuf,
    recorder: Recorder,
}

/// A lock file that a person made.
pub struct Foreign {
    path: PathBuf,
    inode: u64,
}

impl Host {
    /// Starts one.
    ///
    /// # Panics
    /// Without root.
    pub fn start(sandbox: &Sandbox) -> Self {
        let sshd = Sshd::start_with(sandbox, "protected", "Subsystem sftp internal-sftp");
        let locks = sandbox.mkdir("locks");
        mount("lock-faults", &locks, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, c"size=64k,mode=755")
            .expect("mount a small file system, as root");
        let protected = sandbox.mkdir("protected");
        let recorder = Recorder::of(&protected);
        Self { sshd, up: true, locks, protected, journal: sandbox.path("journal"), recorder }
    }

    /// Its sshd.
    pub fn sshd(&self) -> &Sshd {
        &self.sshd
    }

    /// The path of a lock file.
    pub fn lock(&self, index: usize) -> PathBuf {
        self.locks.join(format!("lock{index}"))
    }

    /// The directory that the locks protect.
    pub fn protected(&self) -> &Path {
        &self.protected
    }

    /// The file to which runs append lines themselves.
    pub fn journal(&self) -> &Path {
        &self.journal
    }

    /// What was done in the protected directory since the last call.
    pub fn changes(&self) -> Vec<Change> {
        self.recorder.read()
    }

    /// Empties the protected directory and the journal, and forgets what was recorded.
    pub fn clear(&self) {
        // On the far side of one that was killed an rsync may be about to remove its temporary file.
        wait::until("no rsync is left", || procs::running(&self.protected, "rsync").is_empty());
        for entry in fs::read_dir(&self.protected).expect("the protected directory").flatten() {
            fs::remove_file(entry.path()).expect("remove a marker");
        }
        fs::write(&self.journal, "").expect("empty the journal");
        self.recorder.read();
    }

    /// Kills sshd and its sessions.
    pub fn stop_sshd(&mut self) {
        self.sshd.kill();
        self.up = false;
    }

    /// Starts sshd if it is down.
    pub fn start_sshd(&mut self) {
        if !self.up {
            self.sshd.start_again();
            self.up = true;
        }
    }

    /// Takes all room of the file system of the locks.
    pub fn fill(&self) {
        let mut filler = File::create(self.locks.join(FILLER)).expect("a file beside the locks");
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    /// Gives the room back.
    pub fn free(&self) {
        // It may not be there: then there is room already.
        let _ = fs::remove_file(self.locks.join(FILLER));
    }

    /// Makes a lock file as a person would, where none is.
    ///
    /// # Panics
    /// When there is one.
    pub fn touch(&self, index: usize) -> Foreign {
        let path = self.lock(index);
        let file = File::create_new(&path).expect("no lock is held between two histories");
        let inode = file.metadata().expect("its metadata").ino();
        Foreign { path, inode }
    }

    /// Names in the directory of the locks: lock files, and what else was left.
    pub fn left(&self) -> (Vec<String>, Vec<String>) {
        let names = fs::read_dir(&self.locks).expect("the directory of the locks").flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name != FILLER).partition(|name| name.starts_with("lock"))
    }
}

impl Foreign {
    /// Removes it; false when it was not there any more, or was replaced or written to.
    pub fn take_away(self) -> bool {
        let there = fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode && file.len() == 0);
        if there {
            fs::remove_file(&self.path).expect("remove our own lock file");
        }
        there
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = unmount(&self.locks, UnmountFlags::DETACH);
    }
}
