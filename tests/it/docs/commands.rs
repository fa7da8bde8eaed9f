//! The command lines of `rsyncdirector` in the documents, as its own parser reads them.

use clap::error::ErrorKind;
use rsyncdirector::cli;

use super::documents;
use super::markdown::Document;

#[test]
fn every_command_in_a_document_is_one_of_the_program() {
    let (mut problems, mut count) = (Vec::new(), 0);
    for document in documents() {
        let commands = commands(&document);
        count += commands.len();
        for (line, words, is_whole) in commands {
            if let Err(why) = parse(&words, is_whole) {
                problems.push(format!("{}:{line}: {}: {why}", document.path.display(), words.join(" ")));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count > 50, "only {count} commands were found");
}

#[test]
fn a_wrong_command_is_found() {
    let wrong = |line: &str| of_line(line).iter().filter(|words| parse(words, true).is_err()).count();
    assert_eq!(wrong("rsyncdirector check x.yaml && sudo -u ann rsyncdirector chek x.yaml | less"), 1);
    assert_eq!(wrong("ssh backup01 rsyncdirector locks --confg x.yaml"), 1);
    assert_eq!(wrong("A=1 /usr/bin/rsyncdirector locks break"), 1);
    assert_eq!(wrong("cp target/release/rsyncdirector --frobnicate /usr/bin; rsyncdirector # --frobnicate"), 0);
    assert_eq!(of_line("restrict,command=\"/usr/bin/rsyncdirector run --once\" ssh-ed25519 AAAA")[0].len(), 3);
    assert!(
        parse(&["rsyncdirector".into(), "why".into()], false).is_ok(),
        "a command's name may stand alone in a text"
    );
}

/// The commands of a document: the line, the words, and whether it is meant to be complete.
fn commands(document: &Document) -> Vec<(usize, Vec<String>, bool)> {
    let mut found = Vec::new();
    for block in &document.blocks {
        let text = block.text.replace("\\\n", " ");
        found.extend(text.lines().flat_map(of_line).map(|words| (block.line, words, true)));
    }
    for (line, span) in document.spans.iter().filter(|(_, span)| span.starts_with("rsyncdirector ")) {
        let plain: String = span.chars().filter(|c| !"[]…".contains(*c)).collect();
        found.extend(of_line(&plain).into_iter().map(|words| (*line, words, false)));
    }
    found
}

/// What of a line of a shell, a unit or an `authorized_keys` file executes the program.
fn of_line(line: &str) -> Vec<Vec<String>> {
    if let Some((_, forced)) = line.split_once("command=\"") {
        return forced.split('"').next().into_iter().flat_map(of_line).collect();
    }
    let line = line.split(" #").next().unwrap_or_default();
    let parts = line.split(['|', ';']).flat_map(|part| part.split("&&"));
    parts.filter_map(|part| program(&shell_words::split(part.split(" >").next()?).ok()?)).collect()
}

/// The words from the program's name on, if it is what these words execute.
fn program(words: &[String]) -> Option<Vec<String>> {
    let is_assignment = |word: &&String| word.contains('=') && !word.starts_with('-');
    let words: Vec<_> = words.iter().skip_while(is_assignment).cloned().collect();
    let is_ours = |word: &String| word == "rsyncdirector" || word == "/usr/bin/rsyncdirector";
    let at = words.iter().position(is_ours)?;
    let leads_to_it = at == 0 || ["sudo", "ssh", "faketime"].contains(&words[0].as_str());
    leads_to_it.then(|| words[at..].to_vec())
}

fn parse(words: &[String], is_whole: bool) -> Result<(), String> {
    match cli::command().try_get_matches_from(words) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(()),
            // `why` alone, or `--event EVENT`.
            ErrorKind::MissingRequiredArgument
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::InvalidValue
            | ErrorKind::ValueValidation
                if !is_whole =>
            {
                Ok(())
            }
            kind => Err(kind.to_string()),
        },
    }
}
