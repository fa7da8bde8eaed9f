//! What somebody wants to see of a replica's differences, as the query of a URL says it.
//!
//! A form sends text, and a path is bytes. So the parameter `dir` is a text that stands for bytes: what is no readable UTF-8 of it, and `%`, is
//! percent-encoded once more inside of it.

use std::fmt::Write;

use super::html::{Html, Parameter, Value, put};
use crate::verify::Class;
use crate::verify::store::Most;

/// The longest text that is searched for, characters.
const SEARCH_MAX: usize = 200;

/// Which part of a replica's differences is shown, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Below this directory; empty is all.
    pub directory: Vec<u8>,
    /// Of this class.
    pub class: Option<Class>,
    /// What the paths contain.
    pub search: String,
    /// By what directories are sorted.
    pub most: Most,
    /// The page of the list, from 0.
    pub page: u64,
}

impl Query {
    /// That of a URL. What it does not know it leaves out.
    pub fn of(query: &str) -> Self {
        let mut wanted = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = String::from_utf8_lossy(&percent_decoded(&value.replace('+', " "))).into_owned();
            match name {
                "dir" => wanted.directory = directory(&value),
                "class" => wanted.class = Class::named(&value),
                "q" => wanted.search = value.trim().chars().take(SEARCH_MAX).collect(),
                "by" if value == "entries" => wanted.most = Most::Entries,
                // People count from 1.
                "page" => wanted.page = value.parse::<u64>().map_or(0, |page| page.saturating_sub(1)),
                _ => {}
            }
        }
        wanted
    }

    /// The directory as a form has it.
    pub(super) fn directory_text(&self) -> String {
        let mut text = String::new();
        for chunk in self.directory.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '%' | '\0'..='\x1f' | '\x7f' => {
                        let _ = write!(text, "%{:02X}", u32::from(c));
                    }
                    c => text.push(c),
                }
            }
            for byte in chunk.invalid() {
                let _ = write!(text, "%{byte:02X}");
            }
        }
        text
    }

    /// It with another directory, from the first page on.
    pub(super) fn at(&self, directory: &[u8]) -> Self {
        Self { directory: directory.to_vec(), page: 0, ..self.clone() }
    }

    /// Whether less is wanted than all of the directory.
    pub(super) fn is_filtered(&self) -> bool {
        self.class.is_some() || !self.search.is_empty()
    }
}

fn directory(text: &str) -> Vec<u8> {
    let bytes = percent_decoded(text);
    let slashes = |byte: &u8| *byte == b'/';
    let start = bytes.iter().position(|byte| !slashes(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !slashes(byte)).map_or(start, |last| last + 1);
    bytes[start..end].to_vec()
}

/// A text without its percent-encoding (RFC 3986).
pub fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        let code = match (first, more) {
            (b'%', [high, low, ..]) => char::from(*high).to_digit(16).zip(char::from(*low).to_digit(16)),
            _ => None,
        };
        match code {
            Some((high, low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &more[2..];
            }
            None => bytes.push(*first),
        }
    }
    bytes
}

/// The query of a link, with its question mark. A link with none would keep the present one.
impl Value for Query {
    fn add(&self, to: &mut Html) {
        put!(to, "?");
        let mut is_first = true;
        let mut put = |name: &'static str, value: &str| match std::mem::take(&mut is_first) {
            true => put!(to, "{}={}", name, Parameter(value)),
            false => put!(to, "&amp;{}={}", name, Parameter(value)),
        };
        if !self.directory.is_empty() {
            put("dir", &self.directory_text());
        }
        if let Some(class) = self.class {
            put("class", class.name());
        }
        if !self.search.is_empty() {
            put("q", &self.search);
        }
        if self.most == Most::Entries {
            put("by", "entries");
        }
        if self.page > 0 {
            put("page", &(self.page + 1).to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_is_read_as_forms_and_people_write_it() {
        let of = |query: &str| Query::of(query);
        assert_eq!(of(""), Query::default());
        assert_eq!(of("dir=/a/b/&x=y&page=3").directory, b"a/b");
        assert_eq!((of("page=3").page, of("page=0").page, of("page=x").page), (2, 0, 0));
        assert_eq!(of("q=+two+words%2B+").search, "two words+");
        assert_eq!(
            (of("class=stale").class, of("class=").class, of("class=x").class),
            (Some(Class::Stale), None, None)
        );
        assert_eq!(of("dir=caf%25E9").directory, b"caf\xe9");
        assert_eq!(of("q=%ff%00").search, "\u{fffd}\0");
    }

    proptest! {
        #[test]
        fn what_a_link_says_is_understood(
            directory in prop::collection::vec(any::<u8>().prop_filter("no slash", |byte| *byte != b'/'), 0..9),
            search in "\\PC{0,9}",
            page in 0_u64..9,
        ) {
            let search = search.trim().to_owned();
            let query = Query { directory, class: Some(Class::Meta), search, most: Most::Entries, page };
            let mut html = Html::default();
            put!(html, "{}", query);
            let link = html.into_string().replace("&amp;", "&");
            prop_assert!(link.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>'".contains(&byte)));
            prop_assert_eq!(Query::of(link.trim_start_matches('?')), query);
        }
    }
}
