//! The restore drill: random files are copied back from the replica, and compared with what they should be.
//!
//! Some of the files that seem to be in step are drawn while the trees are walked ([`Sample`]). `drill` brings them back by one rsync into a private
//! directory, as a person would who needs them, reads what came, and has the source read the same files. One that the source cannot tell, or has
//! changed meanwhile, is compared with what both sides had when they were last read; without that, or when a sync may have changed the replica, too,
//! it proves nothing, and is skipped. The directory goes with the drill; what a killed one has left is removed by the next.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rustix::fs::{FlockOperation, flock};

use super::engine::Sides;
use super::engine::pairs::Pair;
use super::order::{Elsewhere, Order};
use super::report::Drill;
use super::side::{Read, SideError, State, Wanted};
use crate::human;
use crate::random::{self, Sequence};
use crate::rsync::args;
use crate::rsync::options::{self, COMPRESSION, Opt, REACH};
use crate::scan::Entry;
use crate::ssh::transport;

/// What the names of the private directories begin with.
const PREFIX: &str = "restore-drill-";
/// So much stays free beside the files, bytes.
const SPARE: u64 = 64 << 20;

/// A file that is to be copied back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// In which of the pairs of trees.
    pub pair: u32,
    /// From the root.
    pub path: Vec<u8>,
    /// As the source has it.
    pub state: State,
    /// As the target has it.
    pub target: State,
    /// The digest of this state when source and target were last seen to agree, if they were.
    pub agreed: Option<[u8; 32]>,
}

/// As many as wanted of all that are offered, each with the same chance: reservoir sampling (Vitter's algorithm R).
#[derive(Debug, Default)]
pub struct Sample {
    wanted: usize,
    offered: usize,
    random: Sequence,
    taken: Vec<Sampled>,
}

impl Sample {
    /// Of so many.
    pub fn of(wanted: usize) -> Self {
        let seed = u64::from_str_radix(&random::word()[..16], 16).unwrap_or(0);
        Self { wanted, offered: 0, random: Sequence::of(seed), taken: Vec::new() }
    }

    /// Offers one.
    pub fn offer(&mut self, sampled: impl FnOnce() -> Sampled) {
        if self.wanted == 0 {
            return;
        }
        self.offered += 1;
        if self.taken.len() < self.wanted {
            self.taken.push(sampled());
            return;
        }
        if let Some(taken) = self.taken.get_mut(self.random.below(self.offered)) {
            *taken = sampled();
        }
    }

    /// Those that were taken.
    pub fn taken(self) -> Vec<Sampled> {
        self.taken
    }
}

/// Copies files back and compares them; the sample is in the order of pairs and paths. What cannot be brought back is part of what came of it.
pub(super) fn drill(order: &Order, sample: &[Sampled], sides: &mut Sides, pairs: &[Pair]) -> Drill {
    let mut drill = Drill { files: sample.len() as u64, ..Drill::default() };
    drill.bytes = sample.iter().map(|sampled| sampled.state.size).sum();
    if sample.is_empty() {
        return drill;
    }
    let base = order.state.clone().unwrap_or_else(std::env::temp_dir);
    let brought = Scratch::new(&base, drill.bytes).and_then(|scratch| {
        let said = bring(order, sample, &scratch.path)?;
        Ok((scratch, said))
    });
    let (scratch, said) = match brought {
        Ok(brought) => brought,
        Err(error) => {
            drill.failed.push((".".into(), error.to_string()));
            return drill;
        }
    };
    for (number, pair) in pairs.iter().enumerate() {
        let of_pair: Vec<&Sampled> = sample.iter().filter(|sampled| sampled.pair as usize == number).collect();
        let (expected, problem) = expected(order, &of_pair, sides, pair);
        for (sampled, expected) in of_pair.iter().zip(expected) {
            match expected {
                Some(expected) => compare(&scratch.path, &sampled.path, expected, &said, &mut drill),
                None => drill.skipped += 1,
            }
        }
        drill.failed.extend(problem.map(|problem| (".".into(), problem)));
    }
    drill
}

/// What each should have come back as, `None` where that is not known; only the first ones where something failed, and then what.
fn expected(
    order: &Order,
    sample: &[&Sampled],
    sides: &mut Sides,
    pair: &Pair,
) -> (Vec<Option<[u8; 32]>>, Option<String>) {
    let (mut expected, mut problem) = (Vec::new(), None);
    if sides.source.reads() {
        let wanted = |sampled: &&Sampled| Wanted { path: sampled.path.clone(), state: sampled.state };
        // They are told in their order.
        let read = sides.source.hash(&pair.source, &mut sample.iter().map(wanted), order.rate, &mut |_, read| {
            expected.push(if let Read::Digest(digest) = read { Some(digest) } else { None });
            Ok(())
        });
        problem = read.err().map(|error| format!("the source could not be read: {}", crate::error_chain(&error)));
    } else {
        expected.resize(sample.len(), None);
    }
    let unsure = sample.iter().zip(&mut expected).filter(|(sampled, read)| read.is_none() && sampled.agreed.is_some());
    let (unsure, expected_of): (Vec<&Sampled>, Vec<_>) = unsure.map(|(sampled, read)| (*sampled, read)).unzip();
    match stands_still(&unsure, sides, pair) {
        Ok(still) => {
            let agreed = unsure.iter().zip(still).map(|(sampled, still)| sampled.agreed.filter(|_| still));
            expected_of.into_iter().zip(agreed).for_each(|(expected, agreed)| *expected = agreed);
        }
        Err(why) => problem = problem.or(Some(why)),
    }
    (expected, problem)
}

/// Of each whether what came back is what was sampled: it changed neither at the source, or else no sync has brought that to the target.
fn stands_still(sample: &[&Sampled], sides: &mut Sides, pair: &Pair) -> Result<Vec<bool>, String> {
    if sample.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |side| move |error| format!("the {side} could not be looked at: {}", crate::error_chain(&error));
    let paths: Vec<_> = sample.iter().map(|sampled| sampled.path.clone()).collect();
    let source = sides.source.look(&pair.source, &paths).map_err(failed("source"))?;
    let target = sides.target.look(&pair.target, &paths).map_err(failed("target"))?;
    let is_still = |(sampled, (source, target)): (&&Sampled, (Option<Entry>, Option<Entry>))| {
        let of_content = |state: State| (state.mtime, state.size);
        source.is_some_and(|source| State::of(&source) == sampled.state)
            || target.is_some_and(|target| of_content(State::of(&target)) == of_content(sampled.target))
    };
    Ok(sample.iter().zip(source.into_iter().zip(target)).map(is_still).collect())
}

/// One file that came back, or did not.
fn compare(scratch: &Path, path: &[u8], expected: [u8; 32], said: &str, drill: &mut Drill) {
    let name = || crate::logging::escaped_bytes(path);
    match digest(&scratch.join(OsStr::from_bytes(path))) {
        Ok(found) if found == expected => {}
        Ok(_) => drill.failed.push((name(), "its content is not what it should be".into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = if said.is_empty() { String::new() } else { format!(": {said}") };
            drill.failed.push((name(), format!("it did not come back{why}")));
        }
        Err(error) => drill.failed.push((name(), format!("what came back cannot be read: {error}"))),
    }
}

fn digest(file: &Path) -> io::Result<[u8; 32]> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nofollow).open(file)?;
    Ok(blake3::Hasher::new().update_reader(file)?.finalize().into())
}

/// The rsync that brings them back: what it said last, if it complained.
fn bring(order: &Order, sample: &[Sampled], scratch: &Path) -> Result<String, SideError> {
    let failed = |error| SideError::io("could not start rsync", error);
    let mut command = Command::new("rsync");
    command.args(argv(order, scratch));
    if let Some(ticket) = order.remote.as_ref().and_then(|elsewhere| elsewhere.tickets.last()) {
        command.env(transport::VARIABLE, ticket);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut rsync = command.spawn().map_err(failed)?;
    let mut names = rsync.stdin.take();
    let list: Vec<u8> = sample.iter().flat_map(|sampled| [b"./", &sampled.path[..], b"\0"].concat()).collect();
    // Beside it, since it may complain before it has read all.
    let told = thread::Builder::new().name("names".into()).spawn(move || {
        // One that ends early says why.
        let _ = names.as_mut().map(|names| names.write_all(&list));
    });
    told.map_err(failed)?;
    let output = rsync.wait_with_output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let tells = |line: &&str| !line.is_empty() && !line.starts_with("rsync error:");
    Ok(match output.status.success() {
        true => String::new(),
        false => said.lines().rfind(tells).unwrap_or("rsync failed").to_owned(),
    })
}

fn argv(order: &Order, scratch: &Path) -> Vec<OsString> {
    // What is said to the other side of a sync may not fit here, where the sides are exchanged.
    let is_wanted = |opt: &Opt<'_>| (opt.is_of(&REACH) && !opt.is_of(&["remote-option"])) || opt.is_of(&COMPRESSION);
    let mut argv = options::keep(&order.opts, is_wanted);
    argv.extend(["--from0", "--files-from=-", "--no-implied-dirs"].map(OsString::from));
    argv.extend(order.rate.map(|rate| format!("--bwlimit={}", (rate / 1024).max(1)).into()));
    let mut dest = order.dest.clone().into_vec();
    if !dest.is_empty() && !dest.ends_with(b"/") {
        dest.push(b'/');
    }
    let there = order.remote.as_ref().filter(|elsewhere| !elsewhere.is_source);
    if let Some(Elsewhere { rsh, .. }) = there {
        argv.extend(["-e".into(), args::rsh_command(rsh)]);
        argv.extend(dest.contains(&b'\n').then(|| "--secluded-args".into()));
    }
    let prefix = there.map_or(String::new(), |elsewhere| format!("{}@{}:", elsewhere.user, elsewhere.host));
    let replica = [prefix.into_bytes(), dest].concat();
    argv.extend(["--".into(), OsString::from_vec(replica), scratch.as_os_str().to_owned()]);
    argv
}

/// A private directory, gone when this is dropped.
struct Scratch {
    path: PathBuf,
    /// Locked as long as it is in use.
    _lock: File,
}

impl Scratch {
    fn new(base: &Path, bytes: u64) -> Result<Self, SideError> {
        remove_left(base);
        let failed = |error| SideError::io(format!("could not make a directory in {}", base.display()), error);
        let room = rustix::fs::statvfs(base).map_err(|error| failed(error.into()))?;
        let room = room.f_bavail.saturating_mul(room.f_frsize);
        if room < bytes.saturating_add(SPARE) {
            let (wanted, room) = (human::bytes(bytes), human::bytes(room));
            let what = format!("{wanted} would come back, and {} has room for {room}", base.display());
            return Err(SideError::io(what, io::ErrorKind::StorageFull.into()));
        }
        let path = base.join(format!("{PREFIX}{}", random::word()));
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let lock = File::open(&path).and_then(|lock| {
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            Ok(lock)
        });
        match lock {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(failed(error))
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is removed by the next.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes directories that nobody uses any more.
fn remove_left(base: &Path) {
    let ours = |entry: &fs::DirEntry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes());
    for entry in fs::read_dir(base).into_iter().flatten().flatten().filter(ours) {
        let is_left =
            File::open(entry.path()).is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok());
        if is_left {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::here::Here;
    use super::super::order::Replica;
    use super::super::report::By;
    use super::super::side::{About, Entries, Scan, Side};
    use super::*;
    use crate::rsync::filter::{Filters, Side as End};
    use crate::scan::Attributes;

    fn order(base: &Path) -> Order {
        Order {
            replica: Replica { job: "j".into(), sync: "s".into() },
            sources: vec![base.join("source/").into()],
            dest: base.join("replica").into(),
            opts: vec!["-a".into(), "--rsync-path=x".into()],
            restore: 9,
            state: Some(base.join("state")),
            ..Order::default()
        }
    }

    fn sampled(base: &Path, name: &[u8]) -> Sampled {
        let state = |scan: &Scan| {
            let looks = Here::default().look(scan, &[name.to_vec()]).expect("looked");
            State::of(looks[0].as_ref().expect("there"))
        };
        let Pair { source, target } = pair(base);
        Sampled { pair: 0, path: name.to_vec(), state: state(&source), target: state(&target), agreed: None }
    }

    fn pair(base: &Path) -> Pair {
        let scan = |tree, end| Scan {
            root: base.join(tree).into_os_string().into_vec(),
            only: Vec::new(),
            filters: Filters::default(),
            end,
            one_file_system: false,
            meta: false,
            attributes: Attributes::default(),
        };
        Pair { source: scan("source", End::Sender), target: scan("replica", End::Receiver) }
    }

    fn sides() -> Sides {
        Sides { source: Box::new(Here::default()), target: Box::new(Here::default()), by: By::Here }
    }

    /// Other content, as of another time.
    fn change(file: &Path) {
        fs::write(file, "since then").expect("written");
        fs::File::options().write(true).open(file).expect("opened").set_modified(UNIX_EPOCH).expect("set");
    }

    /// Other content, and nothing else to be seen of it.
    fn rot(file: &Path) {
        let before = fs::metadata(file).and_then(|about| about.modified()).expect("its time");
        let rotten: Vec<u8> = fs::read(file).expect("read").iter().map(|byte| byte ^ 1).collect();
        fs::write(file, rotten).expect("written");
        fs::File::options().write(true).open(file).expect("opened").set_modified(before).expect("set");
    }

    #[test]
    fn what_comes_back_otherwise_is_told_and_nothing_stays_behind() {
        let base = tempfile::tempdir().expect("a directory");
        let base = base.path();
        for name in ["source/deep", "replica/deep", "state"] {
            fs::create_dir_all(base.join(name)).expect("made");
        }
        // From the sixth on it is known what both sides had.
        let names: [&[u8]; 10] = [
            b"#good",
            b"deep/new\nline",
            b"rotten",
            b"gone",
            b"changed",
            b"changed known",
            b"changed rotten",
            b"synced change",
            b"synced deletion",
            b"known gone",
        ];
        for name in names {
            for tree in ["source", "replica"] {
                fs::write(base.join(tree).join(OsStr::from_bytes(name)), name).expect("written");
            }
        }
        let mut sample: Vec<Sampled> = names.iter().map(|name| sampled(base, name)).collect();
        for (sampled, name) in sample.iter_mut().zip(names).skip(5) {
            sampled.agreed = Some(blake3::hash(name).into());
        }
        for name in ["rotten", "changed rotten"] {
            rot(&base.join("replica").join(name));
        }
        for name in ["changed", "changed known", "changed rotten"] {
            change(&base.join("source").join(name));
        }
        for tree in ["source", "replica"] {
            change(&base.join(tree).join("synced change"));
            fs::remove_file(base.join(tree).join("synced deletion")).expect("removed");
        }
        for name in ["gone", "known gone"] {
            fs::remove_file(base.join("replica").join(name)).expect("removed");
        }
        let left = base.join("state").join(format!("{PREFIX}left"));
        fs::create_dir(&left).expect("made");

        let drill = drill(&order(base), &sample, &mut sides(), &[pair(base)]);
        let bytes = names.iter().map(|name| name.len() as u64).sum();
        let failed: Vec<_> = drill.failed.iter().map(|(path, why)| (path.as_str(), why.as_str())).collect();
        assert_eq!((drill.files, drill.bytes, drill.skipped), (10, bytes, 3), "{failed:?}");
        assert_eq!(failed.len(), 4, "{failed:?}");
        assert_eq!(failed[0], ("rotten", "its content is not what it should be"));
        assert!(failed[1].0 == "gone" && failed[1].1.starts_with("it did not come back: "), "{failed:?}");
        assert_eq!((failed[2].0, failed[3].0), ("changed rotten", "known gone"));
        assert_eq!(fs::read_dir(base.join("state")).expect("read").count(), 0, "nothing stays behind");
    }

    #[test]
    fn a_source_that_cannot_be_read_does_not_hide_what_the_replica_lost() {
        let base = tempfile::tempdir().expect("a directory");
        let base = base.path();
        let names = ["good", "lost", "synced"];
        for name in ["source", "replica", "state"] {
            fs::create_dir_all(base.join(name)).expect("made");
        }
        for (tree, name) in ["source", "replica"].into_iter().flat_map(|tree| names.map(|name| (tree, name))) {
            fs::write(base.join(tree).join(name), name).expect("written");
        }
        let agreed = |name: &str| Sampled {
            agreed: Some(blake3::hash(name.as_bytes()).into()),
            ..sampled(base, name.as_bytes())
        };
        let sample = names.map(agreed);
        fs::remove_file(base.join("replica/lost")).expect("removed");
        for tree in ["source", "replica"] {
            change(&base.join(tree).join("synced"));
        }
        let mut sides = Sides { source: Box::new(Unread(Here::default())), ..sides() };
        let drill = drill(&order(base), &sample, &mut sides, &[pair(base)]);
        assert_eq!((drill.failed.len(), drill.skipped), (1, 1), "{:?}", drill.failed);
        assert_eq!(drill.failed[0].0, "lost");
    }

    /// A source that rsync looks at.
    struct Unread(Here);

    impl Side for Unread {
        fn about(&self) -> About {
            self.0.about()
        }

        fn scan(&mut self, scan: &Scan) -> Result<Entries<'_>, SideError> {
            self.0.scan(scan)
        }

        fn look(&mut self, scan: &Scan, paths: &[Vec<u8>]) -> Result<Vec<Option<Entry>>, SideError> {
            self.0.look(scan, paths)
        }

        fn reads(&self) -> bool {
            false
        }

        fn hash(
            &mut self,
            _: &Scan,
            _: &mut (dyn Iterator<Item = Wanted> + Send),
            _: Option<u64>,
            _: &mut (dyn FnMut(Wanted, Read) -> Result<(), SideError> + Send),
        ) -> Result<(), SideError> {
            unreachable!("it cannot read")
        }
    }

    #[test]
    fn without_room_nothing_is_brought() {
        let base = tempfile::tempdir().expect("a directory");
        let error = Scratch::new(base.path(), u64::MAX / 2).err().expect("no room");
        assert!(error.to_string().contains("has room for"), "{error}");
        assert_eq!(fs::read_dir(base.path()).expect("read").count(), 0);
    }

    #[test]
    fn the_peer_is_reached_as_by_the_sync() {
        let mut order = order(Path::new("/b"));
        order.rate = Some(5 << 20);
        let rsh = ["/proc/1/exe".into(), "__rsh".into()].to_vec();
        let elsewhere = |is_source| Elsewhere {
            host: "[::1]".into(),
            user: "ann".into(),
            is_source,
            rsh: rsh.clone(),
            tickets: Vec::new(),
        };
        order.remote = Some(elsewhere(false));
        let text = |order: &Order| argv(order, Path::new("/t")).join(OsStr::new(" ")).into_string().expect("text");
        let ours = "--rsync-path=x --from0 --files-from=- --no-implied-dirs --bwlimit=5120";
        assert_eq!(text(&order), format!("{ours} -e /proc/1/exe __rsh -- ann@[::1]:/b/replica/ /t"));
        order.remote = Some(elsewhere(true));
        assert_eq!(text(&order), format!("{ours} -- /b/replica/ /t"));
    }

    #[test]
    fn each_has_the_same_chance() {
        let mut times = [0_u32; 20];
        for _ in 0..2000 {
            let mut sample = Sample::of(5);
            for n in 0..20_u8 {
                let (state, target) = (State::default(), State::default());
                sample.offer(|| Sampled { pair: 0, path: vec![n], state, target, agreed: None });
            }
            let taken = sample.taken();
            assert_eq!(taken.len(), 5);
            taken.iter().for_each(|sampled| times[sampled.path[0] as usize] += 1);
        }
        // 500 expected, with a deviation of about 19.
        assert!(times.iter().all(|&n| (380..620).contains(&n)), "{times:?}");
    }
}
