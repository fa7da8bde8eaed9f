//! Texts with places for what a notification tells: `{"text": "{job} failed: {detail}"}`. Pure.
//!
//! A place is a name in braces. Any other brace is itself, since the texts are JSON: there a brace is followed by a quote, a blank or a
//! brace, never by a letter. So `{` before a letter must begin a place that exists; everything else is an error with its position.

use std::fmt::Write as _;
use std::ops::Range;

/// What a notification tells, by the name of its place.
pub const NAMES: [&str; 14] = [
    "title",
    "event",
    "instance",
    "host",
    "job",
    "run",
    "trigger",
    "outcome",
    "reason",
    "detail",
    "duration_seconds",
    "stderr",
    "next_run",
    "at",
];

/// Names whose values are numbers, 0 where there is none: they may stand outside of quotes.
const NUMBERS: [&str; 2] = ["run", "duration_seconds"];

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(&'static str),
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// Which bytes of the text are at fault.
    pub span: Range<usize>,
    /// The name that there is not; `None` when the text is at fault otherwise.
    pub unknown: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl Template {
    /// Reads the template of a JSON text.
    ///
    /// # Errors
    /// A place that there is not or that has no end, and a text that does not become JSON.
    pub fn json(text: &str) -> Result<Self, TemplateError> {
        let template = Self::parse(text)?;
        // Values that show a place outside of quotes, too.
        let filled = template.fill(|name| if NUMBERS.contains(&name) { "0".into() } else { "a \"b\"\n".into() });
        match serde_json::from_str::<serde_json::Value>(&filled) {
            Ok(_) => Ok(template),
            Err(error) => {
                let message = format!("this does not become JSON: {error}");
                Err(TemplateError { span: 0..text.len(), unknown: None, message })
            }
        }
    }

    fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let (mut plain, mut from) = (0, 0);
        while let Some(open) = text[from..].find('{').map(|at| from + at) {
            from = open + 1;
            if !text[from..].starts_with(|c: char| c.is_ascii_alphabetic()) {
                continue;
            }
            let name_len = text[from..].find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
            let end = name_len.map_or(text.len(), |len| from + len);
            let name = &text[from..end];
            if !text[end..].starts_with('}') {
                let message = format!("the place `{{{name}` has no end: `}}` must follow the name");
                return Err(TemplateError { span: open..end, unknown: None, message });
            }
            let Some(known) = NAMES.iter().find(|known| **known == name) else {
                let message = format!("there is no place `{{{name}}}`");
                return Err(TemplateError { span: open..end + 1, unknown: Some(name.to_owned()), message });
            };
            parts.push(Part::Text(text[plain..open].to_owned()));
            parts.push(Part::Place(known));
            (plain, from) = (end + 1, end + 1);
        }
        parts.push(Part::Text(text[plain..].to_owned()));
        Ok(Self(parts))
    }

    /// The JSON text with every place taken by its value, escaped as within a JSON string.
    pub fn fill(&self, value: impl Fn(&str) -> String) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out += text,
                Part::Place(name) => escape(&value(name), &mut out),
            }
        }
        out
    }
}

/// RFC 8259, section 7.
fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => *out += "\\n",
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let template = Template::json(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let value = |name: &str| if name == "run" { "7".to_owned() } else { format!("<{name}> \"\\\n\u{1}") };
        assert_eq!(template.fill(value), expected, "{text}");
    }

    #[test]
    fn places_are_filled_and_other_braces_stay() {
        check(r#"{"a": {"b": {}}, "c": "{}"}"#, r#"{"a": {"b": {}}, "c": "{}"}"#);
        check(r#"{"r": {run}, "s": "{run}"}"#, r#"{"r": 7, "s": "7"}"#);
        check(r#"["{job}"]"#, r#"["<job> \"\\\n\u0001"]"#);
        check("\"ü{ {{}\"", "\"ü{ {{}\"");
    }

    #[track_caller]
    fn check_wrong(text: &str, at: &str, message: &str) {
        let error = Template::json(text).expect_err(text);
        assert_eq!(&text[error.span.clone()], at, "{error:?}");
        assert!(error.message.contains(message), "{error:?}");
    }

    #[test]
    fn what_is_wrong_is_shown_where_it_is() {
        check_wrong(r#"{"a": "{jbo}"}"#, "{jbo}", "no place `{jbo}`");
        check_wrong(r#"{"a": "{job"}"#, "{job", "has no end");
        check_wrong(r#"{"a": "{job: x}"}"#, "{job", "has no end");
        check_wrong(r#"{"a": {job}}"#, r#"{"a": {job}}"#, "does not become JSON");
        check_wrong("job", "job", "does not become JSON");
        check_wrong("{ü}", "{ü}", "does not become JSON");
    }

    #[test]
    fn every_name_is_one() {
        for name in NAMES {
            check_filled(name);
        }
    }

    fn check_filled(name: &str) {
        let template = Template::json(&format!("\"{{{name}}}\"")).expect(name);
        assert_eq!(template.fill(str::to_owned), format!("\"{name}\""));
    }
}
