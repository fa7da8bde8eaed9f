use std::io::Cursor;

use super::super::proto::pack::{Packer, Unpacker};
use super::*;
use crate::verify::here::Here;
use crate::verify::side::{Entries, Read, State, Wanted};

/// Conversations that are spoiled.
const SPOILED: u64 = 3_000;

/// One directory, by exactly that name.
struct Only(Vec<u8>);

impl Bounds for Only {
    fn root(&self, root: &[u8]) -> Result<Vec<u8>, String> {
        if root == self.0 { Ok(root.to_vec()) } else { Err("another directory".into()) }
    }

    fn rules(&self, _: &Scan) -> Result<(), String> {
        Ok(())
    }
}

fn tree() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("below")).expect("made");
    for name in ["a", "below/b"] {
        std::fs::write(directory.path().join(name), name).expect("written");
    }
    directory
}

fn root_of(tree: &tempfile::TempDir) -> Vec<u8> {
    tree.path().as_os_str().as_bytes().to_vec()
}

fn scan_of(root: Vec<u8>) -> Scan {
    let (only, filters, attributes) = Default::default();
    let end = crate::rsync::filter::Side::Sender;
    Scan { root, only, filters, end, one_file_system: false, meta: true, attributes }
}

fn request(request: &Request) -> Vec<u8> {
    proto::json(Kind::Request, request).expect("a frame")
}

/// What is packed, and that no more comes.
fn packed(kind: Kind, fill: impl Fn(&mut Packer)) -> Vec<u8> {
    let mut packer = Packer::new(kind);
    fill(&mut packer);
    [packer.take().unwrap_or_default(), proto::bare(Kind::Last)].concat()
}

/// All that a client may ask for.
fn conversation(root: &[u8]) -> Vec<Vec<u8>> {
    let scan = || scan_of(root.to_vec());
    let paths = ["", "a", "below/b", "none", "below"].map(|path| path.as_bytes().to_vec());
    vec![
        request(&Request::Hello { version: "9".into() }),
        request(&Request::Statfs { root: root.to_vec() }),
        request(&Request::Scan { scan: scan() }),
        request(&Request::Look { scan: scan() }),
        packed(Kind::Paths, |packer| paths.iter().for_each(|path| packer.path(path).expect("packed"))),
        request(&Request::Hash { scan: scan(), rate: None }),
        packed(Kind::Wanted, |packer| {
            for path in &paths {
                packer.wanted(&Wanted { path: path.clone(), state: State::default() }).expect("packed");
            }
        }),
    ]
}

/// What is answered to all of this, and how it ends; in one thread, so that a panic is one of the test.
fn answers(bytes: &[u8], root: &[u8]) -> (Vec<u8>, Result<(), ProtoError>) {
    let (frames, inbox) = mpsc::channel();
    let shared = Arc::new(Shared::default());
    let heard = listen(Cursor::new(bytes), &frames, &shared);
    drop(frames);
    let inbox = Inbox { frames: inbox, shared };
    let (side, bounds) = (Box::new(Here::default()), Box::new(Only(root.to_vec())));
    let mut worker = Worker { inbox, output: Vec::new(), side, bounds };
    let done = worker.run();
    (worker.output, heard.and(done))
}

/// The kinds of frames in what was answered.
fn kinds(answers: &[u8]) -> Vec<Kind> {
    let mut input = Cursor::new(answers);
    let mut payload = Vec::new();
    std::iter::from_fn(|| proto::read(&mut input, &mut payload).expect("a frame")).collect()
}

#[test]
fn everything_that_is_asked_for_is_answered() {
    let tree = tree();
    let (answers, end) = answers(&conversation(&root_of(&tree)).concat(), &root_of(&tree));
    end.expect("to its end");
    let (entries, ends) = ([Kind::Entries, Kind::End], [Kind::Digests, Kind::End]);
    let mut expected = vec![Kind::Hello, Kind::Volume];
    expected.extend(entries.iter().chain(&entries).chain(&ends));
    // Digests may come in several frames.
    let mut kinds = kinds(&answers);
    kinds.dedup();
    assert_eq!(kinds, expected);
}

#[test]
fn a_refusal_leaves_the_rest_as_it_is() {
    let tree = tree();
    let (answers, end) = answers(&conversation(&root_of(&tree)).concat(), b"/another");
    end.expect("to its end");
    assert_eq!(kinds(&answers), [&[Kind::Hello][..], &[Kind::Failed; 4]].concat());
}

#[test]
fn digests_are_in_the_order_of_what_was_wanted() {
    let tree = tree();
    let scan = scan_of(root_of(&tree));
    let entries: Result<Vec<_>, _> = Here::default().scan(&scan).expect("a walk").collect();
    let file = entries.expect("no error").into_iter().find(|entry| entry.path == b"below/b").expect("there");
    let wanted = packed(Kind::Wanted, |packer| {
        for (path, state) in [("a", State::default()), ("below/b", State::of(&file)), ("none", State::of(&file))] {
            packer.wanted(&Wanted { path: path.into(), state }).expect("packed");
        }
    });
    let asked = [request(&Request::Hash { scan, rate: None }), wanted].concat();
    let (answers, _) = answers(&asked, &root_of(&tree));
    let (mut input, mut payload, mut told) = (Cursor::new(&answers[..]), Vec::new(), Vec::new());
    while let Some(Kind::Digests) = proto::read(&mut input, &mut payload).expect("a frame") {
        let mut unpacker = Unpacker::new(std::mem::take(&mut payload));
        while !unpacker.is_empty() {
            told.push(unpacker.read().expect("an answer"));
        }
    }
    assert_eq!(told, [Read::Changed, Read::Digest(blake3::hash(b"below/b").into()), Read::Changed]);
}

#[test]
fn a_spoiled_conversation_harms_nobody() {
    let tree = tree();
    let (root, mut seed) = (root_of(&tree), 1_u64);
    let mut number = |bound: usize| {
        // Knuth's MMIX generator; its upper bits.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).expect("31 bits") % bound
    };
    let frames = conversation(&root);
    let (mut whole, mut broken) = (0, 0);
    for _ in 0..SPOILED {
        let mut spoiled: Vec<Vec<u8>> = (0..8).map(|_| frames[number(frames.len())].clone()).collect();
        for _ in 0..number(4) {
            let frame = number(spoiled.len());
            let at = number(spoiled[frame].len());
            spoiled[frame][at] = u8::try_from(number(256)).expect("a byte");
        }
        match answers(&spoiled.concat(), &root) {
            (_, Ok(())) => whole += 1,
            (_, Err(_)) => broken += 1,
        }
    }
    assert!(whole > 100 && broken > 100, "both happen: {whole} {broken}");
}

/// A side that must not be asked for a walk.
struct Defect;

impl Side for Defect {
    fn about(&self) -> About {
        About::default()
    }

    fn scan(&mut self, _: &Scan) -> Result<Entries<'_>, SideError> {
        panic!("a defect, on purpose")
    }

    fn look(&mut self, _: &Scan, _: &[Vec<u8>]) -> Result<Vec<Option<crate::scan::Entry>>, SideError> {
        Ok(Vec::new())
    }

    fn hash(
        &mut self,
        _: &Scan,
        _: &mut (dyn Iterator<Item = Wanted> + Send),
        _: Option<u64>,
        _: &mut (dyn FnMut(Wanted, Read) -> Result<(), SideError> + Send),
    ) -> Result<(), SideError> {
        Ok(())
    }
}

#[test]
fn a_defect_ends_the_agent_though_its_client_waits() {
    let (input, mut client) = std::io::pipe().expect("a pipe");
    client.write_all(&request(&Request::Scan { scan: scan_of(b"/".to_vec()) })).expect("it waits");
    let end = serve(input, std::io::sink(), Box::new(Defect), Box::new(Unbounded::default()));
    assert!(matches!(end, Err(ServeError::Panicked)), "{end:?}");
    drop(client);
}
