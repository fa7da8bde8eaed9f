//! Markup that nobody's text can break out of.
//!
//! [`Html`] grows by pieces of markup that stand in this program's source (`&'static str`) and by values, which are escaped
//! on their way in. There is no way to add a text of run time as markup, so a file named `<script>` is a file named so.

use std::fmt::{Display, Write};

use crate::logging::escaped;

/// A piece of a page.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Html {
    text: String,
    live: Vec<Live>,
}

/// A part of a page that may change while someone looks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Live {
    id: String,
    start: usize,
    end: usize,
}

/// What may stand for a `{}` in markup.
pub trait Value {
    /// Adds itself, harmless.
    fn add(&self, to: &mut Html);
}

/// Appends markup to an [`Html`]; each `{}` in it stands for one value, which is escaped. Attributes must be in double quotes.
macro_rules! put {
    ($to:expr, $markup:literal $(, $value:expr)* $(,)?) => {
        $to.put($markup, &[$(&$value as &dyn $crate::page::html::Value),*])
    };
}
pub(crate) use put;

impl Html {
    /// The markup.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The markup, no more to be added to.
    pub fn into_string(self) -> String {
        self.text
    }

    /// What the macro `put` calls: each `{}` in the markup stands for one value, in order.
    pub fn put(&mut self, markup: &'static str, values: &[&dyn Value]) {
        let mut pieces = markup.split("{}");
        self.text.push_str(pieces.next().unwrap_or_default());
        let mut values = values.iter();
        for piece in pieces {
            if let Some(value) = values.next() {
                value.add(self);
            }
            self.text.push_str(piece);
        }
        debug_assert!(values.next().is_none(), "a value without its place in {markup:?}");
    }

    /// Adds what may change while someone looks: the content of the element that `open` begins and whose `id` this is.
    pub fn live(&mut self, id: &str, content: impl FnOnce(&mut Self)) {
        let start = self.text.len();
        content(self);
        self.live.push(Live { id: id.to_owned(), start, end: self.text.len() });
    }

    /// The parts that may change: the element's id and its content.
    pub fn live_parts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.live.iter().map(|live| (live.id.as_str(), &self.text[live.start..live.end]))
    }

    fn escape(&mut self, text: &str) {
        for c in escaped(text).chars() {
            match c {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '"' => self.text.push_str("&quot;"),
                '\'' => self.text.push_str("&#39;"),
                c => self.text.push(c),
            }
        }
    }
}

impl Value for str {
    fn add(&self, to: &mut Html) {
        to.escape(self);
    }
}

impl Value for &str {
    fn add(&self, to: &mut Html) {
        to.escape(self);
    }
}

impl Value for String {
    fn add(&self, to: &mut Html) {
        to.escape(self);
    }
}

/// Markup in markup.
impl Value for Html {
    fn add(&self, to: &mut Html) {
        let offset = to.text.len();
        to.text.push_str(&self.text);
        let moved = |live: &Live| Live { id: live.id.clone(), start: live.start + offset, end: live.end + offset };
        to.live.extend(self.live.iter().map(moved));
    }
}

macro_rules! plain {
    ($($number:ty)*) => {$(
        impl Value for $number {
            fn add(&self, to: &mut Html) {
                let _ = write!(to.text, "{self}");
            }
        }
    )*};
}
plain!(u8 u32 u64 usize i64);

/// A number with one decimal, for a coordinate.
#[derive(Debug, Clone, Copy)]
pub struct Decimal(pub f64);

impl Value for Decimal {
    fn add(&self, to: &mut Html) {
        let _ = write!(to.text, "{:.1}", self.0);
    }
}

/// Anything that displays itself, escaped.
pub struct Shown<T>(pub T);

impl<T: Display> Value for Shown<T> {
    fn add(&self, to: &mut Html) {
        to.escape(&self.0.to_string());
    }
}

/// A name as one segment of a path (RFC 3986): all but unreserved characters percent-encoded.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a>(pub &'a str);

impl Value for Segment<'_> {
    fn add(&self, to: &mut Html) {
        // A client would take these away, even encoded; no name begins with a blank, so it can be told from one.
        if matches!(self.0, "." | "..") {
            to.text.push_str("%20");
        }
        percent_encode(self.0, &mut to.text);
    }
}

/// A text as the value of a parameter in a query, in which it is safe to stand: all but unreserved characters percent-encoded.
#[derive(Debug, Clone, Copy)]
pub struct Parameter<'a>(pub &'a str);

impl Value for Parameter<'_> {
    fn add(&self, to: &mut Html) {
        percent_encode(self.0, &mut to.text);
    }
}

fn percent_encode(text: &str, to: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => to.push(char::from(byte)),
            _ => {
                let _ = write!(to, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &dyn Value, expected: &str) {
        let mut html = Html::default();
        html.put("<a title=\"{}\">", &[value]);
        assert_eq!(html.as_str(), format!("<a title=\"{expected}\">"));
    }

    #[test]
    fn values_are_escaped_and_markup_is_not() {
        check(&"<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;");
        check(&"\" onload='x' &amp;", "&quot; onload=&#39;x&#39; &amp;amp;");
        check(&"a{}b", "a{}b");
        check(&"two\nlines \u{1b}[31m \u{202e}x", "two\\nlines \\x1b[31m \\u{202e}x");
        check(&7_u64, "7");
        check(&Segment("a b/c?d#e%f<ä"), "a%20b%2Fc%3Fd%23e%25f%3C%C3%A4");
        let mut inner = Html::default();
        put!(inner, "<b>{}</b>", "&");
        check(&inner, "<b>&amp;</b>");
    }

    #[test]
    fn what_may_change_is_known_by_its_place_also_inside_of_other_markup() {
        let mut inner = Html::default();
        inner.live("a", |html| put!(html, "<i>{}</i>", "ä"));
        let mut outer = Html::default();
        put!(outer, "<p>{}</p>", inner);
        assert_eq!(outer.live_parts().collect::<Vec<_>>(), [("a", "<i>ä</i>")]);
    }
}
