//! What is known of all replicas, kept up to date for who shows it: verifications also run in processes that tell the instance nothing, as
//! those of the command `verify` do.
//!
//! Nothing is done unless somebody looks; then the database's files are looked at, and read only if they have changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::report::Report;
use super::store::{FILE, Store, StoreError};
use crate::config::Config;

/// Who is told.
type Tell = dyn Fn(&[Report]) + Send + Sync;
/// When a file was changed, and its length; of the database and of its log.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// The last report of each replica. Clones look together.
#[derive(Clone)]
pub struct Latest(Arc<Inner>);

struct Inner {
    state: Option<PathBuf>,
    seen: Mutex<Stamp>,
    /// Why nothing was known when it was last looked at; said once, and not whenever somebody looks.
    complaint: Mutex<Option<String>>,
    tell: Box<Tell>,
}

impl Latest {
    /// That of an instance; `tell` is given all reports whenever one is new.
    pub fn new(config: &Config, tell: impl Fn(&[Report]) + Send + Sync + 'static) -> Self {
        let (state, tell) = (config.history.directory.clone(), Box::new(tell));
        Self(Arc::new(Inner { state, seen: Mutex::default(), complaint: Mutex::default(), tell }))
    }

    /// Looks whether there is something new, on a thread for that if there is.
    pub async fn look(&self) {
        if self.0.news().is_none() {
            return;
        }
        let inner = Arc::clone(&self.0);
        // It does not panic; and if, what was known before is as good as it was.
        let _ = tokio::task::spawn_blocking(move || inner.look()).await;
    }

    /// The same, at once.
    pub fn look_now(&self) {
        self.0.look();
    }
}

impl Inner {
    /// Where the database is and how it looks, if it is not as it was.
    fn news(&self) -> Option<(&Path, Stamp)> {
        let state = self.state.as_deref()?;
        let now = stamp(state);
        (*self.seen.lock().unwrap_or_else(PoisonError::into_inner) != now).then_some((state, now))
    }

    fn look(&self) {
        let Some((state, now)) = self.news() else { return };
        let complaint = match latest(state) {
            Ok(reports) => {
                (self.tell)(&reports);
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
                None
            }
            // What is asked next may be answered, though the files are the same.
            Err(error) => Some(crate::error_chain(&error)),
        };
        let mut said = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = complaint.as_ref().filter(|_| *said != complaint) {
            tracing::warn!("what verifications found is not known: {why}");
        }
        *said = complaint;
    }
}

fn latest(state: &Path) -> Result<Vec<Report>, StoreError> {
    Store::open_read_only(state)?.map_or(Ok(Vec::new()), |store| store.latest())
}

fn stamp(state: &Path) -> Stamp {
    [FILE.to_owned(), format!("{FILE}-wal")].map(|name| {
        let found = fs::metadata(state.join(name)).ok()?;
        Some((found.modified().ok()?, found.len()))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::tests::config;
    use crate::verify::report::Verdict;

    #[test]
    fn reports_are_told_once_and_when_one_is_new() {
        let state = tempfile::tempdir().expect("a directory");
        let mut config = config();
        config.history.directory = Some(state.path().to_owned());
        let told = Arc::new(Mutex::new(Vec::new()));
        let teller = Arc::clone(&told);
        let latest = Latest::new(&config, move |reports: &[Report]| {
            teller.lock().expect("not poisoned").push(reports.iter().map(|report| report.verdict).collect::<Vec<_>>());
        });
        latest.look_now();
        let mut store = Store::open(state.path()).expect("made");
        for verdict in [Verdict::Drift, Verdict::InStep] {
            let report = Report::sample("j", "s", verdict, &[]);
            store.record(&report, std::iter::empty(), Duration::from_secs(9)).expect("recorded");
            latest.look_now();
            latest.look_now();
        }
        assert_eq!(*told.lock().expect("not poisoned"), [vec![Verdict::Drift], vec![Verdict::InStep]]);
    }

    #[test]
    fn what_could_not_be_read_once_is_asked_for_again() {
        let state = tempfile::tempdir().expect("a directory");
        let report = Report::sample("j", "s", Verdict::Drift, &[]);
        let mut store = Store::open(state.path()).expect("made");
        store.record(&report, std::iter::empty(), Duration::from_secs(9)).expect("recorded");
        drop(store);
        let file = state.path().join(FILE);
        let good = fs::read(&file).expect("read");
        let changed = fs::metadata(&file).and_then(|about| about.modified()).expect("its time");
        let write = |content: &[u8]| {
            fs::write(&file, content).expect("written");
            let file = fs::File::options().write(true).open(&file).expect("opened");
            file.set_modified(changed).expect("its time is set");
            stamp(state.path())
        };
        let broken = write(&vec![b'x'; good.len()]);
        let mut config = config();
        config.history.directory = Some(state.path().to_owned());
        let told = Arc::new(Mutex::new(Vec::new()));
        let teller = Arc::clone(&told);
        let latest = Latest::new(&config, move |reports: &[Report]| {
            teller.lock().expect("not poisoned").push(reports.len());
        });
        latest.look_now();
        assert!(told.lock().expect("not poisoned").is_empty());
        assert_eq!(write(&good), broken, "nothing is to be seen of the files");
        latest.look_now();
        assert_eq!(*told.lock().expect("not poisoned"), [1]);
    }
}
