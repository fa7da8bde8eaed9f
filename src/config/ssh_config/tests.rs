//! What the files say, compared with `ssh -G`, and what is said of them.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use super::*;
use crate::account;

/// Files in memory; `*` at the end of a pattern's last part is the only wildcard.
pub(in crate::config) struct Memory(HashMap<PathBuf, File>);

impl Memory {
    pub(in crate::config) fn of(files: &[(&str, &str)]) -> Self {
        let file = |text: &str| File { text: text.to_owned(), owner: 0, mode: 0o644 };
        Self(files.iter().map(|(path, text)| (PathBuf::from(path), file(text))).collect())
    }

    fn with_mode(mut self, path: &str, owner: u32, mode: u32) -> Self {
        let file = self.0.get_mut(Path::new(path)).expect("a file");
        (file.owner, file.mode) = (owner, mode);
        self
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<File> {
        if path.ends_with("forbidden") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn matching(&self, pattern: &str) -> io::Result<Vec<PathBuf>> {
        let fits = |path: &&PathBuf| match pattern.strip_suffix('*') {
            Some(begin) => path.to_string_lossy().starts_with(begin),
            None => path.as_path() == Path::new(pattern),
        };
        let mut found: Vec<_> = self.0.keys().filter(fits).cloned().collect();
        if found.is_empty() && !pattern.ends_with('*') {
            found.push(pattern.into());
        }
        found.sort();
        Ok(found)
    }
}

fn ask(files: &Memory, host: &str) -> (Settings, Vec<Complaint>) {
    let local_user = account::name().expect("our name");
    let query = Query { host, user: None, local_user: &local_user, home: Some(Path::new("/home/ann")) };
    lookup(files, &query)
}

/// The settings as `ssh -G` shows them, as far as we have them.
fn shown(settings: &Settings, host: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push(format!("{name} {value}"));
    let name = settings.host_name.as_ref().map(|name| expand::host_name(&name.value, host).expect("a name"));
    line("hostname", name.as_deref().unwrap_or(host).to_lowercase());
    let user = settings.user.as_ref().map(|user| user.value.clone()).or_else(account::name);
    line("user", user.expect("our name"));
    line("port", settings.port.unwrap_or(22).to_string());
    settings.identity_files.iter().for_each(|file| line("identityfile", file.value.clone()));
    line("identitiesonly", if settings.identities_only == Some(true) { "yes" } else { "no" }.to_owned());
    let none_or = |files: &Vec<String>| if files.is_empty() { "none".to_owned() } else { files.join(" ") };
    if let Some(files) = &settings.user_known_hosts {
        line("userknownhostsfile", none_or(&files.value));
    }
    if let Some(files) = &settings.global_known_hosts {
        line("globalknownhostsfile", none_or(&files.value));
    }
    if let Some(alias) = &settings.host_key_alias {
        line("hostkeyalias", alias.clone());
    }
    let family = match settings.address_family.unwrap_or_default() {
        AddressFamily::Any => "any",
        AddressFamily::V4 => "inet",
        AddressFamily::V6 => "inet6",
    };
    line("addressfamily", family.to_owned());
    let timeout = settings.connect_timeout.flatten();
    line("connecttimeout", timeout.map_or("none".to_owned(), |time| time.as_secs().to_string()));
    if let Some(Placed { value: Way::Jumps(jumps), .. }) = &settings.way {
        let jump = |jump: &Jump| {
            let user = jump.user.as_ref().map_or(String::new(), |user| format!("{user}@"));
            let host = if jump.host.contains(':') { format!("[{}]", jump.host) } else { jump.host.clone() };
            let port = jump.port.map_or(String::new(), |port| format!(":{port}"));
            format!("{user}{host}{port}")
        };
        line("proxyjump", jumps.iter().map(jump).collect::<Vec<_>>().join(","));
    }
    if settings.way.as_ref().is_some_and(|way| way.value == Way::Command) {
        line("proxycommand", "…".to_owned());
    }
    lines.sort();
    lines
}

/// The same lines of what ssh itself makes of a file; `None` when it refuses it.
fn theirs(file: &Path, host: &str, ours: &[String]) -> Option<Vec<String>> {
    let output = Command::new("ssh").args(["-G", "-F"]).arg(file).arg(host).output();
    let output = output.expect("ssh, which this test needs");
    if !output.status.success() {
        return None;
    }
    let has = |name: &str| ours.iter().any(|line| line.split(' ').next() == Some(name));
    let text = String::from_utf8(output.stdout).expect("text");
    let mut lines = Vec::new();
    for line in text.lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        match name {
            "hostname" | "user" | "port" | "identitiesonly" | "addressfamily" | "hostkeyalias" | "proxyjump" => {
                lines.push(line.to_owned());
            }
            // Zero is no bound, too.
            "connecttimeout" if value == "0" => lines.push("connecttimeout none".to_owned()),
            "connecttimeout" => lines.push(line.to_owned()),
            "proxycommand" => lines.push("proxycommand …".to_owned()),
            // They show the defaults, which are not ours to decide here.
            "identityfile" | "userknownhostsfile" | "globalknownhostsfile" if has(name) => lines.push(line.to_owned()),
            _ => {}
        }
    }
    lines.sort();
    Some(lines)
}

/// Files with the host to ask for: each is `~/.ssh/config`. `@/` is a directory with the files of [`MORE`], `<me>` our name.
const CASES: &[(&str, &str)] = &[
    ("", "a"),
    ("# only a comment\n\n   \t\n", "a"),
    ("Host a\nHostName a.example\n", "a"),
    ("Host a\nHostName a.example\n", "b"),
    ("HOST a\n  hostNAME=A.Example\n", "a"),
    ("Host a\n\tPort = 2200\n\tUser\t=\tann\n", "a"),
    ("Host a\nHostName %h.example.org\n", "a"),
    ("Host a\nHostName x%%y-%h\n", "a"),
    ("Host *.ex !b.ex\nPort 1\nHost *\nPort 2\n", "a.ex"),
    ("Host *.ex !b.ex\nPort 1\nHost *\nPort 2\n", "b.ex"),
    ("Host !b.ex *.ex\nPort 1\n", "b.ex"),
    ("Host !b.ex\nPort 1\n", "a.ex"),
    ("Host web? db-*\nUser w\n", "web1"),
    ("Host web? db-*\nUser w\n", "web12"),
    ("Host web? db-*\nUser w\n", "db-"),
    ("Host A\nPort 1\nHost a\nPort 2\n", "A"),
    ("Host \"a\" 'b c'\nPort 3\n", "a"),
    ("Port 1\nPort 2\nHost a\nPort 3\n", "a"),
    ("Host b\nPort 1\nHost a\nPort 3\nHost *\nUser x\nPort 4\n", "a"),
    ("User ann # that is me\n", "a"),
    ("User \"ann # x\"\n", "a"),
    ("User an\\ n\n", "a"),
    ("User 'an\"n'\n", "a"),
    ("User ann   \nPort 9\r\n", "a"),
    ("IdentityFile ~/.ssh/one\nIdentityFile /two\nIdentityFile ~/.ssh/one\n", "a"),
    ("Host a\nIdentityFile ~/.ssh/%r@%h\nHost *\nIdentityFile none\n", "a"),
    ("IdentityFile \"/with blank/id\"\nIdentitiesOnly yes\n", "a"),
    ("IdentitiesOnly True\n", "a"),
    ("UserKnownHostsFile /a /b\nUserKnownHostsFile /c\n", "a"),
    ("UserKnownHostsFile none\nGlobalKnownHostsFile /g\n", "a"),
    ("UserKnownHostsFile \"/a b\" /c # d\n", "a"),
    ("UserKnownHostsFile /a none\n", "a"),
    ("ProxyJump ann@jump:2222\n", "a"),
    ("ProxyJump one,ann@two,[::1]:22\n", "a"),
    ("ProxyJump none\nProxyJump b\n", "a"),
    ("ProxyJump b # by there\nProxyCommand nc %h %p\n", "a"),
    ("ProxyCommand nc %h %p\nProxyJump b\n", "a"),
    ("ProxyCommand none\nProxyJump b\n", "a"),
    ("ProxyJump ssh://ann@b:22\n", "a"),
    ("ProxyJump = b\n", "a"),
    ("ConnectTimeout 90\n", "a"),
    ("ConnectTimeout 1m30s\n", "a"),
    ("ConnectTimeout none\n", "a"),
    ("ConnectTimeout 0\n", "a"),
    ("ConnectTimeout 2H\nConnectTimeout 5\n", "a"),
    ("Match all\nPort 1\n", "a"),
    ("Match host a\nPort 1\nMatch host *\nPort 2\n", "a"),
    ("Match host a,!b\nPort 1\n", "b"),
    ("Match !host a\nPort 1\n", "a"),
    ("Match !host a\nPort 1\n", "b"),
    ("HostName c\nMatch host c\nPort 1\nMatch originalhost a\nUser u\n", "a"),
    ("HostName %h.ex\nMatch host a.ex user <me>\nPort 1\n", "a"),
    ("User ann\nMatch user <me>\nPort 1\nMatch user an*\nPort 2\n", "a"),
    ("Match localuser <me> host a\nPort 1\n", "a"),
    ("Match localuser !<me>\nPort 1\n", "a"),
    ("Match final\nPort 1\nHost a\nPort 2\n", "a"),
    ("Host a\nHostName b\nHost b\nPort 2\n", "a"),
    ("Host a\nHostName b\nHost b\nPort 2\nMatch final\nUser f\n", "a"),
    ("Match final host b\nUser f\nHost a\nHostName b\nIdentityFile /x\n", "a"),
    ("Match !final\nUser f\n", "a"),
    ("Match canonical\nUser f\n", "a"),
    ("Host a\nAddressFamily inet6\nHostKeyAlias key-of-a\n", "a"),
    ("AddressFamily INET\n", "a"),
    ("SendEnv LANG LC_*\nHashKnownHosts yes\nGSSAPIAuthentication yes\nPort 5\n", "a"),
    ("IgnoreUnknown UseKey*,Other\nUseKeychain yes\nOther x\nPort 6\n", "a"),
    ("Include @/more\nPort 1\n", "a"),
    ("Host b\nInclude @/more\nHost a\nPort 1\n", "a"),
    ("Include @/nowhere @/dir/*\nPort 1\n", "a"),
    ("Include @/blocks\nUser outer\n", "a"),
    ("Host a\nInclude @/blocks\nUser outer\n", "a"),
    ("Host b\nInclude @/blocks\nHost *\nUser outer\n", "b"),
    ("Host\n", "a"),
    ("Host a\nPort\n", "a"),
    ("Port 0\n", "a"),
    ("Port 99999\n", "a"),
    ("User a b\n", "a"),
    ("User \"a\n", "a"),
    ("Host b\nUser \"a\n", "a"),
    ("ProxyJump a:b\n", "x"),
    ("ProxyJump a,,b\n", "x"),
    ("ConnectTimeout soon\n", "a"),
    ("IdentitiesOnly perhaps\n", "a"),
    ("AddressFamily ipv4\n", "a"),
    ("Match\nPort 1\n", "a"),
    ("Match host\nPort 1\n", "a"),
    ("Match all host a\nPort 1\n", "a"),
    ("Include @/self\n", "a"),
];

const MORE: &[(&str, &str)] = &[
    ("more", "Port 77\nHost a\nUser included\n"),
    ("dir/1", "User one\n"),
    ("dir/2", "User two\nPort 2\n"),
    ("blocks", "Host a\nPort 4\nHost c\nPort 5\n"),
    ("self", "Include @/self\n"),
];

#[test]
fn files_mean_what_they_mean_to_ssh() {
    assert!(CASES.len() > 80, "{}", CASES.len());
    let dir = tempfile::tempdir().expect("a directory");
    let here = format!("{}/", dir.path().display());
    fs::create_dir(dir.path().join("dir")).expect("a directory");
    let more: Vec<_> = MORE.iter().map(|(name, text)| (format!("{here}{name}"), text.replace("@/", &here))).collect();
    more.iter().for_each(|(name, text)| fs::write(name, text).expect("written"));
    let me = account::name().expect("our name");
    for (text, host) in CASES {
        let text = text.replace("@/", &here).replace("<me>", &me);
        let mut files: Vec<_> = more.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        files.push(("/home/ann/.ssh/config", &text));
        let (settings, complaints) = ask(&Memory::of(&files), host);
        let is_refused = complaints.iter().any(|complaint| complaint.severity == Severity::Error);
        let ours = shown(&settings, host);
        fs::write(dir.path().join("config"), &text).expect("written");
        match theirs(&dir.path().join("config"), host, &ours) {
            None => assert!(is_refused, "ssh refuses {text:?}, we make of it {ours:?}"),
            Some(theirs) => assert_eq!((ours, is_refused), (theirs, false), "{text:?} {host}: {complaints:?}"),
        }
    }
}

#[test]
fn the_user_s_file_comes_before_the_system_s() {
    let files = Memory::of(&[
        ("/home/ann/.ssh/config", "Host a\nPort 1\n"),
        ("/home/ann/.ssh/conf.d/x", "User relative\n"),
        (SYSTEM_FILE, "Port 2\nUser system\nInclude ssh_config.d/*\n"),
        ("/etc/ssh/ssh_config.d/1", "HostKeyAlias one\n"),
    ]);
    let settings = ask(&files, "a").0;
    assert_eq!((settings.port, settings.host_key_alias.as_deref()), (Some(1), Some("one")));
    assert_eq!(settings.user.map(|user| user.at.to_string()).as_deref(), Some("/etc/ssh/ssh_config:2"));
    let files = Memory::of(&[
        ("/home/ann/.ssh/config", "Include conf.d/x ~/y\n"),
        ("/home/ann/.ssh/conf.d/x", "Port 3\n"),
        ("/home/ann/y", "User y\n"),
    ]);
    let settings = ask(&files, "a").0;
    assert_eq!((settings.port, settings.user.map(|user| user.value).as_deref()), (Some(3), Some("y")));
}

/// What is said of `~/.ssh/config`, each as `severity line: message`.
#[track_caller]
fn check_said(files: &Memory, expected: &[&str]) {
    let complaints = ask(files, "a").1;
    let said: Vec<_> = complaints.iter().map(|it| format!("{} {}: {}", it.severity, it.at.line, it.message)).collect();
    assert_eq!(said, expected);
}

#[test]
fn what_is_not_followed_and_matters_is_named() {
    let check = |text: &str, expected: &[&str]| check_said(&Memory::of(&[("/home/ann/.ssh/config", text)]), expected);
    check("Host a\nProxyCommand nc %h %p\n", &["warning 2: `ProxyCommand` is not followed"]);
    check("Host b\nProxyCommand nc %h %p\n", &[]);
    check("ProxyJump b\nProxyCommand nc %h %p\n", &[]);
    check("Ciphers aes128-ctr\nciphers chacha20\n", &["warning 1: `Ciphers aes128-ctr` is not followed"]);
    check(
        "KexAlgorithms x\nMACs y\nHostKeyAlgorithms z\n",
        &[
            "warning 1: `KexAlgorithms x` is not followed",
            "warning 2: `MACs y` is not followed",
            "warning 3: `HostKeyAlgorithms z` is not followed",
        ],
    );
    check("StrictHostKeyChecking no\n", &["warning 1: `StrictHostKeyChecking no` is not followed"]);
    check(
        "StrictHostKeyChecking ask\nIdentityAgent SSH_AUTH_SOCK\nPKCS11Provider none\nPubkeyAuthentication yes\n",
        &[],
    );
    check("PreferredAuthentications publickey,password\n", &[]);
    check("PreferredAuthentications password\n", &["warning 1: `PreferredAuthentications password` is not followed"]);
    check("ControlMaster auto\nControlPath ~/x\nForwardAgent yes\nServerAliveInterval 5\nCompression yes\n", &[]);
    check("Match exec true\nForwardAgent yes\n", &[]);
    check("Match host b exec true\nPort 5\n", &[]);
    check(
        "Match exec \"test -e /x\"\nPort 5\nUser x\n",
        &["warning 1: the block `Match exec \"test -e /x\"` is not read"],
    );
    check(
        "Match localnetwork 10.0.0.0/8\nBindAddress x\n",
        &["warning 1: the block `Match localnetwork 10.0.0.0/8` is not read"],
    );
    check("Frobnicate yes\n", &["warning 1: the keyword \"frobnicate\" is not known"]);
    check("Include ~bob/x\n", &["warning 1: the files of \"~bob/x\" are not read"]);
}

#[test]
fn a_file_that_others_can_write_is_refused_and_one_that_cannot_be_read_is_named() {
    let file = "/home/ann/.ssh/config";
    let files = || Memory::of(&[(file, "Include more\n"), ("/home/ann/.ssh/more", "Port 7\n")]);
    let us = rustix::process::geteuid().as_raw();
    check_said(&files().with_mode(file, us, 0o600), &[]);
    check_said(
        &files().with_mode(file, us, 0o664),
        &[&format!("error 1: bad owner or permissions (uid {us}, mode 0664)")],
    );
    check_said(&files().with_mode(file, 4711, 0o600), &["error 1: bad owner or permissions (uid 4711, mode 0600)"]);
    let more = "/home/ann/.ssh/more";
    check_said(
        &files().with_mode(more, us, 0o646),
        &[&format!("error 1: bad owner or permissions (uid {us}, mode 0646)")],
    );
    // The system's own file is root's affair, as with ssh.
    let system = Memory::of(&[(SYSTEM_FILE, "Port 7\n")]).with_mode(SYSTEM_FILE, 4711, 0o666);
    check_said(&system, &[]);
    assert_eq!(ask(&system, "a").0.port, Some(7));
    let unreadable = Memory::of(&[(file, "Include forbidden\nPort 8\n")]);
    check_said(&unreadable, &["warning 1: could not be read (permission denied)"]);
    assert_eq!(ask(&unreadable, "a").0.port, Some(8));
}
