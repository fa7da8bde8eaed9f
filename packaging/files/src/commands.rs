//! One man page for each command, from the program's own description of its command line.

use std::io;

use clap::Command;
use clap_mangen::Man;

/// Name and text of the page of each command, and of each command of a command. The program's own page is written by hand.
///
/// # Errors
/// None, as nothing but memory is written to.
pub fn pages(day: &str) -> io::Result<Vec<(String, String)>> {
    let mut program = rsyncdirector::cli::command();
    program.build();
    let mut pages = Vec::new();
    for command in visible(&program) {
        add(command, day, &mut pages)?;
    }
    Ok(pages)
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}

fn add(command: &Command, day: &str, pages: &mut Vec<(String, String)>) -> io::Result<()> {
    let source = format!("rsyncdirector {}", rsyncdirector::VERSION);
    let man = Man::new(command.clone()).section("8").date(day).source(source).manual("RsyncDirector");
    let mut text = Vec::new();
    man.render(&mut text)?;
    let mut text = String::from_utf8_lossy(&text).into_owned();
    text.push_str(".SH \"SEE ALSO\"\n\\fBrsyncdirector\\fR(8), \\fBrsyncdirector.yaml\\fR(5)\n");
    pages.push((man.get_filename(), text));
    for command in visible(command) {
        add(command, day, pages)?;
    }
    Ok(())
}
