//! A tree of this host, told as rsync tells the other: with what both can know, and marks for the rest.

use super::{Entries, Here, Read, SAME, Scan, Side, SideError, Wanted};
use crate::scan::{Attributes, Entry, Kind};
use crate::verify::side::About;

/// This host.
pub(super) struct Plain(pub(super) Here);

impl Side for Plain {
    fn about(&self) -> About {
        // Numbers of owners are compared as they are: rsync has found those of the other side by their names.
        About { users: Vec::new(), groups: Vec::new(), ..self.0.about() }
    }

    fn scan(&mut self, scan: &Scan) -> Result<Entries<'_>, SideError> {
        let entries = self.0.scan(&without_attributes(scan))?;
        Ok(Box::new(entries.map(|entry| entry.map(plain))))
    }

    fn look(&mut self, scan: &Scan, paths: &[Vec<u8>]) -> Result<Vec<Option<Entry>>, SideError> {
        let found = self.0.look(&without_attributes(scan), paths)?;
        Ok(found.into_iter().map(|entry| entry.map(plain)).collect())
    }

    /// Reads nothing: rsync reads both sides.
    fn hash(
        &mut self,
        _scan: &Scan,
        wanted: &mut (dyn Iterator<Item = Wanted> + Send),
        _rate: Option<u64>,
        told: &mut (dyn FnMut(Wanted, Read) -> Result<(), SideError> + Send),
    ) -> Result<(), SideError> {
        for wanted in wanted {
            told(wanted, Read::Digest(SAME))?;
        }
        Ok(())
    }
}

fn without_attributes(scan: &Scan) -> Scan {
    Scan { attributes: Attributes::default(), ..scan.clone() }
}

/// Without what rsync does not tell apart; and without a number, since a digest that is a mark must not be known later.
fn plain(mut entry: Entry) -> Entry {
    entry.id = 0;
    entry.kind = match entry.kind {
        Kind::Block(_) | Kind::Character(_) => Kind::Block(0),
        Kind::Socket => Kind::Fifo,
        kind => kind,
    };
    entry
}
