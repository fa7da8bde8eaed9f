//! The options of a sync, and what rsync(1) says that they keep.

use super::{Node, Path, What};
use crate::faults::random::Random;

/// What a sync promises.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "each is the option of its name")]
pub struct Options {
    pub links: bool,
    pub perms: bool,
    pub times: bool,
    pub group: bool,
    pub owner: bool,
    pub devices: bool,
    pub specials: bool,
    pub hard_links: bool,
    pub acls: bool,
    pub xattrs: bool,
    pub omit_dir_times: bool,
    pub size_only: bool,
    pub update: bool,
    pub prune: bool,
    pub window: i64,
    pub delete: bool,
    pub delete_excluded: bool,
    /// `*.skip` is left out on both sides.
    pub skips: bool,
    /// `*.keep` is not deleted.
    pub keeps: bool,
    /// `*.hide` is not sent.
    pub hides: bool,
    /// This name in the root is left out on both sides.
    pub without: Option<&'static str>,
}

impl Options {
    /// Draws some. Half of them are what people use.
    pub fn draw(random: &mut Random) -> Self {
        let mut options = Self::archive();
        if random.chance(30) {
            let archive = options;
            let mut keep = |on: bool| on && random.chance(70);
            options = Self {
                links: keep(archive.links),
                perms: keep(archive.perms),
                times: keep(archive.times),
                group: keep(archive.group),
                owner: keep(archive.owner),
                devices: keep(archive.devices),
                specials: keep(archive.specials),
                ..archive
            };
        }
        options.hard_links = random.chance(50);
        options.acls = random.chance(40);
        options.xattrs = random.chance(40);
        options.perms |= options.acls;
        options.omit_dir_times = random.chance(15);
        options.size_only = random.chance(7);
        options.update = random.chance(15);
        options.prune = random.chance(7);
        options.window = if random.chance(20) { random.between(1, 3) as i64 } else { 0 };
        options.delete = random.chance(60);
        options.delete_excluded = options.delete && random.chance(15);
        options.skips = random.chance(40);
        options.keeps = random.chance(25);
        options.hides = random.chance(20);
        options.without = random.chance(20).then_some("d0");
        options
    }

    /// `-a`.
    pub fn archive() -> Self {
        let all = true;
        Self {
            links: all,
            perms: all,
            times: all,
            group: all,
            owner: all,
            devices: all,
            specials: all,
            ..Self::default()
        }
    }

    /// As rsync is given them.
    pub fn words(&self) -> Vec<String> {
        let letters = [(self.links, 'l'), (self.perms, 'p'), (self.times, 't'), (self.group, 'g'), (self.owner, 'o')];
        let is_archive = letters.iter().all(|(on, _)| *on) && self.devices && self.specials;
        let more = [
            (self.hard_links, 'H'),
            (self.acls, 'A'),
            (self.xattrs, 'X'),
            (self.omit_dir_times, 'O'),
            (self.update, 'u'),
            (self.prune, 'm'),
        ];
        let mut word = String::from(if is_archive { "-a" } else { "-r" });
        word.extend(letters.iter().filter(|(on, _)| *on && !is_archive).map(|(_, letter)| letter));
        word.extend(more.iter().filter(|(on, _)| *on).map(|(_, letter)| letter));
        let mut words = vec![word];
        let mut flag = |on: bool, word: &str| words.extend(on.then(|| word.to_owned()));
        flag(!is_archive && self.devices, "--devices");
        flag(!is_archive && self.specials, "--specials");
        flag(self.size_only, "--size-only");
        flag(self.window > 0, &format!("--modify-window={}", self.window));
        flag(self.delete && !self.delete_excluded, "--delete");
        flag(self.delete_excluded, "--delete-excluded");
        flag(self.skips, "--exclude=*.skip");
        flag(self.keeps, "--filter=P *.keep");
        flag(self.hides, "--filter=H *.hide");
        let without = self.without.map(|name| format!("--exclude=/{name}"));
        flag(without.is_some(), &without.unwrap_or_default());
        words
    }

    /// Whether the source's thing at a path is sent.
    pub fn sends(&self, path: &Path, node: &Node) -> bool {
        let is_copied = match node.what {
            What::File { .. } | What::Directory => true,
            What::Symlink(_) => self.links,
            What::Fifo | What::Socket => self.specials,
            What::Device { .. } => self.devices,
        };
        is_copied && self.admits(path)
    }

    /// Whether rules let the sender have a path.
    pub fn admits(&self, path: &Path) -> bool {
        !(self.is_excluded(path) || self.hides && has(path, b".hide"))
    }

    /// Whether something at the target that the source does not have is to be deleted. `known` parts of its path are directories that the
    /// source has, too: what protects those does not protect what is in them.
    pub fn deletes(&self, path: &Path, known: usize) -> bool {
        let is_kept = self.keeps && path.parts().skip(known).any(|part| part.ends_with(b".keep"));
        let is_left_out = self.is_excluded(path) && !self.delete_excluded;
        self.delete && !is_kept && !is_left_out
    }

    /// Left out on both sides, by rules that do not say for which.
    fn is_excluded(&self, path: &Path) -> bool {
        let first = path.parts().next();
        self.skips && has(path, b".skip") || self.without.is_some_and(|without| first == Some(without.as_bytes()))
    }

    /// Whether times of files count.
    pub fn file_times(&self) -> bool {
        self.times && !self.size_only
    }

    /// Whether those of directories do.
    pub fn directory_times(&self) -> bool {
        self.times && !self.omit_dir_times
    }
}

/// Whether a part of a path ends so.
fn has(path: &Path, end: &[u8]) -> bool {
    path.parts().any(|part| part.ends_with(end))
}
