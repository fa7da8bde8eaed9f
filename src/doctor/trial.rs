//! A sync tried without doing anything, where a host executes nothing but what its gate or `command=` allows: the real rsync with the
//! real options, `--dry-run`, and an empty directory here for its other end. It goes by the system's ssh.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::child::{self, Output};
use super::finding::{Check, Finding};
use super::locks::GATE;
use super::needs::End;
use super::{Doctor, places};
use crate::config::Peer;
use crate::rsync::args::{self, Invocation, Remote};
use crate::rsync::options::{self, Fate};

/// ssh's own exit code when it does not get there (ssh(1)).
const SSH_ERROR: i32 = 255;
/// rsync 3.4 speaks this protocol, older ones an older one (its NEWS).
const PROTOCOL_OF_3_4: u32 = 32;

/// Tries one end of a sync that is on a peer. `None` when it could not be tried, so that nothing is known.
pub(super) async fn attempt(doctor: &Doctor<'_>, peer: &Peer, end: &End, limit: Duration) -> Option<Vec<Finding>> {
    let empty = Empty::make()?;
    let here = empty.0.join("").into_os_string();
    let opts = options(&end.opts);
    let remote = Remote { peer, pull: end.dest.is_none(), rsh: args::rsh_command(&doctor.pool.openssh_command(peer)) };
    let (sources, dest) = match &end.dest {
        Some(dest) => (vec![here], dest.clone()),
        None => (end.sources.iter().map(|source| places::without_wildcards(source)).collect(), here),
    };
    let invocation =
        Invocation { opts: &opts, sources, dest: &dest, remote: Some(remote), dry_run: true, progress: false };
    let output = child::output(&doctor.spawner, "rsync".into(), args::argv(&invocation), limit).await.ok()?;
    judge(&peer.to_string(), end, &output)
}

/// What says which files there are and what becomes of them, since that is what a gate looks at; nothing that prints, writes elsewhere, or
/// takes long.
fn options(opts: &[OsString]) -> Vec<OsString> {
    let kept = options::parse(opts).into_iter().filter(|opt| {
        let entry = opt.entry();
        entry.is_some_and(|entry| {
            matches!(entry.fate, Fate::All | Fate::Final) && !matches!(entry.name, "max-delete" | "rsh")
        })
    });
    let words = kept.filter_map(|opt| opt.words()).flatten();
    words.chain(["--no-recursive", "--dirs", "--debug=PROTO"].map(OsString::from)).collect()
}

fn judge(place: &str, end: &End, output: &Output) -> Option<Vec<Finding>> {
    let code = output.code.filter(|code| *code != SSH_ERROR)?;
    let (check, path) = match &end.dest {
        Some(dest) => (Check::Destination, dest.display().to_string()),
        None => (Check::Source, end.sources.first()?.display().to_string()),
    };
    let name = &end.name;
    if code != 0 {
        let text = format!("a dry run of {name} fails at {path}: {}", complaint(output));
        let fix = if text.contains(GATE) { "let the policy of the gate there allow it" } else { "mend what it says" };
        return Some(vec![Finding::fail(check, place, text, fix)]);
    }
    let mut findings: Vec<Finding> =
        protocol(output).into_iter().flat_map(|protocol| of_protocol(place, protocol)).collect();
    let untried = if end.dest.is_some() { "; writing was not tried" } else { "" };
    findings.push(Finding::ok(check, place, format!("a dry run of {name} is let through to {path}{untried}")));
    Some(findings)
}

/// The line that tells why: the gate's, else rsync's first.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let of_gate = lines.clone().find(|line| line.contains(GATE));
    of_gate.or_else(|| lines.next()).map_or_else(|| output.last_words(), str::to_owned)
}

/// `(Client) Protocol versions: remote=32, negotiated=32`.
fn protocol(output: &Output) -> Option<u32> {
    let text = String::from_utf8_lossy(&output.stdout);
    let rest = text.split("Protocol versions: remote=").nth(1)?;
    rest.split(',').next()?.parse().ok()
}

fn of_protocol(place: &str, protocol: u32) -> [Finding; 2] {
    let rsync = Finding::ok(Check::Rsync, place, format!("an rsync answers, which speaks protocol {protocol}"));
    let fix = "ask its administrator, or look there by another key: `rsync --version`";
    let text = match protocol < PROTOCOL_OF_3_4 {
        true => format!(
            "cannot tell which version it is, but protocol {protocol} is that of one before 3.4, and 3.5.0 fixes 33 security issues"
        ),
        false => format!(
            "cannot tell whether it is 3.5.0, which fixes 33 security issues: protocol {protocol} is that of 3.4 and later"
        ),
    };
    [rsync, Finding::warn(Check::RsyncSecurity, place, text, fix)]
}

/// An empty directory of our own. Removed when dropped.
struct Empty(PathBuf);

impl Empty {
    fn make() -> Option<Self> {
        let path = std::env::temp_dir().join(format!("rsyncdirector-doctor-{}", crate::random::word()));
        fs::create_dir(&path).ok().map(|()| Self(path))
    }
}

impl Drop for Empty {
    fn drop(&mut self) {
        // Nothing is written into it, so it can only be gone already.
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gate_looks_at_is_kept_and_what_prints_or_takes_long_is_not() {
        let opts: Vec<OsString> =
            ["-avH", "--delete", "--max-delete=3", "-e", "x", "--log-file=/l", "--chmod=g-w", "-c", "--bwlimit=1"]
                .map(Into::into)
                .into();
        let kept = ["-a", "-H", "--delete", "--chmod=g-w", "--no-recursive", "--dirs", "--debug=PROTO"];
        assert_eq!(options(&opts), kept);
    }

    #[test]
    fn what_a_dry_run_said_is_told() {
        let end = End {
            name: "job j, action a".into(),
            opts: Vec::new(),
            program: "rsync".into(),
            sources: Vec::new(),
            dest: Some("/dst".into()),
            crosses: true,
        };
        let judged = |code, stdout: &str, stderr: &str| {
            let output = Output { code, stdout: stdout.into(), stderr: stderr.into() };
            judge("h", &end, &output)
                .map(|findings| findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        };
        let said = judged(Some(0), "(Client) Protocol versions: remote=31, negotiated=31\n", "").expect("judged");
        assert!(
            said.contains(
                "ok    h  rsync: an rsync answers, which speaks protocol 31\nwarn  h  rsync-security: cannot tell"
            ),
            "{said}"
        );
        assert!(
            said.ends_with(
                "ok    h  destination: a dry run of job j, action a is let through to /dst; writing was not tried"
            ),
            "{said}"
        );
        let said =
            judged(Some(12), "", "x\nrsyncdirector: gate: refused: /dst is elsewhere\nrsync error: y").expect("judged");
        assert_eq!(
            said,
            "fail  h  destination: a dry run of job j, action a fails at /dst: rsyncdirector: gate: refused: /dst is elsewhere; let the policy of the gate there allow it"
        );
        assert_eq!(judged(Some(255), "", "ssh: no route"), None);
        assert_eq!(judged(None, "", ""), None);
    }
}
