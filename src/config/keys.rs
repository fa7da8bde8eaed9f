//! Which keys exist, in which kind of mapping. The reader accepts exactly these, and a test keeps the JSON schema in
//! step with them.

use strsim::damerau_levenshtein;

/// A kind of mapping in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// What it is called in messages, with its article.
    pub name: &'static str,
    /// Its keys.
    pub keys: &'static [&'static str],
    /// Keys that are accepted with a warning, since they say nothing here.
    pub idle: &'static [&'static str],
}

/// The keys that name a peer.
pub(super) const PEER: &[&str] = &["user", "host", "port", "private_ssh_key", "private_key_path", "proxy_jump"];

/// The keys that say when something runs.
const SCHEDULE: &[&str] = &["cron_schedule", "timezone", "jitter", "overlap", "catch_up", "catch_up_max_age"];

/// The other keys of an instance, behind its name and its schedule.
const INSTANCE: &[&str] = &[
    "concurrency",
    "pid_file_dir",
    "state_dir",
    "metrics",
    "history",
    "notify",
    "lease",
    "kill_grace",
    "connect_timeout",
    "host_key_policy",
    "known_hosts",
    "transport",
    "max_delete",
    "stall_timeout",
    "bwlimit",
    "jobs",
];

/// The keys that jobs of both types have behind their schedule.
const JOB: &[&str] = &[
    "max_age",
    "notify",
    "when",
    "retries",
    "max_delete",
    "stall_timeout",
    "bwlimit",
    "lock_files",
    "blocks_on",
    "before",
    "actions",
    "on_failure",
    "after",
];

/// The words of these lists, one list after the other, `N` in all.
const fn concat<const N: usize>(lists: &[&[&'static str]]) -> [&'static str; N] {
    let mut all = [""; N];
    let (mut list, mut at, mut done) = (0, 0, 0);
    while list < lists.len() {
        if at == lists[list].len() {
            (list, at) = (list + 1, 0);
        } else {
            all[done] = lists[list][at];
            (at, done) = (at + 1, done + 1);
        }
    }
    assert!(done == N, "so many words as there are places");
    all
}

/// The whole file.
pub(super) const TOP: Kind =
    Kind { name: "the top level", keys: &concat::<23>(&[&["rsync_id"], SCHEDULE, INSTANCE]), idle: &[] };

/// `metrics`.
pub(super) const METRICS: Kind = Kind {
    name: "`metrics`",
    keys: &[
        "addr",
        "port",
        "startup_timeout_seconds",
        "startup_retry_wait_seconds",
        "startup_retry_limit",
        "legacy_names",
        "auth",
        "tls",
    ],
    idle: &[],
};

/// `metrics.auth`.
pub(super) const AUTH: Kind = Kind { name: "`auth`", keys: &["page", "metrics"], idle: &[] };

/// `metrics.auth.page`, `metrics.auth.metrics`.
pub(super) const CREDENTIALS: Kind = Kind {
    name: "who may read",
    keys: &["user", "password_file", "password_credential", "password_hash", "bearer_file", "bearer_credential"],
    idle: &[],
};

/// `metrics.tls`.
pub(super) const TLS: Kind = Kind { name: "`tls`", keys: &["cert", "key"], idle: &[] };

/// `history`.
pub(super) const HISTORY: Kind = Kind { name: "`history`", keys: &["max_age", "max_size", "output_max"], idle: &[] };

/// A job of type `local`.
pub(super) const LOCAL_JOB: Kind =
    Kind { name: "a local job", keys: &concat::<21>(&[&["id", "type"], SCHEDULE, JOB]), idle: PEER };

/// A job of type `remote`.
pub(super) const REMOTE_JOB: Kind = Kind {
    name: "a remote job",
    keys: &concat::<28>(&[&["id", "type"], PEER, &["transport"], SCHEDULE, JOB]),
    idle: &[],
};

/// A lock file or a block on this host.
pub(super) const LOCAL_FILE: Kind =
    Kind { name: "a local file", keys: &["type", "path", "wait_time", "timeout"], idle: PEER };

/// A lock file or a block on a peer.
pub(super) const REMOTE_FILE: Kind = Kind {
    name: "a remote file",
    keys: &concat::<11>(&[&["type"], PEER, &["via", "path", "wait_time", "timeout"]]),
    idle: &[],
};

/// An action that is one rsync.
pub(super) const SYNC: Kind = Kind {
    name: "a sync",
    keys: &[
        "id",
        "action",
        "source",
        "dest",
        "opts",
        "direction",
        "parallel",
        "max_delete",
        "allow_empty_source",
        "stall_timeout",
        "bwlimit",
        "timeout",
        "success_exit_codes",
        "retries",
        "retry_wait",
    ],
    idle: &[],
};

/// An action that is a command.
pub(super) const COMMAND: Kind = Kind {
    name: "a command",
    keys: &["id", "action", "command", "args", "timeout", "success_exit_codes", "retries", "retry_wait"],
    idle: &[],
};

/// An action that compares a replica with its source.
pub(super) const VERIFY: Kind = Kind {
    name: "a verification",
    keys: &[
        "id",
        "action",
        "of",
        "level",
        "deep",
        "max_drift",
        "max_lag",
        "rate",
        "restore",
        "agent",
        "stall_timeout",
        "timeout",
        "retries",
        "retry_wait",
    ],
    idle: &[],
};

/// Something that must hold for a job to run.
pub(super) const CONDITION: Kind =
    Kind { name: "a condition", keys: &["mounted", "reachable", "on_ac_power", "command", "args"], idle: &[] };

/// A window of `bwlimit`.
pub(super) const WINDOW: Kind =
    Kind { name: "a window of `bwlimit`", keys: &["days", "from", "to", "rate"], idle: &[] };

/// A command of `before`, `after` or `on_failure`.
pub(super) const HOOK: Kind = Kind {
    name: "a hook",
    keys: &["command", "args", "timeout", "success_exit_codes", "retries", "retry_wait"],
    idle: &[],
};

/// An element of `notify`.
pub(super) const TARGET: Kind = Kind {
    name: "a target of `notify`",
    keys: &["on", "http", "command", "mail", "every", "timeout", "retries", "retry_wait"],
    idle: &[],
};

/// `http` of a target.
pub(super) const HTTP: Kind = Kind {
    name: "`http`",
    keys: &["url", "url_file", "style", "body", "headers", "header_files", "ca_file"],
    idle: &[],
};

/// `mail` of a target.
pub(super) const MAIL: Kind = Kind { name: "`mail`", keys: &["to", "from", "sendmail"], idle: &[] };

/// All kinds, the specific ones first.
pub(super) const ALL: [&Kind; 19] = [
    &CONDITION,
    &SYNC,
    &COMMAND,
    &VERIFY,
    &WINDOW,
    &LOCAL_FILE,
    &REMOTE_FILE,
    &REMOTE_JOB,
    &LOCAL_JOB,
    &HOOK,
    &TARGET,
    &HTTP,
    &MAIL,
    &CREDENTIALS,
    &TLS,
    &AUTH,
    &METRICS,
    &HISTORY,
    &TOP,
];

/// What people write who know another program, and what we call it.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("schedule", "cron_schedule"),
    ("cron", "cron_schedule"),
    ("name", "id"),
    ("src", "source"),
    ("sources", "source"),
    ("destination", "dest"),
    ("target", "dest"),
    ("options", "opts"),
    ("flags", "opts"),
    ("arguments", "args"),
    ("cmd", "command"),
    ("key", "private_key_path"),
    ("ssh_key", "private_key_path"),
    ("identity_file", "private_key_path"),
    ("private_key", "private_key_path"),
    ("hostname", "host"),
    ("username", "user"),
    ("jump", "proxy_jump"),
    ("jump_host", "proxy_jump"),
    ("bastion", "proxy_jump"),
    ("gateway", "proxy_jump"),
    ("locks", "lock_files"),
    ("blocks", "blocks_on"),
    ("tz", "timezone"),
    ("interval", "wait_time"),
    ("address", "addr"),
    ("kind", "type"),
    ("shards", "parallel"),
    ("bandwidth", "bwlimit"),
    ("limit", "rate"),
    ("notifications", "notify"),
    ("template", "body"),
    ("recipients", "to"),
    ("pre", "before"),
    ("post", "after"),
    ("finally", "after"),
    ("sync", "of"),
    ("depth", "level"),
    ("drift", "max_drift"),
];

impl Kind {
    /// Whether `key` may stand in such a mapping without an error.
    pub fn accepts(&self, key: &str) -> bool {
        self.keys.contains(&key) || self.idle.contains(&key)
    }

    /// The key of this kind that was probably meant.
    pub fn nearest(&self, key: &str) -> Option<&'static str> {
        let other_name = OTHER_NAMES.iter().find(|(theirs, _)| *theirs == key).map(|(_, ours)| *ours);
        other_name.filter(|ours| self.keys.contains(ours)).or_else(|| nearest(key, self.keys.iter().copied()))
    }
}

/// The other kinds of mapping in which `key` would be right.
pub(super) fn homes(key: &str) -> Vec<&'static str> {
    ALL.iter().filter(|kind| kind.keys.contains(&key)).map(|kind| kind.name).collect()
}

/// How a key that must be there may look.
pub(super) fn example(key: &str) -> Option<&'static str> {
    Some(match key {
        "rsync_id" => "rsync_id: laptop",
        "cron_schedule" => "cron_schedule: \"0 2 * * *\"",
        "id" => "id: photos",
        "type" => "type: local",
        "host" => "host: backup01.example.org",
        "path" => "path: /run/lock/photos.lock",
        "action" => "action: sync",
        "source" => "source: /srv/photos/",
        "dest" => "dest: /srv/backup/photos/",
        "command" => "command: /usr/bin/logger",
        "from" => "from: \"08:00\"",
        "to" => "to: \"18:00\"",
        "of" => "of: photos",
        "rate" => "rate: 5M",
        "url" => "url: https://example.org/hook",
        "cert" => "cert: /etc/rsyncdirector/tls/cert.pem",
        "key" => "key: /etc/rsyncdirector/tls/key.pem",
        _ => return None,
    })
}

/// The candidate that `word` is probably a misspelling of: the nearest one, if at most a third of it is wrong.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let word = plain(word);
    let tolerance = (word.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (damerau_levenshtein(&word, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= tolerance && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &Kind, key: &str, expected: Option<&str>) {
        assert_eq!(kind.nearest(key), expected, "{key} in {}", kind.name);
    }

    #[test]
    fn a_suggestion_is_a_key_of_that_kind_of_mapping() {
        check(&SYNC, "optz", Some("opts"));
        check(&SYNC, "success-exit-codes", Some("success_exit_codes"));
        check(&SYNC, "Source", Some("source"));
        check(&COMMAND, "optz", None);
        check(&COMMAND, "cmd", Some("command"));
        check(&REMOTE_JOB, "private_sshkey", Some("private_ssh_key"));
        check(&LOCAL_JOB, "hots", None);
        check(&TOP, "schedule", Some("cron_schedule"));
        check(&SYNC, "zzz", None);
        check(&SYNC, "x", None);
    }

    #[test]
    fn every_other_name_stands_for_a_key() {
        for (_, ours) in OTHER_NAMES {
            assert!(!homes(ours).is_empty(), "{ours}");
        }
    }
}
