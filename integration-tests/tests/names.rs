//! File names, options and words of a configuration that are not plain.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use integration_tests::{Finished, Sandbox, Sshd};

use crate::syncs::assert_same;

/// Names that a shell, an option parser or a text decoder would trip over.
const ODD: [&[u8]; 12] = [
    b"with space",
    b"it's \"quoted\"",
    b"new\nline",
    b"-dash",
    b"--delete",
    b"b\xff\xfe",
    b"$(touch pwned)",
    b"`touch pwned`; touch pwned",
    b"back\\slash\\#012",
    b"*?[x]",
    b"\x1b[31mred",
    "grüße".as_bytes(),
];

/// Options, destination and place of a sync job `j`.
fn sync(place: &str, more: &str, source: &str, dest: &str, opts: &str) -> String {
    format!(
        "jobs:
- {{id: j, {place}, actions: [
    {{action: sync, id: files, {more} source: {source}, dest: {dest}, opts: {opts}}}]}}
"
    )
}

fn with_odd_files() -> Sandbox {
    let sandbox = Sandbox::new();
    for (number, name) in ODD.iter().enumerate() {
        sandbox.write(OsStr::from_bytes(&[b"src/", *name].concat()), number.to_string());
    }
    sandbox
}

/// Runs one job with a variable in its environment.
fn once_with_variable(sandbox: &Sandbox, name: &str, value: &str, jobs: &str) -> Finished {
    let mut command = sandbox.command();
    command.env(name, value).args(["run", "--once", "--config"]).arg(sandbox.config(jobs));
    Finished::of(command)
}

#[test]
fn odd_file_names_arrive_as_they_are() {
    for (place, more) in
        [("type: local", ""), ("type: remote, <peer>", ""), ("type: remote, <peer>", "direction: pull,")]
    {
        let sandbox = with_odd_files();
        let _peer = Sshd::start(&sandbox, "peer");
        let finished = sandbox.once(&sandbox.config(&sync(place, more, "@/src/", "@/dst", "['-av']")));
        finished.expect_code(0);
        assert_same(&sandbox, "src", "dst");
        assert!(!sandbox.exists("pwned"));
        assert!(!finished.stderr.contains("\x1b[31mred"), "a control character reached the log");
    }
}

#[test]
fn odd_file_names_matched_by_a_wildcard_arrive_as_they_are() {
    for place in ["type: local", "type: remote, <peer>"] {
        let sandbox = with_odd_files();
        let _peer = Sshd::start(&sandbox, "peer");
        sandbox.once(&sandbox.config(&sync(place, "", "'@/src/*'", "@/dst/", "['-a']"))).expect_code(0);
        assert_same(&sandbox, "src", "dst");
    }
}

#[test]
fn odd_source_and_destination_paths_are_only_paths() {
    let odd = "it's; $(touch @/pwned) & co `x` \\\\ (1)";
    for (place, more) in
        [("type: local", ""), ("type: remote, <peer>", ""), ("type: remote, <peer>", "direction: pull,")]
    {
        let sandbox = Sandbox::new();
        let _peer = Sshd::start(&sandbox, "peer");
        let (from, to) = (format!("\"@/from {odd}/\""), format!("\"@/to {odd}\""));
        let plain = |name: &str| sandbox.expand(&format!("{name} {odd}")).replace("\\\\", "\\");
        sandbox.write(format!("{}/file", plain("from")), "content");
        sandbox.mkdir(&plain("to"));
        sandbox.once(&sandbox.config(&sync(place, more, &from, &to, "['-a']"))).expect_code(0);
        assert_same(&sandbox, &plain("from"), &plain("to"));
        assert!(!sandbox.exists("pwned"), "{place} {more}");
    }
}

#[test]
fn wildcards_of_a_local_source_are_expanded() {
    let sandbox = Sandbox::new();
    for name in ["a.txt", "b.txt", "c.dat", "x1", "x2", "y1", "deep/z.txt"] {
        sandbox.write(format!("src/{name}"), name);
    }
    let sources = "['@/src/*.txt', '@/src/x?', '@/src/[yz]1', '@/s*/deep']";
    sandbox.once(&sandbox.config(&sync("type: local", "", sources, "@/dst/", "['-a']"))).expect_code(0);
    let names: Vec<_> = sandbox.tree("dst").into_keys().map(|path| path.display().to_string()).collect();
    assert_eq!(names, ["a.txt", "b.txt", "deep/z.txt", "x1", "x2", "y1"]);
}

#[test]
fn a_tilde_is_the_home_directory() {
    let sandbox = Sandbox::new();
    sandbox.write("home/src/file", "content");
    sandbox.once(&sandbox.config(&sync("type: local", "", "~/src/", "@/dst", "['-a']"))).expect_code(0);
    assert_same(&sandbox, "home/src", "dst");
}

#[test]
fn quoted_options_are_split_as_by_a_shell() {
    let sandbox = Sandbox::new();
    for name in ["keep", "skip me", "also not", ".cache"] {
        sandbox.write(format!("src/{name}"), "");
    }
    let opts = r#"["-a --exclude 'skip me'", '--exclude="also not"', "--exclude '.cache'"]"#;
    sandbox.once(&sandbox.config(&sync("type: local", "", "@/src/", "@/dst", opts))).expect_code(0);
    assert_eq!(sandbox.tree("dst").into_keys().map(|p| p.display().to_string()).collect::<Vec<_>>(), ["keep"]);
}

#[test]
fn variables_are_replaced_in_paths_options_and_arguments_and_not_parsed_again() {
    let sandbox = Sandbox::new();
    sandbox.write("a 'b; $(c)/keep", "1");
    sandbox.write("a 'b; $(c)/a 'b; $(c)", "excluded");
    sandbox.script("show", "printf '<%s>' \"$@\" > @/shown");
    let jobs = "jobs:
- {id: j, type: local, actions: [
    {action: sync, id: files, source: '@/${ODD}/', dest: '@/to ${ODD}', opts: ['-a', '--exclude=${ODD}']},
    {action: command, id: c, command: @/show, args: ['${ODD}', 'x${ODD}y']}]}
";
    once_with_variable(&sandbox, "ODD", "a 'b; $(c)", jobs).expect_code(0);
    assert_eq!(sandbox.read("to a 'b; $(c)/keep"), "1");
    assert_eq!(sandbox.tree("to a 'b; $(c)").len(), 1, "the excluded file is not copied");
    assert_eq!(sandbox.read("shown"), "<a 'b; $(c)><xa 'b; $(c)y>");
}

#[test]
fn a_variable_that_is_not_set_is_an_error_with_its_place() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(
        "jobs:
- id: j
  type: local
  actions:
  - {action: sync, id: files, source: '@/${NOT_SET_ANYWHERE}/', dest: @/dst, opts: ['-a']}
",
    );
    let refused = sandbox.once(&config);
    refused.expect_code(2).expect_said("NOT_SET_ANYWHERE").expect_said("main.yaml:");
    assert!(!sandbox.exists("dst"));
}
