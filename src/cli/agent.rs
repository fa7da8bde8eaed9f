//! `agent`: what a verification on another host starts here.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;

use super::{Exit, complain, complain_of};
use crate::account;
use crate::agent::{self, Unbounded, priority};
use crate::verify::here::Here;

/// Serves the client at the other end of the standard streams.
pub(super) fn run() -> ExitCode {
    if io::stdin().is_terminal() || io::stdout().is_terminal() {
        complain_of(
            "the agent speaks with an rsyncdirector on another host, which starts it here by ssh to compare its tree \
             with this host's (`rsyncdirector verify`); it has nothing to say to a terminal",
        );
        return Exit::Configuration.into();
    }
    match serve(Box::new(Unbounded { home: account::home() })) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            Exit::NotUnderstood.into()
        }
    }
}

/// The agent on this process's standard streams, as far as its priority can be lowered with a low one. The process is to end then.
pub(super) fn serve(bounds: Box<dyn agent::Bounds>) -> Result<(), agent::ServeError> {
    // It works as well without.
    let _ = priority::lower();
    let (input, output) = (stream(io::stdin().as_fd()), stream(io::stdout().as_fd()));
    match (input, output) {
        (Ok(input), Ok(output)) => agent::serve(input, output, Box::new(Here::default()), bounds),
        (Err(error), _) | (_, Err(error)) => Err(agent::ServeError::Streams(error)),
    }
}

/// A standard stream without a buffer of lines.
fn stream(descriptor: BorrowedFd<'_>) -> io::Result<File> {
    Ok(descriptor.try_clone_to_owned()?.into())
}
