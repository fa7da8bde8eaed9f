//! What is odd about the two sides: a file system that keeps less than the sync promises, a clock that is wrong, a bound that does not hold.

use super::Course;
use crate::agent::proto::message::Volume;
use crate::verify::order::Order;
use crate::verify::report::By;
use crate::verify::terms::Depth;

/// A clock that is off by less is not worth a word, seconds.
const CLOCK_OFF: f64 = 5.0;
/// What a file system keeps times to that keeps whole seconds, nanoseconds.
const SECOND: u32 = 1_000_000_000;

/// All of it, a line each.
pub(super) fn of(course: &mut Course<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(pair) = course.pairs.first() else { return notes };
    let (source, target) = (pair.source.root.clone(), pair.target.root.clone());
    let source = course.sides.source.volume(&source);
    let target = course.sides.target.volume(&target);
    let asks_times = course.promise.times && course.promise.window == 0;
    for (side, volume) in [("source", &source), ("target", &target)] {
        notes.extend(volume.as_ref().filter(|_| asks_times).and_then(|volume| coarse(side, volume)));
    }
    notes.extend(source.zip(target).and_then(|(source, target)| one_case(&source, &target)));
    for (side, about) in [("source", &course.about.0), ("target", &course.about.1)] {
        notes.extend(about.clock_offset.and_then(|offset| clock(side, offset)));
    }
    notes.extend(unbounded(course.order, course.sides.by));
    notes
}

fn coarse(side: &str, volume: &Volume) -> Option<String> {
    let seconds = volume.granularity / SECOND;
    (seconds > 1).then(|| {
        let kind = &volume.kind;
        format!("the {side}'s file system ({kind}) keeps times to {seconds} s: without --modify-window={seconds} files seem to differ")
    })
}

fn one_case(source: &Volume, target: &Volume) -> Option<String> {
    let differs = source.is_case_sensitive == Some(true) && target.is_case_sensitive == Some(false);
    let kind = &target.kind;
    differs.then(|| format!("names that differ in upper and lower case only are one file at the target ({kind})"))
}

fn clock(side: &str, offset: f64) -> Option<String> {
    let way = if offset > 0.0 { "ahead" } else { "behind" };
    (offset.abs() > CLOCK_OFF).then(|| format!("the {side}'s clock is {:.0} s {way}", offset.abs()))
}

/// rsync has no bound on how fast it reads, only on what it sends.
fn unbounded(order: &Order, by: By) -> Option<String> {
    let reads = order.depth == Depth::Deep && by == By::Rsync;
    let note =
        || "`rate` did not hold: without an agent on the peer rsync reads both sides, as fast as it can".to_owned();
    order.rate.filter(|_| reads).map(|_| note())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(kind: &str, granularity: u32, is_case_sensitive: bool) -> Volume {
        let (id, size, free, free_files) = Default::default();
        let is_case_sensitive = Some(is_case_sensitive);
        Volume { id, kind: kind.into(), granularity, is_case_sensitive, size, free, free_files }
    }

    #[test]
    fn what_is_odd_is_said() {
        let (ext4, vfat) = (volume("ext4", 1, true), volume("vfat", 2 * SECOND, false));
        assert_eq!(coarse("source", &ext4), None);
        assert!(coarse("target", &vfat).is_some_and(|note| note.contains("(vfat)") && note.contains("window=2 ")));
        assert!(one_case(&ext4, &vfat).is_some());
        assert_eq!((one_case(&vfat, &vfat), one_case(&ext4, &ext4)), (None, None));
        assert_eq!(clock("target", 4.0), None);
        assert_eq!(clock("target", -70.2).as_deref(), Some("the target's clock is 70 s behind"));
    }
}
