use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::verify::here::Here;
use crate::verify::order::{MaxDrift, Replica};
use crate::verify::report::{Count, Verdict};
use crate::verify::store::Wanted;

struct Case {
    directory: tempfile::TempDir,
    order: Order,
}

impl Case {
    fn new(depth: Depth) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        for name in ["src/sub", "dst", "state"] {
            fs::create_dir_all(path(name)).expect("made");
        }
        for (name, text) in [("src/a", "aaa"), ("src/sub/b", "bbbb"), ("src/sub/c", "ccccc")] {
            fs::write(path(name), text).expect("written");
        }
        let mut source = path("src").into_os_string();
        source.push("/");
        let order = Order {
            replica: Replica { job: "j".into(), sync: "s".into() },
            sources: vec![source],
            dest: path("dst").into(),
            opts: vec!["-a".into(), "--delete".into()],
            depth,
            state: Some(path("state")),
            keep: 86_400,
            ..Order::default()
        };
        let case = Self { directory, order };
        case.sync();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn sync(&self) {
        let words = self.order.opts.iter().chain(&self.order.sources).chain([&self.order.dest]);
        let status = Command::new("rsync").args(words.collect::<Vec<&OsString>>()).status();
        assert!(status.expect("rsync").success());
    }

    fn verify(&self) -> Report {
        let sides = Sides { source: Box::new(Here::default()), target: Box::new(Here::default()), by: By::Here };
        verify(&self.order, sides, &mut |_| {}).expect("a report").report
    }

    /// What the last verification found.
    fn found(&self) -> Vec<String> {
        let store = Store::open_read_only(&self.path("state")).expect("no error").expect("there");
        let (found, all) = store.differences(&self.order.replica, &Wanted::default(), 0, 100).expect("read");
        assert_eq!(found.len() as u64, all);
        let text = |kept: crate::verify::store::Kept| {
            format!("{} {} {}", kept.class.name(), String::from_utf8_lossy(&kept.path), kept.detail).trim().to_owned()
        };
        found.into_iter().map(text).collect()
    }

    /// Other content, and nothing else to be seen of it.
    fn rot(&self, name: &str) {
        let path = self.path(name);
        let before = fs::metadata(&path).expect("there");
        let mut text = fs::read(&path).expect("read");
        text[0] ^= 1;
        fs::write(&path, text).expect("written");
        set_mtime(&path, before.modified().expect("known"));
    }
}

fn set_mtime(path: &Path, time: std::time::SystemTime) {
    fs::File::options().write(true).open(path).expect("open").set_modified(time).expect("set");
}

#[test]
fn what_rsync_made_is_in_step_and_faults_are_named() {
    let case = Case::new(Depth::Quick);
    let report = case.verify();
    assert_eq!((report.verdict, report.all), (Verdict::InStep, Count { entries: 5, bytes: 12 }));
    assert_eq!(report.last_agreement, Some(report.at));
    fs::remove_file(case.path("dst/a")).expect("removed");
    fs::write(case.path("dst/sub/x"), "x").expect("written");
    fs::write(case.path("src/sub/b"), "BB").expect("written");
    let later = case.verify();
    assert_eq!(case.found(), ["missing a", "stale sub/b", "extra sub/x"]);
    assert_eq!((later.verdict, later.differing(), later.in_step.entries), (Verdict::Drift, 3, 3));
    assert!(later.lag.is_some_and(|lag| lag < 60.0));
    assert_eq!(later.last_agreement, Some(report.at));
    let directories: Vec<_> = later.directories.iter().map(|d| (d.path.as_str(), d.drift.entries)).collect();
    assert_eq!(directories, [("sub", 2), ("", 1)]);
}

#[test]
fn the_directory_of_state_is_made_for_all_but_others() {
    let mut case = Case::new(Depth::Quick);
    let state = case.path("no/history/here");
    case.order.state = Some(state.clone());
    assert_eq!(case.verify().verdict, Verdict::InStep);
    let mode = fs::metadata(&state).expect("made").permissions().mode();
    assert_eq!(mode & 0o777 & !0o750, 0, "{mode:o}");
    assert!(Store::open_read_only(&state).expect("no error").is_some());
}

#[test]
fn bounds_decide_what_is_drift() {
    let mut case = Case::new(Depth::Quick);
    fs::remove_file(case.path("dst/a")).expect("removed");
    case.order.max_drift = MaxDrift::Entries(1);
    assert_eq!(case.verify().verdict, Verdict::Tolerated);
    case.order.max_drift = MaxDrift::Share(0.1);
    assert_eq!(case.verify().verdict, Verdict::Drift);
    case.order.max_drift = MaxDrift::Share(0.5);
    assert_eq!(case.verify().verdict, Verdict::Tolerated);
    case.order.max_lag = Some(3600);
    assert_eq!(case.verify().verdict, Verdict::Tolerated);
    let day_ago = clock::now().checked_sub(jiff::SignedDuration::from_hours(24)).expect("a time");
    assert!(case.verify().lag.is_some_and(|lag| lag < 60.0), "{day_ago}");
}

#[test]
fn content_is_read_once_and_rot_has_a_side() {
    let mut case = Case::new(Depth::Deep);
    let first = case.verify();
    assert_eq!((first.verdict, first.read), (Verdict::InStep, Count { entries: 6, bytes: 24 }));
    let second = case.verify();
    assert_eq!((second.verdict, second.read, second.known.entries), (Verdict::InStep, Count::default(), 3));
    case.rot("dst/sub/b");
    case.rot("src/sub/c");
    let third = case.verify();
    assert_eq!((third.verdict, third.read.entries, third.known.entries), (Verdict::Drift, 2, 1));
    let found = case.found();
    assert!(found[0].starts_with("content sub/b the target changed since 20"), "{found:?}");
    assert!(found[1].starts_with("content sub/c the source changed since 20"), "{found:?}");
    // It is not read again, and not forgotten either.
    let fourth = case.verify();
    assert_eq!((fourth.verdict, fourth.read.entries), (Verdict::Drift, 0));
    assert_eq!(case.found(), found);
    case.order.fresh = true;
    assert_eq!(case.verify().read.entries, 6);
}

#[test]
fn a_share_reads_all_in_its_window() {
    let mut case = Case::new(Depth::Deep);
    case.order.share = Some(1.0);
    let report = case.verify();
    assert_eq!((report.read.entries, report.never_read.entries, report.window_days), (6, 0, Some(1.0)));
    case.order.share = Some(0.000_1);
    let report = case.verify();
    assert_eq!((report.read.entries, report.known.entries), (0, 3));
}

#[test]
fn a_journal_that_was_left_is_not_read_again() {
    let case = Case::new(Depth::Deep);
    case.verify();
    let of_replica = case.path("state/verify/j.s");
    // As a kill in the middle leaves it: what was read is in the journal alone.
    fs::rename(of_replica.join("manifest"), of_replica.join("journal-source")).expect("renamed");
    assert_eq!(case.verify().read.entries, 0);
}

#[test]
fn only_what_is_named_is_looked_at() {
    let mut case = Case::new(Depth::Quick);
    case.order.sources = vec![case.path("src/sub").into(), case.path("src/a").into()];
    fs::write(case.path("dst/other"), "not ours").expect("written");
    assert_eq!(case.verify().verdict, Verdict::InStep);
    fs::write(case.path("dst/sub/more"), "more").expect("written");
    fs::remove_file(case.path("dst/a")).expect("removed");
    assert_eq!(case.verify().differing(), 2);
    assert_eq!(case.found(), ["missing a", "extra sub/more"]);
}

#[test]
fn a_target_that_is_not_there_lacks_everything() {
    let mut case = Case::new(Depth::Meta);
    case.order.dest = case.path("nowhere").into();
    let report = case.verify();
    assert_eq!((report.verdict, report.differing(), report.ratio()), (Verdict::Drift, 5, 0.0));
}

#[test]
fn a_source_that_is_not_there_is_not_in_step_with_nothing() {
    let mut case = Case::new(Depth::Quick);
    for source in ["gone/", "gone"] {
        case.order.sources = vec![case.path(source).into()];
        let sides = Sides { source: Box::new(Here::default()), target: Box::new(Here::default()), by: By::Here };
        let error = verify(&case.order, sides, &mut |_| {}).expect_err("nothing to be said");
        assert!(error.to_string().ends_with(&format!("/{source} is not there")), "{error}");
    }
}

#[test]
fn what_changes_while_it_is_looked_at_is_in_flight() {
    let case = Case::new(Depth::Deep);
    let mut sides = Sides { source: Box::new(Here::default()), target: Box::new(Here::default()), by: By::Here };
    sides.source = Box::new(Hasty { here: Here::default(), path: case.path("src/a") });
    let report = verify(&case.order, sides, &mut |_| {}).expect("a report").report;
    assert_eq!(case.found(), ["in_flight a"]);
    assert_eq!((report.verdict, report.differing()), (Verdict::Tolerated, 0));
    assert_eq!(case.order.state.as_ref().map(|state| state.exists()), Some(true));
}

/// A source in which a file is written anew each time before files are read.
struct Hasty {
    here: Here,
    path: PathBuf,
}

impl Side for Hasty {
    fn about(&self) -> About {
        self.here.about()
    }

    fn scan(&mut self, scan: &crate::verify::side::Scan) -> Result<crate::verify::side::Entries<'_>, SideError> {
        self.here.scan(scan)
    }

    fn look(&mut self, scan: &crate::verify::side::Scan, paths: &[Vec<u8>]) -> Result<Vec<Option<Entry>>, SideError> {
        self.here.look(scan, paths)
    }

    fn hash(
        &mut self,
        scan: &crate::verify::side::Scan,
        wanted: &mut (dyn Iterator<Item = crate::verify::side::Wanted> + Send),
        rate: Option<u64>,
        told: &mut (dyn FnMut(crate::verify::side::Wanted, crate::verify::side::Read) -> Result<(), SideError> + Send),
    ) -> Result<(), SideError> {
        fs::write(&self.path, "another content").map_err(|error| SideError::io("writing", error))?;
        self.here.hash(scan, wanted, rate, told)
    }
}
