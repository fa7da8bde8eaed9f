//! rsync's options as rsync itself reads them: which words of a list are options, which are values of one.
//!
//! The way of reading is popt's (popt(3)): `--name=value` or two words, letters in clusters (`-avh`), of which one that takes a
//! value has the rest of its cluster or the next word, no abbreviations, and nothing behind `--`.

mod table;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

pub use table::{Entry, Fate};

/// One option, or a word that is none.
#[derive(Debug, Clone, Copy)]
pub struct Opt<'a> {
    /// What it is.
    pub what: What,
    /// Whether it is the `--no-` form, which takes no value.
    pub negated: bool,
    /// Its value, where it takes one and has one.
    pub value: Option<&'a OsStr>,
    /// The index of the word that it begins in.
    pub word: usize,
}

/// What a word, or a letter of one, is.
#[derive(Debug, Clone, Copy)]
pub enum What {
    /// An option that we know.
    Known(&'static Entry),
    /// An option of a newer rsync, or of none.
    Unknown,
    /// No option: rsync takes it for a path.
    Operand,
}

impl<'a> Opt<'a> {
    /// Whether it is the option of this long name, in its affirmative form.
    pub fn is(&self, name: &str) -> bool {
        !self.negated && self.entry().is_some_and(|entry| entry.name == name)
    }

    /// Whether it is one of these, in either form.
    pub fn is_of(&self, names: &[&str]) -> bool {
        self.entry().is_some_and(|entry| names.contains(&entry.name))
    }

    /// Its entry in the table.
    pub fn entry(&self) -> Option<&'static Entry> {
        match self.what {
            What::Known(entry) => Some(entry),
            What::Unknown | What::Operand => None,
        }
    }

    /// It alone, as one word or two; `None` for what is not known.
    pub fn words(&self) -> Option<Vec<OsString>> {
        let entry = self.entry()?;
        // The letter, where there is one: some long names are younger.
        Some(match (self.negated, entry.short, self.value) {
            (true, ..) => vec![format!("--no-{}", entry.name).into()],
            (false, Some(letter), value) => {
                let letter = format!("-{}", letter as char).into();
                [letter].into_iter().chain(value.map(OsStr::to_owned)).collect()
            }
            (false, None, None) => vec![format!("--{}", entry.name).into()],
            (false, None, Some(value)) => {
                vec![OsString::from_vec([b"--", entry.name.as_bytes(), b"=", value.as_bytes()].concat())]
            }
        })
    }
}

/// Reads words as rsync would, in their order.
pub fn parse(words: &[OsString]) -> Vec<Opt<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let word = words[at].as_bytes();
        let next = words.get(at + 1).map(OsString::as_os_str);
        let before = found.len();
        if word == b"--" {
            found.extend((at + 1..words.len()).map(operand));
            break;
        } else if let Some(long) = word.strip_prefix(b"--") {
            found.push(read_long(long, at, next));
        } else if let Some(cluster) = word.strip_prefix(b"-").filter(|letters| !letters.is_empty()) {
            read_cluster(cluster, at, next, &mut found);
        } else {
            found.push(operand(at));
        }
        at += 1;
        // The value is the next word where this one does not hold it.
        let took_next = found[before..].last().and_then(|opt| opt.value);
        at += usize::from(took_next.is_some_and(|value| next.is_some_and(|next| std::ptr::eq(value, next))));
    }
    found
}

/// Options that say how the peer is reached, and how the rsync there is started: they hold for any rsync to the same peer.
pub const REACH: [&str; 16] = [
    "address",
    "blocking-io",
    "contimeout",
    "ipv4",
    "ipv6",
    "old-args",
    "password-file",
    "port",
    "protect-args",
    "protocol",
    "remote-option",
    "rsync-path",
    "secluded-args",
    "sockopts",
    "timeout",
    "trust-sender",
];

/// Options that say how what is sent is compressed.
pub const COMPRESSION: [&str; 7] =
    ["compress", "compress-choice", "compress-level", "new-compress", "old-compress", "zc", "zl"];

/// Options that say which of the names belong to a sync.
pub const RULES: [&str; 7] = ["F", "cvs-exclude", "exclude", "exclude-from", "filter", "include", "include-from"];

/// Those of the options that are wanted, one by one; a word that is not known as it stands.
pub fn keep(words: &[OsString], wanted: impl Fn(&Opt<'_>) -> bool) -> Vec<OsString> {
    let parsed = parse(words);
    let kept = parsed.iter().filter(|opt| wanted(opt)).filter_map(|opt| match opt.what {
        What::Known(_) => opt.words(),
        What::Unknown | What::Operand => words.get(opt.word).map(|word| vec![word.clone()]),
    });
    kept.flatten().collect()
}

/// Whether the options contain one of these long names, in whatever form.
pub fn has(words: &[OsString], names: &[&str]) -> bool {
    parse(words).iter().any(|opt| names.iter().any(|name| opt.is(name)))
}

fn operand<'a>(word: usize) -> Opt<'a> {
    Opt { what: What::Operand, negated: false, value: None, word }
}

fn read_long<'a>(text: &'a [u8], word: usize, next: Option<&'a OsStr>) -> Opt<'a> {
    let (name, inline) = match text.iter().position(|&byte| byte == b'=') {
        Some(at) => (&text[..at], Some(OsStr::from_bytes(&text[at + 1..]))),
        None => (text, None),
    };
    if let Some(entry) = table::long(name) {
        let value = if entry.has_value { inline.or(next) } else { None };
        return Opt { what: What::Known(entry), negated: false, value, word };
    }
    match name.strip_prefix(b"no-").and_then(table::either) {
        Some(entry) => Opt { what: What::Known(entry), negated: true, value: None, word },
        None => Opt { what: What::Unknown, negated: false, value: None, word },
    }
}

fn read_cluster<'a>(letters: &'a [u8], word: usize, next: Option<&'a OsStr>, found: &mut Vec<Opt<'a>>) {
    for (at, &letter) in letters.iter().enumerate() {
        let Some(entry) = table::short(letter) else {
            found.push(Opt { what: What::Unknown, negated: false, value: None, word });
            continue;
        };
        let rest = letters[at + 1..].strip_prefix(b"=").unwrap_or(&letters[at + 1..]);
        let value = match (entry.has_value, rest) {
            (false, _) => None,
            (true, []) => next,
            (true, rest) => Some(OsStr::from_bytes(rest)),
        };
        found.push(Opt { what: What::Known(entry), negated: false, value, word });
        if entry.has_value {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[track_caller]
    fn check(words: &[&str], expected: &[&str]) {
        let words = os(words);
        let read: Vec<String> = parse(&words)
            .iter()
            .map(|opt| match opt.what {
                What::Known(_) => opt.words().expect("known").join(OsStr::new(" ")).into_string().expect("UTF-8"),
                What::Unknown => format!("unknown {}", opt.word),
                What::Operand => format!("operand {}", opt.word),
            })
            .collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn options_are_read_as_rsync_reads_them() {
        check(&["-avz", "--delete", "--recursive"], &["-a", "-v", "-z", "--delete", "-r"]);
        check(&["-e", "ssh -p 22", "-essh", "-ave", "-x"], &["-e ssh -p 22", "-e ssh", "-a", "-v", "-e -x"]);
        check(
            &["--exclude", "--delete", "--exclude=a=b", "-f", "- x"],
            &["--exclude=--delete", "--exclude=a=b", "-f - x"],
        );
        check(
            &["--no-r", "--no-times", "--no-whole-file", "--del"],
            &["--no-recursive", "--no-times", "--no-whole-file", "--delete-during"],
        );
        check(&["-FF", "-P", "-D", "-@2", "-B=9"], &["-F", "-F", "-P", "-D", "-@ 2", "-B 9"]);
        check(&["-a", "/x", "--zzz", "-%", "--", "-v"], &["-a", "operand 1", "unknown 2", "unknown 3", "operand 5"]);
        check(&["--rsh"], &["-e"]);
    }

    /// What this host's rsync says that it knows, we know too.
    #[test]
    fn every_option_of_the_help_is_known() {
        let help = std::process::Command::new("rsync").arg("--help").output().expect("rsync is installed").stdout;
        let help = String::from_utf8(help).expect("UTF-8");
        let options = help.lines().filter(|line| line.starts_with('-'));
        let mut seen = 0;
        for word in options.flat_map(|line| line.split("  ").next().unwrap_or_default().split(", ")) {
            let Some((word, has_value)) =
                word.trim().split_once('=').map(|(word, _)| (word, true)).or(Some((word.trim(), false)))
            else {
                continue;
            };
            if word.is_empty() || matches!(word, "--no-OPTION" | "-h (*)") || !word.starts_with('-') {
                continue;
            }
            let words = os(&[word]);
            let read = parse(&words);
            assert!(matches!(read[..], [Opt { what: What::Known(_), .. }]), "{word}: {read:?}");
            if has_value {
                assert!(read[0].entry().expect("known").has_value, "{word} takes a value");
            }
            seen += 1;
        }
        assert!(seen > 150, "{seen}");
    }
}
