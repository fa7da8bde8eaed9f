//! Which pages there are, and their paths.

/// One of the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum View {
    Overview,
    Job(String),
    Run(i64),
}

impl View {
    /// The page at a path, as a URL has it.
    pub(super) fn at(path: &str) -> Option<Self> {
        if path == "/" {
            return Some(Self::Overview);
        }
        if let Some(job) = path.strip_prefix("/jobs/") {
            // Before a name of dots stands a blank (`page::html::Segment`).
            return decoded(job).map(|job| Self::Job(job.trim_start().to_owned()));
        }
        path.strip_prefix("/runs/")?.parse().ok().map(Self::Run)
    }
}

/// A text without its percent-encoding (RFC 3986); `None` if it is not UTF-8 then.
pub(super) fn decoded(text: &str) -> Option<String> {
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
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_a_page() {
        for (path, expected) in [
            ("/", Some(View::Overview)),
            ("/jobs/photos", Some(View::Job("photos".into()))),
            ("/jobs/a%20b%2Fc%3f%C3%A4", Some(View::Job("a b/c?ä".into()))),
            ("/jobs/%20..", Some(View::Job("..".into()))),
            ("/jobs/100%", Some(View::Job("100%".into()))),
            ("/jobs/%ff", None),
            ("/runs/17", Some(View::Run(17))),
            ("/runs/x", None),
            ("/metrics", None),
            ("", None),
        ] {
            assert_eq!(View::at(path), expected, "{path}");
        }
    }
}
