//! rsync's exit codes (rsync(1), "EXIT VALUES"), and those of the ssh that it starts.

/// What an exit code means, for people; `None` for one that is not rsync's.
pub fn meaning(code: i32) -> Option<&'static str> {
    Some(match code {
        0 => "success",
        1 => "syntax or usage error",
        2 => "protocol incompatibility",
        3 => "errors selecting input or output files or directories",
        4 => "the action is not supported",
        5 => "error starting the client-server protocol",
        6 => "the daemon cannot write to its log file",
        10 => "error in socket input or output",
        11 => "error in file input or output",
        12 => "error in the rsync protocol data stream",
        13 => "errors with program diagnostics",
        14 => "error in inter-process communication",
        16 => "terminated abnormally",
        19 => "received SIGUSR1",
        20 => "received SIGINT, SIGTERM or SIGHUP",
        21 => "waitpid failed",
        22 => "out of memory",
        23 => "partial transfer due to error",
        24 => "some source files vanished during the transfer",
        25 => "the limit on deletions stopped deletions",
        30 => "timeout while sending or receiving data",
        35 => "timeout while waiting for the daemon",
        124 => "the remote command failed",
        125 => "the remote command was killed",
        126 => "the remote command could not be run",
        127 => "rsync was not found on the other side",
        255 => "the ssh connection failed",
        _ => return None,
    })
}

/// Whether trying again may help: what a network or a busy host does, not what a wrong path or a full disk does.
pub fn retry_mends(code: i32) -> bool {
    matches!(code, 10 | 11 | 12 | 30 | 35 | 255)
}

/// Whether the code is a warning that usually counts as success: files that vanished while rsync ran.
pub fn is_warning(code: i32) -> bool {
    code == 24
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_a_retry_mends_has_a_meaning() {
        assert!((0..=255).filter(|code| retry_mends(*code) || is_warning(*code)).all(|code| meaning(code).is_some()));
        assert!(!retry_mends(23), "a mistyped source gives 23");
        assert_eq!(meaning(99), None);
    }
}
