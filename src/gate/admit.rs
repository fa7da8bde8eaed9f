//! The judgement of what a client asks for.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::options::{self, Effect, Value};
use super::policy::{Confinement, Policy};
use super::words::{Word, split};
use super::{Access, Refusal, paths};
use crate::rsync::expand::{ExpandError, expand_sources};
use crate::ssh::SHELL;

/// No rsync has more arguments, but for a pull of many sources.
const ARGS_MAX: usize = 10_000;

/// What may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// Lock operations, each judged by itself.
    Locks,
    /// rsync as the other side of a transfer, or to tell its version.
    Rsync(Call),
    /// The agent of a verification, which is this program itself.
    Agent,
}

/// An rsync to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its arguments, without the program's name; all paths absolute, none of them an option.
    pub args: Vec<OsString>,
    /// What it needs the policy's directories for; `None` for a mere question about its version.
    pub access: Option<Access>,
}

/// Judges a command line. `secluded` reads the arguments that rsync sends over its own stream instead (`--secluded-args`).
///
/// # Errors
/// [`Refusal`]: nothing but what an rsync or a director sends is let through.
pub fn admit(
    line: &[u8],
    policy: &Policy,
    secluded: &mut dyn FnMut() -> io::Result<Vec<Vec<u8>>>,
) -> Result<Admitted, Refusal> {
    if line == SHELL.as_bytes() {
        let none = || Refusal::new("the policy has no lock files");
        return if policy.locks.is_empty() { Err(none()) } else { Ok(Admitted::Locks) };
    }
    if line.is_empty() {
        return Err(Refusal::new("no command, and there is no shell here"));
    }
    let words = split(line)?;
    let program = words.first().map_or(&b""[..], |word| &word.text);
    let is_agent = match program.rsplit(|&byte| byte == b'/').next() {
        Some(b"rsync") => false,
        Some(b"rsyncdirector") => true,
        _ => {
            let program = paths::shown(program);
            let text = format!("{program} is not rsync; this key is good for rsync, the agent and lock files alone");
            return Err(Refusal::new(text));
        }
    };
    if policy.readable().next().is_none() {
        return Err(Refusal::new("the policy has no directories for rsync"));
    }
    if is_agent {
        // It is not started by that name: this process becomes it.
        let is_alone = words.len() == 2 && words[1] == Word::literal(b"agent");
        let other = || Refusal::new("rsyncdirector may be asked for as `rsyncdirector agent` only");
        return if is_alone { Ok(Admitted::Agent) } else { Err(other()) };
    }
    match words.get(1).map(|word| &word.text[..]) {
        Some(b"--server") => server(&words[2..], policy, secluded).map(Admitted::Rsync),
        Some(question @ (b"--version" | b"-VV")) if words.len() == 2 => {
            let args = vec![OsString::from_vec(question.to_vec())];
            Ok(Admitted::Rsync(Call { args, access: None }))
        }
        _ => Err(Refusal::new("rsync may be started as the other side of a transfer only (--server)")),
    }
}

/// An rsync's arguments on their way to a judgement.
#[derive(Default)]
struct Server {
    sends: bool,
    moves: bool,
    relative: bool,
    is_secluded: bool,
    has_iconv: bool,
    /// Options as they are given on.
    options: Vec<OsString>,
    /// Directories that are relative to the destination: the name, and what to ask.
    beside: Vec<(Vec<u8>, Value, Vec<u8>)>,
    lists: Vec<Vec<u8>>,
}

fn server(
    words: &[Word],
    policy: &Policy,
    secluded: &mut dyn FnMut() -> io::Result<Vec<Vec<u8>>>,
) -> Result<Call, Refusal> {
    let mut server = Server::default();
    let mut paths = server.options(words, policy)?;
    if server.is_secluded {
        if paths.is_some() || server.has_iconv {
            return Err(Refusal::new("--secluded-args together with --iconv or paths on the command line"));
        }
        let words = secluded_words(secluded)?;
        paths = server.options(&words, policy)?;
    }
    let paths = paths.ok_or_else(|| Refusal::new("no `.` before the paths, as every rsync sends it"))?;
    if paths.is_empty() || (!server.sends || !server.lists.is_empty()) && paths.len() != 1 {
        return Err(Refusal::new(format!("{} paths where rsync sends another number", paths.len())));
    }
    server.call(&paths, policy)
}

/// What follows on the client's stream: `rsync`, and the rest of its arguments.
fn secluded_words(read: &mut dyn FnMut() -> io::Result<Vec<Vec<u8>>>) -> Result<Vec<Word>, Refusal> {
    let unreadable = |error: io::Error| Refusal::new(format!("its arguments did not come: {error}"));
    let args = read().map_err(unreadable)?;
    let mut args = args.iter().skip(1);
    let mut words = Vec::new();
    for arg in args.by_ref() {
        words.push(Word::literal(arg));
        if arg == b"." {
            break;
        }
    }
    words.extend(args.map(|arg| Word::secluded(arg)));
    Ok(words)
}

impl Server {
    /// Takes the options, up to the `.` that ends them; the words behind it.
    fn options(&mut self, words: &[Word], policy: &Policy) -> Result<Option<Vec<Word>>, Refusal> {
        if words.len() > ARGS_MAX {
            return Err(Refusal::new("too many arguments"));
        }
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let text = &word.text[..];
            if text == b"." {
                return Ok(Some(rest.cloned().collect()));
            }
            if word.pattern.is_some() || word.tilde {
                return Err(Refusal::new(format!("a wildcard or `~` in the option {}", paths::shown(text))));
            }
            match text {
                b"--sender" => self.sends = true,
                [b'-', b'-', long @ ..] => self.long(long, &mut rest, policy)?,
                [b'-', b'B', number @ ..] | [b'-', b'@', number @ ..] if options::is_number(number) => {
                    self.options.push(OsString::from_vec(text.to_vec()));
                }
                [b'-', letters @ ..] if !letters.is_empty() => self.bundle(letters, policy)?,
                _ => return Err(Refusal::new(format!("{} stands where an option should", paths::shown(text)))),
            }
        }
        Ok(None)
    }

    fn bundle(&mut self, letters: &[u8], policy: &Policy) -> Result<(), Refusal> {
        let mut kept = vec![b'-'];
        for (index, &letter) in letters.iter().enumerate() {
            match letter {
                b'e' if options::is_abilities(&letters[index + 1..]) => {
                    kept.extend_from_slice(&letters[index..]);
                    break;
                }
                b'e' => return Err(Refusal::new("-e starts a program")),
                b's' => self.is_secluded = true,
                letter => {
                    let effect = options::short(letter).map_err(Refusal::new)?;
                    self.effect(effect, &[letter], policy)?;
                    self.relative |= letter == b'R';
                    kept.push(letter);
                }
            }
        }
        if kept.len() > 1 {
            self.options.push(OsString::from_vec(kept));
        }
        Ok(())
    }

    fn long<'a>(
        &mut self,
        text: &[u8],
        rest: &mut impl Iterator<Item = &'a Word>,
        policy: &Policy,
    ) -> Result<(), Refusal> {
        let (name, attached) = match text.iter().position(|&byte| byte == b'=') {
            Some(at) => (&text[..at], Some(text[at + 1..].to_vec())),
            None => (text, None),
        };
        let (kind, effect) = options::long(name).map_err(Refusal::new)?;
        self.effect(effect, name, policy)?;
        let is_path = matches!(kind, Value::Basis | Value::Aside | Value::Partial | Value::List);
        // Paths come as words of their own.
        let value = match attached {
            None if is_path => rest.next().filter(|word| word.pattern.is_none()).map(|word| word.text.clone()),
            attached => attached,
        };
        let shown = || paths::shown(text);
        match value {
            None if kind == Value::None => self.options.push(option(name, None)),
            Some(value) if kind != Value::None && options::is_value(kind, &value) => match kind {
                Value::List => self.lists.push(value),
                _ if is_path => self.beside.push((name.to_vec(), kind, value)),
                _ => {
                    self.has_iconv |= name == b"iconv";
                    self.options.push(option(name, Some(&value)));
                }
            },
            _ => return Err(Refusal::new(format!("--{} is not as rsync sends it", shown()))),
        }
        Ok(())
    }

    fn effect(&mut self, effect: Effect, name: &[u8], policy: &Policy) -> Result<(), Refusal> {
        let shown = || paths::shown(name);
        match effect {
            Effect::Plain => {}
            Effect::Deletes | Effect::Moves if !policy.delete => {
                return Err(Refusal::new(format!("{} deletes, which the policy does not allow", shown())));
            }
            Effect::Deletes => {}
            Effect::Moves => self.moves = true,
            Effect::Follows if policy.confinement == Confinement::Paths => {
                return Err(Refusal::new(format!("{} follows symbolic links, perhaps out of the directory", shown())));
            }
            Effect::Follows => {}
        }
        Ok(())
    }

    fn call(mut self, given: &[Word], policy: &Policy) -> Result<Call, Refusal> {
        let access = if !self.sends || self.moves { Access::Write } else { Access::Read };
        let mut judged = Vec::new();
        for word in given {
            for path in self.expanded(word, policy)? {
                judged.push(paths::judge(policy, path.as_bytes(), access)?);
            }
        }
        if !self.lists.is_empty() && policy.confinement == Confinement::Paths {
            return Err(Refusal::new("--files-from may name what lies outside; it needs `confinement: kernel`"));
        }
        for list in std::mem::take(&mut self.lists) {
            let list = if list == b"-" { "-".into() } else { paths::judge_opened(policy, &list, Access::Read)? };
            self.options.push(option(b"files-from", Some(list.as_bytes())));
        }
        for (name, kind, path) in std::mem::take(&mut self.beside) {
            if self.sends {
                return Err(Refusal::new(format!("--{} means nothing to an rsync that sends", paths::shown(&name))));
            }
            let access = if kind == Value::Basis { Access::Read } else { Access::Write };
            if kind == Value::Partial && paths::goes_up(&path) {
                return Err(Refusal::new("--partial-dir goes up by `..`"));
            }
            let path = paths::judge_beside(policy, &judged[0], &path, access)?;
            self.options.push(option(&name, Some(path.as_bytes())));
        }
        let mut args = vec![OsString::from("--server")];
        args.extend(self.sends.then(|| "--sender".into()));
        args.append(&mut self.options);
        args.push(".".into());
        args.append(&mut judged);
        Ok(Call { args, access: Some(access) })
    }

    /// What a shell would have made of a path, absolute.
    fn expanded(&self, word: &Word, policy: &Policy) -> Result<Vec<OsString>, Refusal> {
        let at_home = |text: &[u8]| match (word.tilde, text) {
            (false, text) => Ok(text.to_vec()),
            (true, b"~") => Ok(Vec::new()),
            (true, [b'~', b'/', below @ ..]) => Ok(below.to_vec()),
            (true, _) => Err(Refusal::new("the home of another user")),
        };
        let whole = |text: Vec<u8>| {
            // `--relative` makes names of what stands in a path, of which the home is no part.
            let is_marked = text.starts_with(b"/") || memchr::memmem::find(&text, b"/./").is_some();
            let start: &[u8] = if self.relative && !is_marked { b"./" } else { b"" };
            paths::absolute(policy, &[start, &text].concat())
        };
        let literal = whole(at_home(&word.text)?);
        let Some(pattern) = word.pattern.as_deref().filter(|_| self.sends) else { return Ok(vec![literal]) };
        // Looked for where the policy allows to look.
        let pattern = whole(at_home(pattern)?);
        paths::judge(policy, fixed_part(&pattern), Access::Read)?;
        match expand_sources(std::slice::from_ref(&pattern), None) {
            // A shell would leave out that match, and the client would take it for deleted.
            Err(ExpandError::Read { .. }) => {
                let shown = paths::shown(pattern.as_bytes());
                Err(Refusal::new(format!("a match of {shown} cannot be looked at")))
            }
            found => Ok(found.unwrap_or_else(|_nothing_there| vec![literal])),
        }
    }
}

/// The directories before the first wildcard.
fn fixed_part(pattern: &OsString) -> &[u8] {
    let bytes = pattern.as_bytes();
    let wild = bytes.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[')).unwrap_or(bytes.len());
    let end = bytes[..wild].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    &bytes[..end]
}

fn option(name: &[u8], value: Option<&[u8]>) -> OsString {
    let mut option = [b"--", name].concat();
    if let Some(value) = value {
        option.push(b'=');
        option.extend_from_slice(value);
    }
    OsString::from_vec(option)
}
