//! The words of a command line as rsync sends it for the other side's shell.
//!
//! Since 3.2.4 rsync puts a backslash before whatever a shell would take for its own (its options.c, `safe_arg`), and leaves only what it
//! wants the shell to act on: wildcards and a leading `~`. So that is all that is understood here; any other character that means something to
//! a shell ends the matter, whether or not it would have been harmless.

use super::Refusal;

/// A word, and what a shell would have done to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// Its characters, without backslashes.
    pub text: Vec<u8>,
    /// The same as a pattern: wildcards that are meant as such, all others in brackets; `None` when there are none to expand.
    pub pattern: Option<Vec<u8>>,
    /// It begins with a `~` that means a home.
    pub tilde: bool,
}

impl Word {
    /// A word that is nothing but its characters.
    pub fn literal(text: &[u8]) -> Self {
        Self { text: text.to_vec(), ..Self::default() }
    }

    /// A path as rsync sends it by itself, without a shell in between (`--secluded-args`): a backslash only takes the meaning from a wildcard.
    pub fn secluded(text: &[u8]) -> Self {
        let mut word = Builder::default();
        let mut bytes = text.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            match (byte, bytes.peek()) {
                (b'\\', Some(&next)) if is_wild(next) => {
                    bytes.next();
                    word.push_literal(next);
                }
                _ => word.push(byte),
            }
        }
        word.finish()
    }
}

#[derive(Default)]
struct Builder {
    word: Word,
    pattern: Vec<u8>,
    is_pattern: bool,
}

impl Builder {
    fn push(&mut self, byte: u8) {
        self.is_pattern |= is_wild(byte) && byte != b']';
        self.word.text.push(byte);
        self.pattern.push(byte);
    }

    fn push_literal(&mut self, byte: u8) {
        self.word.text.push(byte);
        match byte {
            b'*' | b'?' | b'[' => self.pattern.extend_from_slice(&[b'[', byte, b']']),
            _ => self.pattern.push(byte),
        }
    }

    fn finish(self) -> Word {
        Word { pattern: self.is_pattern.then_some(self.pattern), ..self.word }
    }
}

fn is_wild(byte: u8) -> bool {
    matches!(byte, b'*' | b'?' | b'[' | b']')
}

/// The words of a command line.
///
/// # Errors
/// [`Refusal`] naming the first character that only a shell could make something of.
pub fn split(line: &[u8]) -> Result<Vec<Word>, Refusal> {
    let mut words = Vec::new();
    let mut word: Option<Builder> = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take().map(Builder::finish)),
            b'\\' => match bytes.next() {
                None | Some(b'\n' | 0) => return Err(Refusal::new("a backslash with nothing behind it")),
                Some(next) => word.get_or_insert_default().push_literal(next),
            },
            b'!' | b'#' | b'$' | b'&' | b';' | b'|' | b'<' | b'>' | b'(' | b')' | b'{' | b'}' | b'"' | b'\'' | b'`' => {
                let text = format!("no shell is behind this gate, and {:?} would need one", byte as char);
                return Err(Refusal::new(text)
                    .with_hint("rsync before 3.2.4, or --old-args, leaves such characters to a shell"));
            }
            b'\n' | 0 => return Err(Refusal::new("a line break or NUL in a command line")),
            b'~' if word.is_none() => {
                let started = word.get_or_insert_default();
                started.word.tilde = true;
                started.push(b'~');
            }
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word.take().map(Builder::finish));
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        let words = split(line.as_bytes()).expect("understood");
        words.into_iter().map(|word| String::from_utf8(word.text).expect("text")).collect()
    }

    fn check_refused(line: &str) {
        let refusal = split(line.as_bytes()).expect_err(line).to_string();
        assert!(refusal.contains("shell") || refusal.contains("backslash") || refusal.contains("break"), "{refusal}");
    }

    #[test]
    fn backslashes_take_the_meaning_from_characters() {
        assert_eq!(texts(r"rsync --server . /a\ b/\$\(id\)\;c"), ["rsync", "--server", ".", "/a b/$(id);c"]);
        assert_eq!(texts("  a \t b  "), ["a", "b"]);
        assert_eq!(texts(""), [""; 0]);
    }

    #[test]
    fn what_only_a_shell_understands_is_refused() {
        for line in
            ["a;b", "a|b", "a&b", "$(a)", "`a`", "a>b", "a<b", "'a'", "\"a\"", "{a,b}", "a#", "a!", "(a)", "a\nb"]
        {
            check_refused(line);
        }
        check_refused("a\\");
        check_refused("a\\\nb");
        check_refused("a\0b");
    }

    #[test]
    fn wildcards_are_patterns_unless_they_are_quoted() {
        let words = split(br"/a/*.c /a/\*.c /a/\[x]*").expect("understood");
        assert_eq!(words[0].pattern.as_deref(), Some(&b"/a/*.c"[..]));
        assert_eq!((words[1].pattern.as_deref(), &words[1].text[..]), (None, &b"/a/*.c"[..]));
        assert_eq!(words[2].pattern.as_deref(), Some(&b"/a/[[]x]*"[..]));
    }

    #[test]
    fn only_a_bare_tilde_in_front_means_a_home() {
        let words = split(br"~/x \~/x a~").expect("understood");
        assert_eq!(words.iter().map(|word| word.tilde).collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn what_rsync_sends_by_itself_may_hold_anything() {
        let word = Word::secluded(b"/a\n;$(id)'\\*\\x*");
        assert_eq!(word.text, b"/a\n;$(id)'*\\x*");
        assert_eq!(word.pattern.as_deref(), Some(&b"/a\n;$(id)'[*]\\x*"[..]));
    }
}
