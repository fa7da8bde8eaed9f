//! And out of them: whatever they hold, an answer or an error.

use super::*;
use crate::agent::proto::ProtoError;
use crate::rsync::filter::Kept;
use crate::scan::{Entry, Kind as What, Meta, Mtime};
use crate::verify::side::{Read, State, Wanted};

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
        let path = self.path()?;
        let kind = self.kind(flags & KIND)?;
        let size = self.number()?;
        let (mtime, ctime) = self.times(flags & HAS_CTIME != 0)?;
        let id = self.id()?;
        let kept = if flags & IS_KEPT == 0 { Kept::default() } else { self.kept()? };
        let meta = if flags & HAS_META == 0 { None } else { Some(Box::new(self.meta()?)) };
        let problem = if flags & HAS_PROBLEM == 0 { None } else { Some(self.words()?) };
        Ok(Some(Entry { path, kind, size, mtime, ctime, id, kept, meta, problem }))
    }

    fn kept(&mut self) -> Result<Kept, ProtoError> {
        let byte = self.byte()?;
        Ok(Kept { alone: byte & KEPT_ALONE != 0, with_directory: byte & KEPT_WITH_DIRECTORY != 0 })
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
        let (path, size) = (self.path()?, self.number()?);
        let (mtime, ctime) = self.times(true)?;
        Ok(Wanted { path, state: State { id: self.id()?, ctime, mtime, size } })
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

    /// The time of change, and of the other change, which is the same where it is not told.
    fn times(&mut self, has_ctime: bool) -> Result<(Mtime, Mtime), ProtoError> {
        let mtime = self.time(self.before.seconds)?;
        self.before.seconds = mtime.seconds;
        Ok((mtime, if has_ctime { self.time(mtime.seconds)? } else { mtime }))
    }

    fn id(&mut self) -> Result<u64, ProtoError> {
        self.before.id ^= self.number()?;
        Ok(self.before.id)
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
