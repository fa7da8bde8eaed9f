//! Packets of the SSH file transfer protocol, version 3 (draft-ietf-secsh-filexfer-02): bytes from and to values. Pure.
//!
//! Only what the client sends and what a server may answer to that. Names are bytes, as on the servers' file systems.

pub(in crate::ssh) const VERSION: u32 = 3;
/// A longer answer is not one to what we ask.
pub(in crate::ssh) const LENGTH_MAX: usize = 256 * 1024;

pub(in crate::ssh) const INIT: u8 = 1;
const REPLY_VERSION: u8 = 2;
pub(in crate::ssh) const OPEN: u8 = 3;
pub(in crate::ssh) const CLOSE: u8 = 4;
pub(in crate::ssh) const READ: u8 = 5;
pub(in crate::ssh) const WRITE: u8 = 6;
pub(in crate::ssh) const LSTAT: u8 = 7;
pub(in crate::ssh) const FSTAT: u8 = 8;
pub(in crate::ssh) const REMOVE: u8 = 13;
pub(in crate::ssh) const MKDIR: u8 = 14;
pub(in crate::ssh) const STAT: u8 = 17;
pub(in crate::ssh) const EXTENDED: u8 = 200;
const REPLY_STATUS: u8 = 101;
const REPLY_HANDLE: u8 = 102;
const REPLY_DATA: u8 = 103;
const REPLY_ATTRIBUTES: u8 = 105;

const ATTRIBUTE_SIZE: u32 = 1;
const ATTRIBUTE_OWNER: u32 = 2;
pub(in crate::ssh) const ATTRIBUTE_PERMISSIONS: u32 = 4;
const ATTRIBUTE_TIMES: u32 = 8;

const TYPE_MASK: u32 = 0o170_000;

/// A packet being written, its length field first.
pub(in crate::ssh) struct Packet(Vec<u8>);

impl Packet {
    /// One of this type.
    pub(in crate::ssh) fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    pub(in crate::ssh) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(in crate::ssh) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(in crate::ssh) fn bytes(self, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).expect("what is sent is shorter than 4 GiB");
        let mut this = self.u32(length);
        this.0.extend_from_slice(bytes);
        this
    }

    /// The packet with its length filled in.
    pub(in crate::ssh) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).expect("what is sent is shorter than 4 GiB");
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ssh) enum Reply {
    /// How it ended, by number, and the server's own words.
    Status { code: u32, message: String },
    /// An open file.
    Handle(Vec<u8>),
    /// A piece of a file.
    Data(Vec<u8>),
    /// What is known of a file.
    Attributes(Attributes),
    /// Some other packet.
    Other(u8),
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Its length, bytes.
    pub size: Option<u64>,
    /// File type and permission bits, as `st_mode`.
    pub mode: Option<u32>,
    /// Its last change, seconds since 1970 by the server's clock.
    pub modified: Option<u32>,
}

impl Attributes {
    /// Whether it is of this type, such as `0o100_000` for a regular file (inode(7)).
    fn is(&self, kind: u32) -> bool {
        self.mode.is_some_and(|mode| mode & TYPE_MASK == kind)
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.is(0o100_000)
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.is(0o040_000)
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.is(0o120_000)
    }
}

/// The answer to `INIT`: the version, and the names of the server's extensions. `None` when it is something else.
pub(in crate::ssh) fn parse_version(packet: &[u8]) -> Option<(u32, Vec<Vec<u8>>)> {
    let mut rest = Reader(packet);
    if rest.u8()? != REPLY_VERSION {
        return None;
    }
    let version = rest.u32()?;
    let mut extensions = Vec::new();
    while !rest.0.is_empty() {
        extensions.push(rest.bytes()?.to_vec());
        rest.bytes()?;
    }
    Some((version, extensions))
}

/// The number of the request that is answered, and the answer. `None` when it is malformed.
pub(in crate::ssh) fn parse_reply(packet: &[u8]) -> Option<(u32, Reply)> {
    let mut rest = Reader(packet);
    let (kind, id) = (rest.u8()?, rest.u32()?);
    let reply = match kind {
        REPLY_STATUS => {
            let code = rest.u32()?;
            // Servers older than the draft send no message.
            let message = String::from_utf8_lossy(rest.bytes().unwrap_or_default()).into_owned();
            Reply::Status { code, message }
        }
        REPLY_HANDLE => Reply::Handle(rest.bytes()?.to_vec()),
        REPLY_DATA => Reply::Data(rest.bytes()?.to_vec()),
        REPLY_ATTRIBUTES => Reply::Attributes(rest.attributes()?),
        other => Reply::Other(other),
    };
    Some((id, reply))
}

/// The first packet of a stream without its length, and how many bytes it took; `None` when it has not all come.
pub(in crate::ssh) fn split(stream: &[u8]) -> Option<(&[u8], usize)> {
    let length = usize::try_from(Reader(stream).u32()?).ok()?;
    let end = length.checked_add(4)?;
    Some((stream.get(4..end)?, end))
}

/// Whether a stream begins with a packet that is too long to be waited for.
pub(in crate::ssh) fn is_too_long(stream: &[u8]) -> bool {
    Reader(stream).u32().is_some_and(|length| length as usize > LENGTH_MAX)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(|[byte]: [u8; 1]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn attributes(&mut self) -> Option<Attributes> {
        let flags = self.u32()?;
        let mut attributes = Attributes::default();
        if flags & ATTRIBUTE_SIZE != 0 {
            attributes.size = Some(self.u64()?);
        }
        if flags & ATTRIBUTE_OWNER != 0 {
            self.u64()?;
        }
        if flags & ATTRIBUTE_PERMISSIONS != 0 {
            attributes.mode = Some(self.u32()?);
        }
        if flags & ATTRIBUTE_TIMES != 0 {
            self.u32()?;
            attributes.modified = Some(self.u32()?);
        }
        Some(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_carries_its_length_and_its_fields() {
        let packet = Packet::new(READ).u32(7).bytes(b"h").u64(1).finish();
        assert_eq!(packet, [0, 0, 0, 18, 5, 0, 0, 0, 7, 0, 0, 0, 1, b'h', 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(split(&packet).map(|(body, used)| (body.len(), used)), Some((18, 22)));
    }

    #[test]
    fn a_packet_that_has_not_all_come_is_waited_for_and_one_that_is_too_long_is_not() {
        let packet = Packet::new(READ).u32(7).finish();
        for end in 0..packet.len() {
            assert_eq!(split(&packet[..end]), None, "{end}");
            assert!(!is_too_long(&packet[..end]));
        }
        assert!(is_too_long(b"umask 022"));
    }

    #[test]
    fn answers_are_read_and_cut_ones_are_refused() {
        let check = |packet: Packet, expected: Reply| {
            let packet = packet.finish();
            let body = &packet[4..];
            assert_eq!(parse_reply(body), Some((9, expected)));
            for end in 0..body.len() {
                // A status may lack its message.
                assert!(body[0] == REPLY_STATUS && end >= 9 || parse_reply(&body[..end]).is_none(), "{body:?} {end}");
            }
        };
        let status = Reply::Status { code: 3, message: "no".into() };
        check(Packet::new(REPLY_STATUS).u32(9).u32(3).bytes(b"no"), status);
        check(Packet::new(REPLY_HANDLE).u32(9).bytes(&[0xff, 0]), Reply::Handle(vec![0xff, 0]));
        check(Packet::new(REPLY_DATA).u32(9).bytes(b"4711\n"), Reply::Data(b"4711\n".to_vec()));
        let expected = Attributes { size: Some(5), mode: Some(0o100_644), modified: Some(2) };
        let all = Packet::new(REPLY_ATTRIBUTES).u32(9).u32(15).u64(5).u32(0).u32(0).u32(0o100_644).u32(1).u32(2);
        check(all, Reply::Attributes(expected));
        assert!(expected.is_file() && !expected.is_dir() && !expected.is_link());
    }

    #[test]
    fn a_version_names_extensions() {
        let packet = Packet::new(REPLY_VERSION).u32(3).bytes(b"hardlink@openssh.com").bytes(b"1").finish();
        assert_eq!(parse_version(&packet[4..]), Some((3, vec![b"hardlink@openssh.com".to_vec()])));
        assert_eq!(parse_version(&packet[4..20]), None);
        assert_eq!(parse_version(b"umask"), None);
    }
}
