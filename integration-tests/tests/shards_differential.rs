//! A sync that several rsyncs share makes what one rsync makes: compared over generated trees and options.

use std::path::Path;
use std::process::Command;

use integration_tests::faults::random::Random;
use integration_tests::{Sandbox, forest};

/// Cases of each test.
const CASES: u64 = 35;

/// Options that may be drawn, each as one argument.
const OPTIONS: &[&str] = &[
    "--delete",
    "--delete",
    "--delete-after",
    "--delete-before",
    "--delete-excluded",
    "--exclude=*.o",
    "--filter=P_*.txt",
    "--backup",
    "--backup-dir=../old-",
    "--inplace",
    "--whole-file",
    "--existing",
    "--ignore-existing",
    "--update",
    "--sparse",
    "--prune-empty-dirs",
    "--max-size=5m",
    "--min-size=3",
    "--force",
    "--partial-dir=.p",
    "--omit-dir-times",
    "--omit-link-times",
    "--size-only",
    "--keep-dirlinks",
    "--copy-links",
    "--safe-links",
    "--chmod=D2750,F640",
    "--no-perms",
    "--fuzzy",
    "--compare-dest=../basis",
    "--link-dest=../basis",
    "--copy-dest=../basis",
    "--numeric-ids",
    "--xattrs",
    "--acls",
    "--ignore-errors",
    "--one-file-system",
    "--append-verify",
    "-v",
];

struct Case {
    name: String,
    opts: Vec<&'static str>,
    sources: Vec<String>,
}

/// Draws a case and makes its trees: `source`, `one` and `shared` with the same content, and a `basis` beside them.
fn draw(sandbox: &Sandbox, seed: u64, number: u64) -> Case {
    let mut random = Random::of(&[seed, number]);
    let name = format!("case{number}");
    let dir = sandbox.mkdir(&name);
    let mut opts = vec!["-a"];
    if random.chance(40) {
        // rsync 3.5 itself breaks off where it follows hard links bit by bit and cannot make way for a file.
        opts.extend(["-H", "--force"]);
    }
    for _ in 0..random.between(0, 5) {
        let option = random.pick(OPTIONS);
        if !opts.iter().any(|other| clash(other, option) || clash(option, other)) {
            opts.push(option);
        }
    }
    forest::grow(&mut random, &dir.join("source"));
    let at = |path: &str| format!("{}/{path}", dir.display());
    let sources = match random.between(0, 3) {
        0 => vec![at("source")],
        1 => {
            forest::grow(&mut random, &dir.join("second"));
            // Names that both have are left to one rsync.
            if random.chance(30) { vec![at("source/"), at("second/")] } else { vec![at("source"), at("second")] }
        }
        _ => vec![at("source/")],
    };
    copy(&dir.join("source"), &dir.join("basis"));
    forest::disturb(&mut random, &dir.join("basis"));
    if random.chance(70) {
        let start = if sources[0].ends_with('/') { "one" } else { "one/source" };
        copy(&dir.join("source"), &dir.join(start));
        forest::disturb(&mut random, &dir.join(start));
        copy(&dir.join("one"), &dir.join("shared"));
    }
    Case { name, opts, sources }
}

/// What rsync itself or we refuse together, and what makes the result depend on who comes first: a file that is written in place changes
/// under its other names, too.
fn clash(one: &str, other: &str) -> bool {
    let in_place = |opt: &str| matches!(opt, "--inplace" | "--append-verify");
    let refused = [("--backup", "--delete-excluded"), ("-H", "--ignore-existing")];
    one == other
        || refused.contains(&(one, other))
        || one.ends_with("basis") && other.ends_with("basis")
        || in_place(one) && matches!(other, "-H" | "--whole-file" | "--partial-dir=.p" | "--sparse")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the directory");
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().expect("cp");
    assert!(status.success());
}

fn job(case: &Case, sandbox: &Sandbox) -> String {
    let dest = sandbox.path(&case.name).join("shared");
    format!(
        "- {{id: {}, type: local, actions: [{{action: sync, id: s, source: {:?}, dest: {:?}, opts: {:?}, parallel: 3, \
         success_exit_codes: [0, 23, 24]}}]}}\n",
        case.name,
        case.sources,
        dest.display().to_string(),
        case.opts
    )
}

fn alone(case: &Case, sandbox: &Sandbox) {
    let dest = sandbox.path(&case.name).join("one");
    let output = Command::new("rsync").args(&case.opts).args(&case.sources).arg(dest).output().expect("rsync");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 23)), "{} {:?}: {}\n{said}", case.name, case.opts, output.status);
}

#[track_caller]
fn compare(seed: u64) {
    let sandbox = Sandbox::new();
    let cases: Vec<Case> = (0..CASES).map(|number| draw(&sandbox, seed, number)).collect();
    let jobs: String = cases.iter().map(|case| job(case, &sandbox)).collect();
    let finished = sandbox.once(&sandbox.config(&format!("jobs:\n{jobs}")));
    finished.expect_code(0);
    let mut wrong = Vec::new();
    for case in &cases {
        alone(case, &sandbox);
        let seen = |name: &str| forest::look(&sandbox.path(&case.name).join(name));
        let (one, shared) = (seen("one"), seen("shared"));
        let paths = one.keys().chain(shared.keys()).filter(|path| one.get(*path) != shared.get(*path));
        let differing: Vec<_> =
            paths.map(|path| format!("{path:?}: {:?}\n   {:?}", one.get(path), shared.get(path))).collect();
        if !differing.is_empty() {
            wrong.push(format!("{} {:?} {:?}\n  {}", case.name, case.opts, case.sources, differing.join("\n  ")));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), finished.stderr);
    let split = finished.stderr.lines().filter(|line| line.contains("rsyncs at once")).count();
    assert!(split as u64 > CASES / 3, "only {split} cases were split");
}

#[test]
fn the_result_is_that_of_one_rsync_1() {
    compare(1);
}

#[test]
fn the_result_is_that_of_one_rsync_2() {
    compare(2);
}

#[test]
fn the_result_is_that_of_one_rsync_3() {
    compare(3);
}
