//! Which trees a sync makes equal: rsync(1), where it speaks of a slash at the end of a source.
//!
//! `a/ d` makes `d` equal to `a`. `a b x/c d` makes `d/a`, `d/b` and `d/c` equal to theirs, and what else is in `d` is nobody's business: a pair of
//! trees for each directory in which sources are, of which only these names are looked at.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::VerifyError;
use crate::rsync::filter::Side as End;
use crate::verify::order::Order;
use crate::verify::side::Scan;
use crate::verify::terms::{Depth, Promise};

/// Two trees that are to be equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::verify) struct Pair {
    pub(in crate::verify) source: Scan,
    pub(in crate::verify) target: Scan,
}

/// Why sources and destination make no pairs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpaired {
    /// Several sources are merged into one directory.
    #[error("a sync that merges several sources into one directory cannot be verified: {0}")]
    Merged(String),
}

/// The pairs of an order.
pub(in crate::verify) fn of(order: &Order, promise: &Promise) -> Result<Vec<Pair>, VerifyError> {
    let filters = super::filters(&order.opts)?;
    let scan = |root: &[u8], only: &[Vec<u8>], end| Scan {
        root: root.to_owned(),
        only: only.to_owned(),
        filters: filters.clone(),
        end,
        one_file_system: promise.one_file_system,
        meta: order.depth >= Depth::Meta,
        attributes: promise.attributes,
    };
    let pair = |(root, only): Root| Pair {
        source: scan(&root, &only, End::Sender),
        target: scan(order.dest.as_bytes(), &only, End::Receiver),
    };
    Ok(roots(&order.sources)?.into_iter().map(pair).collect())
}

/// A directory, and the names in it that are meant; all, where none is given.
type Root = (Vec<u8>, Vec<Vec<u8>>);

/// The directories that sources are in, with their names there; all names where the source is the directory itself.
fn roots(sources: &[OsString]) -> Result<Vec<Root>, Unpaired> {
    let mut roots: Vec<Root> = Vec::new();
    for source in sources {
        let merged = || Unpaired::Merged(source.to_string_lossy().into_owned());
        let (root, name) = split(source.as_bytes());
        let Some(name) = name else {
            if sources.len() > 1 {
                return Err(merged());
            }
            return Ok(vec![(root, Vec::new())]);
        };
        if roots.iter().any(|(_, names)| names.contains(&name)) {
            return Err(merged());
        }
        match roots.iter_mut().find(|(known, _)| *known == root) {
            Some((_, names)) => names.push(name),
            None => roots.push((root, vec![name])),
        }
    }
    Ok(roots)
}

/// A source's directory and name; no name where all that is in the directory is meant.
fn split(source: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let is_content = |last: &[u8]| matches!(last, b"" | b"." | b"..");
    match source.iter().rposition(|&byte| byte == b'/') {
        _ if source == b"~" => (source.to_owned(), None),
        None if is_content(source) => (source.to_owned(), None),
        None => (b".".to_vec(), Some(source.to_owned())),
        Some(slash) if is_content(&source[slash + 1..]) => (source.to_owned(), None),
        Some(0) => (b"/".to_vec(), Some(source[1..].to_owned())),
        Some(slash) => (source[..slash].to_owned(), Some(source[slash + 1..].to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(sources: &[&str]) -> Result<Vec<String>, String> {
        let sources: Vec<OsString> = sources.iter().map(OsString::from).collect();
        let show = |(root, names): Root| {
            let names: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
            format!("{}: {}", String::from_utf8_lossy(&root), names.join(" "))
        };
        roots(&sources).map(|roots| roots.into_iter().map(show).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_slash_at_the_end_means_what_is_inside() {
        assert_eq!(text(&["/a/b/"]), Ok(vec!["/a/b/: ".into()]));
        assert_eq!(text(&["/a/b/."]), Ok(vec!["/a/b/.: ".into()]));
        assert_eq!(text(&["/"]), Ok(vec!["/: ".into()]));
        assert_eq!(text(&["~/"]), Ok(vec!["~/: ".into()]));
        assert_eq!(text(&["/a/b"]), Ok(vec!["/a: b".into()]));
        assert_eq!(text(&["b"]), Ok(vec![".: b".into()]));
        assert_eq!(text(&["/etc"]), Ok(vec!["/: etc".into()]));
        assert_eq!(text(&["/a/x", "/a/y", "/b/z"]), Ok(vec!["/a: x y".into(), "/b: z".into()]));
    }

    #[test]
    fn what_is_merged_is_refused() {
        assert!(text(&["/a/", "/b/"]).is_err());
        assert!(text(&["/a/x", "/b/x"]).is_err());
    }
}
