//! The agent behind the gate: it looks at the policy's directories alone.
//!
//! Where a scan begins is judged by name, as the paths of an rsync; what lies below is opened so that the kernel lets nothing lead out (`scan`); and the
//! whole process is shut in ([`confine`](super::confine::shut_in_for_agent)).

use super::journal::Journal;
use super::policy::{Confinement, Policy};
use super::{Access, paths};
use crate::agent::Bounds;
use crate::verify::side::Scan;

/// The directories of a policy.
pub struct Within {
    policy: Policy,
    journal: Journal,
}

impl Within {
    /// Of this policy; what is refused is written into the journal.
    pub fn new(policy: Policy, journal: Journal) -> Self {
        Self { policy, journal }
    }

    fn refused(&self, why: &str) -> String {
        self.journal.refused(why);
        format!("gate: refused: {why}")
    }
}

impl Bounds for Within {
    fn root(&self, root: &[u8]) -> Result<Vec<u8>, String> {
        let at_home = match root {
            b"~" => b"",
            [b'~', b'/', below @ ..] => below,
            [b'~', ..] => return Err(self.refused("the home of another user")),
            root => root,
        };
        // A scan follows a link to its root.
        let judged = paths::judge_opened(&self.policy, at_home, Access::Read);
        judged.map(std::os::unix::ffi::OsStringExt::into_vec).map_err(|refusal| self.refused(&refusal.to_string()))
    }

    fn rules(&self, scan: &Scan) -> Result<(), String> {
        // A link by the name of a file of rules may lead out; what it leads to would be told in the message that it is no rule.
        if self.policy.confinement == Confinement::Paths && scan.filters.reads_files() {
            return Err(self.refused("rules in files of the tree; they need `confinement: kernel`"));
        }
        Ok(())
    }
}
