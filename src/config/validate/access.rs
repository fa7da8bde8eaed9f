//! `metrics.auth` and `metrics.tls`: who may read what the listener serves, and by HTTPS.

use std::net::IpAddr;

use super::own_path;
use crate::config::context::Report;
use crate::config::fields::Fields;
use crate::config::keys;
use crate::config::model::{Credentials, Password, SecretFile, Tls};

/// The names of what tells a password or a token.
const SECRETS: [&str; 5] =
    ["password_file", "password_credential", "password_hash", "bearer_file", "bearer_credential"];

/// What is said of access.
#[derive(Default)]
pub(super) struct Access {
    pub page_auth: Option<Credentials>,
    pub metrics_auth: Option<Credentials>,
    pub tls: Option<Tls>,
}

/// Reads it. What is wrong is reported, so that the configuration is of no use.
pub(super) fn access(metrics: &Fields<'_>, addr: IpAddr) -> Access {
    let tls = tls(metrics);
    let Some(node) = metrics.get("auth") else { return Access { tls, ..Access::default() } };
    let Some(auth) = Fields::open(metrics.ctx, node, &keys::AUTH, "`auth`".to_owned()) else {
        return Access::default();
    };
    let access = Access { page_auth: credentials(&auth, "page"), metrics_auth: credentials(&auth, "metrics"), tls };
    if !addr.is_loopback() && metrics.get("tls").is_none() {
        let report = Report::warning("passwords and tokens are readable on the network: there is no `tls`");
        let help = "set `metrics.tls`, or `addr: 127.0.0.1` for a proxy on this host that speaks HTTPS".to_owned();
        metrics.ctx.report(node.span.clone(), report.help(help));
    }
    access
}

fn tls(metrics: &Fields<'_>) -> Option<Tls> {
    let node = metrics.get("tls")?;
    let fields = Fields::open(metrics.ctx, node, &keys::TLS, "`tls`".to_owned())?;
    let path = |key| {
        let (node, text) = fields.require_text(key)?;
        own_path(&fields, key, node, text)
    };
    let (cert, key) = (path("cert"), path("key"));
    Some(Tls { cert: cert?, key: key? })
}

fn credentials(auth: &Fields<'_>, of: &str) -> Option<Credentials> {
    let node = auth.get(of)?;
    let fields = Fields::open(auth.ctx, node, &keys::CREDENTIALS, format!("`{of}`"))?;
    let user = user(&fields);
    let said: Vec<&str> = SECRETS.into_iter().filter(|key| fields.get(key).is_some()).collect();
    // All are read, so that each says what is wrong with it.
    let found: Vec<_> = said.iter().map(|key| secret(&fields, key)).collect();
    let wrong = |message: String, help: &str| {
        fields.ctx.report(node.span.clone(), Report::error(message).help(help.to_owned()));
        None
    };
    let example = "write for example `{user: ann, password_file: /etc/rsyncdirector/password}` or \
                   `{bearer_file: /etc/rsyncdirector/token}`";
    let (key, password) = match (said.as_slice(), found.into_iter().next()) {
        ([key], Some(found)) => (*key, found?),
        ([], _) => return wrong(format!("{} names no password and no token", fields.name), example),
        _ => return wrong(format!("{} names more than one password or token", fields.name), "leave one of them"),
    };
    match (fields.get("user"), password) {
        (None, Password::Secret(secret)) if key.starts_with("bearer") => Some(Credentials::Bearer(secret)),
        (None, _) => wrong(format!("{} has a password and no user", fields.name), "add `user`"),
        (Some(_), _) if key.starts_with("bearer") => {
            wrong(format!("{} has a token, to which no user belongs", fields.name), "remove `user`")
        }
        (Some(_), password) => Some(Credentials::Basic { user: user?, password }),
    }
}

fn user(fields: &Fields<'_>) -> Option<String> {
    fields.read("user", "a name without a colon", |text| {
        (!text.is_empty() && !text.contains(':')).then(|| text.to_owned())
    })
}

fn secret(fields: &Fields<'_>, key: &str) -> Option<Password> {
    let (node, text) = fields.text(key)?;
    if key == "password_hash" {
        let is_hash = ["$5$", "$6$"].iter().any(|id| text.starts_with(id)) && text.matches('$').count() >= 3;
        if !is_hash {
            let report = Report::error(format!("{} must be a hash as `openssl passwd -6` prints it", fields.key(key)));
            fields.ctx.report(node.span.clone(), report);
        }
        return is_hash.then(|| Password::Hash(text.to_owned()));
    }
    if key.ends_with("_credential") {
        let name = |text: &str| (!text.is_empty() && !text.contains('/')).then(|| text.to_owned());
        let name = fields.read_node(key, node, "the name of a credential", name)?;
        return Some(Password::Secret(SecretFile::Credential(name)));
    }
    own_path(fields, key, node, text).map(|path| Password::Secret(SecretFile::File(path)))
}
