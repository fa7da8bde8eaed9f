//! Faults: each changes the target of a case, and notes what is to be told of it.

use super::case::{Case, Level, Told};
use super::{Node, Path, What, draw};
use crate::faults::random::Random;

/// What is wrong with one thing; `None` where this case has nothing that it could happen to.
type Fault = fn(&mut Case, &mut Random) -> Option<()>;

const FAULTS: [Fault; 17] = [
    missing,
    missing,
    extra,
    extra,
    stale,
    stale_by_nanoseconds,
    target_newer,
    size,
    content,
    content,
    kind,
    mode,
    owner,
    attribute,
    access,
    link_target,
    link,
];

/// Adds a fault, if there is one that fits.
pub(super) fn inject(case: &mut Case, random: &mut Random) {
    let fault = random.pick(&FAULTS);
    if fault(case, random).is_none() {
        directory_time(case, random);
    }
}

/// Something that is on both sides in step, of such a kind, and that no fault has changed.
fn victim(case: &Case, random: &mut Random, fits: impl Fn(&Node) -> bool) -> Option<Path> {
    let is_free = |path: &Path| {
        let (source, target) = (case.source.get(path), case.target.get(path));
        let names = case.source.names_of(path).into_iter().chain(case.target.names_of(path));
        target.is_some()
            && source.is_some_and(|node| case.options.sends(path, node) && fits(node))
            && case.source_is_reached(path)
            && names.into_iter().all(|name| case.is_free(&name))
    };
    let paths: Vec<&Path> = case.source.paths().filter(|path| is_free(path)).collect();
    if paths.is_empty() { None } else { Some(paths[random.index(paths.len())].clone()) }
}

impl Case {
    fn is_free(&self, path: &Path) -> bool {
        !self.touched.contains(path) && !self.gone.iter().any(|gone| path.is_in(gone))
    }

    /// Whether all directories above it are sent.
    fn source_is_reached(&self, path: &Path) -> bool {
        path.parent().is_none_or(|parent| self.options.admits(&parent))
    }

    /// Whether no fault is in a directory, and none is of it.
    fn is_untouched(&self, directory: &Path) -> bool {
        self.is_free(directory)
            && !self.touched.iter().any(|path| path.is_in(directory))
            && !self.gone.iter().any(|path| path.is_in(directory))
    }

    /// A fault of what has this name, and so of all its names at the target.
    fn tell(&mut self, path: &Path, class: &'static str, level: Level) {
        for name in self.target.names_of(path) {
            let is_sent = self.source.get(&name).is_some_and(|node| self.options.sends(&name, node));
            if is_sent {
                self.told.push(Told { path: name.clone(), class, level });
            }
            self.touched.insert(name);
        }
    }

    fn tell_one(&mut self, path: Path, class: &'static str) {
        self.told.push(Told { path, class, level: Level::Quick });
    }

    /// What the source has in a directory is not at the target any more.
    fn lose(&mut self, directory: &Path, with_itself: bool) {
        for path in self.source.below(directory) {
            let node = self.source.get(&path).expect("there");
            let is_told = self.options.sends(&path, node)
                && self.target.get(&path).is_some()
                && !(self.options.prune && node.is_directory());
            if is_told && (with_itself || path != *directory) {
                self.told.push(Told { path, class: "missing", level: Level::Quick });
            }
        }
        for path in self.target.below(directory) {
            // The other names of what goes away are not what they were.
            self.touched.extend(self.target.names_of(&path));
            self.touched.extend(self.source.names_of(&path));
        }
        self.target.remove(directory);
        self.gone.push(directory.clone());
    }
}

fn missing(case: &mut Case, random: &mut Random) -> Option<()> {
    let path = victim(case, random, |_| true)?;
    if path == Path::root() || !case.is_untouched(&path) {
        return None;
    }
    case.lose(&path, true);
    Some(())
}

fn extra(case: &mut Case, random: &mut Random) -> Option<()> {
    let directory = victim(case, random, Node::is_directory)?;
    let end = random.pick::<&[u8]>(&[b"", b"", b"", b".skip", b".keep", b".hide"]);
    let number = random.between(0, 999);
    let path = directory.join(&[format!("x{number}").as_bytes(), end].concat());
    if case.target.get(&path).is_some() || case.source.get(&path).is_some() {
        return None;
    }
    let what = random.pick(&[0, 1, 2, 3]);
    let file = draw::file(random);
    let what = [What::Directory, file.clone(), What::Symlink(b"x".to_vec()), What::Fifo][what].clone();
    let is_directory = what == What::Directory;
    case.target.put(path.clone(), draw::node(random, what));
    case.gone.push(path.clone());
    if case.options.deletes(&path, directory.parts().count()) {
        case.tell_one(path.clone(), "extra");
    }
    if is_directory {
        let child = path.join(b"c");
        case.target.put(child.clone(), draw::node(random, file));
        if case.options.deletes(&child, directory.parts().count()) {
            case.tell_one(child, "extra");
        }
    }
    Some(())
}

fn stale(case: &mut Case, random: &mut Random) -> Option<()> {
    let path = victim(case, random, Node::is_file)?;
    let (file, seconds) = (draw::file(random), random.between(1, 5) as i64);
    let source = case.source.get(&path)?.clone();
    let (window, counts) = (case.options.window, case.options.file_times());
    let node = case.target.get_mut(&path)?;
    node.mtime.0 = source.mtime.0 - window - seconds;
    node.what = if counts { file } else { source.what };
    if counts {
        case.tell(&path, "stale", Level::Quick);
    }
    case.touched.extend(case.target.names_of(&path));
    Some(())
}

/// rsync does not look at these unless it is asked to, so what it leaves like that is to be told. With `--update` it would leave such a file, too.
fn stale_by_nanoseconds(case: &mut Case, random: &mut Random) -> Option<()> {
    let path = victim(case, random, Node::is_file)?;
    let source = case.source.get(&path)?.clone();
    let counts = case.options.file_times() && case.options.window == 0 && !case.options.update;
    let node = case.target.get_mut(&path)?;
    if node.mtime != source.mtime || source.mtime.1 == 0 || !counts {
        return None;
    }
    let is_newer = random.chance(50);
    node.mtime.1 = if is_newer { source.mtime.1 + 1 } else { source.mtime.1 - 1 };
    case.tell(&path, if is_newer { "target_newer" } else { "stale" }, Level::Quick);
    Some(())
}

fn target_newer(case: &mut Case, random: &mut Random) -> Option<()> {
    let path = victim(case, random, Node::is_file)?;
    let (file, seconds) = (draw::file(random), random.between(1, 100_000) as i64);
    let source = case.source.get(&path)?.clone();
    let (window, counts, is_kept) = (case.options.window, case.options.file_times(), case.options.update);
    let node = case.target.get_mut(&path)?;
    node.mtime.0 = source.mtime.0 + window + seconds;
    node.what = if counts { file } else { source.what };
    if counts && !is_kept {
        case.tell(&path, "target_newer", Level::Quick);
    }
    case.touched.extend(case.target.names_of(&path));
    Some(())
}

fn size(case: &mut Case, random: &mut Random) -> Option<()> {
    let path = victim(case, random, Node::is_file)?;
    let longer = random.between(1, 50);
    let options = case.options.clone();
    let node = case.target.get_mut(&path)?;
    let What::File { size, .. } = &mut node.what else { return None };
    *size += longer;
    let source = case.source.get(&path)?.mtime.0;
    // A target that is less than a window older is passed over, too.
    let is_kept = options.update && source - case.target.get(&path)?.mtime.0 < options.window;
    if is_kept {
        case.touched.extend(case.target.names_of(&path));
    } else {
        case.tell(&path, "size", Level::Quick);
    }
    Some(())
}

/// A disk that rots: neither time nor length tell.
fn content(case: &mut Case, random: &mut Random) -> Option<()> {
    let path = victim(case, random, |node| matches!(node.what, What::File { size: 1.., .. }))?;
    let other = random.between(1, u64::MAX - 1);
    let What::File { seed, .. } = &mut case.target.get_mut(&path)?.what else { return None };
    if other.to_le_bytes()[0] == seed.to_le_bytes()[0] {
        return None;
    }
    *seed = other;
    case.tell(&path, "content", Level::Deep);
    Some(())
}

fn kind(case: &mut Case, random: &mut Random) -> Option<()> {
    let path = victim(case, random, |_| true)?;
    let was = case.source.get(&path)?.what.clone();
    if path == Path::root() || !case.is_untouched(&path) {
        return None;
    }
    let file = draw::file(random);
    let becomes = match (was, random.between(0, 1)) {
        (What::Directory, 0) => file,
        (What::File { .. } | What::Directory, 1) => What::Symlink(b"elsewhere".to_vec()),
        (What::File { .. }, _) => What::Directory,
        (_, 0) => What::Directory,
        _ => file,
    };
    case.lose(&path, false);
    case.tell_one(path.clone(), "type");
    let is_directory = becomes == What::Directory;
    case.target.put(path.clone(), draw::node(random, becomes));
    if is_directory {
        let child = path.join(b"inside");
        let file = draw::file(random);
        case.target.put(child.clone(), draw::node(random, file));
        if case.options.deletes(&child, path.parts().count()) {
            case.tell_one(child, "extra");
        }
    }
    Some(())
}

/// Changes something of a node, and says whether that counts.
fn meta(
    case: &mut Case,
    random: &mut Random,
    fits: impl Fn(&Node) -> bool,
    counts: bool,
    change: impl FnOnce(&mut Node, &mut Random) -> Option<()>,
) -> Option<()> {
    let path = victim(case, random, fits)?;
    change(case.target.get_mut(&path)?, random)?;
    if counts {
        case.tell(&path, "meta", Level::Meta);
    }
    case.touched.extend(case.target.names_of(&path));
    Some(())
}

fn mode(case: &mut Case, random: &mut Random) -> Option<()> {
    let counts = case.options.perms;
    let fits = |node: &Node| !matches!(node.what, What::Symlink(_));
    let bit = random.pick(&[0o4000, 0o2000, 0o1000, 0o100, 0o4, 0o200]);
    meta(case, random, fits, counts, |node, _| {
        node.mode ^= bit;
        Some(())
    })
}

fn owner(case: &mut Case, random: &mut Random) -> Option<()> {
    if !draw::is_root() {
        return None;
    }
    let is_owner = random.chance(50);
    let counts = if is_owner { case.options.owner } else { case.options.group };
    meta(
        case,
        random,
        |_| true,
        counts,
        |node, _| {
            *(if is_owner { &mut node.owner } else { &mut node.group }) += 1;
            Some(())
        },
    )
}

fn attribute(case: &mut Case, random: &mut Random) -> Option<()> {
    let counts = case.options.xattrs;
    meta(
        case,
        random,
        |node| node.is_file() || node.is_directory(),
        counts,
        |node, random| {
            let other = draw::attributes(random);
            if other == node.attributes {
                return None;
            }
            node.attributes = other;
            Some(())
        },
    )
}

fn access(case: &mut Case, random: &mut Random) -> Option<()> {
    let counts = case.options.acls;
    meta(
        case,
        random,
        |node| node.is_file() || node.is_directory(),
        counts,
        |node, random| {
            let other = random.chance(70).then(|| draw::acl(random));
            if other == node.acl {
                return None;
            }
            node.acl = other;
            Some(())
        },
    )
}

fn link_target(case: &mut Case, random: &mut Random) -> Option<()> {
    meta(
        case,
        random,
        |node| matches!(node.what, What::Symlink(_)),
        true,
        |node, _| {
            let What::Symlink(target) = &mut node.what else { return None };
            target.push(b'x');
            Some(())
        },
    )
}

/// A name becomes that of a file of its own.
fn link(case: &mut Case, random: &mut Random) -> Option<()> {
    let path = victim(case, random, Node::is_file)?;
    let names = case.target.names_of(&path);
    let sent = |path: &&Path| case.source.get(path).is_some_and(|node| case.options.sends(path, node));
    let names: Vec<&Path> = names.iter().filter(sent).collect();
    // The names before it stay together.
    let last = (*names.last()?).clone();
    if names.len() < 2 {
        return None;
    }
    case.touched.extend(case.target.names_of(&path));
    let node = case.target.get(&last)?.clone();
    case.target.put(last.clone(), node);
    case.told.push(Told { path: last, class: "meta", level: Level::Meta });
    Some(())
}

fn directory_time(case: &mut Case, random: &mut Random) -> Option<()> {
    let counts = case.options.directory_times();
    let seconds = case.options.window + random.between(1, 1000) as i64;
    let path = victim(case, random, Node::is_directory)?;
    let source = case.source.get(&path)?.mtime.0;
    case.target.get_mut(&path)?.mtime.0 = source + seconds * random.pick(&[-1, 1]);
    if counts {
        case.tell(&path, "meta", Level::Meta);
    }
    case.touched.insert(path);
    Some(())
}
