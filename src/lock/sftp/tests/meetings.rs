//! The backends meet on one file, and a peer's two ways are chosen from.

use futures_util::future::join_all;

use super::super::super::{LocalBackend, PeerBackend, RemoteBackend};
use super::*;

/// Backends of all three kinds for one directory, on connections of their own.
fn contenders(sshd: &TestSshd) -> Vec<Arc<dyn LockBackend>> {
    let mut all: Vec<Arc<dyn LockBackend>> = Vec::new();
    for _ in 0..3 {
        let pool = pool(sshd);
        for _ in 0..3 {
            all.push(Arc::new(SftpBackend::new(pool.clone(), sshd.peer(), LONG)));
        }
        all.push(Arc::new(RemoteBackend::new(pool, sshd.peer(), LONG)));
        all.push(Arc::new(LocalBackend));
    }
    all
}

/// Lets all take at once; exactly one may succeed, whose index is returned.
async fn race(contenders: &[Arc<dyn LockBackend>], op: impl Fn(usize) -> Op) -> usize {
    let answers = join_all(contenders.iter().enumerate().map(|(n, backend)| backend.perform(vec![op(n)]))).await;
    let answers: Vec<_> = answers.into_iter().map(|answers| answers.unwrap().remove(0)).collect();
    let winners: Vec<_> = (0..answers.len()).filter(|&n| answers[n] == Taken).collect();
    assert_eq!(winners.len(), 1, "{answers:#?}");
    winners[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_contenders_of_all_kinds_one_takes_a_lock_and_one_replaces_a_stale_one() {
    let rig = Rig::with(SFTP);
    let (path, contenders) = (rig.path(), contenders(&rig.sshd));
    for round in 0..15 {
        let winner = race(&contenders, |n| take(&path, &format!("t{n}"))).await;
        grow_old(&path, 100);
        let stale = format!("t{winner}");
        let heir = race(&contenders, |n| replace(&path, &format!("n{n}"), &stale)).await;
        let token = format!("n{heir}");
        // Whichever backend goes on: they understand each other's files.
        let next = &contenders[(heir + round) % contenders.len()];
        let answers = next.perform(vec![refresh(&path, &token), remove(&path, &token)]).await.unwrap();
        assert_eq!(answers, [Refreshed, Removed]);
    }
    settles(&rig, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_lock_is_removed_by_its_owner_or_replaced_by_another_and_never_both() {
    let rig = Rig::with(SFTP);
    let (path, contenders) = (rig.path(), contenders(&rig.sshd));
    let mut removed = 0;
    for round in 0..20 {
        // No backend remembers this one, so its age is asked for.
        let (old, new) = (format!("a{round}"), format!("b{round}"));
        fs::write(&path, record(&old).encode()).unwrap();
        grow_old(&path, 100);
        let (owner, other) = (&contenders[round % 5], &contenders[(round * 2 + 1) % 5]);
        let (by_owner, by_other) =
            tokio::join!(owner.perform(vec![remove(&path, &old)]), other.perform(vec![replace(&path, &new, &old)]));
        let (by_owner, by_other) = (by_owner.unwrap().remove(0), by_other.unwrap().remove(0));
        let holds_new = fs::read_to_string(&path).is_ok_and(|text| text == record(&new).encode());
        assert_eq!(by_other == Taken, holds_new, "round {round}: {by_owner:?} {by_other:?}");
        removed += usize::from(by_owner == Removed);
        let _ = fs::remove_file(&path);
    }
    assert!(removed > 0, "some removals came first or alone");
}

fn chooser(pool: &Pool, peer: Peer) -> PeerBackend {
    let shell = RemoteBackend::new(pool.clone(), peer.clone(), LONG);
    PeerBackend::new(peer.clone(), shell, SftpBackend::new(pool.clone(), peer, LONG))
}

#[tokio::test]
async fn an_account_without_a_shell_is_reached_by_sftp() {
    for config in [ONLY_SFTP.to_owned(), SFTP.to_owned(), format!("{ONLY_SFTP}\nMaxSessions 1")] {
        let sshd = TestSshd::start_with(&config);
        chmod(sshd.dir.path(), 0o755);
        let dir = tempfile::tempdir().unwrap();
        chmod(dir.path(), 0o777);
        let path = dir.path().join("x.lock");
        // The shell of this one is nologin(8).
        let backend = chooser(&pool(&sshd), Peer { user: "nobody".into(), ..sshd.peer() });
        assert!(!backend.is_by_sftp());
        for _ in 0..2 {
            let batch = vec![take(&path, "a"), refresh(&path, "a"), remove(&path, "a")];
            assert_eq!(backend.perform(batch).await.unwrap(), [Taken, Refreshed, Removed]);
            assert!(backend.is_by_sftp());
        }
    }
}

#[tokio::test]
async fn a_shell_is_preferred_and_the_way_changes_when_it_works_no_more() {
    let way = tempfile::NamedTempFile::new().unwrap();
    let script = format!(
        "ForceCommand case $(cat {})/$SSH_ORIGINAL_COMMAND in shell/exec*) exec /bin/sh;; \
         sftp/*) exec /usr/lib/openssh/sftp-server;; esac; exit 1",
        way.path().display()
    );
    let sshd = TestSshd::start_with(&format!("{SFTP}\n{script}"));
    let pool = pool(&sshd);
    let backend = chooser(&pool, sshd.peer());
    let look = || backend.perform(vec![look(Path::new("/none"))]);
    for (mode, by_sftp) in [("shell", false), ("sftp", true), ("shell", false), ("sftp", true)] {
        fs::write(&way, mode).unwrap();
        // What is open already goes on as it is.
        pool.close(LONG).await;
        assert_eq!(look().await.unwrap(), [There(Found::Absent)]);
        assert_eq!(backend.is_by_sftp(), by_sftp, "{mode}");
    }
    fs::write(&way, "none").unwrap();
    pool.close(LONG).await;
    let error = look().await.unwrap_err().why;
    let (peer, tried) = (sshd.peer(), "SFTP was tried too");
    assert!(error.starts_with(&format!("{peer} could not perform a lock operation: ")), "{error}");
    assert!(error.contains(tried), "{error}");
}

#[tokio::test]
async fn a_lost_connection_does_not_change_the_way() {
    for (config, by_sftp) in [(ONLY_SFTP, true), (SFTP, false)] {
        let sshd = TestSshd::start_with(config);
        let pool = pool(&sshd);
        let backend = chooser(&pool, sshd.peer());
        assert_eq!(backend.perform(vec![look(Path::new("/none"))]).await.unwrap(), [There(Found::Absent)]);
        assert_eq!(backend.is_by_sftp(), by_sftp);
        drop(sshd);
        pool.close(LONG).await;
        assert!(backend.perform(vec![look(Path::new("/none"))]).await.is_err());
        assert_eq!(backend.is_by_sftp(), by_sftp);
    }
}
