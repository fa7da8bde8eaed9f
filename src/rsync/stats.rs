//! rsync's `--stats`, as rsync 3.1 to 3.5 prints it.

/// What rsync says of a transfer at its end. Sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries of the source (files, directories, links, ...).
    pub files: u64,
    /// Entries created at the destination.
    pub created: u64,
    /// Entries deleted at the destination.
    pub deleted: u64,
    /// Regular files whose data was transferred.
    pub transferred: u64,
    /// Size of all source files.
    pub source_bytes: u64,
    /// Size of the transferred files.
    pub transferred_bytes: u64,
    /// Bytes sent over the wire by this side.
    pub sent_bytes: u64,
    /// Bytes received over the wire by this side.
    pub received_bytes: u64,
}

/// Picks the statistics out of rsync's output, line by line.
#[derive(Debug, Clone, Default)]
pub struct StatsParser {
    stats: Stats,
    /// The last two lines of the block were seen: it is complete.
    complete: bool,
}

impl StatsParser {
    /// Takes one line, without its end; tells whether it belongs to the statistics.
    pub fn line(&mut self, line: &[u8]) -> bool {
        // Every line of them begins with one of these; file names pass by cheaply.
        if !matches!(line.first(), Some(b'N' | b'T' | b'L' | b'M' | b'F')) {
            return false;
        }
        let Some((label, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(": ")) else {
            return false;
        };
        let stats = &mut self.stats;
        let field = match label {
            "Number of files" => &mut stats.files,
            "Number of created files" => &mut stats.created,
            "Number of deleted files" => &mut stats.deleted,
            "Number of regular files transferred" | "Number of files transferred" => &mut stats.transferred,
            "Total file size" => &mut stats.source_bytes,
            "Total transferred file size" => &mut stats.transferred_bytes,
            "Total bytes sent" => &mut stats.sent_bytes,
            "Total bytes received" => &mut stats.received_bytes,
            "Literal data" | "Matched data" | "File list size" => return true,
            "File list generation time" | "File list transfer time" => return true,
            _ => return false,
        };
        if let Some(number) = value.split_ascii_whitespace().next().and_then(number) {
            *field = number;
            self.complete |= label == "Total bytes received";
        }
        true
    }

    /// Whether all of them were seen; what rsync prints from then on sums them up.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The statistics, if rsync got as far as printing them.
    pub fn finish(self) -> Option<Stats> {
        self.complete.then_some(self.stats)
    }
}

/// A number as rsync writes it: `1502`, `1,502` or `1.502` by locale, and with `-h` `1.50K`, in units of 1000, which is rounded.
pub(super) fn number(text: &str) -> Option<u64> {
    let factor = match text.chars().last()? {
        'K' => 1e3,
        'M' => 1e6,
        'G' => 1e9,
        'T' => 1e12,
        'P' => 1e15,
        _ => return text.replace([',', '.'], "").parse().ok(),
    };
    let value: f64 = text[..text.len() - 1].replace(',', ".").parse().ok()?;
    Some((value * factor).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Stats> {
        let mut parser = StatsParser::default();
        text.lines().for_each(|line| {
            parser.line(line.as_bytes());
        });
        parser.finish()
    }

    const BLOCK: &str = "\
sending incremental file list
Total nonsense: a file with such a name
./

Number of files: 1,502 (reg: 1,500, dir: 2)
Number of created files: 1,501 (reg: 1,500, dir: 1)
Number of deleted files: 3 (reg: 3)
Number of regular files transferred: 1,500
Total file size: 6,144,000 bytes
Total transferred file size: 6,144,000 bytes
Literal data: 6,144,000 bytes
Matched data: 0 bytes
File list size: 32,767
File list generation time: 0.001 seconds
File list transfer time: 0.000 seconds
Total bytes sent: 6,241,066
Total bytes received: 28,545

sent 6,241,066 bytes  received 28,545 bytes  12,539,222.00 bytes/sec
total size is 6,144,000  speedup is 0.98
";

    #[test]
    fn the_block_is_read_in_every_number_format() {
        let expected = Stats {
            files: 1502,
            created: 1501,
            deleted: 3,
            transferred: 1500,
            source_bytes: 6_144_000,
            transferred_bytes: 6_144_000,
            sent_bytes: 6_241_066,
            received_bytes: 28_545,
        };
        assert_eq!(parse(BLOCK), Some(expected));
        let plain: String =
            BLOCK.lines().map(|l| if l.contains(':') { l.replace(',', "") } else { l.into() } + "\n").collect();
        assert_eq!(parse(&plain), Some(expected));
        assert_eq!(parse(&BLOCK.replace(',', ".")), Some(expected));
    }

    #[test]
    fn human_numbers_are_rounded_and_a_torn_block_is_none() {
        assert_eq!(number("1.50K"), Some(1500));
        assert_eq!(number("6.14M"), Some(6_140_000));
        assert_eq!(parse(&BLOCK[..BLOCK.find("Total bytes received").unwrap()]), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn the_rsync_of_this_host_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/f"), vec![b'x'; 5000]).unwrap();
        let output = std::process::Command::new("rsync")
            .current_dir(dir.path())
            .args(["-a", "--stats", "--no-human-readable", "a/", "b"])
            .output()
            .expect("rsync is installed");
        let stats = parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
        assert_eq!((stats.files, stats.created, stats.transferred, stats.deleted), (2, 2, 1, 0));
        assert_eq!((stats.source_bytes, stats.transferred_bytes), (5000, 5000));
        assert!(stats.sent_bytes > 5000 && stats.received_bytes > 0);
    }
}
