//! A verification takes as much memory for a million files as for some thousands: the trees are told by functions, all the rest is the program's.
//!
//! nextest gives each test a process of its own, so that the peak of its memory is the test's.

use std::ffi::OsString;
use std::path::Path;

use rsyncdirector::scan::{Entry, Kind, Mtime};
use rsyncdirector::verify::Depth;
use rsyncdirector::verify::engine::{Sides, verify};
use rsyncdirector::verify::order::{Order, Replica};
use rsyncdirector::verify::report::{By, Report};
use rsyncdirector::verify::side::{About, Entries, Read, Scan, Side, SideError, State, Wanted};

/// Files in a directory.
const IN_A_DIRECTORY: u64 = 1000;
/// Files of the larger tree; `RD_VERIFY_ENTRIES` asks for another number.
const ENTRIES: u64 = 150_000;
/// Every so many files, one is missing at the target.
const FAULT_EVERY: u64 = 997;

/// A tree that is nowhere.
struct Told {
    files: u64,
    has_faults: bool,
}

impl Told {
    fn entries(&self) -> impl Iterator<Item = Entry> + Send + use<> {
        let has_faults = self.has_faults;
        let directories = (0..self.files.div_ceil(IN_A_DIRECTORY)).flat_map(move |directory| {
            let path = format!("{directory:06}");
            let files =
                (0..IN_A_DIRECTORY).filter(move |file| !has_faults || !(directory + file).is_multiple_of(FAULT_EVERY));
            let below = path.clone();
            let files = files.map(move |file| format!("{below}/some-name-that-is-not-short-{file:06}"));
            std::iter::once(entry(path, Kind::Directory)).chain(files.map(|path| entry(path, Kind::File)))
        });
        std::iter::once(entry(String::new(), Kind::Directory)).chain(directories)
    }
}

fn entry(path: String, kind: Kind) -> Entry {
    let mtime = Mtime { seconds: 1_700_000_000, nanos: 0 };
    let id = path.bytes().fold(7, |id: u64, byte| id.wrapping_mul(31).wrapping_add(byte.into()));
    let size = if kind == Kind::File { 100 } else { 0 };
    Entry { size, mtime, ctime: mtime, id, meta: Some(Box::default()), ..Entry::of(path.into_bytes(), kind) }
}

impl Side for Told {
    fn about(&self) -> About {
        About { clock_offset: Some(0.0), ..About::default() }
    }

    fn scan(&mut self, _scan: &Scan) -> Result<Entries<'_>, SideError> {
        Ok(Box::new(self.entries().map(Ok)))
    }

    fn look(&mut self, _scan: &Scan, paths: &[Vec<u8>]) -> Result<Vec<Option<Entry>>, SideError> {
        let found = |path: &Vec<u8>| {
            let path = String::from_utf8(path.clone()).expect("text");
            let kind = if path.contains('/') { Kind::File } else { Kind::Directory };
            (!self.has_faults).then(|| entry(path, kind))
        };
        Ok(paths.iter().map(found).collect())
    }

    fn hash(
        &mut self,
        _scan: &Scan,
        wanted: &mut (dyn Iterator<Item = Wanted> + Send),
        _rate: Option<u64>,
        told: &mut (dyn FnMut(Wanted, Read) -> Result<(), SideError> + Send),
    ) -> Result<(), SideError> {
        for wanted in wanted {
            let State { id, size, .. } = wanted.state;
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&id.to_le_bytes());
            digest[8..16].copy_from_slice(&size.to_le_bytes());
            told(wanted, Read::Digest(digest))?;
        }
        Ok(())
    }
}

fn verified(state: &Path, files: u64) -> Report {
    let order = Order {
        replica: Replica { job: "job".into(), sync: "sync".into() },
        sources: vec!["/nowhere/".into()],
        dest: "/nowhere-else".into(),
        opts: vec![OsString::from("-aHAX"), "--delete".into()],
        depth: Depth::Deep,
        state: Some(state.to_owned()),
        keep: 86_400,
        ..Order::default()
    };
    let side = |has_faults| Box::new(Told { files, has_faults });
    let sides = Sides { source: side(false), target: side(true), by: By::Here };
    verify(&order, sides, &mut |_| {}).expect("a report").report
}

/// The peak of this process's memory, bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn memory_does_not_grow_with_the_trees() {
    const MIB: u64 = 1 << 20;
    let entries = std::env::var("RD_VERIFY_ENTRIES").ok().and_then(|entries| entries.parse().ok()).unwrap_or(ENTRIES);
    let (few, many) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    verified(few.path(), 15_000);
    let before = peak();
    let first = verified(many.path(), entries);
    let faults = first.classes.values().map(|count| count.entries).sum::<u64>();
    assert!(faults > entries / FAULT_EVERY / 2 && first.read.entries == 2 * (entries - faults), "{first:?}");
    let again = verified(many.path(), entries);
    assert_eq!((again.read.entries, again.known.entries), (0, entries - faults), "{again:?}");
    let after = peak();
    let all = format!("{} MiB for 15,000 files, {} MiB for {entries}", before / MIB, after / MIB);
    println!("{all}");
    assert!(after < before + 6 * MIB && after < 60 * MIB, "{all}");
}
