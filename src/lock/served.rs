//! The other end of `remote` for an account that gets no shell: what `remote` writes for `/bin/sh` is read as a list of
//! operations, by a grammar that knows nothing else, and answered in the same words.
//!
//! The way of a batch: [`Requests::push`] takes what comes in, [`Requests::next`] gives it as [`Request`] when it is complete, whoever
//! serves performs its operations (those that it allows), and [`Request::reply`] makes what the director reads. The functions at the
//! beginning of a script are skipped unread: the lines behind them say in fixed forms which operations are wanted, and in which version
//! of these forms.
//!
//! Pure: bytes in, operations out, and back. No shell and no part of one is behind it: a byte that does not fit ends the session.

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use super::backend::{Answer, Op};
use super::record::{BreakNote, Content, Found, Record};
use super::remote::{END, SWEEP, VERSION};

/// Bound on what a batch may take, bytes: a script is some 10 KiB.
const LARGEST: usize = 1024 * 1024;
/// Bound on a token, bytes: it becomes part of file names.
const TOKEN_MAX: usize = 64;

/// A batch that was asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The word that marks the answers.
    nonce: String,
    /// What to do, in this order; a take that fails ends it.
    pub ops: Vec<Op>,
}

/// What came in is not what a director of a known version writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a lock operation as this version knows it: {0}")]
pub struct NotUnderstood(String);

impl NotUnderstood {
    /// Of what broke off in the middle.
    pub fn unfinished() -> Self {
        Self("it broke off".into())
    }
}

/// What comes in on a session.
#[derive(Debug, Default)]
pub struct Requests {
    bytes: Vec<u8>,
}

/// Why there is no value.
enum Halt {
    /// There may be, with more bytes.
    Incomplete,
    Wrong(String),
}

type Parsed<T> = Result<T, Halt>;

impl Requests {
    /// Takes bytes as they come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether nothing is left over that was not asked for in full.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next batch, once all of it is there. `home` is what `~/` means.
    ///
    /// # Errors
    /// [`NotUnderstood`]; nothing that follows can be trusted then.
    pub fn next(&mut self, home: &std::path::Path) -> Result<Option<Request>, NotUnderstood> {
        let mut reader = Reader { bytes: &self.bytes, at: 0, home };
        match reader.request() {
            Ok(request) => {
                let used = reader.at;
                self.bytes.drain(..used);
                Ok(Some(request))
            }
            Err(Halt::Incomplete) if self.bytes.len() <= LARGEST => Ok(None),
            Err(Halt::Incomplete) => Err(NotUnderstood("it does not end".into())),
            Err(Halt::Wrong(why)) => Err(NotUnderstood(why)),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    home: &'a std::path::Path,
}

impl Reader<'_> {
    fn request(&mut self) -> Parsed<Request> {
        self.skip_functions()?;
        self.literal("n=")?;
        let nonce = self.until(b'\n')?;
        let nonce = String::from_utf8(nonce).ok().filter(|nonce| is_token(nonce)).ok_or_else(|| wrong("its nonce"))?;
        let mut ops = Vec::new();
        while !self.is_next(END)? {
            self.literal(&format!("cur={}\n", ops.len()))?;
            ops.push(self.op()?);
        }
        self.literal(END)?;
        Ok(Request { nonce, ops })
    }

    /// Up to the line that tells the version.
    fn skip_functions(&mut self) -> Parsed<()> {
        loop {
            let line = self.until(b'\n')?;
            if line == VERSION.trim_end().as_bytes() {
                return Ok(());
            }
            if line.starts_with(b"v=") {
                return Err(wrong("another version; the older one of both ends is to be updated"));
            }
        }
    }

    fn op(&mut self) -> Parsed<Op> {
        let verb = ["[ $go = 0 ] || look", "take", "refresh", "remove", "crack"];
        let mut which = None;
        for (index, verb) in verb.iter().enumerate() {
            if self.is_next(verb)? {
                which = Some(index);
                self.literal(verb)?;
                break;
            }
        }
        let which = which.ok_or_else(|| wrong("its verb"))?;
        let path = self.path()?;
        let op = match which {
            0 => Op::Look { path },
            1 => self.take(path)?,
            2 => Op::Refresh { path, record: self.identified()? },
            3 => Op::Remove { path, record: self.identified()? },
            _ => self.crack(path)?,
        };
        self.literal(SWEEP)?;
        if let Op::Take { path, record, .. } = &op {
            // The shell removes its temporary file with this; here none is left.
            let temporary = super::local::beside(path, "", &record.token).map_err(|error| wrong(&error.to_string()))?;
            self.literal("set -- \"$@\"")?;
            if self.path()?.as_os_str() != temporary.as_os_str() {
                return Err(wrong("its temporary file"));
            }
            self.literal("\n")?;
        }
        Ok(op)
    }

    fn take(&mut self, path: PathBuf) -> Parsed<Op> {
        let (token, pid, json) = (self.token()?, self.word()?, self.object()?);
        let (stale, lease) = (self.word()?, self.word()?);
        let record: Record = serde_json::from_str(&json).map_err(|_| wrong("its record"))?;
        if record.token != token || record.pid.to_string().as_bytes() != pid {
            return Err(wrong("a record that contradicts itself"));
        }
        let replaces = match (stale.is_empty(), lease.is_empty()) {
            (true, true) => None,
            _ => Some(Record::identified(token_of(stale)?, number(&lease)?)),
        };
        Ok(Op::Take { path, record, replaces })
    }

    fn crack(&mut self, path: PathBuf) -> Parsed<Op> {
        let (token, number_word, note) = (self.word()?, self.word()?, self.object()?);
        let note: BreakNote = serde_json::from_str(&note).map_err(|_| wrong("its note"))?;
        let number = number(&number_word)?;
        Ok(match token.is_empty() {
            true => Op::Break { path, seen: None, age: Duration::from_secs(number), note },
            false => {
                let seen = Some(Record::identified(token_of(token)?, number));
                Op::Break { path, seen, age: Duration::ZERO, note }
            }
        })
    }

    /// A token and a lease: a record of which no more is needed.
    fn identified(&mut self) -> Parsed<Record> {
        let token = self.token()?;
        let lease = self.word()?;
        Ok(Record::identified(token, number(&lease)?))
    }

    fn token(&mut self) -> Parsed<String> {
        token_of(self.word()?)
    }

    /// JSON: a record or a note.
    fn object(&mut self) -> Parsed<String> {
        let text = String::from_utf8(self.word()?).ok();
        let text = text.filter(|text| text.starts_with('{') && text.ends_with('}'));
        text.ok_or_else(|| wrong("a text that is no record"))
    }

    fn path(&mut self) -> Parsed<PathBuf> {
        const HOME: &str = " \"$HOME\"/";
        let below_home = self.is_next(HOME)?;
        if below_home {
            self.literal(HOME)?;
        } else {
            self.literal(" ")?;
        }
        let bytes = self.quoted()?;
        if bytes.contains(&0) {
            return Err(wrong("a path with a NUL"));
        }
        // A director means the home by this, and the shell would not.
        if !below_home && bytes.starts_with(b"~/") {
            return Err(wrong("a home in quotes"));
        }
        let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
        Ok(if below_home { self.home.join(path) } else { path })
    }

    fn word(&mut self) -> Parsed<Vec<u8>> {
        self.literal(" ")?;
        self.quoted()
    }

    /// A word in single quotes, a quote in it as `'\''`.
    fn quoted(&mut self) -> Parsed<Vec<u8>> {
        const QUOTE: &str = r"'\''";
        let mut word = Vec::new();
        self.literal("'")?;
        loop {
            match self.bytes.get(self.at) {
                None => return Err(Halt::Incomplete),
                Some(b'\'') if self.is_next(QUOTE)? => {
                    self.at += QUOTE.len();
                    word.push(b'\'');
                }
                Some(b'\'') => {
                    self.at += 1;
                    return Ok(word);
                }
                Some(&byte) => {
                    self.at += 1;
                    word.push(byte);
                }
            }
        }
    }

    fn until(&mut self, end: u8) -> Parsed<Vec<u8>> {
        let rest = &self.bytes[self.at..];
        let length = memchr::memchr(end, rest).ok_or(Halt::Incomplete)?;
        self.at += length + 1;
        Ok(rest[..length].to_vec())
    }

    /// Whether this text is what comes next.
    fn is_next(&self, text: &str) -> Parsed<bool> {
        let rest = &self.bytes[self.at..];
        match text.as_bytes() {
            text if rest.starts_with(text) => Ok(true),
            text if text.starts_with(rest) => Err(Halt::Incomplete),
            _ => Ok(false),
        }
    }

    fn literal(&mut self, text: &str) -> Parsed<()> {
        if !self.is_next(text)? {
            return Err(wrong(&format!("something else than {:?}", text.trim())));
        }
        self.at += text.len();
        Ok(())
    }
}

fn wrong(what: &str) -> Halt {
    Halt::Wrong(what.to_owned())
}

fn number(word: &[u8]) -> Parsed<u64> {
    let number = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    number.filter(|number: &u64| number.to_string().as_bytes() == word).ok_or_else(|| wrong("a number"))
}

fn token_of(word: Vec<u8>) -> Parsed<String> {
    String::from_utf8(word).ok().filter(|token| is_token(token)).ok_or_else(|| wrong("a token"))
}

/// Whether it may be a part of file names and of answers.
fn is_token(text: &str) -> bool {
    (1..=TOKEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Request {
    /// What the director reads: the answers, one an operation or fewer when a take ended the batch.
    pub fn reply(&self, answers: &[Answer]) -> Vec<u8> {
        let mut reply = Vec::new();
        for (index, answer) in answers.iter().enumerate() {
            let (head, body) = section(answer);
            reply.extend_from_slice(format!("\n@{} {index} {head}\n", self.nonce).as_bytes());
            reply.extend_from_slice(body.as_bytes());
        }
        reply.extend_from_slice(format!("\n@{} end end\n", self.nonce).as_bytes());
        reply
    }
}

/// The words of an answer, and what stands below them.
fn section(answer: &Answer) -> (String, String) {
    let head = |text: &str| (text.to_owned(), String::new());
    match answer {
        Answer::Taken => head("taken"),
        Answer::Refreshed => head("refreshed"),
        Answer::Removed => head("removed"),
        Answer::Lost(how) => head(&format!("lost {}", one_line(how))),
        Answer::Failed(why) => head(&format!("failed {}", one_line(why))),
        Answer::Found(Found::Absent) => head("absent"),
        Answer::Found(Found::Other("a directory")) => head("directory"),
        Answer::Found(Found::Other("a symbolic link")) => head("link"),
        Answer::Found(Found::Other(_)) => head("other"),
        // Whole seconds, cut: a lock is never made stale early.
        Answer::Found(Found::File { content, age }) => (format!("file {}", age.as_secs()), content_of(content)),
    }
}

fn content_of(content: &Content) -> String {
    match content {
        Content::Director(record) => record.encode(),
        Content::Foreign(line) => format!("{line}\n"),
    }
}

fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests;
