//! This host: what the director's own start needs, and what its jobs do here, with the eyes of the unit that runs them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::asked::Asked;
use super::finding::{Check, Finding};
use super::needs::{Needs, Wanted};
use super::probe::Answers;
use super::survey::Survey;
use super::unit::Unit;
use super::{Doctor, HERE, child, files, locks, sandbox, starting, zones};
use crate::config::Config;
use crate::{account, clock};

/// The shell has so long for its answers: `df` may wait for a file server.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Where systemd has a service look for programs (systemd.exec(5)).
const PATH_OF_UNITS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All findings about this host.
pub(super) async fn examine(doctor: &Doctor<'_>, needs: &Needs) -> Vec<Finding> {
    let name = format!("rsyncdirector@{}.service", doctor.instance);
    let unit = Unit::ask(&doctor.spawner, &name).await.filter(|unit| doctor.is_installed || unit.is_in_use());
    let unit = unit.map(Arc::new);
    let eyes = Eyes::of(unit.as_deref());
    let config = &as_unit(doctor.config, unit.as_deref(), account::home().as_deref(), eyes.home().as_deref());
    let mut findings = eyes.finding();
    findings.extend(zones::examine(config, clock::now()));
    findings.extend(starting::examine(config));
    findings.extend(asked(doctor, config, needs, unit.as_ref(), &eyes).await);
    findings.extend(named(config, needs, &eyes).await);
    let lock = |wanted| async move { in_time(wanted, locks::lock(config, &doctor.stores, HERE, wanted)).await };
    if eyes.are_ours() {
        findings.extend(join_all(needs.here.locks.iter().map(lock)).await);
    }
    let block = |wanted| async move { in_time(wanted, locks::block(&doctor.stores, HERE, wanted)).await };
    findings.extend(join_all(needs.here.blocks.iter().map(block)).await);
    findings
}

/// The configuration as the unit's user reads it, who has another home directory, and another one of pid files where the configuration
/// names none. `ours` and `theirs` are the homes.
fn as_unit(config: &Config, unit: Option<&Unit>, ours: Option<&Path>, theirs: Option<&Path>) -> Config {
    const OF_ROOT: &str = "/run/rsyncdirector";
    let mut config = config.clone();
    let Some(unit) = unit.filter(|unit| !unit.is_root()) else { return config };
    if let Some(directory) = unit.variable("XDG_RUNTIME_DIR").filter(|_| config.pid_file_dir == Path::new(OF_ROOT)) {
        config.pid_file_dir = Path::new(directory).join("rsyncdirector");
    }
    if let (true, Some(ours), Some(theirs)) = (config.ssh.unsaid.known_hosts, ours, theirs) {
        for file in &mut config.ssh.known_hosts {
            if let Ok(below) = file.strip_prefix(ours) {
                *file = theirs.join(below);
            }
        }
    }
    config
}

/// What the shell tells, and what the unit allows.
async fn asked(
    doctor: &Doctor<'_>,
    config: &Config,
    needs: &Needs,
    unit: Option<&Arc<Unit>>,
    eyes: &Eyes<'_>,
) -> Vec<Finding> {
    let (config_there, needs_there, unit_there) = (config.clone(), needs.clone(), unit.cloned());
    let home = eyes.home();
    let look = move || Asked::of(&config_there, &needs_there, unit_there.as_deref(), home.as_deref());
    let mut asked = match patiently("the directories of sources", look).await {
        Ok(asked) => asked,
        Err(finding) => return vec![finding],
    };
    let mut findings = std::mem::take(&mut asked.findings);
    match answers(doctor, &asked.survey, eyes).await {
        Ok(answers) => {
            findings.extend(asked.survey.judge(HERE, &needs.here, &answers));
            findings.extend(asked.own_files(&answers));
            findings.extend(unit.iter().flat_map(|unit| sandbox::judge(unit, &asked.wants(config, needs, &answers))));
        }
        Err(why) => {
            let text = format!("this host could not be asked: {why}");
            findings.push(Finding::fail(Check::Shell, HERE, text, "see what it says; a file server may not answer"));
        }
    }
    findings
}

/// The files that the configuration names. Those that are read by the unit's user, if that is another, are asked of the shell.
async fn named(config: &Config, needs: &Needs, eyes: &Eyes<'_>) -> Vec<Finding> {
    let (config, needs, are_ours) = (config.clone(), needs.clone(), eyes.are_ours());
    let look = move || {
        // Credentials are root's until systemd hands them over.
        let is_ours = |path: &Path| are_ours || files::is_credential(path);
        let mut findings: Vec<Finding> =
            files::keys(&needs).iter().filter(|key| is_ours(key)).map(|key| files::key(key)).collect();
        let read = files::read(&config, &needs);
        findings.extend(read.iter().filter(|(path, _)| is_ours(path)).map(files::file));
        findings.extend(files::known_hosts(&config, &needs));
        findings
    };
    patiently("the files that the configuration names", look).await.unwrap_or_else(|finding| vec![finding])
}

/// Looks at files off the reactor, and not for ever: a file server may not answer.
async fn patiently<T: Send + 'static>(what: &str, look: impl FnOnce() -> T + Send + 'static) -> Result<T, Finding> {
    let looked = tokio::time::timeout(ANSWER_MAX, tokio::task::spawn_blocking(look)).await;
    looked.ok().and_then(Result::ok).ok_or_else(|| {
        let text = format!("{what} cannot be looked at: no answer within {} s", ANSWER_MAX.as_secs());
        Finding::fail(Check::File, HERE, text, "see whether a file server is off: `df`")
    })
}

/// The same for a lock or block file.
async fn in_time(wanted: &Wanted, look: impl Future<Output = Finding>) -> Finding {
    tokio::time::timeout(ANSWER_MAX, look).await.unwrap_or_else(|_| {
        let text = format!("{} cannot be looked at within {} s", wanted.location, ANSWER_MAX.as_secs());
        Finding::fail(Check::Lock, HERE, text, "see whether a file server is off: `df`")
    })
}

/// As whom this host is looked at.
struct Eyes<'a> {
    unit: Option<&'a Unit>,
    /// The words before a command; none for ourselves.
    disguise: Vec<OsString>,
    /// Whether the unit's user is another, and we may not stand in for it.
    is_blind: bool,
}

impl<'a> Eyes<'a> {
    fn of(unit: Option<&'a Unit>) -> Self {
        let is_superuser = rustix::process::geteuid().is_root();
        let ours = account::name_of(rustix::process::geteuid().as_raw());
        let is_other = unit.is_some_and(|unit| ours.as_deref() != Some(unit.user()));
        let disguise = unit.filter(|_| is_superuser).map(Unit::disguise).unwrap_or_default();
        Self { unit, disguise, is_blind: is_other && !is_superuser }
    }

    /// Whether what we ourselves can read and write is what the director can.
    fn are_ours(&self) -> bool {
        self.unit.is_none_or(Unit::is_root) || self.disguise.is_empty()
    }

    /// The home directory of the director's user.
    fn home(&self) -> Option<PathBuf> {
        let of_unit = self.unit.and_then(|unit| account::home_of(unit.user().as_bytes()));
        of_unit.map(PathBuf::from).or_else(account::home)
    }

    fn finding(&self) -> Vec<Finding> {
        let Some(unit) = self.unit else {
            let text = "no unit of systemd runs this configuration: it is judged for whoever asks";
            return vec![Finding::ok(Check::Unit, HERE, text)];
        };
        let (name, user) = (&unit.name, unit.user());
        if self.is_blind {
            let text = format!("{name} runs as {user}, and only root can look with its eyes");
            return vec![Finding::warn(Check::Unit, HERE, text, "`sudo rsyncdirector doctor`")];
        }
        vec![Finding::ok(Check::Unit, HERE, format!("{name} runs this configuration as {user}"))]
    }
}

/// Runs the questions' script by the shell, as the unit's user.
async fn answers(doctor: &Doctor<'_>, survey: &Survey, eyes: &Eyes<'_>) -> Result<Answers, String> {
    let word = crate::random::word();
    let script = survey.questions.script(&word);
    let shell = [OsStr::new("/bin/sh"), OsStr::new("-c"), OsStr::from_bytes(&script)].map(OsStr::to_owned);
    let path = eyes.unit.map(|_| OsString::from(format!("PATH={PATH_OF_UNITS}")));
    let path = path.into_iter().flat_map(|path| [OsString::from("env"), path]);
    let mut words = eyes.disguise.iter().cloned().chain(path).chain(shell);
    let program = words.next().unwrap_or_default();
    let output = child::output(&doctor.spawner, program, words.collect(), ANSWER_MAX).await?;
    Answers::parse(&survey.questions, &word, &output.stdout).ok_or_else(|| output.last_words())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_s_unit_has_other_directories() {
        let text = "rsync_id: x\ncron_schedule: '@daily'\npid_file_dir: /run/rsyncdirector\njobs: [{id: j, type: local, actions: [{action: command, id: c, command: x}]}]\n";
        let config = crate::config::parse(Path::new("x.yaml"), text, &|_| Some("/root".into())).expect("valid").config;
        let as_user = |user: &str| {
            let shown = format!("LoadState=loaded\nUser={user}\nEnvironment=XDG_RUNTIME_DIR=/run/rsyncdirector/x");
            let unit = Unit::parse("x", &shown).expect("loaded");
            let config = as_unit(&config, Some(&unit), Some(Path::new("/root")), Some(Path::new("/var/lib/rd")));
            (config.pid_file_dir.display().to_string(), config.ssh.known_hosts[0].display().to_string())
        };
        assert_eq!(as_user("root"), ("/run/rsyncdirector".into(), "/root/.ssh/known_hosts".into()));
        assert_eq!(as_user("rd"), ("/run/rsyncdirector/x/rsyncdirector".into(), "/var/lib/rd/.ssh/known_hosts".into()));
    }
}
