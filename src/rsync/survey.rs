//! What a dry run prints, read; and the files that it names, divided into shards.

use std::ops::Range;

use super::stats::number;

/// What moving one file takes beside its bytes, in bytes that could be moved meanwhile. 20,000 files of 4 KiB took as long as one file
/// of 100 MB at a round trip of 20 ms, and of 370 MB on loopback: 1 KiB to 14 KiB each.
const ENTRY: u64 = 8 << 10;
/// Less than this, in bytes and the above, is not worth the start of an rsync.
const SHARD_MIN: u64 = 4 << 20;
/// The names take this much memory at most, bytes; more files are left to the final pass.
const NAMES_MAX: usize = 64 << 20;
/// So many files of a directory, if no other shard has any of it, are asked for by the directory's name: since 3.2.5 a receiver compares
/// each name that comes with all that it asked for, which for 10,000 names took a second.
const WHOLE: usize = 8;
/// The list is cut into so many pieces for each shard; then they are dealt, the heaviest first.
const PIECES: u64 = 4;

/// Files whose data is to be moved, in rsync's order: those of a directory stand together.
#[derive(Debug, Default)]
pub struct Listing {
    /// All names, one behind the other.
    names: Vec<u8>,
    /// Where a name ends, and how many bytes the file has.
    entries: Vec<(usize, u64)>,
    bytes: u64,
}

impl Listing {
    /// Takes a line of a survey; tells whether it names a file that is to be moved.
    pub fn line(&mut self, line: &[u8]) -> bool {
        let Some((bytes, name)) = parse(line) else { return false };
        if self.names.len() + name.len() <= NAMES_MAX {
            unescape(name, &mut self.names);
            self.entries.push((self.names.len(), bytes));
            self.bytes += bytes;
        }
        true
    }

    /// How many files.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What each takes.
    pub fn weights(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().map(|(_, bytes)| bytes + ENTRY)
    }

    /// A name, relative to the root of the transfer.
    pub fn name(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.entries[before].0);
        &self.names[start..self.entries[index].0]
    }

    /// Appends a run of the files to a list for `--files-from`.
    pub fn write(&self, run: Range<usize>, how: Names, list: &mut Vec<u8>) {
        let mut at = run.start;
        while at < run.end {
            let dir = parent(self.name(at));
            let others = (at + 1..=run.end.min(self.len() - 1)).find(|&next| parent(self.name(next)) != dir);
            let end = others.unwrap_or(self.len());
            let is_whole = end <= run.end && (at == 0 || parent(self.name(at - 1)) != dir);
            if how.whole_directories && is_whole && end - at >= WHOLE && !dir.is_empty() {
                how.append(dir, list);
            } else {
                (at..end.min(run.end)).for_each(|index| how.append(self.name(index), list));
            }
            at = end;
        }
    }
}

/// The directory that a file is in, with the slash at its end.
fn parent(name: &[u8]) -> &[u8] {
    &name[..memchr::memrchr(b'/', name).map_or(0, |slash| slash + 1)]
}

/// How lists of files are written.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// Whether names end in NUL, else in a newline.
    pub zero_delimited: bool,
    /// Whether a directory may stand for all files in it.
    pub whole_directories: bool,
}

impl Names {
    /// A name that such a list cannot hold is left out.
    fn append(self, name: &[u8], list: &mut Vec<u8>) {
        if self.zero_delimited {
            list.extend_from_slice(name);
            list.push(0);
            return;
        }
        if name.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return;
        }
        if matches!(name.first(), Some(b'#' | b';')) {
            // Else it were a comment.
            list.extend_from_slice(b"./");
        }
        list.extend_from_slice(name);
        list.push(b'\n');
    }
}

/// Size and name in a line of [`super::shards::survey_options`]: `>f+++++++++ 4096 a/b`. Only of files whose data moves (rsync(1),
/// `--itemize-changes`): what is created or linked at the destination, as directories are, costs no transfer.
fn parse(line: &[u8]) -> Option<(u64, &[u8])> {
    let (b'<' | b'>', b'f') = (line.first()?, line.get(1)?) else { return None };
    let mut words = line.splitn(3, |&byte| byte == b' ');
    let bytes = number(std::str::from_utf8(words.nth(1)?).ok().filter(|size| !size.is_empty())?)?;
    let name = words.next()?;
    let name = name.strip_suffix(b"\n").unwrap_or(name);
    (!name.is_empty()).then_some((bytes, name))
}

/// Undoes rsync's way of printing bytes that are not (rsync(1), `--8-bit-output`): `\#ooo`, three octal digits. A backslash that a name
/// has before such a sequence is printed so, too.
pub fn unescape(name: &[u8], out: &mut Vec<u8>) {
    let mut rest = name;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        match octal(&rest[at + 1..]) {
            Some(byte) => {
                out.push(byte);
                rest = &rest[at + 5..];
            }
            None => {
                out.push(b'\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.extend_from_slice(rest);
}

fn octal(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"#")?.get(..3)?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    u8::from_str_radix(digits, 8).ok()
}

/// Divides a list into at most `shards` parts of about the same weight, each some runs of the list; fewer where that is not worth an
/// rsync, and none where one alone would remain.
pub fn divide(weights: &[u64], shards: usize) -> Vec<Vec<Range<usize>>> {
    let total: u64 = weights.iter().sum();
    let worth = usize::try_from(total / SHARD_MIN).unwrap_or(usize::MAX);
    let shards = shards.min(worth);
    let pieces = cut(weights, total / (shards.max(1) as u64 * PIECES));
    let shards = shards.min(pieces.len());
    if shards < 2 {
        return Vec::new();
    }
    deal(pieces, shards)
}

/// Runs of the list that weigh about `each`, with their weights.
fn cut(weights: &[u64], each: u64) -> Vec<(Range<usize>, u64)> {
    let mut pieces = Vec::new();
    let (mut start, mut weight) = (0, 0);
    for (at, &next) in weights.iter().enumerate() {
        if at > start && weight + next / 2 > each {
            pieces.push((start..at, weight));
            (start, weight) = (at, 0);
        }
        weight += next;
    }
    if start < weights.len() {
        pieces.push((start..weights.len(), weight));
    }
    pieces
}

/// The heaviest piece first, each to the shard that has least.
fn deal(mut pieces: Vec<(Range<usize>, u64)>, shards: usize) -> Vec<Vec<Range<usize>>> {
    pieces.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    let mut dealt: Vec<(u64, Vec<Range<usize>>)> = vec![(0, Vec::new()); shards];
    for (piece, weight) in pieces {
        let least = dealt.iter_mut().min_by_key(|(sum, _)| *sum).expect("two shards at least");
        least.0 += weight;
        least.1.push(piece);
    }
    let in_order = |(_, mut pieces): (u64, Vec<Range<usize>>)| {
        pieces.sort_by_key(|piece| piece.start);
        pieces
    };
    dealt.into_iter().map(in_order).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::super::shards;
    use super::*;

    #[test]
    fn only_files_whose_data_moves_are_listed() {
        let mut listing = Listing::default();
        for line in [
            &b"created directory new\n"[..],
            b"cd+++++++++ 200 ./\n",
            b"<f+++++++++ 4096 a b\n",
            b">f.st...... 1,002 c",
            b"hf+++++++++ 2 hl\n",
            b".f..t...... 2 touched\n",
            b"cL+++++++++ 1 sl\n",
            b"*deleting   x\n",
            b">f+++++++++ \n",
            b"\n",
        ] {
            listing.line(line);
        }
        assert_eq!((listing.len(), listing.bytes()), (2, 5098));
        assert_eq!((listing.name(0), listing.name(1)), (&b"a b"[..], &b"c"[..]));
    }

    fn unescaped(name: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        unescape(name, &mut out);
        out
    }

    #[test]
    fn names_are_read_as_rsync_escapes_them() {
        assert_eq!(unescaped(br"new\#012line"), b"new\nline");
        assert_eq!(unescaped(br"\#134#123b\x\"), br"\#123b\x\");
        assert_eq!(unescaped(br"\#12\#9990"), br"\#12\#9990");
    }

    /// Names of all kinds of bytes, by the rsync of this host.
    #[test]
    fn every_name_arrives_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut names: Vec<Vec<u8>> =
            (1..=255).filter(|byte| *byte != b'/').map(|byte| vec![b'n', byte, b'm']).collect();
        names.extend(
            [&b"\\#012"[..], b"\\#134#012", b"\\\\#777", b"#c", b";s", b" lead", b"trail ", b"\xc3\xa9"]
                .map(<[u8]>::to_vec),
        );
        std::fs::create_dir(dir.path().join("s")).unwrap();
        for name in &names {
            std::fs::write(dir.path().join("s").join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
        }
        let output = std::process::Command::new("rsync")
            .current_dir(dir.path())
            .args(shards::survey_options(&["-a".into()]))
            .args(["-n", "--no-human-readable", "s/", "d/"])
            .output()
            .unwrap();
        let mut listing = Listing::default();
        output.stdout.split_inclusive(|&byte| byte == b'\n').for_each(|line| {
            listing.line(line);
        });
        let mut found: Vec<_> = (0..listing.len()).map(|at| listing.name(at).to_vec()).collect();
        found.sort();
        names.sort();
        assert_eq!(found, names);
    }

    #[test]
    fn a_list_holds_what_it_can() {
        let mut listing = Listing::default();
        for line in [&b">f+++++++++ 1 #x"[..], br">f+++++++++ 1 a\#012b", b">f+++++++++ 1 c"] {
            assert!(listing.line(line));
        }
        let list = |zero_delimited| {
            let mut list = Vec::new();
            listing.write(0..3, Names { zero_delimited, whole_directories: true }, &mut list);
            list
        };
        assert_eq!(list(false), b"./#x\nc\n");
        assert_eq!(list(true), b"#x\0a\nb\0c\0");
    }

    #[test]
    fn a_directory_stands_for_its_files_if_one_shard_has_them_all() {
        let mut listing = Listing::default();
        let files = |dir: &str, count| (0..count).map(|n| format!(">f+++++++++ 1 {dir}{n}")).collect::<Vec<_>>();
        let lines = [files("", WHOLE), files("a/", WHOLE), files("a/b/", WHOLE), files("c/", WHOLE - 1)].concat();
        lines.iter().for_each(|line| assert!(listing.line(line.as_bytes())));
        let list = |run: Range<usize>, whole_directories| {
            let mut list = Vec::new();
            listing.write(run, Names { zero_delimited: false, whole_directories }, &mut list);
            let list = String::from_utf8(list).unwrap();
            list.lines()
                .filter(|name| !name.ends_with(|c: char| c.is_ascii_digit()) || *name == "a/7")
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(list(0..listing.len(), true), "a/ a/b/");
        assert_eq!(list(0..listing.len(), false), "a/7");
        assert_eq!(list(WHOLE..2 * WHOLE, true), "a/");
        assert_eq!(list(WHOLE + 1..3 * WHOLE, true), "a/7 a/b/");
        assert_eq!(list(0..2 * WHOLE - 1, true), "", "the last of them is another shard's");
    }

    #[test]
    fn little_work_is_not_divided() {
        assert_eq!(divide(&[], 4).len(), 0);
        assert_eq!(divide(&[SHARD_MIN; 1], 4).len(), 0);
        assert_eq!(divide(&[SHARD_MIN * 100], 4).len(), 0, "one file cannot be");
        assert_eq!(divide(&[ENTRY; 600], 4).len(), 0);
        assert_eq!(divide(&[SHARD_MIN; 2], 4).len(), 2);
        assert_eq!(divide(&[ENTRY; 20_000], 4).len(), 4);
    }

    proptest! {
        #[test]
        fn everything_is_in_exactly_one_shard_and_none_has_too_much(
            weights in prop::collection::vec(prop_oneof![ENTRY..100_000, 1u64 << 20..1 << 24], 0..500),
            shards in 1usize..33,
        ) {
            let divided = divide(&weights, shards);
            prop_assert!(divided.len() <= shards);
            if !divided.is_empty() {
                let mut all: Vec<usize> = divided.iter().flatten().cloned().flatten().collect();
                all.sort_unstable();
                prop_assert_eq!(all, (0..weights.len()).collect::<Vec<_>>());
                let sums: Vec<u64> = divided.iter().map(|runs| runs.iter().cloned().flatten().map(|at| weights[at]).sum()).collect();
                let (total, greatest) = (weights.iter().sum::<u64>(), weights.iter().max().copied().unwrap_or(0));
                let piece = total / (divided.len() as u64 * PIECES) + greatest;
                prop_assert!(sums.iter().all(|sum| *sum <= total / divided.len() as u64 + piece), "{:?}", sums);
                prop_assert!(sums.iter().all(|sum| *sum > 0));
            }
        }
    }
}
