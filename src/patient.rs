//! Looks at files that may never be answered, as on a mount whose file server is off.
//!
//! Nothing ends such a look: its thread is lost until the mount answers. So only one at a time is under way about the same files, and who asks
//! meanwhile waits for its turn without a thread; otherwise what is asked again and again would use up the threads of the process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::{JoinError, spawn_blocking};

/// Those about whom somebody asks now; who has the lock looks.
static TURNS: Mutex<BTreeMap<Vec<PathBuf>, Arc<tokio::sync::Mutex<()>>>> = Mutex::new(BTreeMap::new());

/// Takes a look off the reactor that is about `files`. Who does not want to wait for ever drops this; a look that has begun goes on, and
/// until its end there is no other about the same files.
///
/// # Errors
/// The look panicked.
pub async fn look<T: Send + 'static>(
    files: Vec<PathBuf>,
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let turn = turn(files).lock_owned().await;
    let look = move || {
        let found = look();
        drop(turn);
        found
    };
    spawn_blocking(look).await
}

/// Returns when no look at these files is under way; at once, if none is.
pub async fn free(files: Vec<PathBuf>) {
    drop(turn(files).lock_owned().await);
}

fn turn(files: Vec<PathBuf>) -> Arc<tokio::sync::Mutex<()>> {
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    // Those that nobody asks about any more.
    turns.retain(|_, turn| Arc::strong_count(turn) > 1);
    Arc::clone(turns.entry(files).or_default())
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use futures_util::future::join_all;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_look_that_is_not_answered_keeps_one_thread_however_often_it_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let begun = Arc::new(AtomicU32::new(0));
        let ask = || {
            let (pipe, begun) = (pipe.clone(), Arc::clone(&begun));
            look(vec![pipe.clone()], move || {
                begun.fetch_add(1, Ordering::Relaxed);
                File::open(pipe).is_ok()
            })
        };
        let asked = join_all((0..100).map(|_| timeout(Duration::from_millis(100), ask()))).await;
        assert!(asked.iter().all(Result::is_err));
        let other = look(vec![directory.path().into()], || "looked").await;
        assert_eq!(other.unwrap(), "looked", "nothing is in the way of other files");
        // Open at both ends, so that it keeps nobody.
        let _open = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        assert!(ask().await.unwrap());
        assert_eq!(begun.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn who_was_asked_about_is_forgotten() {
        let files = vec![PathBuf::from("/who_was_asked_about_is_forgotten")];
        look(files.clone(), || ()).await.unwrap();
        look(vec![PathBuf::from("/another")], || ()).await.unwrap();
        assert!(!TURNS.lock().unwrap().contains_key(&files));
    }
}
