//! A sync, its source, its target, and what is to be told of them.

use std::collections::BTreeSet;
use std::path::Path as Real;
use std::process::Command;

use super::{Node, Options, Path, Tree, What, disk, draw, fault};
use crate::faults::random::Random;

/// How closely is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "they are those of the program")]
pub enum Level {
    Quick,
    Meta,
    Deep,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Quick, Self::Meta, Self::Deep];

    /// Its name in the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Meta => "meta",
            Self::Deep => "deep",
        }
    }
}

/// A path that is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub path: Path,
    /// As what.
    pub class: &'static str,
    /// From this level on.
    pub level: Level,
}

/// A case.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it was drawn from.
    pub seed: u64,
    /// The options of the sync.
    pub options: Options,
    /// The source.
    pub source: Tree,
    /// The target that is in step.
    pub agreed: Tree,
    /// The target with its faults.
    pub target: Tree,
    /// What is to be told.
    pub told: Vec<Told>,
    /// Paths that have a fault already.
    pub(super) touched: BTreeSet<Path>,
    /// Directories in which nothing is as it was.
    pub(super) gone: Vec<Path>,
}

impl Case {
    /// Draws one with at most so many faults. What the options do not promise differs, unless rsync is to make the target.
    pub fn draw(seed: u64, faults: u64, by_rsync: bool) -> Self {
        let mut random = Random::of(&[0x7472_7565, seed]);
        let options = Options::draw(&mut random);
        let source = draw::tree(&mut random);
        let mut agreed = replica(&mut random, &options, &source, by_rsync);
        if !by_rsync {
            loosen(&mut random, &options, &source, &mut agreed);
        }
        let target = agreed.clone();
        let (told, touched, gone) = Default::default();
        let mut case = Self { seed, options, source, agreed, target, told, touched, gone };
        for _ in 0..random.between(0, faults) {
            fault::inject(&mut case, &mut random);
        }
        case
    }

    /// Makes both trees below a directory, as `source` and `target`, the latter by rsync if that is wanted.
    ///
    /// # Panics
    /// When something of it fails.
    pub fn make(&self, directory: &Real, by_rsync: bool) {
        let (source, target) = (directory.join("source"), directory.join("target"));
        disk::make(&source, &self.source);
        if by_rsync {
            self.sync(&source, &target);
            disk::update(&target, &self.agreed, &self.target);
        } else {
            disk::make(&target, &self.target);
        }
    }

    /// The sync itself.
    ///
    /// # Panics
    /// When rsync fails.
    pub fn sync(&self, source: &Real, target: &Real) {
        let mut command = Command::new("rsync");
        command.args(self.options.words()).arg(format!("{}/", source.display())).arg(format!("{}/", target.display()));
        let output = command.output().expect("rsync is installed");
        assert!(output.status.success(), "{self:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The paths that are to be told at a level, and in which class.
    pub fn expected(&self, level: Level) -> BTreeSet<(Vec<u8>, String)> {
        let told = self.told.iter().filter(|told| told.level <= level);
        told.map(|told| (told.path.bytes(), told.class.to_owned())).collect()
    }

    /// What is missing of what is to be told, and what is told without being so; empty when that is as it should be.
    pub fn compare(&self, level: Level, found: &BTreeSet<(Vec<u8>, String)>) -> String {
        let expected = self.expected(level);
        let list = |words: &str, paths: Vec<&(Vec<u8>, String)>| -> String {
            paths.iter().map(|(path, class)| format!("  {words}: {} {class}\n", path.escape_ascii())).collect()
        };
        let text = list("not told", expected.difference(found).collect())
            + &list("too much", found.difference(&expected).collect());
        if text.is_empty() {
            text
        } else {
            format!("seed {}, {}, {:?}\n{text}", self.seed, level.name(), self.options.words())
        }
    }
}

/// What a sync makes of a source.
fn replica(random: &mut Random, options: &Options, source: &Tree, by_rsync: bool) -> Tree {
    let mut target = Tree::default();
    for path in source.paths() {
        let node = source.get(path).expect("there").clone();
        let has_parent = path.parent().is_none_or(|parent| target.get(&parent).is_some_and(Node::is_directory));
        let is_there =
            options.sends(path, &node) && !(options.prune && node.is_directory() && is_pruned(options, source, path));
        // What is not sent may be there from other times, where nothing deletes it.
        let is_left = !by_rsync && !options.sends(path, &node) && random.chance(30) && {
            let known = (0..path.parts().count()).find(|known| !options.admits(&path.first(known + 1)));
            known.is_none_or(|known| !options.deletes(path, known))
        };
        if !has_parent || !(is_there || is_left) {
            continue;
        }
        let is_other = |name: &Path| is_there && target.get(name).is_some() && options.admits(name);
        match source.names_of(path).into_iter().find(|name| options.hard_links && is_other(name)) {
            Some(other) => target.link(path.clone(), &other),
            None => target.put(path.clone(), node),
        }
    }
    target
}

/// Whether a directory has nothing but such directories in it.
fn is_pruned(options: &Options, source: &Tree, directory: &Path) -> bool {
    let is_something = |path: &Path| {
        let node = source.get(path).expect("there");
        path.is_in(directory) && !node.is_directory() && options.admits(path)
    };
    *directory != Path::root() && !source.paths().any(is_something)
}

/// Changes what the options do not promise.
fn loosen(random: &mut Random, options: &Options, source: &Tree, target: &mut Tree) {
    let root = draw::is_root();
    let coarse = if random.chance(15) { random.pick(&[100, 1000, 1_000_000, 1_000_000_000]) } else { 1 };
    let paths: Vec<Path> = target.paths().cloned().collect();
    for path in &paths {
        let promised = if path.parent().is_none() || source.get(path).is_some_and(|node| options.sends(path, node)) {
            options
        } else {
            &Options::default()
        };
        let is_first = target.names_of(path).first() == Some(path);
        let Some(node) = target.get_mut(path) else { continue };
        let other = draw::node(random, node.what.clone());
        let directory = node.is_directory();
        let holds = directory || node.is_file();
        let mut change = |promised: bool| !promised && random.chance(40);
        if change(promised.perms) {
            node.mode = other.mode;
        }
        if root && change(promised.owner) {
            node.owner = other.owner;
        }
        if root && change(promised.group) {
            node.group = other.group;
        }
        if change(if directory { promised.directory_times() } else { promised.file_times() }) {
            node.mtime = other.mtime;
        }
        if holds && change(promised.xattrs) {
            node.attributes = other.attributes;
        }
        if holds && change(promised.acls) {
            node.acl = other.acl;
        }
        node.mtime.1 -= node.mtime.1 % coarse;
        if options.window > 0 && is_first {
            node.mtime.0 += random.between(0, options.window.unsigned_abs()) as i64 * random.pick(&[-1, 1]);
        }
    }
    if !options.delete {
        let node = draw::node(random, What::Directory);
        target.put(Path::root().join(b"zz other"), node);
        let file = draw::file(random);
        let node = draw::node(random, file);
        target.put(Path::root().join(b"zz other").join(b"file"), node);
    }
}
