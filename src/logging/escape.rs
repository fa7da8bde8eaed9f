//! Makes bytes from outside fit for a log line, a terminal and a table.
//!
//! Escaped are control characters (C0, DEL, C1), the Unicode marks that reorder or break a line, and bytes that are not
//! UTF-8: `\n`, `\r`, `\x1b`, `\u{202e}`, `\xff`. A tab stays; a backslash stays, so this is for reading and cannot be
//! undone.

use std::borrow::Cow;
use std::io::Write as _;

/// `text` with what could harm a terminal or break a line escaped.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if is_clean(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len() + 16);
    escape_into(&mut out, text.as_bytes());
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// The same for bytes, which need not be UTF-8.
pub fn escaped_bytes(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    escape_into(&mut out, bytes);
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether nothing in `bytes` needs escaping; line feeds and carriage returns count as in need of it.
pub(super) fn is_clean(bytes: &[u8]) -> bool {
    no_control(bytes, |b| b == b'\t') && clean_beyond_ascii(bytes)
}

/// Whether nothing within the lines of `bytes` needs escaping; line feeds and carriage returns are their ends.
pub(super) fn are_clean_lines(bytes: &[u8]) -> bool {
    no_control(bytes, |b| matches!(b, b'\t' | b'\n' | b'\r')) && clean_beyond_ascii(bytes)
}

/// Without a branch in the loop, so that it becomes vector code.
fn no_control(bytes: &[u8], allowed: impl Fn(u8) -> bool) -> bool {
    !bytes.iter().fold(false, |found, &b| found | (((b < 0x20) | (b == 0x7f)) & !allowed(b)))
}

fn clean_beyond_ascii(bytes: &[u8]) -> bool {
    bytes.is_ascii() || std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(is_harmful_beyond_ascii))
}

/// C1 controls (U+009B starts an escape sequence), line and paragraph separators, and the marks that reorder text.
fn is_harmful_beyond_ascii(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends `bytes`, escaped; what is appended is UTF-8.
pub(super) fn escape_into(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            escape_char(out, c);
        }
        for byte in chunk.invalid() {
            push(out, format_args!("\\x{byte:02x}"));
        }
    }
}

fn escape_char(out: &mut Vec<u8>, c: char) {
    match c {
        '\t' => out.push(b'\t'),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\0'..='\x1f' | '\x7f' => push(out, format_args!("\\x{:02x}", u32::from(c))),
        c if is_harmful_beyond_ascii(c) => push(out, format_args!("\\u{{{:x}}}", u32::from(c))),
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let mut out = Vec::new();
        escape_into(&mut out, bytes);
        assert_eq!(String::from_utf8(out).expect("escaped text is UTF-8"), expected);
        assert_eq!(is_clean(bytes), bytes == expected.as_bytes(), "the fast check disagrees on {bytes:?}");
    }

    #[test]
    fn what_is_harmful_is_escaped_and_nothing_else() {
        check(b"plain 100% text", "plain 100% text");
        check("naïve 日本語 ✓".as_bytes(), "naïve 日本語 ✓");
        check(b"a\tb", "a\tb");
        check(b"back\\slash \\#012", "back\\slash \\#012");
        check(b"\x1b[31mred\x07", "\\x1b[31mred\\x07");
        check(b"two\nlines\r", "two\\nlines\\r");
        check(b"\0\x7f", "\\x00\\x7f");
        check("\u{9b}2J".as_bytes(), "\\u{9b}2J");
        check("gpj\u{202e}.exe\u{2028}x\u{2066}".as_bytes(), "gpj\\u{202e}.exe\\u{2028}x\\u{2066}");
        check(b"latin1 caf\xe9!", "latin1 caf\\xe9!");
        check(b"cut \xe6\x97", "cut \\xe6\\x97");
        check(b"", "");
    }

    #[test]
    fn line_ends_are_no_harm_in_a_chunk_of_lines() {
        assert!(are_clean_lines(b"one\ntwo\r\nthree\r"));
        assert!(!are_clean_lines(b"one\n\x1b[0m\n"));
        assert!(!are_clean_lines(b"one\n\xff\n"));
    }
}
