//! rsync's `--stats`.

/// What rsync says of a transfer at its end. Sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries of the source (files, directories, links, ...).
    pub files: u64,
    /// Entries created at the destination.
    pub created: u64,
    /// Entries deleted at the destination.
    pub deleted: u64,
    /// Regular files whose data was transferred.
    pub transferred: u64,
    /// Size of all source files.
    pub source_bytes: u64,
    /// Size of the transferred files.
    pub transferred_bytes: u64,
    /// Bytes sent over the wire by this side.
    pub sent_bytes: u64,
    /// Bytes received over the wire by this side.
    pub received_bytes: u64,
}
