//! What a configuration needs of each host: which directories, which lock files, which rsync. Pure.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::config::{
    Action, ActionKind, Carrier, Command, Condition, Config, Job, JobId, Location, Peer, Place, Route, Sync, Verify,
};
use crate::rsync::options;

/// What all hosts of a configuration must offer.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// This host.
    pub here: Site,
    /// The others, in the order in which the configuration names them.
    pub peers: Vec<(Peer, Site)>,
}

/// What one host must offer.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// The ends of syncs that are on it.
    pub ends: Vec<End>,
    /// The lock files on it, each once.
    pub locks: Vec<Wanted>,
    /// The blocks on it, each once.
    pub blocks: Vec<Wanted>,
    /// The commands that jobs execute on it, with their names.
    pub commands: Vec<(String, Command)>,
    /// The programs that are asked there by verifications.
    pub agents: Vec<String>,
    /// Whether the system's ssh reaches it.
    pub by_openssh: bool,
}

/// One end of a sync.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// Of which action: `job home, action copy`.
    pub name: String,
    /// The options of the rsync.
    pub opts: Vec<OsString>,
    /// The program: `rsync`, or for the other side what `--rsync-path` says, which its shell reads.
    pub program: OsString,
    /// What is read there.
    pub sources: Vec<OsString>,
    /// What is written there.
    pub dest: Option<OsString>,
    /// Whether the other end is on another host.
    pub crosses: bool,
}

impl End {
    /// Whether one of these options is given, by its long name.
    pub fn has(&self, names: &[&str]) -> bool {
        options::has(&self.opts, names)
    }

    /// Whether `--archive` or one of these options is given, and its opposite is not given behind it.
    pub fn keeps(&self, name: &str) -> bool {
        options::parse(&self.opts).iter().filter_map(|opt| Some((opt.entry()?, opt.negated))).fold(
            false,
            |keeps, (entry, negated)| match entry.name {
                entry if entry == name => !negated,
                "archive" => IN_ARCHIVE.contains(&name) || keeps,
                // Both of them.
                "D" if name == "devices" => !negated,
                _ => keeps,
            },
        )
    }

    /// Whether its options only look.
    pub fn is_dry_run(&self) -> bool {
        self.has(&["dry-run", "list-only"])
    }
}

/// What `-a` stands for (rsync(1)), as far as anybody asks here.
const IN_ARCHIVE: [&str; 5] = ["owner", "group", "perms", "devices", "links"];

/// A lock or block file, and whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is.
    pub location: Location,
    /// The jobs that want it.
    pub jobs: Vec<JobId>,
}

impl Wanted {
    /// `job home` or `jobs home, photos`.
    pub fn of(&self) -> String {
        let names: Vec<&str> = self.jobs.iter().map(JobId::as_str).collect();
        format!("{} {}", if names.len() == 1 { "job" } else { "jobs" }, names.join(", "))
    }
}

impl Needs {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let mut needs = Self::default();
        config.jobs.iter().for_each(|job| needs.add(job));
        needs
    }

    /// What a host must offer; `None` for one that the configuration does not name.
    pub fn site(&mut self, place: Option<&Peer>) -> &mut Site {
        let Some(peer) = place else { return &mut self.here };
        let index = self.peers.iter().position(|(known, _)| known == peer).unwrap_or_else(|| {
            self.peers.push((peer.clone(), Site::default()));
            self.peers.len() - 1
        });
        &mut self.peers[index].1
    }

    fn add(&mut self, job: &Job) {
        for condition in &job.when {
            match condition {
                Condition::Reachable(peer) => {
                    self.site(Some(peer));
                }
                Condition::Command(command) => {
                    self.here.commands.push((format!("job {}, `when`", job.id), command.clone()));
                }
                Condition::Mounted(_) | Condition::OnAcPower => {}
            }
        }
        for block in &job.blocks_on {
            want(&mut self.site(host(&block.location)).blocks, &block.location, &job.id);
        }
        for lock in &job.lock_files {
            want(&mut self.site(host(&lock.location)).locks, &lock.location, &job.id);
        }
        for action in job.steps() {
            self.add_action(job, action);
        }
    }

    fn add_action(&mut self, job: &Job, action: &Action) {
        let name = format!("job {}, action {}", job.id, action.id);
        match &action.kind {
            ActionKind::Command(command) => self.here.commands.push((name, command.clone())),
            ActionKind::Sync(sync) => self.add_sync(name, sync),
            ActionKind::Verify(verify) => self.add_verify(verify),
        }
    }

    fn add_verify(&mut self, verify: &Verify) {
        let (Some(peer), Some(agent)) = (verify.sync.peer(), &verify.agent) else { return };
        let agents = &mut self.site(Some(peer)).agents;
        if !agents.contains(agent) {
            agents.push(agent.clone());
        }
    }

    fn add_sync(&mut self, name: String, sync: &Sync) {
        let whole = End {
            name,
            opts: sync.opts.clone(),
            program: "rsync".into(),
            sources: sync.sources.clone(),
            dest: Some(sync.dest.clone()),
            crosses: true,
        };
        let reading = |program| End { program, dest: None, ..whole.clone() };
        let writing = |program| End { program, sources: Vec::new(), ..whole.clone() };
        let (peer, carrier, here, there) = match &sync.route {
            Route::Local => return self.here.ends.push(End { crosses: false, ..whole }),
            Route::Push(peer, carrier) => (peer, carrier, reading("rsync".into()), writing(program(&sync.opts))),
            Route::Pull(peer, carrier) => (peer, carrier, writing("rsync".into()), reading(program(&sync.opts))),
        };
        self.here.ends.push(here);
        let site = self.site(Some(peer));
        site.ends.push(there);
        site.by_openssh |= *carrier == Carrier::OpenSsh;
    }
}

fn host(location: &Location) -> Option<&Peer> {
    match &location.place {
        Place::Local => None,
        Place::Remote(peer, _) => Some(peer),
    }
}

fn want(list: &mut Vec<Wanted>, location: &Location, job: &JobId) {
    match list.iter_mut().find(|wanted| wanted.location == *location) {
        Some(wanted) if wanted.jobs.contains(job) => {}
        Some(wanted) => wanted.jobs.push(job.clone()),
        None => list.push(Wanted { location: location.clone(), jobs: vec![job.clone()] }),
    }
}

/// What the other side starts.
fn program(opts: &[OsString]) -> OsString {
    let named =
        options::parse(opts).into_iter().filter(|opt| opt.is("rsync-path")).filter_map(|opt| opt.value).next_back();
    named.map_or_else(|| "rsync".into(), OsStr::to_owned)
}

/// Absolute paths that rsync's options name on this host: to be read, and to be written.
pub fn option_files(opts: &[OsString]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    const READ: [&str; 4] = ["exclude-from", "include-from", "files-from", "password-file"];
    let parsed = options::parse(opts);
    let values = |names: &'static [&'static str]| {
        let named = parsed.iter().filter(move |opt| names.iter().any(|name| opt.is(name)));
        let paths = named.filter_map(|opt| opt.value).map(PathBuf::from);
        paths.filter(|path| path.is_absolute()).collect()
    };
    (values(&READ), values(&["log-file"]))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn needs(jobs: &str) -> Needs {
        let text = format!("rsync_id: x\ncron_schedule: '@daily'\njobs:\n{jobs}");
        let loaded = crate::config::parse(Path::new("x.yaml"), &text, &|_| Some("/home/ann".into()));
        Needs::of(&loaded.unwrap_or_else(|problems| panic!("{}", problems.render(false))).config)
    }

    #[test]
    fn each_end_of_a_sync_is_wanted_of_its_host() {
        let needs = needs(
            "
- {id: j, type: remote, user: u, host: h, lock_files: [{type: remote, user: u, host: h, path: /l/j}], actions: [
                {action: sync, id: push, source: /src, dest: /dst, opts: ['-aX --rsync-path=\"sudo rsync\"']},
                {action: sync, id: pull, direction: pull, source: /there, dest: /back}]}
- {id: k, type: local, lock_files: [{type: remote, user: u, host: h, path: /l/j}], blocks_on: [{type: local, path: /b}],
                actions: [{action: sync, id: copy, source: /a, dest: /b, opts: [-a]}, {action: command, id: c, command: x}]}",
        );
        let ends = |site: &Site| {
            let end = |end: &End| format!("{}: {:?} > {:?} by {:?}", end.name, end.sources, end.dest, end.program);
            site.ends.iter().map(end).collect::<Vec<_>>()
        };
        assert_eq!(
            ends(&needs.here),
            [
                "job j, action push: [\"/src\"] > None by \"rsync\"",
                "job j, action pull: [] > Some(\"/back\") by \"rsync\"",
                "job k, action copy: [\"/a\"] > Some(\"/b\") by \"rsync\"",
            ]
        );
        let [(peer, site)] = &needs.peers[..] else { panic!("{:?}", needs.peers) };
        assert_eq!(peer.to_string(), "u@h:22");
        assert_eq!(
            ends(site),
            [
                "job j, action push: [] > Some(\"/dst\") by \"sudo rsync\"",
                "job j, action pull: [\"/there\"] > None by \"rsync\"",
            ]
        );
        assert_eq!(site.locks.iter().map(Wanted::of).collect::<Vec<_>>(), ["jobs j, k"]);
        assert_eq!((needs.here.blocks.len(), needs.here.commands.len()), (1, 1));
    }

    #[track_caller]
    fn check(opts: &[&str], kept: &str) {
        let end = End {
            name: String::new(),
            opts: opts.iter().map(OsString::from).collect(),
            program: "rsync".into(),
            sources: Vec::new(),
            dest: None,
            crosses: false,
        };
        let names = ["owner", "group", "perms", "devices", "acls", "xattrs", "hard-links"];
        let keeps: Vec<&str> = names.into_iter().filter(|name| end.keeps(name)).collect();
        assert_eq!(keeps.join(" "), kept, "{opts:?}");
    }

    #[test]
    fn what_a_sync_keeps_is_read_as_rsync_reads_it() {
        check(&["-a"], "owner group perms devices");
        check(&["-aAXH"], "owner group perms devices acls xattrs hard-links");
        check(&["-a", "--no-o", "--no-g"], "perms devices");
        check(&["--no-o", "-a"], "owner group perms devices");
        check(&["-a", "--no-D"], "owner group perms");
        check(&["-rlt"], "");
        check(&["-rltD", "-p"], "perms devices");
    }
}
