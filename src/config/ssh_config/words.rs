//! A line of ssh_config(5) as words.

/// What separates words.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// The keyword, in lower case, and what follows it: blanks, at most one `=`, and the arguments. `None` for a line without one.
pub(super) fn keyword(line: &str) -> Option<(String, &str)> {
    let line =
        line.trim_end_matches(BLANKS).trim_end_matches(['\u{c}']).trim_end_matches(BLANKS).trim_start_matches(BLANKS);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c| BLANKS.contains(&c) || c == '=').unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(BLANKS);
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start_matches(BLANKS);
    Some((word.to_ascii_lowercase(), rest))
}

/// The arguments: words with quotes and escapes resolved, up to a comment. `None` if a quote is not closed.
///
/// Within quotes and without, a backslash escapes quotes and itself, without also a blank; any other is taken as it stands.
pub(super) fn arguments(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        match rest.peek() {
            None | Some('#') => return Some(words),
            Some(_) => {}
        }
        let (mut word, mut quote) = (String::new(), None);
        while let Some(c) = rest.next_if(|c| quote.is_some() || !matches!(c, ' ' | '\t')) {
            match (c, quote) {
                ('\\', _) => {
                    let escaped = rest.next_if(|&c| matches!(c, '\'' | '"' | '\\') || (quote.is_none() && c == ' '));
                    word.push(escaped.unwrap_or('\\'));
                }
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, _) => word.push(c),
            }
        }
        if quote.is_some() {
            return None;
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[&str]) {
        let (keyword, rest) = keyword(line).expect("a keyword");
        let words = arguments(rest).expect("closed quotes");
        assert_eq!([vec![keyword], words].concat(), expected, "{line:?}");
    }

    #[test]
    fn lines_are_split_as_ssh_does() {
        check("Host a b", &["host", "a", "b"]);
        check("\t HostName=a  ", &["hostname", "a"]);
        check("Port = 22 # sshd", &["port", "22"]);
        check("User \"a b\"c", &["user", "a bc"]);
        check("User 'a \"b\"'", &["user", "a \"b\""]);
        check(r#"User a\ b "c\"d" e\n 'f\ g'"#, &["user", "a b", "c\"d", "e\\n", "f\\ g"]);
        check("User a#b #c d", &["user", "a#b"]);
        check("User \"\"", &["user", ""]);
        check("User ==x", &["user", "=x"]);
        check("User x\r\n", &["user", "x"]);
        assert_eq!(keyword("  # x"), None);
        assert_eq!(keyword(" \t"), None);
        assert_eq!(arguments("\"a b"), None);
    }
}
