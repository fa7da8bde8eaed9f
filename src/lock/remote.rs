//! Lock files on a peer, over its pooled connection.
//!
//! A batch is one `exec /bin/sh` whose standard input is a small POSIX script (`script.sh`: the protocol of `local`, with
//! nothing but coreutils or busybox) followed by one line per operation. So no login shell ever sees a path, and one round
//! trip does it. Each answer stands behind a line that carries a random word, so that neither a talkative login script nor
//! the content of a file can pass for one.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::backend::{Answer, Answers, LockBackend, Op, Unreachable};
use super::local::describe;
use super::record::{Content, Found};
use crate::config::Peer;
use crate::ssh::{Pool, SshError};

const SCRIPT: &str = include_str!("script.sh");

/// A peer's files.
#[derive(Clone)]
pub struct RemoteBackend {
    pool: Pool,
    peer: Peer,
    timeout: Duration,
}

impl RemoteBackend {
    /// The files of `peer`; a batch, connecting included, may take `timeout`.
    pub fn new(pool: Pool, peer: Peer, timeout: Duration) -> Self {
        Self { pool, peer, timeout }
    }
}

impl LockBackend for RemoteBackend {
    fn perform(&self, batch: Vec<Op>) -> Answers {
        let this = self.clone();
        Box::pin(async move { this.try_perform(&batch).await.map_err(Unreachable::from) })
    }
}

/// Why a batch has no answers.
#[derive(Debug)]
pub(super) enum ShellError {
    /// The peer was reached, but did not let the script say a word: there is no shell for us.
    NoShell(String),
    /// Anything else.
    Unreachable(String),
}

impl From<ShellError> for Unreachable {
    fn from(error: ShellError) -> Self {
        match error {
            ShellError::NoShell(why) | ShellError::Unreachable(why) => Self(why),
        }
    }
}

impl RemoteBackend {
    /// [`LockBackend::perform`] with an error that tells whether there is a shell.
    pub(super) async fn try_perform(&self, batch: &[Op]) -> Result<Vec<Answer>, ShellError> {
        let nonce = super::random_token();
        let script = script(batch, &nonce);
        let ask = || self.pool.script(&self.peer, script.as_bytes(), self.timeout);
        let output = match ask().await {
            // A connection that had died unnoticed. Whether the batch was done or not, it may be done again.
            Err(SshError::Lost { .. }) => ask().await,
            answer => answer,
        };
        let output = output.map_err(|error| match error {
            SshError::Protocol { .. } => ShellError::NoShell(crate::error_chain(&error)),
            error => ShellError::Unreachable(crate::error_chain(&error)),
        })?;
        parse(batch, &nonce, &output.stdout).ok_or_else(|| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let hint = stderr.lines().last().unwrap_or("no answer from its shell").trim();
            let why = format!("{} could not perform a lock operation: {hint}", self.peer);
            match sections(&nonce, &output.stdout).is_empty() {
                true => ShellError::NoShell(why),
                false => ShellError::Unreachable(why),
            }
        })
    }
}

fn script(batch: &[Op], nonce: &str) -> Script {
    let mut script = Script(Vec::with_capacity(SCRIPT.len() + 512 * batch.len()));
    script.raw(SCRIPT).raw("n=").raw(nonce).raw("\n");
    for (index, op) in batch.iter().enumerate() {
        script.raw("cur=").raw(&index.to_string()).raw("\n");
        match op {
            // What follows a take that failed is not done.
            Op::Look { path } => script.raw("[ $go = 0 ] || look").path(path),
            Op::Take { path, record, replaces } => {
                script.raw("take").path(path).word(&record.token).word(&record.pid.to_string()).word(&record.json());
                match replaces {
                    Some(stale) => script.word(&stale.token).word(&stale.lease_seconds.to_string()),
                    None => script.word("").word(""),
                }
            }
            Op::Refresh { path, record } => {
                script.raw("refresh").path(path).word(&record.token).word(&record.lease_seconds.to_string())
            }
            Op::Remove { path, record } => {
                let claim = super::local::removal(record);
                script.raw("remove").path(path).word(&record.token).word(&record.lease_seconds.to_string());
                script.word(&record.pid.to_string()).word(&claim.json())
            }
        }
        .raw("\n");
    }
    let temporary: Vec<_> = batch.iter().filter_map(temporary).collect();
    if !temporary.is_empty() {
        script.raw("rm -f");
        for path in &temporary {
            script.path(path);
        }
    }
    script.raw("\ncur=end\nsay end\n");
    script
}

/// The file from which a take makes its lock.
fn temporary(op: &Op) -> Option<PathBuf> {
    match op {
        Op::Take { path, record, .. } => super::local::beside(path, "", &record.token).ok(),
        _ => None,
    }
}

/// Shell text made of bytes, since a path may hold any.
struct Script(Vec<u8>);

impl Script {
    fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn word(&mut self, text: &str) -> &mut Self {
        self.raw(" ").quoted(text.as_bytes())
    }

    /// A path; `~/` at its beginning is the home of the user there.
    fn path(&mut self, path: &Path) -> &mut Self {
        let bytes = path.as_os_str().as_bytes();
        match bytes.strip_prefix(b"~/") {
            Some(below) => self.raw(" \"$HOME\"/").quoted(below),
            None => self.raw(" ").quoted(bytes),
        }
    }

    fn quoted(&mut self, bytes: &[u8]) -> &mut Self {
        self.raw("'");
        for &byte in bytes {
            match byte {
                b'\'' => self.0.extend_from_slice(b"'\\''"),
                _ => self.0.push(byte),
            }
        }
        self.0.push(b'\'');
        self
    }
}

/// Reads the answers; `None` when the script did not get to its end.
fn parse(batch: &[Op], nonce: &str, stdout: &[u8]) -> Option<Vec<Answer>> {
    let sections = sections(nonce, stdout);
    let (last, sections) = sections.split_last()?;
    if last.index != "end" {
        return None;
    }
    let mut answers: Vec<Answer> = Vec::with_capacity(batch.len());
    let mut sections = sections.iter().peekable();
    while let Some(section) = sections.next() {
        // A loss is followed by what is there now.
        let below = sections.next_if(|next| next.index == section.index);
        if section.index.parse() != Ok(answers.len()) {
            return None;
        }
        answers.push(answer(section, below)?);
    }
    let ended_early = answers.last().is_some_and(|last| *last != Answer::Taken);
    (answers.len() == batch.len() || ended_early).then_some(answers)
}

fn answer(section: &Section<'_>, below: Option<&Section<'_>>) -> Option<Answer> {
    Some(match section.word {
        "taken" => Answer::Taken,
        "refreshed" => Answer::Refreshed,
        "removed" => Answer::Removed,
        "expired" => Answer::Lost("its lease ran out".into()),
        "lost" => {
            Answer::Lost(below.and_then(found).map_or_else(|| "it is not ours any more".into(), |f| describe(&f)))
        }
        "failed" => Answer::Failed(section.rest.to_owned()),
        _ => Answer::Found(found(section)?),
    })
}

fn found(section: &Section<'_>) -> Option<Found> {
    Some(match section.word {
        "absent" => Found::Absent,
        "directory" => Found::Other("a directory"),
        "link" => Found::Other("a symbolic link"),
        "other" => Found::Other("not a regular file"),
        "file" => {
            Found::File { content: Content::parse(section.body), age: Duration::from_secs(section.rest.parse().ok()?) }
        }
        _ => return None,
    })
}

/// `@<nonce> <index> <word> <rest>`, and the bytes up to the next such line.
struct Section<'a> {
    index: &'a str,
    word: &'a str,
    rest: &'a str,
    body: &'a [u8],
}

fn sections<'a>(nonce: &str, stdout: &'a [u8]) -> Vec<Section<'a>> {
    let marker = format!("\n@{nonce} ");
    let starts: Vec<usize> = memchr::memmem::find_iter(stdout, marker.as_bytes()).collect();
    let ends = starts.iter().skip(1).copied().chain([stdout.len()]);
    starts
        .iter()
        .zip(ends)
        .filter_map(|(start, end)| {
            let section = &stdout[start + marker.len()..end];
            let line_end = memchr::memchr(b'\n', section)?;
            let head = std::str::from_utf8(&section[..line_end]).ok()?;
            let mut words = head.splitn(3, ' ');
            let (index, word) = (words.next()?, words.next().unwrap_or_default());
            Some(Section { index, word, rest: words.next().unwrap_or_default(), body: &section[line_end + 1..] })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::super::record::tests::record;
    use super::*;
    use Answer::{Found as There, Lost, Refreshed, Removed, Taken};

    fn perform(shell: &[&str], batch: &[Op]) -> Vec<Answer> {
        let mut child = Command::new(shell[0])
            .args(&shell[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{shell:?}: {error}"));
        child.stdin.take().unwrap().write_all(script(batch, "nonce").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let noisy = [b"Welcome!\n@nonsense 0 taken\n", &output.stdout[..]].concat();
        parse(batch, "nonce", &noisy).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stdout)))
    }

    fn take(path: &Path, token: &str, stale: Option<&str>) -> Op {
        Op::Take { path: path.into(), record: record(token), replaces: stale.map(record) }
    }

    fn refresh(path: &Path, token: &str) -> Op {
        Op::Refresh { path: path.into(), record: record(token) }
    }

    fn remove(path: &Path, token: &str) -> Op {
        Op::Remove { path: path.into(), record: record(token) }
    }

    fn look(path: &Path) -> Op {
        Op::Look { path: path.into() }
    }

    fn grow_old(path: &Path) {
        assert!(Command::new("touch").args(["-d", "100 seconds ago"]).arg(path).status().unwrap().success());
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// One life of a lock, in every shell that may be `/bin/sh` somewhere.
    fn check(shell: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("a dir's \"name\" $(x) ;\n");
        let path = sub.join("x y'.lock");
        let held = |token: &str, answer: &Answer| matches!(answer, There(Found::File { content: Content::Director(r), .. }) if r.token == token);

        let answers = perform(shell, &[look(&path), take(&path, "a", None), refresh(&path, "a"), look(&path)]);
        assert_eq!(answers[..3], [There(Found::Absent), Taken, Refreshed]);
        assert!(held("a", &answers[3]), "{answers:?}");
        assert_eq!(names(&sub), ["x y'.lock"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), record("a").encode());

        let other = sub.join("other");
        let answers = perform(shell, &[take(&other, "b", None), take(&path, "b", None), look(&path)]);
        assert!(answers.len() == 2 && answers[0] == Taken && held("a", &answers[1]), "{answers:?}");
        assert_eq!(perform(shell, &[remove(&other, "b")]), [Removed]);

        assert!(held("a", &perform(shell, &[take(&path, "b", Some("a"))])[0]), "it is fresh");
        let answers = perform(shell, &[remove(&path, "b"), refresh(&path, "b")]);
        assert!(matches!(&answers[..], [Lost(_), Lost(why)] if why.contains("photos@laptop")), "{answers:?}");

        grow_old(&path);
        assert_eq!(perform(shell, &[refresh(&path, "a")]), [Lost("its lease ran out".into())]);
        assert_eq!(perform(shell, &[take(&path, "b", Some("a"))]), [Taken]);
        assert_eq!(names(&sub), ["x y'.lock"]);
        grow_old(&path);
        std::fs::write(sub.join(".x y'.lock.claim-b"), record("crashed").encode()).unwrap();
        assert!(held("b", &perform(shell, &[take(&path, "c", Some("b"))])[0]), "someone is replacing it");
        grow_old(&sub.join(".x y'.lock.claim-b"));
        assert_eq!(perform(shell, &[take(&path, "c", Some("b"))]), [Taken]);
        grow_old(&path);
        assert_eq!(perform(shell, &[remove(&path, "c")]), [Removed]);
        assert_eq!(names(&sub), [""; 0]);
        assert_eq!(perform(shell, &[remove(&path, "c")]), [Lost("it was removed".into())]);

        std::fs::write(&path, "4711").unwrap();
        let answers = perform(shell, &[take(&path, "d", None)]);
        assert!(
            matches!(&answers[..], [There(Found::File { content: Content::Foreign(pid), .. })] if pid == "4711"),
            "{answers:?}"
        );
        let link = sub.join("link");
        std::os::unix::fs::symlink(sub.join("target"), &link).unwrap();
        assert_eq!(perform(shell, &[take(&link, "d", None)]), [There(Found::Other("a symbolic link"))]);
        assert_eq!(perform(shell, &[take(&sub, "d", None)]), [There(Found::Other("a directory"))]);
        let below = path.join("below");
        assert!(matches!(&perform(shell, &[take(&below, "d", None)])[..], [Answer::Failed(_)]));
        assert_eq!(names(&sub), ["link", "x y'.lock"]);
    }

    #[test]
    fn the_protocol_holds_in_dash() {
        check(&["dash"]);
    }

    #[test]
    fn the_protocol_holds_in_bash() {
        check(&["bash", "--posix"]);
        check(&["bash"]);
    }

    #[test]
    fn the_protocol_holds_in_busybox() {
        check(&["busybox", "sh"]);
    }

    #[test]
    fn a_path_below_the_home_there_is_found() {
        let home = tempfile::tempdir().unwrap();
        let shell = ["env", &format!("HOME={}", home.path().display()), "sh"];
        let path = Path::new("~/a dir/x.lock");
        assert_eq!(perform(&shell, &[take(path, "a", None), look(path)])[0], Taken);
        assert_eq!(names(&home.path().join("a dir")), ["x.lock"]);
        assert_eq!(perform(&shell, &[remove(path, "a")]), [Removed]);
    }

    #[test]
    fn a_script_that_broke_off_is_no_answer() {
        assert_eq!(parse(&[look(Path::new("/x"))], "n", b"\n@n 0 absent\n"), None);
        assert_eq!(parse(&[look(Path::new("/x"))], "n", b"\n@n end end\n"), None);
        assert_eq!(parse(&[look(Path::new("/x"))], "n", b"\n@n 1 absent\n\n@n end end\n"), None);
    }

    #[test]
    fn content_cannot_pass_for_an_answer() {
        let answers = parse(&[look(Path::new("/x"))], "n", b"\n@n 0 file 3\n1\n@other 0 absent\n\n@n end end\n");
        assert!(matches!(answers.as_deref(), Some([There(Found::File { .. })])), "{answers:?}");
    }
}
