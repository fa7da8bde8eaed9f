//! `[user@]host[:port]`: the hosts of `ProxyJump` and `proxy_jump`.

use crate::config::value;

/// A host on the way to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Jump {
    pub user: Option<String>,
    /// As written, an IPv6 address without its brackets.
    pub host: String,
    pub port: Option<u16>,
}

/// Hosts with commas between, the first to be connected to first. `None` if one of them is none.
pub(in crate::config) fn jumps(text: &str) -> Option<Vec<Jump>> {
    text.split(',').map(jump).collect()
}

/// One host; also as `ssh://[user@]host[:port]`.
fn jump(text: &str) -> Option<Jump> {
    let text = text.trim();
    let text = text.strip_prefix("ssh://").map_or(text, |rest| rest.strip_suffix('/').unwrap_or(rest));
    let (user, place) = match text.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, text),
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            match after {
                "" => (host, None),
                after => (host, Some(after.strip_prefix(':')?)),
            }
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = match port {
        Some(port) => Some(value::port(port)?),
        None => None,
    };
    (value::is_host(host) && user.is_none_or(value::is_login_name)).then(|| Jump {
        user: user.map(str::to_owned),
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each host as `user host port`, with a dash for what is not given; nothing when the text is refused.
    fn check(text: &str, expected: &[&str]) {
        let shown = |Jump { user, host, port }: Jump| {
            let port = port.map_or("-".to_owned(), |port| port.to_string());
            format!("{} {host} {port}", user.as_deref().unwrap_or("-"))
        };
        let found: Vec<_> = jumps(text).into_iter().flatten().map(shown).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn hosts_on_the_way() {
        check("a", &["- a -"]);
        check("ann@a:2222", &["ann a 2222"]);
        check("a, b@[::1]:22,[fe80::1%eth0]", &["- a -", "b ::1 22", "- fe80::1%eth0 -"]);
        check("ann@corp@a", &["ann@corp a -"]);
        check("ssh://ann@a:22/", &["ann a 22"]);
        let wrong = ["", "a,", "@a", "a:", "a:0", "a:x", "-oX", "ann@-a", "a b", "[::1", "[::1]x", "a;b", "-x@a", "x$"];
        wrong.iter().for_each(|text| check(text, &[]));
    }
}
