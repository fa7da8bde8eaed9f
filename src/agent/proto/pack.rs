//! What comes in millions, packed: about 30 bytes an entry.
//!
//! Numbers are LEB128. Each path tells how many bytes it shares with the one before, times and file numbers how they differ from the one before. Every
//! frame begins anew, so what is lost with one is lost alone.

use super::{HEAD, Kind, PACKED_MAX, ProtoError, framed};
use crate::scan::{Entry, Kind as What, Meta, Mtime};
use crate::verify::side::{Read, Wanted};

/// A frame that has reached this is sent, bytes.
const FULL: usize = 64 * 1024;
/// Bound on a path, bytes: with it no frame gets too long.
pub const PATH_MAX: usize = 256 * 1024;
/// Bound on what the paths of one frame are together, bytes: they share, so a small frame could hold very much.
const PATHS_MAX: usize = PACKED_MAX;
/// Bound on words about a problem, bytes.
const WORDS_MAX: usize = 1024;

const NOTHING: u8 = 15;
const KIND: u8 = 0x0f;
const HAS_META: u8 = 0x10;
const HAS_PROBLEM: u8 = 0x20;
const HAS_CTIME: u8 = 0x40;

const HAS_TARGET: u8 = 1;
const HAS_ATTRIBUTES: u8 = 2;
const HAS_LINKS: u8 = 4;
const IS_AS_BEFORE: u8 = 8;

const DIGEST: u8 = 0;
const CHANGED: u8 = 1;
const UNREADABLE: u8 = 2;

/// What the next one is compared with.
#[derive(Debug, Default)]
struct Before {
    path: Vec<u8>,
    seconds: i64,
    id: u64,
    mode: u32,
    owner: u32,
    group: u32,
}

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
        self.bytes.push(flags);
        self.path(&entry.path)?;
        if let Some(device) = device {
            self.number(device);
        }
        self.number(entry.size);
        self.time(entry.mtime, self.before.seconds);
        self.before.seconds = entry.mtime.seconds;
        if entry.ctime != entry.mtime {
            self.time(entry.ctime, entry.mtime.seconds);
        }
        self.number(entry.id ^ self.before.id);
        self.before.id = entry.id;
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
        self.number(wanted.size);
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

/// What is in a frame, one after the other.
#[derive(Debug, Default)]
pub struct Unpacker {
    payload: Vec<u8>,
    at: usize,
    /// Of all paths so far together.
    paths: usize,
    before: Before,
}

impl Unpacker {
    /// Of this payload.
    pub fn new(payload: Vec<u8>) -> Self {
        Self { payload, at: 0, paths: 0, before: Before::default() }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.at == self.payload.len()
    }

    /// The buffer, for the next frame.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }

    /// The next entry, or that there is none.
    ///
    /// # Errors
    /// When that is not what comes next.
    pub fn entry(&mut self) -> Result<Option<Entry>, ProtoError> {
        let flags = self.byte()?;
        if flags == NOTHING {
            return Ok(None);
        }
        if flags & !(KIND | HAS_META | HAS_PROBLEM | HAS_CTIME) != 0 {
            return Err(ProtoError::Malformed("flags of an entry"));
        }
        let path = self.path()?;
        let kind = self.kind(flags & KIND)?;
        let size = self.number()?;
        let mtime = self.time(self.before.seconds)?;
        self.before.seconds = mtime.seconds;
        let ctime = if flags & HAS_CTIME == 0 { mtime } else { self.time(mtime.seconds)? };
        let id = self.number()? ^ self.before.id;
        self.before.id = id;
        let meta = if flags & HAS_META == 0 { None } else { Some(self.meta()?) };
        let problem = if flags & HAS_PROBLEM == 0 { None } else { Some(self.words()?) };
        Ok(Some(Entry { path, kind, size, mtime, ctime, id, meta, problem }))
    }

    fn kind(&mut self, byte: u8) -> Result<What, ProtoError> {
        Ok(match byte {
            0 => What::File,
            1 => What::Directory,
            2 => What::Symlink,
            3 => What::Block(self.number()?),
            4 => What::Character(self.number()?),
            5 => What::Fifo,
            6 => What::Socket,
            7 => What::Unknown,
            _ => return Err(ProtoError::Malformed("an unknown kind of file")),
        })
    }

    fn meta(&mut self) -> Result<Meta, ProtoError> {
        let flags = self.byte()?;
        if flags & !(HAS_TARGET | HAS_ATTRIBUTES | HAS_LINKS | IS_AS_BEFORE) != 0 {
            return Err(ProtoError::Malformed("flags of attributes"));
        }
        if flags & IS_AS_BEFORE == 0 {
            (self.before.mode, self.before.owner, self.before.group) = (self.short()?, self.short()?, self.short()?);
        }
        let has = |bit| flags & bit != 0;
        let target = if has(HAS_TARGET) { Some(self.text()?.to_vec()) } else { None };
        let attributes = if has(HAS_ATTRIBUTES) { Some(self.array()?) } else { None };
        let links = if has(HAS_LINKS) { Some(self.number()?) } else { None };
        let Before { mode, owner, group, .. } = self.before;
        Ok(Meta { mode, owner, group, target, attributes, links })
    }

    /// The next path.
    ///
    /// # Errors
    /// When that is not what comes next.
    pub fn path(&mut self) -> Result<Vec<u8>, ProtoError> {
        let shared = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let length = self.length()?;
        let before = &self.before.path;
        if shared > before.len() || shared + length > PATH_MAX {
            return Err(ProtoError::Malformed("a path that cannot be"));
        }
        self.paths += shared + length;
        if self.paths > PATHS_MAX + PATH_MAX {
            return Err(ProtoError::Malformed("too many long paths"));
        }
        let end = self.at + length;
        self.before.path.truncate(shared);
        self.before.path.extend_from_slice(&self.payload[self.at..end]);
        self.at = end;
        Ok(self.before.path.clone())
    }

    /// The next file to be read.
    ///
    /// # Errors
    /// When that is not what comes next.
    pub fn wanted(&mut self) -> Result<Wanted, ProtoError> {
        Ok(Wanted { path: self.path()?, size: self.number()? })
    }

    /// What came of reading the next one.
    ///
    /// # Errors
    /// When that is not what comes next.
    pub fn read(&mut self) -> Result<Read, ProtoError> {
        match self.byte()? {
            DIGEST => Ok(Read::Digest(self.array()?)),
            CHANGED => Ok(Read::Changed),
            UNREADABLE => Ok(Read::Unreadable(self.words()?)),
            _ => Err(ProtoError::Malformed("an unknown answer")),
        }
    }

    fn time(&mut self, from: i64) -> Result<Mtime, ProtoError> {
        let number = self.number()?;
        let apart = (number >> 1).cast_signed() ^ -(number & 1).cast_signed();
        let nanos = u32::from_le_bytes(self.array()?);
        if nanos >= 1_000_000_000 {
            return Err(ProtoError::Malformed("a second of more than a second"));
        }
        Ok(Mtime { seconds: from.wrapping_add(apart), nanos })
    }

    fn byte(&mut self) -> Result<u8, ProtoError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtoError> {
        let short = ProtoError::Malformed("it is cut off");
        let Some((array, _)) = self.payload[self.at..].split_first_chunk::<N>() else { return Err(short) };
        self.at += N;
        Ok(*array)
    }

    fn number(&mut self) -> Result<u64, ProtoError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(ProtoError::Malformed("a number of more than 64 bits"))
    }

    fn short(&mut self) -> Result<u32, ProtoError> {
        u32::try_from(self.number()?).map_err(|_| ProtoError::Malformed("a number of more than 32 bits"))
    }

    /// The length of something that is there.
    fn length(&mut self) -> Result<usize, ProtoError> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let is_there = length <= self.payload.len() - self.at;
        if is_there { Ok(length) } else { Err(ProtoError::Malformed("it is cut off")) }
    }

    fn text(&mut self) -> Result<&[u8], ProtoError> {
        let length = self.length()?;
        let text = &self.payload[self.at..self.at + length];
        self.at += length;
        Ok(text)
    }

    fn words(&mut self) -> Result<String, ProtoError> {
        let text = self.text()?;
        let words = String::from_utf8(text.to_vec());
        words.map_err(|_| ProtoError::Malformed("words that are no text"))
    }
}
