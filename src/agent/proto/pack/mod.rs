//! What comes in millions, packed: about 30 bytes an entry.
//!
//! Numbers are LEB128. Each path tells how many bytes it shares with the one before, times and file numbers how they differ from the one before. Every
//! frame begins anew, so what is lost with one is lost alone.

mod packer;
mod unpacker;

pub use packer::Packer;
pub use unpacker::Unpacker;

use super::PACKED_MAX;

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
const IS_KEPT: u8 = 0x80;

const KEPT_ALONE: u8 = 1;
const KEPT_WITH_DIRECTORY: u8 = 2;

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
