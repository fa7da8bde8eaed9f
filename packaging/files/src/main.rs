//! Makes what a package ships beside the program and what is written by hand, all from the program itself and `CHANGELOG.md`:
//!
//! | file | what |
//! | --- | --- |
//! | `man/rsyncdirector-COMMAND.8` | one page for each command ([`commands`]) |
//! | `man/rsyncdirector.yaml.5` | the configuration file, from its JSON schema ([`schema`]) |
//! | `completions/rsyncdirector`, `_rsyncdirector`, `rsyncdirector.fish` | for bash, zsh, fish |
//! | `changelog` | as Debian has it ([`changelog`]) |
//! | `THIRD-PARTY` | notices and licences of the libraries in the program ([`notices`]) |
//!
//! A program of its own, so that the one that is shipped does not carry it. It reads no clock: the date is an argument, and
//! the same arguments make the same files.

mod changelog;
mod commands;
mod notices;
mod schema;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use clap_complete::Shell;
use jiff::Timestamp;

/// Make the man pages, the completions and the changelog of a package
#[derive(Debug, Parser)]
struct Args {
    /// The package's version, such as 2.0.0-1
    #[arg(long)]
    version: String,
    /// When this was made, seconds since 1970: the date in pages and of what is not released yet
    #[arg(long, value_name = "SECONDS")]
    date: i64,
    /// Who made it
    #[arg(long, value_name = "NAME <ADDRESS>")]
    maintainer: String,
    /// The project's changelog
    #[arg(long, value_name = "FILE")]
    changelog: PathBuf,
    /// What `cargo metadata` prints for the platform of the package
    #[arg(long, value_name = "FILE")]
    metadata: PathBuf,
    /// Where the files go
    directory: PathBuf,
}

fn main() -> ExitCode {
    match write_all(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("package-files: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(args: &Args) -> io::Result<()> {
    let made = Timestamp::from_second(args.date).map_err(io::Error::other)?;
    let day = made.strftime("%Y-%m-%d").to_string();
    let pages = commands::pages(&day)?;
    for (name, text) in pages.iter().chain([&("rsyncdirector.yaml.5".to_owned(), schema::page(&day))]) {
        write(&args.directory.join("man").join(name), text)?;
    }
    for (shell, name) in
        [(Shell::Bash, "rsyncdirector"), (Shell::Zsh, "_rsyncdirector"), (Shell::Fish, "rsyncdirector.fish")]
    {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut rsyncdirector::cli::command(), "rsyncdirector", &mut script);
        write(&args.directory.join("completions").join(name), &String::from_utf8_lossy(&script))?;
    }
    let text = fs::read_to_string(&args.changelog)?;
    let debian = changelog::debian(&text, &args.version, &args.maintainer, made).map_err(io::Error::other)?;
    write(&args.directory.join("changelog"), &debian)?;
    let metadata = serde_json::from_str(&fs::read_to_string(&args.metadata)?)?;
    write(&args.directory.join("THIRD-PARTY"), &notices::notices(&metadata)?)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("could not write {}: {error}", path.display()));
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(named)?;
    fs::write(path, text).map_err(named)
}
