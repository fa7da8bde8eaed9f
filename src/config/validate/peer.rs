//! The keys that name a peer, wherever one is named.

use std::path::PathBuf;

use super::own_path;
use crate::config::context::Report;
use crate::config::fields::{self, Fields, quoted};
use crate::config::model::Peer;
use crate::config::raw::{Node, Value};
use crate::config::value;

/// The default port of sshd.
const SSH_PORT: u16 = 22;

/// Whether a job, a lock file or a block is on a peer. One whose `type` is missing or wrong, for which it will be asked, is
/// judged by what it looks like, so that its other keys are judged rightly.
pub(super) fn is_remote(node: &Node) -> bool {
    match fields::peek_text(node, "type") {
        Some(text) if place(text).is_some() => text.eq_ignore_ascii_case("remote"),
        _ => fields::peek(node, "host").is_some_and(|host| host.value != Value::Null),
    }
}

/// `Some` for either word, in any case, as 1.x took it.
pub(super) fn place(text: &str) -> Option<()> {
    (text.eq_ignore_ascii_case("local") || text.eq_ignore_ascii_case("remote")).then_some(())
}

/// Reads `user`, `host`, `port`, and the key under either of its names.
pub(super) fn peer(fields: &Fields<'_>) -> Option<Peer> {
    let host = host(fields);
    let user = user(fields);
    let port = match fields.get("port") {
        Some(_) => fields.read("port", "a port, 1 to 65535", value::port),
        None => Some(SSH_PORT),
    };
    let private_key = private_key(fields);
    Some(Peer { user: user?, host: host?, port: port?, private_key: private_key? })
}

fn host(fields: &Fields<'_>) -> Option<String> {
    let (node, host) = fields.require_text("host")?;
    let reject = |help: String| {
        let report = Report::error(format!("{} must be a host name or an IP address", fields.key("host")));
        fields.ctx.report(node.span.clone(), report.label(format!("found {}", quoted(host))).help(help));
        None
    };
    if let Some((user, host)) = host.split_once('@') {
        return reject(format!("write `user: {user}` and `host: {host}`"));
    }
    if let Some((host, port)) = host.split_once(':').filter(|(_, port)| value::port(port).is_some()) {
        return reject(format!("write `host: {host}` and `port: {port}`"));
    }
    if host.starts_with('-') || !host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%')) {
        return reject("letters, digits, `.`, `-`, `_`; an IPv6 address without brackets".to_owned());
    }
    Some(host.to_owned())
}

/// The login name there; by default the name of the user who runs the director, as with 1.x.
fn user(fields: &Fields<'_>) -> Option<String> {
    if fields.get("user").is_none() {
        let names = ["LOGNAME", "USER"].iter().filter_map(|name| fields.ctx.env(name)?.into_string().ok());
        let user = names.into_iter().find(|name| !name.is_empty());
        if user.is_none() {
            let help = "the default is the user who runs rsyncdirector, whose name cannot be found out".to_owned();
            fields.missing("user", Some(help));
        }
        return user;
    }
    let (node, user) = fields.text("user")?;
    if user.starts_with('-') || user.chars().any(|c| c.is_control() || c.is_whitespace() || c == '/') {
        fields.wrong("user", node, "a login name");
        return None;
    }
    Some(user.to_owned())
}

/// The key under either of its names. The outer `None` is an error.
fn private_key(fields: &Fields<'_>) -> Option<Option<PathBuf>> {
    let names = ["private_ssh_key", "private_key_path"];
    let [first, second] = names.map(|name| fields.get(name).map(|_| (name, fields.text(name))));
    if let (Some((_, Some((_, first)))), Some((_, Some((node, second))))) = (&first, &second)
        && first != second
    {
        let report = Report::error("\"private_ssh_key\" and \"private_key_path\" are one key's two names");
        let help = "remove one of them".to_owned();
        fields.ctx.report(node.span.clone(), report.label("differs from the other").help(help));
    }
    match first.or(second) {
        None => Some(None),
        Some((name, text)) => {
            let (node, text) = text?;
            own_path(fields, name, node, text).map(Some)
        }
    }
}
