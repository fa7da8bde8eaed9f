//! The arguments of one rsync.
//!
//! Nothing here passes a shell on this host: each element reaches rsync as it is. The other side's shell is rsync's own
//! business, which escapes what it sends since 3.2.4.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::options;
use crate::config::Peer;

/// What one rsync is to do.
#[derive(Debug, Clone)]
pub struct Invocation<'a> {
    /// The user's options, one argument each.
    pub opts: &'a [OsString],
    /// What is copied: paths here, or on the peer for a pull. At least one.
    pub sources: Vec<OsString>,
    /// Where to: a path here, or on the peer for a push.
    pub dest: &'a OsStr,
    /// The other side, if there is one.
    pub remote: Option<Remote<'a>>,
    /// Whether to change nothing.
    pub dry_run: bool,
    /// Whether rsync is to print its progress.
    pub progress: bool,
}

/// The other side of a remote sync.
#[derive(Debug, Clone)]
pub struct Remote<'a> {
    /// Who it is.
    pub peer: &'a Peer,
    /// Whether it is the source.
    pub pull: bool,
    /// The value of `-e`, made by [`rsh_command`].
    pub rsh: OsString,
}

/// The arguments without the program's name. The user's options come first; ours behind them only add what the metrics need
/// and are left out where they would change what the user asked for.
pub fn argv(invocation: &Invocation<'_>) -> Vec<OsString> {
    let opts = invocation.opts;
    let mut argv = opts.to_vec();
    argv.push("--stats".into());
    if !options::has(opts, &["human-readable"]) {
        argv.push("--no-human-readable".into());
    }
    // Its lines end in a carriage return, for which a line buffer does not wait.
    if invocation.progress {
        argv.extend(["--outbuf=N".into(), "--info=progress2".into()]);
    } else if tells_progress(opts) && !options::has(opts, &["outbuf"]) {
        argv.push("--outbuf=N".into());
    } else if is_talkative(opts) && !options::has(opts, &["outbuf"]) {
        // Its output is a pipe: without this, lines would come in blocks of 4 KiB. With it, each is a write of its own, which a
        // silent rsync can be spared.
        argv.push("--outbuf=L".into());
    }
    if invocation.dry_run {
        argv.push("--dry-run".into());
    }
    if let Some(remote) = &invocation.remote {
        if !has_rsh(opts) {
            argv.extend(["-e".into(), remote.rsh.clone()]);
        }
        let there = if remote.pull { &invocation.sources[..] } else { &[invocation.dest.to_owned()][..] };
        if there.iter().any(|path| path.as_bytes().contains(&b'\n')) {
            // Up to 3.5 its escaping for the other side's shell loses a newline; this way no shell sees the path.
            argv.push("--secluded-args".into());
        }
    }
    argv.push("--".into());
    let (from, to) = match &invocation.remote {
        None => (None, None),
        Some(Remote { peer, pull: true, .. }) => (Some(*peer), None),
        Some(Remote { peer, pull: false, .. }) => (None, Some(*peer)),
    };
    argv.extend(invocation.sources.iter().map(|source| operand(from, source)));
    argv.push(operand(to, invocation.dest));
    argv
}

/// The arguments of an rsync that lists the sources: those of [`argv`] without the destination (rsync(1), "listing files").
pub fn listing(invocation: &Invocation<'_>) -> Vec<OsString> {
    let mut argv = argv(invocation);
    argv.pop();
    argv
}

/// Whether the options name the program by which rsync reaches the other side.
pub fn has_rsh(opts: &[OsString]) -> bool {
    options::has(opts, &["rsh"])
}

/// That program as words, if the options name one: the last counts.
pub fn own_rsh(opts: &[OsString]) -> Option<Vec<OsString>> {
    let named = options::parse(opts).into_iter().filter(|opt| opt.is("rsh")).filter_map(|opt| opt.value).next_back();
    Some(rsh_words(named?))
}

/// The words of a `-e`, as rsync reads them: the reverse of [`rsh_command`].
fn rsh_words(command: &OsStr) -> Vec<OsString> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<Vec<u8>>, None);
    let mut bytes = command.as_bytes().iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (None, b' ') => words.extend(word.take()),
            (None, b'\'' | b'"') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (Some(open), byte) if open == byte && bytes.peek() != Some(&byte) => quote = None,
            (open, byte) => {
                if open == Some(byte) {
                    bytes.next();
                }
                word.get_or_insert_default().push(byte);
            }
        }
    }
    words.extend(word);
    words.into_iter().map(OsString::from_vec).collect()
}

/// Whether rsync prints lines while it works.
pub fn is_talkative(opts: &[OsString]) -> bool {
    const NAMES: [&str; 8] =
        ["verbose", "itemize-changes", "P", "progress", "info", "out-format", "debug", "list-only"];
    options::has(opts, &NAMES)
}

/// Whether rsync tells how far it is with the whole of its work.
fn tells_progress(opts: &[OsString]) -> bool {
    let asks = |value: &OsStr| value.as_bytes().split(|&byte| byte == b',').any(|flag| flag == b"progress2");
    options::parse(opts).iter().any(|opt| opt.is("info") && opt.value.is_some_and(asks))
}

/// Whether rsync would take a path for a host's: a colon before any slash (rsync(1)).
pub fn looks_remote(path: &[u8]) -> bool {
    path.iter().take_while(|&&byte| byte != b'/').any(|&byte| byte == b':')
}

/// A path as rsync takes it: as it is here, behind user and host there.
fn operand(peer: Option<&Peer>, path: &OsStr) -> OsString {
    let bytes = path.as_bytes();
    let Some(peer) = peer else { return path.to_owned() };
    let host = if peer.host.contains(':') { format!("[{}]", peer.host) } else { peer.host.clone() };
    // `host::x` would be an rsync daemon's module.
    let prefix = if bytes.starts_with(b":") { "./" } else { "" };
    joined(&format!("{}@{host}:{prefix}", peer.user), path)
}

fn joined(prefix: &str, path: &OsStr) -> OsString {
    let mut joined = OsString::from(prefix);
    joined.push(path);
    joined
}

/// A command as the value of `-e`: words joined by spaces, quoted as rsync reads it (rsync(1), `--rsh`: single or double quotes,
/// a doubled quote inside of quotes is one, no backslashes).
pub fn rsh_command(words: &[OsString]) -> OsString {
    let mut command = Vec::new();
    for word in words {
        if !command.is_empty() {
            command.push(b' ');
        }
        let bytes = word.as_bytes();
        if !bytes.is_empty() && !bytes.iter().any(|byte| matches!(byte, b' ' | b'\'' | b'"')) {
            command.extend_from_slice(bytes);
            continue;
        }
        command.push(b'\'');
        for &byte in bytes {
            if byte == b'\'' {
                command.push(byte);
            }
            command.push(byte);
        }
        command.push(b'\'');
    }
    OsString::from_vec(command)
}

/// A command line for people: quoted so that it can be pasted into a shell, without control characters.
pub fn display(program: &OsStr, args: &[OsString]) -> String {
    let words = [program.to_owned()].into_iter().chain(args.iter().cloned());
    words.map(|word| shell_word(&word)).collect::<Vec<_>>().join(" ")
}

fn shell_word(word: &OsStr) -> String {
    match word.to_str() {
        Some(text) if !text.is_empty() && text.bytes().all(is_plain) => text.to_owned(),
        Some(text) if !text.chars().any(char::is_control) => shell_words::quote(text).into_owned(),
        _ => {
            let escape = |byte: &u8| match byte {
                b'\'' | b'\\' => format!("\\{}", *byte as char),
                b' '..=b'~' => (*byte as char).to_string(),
                _ => format!("\\x{byte:02x}"),
            };
            format!("$'{}'", word.as_bytes().iter().map(escape).collect::<String>())
        }
    }
}

/// Whether a byte means nothing to a shell, wherever it stands.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_=+./:,@%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn peer(host: &str) -> Peer {
        Peer { user: "u".into(), host: host.into(), port: 22, private_key: None, reach: Default::default() }
    }

    #[track_caller]
    fn check(opts: &[&str], sources: &[&str], remote: Option<(&Peer, bool)>, expected: &str) {
        let opts = os(opts);
        let remote = remote.map(|(peer, pull)| Remote { peer, pull, rsh: "ssh -p 22".into() });
        let argv = argv(&Invocation {
            opts: &opts,
            sources: os(sources),
            dest: OsStr::new("/d"),
            remote,
            dry_run: false,
            progress: false,
        });
        assert_eq!(argv.join(OsStr::new("|")).to_str(), Some(expected));
    }

    const OURS: &str = "--stats|--no-human-readable";

    #[test]
    fn options_come_first_and_paths_stand_behind_a_double_dash() {
        check(
            &["-av", "--exclude", ".cache"],
            &["/s/"],
            None,
            &format!("-av|--exclude|.cache|{OURS}|--outbuf=L|--|/s/|/d"),
        );
        check(&["-ah"], &["-s", "b"], None, "-ah|--stats|--|-s|b|/d");
        let progress = format!("-a|--info=stats,progress2|{OURS}|--outbuf=N|--|/s/|/d");
        check(&["-a", "--info=stats,progress2"], &["/s/"], None, &progress);
    }

    #[test]
    fn lines_are_asked_for_one_by_one_where_there_are_some() {
        for opts in [&["-aiz"][..], &["-a", "--info=name"], &["-P"], &["--verbose"]] {
            assert!(is_talkative(&os(opts)), "{opts:?}");
        }
        assert!(!is_talkative(&os(&["-a", "--delete", "-e", "ssh -v", "--exclude", "-v"])[..4]));
    }

    #[test]
    fn pushes_and_pulls_name_the_peer_on_their_side() {
        check(&[], &["/s"], Some((&peer("h"), false)), &format!("{OURS}|-e|ssh -p 22|--|/s|u@h:/d"));
        check(
            &[],
            &["/s", ":m"],
            Some((&peer("::1"), true)),
            &format!("{OURS}|-e|ssh -p 22|--|u@[::1]:/s|u@[::1]:./:m|/d"),
        );
    }

    #[test]
    fn an_rsh_of_the_users_own_replaces_ours() {
        for opts in [&["-e", "x"][..], &["-ave", "x"], &["--rsh=x"], &["--rsh", "x"], &["-avex"]] {
            let words = os(opts);
            assert!(has_rsh(&words), "{opts:?}");
        }
        for opts in [&["-f", "-e"][..], &["-fe"], &["--exclude"], &["-av", "e"], &["--rshx"]] {
            assert!(!has_rsh(&os(opts)), "{opts:?}");
        }
    }

    #[test]
    fn an_rsh_command_is_quoted_as_rsync_reads_it() {
        let words = os(&["ssh", "-i", "/a b/it's", ""]);
        assert_eq!(rsh_command(&words), "ssh -i '/a b/it''s' ''");
        assert_eq!(rsh_words(&rsh_command(&words)), words);
        assert_eq!(own_rsh(&os(&["-e", "x", "--rsh=y -o \"a b\""])), Some(os(&["y", "-o", "a b"])));
        assert_eq!(own_rsh(&os(&["-a"])), None);
    }

    #[test]
    fn a_command_line_can_be_pasted() {
        assert_eq!(display(OsStr::new("rsync"), &os(&["-a", "a b", "it's"])), r"rsync -a 'a b' 'it'\''s'");
        let odd = vec![OsString::from_vec(b"a\xff\n'".to_vec())];
        assert_eq!(display(OsStr::new("rsync"), &odd), r"rsync $'a\xff\x0a\''");
    }

    /// Names that break programs, copied by the rsync of this host with arguments of ours.
    #[test]
    fn odd_names_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let names: [&[u8]; 8] = [b"a b", b"it's", b"\"q\"", b"-v", b"new\nline", b"\xff\xfe", b"./a:b", b"$(id);&"];
        let mut sources = Vec::new();
        for name in names {
            std::fs::write(dir.path().join(OsStr::from_bytes(name)), name).unwrap();
            sources.push(OsString::from_vec(name.to_vec()));
        }
        let dest = OsStr::new("./d:t/");
        let invocation = Invocation { opts: &[], sources, dest, remote: None, dry_run: false, progress: true };
        let output =
            std::process::Command::new("rsync").current_dir(dir.path()).args(argv(&invocation)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for name in names {
            assert_eq!(std::fs::read(dir.path().join("d:t").join(OsStr::from_bytes(name))).unwrap(), name);
        }
    }
}
