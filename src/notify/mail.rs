//! A notice as a message of RFC 5322: plain text in UTF-8, quoted-printable. Pure.
//!
//! Nothing that a job is named or prints can become a header: what goes into one loses its control characters, and what is not ASCII is
//! encoded (RFC 2047).

use std::fmt::Write as _;

use jiff::fmt::rfc2822;

use super::notice::Notice;
use crate::config::Mail;

/// The longest line of a quoted-printable text (RFC 2045, section 6.7), without its end.
const LINE_MAX: usize = 76;
/// Bytes of text in one encoded word, which may have 75 characters in all (RFC 2047, section 2).
const WORD_MAX: usize = 15;
/// Characters of a subject; more helps nobody, and a line may have 998 at most.
const SUBJECT_MAX: usize = 200;

/// The whole message, lines ending in `\n` as sendmail takes them.
pub(super) fn message(mail: &Mail, notice: &Notice, word: &str) -> String {
    let host: String = notice.host.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
    let from = mail.from.clone().unwrap_or_else(|| format!("rsyncdirector@{host}"));
    let date = rfc2822::to_string(&notice.at.to_zoned(jiff::tz::TimeZone::UTC)).unwrap_or_default();
    let mut message = String::new();
    let headers = [
        ("From", from),
        ("To", mail.to.join(",\n ")),
        ("Subject", header_text(&notice.title())),
        ("Date", date),
        ("Message-ID", format!("<{}.{word}@{host}>", notice.at.as_millisecond())),
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("MIME-Version", "1.0".to_owned()),
        ("Content-Type", "text/plain; charset=utf-8".to_owned()),
        ("Content-Transfer-Encoding", "quoted-printable".to_owned()),
    ];
    for (name, value) in headers {
        let _ = writeln!(message, "{name}: {value}");
    }
    message.push('\n');
    for line in notice.text().lines() {
        quoted_printable(line, &mut message);
        message.push('\n');
    }
    message
}

/// A text that can stand in a header.
fn header_text(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SUBJECT_MAX).collect();
    if text.is_ascii() && !text.contains("=?") {
        return text;
    }
    let mut words = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.floor_char_boundary(WORD_MAX));
        let encoded: String = word.bytes().map(|byte| format!("={byte:02X}")).collect();
        words.push(format!("=?utf-8?Q?{encoded}?="));
        rest = after;
    }
    words.join("\n ")
}

fn quoted_printable(line: &str, out: &mut String) {
    let mut width = 0;
    let bytes = line.as_bytes();
    for (index, &byte) in bytes.iter().enumerate() {
        let is_last = index + 1 == bytes.len();
        let plain = match byte {
            b'=' => false,
            b' ' | b'\t' => !is_last,
            byte => byte.is_ascii_graphic(),
        };
        let needs = if plain { 1 } else { 3 };
        // Room is left for the `=` of a soft end.
        if width + needs > LINE_MAX - 1 {
            *out += "=\n";
            width = 0;
        }
        width += needs;
        match plain {
            true => out.push(char::from(byte)),
            false => {
                let _ = write!(out, "={byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::notice::tests::notice;

    fn mail() -> Mail {
        Mail {
            to: vec!["root".into(), "Ann <ann@example.org>".into()],
            from: None,
            sendmail: "/usr/sbin/sendmail".into(),
        }
    }

    #[test]
    fn a_message_is_well_formed() {
        let text = message(&mail(), &notice(), "w");
        let (head, body) = text.split_once("\n\n").expect("a head");
        insta::assert_snapshot!(head, @r"
        From: rsyncdirector@nas
        To: root,
         Ann <ann@example.org>
        Subject: photos failed on nas (home)
        Date: Fri, 15 Jan 2027 08:00:00 +0000
        Message-ID: <1800000000000.w@nas>
        Auto-Submitted: auto-generated
        MIME-Version: 1.0
        Content-Type: text/plain; charset=utf-8
        Content-Transfer-Encoding: quoted-printable
        ");
        assert!(body.starts_with("photos failed on nas (home)\n\naction copy: exit code 23\n"), "{body}");
    }

    #[test]
    fn nothing_that_is_named_or_printed_becomes_a_header() {
        let evil = "x\r\nBcc: all@example.org\n\nhello";
        let notice = Notice {
            job: evil.into(),
            host: evil.into(),
            detail: Some(evil.into()),
            stderr: ".\n.\n".into(),
            ..notice()
        };
        let text = message(&mail(), &notice, "w");
        let (head, _) = text.split_once("\n\n").expect("a head");
        assert!(head.lines().all(|line| !line.starts_with("Bcc")), "{head}");
        assert_eq!(head.lines().filter(|line| !line.starts_with(' ')).count(), 9, "{head}");
    }

    #[test]
    fn no_line_is_too_long_and_all_is_ascii() {
        let long = "ä=".repeat(3000) + " ";
        let notice = Notice { job: long.clone(), detail: Some(long), ..notice() };
        let text = message(&mail(), &notice, "w");
        assert!(text.is_ascii());
        for line in text.lines() {
            assert!(line.len() <= LINE_MAX + 9 && !line.ends_with(' '), "{line}");
        }
        assert!(text.contains("Subject: =?utf-8?Q?=C3=A4=3D"), "{text}");
    }

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let mut out = String::new();
        quoted_printable(line, &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn lines_are_quoted() {
        check("a b=c", "a b=3Dc");
        check("blank ", "blank=20");
        check("ö\t", "=C3=B6=09");
        check(&"x".repeat(80), &format!("{}=\n{}", "x".repeat(75), "x".repeat(5)));
    }
}
