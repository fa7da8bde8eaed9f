//! What becomes of peers with ssh_config(5) files.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::config::ssh_config::tests::Memory;
use crate::config::{AddressFamily, Diagnostics, Job, Loaded, Peer, Place, parse_with};

const FILE: &str = "/home/ann/.ssh/config";

fn env(name: &str) -> Option<OsString> {
    match name {
        "HOME" => Some("/home/ann".into()),
        "LOGNAME" => Some("ann".into()),
        "XDG_RUNTIME_DIR" => Some("/run/user/1000".into()),
        _ => None,
    }
}

fn read(top: &str, job: &str, ssh_config: &str) -> Result<Loaded, Diagnostics> {
    let text = format!(
        "rsync_id: x\n{top}cron_schedule: '@daily'\njobs:\n  - {{id: j, {job}, \
         actions: [{{id: a, action: sync, source: /a, dest: /b}}]}}\n"
    );
    parse_with(Path::new("x.yaml"), &text, &env, &Memory::of(&[(FILE, ssh_config)]))
}

#[track_caller]
fn job(job: &str, ssh_config: &str) -> std::sync::Arc<Job> {
    read("", job, ssh_config).unwrap_or_else(|wrong| panic!("{wrong}")).config.jobs[0].clone()
}

/// The peer of a job with these keys.
#[track_caller]
fn peer(keys: &str, ssh_config: &str) -> Peer {
    job(&format!("type: remote, {keys}"), ssh_config).peer.clone().expect("a peer")
}

/// The way to a peer and its end, each host as it is dialled.
#[track_caller]
fn check_way(keys: &str, ssh_config: &str, expected: &[&str]) {
    let peer = peer(keys, ssh_config);
    let way = peer.reach.jumps.iter().chain([&peer]);
    let way: Vec<_> = way.map(|host| format!("{}@{}:{}", host.user, host.dialled(), host.port)).collect();
    assert_eq!(way, expected, "{keys} {ssh_config:?}");
    assert!(peer.reach.jumps.iter().all(|hop| hop.reach.jumps.is_empty()));
}

/// What is said with these keys of a job, as `severity: message`.
#[track_caller]
fn check_said(top: &str, keys: &str, ssh_config: &str, expected: &[&str]) {
    let diagnostics = match read(top, &format!("type: remote, {keys}"), ssh_config) {
        Ok(loaded) => loaded.warnings,
        Err(wrong) => wrong,
    };
    let said: Vec<_> = diagnostics.iter().map(|it| format!("{}: {}", it.severity, it.message)).collect();
    assert_eq!(said, expected, "{keys} {ssh_config:?}");
}

#[test]
fn the_configuration_s_own_word_wins() {
    let file = "Host nas\nHostName 10.0.0.7\nUser backup\nPort 2222\nIdentityFile ~/.ssh/nas\nConnectTimeout 3\n";
    let plain = peer("host: nas", file);
    assert_eq!(plain.to_string(), "backup@nas:2222");
    assert_eq!((plain.dialled(), &plain.private_key), ("10.0.0.7", &None));
    assert_eq!(plain.reach.identities, Some(vec!["/home/ann/.ssh/nas".into()]));
    assert_eq!(plain.reach.connect_timeout, Some(Duration::from_secs(3)));
    assert!(plain.reach.left.port && plain.reach.left.way);
    let own = peer("host: nas, user: root, port: 22, private_ssh_key: /k", file);
    assert_eq!((own.to_string().as_str(), own.dialled()), ("root@nas:22", "10.0.0.7"));
    assert_eq!((own.private_key.as_deref(), &own.reach.identities), (Some(Path::new("/k")), &None));
    assert!(!own.reach.left.port);
    let other = peer("host: other", file);
    assert_eq!((other.to_string().as_str(), other.dialled()), ("ann@other:22", "other"));
    assert_eq!(*other.reach, *peer("host: other", "").reach);
}

#[test]
fn who_says_it_does_not_tell_peers_apart() {
    assert_eq!(peer("host: nas, port: 22", ""), peer("host: nas", ""));
    assert_eq!(peer("host: nas, port: 2222, user: u", ""), peer("host: nas", "Port 2222\nUser u\n"));
    assert_ne!(peer("host: nas", ""), peer("host: nas", "HostName other\n"));
}

#[test]
fn what_else_is_followed() {
    let file = "IdentityFile none\nIdentitiesOnly yes\nHostKeyAlias Key-%h\nAddressFamily inet\nConnectTimeout none\n";
    let odd = peer("host: nas", file);
    assert_eq!((odd.reach.identities.as_deref(), odd.reach.identities_only), (Some(&[][..]), true));
    assert_eq!(odd.reach.host_key_alias.as_deref(), Some("Key-%h"));
    assert_eq!((odd.reach.address_family, odd.reach.connect_timeout), (AddressFamily::V4, None));
    let files = |file: &str| {
        let peer = peer("host: nas", file);
        peer.reach
            .known_hosts
            .as_ref()
            .map(|files| files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>())
    };
    assert_eq!(files(""), None);
    let system = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];
    let with = |own: &[&str]| Some([own, &system].concat().iter().map(|file| file.to_string()).collect::<Vec<_>>());
    assert_eq!(files("UserKnownHostsFile ~/k_%n_%p /x\n"), with(&["/home/ann/k_nas_22", "/x"]));
    assert_eq!(files("UserKnownHostsFile none\n"), with(&["/dev/null"]));
    let own = ["/home/ann/.ssh/known_hosts", "/home/ann/.ssh/known_hosts2"].map(str::to_owned);
    assert_eq!(files("GlobalKnownHostsFile ~/g\n"), Some([&own[..], &["~/g".to_owned()]].concat()));
}

#[test]
fn the_way_to_a_peer_is_its_own_else_that_of_ssh_config() {
    let file = "Host nas\nProxyJump gate\nHost gate\nHostName gate.ex\nUser door\nPort 2200\n";
    check_way("host: nas", file, &["door@gate.ex:2200", "ann@nas:22"]);
    check_way("host: nas, proxy_jump: none", file, &["ann@nas:22"]);
    check_way("host: nas, proxy_jump: bob@other", file, &["bob@other:22", "ann@nas:22"]);
    check_way("host: x, proxy_jump: 'gate, u@b:7'", file, &["door@gate.ex:2200", "u@b:7", "ann@x:22"]);
    check_way("host: x, proxy_jump: [gate, 'me@[::1]:23']", file, &["door@gate.ex:2200", "me@::1:23", "ann@x:22"]);
    // The first host's own way counts; the second's does not, since there is one already.
    check_way("host: x, proxy_jump: nas", file, &["door@gate.ex:2200", "ann@nas:22", "ann@x:22"]);
    check_way("host: x, proxy_jump: [b, nas]", file, &["ann@b:22", "ann@nas:22", "ann@x:22"]);
    check_way("host: nas", "ProxyCommand none\nProxyJump gate\n", &["ann@nas:22"]);
}

#[test]
fn a_host_on_a_configured_way_is_shown_the_configured_key_unless_it_has_its_own() {
    let hops = |keys: &str, file: &str| -> Vec<_> {
        let peer = peer(keys, file);
        peer.reach.jumps.iter().map(|hop| (hop.private_key.clone(), hop.reach.identities.clone())).collect()
    };
    let (key, own) = (Some("/k".into()), Some(vec!["/own".into()]));
    let keys = "host: nas, private_ssh_key: /k, proxy_jump: [a, b]";
    assert_eq!(hops(keys, ""), [(key.clone(), None), (key.clone(), None)]);
    assert_eq!(hops(keys, "Host b\nIdentityFile /own\n"), [(key, None), (None, own)]);
    assert_eq!(hops("host: nas, private_ssh_key: /k", "Host nas\nProxyJump a\n"), [(None, None)]);
}

#[test]
fn lock_files_and_blocks_have_ways_too() {
    let job = job(
        "type: local, lock_files: [{type: remote, host: nas, path: /l, proxy_jump: a}], \
         blocks_on: [{type: remote, host: nas, path: /b}]",
        "Host nas\nProxyJump b\n",
    );
    let first = |place: &Place| match place {
        Place::Remote(peer, _) => peer.reach.jumps[0].host.clone(),
        Place::Local => panic!("a remote place"),
    };
    assert_eq!(first(&job.lock_files[0].location.place), "a");
    assert_eq!(first(&job.blocks_on[0].location.place), "b");
}

#[test]
fn a_way_in_a_circle_is_refused() {
    let circle = ["error: the way to this host leads in a circle"];
    check_said("", "host: a", "ProxyJump b\n", &circle);
    check_said("", "host: a", "Host a\nProxyJump b\nHost b\nProxyJump a\n", &circle);
    check_said("", "host: a, proxy_jump: a", "", &circle);
    check_said("", "host: a, proxy_jump: other@a", "", &[]);
    let long = "error: there are more than 8 others on the way to this host";
    check_said("", "host: a, proxy_jump: 'b,c,d,e,f,g,h,i,j'", "", &[long]);
    check_said("", "host: a, proxy_jump: 'b,c,d,e,f,g,h,i'", "", &[]);
}

#[test]
fn what_is_not_followed_is_said_at_the_peer_once() {
    let at = |line: usize, what: &str| format!("warning: {FILE}:{line}: {what} is not followed");
    let command = at(2, "`ProxyCommand`");
    let file = "Host n*\nProxyCommand nc %h %p\n";
    check_said("", "host: nas", file, &[&command]);
    check_said("", "host: nas, lock_files: [{type: remote, host: nas2, path: /l}]", file, &[&command]);
    check_said("", "host: other", file, &[]);
    check_said("", "host: nas, proxy_jump: none", file, &[]);
    check_said("", "host: nas, proxy_jump: other", file, &[]);
    check_said("", "host: other, proxy_jump: nas", file, &[&command]);
    // The system's ssh follows it; what reaches a lock file is not that.
    check_said("transport: openssh\n", "host: nas", file, &[]);
    check_said("", "host: nas, transport: openssh", file, &[]);
    check_said("transport: openssh\n", "host: x, lock_files: [{type: remote, host: nas, path: /l}]", file, &[&command]);
    let lax = at(1, "`StrictHostKeyChecking no`");
    check_said("", "host: nas", "StrictHostKeyChecking no\n", &[&lax]);
    check_said("transport: openssh\n", "host: nas", "StrictHostKeyChecking no\n", &[&lax]);
    check_said("host_key_policy: accept-new\n", "host: nas", "StrictHostKeyChecking no\n", &[]);
    let token = at(1, "`IdentityFile /k/%C`") + ": `%C` is not followed here";
    check_said("", "host: nas", "IdentityFile /k/%C\n", &[&token]);
}

#[test]
fn what_ssh_would_refuse_is_an_error_at_the_peer() {
    let error = |line: usize, what: &str| format!("error: {FILE}:{line}: {what}");
    check_said("", "host: nas", "Host nas\nPort ssh22\n", &[&error(2, "no port: \"ssh22\"")]);
    check_said("", "host: nas", "User \"x\n", &[&error(1, "a quote is not closed")]);
    check_said("", "host: nas", "User -x\n", &[&error(1, "`User -x` is no login name")]);
    check_said("", "host: nas", "HostName a;b\n", &[&error(1, "`HostName a;b` is no host name or address")]);
    check_said("", "host: nas", "HostName %z\n", &[&error(1, "`HostName %z`: `%z` is not followed here")]);
    check_said("", "host: nas, proxy_jump: gate", "Host gate\nPort 0\n", &[&error(2, "no port: \"0\"")]);
}
