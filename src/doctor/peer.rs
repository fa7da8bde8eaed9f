//! One peer: connects, then asks its shell, its lock files, and the system's ssh where that is used.

use std::time::Duration;

use futures_util::future::{join, join_all, join3};

use super::child;
use super::finding::{Check, Finding};
use super::locks::{self, GATE};
use super::needs::Site;
use super::probe::Answers;
use super::survey::{Survey, behind_a_gate};
use super::{Doctor, arrival, places, trial};
use crate::agent::client::connect;
use crate::agent::proto::{Preface, PrefaceError};
use crate::clock;
use crate::config::Peer;
use crate::error_chain;
use crate::ssh::SshError;

/// A peer's shell has so long for its answers, on a connection that stands: `df` may wait for a file server.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// All findings about a peer, in bounded time.
pub(super) async fn examine(doctor: &Doctor<'_>, peer: &Peer, site: &Site) -> Vec<Finding> {
    let place = peer.to_string();
    let keys = match doctor.pool.enter(peer).await {
        Ok(keys) => keys,
        Err(error) => return arrival::failed(peer, &error),
    };
    let mut findings = arrival::arrived(peer, &keys);
    let (config, stores) = (doctor.config, &doctor.stores);
    let files = join(
        join_all(site.locks.iter().map(|wanted| locks::lock(config, stores, &place, wanted))),
        join_all(site.blocks.iter().map(|wanted| locks::block(stores, &place, wanted))),
    );
    let agents = join_all(site.agents.iter().map(|program| agent(doctor, peer, program)));
    let asked = join(ask(doctor, peer, site), agents);
    let ((asked, agents), (locks, blocks), ssh) = join3(asked, files, by_ssh(doctor, peer, site)).await;
    findings.extend(ssh);
    findings.extend(asked);
    findings.extend(agents);
    findings.extend(locks);
    findings.extend(blocks);
    findings
}

/// What its shell tells.
async fn ask(doctor: &Doctor<'_>, peer: &Peer, site: &Site) -> Vec<Finding> {
    let place = peer.to_string();
    let survey = Survey::of_peer(site);
    let word = crate::random::word();
    let script = survey.questions.script(&word);
    let before = seconds();
    // Its login shell sees nothing but this.
    let output = doctor.pool.exec(peer, "exec /bin/sh", &script, ANSWER_MAX).await;
    let after = seconds();
    let why = match output {
        Ok(output) => match Answers::parse(&survey.questions, &word, &output.stdout) {
            Some(answers) => {
                let mut findings = vec![Finding::ok(Check::Shell, &place, "it executes what we ask for")];
                findings.extend(answers.now.map(|now| places::clock(&place, now, before, after)));
                findings.extend(survey.judge(&place, site, &answers));
                return findings;
            }
            None => String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default().to_owned(),
        },
        Err(error @ SshError::Protocol { .. }) => error_chain(&error),
        Err(error) => {
            let text = format!("its shell does not answer: {}", error_chain(&error));
            return vec![Finding::fail(Check::Shell, &place, text, "see what its login shell does at its start")];
        }
    };
    without_shell(doctor, peer, site, &why).await
}

async fn without_shell(doctor: &Doctor<'_>, peer: &Peer, site: &Site, why: &str) -> Vec<Finding> {
    let place = peer.to_string();
    if why.contains(GATE) {
        let mut findings = vec![Finding::ok(Check::Shell, &place, "a gate there executes only what its policy allows")];
        findings.extend(tried(doctor, peer, site).await);
        return findings;
    }
    let why = if why.is_empty() { "without a word".to_owned() } else { format!("\"{why}\"") };
    let sftp = doctor.pool.sftp(peer, doctor.pool.connect_timeout_of(peer) + ANSWER_MAX).await;
    let mut findings = vec![match (&sftp, site.ends.is_empty()) {
        (Ok(_), true) => {
            Finding::ok(Check::Shell, &place, "it executes no commands; its lock files are reached by SFTP")
        }
        (Ok(_), false) => {
            let text = format!("the account is confined to SFTP ({why}), so no rsync can be started there");
            Finding::fail(Check::Shell, &place, text, "let it execute commands, or confine it by `rsyncdirector gate`")
        }
        (Err(_), _) => {
            let text = format!("cannot tell what it would do: it does not execute what we ask for, {why}");
            Finding::warn(Check::Shell, &place, text, "see the `command=` of the key and ForceCommand there")
        }
    }];
    if sftp.is_err() {
        findings.extend(tried(doctor, peer, site).await);
    }
    findings
}

/// What dry runs of the syncs tell, and of those that cannot be tried, that nothing is known.
async fn tried(doctor: &Doctor<'_>, peer: &Peer, site: &Site) -> Vec<Finding> {
    let limit = doctor.pool.connect_timeout_of(peer) + ANSWER_MAX;
    let trials = join_all(site.ends.iter().map(|end| trial::attempt(doctor, peer, end, limit))).await;
    let mut findings: Vec<Finding> = Vec::new();
    for (end, trial) in site.ends.iter().zip(trials) {
        for finding in trial.unwrap_or_else(|| behind_a_gate(&peer.to_string(), end)) {
            // Each tells the same of the rsync.
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings
}

/// Whether the agent that verifications ask is there, and is of our kind. Without it they take longer.
async fn agent(doctor: &Doctor<'_>, peer: &Peer, program: &str) -> Finding {
    const FIX: &str =
        "install rsyncdirector there, or name it by `agent:`; `agent: none` does without, and says no more";
    let place = peer.to_string();
    let warn = |why: String| {
        let text = format!("no agent answers ({why}): verifications are made by rsync alone, which takes longer");
        Finding::warn(Check::Agent, &place, text, FIX)
    };
    let command = format!("{} agent", connect::escaped(program));
    let output = match doctor.pool.exec(peer, &command, b"", ANSWER_MAX).await {
        Ok(output) => output,
        Err(error) => return warn(error_chain(&error)),
    };
    match Preface::parse(&output.stdout) {
        Ok(preface) => {
            Finding::ok(Check::Agent, &place, format!("it answers verifications, version {}", preface.version))
        }
        Err(PrefaceError::Noise { .. }) if output.stdout.is_empty() => {
            let said = String::from_utf8_lossy(&output.stderr);
            warn(said.trim().lines().last().unwrap_or("not a word").to_owned())
        }
        Err(error) => warn(error_chain(&error)),
    }
}

/// Whether the system's ssh gets there, where rsync uses it.
async fn by_ssh(doctor: &Doctor<'_>, peer: &Peer, site: &Site) -> Option<Finding> {
    /// What ssh itself ends with when it does not get there (ssh(1)).
    const OWN_ERROR: i32 = 255;
    let place = peer.to_string();
    let mut argv = doctor.pool.openssh_command(peer).into_iter().filter(|_| site.by_openssh);
    let program = argv.next()?;
    let mut args: Vec<_> = argv.collect();
    args.extend(["-l".into(), peer.user.clone().into(), peer.host.clone().into(), "exit 0".into()]);
    let limit = doctor.pool.connect_timeout_of(peer) + ANSWER_MAX;
    let ended = child::output(&doctor.spawner, program, args, limit).await;
    Some(match ended {
        Ok(output) if output.code.is_some_and(|code| code != OWN_ERROR) => {
            Finding::ok(Check::Ssh, &place, "the system's ssh gets there")
        }
        Ok(output) => {
            let text = format!("the system's ssh does not get there: {}", output.last_words());
            Finding::fail(Check::Ssh, &place, text, "mend what it says, or use `transport: native`")
        }
        Err(why) => Finding::fail(Check::Ssh, &place, why, "install openssh-client, or use `transport: native`"),
    })
}

/// Seconds since 1970.
fn seconds() -> f64 {
    clock::now().as_duration().as_secs_f64()
}
