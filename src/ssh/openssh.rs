//! The same policy as arguments of the system's `ssh`.
//!
//! ssh reads ssh_config(5) by itself, and more of it than we do, so it is told only what the director's own configuration says.
//!
//! A configured way is a `ProxyCommand` rather than `-J`, which would not hand on the policy, the port and the key to the hosts on it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::native::{KEEPALIVE_INTERVAL, KEEPALIVE_MAX};
use crate::config::{HostKeyPolicy, Peer, SshPolicy};

/// The command line up to, not including, user and host.
pub(super) fn command(peer: &Peer, policy: &SshPolicy) -> Vec<OsString> {
    let mut argv = options(peer, policy);
    if !peer.reach.left.way {
        argv.push("-o".into());
        argv.push(match proxy_command(&peer.reach.jumps, policy) {
            Some(command) => joined("ProxyCommand=", &command),
            // ssh_config(5) may have one.
            None => "ProxyCommand=none".into(),
        });
    }
    argv
}

fn options(peer: &Peer, policy: &SshPolicy) -> Vec<OsString> {
    let mut argv: Vec<OsString> = vec!["ssh".into()];
    if !peer.reach.left.port {
        argv.extend(["-p".into(), peer.port.to_string().into()]);
    }
    let mut option = |text: OsString| argv.extend(["-o".into(), text]);
    if let Some(key) = &peer.private_key {
        option(file_option("IdentityFile=", [key.as_path()]));
        option("IdentitiesOnly=yes".into());
    }
    option("BatchMode=yes".into());
    let strict = match policy.host_key_policy {
        HostKeyPolicy::Strict => "yes",
        HostKeyPolicy::AcceptNew => "accept-new",
    };
    option(format!("StrictHostKeyChecking={strict}").into());
    if !policy.unsaid.known_hosts {
        option(match policy.known_hosts.is_empty() {
            true => "UserKnownHostsFile=/dev/null".into(),
            false => file_option("UserKnownHostsFile=", policy.known_hosts.iter().map(|path| path.as_path())),
        });
        option("GlobalKnownHostsFile=/dev/null".into());
    }
    // Without a bound of its own or ssh_config(5)'s, ssh would wait for as long as TCP does.
    if !policy.unsaid.connect_timeout || peer.reach.connect_timeout.is_none() {
        option(format!("ConnectTimeout={}", policy.connect_timeout.as_secs_f64().ceil().max(1.0)).into());
    }
    option(format!("ServerAliveInterval={}", KEEPALIVE_INTERVAL.as_secs()).into());
    option(format!("ServerAliveCountMax={KEEPALIVE_MAX}").into());
    option("Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com".into());
    argv
}

/// The shell command that connects to a host by way of these; `None` if there are none. ssh replaces its `%h` and `%p` by the host's.
fn proxy_command(hops: &[Peer], policy: &SshPolicy) -> Option<OsString> {
    let (last, before) = hops.split_last()?;
    let mut argv = options(last, policy);
    argv.extend(["-l".into(), last.user.clone().into()]);
    if let Some(command) = proxy_command(before, policy) {
        argv.extend(["-o".into(), joined("ProxyCommand=", &command)]);
    }
    let mut command: Vec<u8> = argv.iter().flat_map(|word| [for_shell(word), b" ".to_vec()].concat()).collect();
    command.extend(b"-W '[%h]:%p' ");
    command.extend(for_shell(last.host.as_ref()));
    Some(OsString::from_vec(command))
}

/// A word for the shell of a `ProxyCommand`: `%` doubled, which ssh would replace, and a backslash before whatever may mean something. Not
/// in quotes: ssh looks at these, too, and by other rules than a shell.
fn for_shell(word: &OsStr) -> Vec<u8> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"%@+=:,./_-".contains(&byte) || !byte.is_ascii();
    let mut out = Vec::new();
    for &byte in word.as_bytes() {
        out.extend((!is_plain(byte)).then_some(b'\\'));
        out.extend((byte == b'%').then_some(b'%'));
        out.push(byte);
    }
    out
}

fn joined(name: &str, value: &OsStr) -> OsString {
    let mut text = OsString::from(name);
    text.push(value);
    text
}

/// Paths as ssh_config(5) reads them: in double quotes where they need it, `%` doubled because it starts a token.
fn file_option<'a>(name: &str, paths: impl IntoIterator<Item = &'a Path>) -> OsString {
    let mut text = name.as_bytes().to_vec();
    for (index, path) in paths.into_iter().enumerate() {
        if index > 0 {
            text.push(b' ');
        }
        text.extend(quoted(path.as_os_str()));
    }
    OsString::from_vec(text)
}

fn quoted(path: &OsStr) -> Vec<u8> {
    let needs_quotes = path.as_bytes().iter().any(|byte| byte.is_ascii_whitespace() || b"\"'\\#".contains(byte));
    let mut text = Vec::new();
    text.extend(needs_quotes.then_some(b'"'));
    for &byte in path.as_bytes() {
        match byte {
            b'%' => text.extend(b"%%"),
            b'"' | b'\\' if needs_quotes => text.extend([b'\\', byte]),
            _ => text.push(byte),
        }
    }
    text.extend(needs_quotes.then_some(b'"'));
    text
}
