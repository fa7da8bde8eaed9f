//! Into frames.

use super::*;
use crate::agent::proto::{HEAD, Kind, ProtoError, framed};
use crate::rsync::filter::Kept;
use crate::scan::{Entry, Kind as What, Meta, Mtime};
use crate::verify::side::{Read, State, Wanted};

/// A frame that is being filled.
#[derive(Debug)]
pub struct Packer {
    kind: Kind,
    bytes: Vec<u8>,
    /// Of all paths together.
    paths: usize,
    before: Before,
}

impl Packer {
    /// An empty one.
    pub fn new(kind: Kind) -> Self {
        Self { kind, bytes: vec![0; HEAD], paths: 0, before: Before::default() }
    }

    /// Whether it is time to send it.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= FULL || self.paths >= PATHS_MAX - PATH_MAX
    }

    /// The frame, if there is anything in it; the next one begins.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        if self.bytes.len() == HEAD {
            return None;
        }
        let next = Self::new(self.kind);
        Some(framed(self.kind, std::mem::replace(self, next).bytes))
    }

    /// An entry, or that there is none.
    ///
    /// # Errors
    /// When its path is too long.
    pub fn entry(&mut self, entry: Option<&Entry>) -> Result<(), ProtoError> {
        let Some(entry) = entry else {
            self.bytes.push(NOTHING);
            return Ok(());
        };
        let (kind, device) = kind_to_byte(entry.kind);
        let mut flags = kind;
        let mut flag = |is: bool, bit: u8| flags |= if is { bit } else { 0 };
        flag(entry.meta.is_some(), HAS_META);
        flag(entry.problem.is_some(), HAS_PROBLEM);
        flag(entry.ctime != entry.mtime, HAS_CTIME);
        flag(entry.kept != Kept::default(), IS_KEPT);
        self.bytes.push(flags);
        self.path(&entry.path)?;
        if let Some(device) = device {
            self.number(device);
        }
        self.number(entry.size);
        self.times(entry.mtime, (entry.ctime != entry.mtime).then_some(entry.ctime));
        self.id(entry.id);
        if entry.kept != Kept::default() {
            let Kept { alone, with_directory } = entry.kept;
            self.bytes.push((u8::from(alone) * KEPT_ALONE) | (u8::from(with_directory) * KEPT_WITH_DIRECTORY));
        }
        if let Some(meta) = &entry.meta {
            self.meta(meta)?;
        }
        if let Some(problem) = &entry.problem {
            self.words(problem);
        }
        Ok(())
    }

    fn meta(&mut self, meta: &Meta) -> Result<(), ProtoError> {
        let before = &self.before;
        let is_as_before = (meta.mode, meta.owner, meta.group) == (before.mode, before.owner, before.group);
        let mut flags = 0;
        let mut flag = |is: bool, bit: u8| flags |= if is { bit } else { 0 };
        flag(meta.target.is_some(), HAS_TARGET);
        flag(meta.attributes.is_some(), HAS_ATTRIBUTES);
        flag(meta.links.is_some(), HAS_LINKS);
        flag(is_as_before, IS_AS_BEFORE);
        self.bytes.push(flags);
        if !is_as_before {
            for number in [meta.mode, meta.owner, meta.group] {
                self.number(number.into());
            }
            (self.before.mode, self.before.owner, self.before.group) = (meta.mode, meta.owner, meta.group);
        }
        if let Some(target) = &meta.target {
            if target.len() > PATH_MAX {
                return Err(ProtoError::Path(target.len()));
            }
            self.text(target);
        }
        if let Some(digest) = &meta.attributes {
            self.bytes.extend_from_slice(digest);
        }
        if let Some(links) = meta.links {
            self.number(links);
        }
        Ok(())
    }

    /// A path.
    ///
    /// # Errors
    /// When it is too long.
    pub fn path(&mut self, path: &[u8]) -> Result<(), ProtoError> {
        if path.len() > PATH_MAX {
            return Err(ProtoError::Path(path.len()));
        }
        let before = &mut self.before.path;
        let shared = before.iter().zip(path).take_while(|(a, b)| a == b).count();
        before.truncate(shared);
        before.extend_from_slice(&path[shared..]);
        self.paths += path.len();
        self.number(shared as u64);
        self.text(&path[shared..]);
        Ok(())
    }

    /// A file to be read.
    ///
    /// # Errors
    /// When its path is too long.
    pub fn wanted(&mut self, wanted: &Wanted) -> Result<(), ProtoError> {
        self.path(&wanted.path)?;
        let State { id, ctime, mtime, size } = wanted.state;
        self.number(size);
        self.times(mtime, Some(ctime));
        self.id(id);
        Ok(())
    }

    /// What came of reading one.
    pub fn read(&mut self, read: &Read) {
        match read {
            Read::Digest(digest) => {
                self.bytes.push(DIGEST);
                self.bytes.extend_from_slice(digest);
            }
            Read::Changed => self.bytes.push(CHANGED),
            Read::Unreadable(why) => {
                self.bytes.push(UNREADABLE);
                self.words(why);
            }
        }
    }

    fn times(&mut self, mtime: Mtime, ctime: Option<Mtime>) {
        self.time(mtime, self.before.seconds);
        self.before.seconds = mtime.seconds;
        if let Some(ctime) = ctime {
            self.time(ctime, mtime.seconds);
        }
    }

    fn id(&mut self, id: u64) {
        self.number(id ^ self.before.id);
        self.before.id = id;
    }

    fn time(&mut self, time: Mtime, from: i64) {
        let apart = time.seconds.wrapping_sub(from);
        // Small numbers of either sign are small.
        self.number(((apart << 1) ^ (apart >> 63)).cast_unsigned());
        self.bytes.extend_from_slice(&time.nanos.min(999_999_999).to_le_bytes());
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text);
    }

    fn words(&mut self, words: &str) {
        self.text(&words.as_bytes()[..words.floor_char_boundary(WORDS_MAX)]);
    }
}

fn kind_to_byte(kind: What) -> (u8, Option<u64>) {
    match kind {
        What::File => (0, None),
        What::Directory => (1, None),
        What::Symlink => (2, None),
        What::Block(device) => (3, Some(device)),
        What::Character(device) => (4, Some(device)),
        What::Fifo => (5, None),
        What::Socket => (6, None),
        What::Unknown => (7, None),
    }
}
