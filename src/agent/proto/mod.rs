//! What the agent and its client say to each other: a line, then frames. Pure: streams are what the caller gives.
//!
//! The agent speaks first: `rsyncdirector-agent PROTOCOL VERSION` and a line feed ([`Preface`]). Whatever else comes first is noise of a shell's
//! start files. From then on both send frames: the length of the payload (4 bytes, little endian), its [`Kind`] (1 byte), the payload.
//! Small things are JSON ([`message`]), what comes in millions is packed ([`pack`]).
//!
//! The client asks one thing at a time and waits for its end ([`Kind::End`] or [`Kind::Failed`]). A verb or a kind of frame that the agent does not know
//! is answered with [`Kind::Failed`], and what belongs to it is passed over, so a client may ask what only later agents can.
//!
//! No length that is only claimed takes memory: a payload is read as it comes, and what is packed is taken out one by one.

pub mod message;
pub mod pack;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};

/// The number of what is described here.
pub const PROTOCOL: u32 = 1;
/// The first word of an agent.
const GREETING: &[u8] = b"rsyncdirector-agent ";
/// Bound on the first line, bytes.
pub const PREFACE_MAX: usize = 512;
/// Of a stranger's first line, no more is quoted, characters.
const QUOTED_MAX: usize = 120;
/// Bound on a frame that carries packed things, bytes.
pub const PACKED_MAX: usize = 1 << 20;
/// Bound on one that carries JSON, bytes: a sync may have many thousand rules.
pub const JSON_MAX: usize = 16 << 20;
/// Length and kind of a frame, bytes.
pub const HEAD: usize = 5;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The agent: who it is, [`message::Hello`].
    Hello,
    /// The agent: a file system, [`message::Volume`].
    Volume,
    /// The agent: entries of a scan, or what became of paths that were to be looked at; packed.
    Entries,
    /// The agent: what came of reading files; packed.
    Digests,
    /// The agent: all that was asked for is told.
    End,
    /// The agent: it cannot be told, [`message::Failed`].
    Failed,
    /// The client: [`message::Request`].
    Request,
    /// The client: paths to be looked at; packed.
    Paths,
    /// The client: files to be read; packed.
    Wanted,
    /// The client: no more of them.
    Last,
    /// The client: no more entries, please.
    Stop,
    /// Of a later release.
    Other(u8),
}

const KINDS: [(u8, Kind); 11] = [
    (1, Kind::Hello),
    (2, Kind::Volume),
    (3, Kind::Entries),
    (4, Kind::Digests),
    (5, Kind::End),
    (6, Kind::Failed),
    (16, Kind::Request),
    (17, Kind::Paths),
    (18, Kind::Wanted),
    (19, Kind::Last),
    (20, Kind::Stop),
];

impl Kind {
    fn from_byte(byte: u8) -> Self {
        KINDS.iter().find(|(number, _)| *number == byte).map_or(Self::Other(byte), |(_, kind)| *kind)
    }

    fn to_byte(self) -> u8 {
        match self {
            Self::Other(byte) => byte,
            known => KINDS.iter().find(|(_, kind)| *kind == known).map_or(0, |(number, _)| *number),
        }
    }

    /// Bound on its payload, bytes.
    fn longest(self) -> usize {
        match self {
            Self::Entries | Self::Digests | Self::Paths | Self::Wanted => PACKED_MAX,
            Self::End | Self::Last | Self::Stop => 0,
            Self::Hello | Self::Volume | Self::Failed | Self::Request | Self::Other(_) => JSON_MAX,
        }
    }
}

/// Why what came is not of this protocol.
#[derive(Debug, thiserror::Error)]
pub enum ProtoError {
    /// The stream failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// It ended in the midst of a frame.
    #[error("the connection ended in the midst of a message")]
    Truncated,
    /// A frame is longer than any may be.
    #[error("a message of {length} bytes, of kind {kind}: this is none of the agent's")]
    TooLong {
        /// As it came.
        kind: u8,
        /// As it claims.
        length: usize,
    },
    /// A frame does not hold what it should.
    #[error("a message that is not understood: {0}")]
    Malformed(&'static str),
    /// Nor does one of JSON.
    #[error("a message that is not understood")]
    Json(#[from] serde_json::Error),
    /// It came at a moment for something else.
    #[error("a message of kind {0} out of turn")]
    OutOfTurn(u8),
    /// A path that is too long to be told, bytes.
    #[error("a path of {0} bytes is too long to be told")]
    Path(usize),
}

/// Why the first line is not an agent's that can be talked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefaceError {
    /// Somebody else speaks.
    #[error("something else than the agent spoke first: {line:?}")]
    Noise {
        /// The first line, as far as it is quoted.
        line: String,
    },
    /// An agent of another release.
    #[error(
        "its agent (rsyncdirector {version}) speaks protocol {protocol}, this rsyncdirector {} protocol {PROTOCOL}",
        crate::VERSION
    )]
    Protocol {
        /// The number.
        protocol: String,
        /// The version of the program there.
        version: String,
    },
}

/// The first line of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preface {
    /// The version of the program.
    pub version: String,
}

impl Preface {
    /// Ours.
    pub fn line() -> Vec<u8> {
        [GREETING, format!("{PROTOCOL} {}\n", crate::VERSION).as_bytes()].concat()
    }

    /// Reads one, with or without its line feed.
    ///
    /// # Errors
    /// [`PrefaceError`].
    pub fn parse(line: &[u8]) -> Result<Self, PrefaceError> {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let noise = || PrefaceError::Noise { line: quoted(line) };
        let words = line.strip_prefix(GREETING).and_then(|rest| std::str::from_utf8(rest).ok()).ok_or_else(noise)?;
        let mut words = words.split(' ');
        let (Some(protocol), Some(version)) = (words.next(), words.next()) else { return Err(noise()) };
        if protocol == PROTOCOL.to_string() {
            return Ok(Self { version: shortened(version) });
        }
        Err(PrefaceError::Protocol { protocol: shortened(protocol), version: shortened(version) })
    }
}

fn quoted(line: &[u8]) -> String {
    shortened(String::from_utf8_lossy(line).trim_end())
}

/// A stranger's words for people.
fn shortened(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(QUOTED_MAX).collect()
}

/// Reads a frame into `payload`; `None` when the stream ends before one.
///
/// # Errors
/// [`ProtoError`].
pub fn read(input: &mut impl Read, payload: &mut Vec<u8>) -> Result<Option<Kind>, ProtoError> {
    payload.clear();
    let mut head = [0; HEAD];
    match fill(input, &mut head)? {
        0 => return Ok(None),
        HEAD => {}
        _ => return Err(ProtoError::Truncated),
    }
    let [a, b, c, d, byte] = head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let kind = Kind::from_byte(byte);
    if length > kind.longest() {
        return Err(ProtoError::TooLong { kind: byte, length });
    }
    // Grows with what comes, not with what is claimed.
    let came = input.take(length as u64).read_to_end(payload)?;
    if came == length { Ok(Some(kind)) } else { Err(ProtoError::Truncated) }
}

/// Reads until the buffer is full or the stream ends; as many bytes.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The frame of a payload that stands behind room for its head.
fn framed(kind: Kind, mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(bytes.len() - HEAD).expect("payloads are bounded");
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4] = kind.to_byte();
    bytes
}

/// A frame without a payload.
pub fn bare(kind: Kind) -> Vec<u8> {
    framed(kind, vec![0; HEAD])
}

/// A frame of JSON.
///
/// # Errors
/// When it does not go into one.
pub fn json(kind: Kind, message: &impl serde::Serialize) -> Result<Vec<u8>, ProtoError> {
    let mut bytes = vec![0; HEAD];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - HEAD;
    let too_long = ProtoError::TooLong { kind: kind.to_byte(), length };
    if length > kind.longest() { Err(too_long) } else { Ok(framed(kind, bytes)) }
}

/// Writes frames, all of them.
///
/// # Errors
/// When the stream fails.
pub fn write(output: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    output.write_all(frame)?;
    output.flush()
}

/// That a frame came out of turn.
pub fn out_of_turn(kind: Kind) -> ProtoError {
    ProtoError::OutOfTurn(kind.to_byte())
}
