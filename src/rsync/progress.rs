//! rsync's `--info=progress2`.

/// How far a running rsync is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Bytes moved so far.
    pub bytes: u64,
    /// Share of the whole, 0 to 100, as far as rsync knows the whole.
    pub percent: u8,
    /// Bytes per second.
    pub rate: u64,
    /// Files still to check and known so far, (left, total); `None` before rsync says so.
    pub to_check: Option<(u64, u64)>,
}
