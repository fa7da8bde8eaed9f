use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::*;

/// What a real shell answers.
fn ask(shell: &[&str], home: &Path, questions: &Questions) -> Answers {
    let script = questions.script("word");
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .arg("-c")
        .arg(OsStr::from_bytes(&script))
        .current_dir(home)
        .env("HOME", home)
        .output()
        .expect("the shell runs");
    assert!(output.stdout.ends_with(b"\n@word 0 end\n"), "{}", String::from_utf8_lossy(&output.stderr));
    Answers::parse(questions, "word", &output.stdout).expect("it ran to its end")
}

#[test]
fn shells_tell_what_is_at_a_path() {
    for shell in [&["dash"][..], &["bash"], &["busybox", "sh"]] {
        let home = tempfile::tempdir().expect("a directory");
        let directory = home.path().join("it's a dir");
        fs::create_dir_all(directory.join("group/of")).expect("made");
        fs::set_permissions(directory.join("group"), fs::Permissions::from_mode(0o2755)).expect("chmod");
        fs::write(home.path().join("file"), "").expect("written");
        std::os::unix::fs::symlink("nowhere", home.path().join("dangling")).expect("linked");
        let mut questions = Questions::default();
        let name = |name: &str| home.path().join(name).into_os_string();
        let paths = [
            "~/file".into(),
            "file".into(),
            name("it's a dir/"),
            name("none/x/y"),
            name("dangling"),
            "/".into(),
            "~".into(),
        ];
        let indices: Vec<usize> = paths.iter().map(|path: &OsString| questions.path(path)).collect();
        assert_eq!(indices, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(questions.path(&name("it's a dir/")), 2, "each once");
        questions.setgid = vec![2, 5];
        questions.setgid.pop();
        questions.program(OsStr::new("rsync"));
        questions.program(OsStr::new("/no/such sh"));
        let answers = ask(shell, home.path(), &questions);
        let seen = &answers.paths;
        assert!(seen[0].exists() && seen[0].is_readable() && !seen[0].is_dir(), "{shell:?} {seen:?}");
        assert!(seen[1].exists() && seen[2].is_dir() && seen[2].is_writable(), "{shell:?} {seen:?}");
        assert_eq!(seen[2].setgid.as_deref(), directory.join("group").to_str());
        assert!(!seen[3].exists() && !seen[4].exists() && seen[3].can_be_made(), "{shell:?} {seen:?}");
        assert_eq!(Path::new(&seen[3].above), home.path());
        assert!(seen[5].is_dir() && seen[5].bytes.is_some_and(|room| room.total > room.free), "{shell:?} {seen:?}");
        assert!(seen[6].is_dir());
        assert!(answers.now.is_some_and(|now| now > 1_700_000_000));
        assert!(answers.programs[0].path.ends_with("/rsync") && answers.programs[0].said.contains("version"));
        assert!(answers.programs[1].path.is_empty() && !answers.programs[1].said.contains("version"));
    }
}

#[test]
fn an_output_that_does_not_end_says_nothing() {
    let questions = Questions::default();
    let whole = b"Welcome!\n\n@word 0 now 12\n\n@word 0 end\n";
    assert_eq!(Answers::parse(&questions, "word", whole).expect("complete").now, Some(12));
    assert_eq!(Answers::parse(&questions, "word", b"\n@word 0 now 12\n"), None);
    assert_eq!(Answers::parse(&questions, "other", whole), None);
}

#[test]
fn the_room_is_read_whatever_the_device_is_called() {
    let line = "//nas/my share 1 100 60 40 60% /mnt/a 1 2 3 4% b";
    assert_eq!(room(line, 1024), Some(Room { total: 100 * 1024, free: 40 * 1024 }));
    assert_eq!(room("tmpfs 0 0 0 - /x", 1), None);
    assert_eq!(room("btrfs 0 0 0 0% /x", 1), None);
    assert_eq!(room("", 1), None);
}
