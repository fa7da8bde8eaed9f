//! The same policy as arguments of the system's `ssh`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::native::{KEEPALIVE_INTERVAL, KEEPALIVE_MAX};
use crate::config::{HostKeyPolicy, Peer, SshPolicy};

/// The command line up to, not including, user and host.
pub(super) fn command(peer: &Peer, policy: &SshPolicy) -> Vec<OsString> {
    let mut argv: Vec<OsString> = vec!["ssh".into(), "-p".into(), peer.port.to_string().into()];
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
    option(match policy.known_hosts.is_empty() {
        true => "UserKnownHostsFile=/dev/null".into(),
        false => file_option("UserKnownHostsFile=", policy.known_hosts.iter().map(|path| path.as_path())),
    });
    option("GlobalKnownHostsFile=/dev/null".into());
    option(format!("ConnectTimeout={}", policy.connect_timeout.as_secs_f64().ceil().max(1.0)).into());
    option(format!("ServerAliveInterval={}", KEEPALIVE_INTERVAL.as_secs()).into());
    option(format!("ServerAliveCountMax={KEEPALIVE_MAX}").into());
    option("Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com".into());
    argv
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
