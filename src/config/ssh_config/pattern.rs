//! Patterns of hosts and users (ssh_config(5), PATTERNS).

/// Whether a text fits a pattern: `*` is any number of characters, `?` exactly one. In time proportional to the product of their lengths.
pub(super) fn fits(text: &str, pattern: &str) -> bool {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let (mut at, mut in_pattern) = (0, 0);
    // Where to go on after a mismatch: behind the last star, with one more byte given to it.
    let mut retry = None;
    while at < text.len() {
        match pattern.get(in_pattern) {
            Some(b'*') => {
                in_pattern += 1;
                retry = Some((at, in_pattern));
            }
            Some(&byte) if byte == b'?' || byte == text[at] => {
                at += 1;
                in_pattern += 1;
            }
            _ => {
                let Some((given, behind)) = retry else { return false };
                retry = Some((given + 1, behind));
                (at, in_pattern) = (given + 1, behind);
            }
        }
    }
    pattern[in_pattern..].iter().all(|&byte| byte == b'*')
}

/// Whether a text fits one of a list with commas between, and none that stands behind a `!`.
pub(super) fn fits_list(text: &str, list: &str) -> bool {
    let mut fits_one = false;
    for pattern in list.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if fits(text, pattern) => return false,
            Some(_) => {}
            None => fits_one |= fits(text, pattern),
        }
    }
    fits_one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_in_ssh() {
        for (text, pattern) in [("a", "*"), ("", "*"), ("abc", "a*c"), ("abc", "a?c"), ("aabab", "*ab"), ("ab", "**b*")]
        {
            assert!(fits(text, pattern), "{text} {pattern}");
        }
        for (text, pattern) in [("a", ""), ("abc", "a?"), ("A", "a"), ("abc", "*b"), ("a", "a?"), ("[a]", "[a-z]")] {
            assert!(!fits(text, pattern), "{text} {pattern}");
        }
        assert!(!fits(&"a".repeat(5000), &("a*".repeat(50) + "b")));
        assert!(fits_list("web1", "db*,web*") && !fits_list("web1", "web*,!web1") && !fits_list("web1", "!db*"));
    }
}
