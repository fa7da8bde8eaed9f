//! Takes secrets out of a command line that people will read: in logs, in the history, on pages. Pure.
//!
//! What looks like a secret is taken for one: the value of an option or of an assignment whose name says so, the password in an URL, and an
//! authorization header. Names of files that hold secrets stay.

use std::borrow::Cow;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";
/// Parts of a name that say that its value is one.
const NAMES: [&str; 9] =
    ["password", "passwd", "passphrase", "secret", "token", "apikey", "api-key", "api_key", "credential"];

/// The same command line without them. It may be a shell's, or words quoted as for one.
pub fn command_line(text: &str) -> Cow<'_, str> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_value = false;
    while !rest.is_empty() {
        let blank = rest.len() - rest.trim_start().len();
        let (blanks, from_word) = rest.split_at(blank);
        let (word, after) = from_word.split_at(word_end(from_word));
        out += blanks;
        let hides = std::mem::take(&mut is_value) && !word.starts_with('-');
        out += &if hides { Cow::Borrowed(HIDDEN) } else { redacted(word) };
        is_value = is_secret_option(word);
        rest = after;
    }
    if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

/// An URL of which people need to know the host alone: paths of hooks are secrets.
pub fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return HIDDEN.to_owned() };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}/{HIDDEN}")
}

/// Where the first word ends, as a shell reads it.
fn word_end(text: &str) -> usize {
    let (mut quote, mut escaped) = (None, false);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (None | Some('"'), '\\') => escaped = true,
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            (None, _) if c.is_whitespace() => return index,
            _ => {}
        }
    }
    text.len()
}

/// `--token`, whose value is the next word.
fn is_secret_option(word: &str) -> bool {
    word.strip_prefix("--").is_some_and(|name| !name.contains('=') && is_secret(name))
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let names_a_place = ["file", "path", "dir", "command", "env"].iter().any(|end| name.ends_with(end));
    !names_a_place && NAMES.iter().any(|secret| name.contains(secret))
}

/// A word without its secret.
fn redacted(word: &str) -> Cow<'_, str> {
    let bare = word.trim_start_matches(['\'', '"']);
    if let Some((name, value)) = bare.split_once('=')
        && !value.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && is_secret(name.trim_start_matches('-'))
    {
        return format!("{}={HIDDEN}", name).into();
    }
    if let Some(at) = find(bare, "authorization:") {
        return format!("'{}: {HIDDEN}'", bare[..at + "authorization".len()].trim()).into();
    }
    without_password(word)
}

/// `https://ann:***@host/`.
fn without_password(word: &str) -> Cow<'_, str> {
    let Some(scheme) = word.find("://") else { return word.into() };
    let authority = scheme + 3;
    let end = word[authority..].find(['/', '?', '#', '\'', '"']).map_or(word.len(), |end| authority + end);
    let Some(at) = word[authority..end].rfind('@') else { return word.into() };
    match word[authority..authority + at].find(':') {
        Some(colon) => format!("{}{HIDDEN}{}", &word[..=authority + colon], &word[authority + at..]).into(),
        None => word.into(),
    }
}

fn find(text: &str, lower: &str) -> Option<usize> {
    text.to_ascii_lowercase().find(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(command_line(text), expected);
    }

    #[test]
    fn secrets_are_hidden() {
        check("RSYNC_PASSWORD=hunter2 rsync a b", "RSYNC_PASSWORD=*** rsync a b");
        check("tool --password=hunter2 x", "tool --password=*** x");
        check("tool --password='two words' x", "tool --password=*** x");
        check("tool --api-key hunter2 x", "tool --api-key *** x");
        check("tool '--token=a b' x", "tool --token=*** x");
        check("curl https://ann:hunter2@host/x?y=1", "curl https://ann:***@host/x?y=1");
        check("curl 'https://ann:p@ss@host/'", "curl 'https://ann:***@host/'");
        check("curl -H 'Authorization: Bearer abc' u", "curl -H 'Authorization: ***' u");
        check("echo \"x\" && GITHUB_TOKEN=\"a b\"  run", "echo \"x\" && GITHUB_TOKEN=***  run");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "rsync -a --password-file=/etc/rsync.secret --exclude=token a b",
            "rsync -a '/srv/secret = plans/' nas:/x",
            "tool --token --verbose",
            "curl https://host/a:b@c ssh://ann@host:22/",
            "echo it\\'s \"a = b\"",
            "",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn of_an_url_the_host_stays() {
        assert_eq!(url("https://ann:pw@hc-ping.com:8443/6f2c?x=1"), "https://hc-ping.com:8443/***");
        assert_eq!(url("http://host"), "http://host/***");
        assert_eq!(url("secret"), "***");
    }

    #[test]
    fn any_text_is_taken() {
        for text in ["'", "\"", "\\", "=", "--", "://", "://:@", "--token", "ä://ö:ü@ß", "\u{a0}x"] {
            command_line(text);
        }
    }
}
