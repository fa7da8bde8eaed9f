//! Files of records, written and read from front to back: the manifest, its journal, and what a verification puts aside meanwhile.
//!
//! A record is a value in postcard's form. Records lie in blocks of a length, a check and that many bytes, so that what a kill or a power cut left
//! half written is recognised: reading ends before it.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::marker::PhantomData;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A block is written when it has this many bytes.
const BLOCK: usize = 64 * 1024;
/// Longer ones are not written, so none is read.
const BLOCK_MAX: usize = 16 * 1024 * 1024;
const HEAD: usize = 12;

/// Writes records.
pub(super) struct Writer<T> {
    file: File,
    block: Vec<u8>,
    records: u64,
    kind: PhantomData<fn(&T)>,
}

impl<T: Serialize> Writer<T> {
    /// Into this file, from where it stands.
    pub(super) fn new(file: File) -> Self {
        Self { file, block: vec![0; HEAD], records: 0, kind: PhantomData }
    }

    /// Into a file without a name.
    pub(super) fn nameless(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        match openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Self::new(file.into())),
            // Network file systems have none.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let path = directory.join(format!(".verify-{}", crate::random::word()));
                let file = create(&path)?;
                std::fs::remove_file(&path)?;
                Ok(Self::new(file))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn write(&mut self, record: &T) -> io::Result<()> {
        self.records += 1;
        self.block = postcard::to_extend(record, std::mem::take(&mut self.block)).map_err(io::Error::other)?;
        if self.block.len() >= BLOCK { self.flush() } else { Ok(()) }
    }

    /// How many were written.
    pub(super) fn len(&self) -> u64 {
        self.records
    }

    /// Hands to the kernel what was written so far, so that a kill does not lose it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.block.len() == HEAD {
            return Ok(());
        }
        let length = self.block.len() - HEAD;
        let length = u32::try_from(length).ok().filter(|_| length <= BLOCK_MAX);
        let length = length.ok_or_else(|| io::Error::other("a record is too long"))?;
        let check = check(&self.block[HEAD..]);
        self.block[..4].copy_from_slice(&length.to_le_bytes());
        self.block[4..HEAD].copy_from_slice(&check);
        self.file.write_all(&self.block)?;
        self.block.truncate(HEAD);
        Ok(())
    }

    /// Ends it; the file.
    pub(super) fn finish(mut self) -> io::Result<File> {
        self.flush()?;
        Ok(self.file)
    }
}

/// Reads them again.
pub(super) struct Reader<T> {
    file: BufReader<Positioned>,
    block: Vec<u8>,
    at: usize,
    kind: PhantomData<fn() -> T>,
}

/// A file read at a position of this reader's own, so that several can read it at once.
struct Positioned {
    file: File,
    at: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = std::os::unix::fs::FileExt::read_at(&self.file, buffer, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl<T: DeserializeOwned> Reader<T> {
    /// From the beginning of this file.
    pub(super) fn new(file: &File) -> io::Result<Self> {
        let positioned = Positioned { file: file.try_clone()?, at: 0 };
        Ok(Self { file: BufReader::with_capacity(BLOCK, positioned), block: Vec::new(), at: 0, kind: PhantomData })
    }

    /// From this file, as far as it is there.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Self::new(&file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next block; `false` at the end, and before anything that is not whole.
    fn fill(&mut self) -> io::Result<bool> {
        let mut head = [0; HEAD];
        if !read_whole(&mut self.file, &mut head)? {
            return Ok(false);
        }
        let (length, expected) = head.split_at(4);
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
        if length > BLOCK_MAX {
            return Ok(false);
        }
        self.block.resize(length, 0);
        self.at = 0;
        Ok(read_whole(&mut self.file, &mut self.block)? && check(&self.block) == expected)
    }
}

impl<T: DeserializeOwned> Iterator for Reader<T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<io::Result<T>> {
        while self.at == self.block.len() {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        match postcard::take_from_bytes(&self.block[self.at..]) {
            Ok((record, rest)) => {
                self.at = self.block.len() - rest.len();
                Some(Ok(record))
            }
            Err(error) => {
                self.at = self.block.len();
                Some(Err(io::Error::new(io::ErrorKind::InvalidData, error)))
            }
        }
    }
}

/// `false` when it ends before.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

fn check(bytes: &[u8]) -> [u8; HEAD - 4] {
    let mut short = [0; HEAD - 4];
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..HEAD - 4]);
    short
}

/// A file that begins anew, for its owner alone.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// A file that stays as it is.
pub(super) fn open_or_create(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(records: &[Vec<u8>], each_alone: bool) -> File {
        let directory = tempfile::tempdir().expect("a directory");
        let file = create(&directory.path().join("records")).expect("made");
        let mut writer = Writer::new(file);
        for record in records {
            writer.write(record).expect("written");
            if each_alone {
                writer.flush().expect("written");
            }
        }
        writer.finish().expect("ended")
    }

    fn read(file: &File) -> Vec<Vec<u8>> {
        Reader::new(file).expect("opened").map(|record| record.expect("whole")).collect()
    }

    #[test]
    fn what_is_written_is_read_by_several_at_once() {
        let records: Vec<Vec<u8>> = (0..5000_usize).map(|n| vec![b'x'; n % 300]).collect();
        let file = written(&records, false);
        assert_eq!(read(&file), records);
        let (mut one, mut two) =
            (Reader::<Vec<u8>>::new(&file).expect("opened"), Reader::<Vec<u8>>::new(&file).expect("opened"));
        for record in &records {
            assert_eq!(&one.next().expect("more").expect("whole"), record);
            assert_eq!(&two.next().expect("more").expect("whole"), record);
        }
    }

    #[test]
    fn what_is_half_written_or_damaged_is_not_read() {
        let records: Vec<Vec<u8>> = (0..20_usize).map(|n| vec![b'y'; n + 10]).collect();
        let whole = written(&records, true);
        let length = whole.metadata().expect("there").len();
        for cut in 0..length {
            let file = written(&records, true);
            file.set_len(cut).expect("cut");
            let read = read(&file);
            assert_eq!(read, records[..read.len()]);
            assert!(read.len() < records.len());
        }
        let file = written(&records, true);
        std::os::unix::fs::FileExt::write_at(&file, b"z", length / 2).expect("written");
        assert!(read(&file).len() < records.len());
    }
}
