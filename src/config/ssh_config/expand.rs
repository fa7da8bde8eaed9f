//! Tokens, variables and `~` in values of ssh_config(5).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What tokens stand for.
pub(in crate::config) struct Tokens<'a> {
    /// `%n`: the host as it was asked for.
    pub original: &'a str,
    /// `%h`: the host as it is called.
    pub host: &'a str,
    /// `%k`: the name under which its key is looked up.
    pub alias: &'a str,
    /// `%p`.
    pub port: u16,
    /// `%r`: the login name there.
    pub user: &'a str,
    /// `%u`: our name.
    pub local_user: &'a str,
    /// `%d`: our home.
    pub home: Option<&'a Path>,
    /// `%i`: our number.
    pub uid: u32,
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
}

/// The name to call, of `HostName`, which knows `%h` and `%%`. The error is what is wrong.
pub(in crate::config) fn host_name(text: &str, host: &str) -> Result<String, String> {
    replace(text, &|token| (token == 'h').then(|| host.to_owned()))
}

/// A path with `~`, tokens and `${NAME}` replaced. The error is what is wrong.
pub(in crate::config) fn path(text: &str, tokens: &Tokens<'_>) -> Result<PathBuf, String> {
    let home = || tokens.home.and_then(Path::to_str).map(str::to_owned);
    let text = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            home().ok_or("`~` cannot be replaced: HOME is not set")?.replace('%', "%%") + rest
        }
        Some(_) => return Err("`~user` is not followed: write the path from the root on".to_owned()),
        None => text.to_owned(),
    };
    let expanded = replace(&text, &|token| {
        Some(match token {
            'n' => tokens.original.to_owned(),
            'h' => tokens.host.to_owned(),
            'k' => tokens.alias.to_owned(),
            'p' => tokens.port.to_string(),
            'r' => tokens.user.to_owned(),
            'u' => tokens.local_user.to_owned(),
            'i' => tokens.uid.to_string(),
            'd' => return home(),
            _ => return None,
        })
    })?;
    variables(&expanded, tokens.env).map(PathBuf::from)
}

fn replace(text: &str, meaning: &dyn Fn(char) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('%') => out.push('%'),
            Some(token) => out.push_str(&meaning(token).ok_or_else(|| format!("`%{token}` is not followed here"))?),
            None => return Err("it ends in a `%`".to_owned()),
        }
    }
    Ok(out)
}

fn variables(text: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, tail) = after.split_once('}').ok_or("`${` without its `}`")?;
        let value = env(name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
        out.push_str(before);
        out.push_str(&value.into_string().map_err(|_| format!("the environment variable {name} is not UTF-8"))?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let env = |name: &str| (name == "KEYS").then(|| OsString::from("/k%h"));
        let tokens = Tokens {
            original: "nas",
            host: "nas.ex",
            alias: "nas-key",
            port: 22,
            user: "backup",
            local_user: "ann",
            home: Some(Path::new("/home/a%nn")),
            uid: 7,
            env: &env,
        };
        let found = path(text, &tokens);
        assert_eq!(found.as_deref().map_err(String::as_str), expected.map(Path::new), "{text}");
    }

    #[test]
    fn tokens_variables_and_the_home_are_replaced() {
        check("~/.ssh/%n-%h-%k-%p-%r-%u-%i%%", Ok("/home/a%nn/.ssh/nas-nas.ex-nas-key-22-backup-ann-7%"));
        check("%d/x", Ok("/home/a%nn/x"));
        check("${KEYS}/id", Ok("/k%h/id"));
        check("/a~/$KEYS", Ok("/a~/$KEYS"));
        check("~bob/x", Err("`~user` is not followed: write the path from the root on"));
        check("/%C", Err("`%C` is not followed here"));
        check("/x%", Err("it ends in a `%`"));
        check("/${NO}", Err("the environment variable NO is not set"));
        check("/${NO", Err("`${` without its `}`"));
        assert_eq!(host_name("%h.ex%%", "nas").as_deref(), Ok("nas.ex%"));
        assert!(host_name("%n", "nas").is_err());
    }
}
