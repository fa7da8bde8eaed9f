//! What rsync starts in place of ssh: hands its standard streams to the daemon that started rsync, and exits.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use super::{CONNECTION_FAILED, VARIABLE, wire};

/// Runs with the arguments that rsync gives: options, the host, and the command. Returns what to exit with.
pub fn run(arguments: impl Iterator<Item = OsString>) -> i32 {
    match hand_over(arguments) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("rsyncdirector: the director that started this rsync cannot be reached: {error}");
            CONNECTION_FAILED
        }
    }
}

fn hand_over(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{VARIABLE} is not set"));
    let variable = env::var(VARIABLE).map_err(|_| missing())?;
    let (name, token) = variable.split_once(' ').filter(|(_, token)| token.len() == wire::TOKEN).ok_or_else(missing)?;
    let mut daemon = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    wire::send_hello(&mut daemon, token, &command(arguments))?;
    wire::wait_until_taken(&mut daemon)
}

/// The command as ssh would send it: what follows the host, joined by spaces. rsync has escaped it for a shell.
fn command(arguments: impl Iterator<Item = OsString>) -> Vec<u8> {
    let mut rest = arguments.skip_while(|argument| argument != "-l");
    let from_host: Vec<OsString> = match rest.next() {
        // `-l user host command…`
        Some(_) => rest.skip(2).collect(),
        None => Vec::new(),
    };
    let words: Vec<&[u8]> = from_host.iter().map(|word| word.as_bytes()).collect();
    words.join(&b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_what_follows_user_and_host() {
        let words = ["-l", "ann", "nas", "rsync", "--server", "-e.Lsfx", ".", "/a\\ b"];
        assert_eq!(command(words.iter().map(OsString::from)), b"rsync --server -e.Lsfx . /a\\ b");
    }
}
