//! The man page names what the program has, and its example is a configuration.

use std::fs;
use std::process::{Command, Output};

const PAGE: &str = include_str!("../../packaging/rsyncdirector.8");

const COMMANDS: [&str; 22] = [
    "run",
    "check",
    "doctor",
    "next",
    "locks",
    "status",
    "now",
    "cancel",
    "pause",
    "resume",
    "why",
    "reload",
    "renew",
    "verify",
    "history",
    "show",
    "notify-test",
    "gate",
    "agent",
    "schema",
    "version",
    "completions",
];

#[test]
fn every_option_and_command_of_the_help_is_in_the_man_page() {
    for command in COMMANDS {
        assert!(PAGE.lines().any(|line| line == format!(".It Cm {command}")), "{command} is missing");
        for option in options(command) {
            let listed = PAGE.lines().any(|line| line.starts_with(".It Fl") && line.contains(&format!("-{option} ")));
            let switch = PAGE.lines().any(|line| line == format!(".It Fl -{option}"));
            assert!(listed || switch, "--{option} of {command} is missing");
        }
    }
}

#[test]
fn every_command_of_the_program_is_known_here() {
    let help = stdout(&rsyncdirector(&["--help"]));
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let named = listed.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    assert_eq!(named.filter_map(|line| line.split_whitespace().next()).collect::<Vec<_>>(), COMMANDS);
}

#[test]
fn exit_codes_and_variables_of_the_help_are_in_the_man_page() {
    let help = stdout(&rsyncdirector(&["--help"]));
    let numbered = |line: &&str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
    let codes: Vec<_> = help.lines().filter(numbered).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(codes, ["0", "1", "2", "3", "4", "75", "126"]);
    for code in codes {
        assert!(PAGE.lines().any(|line| line == format!(".It {code}")), "exit code {code} is missing");
    }
    let variables = help.split_whitespace().filter(|word| word.starts_with("RSYNCDIRECTOR_"));
    for variable in variables {
        assert!(PAGE.lines().any(|line| line == format!(".It Ev {variable}")), "{variable} is missing");
    }
}

#[test]
fn the_example_is_a_valid_configuration() {
    let example = PAGE.split(".Bd -literal -offset indent\n").nth(1).and_then(|rest| rest.split(".Ed").next());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("laptop.yaml");
    let text = example.expect("the page has an example").replace("/root/.ssh/id_ed25519", "/dev/null");
    fs::write(&file, text).expect("write it");
    let mut check = Command::new(env!("CARGO_BIN_EXE_rsyncdirector"));
    let checked = check.arg("check").arg(&file).env("HOME", directory.path()).output().expect("the program runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// The long options that a command's help lists, without dashes and but for `--help`.
fn options(command: &str) -> Vec<String> {
    let help = stdout(&rsyncdirector(&[command, "-h"]));
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let options = lines.filter_map(|line| line.split_whitespace().find_map(|word| word.strip_prefix("--")));
    // A value that may be left out stands in brackets.
    let options = options.map(|option| option.split('[').next().unwrap_or(option));
    options.filter(|option| *option != "help").map(str::to_owned).collect()
}

fn rsyncdirector(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rsyncdirector")).args(args).output().expect("the program runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
