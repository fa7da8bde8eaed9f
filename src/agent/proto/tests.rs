use std::io::Cursor;

use proptest::prelude::*;

use super::message::{Request, RequestError};
use super::pack::{PATH_MAX, Packer, Unpacker};
use super::*;
use crate::rsync::filter::Kept;
use crate::scan::{Entry, Kind as What, Meta, Mtime};
use crate::verify::side::{Read, State, Wanted};

/// Bytes of strangers: each is decoded as everything that it could be.
const FUZZED: u64 = 120_000;

fn time() -> impl Strategy<Value = Mtime> {
    let seconds = prop_oneof![any::<i64>(), 1_700_000_000..1_800_000_000_i64, Just(0)];
    (seconds, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Mtime { seconds, nanos })
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![Just(b"a".to_vec()), Just(b"a/b".to_vec()), prop::collection::vec(any::<u8>(), 0..40)];
    prop::collection::vec(name, 0..6).prop_map(|parts| parts.join(&b'/'))
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        4 => Just(What::File),
        2 => Just(What::Directory),
        1 => prop_oneof![Just(What::Symlink), Just(What::Fifo), Just(What::Socket), Just(What::Unknown)],
        1 => any::<u64>().prop_map(What::Block),
        1 => any::<u64>().prop_map(What::Character),
    ]
}

fn meta() -> impl Strategy<Value = Meta> {
    let number = || prop_oneof![Just(0), Just(0o644), any::<u32>()];
    let target = prop::option::of(prop::collection::vec(any::<u8>(), 0..60));
    (number(), number(), number(), target, any::<Option<[u8; 16]>>(), any::<Option<u64>>()).prop_map(
        |(mode, owner, group, target, attributes, links)| Meta { mode, owner, group, target, attributes, links },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    let times = (time(), prop::option::of(time()));
    let problem = prop::option::of(any::<String>().prop_map(|text| text.chars().take(100).collect()));
    let kept = (any::<bool>(), any::<bool>()).prop_map(|(alone, with_directory)| Kept { alone, with_directory });
    let more = (kept, prop::option::of(meta()), problem);
    (path(), what(), any::<u64>(), times, any::<u64>(), more).prop_map(
        |(path, kind, size, (mtime, ctime), id, (kept, meta, problem))| {
            let ctime = ctime.unwrap_or(mtime);
            Entry { path, kind, size, mtime, ctime, id, kept, meta: meta.map(Box::new), problem }
        },
    )
}

/// The payload of the one frame in these bytes.
fn payload(frame: &[u8], kind: Kind) -> Vec<u8> {
    let (mut input, mut payload) = (Cursor::new(frame), Vec::new());
    assert_eq!(read(&mut input, &mut payload).expect("a frame"), Some(kind));
    assert_eq!(read(&mut input, &mut Vec::new()).expect("no more"), None);
    payload
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn entries_come_as_they_went(entries in prop::collection::vec(prop::option::of(entry()), 1..20)) {
        let mut packer = Packer::new(Kind::Entries);
        for entry in &entries {
            packer.entry(entry.as_ref()).expect("packed");
        }
        let mut unpacker = Unpacker::new(payload(&packer.take().expect("a frame"), Kind::Entries));
        for entry in &entries {
            prop_assert_eq!(&unpacker.entry().expect("an entry"), entry);
        }
        prop_assert!(unpacker.is_empty());
    }

    #[test]
    fn what_is_wanted_and_what_came_of_it_arrive(
        files in prop::collection::vec((path(), any::<u64>(), time(), time(), any::<u64>()), 1..20),
        reads in prop::collection::vec(prop_oneof![
            any::<[u8; 32]>().prop_map(Read::Digest), Just(Read::Changed), "\\PC{0,40}".prop_map(Read::Unreadable),
        ], 1..20),
    ) {
        let files: Vec<Wanted> = files
            .into_iter()
            .map(|(path, size, mtime, ctime, id)| Wanted { path, state: State { id, ctime, mtime, size } })
            .collect();
        let (mut wanted, mut digests) = (Packer::new(Kind::Wanted), Packer::new(Kind::Digests));
        files.iter().for_each(|file| wanted.wanted(file).expect("packed"));
        reads.iter().for_each(|read| digests.read(read));
        let mut unpacker = Unpacker::new(payload(&wanted.take().expect("a frame"), Kind::Wanted));
        for file in &files {
            prop_assert_eq!(&unpacker.wanted().expect("a file"), file);
        }
        prop_assert!(unpacker.is_empty());
        let mut unpacker = Unpacker::new(payload(&digests.take().expect("a frame"), Kind::Digests));
        for read in &reads {
            prop_assert_eq!(&unpacker.read().expect("an answer"), read);
        }
        prop_assert!(unpacker.is_empty());
    }

    /// What is cut off is an error, or fewer entries, and those are the right ones.
    #[test]
    fn what_is_cut_off_makes_nothing_up(entries in prop::collection::vec(entry(), 1..4), cut in any::<prop::sample::Index>()) {
        let mut packer = Packer::new(Kind::Entries);
        entries.iter().for_each(|entry| packer.entry(Some(entry)).expect("packed"));
        let frame = packer.take().expect("a frame");
        let cut = cut.index(frame.len());
        let mut input = Cursor::new(&frame[..cut]);
        match read(&mut input, &mut Vec::new()) {
            Ok(None) => prop_assert_eq!(cut, 0),
            Err(ProtoError::Truncated) => prop_assert!(cut > 0),
            other => prop_assert!(false, "{other:?}"),
        }
        let mut unpacker = Unpacker::new(frame[HEAD.min(cut)..cut].to_vec());
        for entry in &entries {
            match unpacker.entry() {
                Ok(found) => prop_assert_eq!(found.as_ref(), Some(entry)),
                Err(_) => break,
            }
        }
    }
}

/// A stream of numbers by which a failure can be repeated (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("small")
    }
}

/// A stream as of an agent and a client, to be spoiled.
fn good() -> Vec<u8> {
    let mut entries = Packer::new(Kind::Entries);
    let mut wanted = Packer::new(Kind::Wanted);
    let mut digests = Packer::new(Kind::Digests);
    for n in 0..8_u8 {
        let meta = (n % 3 == 0).then(|| Meta {
            mode: u32::from(n),
            target: Some(vec![n; 5]),
            links: Some(7),
            ..Meta::default()
        });
        let problem = (n % 7 == 0).then(|| "no \u{fc}se".to_owned());
        let kind = if n % 5 == 0 { What::Block(300) } else { What::File };
        let mtime = Mtime { seconds: 1_700_000_000 + i64::from(n), nanos: 5 };
        let path = format!("directory/of/files/{n}").into_bytes();
        let entry = Entry {
            size: 1 << n,
            mtime,
            id: n.into(),
            meta: meta.map(Box::new),
            problem,
            ..Entry::of(path.clone(), kind)
        };
        entries.entry(if n == 6 { None } else { Some(&entry) }).expect("packed");
        wanted.wanted(&Wanted { path, state: State::of(&entry) }).expect("packed");
        digests.read(&if n % 4 == 0 { Read::Unreadable("why".into()) } else { Read::Digest([n; 32]) });
    }
    let request = json(Kind::Request, &Request::Statfs { root: b"/x".to_vec() }).expect("a frame");
    let packed = [entries, wanted, digests].map(|mut packer| packer.take().expect("a frame")).concat();
    [packed, request, bare(Kind::End), bare(Kind::Last)].concat()
}

/// Takes bytes for everything that they could be, to the end or to the first error.
fn decode(bytes: &[u8]) -> usize {
    let (mut input, mut payload, mut found) = (Cursor::new(bytes), Vec::new(), 0);
    while let Ok(Some(_)) = read(&mut input, &mut payload) {
        found += 1;
        assert!(
            payload.capacity() <= 2 * bytes.len() + 1024,
            "memory for {} of {} bytes",
            payload.capacity(),
            bytes.len()
        );
        let _ = Request::parse(&payload);
        let all: [fn(&mut Unpacker) -> bool; 4] = [
            |unpacker| unpacker.entry().is_ok(),
            |unpacker| unpacker.path().is_ok(),
            |unpacker| unpacker.wanted().is_ok(),
            |unpacker| unpacker.read().is_ok(),
        ];
        for next in all {
            let mut unpacker = Unpacker::new(payload.clone());
            while !unpacker.is_empty() && next(&mut unpacker) {
                found += 1;
            }
        }
    }
    found
}

#[test]
fn whatever_comes_is_an_answer_or_an_error() {
    let good = good();
    let mut numbers = Numbers(7);
    let (mut whole, mut broken) = (0, 0);
    let all = decode(&good);
    for _ in 0..FUZZED {
        let mut bytes = good.clone();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(bytes.len());
            match numbers.below(5) {
                0 => bytes[at] = numbers.next() as u8,
                1 => bytes[at] ^= 1 << numbers.below(8),
                2 => bytes.truncate(at.max(1)),
                3 => bytes.insert(at, numbers.next() as u8),
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                break;
            }
        }
        if decode(&bytes) < all { broken += 1 } else { whole += 1 }
    }
    assert!(whole > 100 && broken > 100, "both happen: {whole} {broken}");
    for _ in 0..FUZZED / 10 {
        let mut noise: Vec<u8> = (0..numbers.below(200)).map(|_| numbers.next() as u8).collect();
        decode(&noise);
        // With a length that is right.
        let length = u32::try_from(noise.len()).expect("small").to_le_bytes();
        noise.splice(0..0, [length[0], length[1], length[2], length[3], 3]);
        decode(&noise);
    }
}

#[test]
fn a_length_that_is_only_claimed_takes_no_memory() {
    let claims = |length: u32, kind: u8| [&length.to_le_bytes()[..], &[kind], b"short"].concat();
    let mut payload = Vec::new();
    let result = read(&mut Cursor::new(claims(JSON_MAX as u32, 16)), &mut payload);
    assert!(matches!(result, Err(ProtoError::Truncated)), "{result:?}");
    assert!(payload.capacity() < 64 * 1024, "{}", payload.capacity());
    for (length, kind) in [(JSON_MAX as u32 + 1, 16), (PACKED_MAX as u32 + 1, 3), (u32::MAX, 99), (1, 5)] {
        let result = read(&mut Cursor::new(claims(length, kind)), &mut payload);
        assert!(matches!(result, Err(ProtoError::TooLong { .. })), "{length} {kind}: {result:?}");
    }
}

#[test]
fn paths_that_share_much_do_not_become_much_more_than_they_are() {
    // The first is long, each of the others shares all of it.
    let mut payload = Packer::new(Kind::Paths);
    payload.path(&vec![b'x'; PATH_MAX]).expect("packed");
    let mut bytes = payload.take().expect("a frame").split_off(HEAD);
    for _ in 0..1000 {
        bytes.extend([0x80, 0x80, 0x10, 0]);
    }
    let mut unpacker = Unpacker::new(bytes);
    let taken = std::iter::from_fn(|| unpacker.path().ok()).count();
    assert!((2..10).contains(&taken), "{taken}");
    assert!(matches!(Packer::new(Kind::Paths).path(&vec![b'x'; PATH_MAX + 1]), Err(ProtoError::Path(_))));
}

#[test]
fn a_frame_ends_before_it_is_too_long() {
    let mut long = Entry::of(Vec::new(), What::Symlink);
    long.meta = Some(Box::new(Meta { target: Some(vec![b't'; PATH_MAX]), ..Meta::default() }));
    long.problem = Some("\u{fc}".repeat(5000));
    let (mut packer, mut frames) = (Packer::new(Kind::Entries), 0);
    for n in 0..50_u8 {
        long.path = vec![n; PATH_MAX];
        packer.entry(Some(&long)).expect("packed");
        if packer.is_full() {
            let mut unpacker = Unpacker::new(payload(&packer.take().expect("a frame"), Kind::Entries));
            while !unpacker.is_empty() {
                unpacker.entry().expect("an entry");
            }
            frames += 1;
        }
    }
    assert_eq!(frames, 50);
}

#[test]
fn a_million_entries_are_small() {
    let mut packer = Packer::new(Kind::Entries);
    let mut bytes = 0;
    for n in 0..100_000_u64 {
        let path = format!("photos/2024/{:03}/img_{:05}.jpg", n / 300, n % 300).into_bytes();
        let mtime = Mtime { seconds: 1_700_000_000 + (n * 37).cast_signed(), nanos: 123_456_789 };
        let meta = Some(Meta { mode: 0o644, owner: 1000, group: 1000, ..Meta::default() });
        let ctime = Mtime { seconds: mtime.seconds + 5, nanos: 77 };
        let entry = Entry {
            size: 3_000_000 + n,
            mtime,
            ctime,
            id: 88_000_000 + n,
            meta: meta.map(Box::new),
            ..Entry::of(path, What::File)
        };
        packer.entry(Some(&entry)).expect("packed");
        if packer.is_full() {
            bytes += packer.take().map_or(0, |frame| frame.len());
        }
    }
    assert!(bytes / 100_000 <= 32, "{} bytes an entry", bytes / 100_000);
}

#[test]
fn who_speaks_first_is_told() {
    let parse = |line: &str| Preface::parse(line.as_bytes());
    assert_eq!(parse(&String::from_utf8(Preface::line()).expect("text")).expect("ours").version, crate::VERSION);
    assert_eq!(parse("rsyncdirector-agent 1 7.1.0 and more\n").expect("ours").version, "7.1.0");
    let noise = |line: &str| match parse(line) {
        Err(PrefaceError::Noise { line }) => line,
        other => panic!("{other:?}"),
    };
    assert_eq!(noise("Welcome to nas!\r\nrsyncdirector-agent 1 2.0.0\n"), "Welcome to nas!");
    assert_eq!(noise("\x1b[1mhi\n"), "\u{fffd}[1mhi");
    assert_eq!(noise("rsyncdirector-agent\n"), "rsyncdirector-agent");
    assert_eq!(noise(&"x".repeat(5000)).len(), 120);
    let other = parse("rsyncdirector-agent 2 9.9.9\n").expect_err("another protocol").to_string();
    assert!(other.contains("9.9.9) speaks protocol 2") && other.contains(crate::VERSION), "{other}");
}

#[test]
fn an_unknown_verb_is_named() {
    let parse = |text: &str| Request::parse(text.as_bytes());
    let said = |text: &str| parse(text).expect_err("refused").to_string();
    assert!(matches!(parse(r#"{"verb": "erase", "all": true}"#), Err(RequestError::Verb { .. })));
    assert!(said(r#"{"verb": "erase"}"#).contains("does not know the verb \"erase\""));
    assert!(matches!(parse(r#"{"verb": "statfs"}"#), Err(RequestError::Malformed(_))), "without its root");
    assert!(matches!(parse("["), Err(RequestError::Malformed(_))));
    let later = parse(r#"{"verb": "hello", "version": "9", "of_a_later_release": 1}"#).expect("understood");
    assert_eq!(later, Request::Hello { version: "9".into() });
}
