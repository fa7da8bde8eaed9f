//! The keys that name a peer, wherever one is named.

use std::path::PathBuf;

use super::own_path;
use super::reach::{self, Said, Site};
use crate::config::context::Report;
use crate::config::fields::{self, Fields, quoted};
use crate::config::model::{Carrier, Peer};
use crate::config::raw::{Node, Value};
use crate::config::ssh_config::jump::{self, Jump};
use crate::config::value;

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

/// Reads the keys of a peer, which is reached by `by`.
pub(super) fn peer(fields: &Fields<'_>, by: Carrier) -> Option<Peer> {
    let host = host(fields);
    let user = user(fields);
    let port = match fields.get("port") {
        Some(_) => fields.read("port", "a port, 1 to 65535", value::port).map(Some),
        None => Some(None),
    };
    let private_key = private_key(fields);
    let way = way(fields);
    let said = Said { user: user?, host: host?, port: port?, private_key: private_key?, way: way? };
    let node = fields.get("host")?;
    Site { ctx: fields.ctx, node, by, local_user: reach::local_user(fields.ctx) }.peer(said)
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
    if !value::is_host(host) {
        return reject("letters, digits, `.`, `-`, `_`; an IPv6 address without brackets".to_owned());
    }
    Some(host.to_owned())
}

/// The login name there, if the configuration says it; by default what ssh_config(5) says, else the name of the user who runs the director,
/// as with 1.x. The outer `None` is an error.
fn user(fields: &Fields<'_>) -> Option<Option<String>> {
    if fields.get("user").is_none() {
        return Some(None);
    }
    let (node, user) = fields.text("user")?;
    if !value::is_login_name(user) {
        fields.wrong("user", node, "a login name");
        return None;
    }
    Some(Some(user.to_owned()))
}

/// The hosts of `proxy_jump`, none of them for `none`. The outer `None` is an error.
fn way(fields: &Fields<'_>) -> Option<Option<Vec<Jump>>> {
    const EXPECTED: &str = "hosts to jump by, as \"bastion\" or \"[user@]host[:port]\", or \"none\"";
    let Some(nodes) = fields.one_or_list("proxy_jump") else { return Some(None) };
    if let [node] = nodes
        && matches!(&node.value, Value::Scalar(text) if text.eq_ignore_ascii_case("none"))
    {
        return Some(Some(Vec::new()));
    }
    if nodes.is_empty() {
        fields.wrong("proxy_jump", fields.get("proxy_jump")?, EXPECTED);
        return None;
    }
    let several =
        |text: &str| jump::jumps(text).filter(|jumps| jumps.iter().all(|jump| !jump.host.eq_ignore_ascii_case("none")));
    let jumps: Vec<_> = nodes.iter().map(|node| fields.read_node("proxy_jump", node, EXPECTED, several)).collect();
    let jumps: Option<Vec<_>> = jumps.into_iter().collect();
    Some(Some(jumps?.concat()))
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
