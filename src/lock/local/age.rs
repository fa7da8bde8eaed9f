//! How old a lock file is, by the clock that dates it: ours, or that of the file server that stores it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use super::files::beside;
use crate::clock;
use crate::random;

/// File systems whose times come from another host (statfs(2), `f_type`): NFS, SMB 1 and 2, CIFS, AFS, Ceph, Lustre, 9P, and FUSE, which
/// may be any of them.
const FROM_ELSEWHERE: [i64; 9] =
    [0x6969, 0x517b, 0xfe53_4d42, 0xff53_4d42, 0x5346_414f, 0x00c3_6400, 0x0bd0_0bd0, 0x0102_1997, 0x6573_5546];

/// Time since the last change of the file at `path`. One from the future is new.
pub(super) fn age(path: &Path, metadata: &fs::Metadata) -> Duration {
    let own = || clock::now().as_nanosecond();
    let now = if is_from_elsewhere(path) {
        // Where we may not write, nobody waits for a lock of ours, only for a block: our own clock is near enough.
        clock_there(path).unwrap_or_else(|_| own())
    } else {
        own()
    };
    Duration::from_nanos(u64::try_from((now - changed(metadata)).max(0)).unwrap_or(u64::MAX))
}

fn is_from_elsewhere(path: &Path) -> bool {
    path.parent()
        .and_then(|directory| rustix::fs::statfs(directory).ok())
        .is_some_and(|found| FROM_ELSEWHERE.contains(&found.f_type))
}

/// What the clock of the file system says: the date of a new file, nanoseconds since 1970.
pub(super) fn clock_there(path: &Path) -> io::Result<i128> {
    let probe = beside(path, "clock-", &random::word())?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe)?;
    let now = file.metadata().map(|metadata| changed(&metadata));
    fs::remove_file(&probe)?;
    now
}

fn changed(metadata: &fs::Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}
