//! The questions that a shell answers on the host itself, in one script that changes nothing: its clock, its rsyncs, what is at which path
//! and how much room there is. Pure: the script's text, and what its output means.
//!
//! Each answer stands behind a line with a random word, so that neither a talkative login script nor a file's name can pass for one. Paths
//! are quoted; one that begins with `~/`, or does not begin with `/`, is of the home directory, as rsync has it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::build::Installed;

const SCRIPT: &str = include_str!("probe.sh");

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Questions {
    /// Paths to look at.
    pub paths: Vec<OsString>,
    /// Below which of these, by their index, a setgid directory is searched.
    pub setgid: Vec<usize>,
    /// Programs that should be an rsync, as a shell reads them.
    pub programs: Vec<OsString>,
}

impl Questions {
    /// The index of a path, which is asked about only once.
    pub fn path(&mut self, path: &OsStr) -> usize {
        index(&mut self.paths, path)
    }

    /// The same for a program.
    pub fn program(&mut self, program: &OsStr) -> usize {
        index(&mut self.programs, program)
    }

    /// The script, whose answers carry this word.
    pub fn script(&self, word: &str) -> Vec<u8> {
        let mut script = format!("n={word}\n{SCRIPT}").into_bytes();
        let mut call = |name: &str, index: usize, argument: &[u8]| {
            script.extend(format!("{name} {index} ").as_bytes());
            script.extend(argument);
            script.push(b'\n');
        };
        for (index, program) in self.programs.iter().enumerate() {
            call("program", index, &quoted(program.as_bytes()));
        }
        for (index, path) in self.paths.iter().enumerate() {
            call("path", index, &place(path));
        }
        for &index in &self.setgid {
            call("setgid", index, &place(&self.paths[index]));
        }
        script.extend(b"say 0 end\n");
        script
    }
}

fn index(list: &mut Vec<OsString>, item: &OsStr) -> usize {
    list.iter().position(|known| known == item).unwrap_or_else(|| {
        list.push(item.to_owned());
        list.len() - 1
    })
}

/// A path as a word of the script.
fn place(path: &OsStr) -> Vec<u8> {
    let bytes = path.as_bytes();
    // A slash at the end would hide that there is no directory; the root is itself.
    let end = bytes.iter().rposition(|&byte| byte != b'/').map_or(1.min(bytes.len()), |at| at + 1);
    match &bytes[..end] {
        b"" | b"~" => b"\"$HOME\"".to_vec(),
        [b'~', b'/', rest @ ..] => [&b"\"$HOME\"/"[..], &quoted(rest)].concat(),
        path @ [b'/', ..] => quoted(path),
        path => [&b"./"[..], &quoted(path)].concat(),
    }
}

fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut word = vec![b'\''];
    for &byte in bytes {
        match byte {
            b'\'' => word.extend(b"'\\''"),
            byte => word.push(byte),
        }
    }
    word.push(b'\'');
    word
}

/// What is at a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// `d`irectory, `f`ile, dangling `l`ink, `o`ther; `-` is nothing. Then `r`, `w` and `x` as far as we may.
    flags: String,
    /// The same of the nearest directory above, or of itself.
    above_flags: String,
    /// Which that is.
    pub above: String,
    /// Where its file system is mounted.
    pub mount: String,
    /// Its file system's bytes, where they are told.
    pub bytes: Option<Room>,
    /// Its inodes, where the file system counts them.
    pub inodes: Option<Room>,
    /// A directory below it that passes its group on.
    pub setgid: Option<String>,
}

impl Seen {
    /// Whether something is there.
    pub fn exists(&self) -> bool {
        !matches!(self.kind(), b'-' | b'l')
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == b'd'
    }

    fn kind(&self) -> u8 {
        self.flags.bytes().next().unwrap_or(b'-')
    }

    /// Whether its content can be read.
    pub fn is_readable(&self) -> bool {
        self.flags[1..].contains('r') && (!self.is_dir() || self.flags[1..].contains('x'))
    }

    /// Whether something can be made in the directory, or the file be written.
    pub fn is_writable(&self) -> bool {
        self.flags[1..].contains('w') && (!self.is_dir() || self.flags[1..].contains('x'))
    }

    /// Whether nobody but others may look into the nearest directory above.
    pub fn is_closed_above(&self) -> bool {
        !self.above_flags.contains('x')
    }

    /// Whether something can be made in the nearest directory above.
    pub fn can_be_made(&self) -> bool {
        self.above_flags.contains('w') && self.above_flags.contains('x')
    }
}

/// What a file system has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// All there is, for whoever is no superuser.
    pub total: u64,
    /// What is free, as `total`.
    pub free: u64,
}

/// Everything that a host answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// Seconds since 1970 by its clock, when the script began.
    pub now: Option<i64>,
    /// In the order of the questions.
    pub paths: Vec<Seen>,
    /// In the order of the questions.
    pub programs: Vec<Installed>,
}

impl Answers {
    /// Reads a script's output. `None` when it did not run to its end.
    pub fn parse(questions: &Questions, word: &str, output: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(output);
        let sections: BTreeMap<_, _> = text.split(&format!("\n@{word} ")).skip(1).filter_map(section).collect();
        sections.get(&(0, "end"))?;
        let rest = |index, what| sections.get(&(index, what)).map(|(rest, _)| rest.trim()).unwrap_or_default();
        let seen = |index| {
            let (above_flags, above) = rest(index, "above").split_once(' ').unwrap_or_default();
            Seen {
                flags: Some(rest(index, "path")).filter(|flags| !flags.is_empty()).unwrap_or("-").to_owned(),
                above_flags: above_flags.to_owned(),
                above: above.to_owned(),
                mount: mount(rest(index, "bytes")).to_owned(),
                bytes: room(rest(index, "bytes"), 1024),
                inodes: room(rest(index, "inodes"), 1),
                setgid: Some(rest(index, "setgid")).filter(|path| !path.is_empty()).map(str::to_owned),
            }
        };
        let installed = |(index, program): (usize, &OsString)| Installed {
            program: program.to_string_lossy().into_owned(),
            path: rest(index, "found").to_owned(),
            said: sections.get(&(index, "said")).map(|(_, body)| (*body).to_owned()).unwrap_or_default(),
            package: rest(index, "package").to_owned(),
            system: rest(index, "system").to_owned(),
        };
        Some(Self {
            now: rest(0, "now").parse().ok(),
            paths: (0..questions.paths.len()).map(seen).collect(),
            programs: questions.programs.iter().enumerate().map(installed).collect(),
        })
    }
}

/// An answer: of which question and what, with the rest of its line and the lines below.
type Section<'a> = ((usize, &'a str), (&'a str, &'a str));

/// `INDEX WHAT REST`, and the lines up to the next.
fn section(text: &str) -> Option<Section<'_>> {
    let (head, body) = text.split_once('\n')?;
    let (index, rest) = head.split_once(' ')?;
    let (what, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(((index.parse().ok()?, what), (rest, body)))
}

/// The last line of `df -P` (POSIX): blocks, used, available, and the share, behind the device and before the mount point, which both may
/// hold spaces.
fn room(line: &str, unit: u64) -> Option<Room> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let numbers = words.windows(4).find(|four| {
        four[3].strip_suffix('%').is_some_and(|share| share.parse::<u64>().is_ok())
            && four[..3].iter().all(|word| word.parse::<u64>().is_ok())
    })?;
    let (used, free) = (numbers[1].parse::<u64>().ok()?, numbers[2].parse::<u64>().ok()?);
    let total = (used + free).saturating_mul(unit);
    (total > 0).then_some(Room { total, free: free.saturating_mul(unit) })
}

/// What stands behind the share.
fn mount(line: &str) -> &str {
    line.rsplit_once("% ").map(|(_, mount)| mount).unwrap_or_default()
}

#[cfg(test)]
#[path = "tests/probe.rs"]
mod tests;
