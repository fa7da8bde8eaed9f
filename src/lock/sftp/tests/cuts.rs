//! Connections that end between any two requests, and servers that stand still.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// What serves requests.
struct Connection {
    logins: usize,
    servers: Vec<u32>,
}

impl Rig {
    /// The connection that is used now.
    async fn connection(&self) -> Connection {
        self.flush().await;
        Connection { logins: self.sshd.logins(), servers: self.sshd.servers() }
    }
}

impl Connection {
    /// Waits until all that reached the peer by it is done: there is an answer to something later, or, after a cut, its servers have ended.
    async fn done(self, rig: &Rig) {
        rig.flush().await;
        if rig.sshd.logins() == self.logins {
            return;
        }
        let since = Ticks::now();
        // What has ended has no program any more, though nobody may have waited for it.
        while self.servers.iter().any(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok()) {
            assert!(since.elapsed() < LONG, "{:?} do not end", self.servers);
            clock::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Performs an operation so that just the first `requests` requests reach the peer; `None` when all did.
async fn cut_after(rig: &Rig, requests: usize, op: Op) -> Option<()> {
    let fuse = Arc::new(AtomicUsize::new(requests));
    let backend = SftpBackend { fuse: Some(Arc::clone(&fuse)), ..rig.backend.clone() };
    let connection = rig.connection().await;
    let result = backend.perform(vec![op]).await;
    let burnt = fuse.load(Ordering::SeqCst) == 0;
    connection.done(rig).await;
    match result {
        Err(error) => {
            assert!(burnt && error.why.starts_with("lost the connection while"), "{error}");
            Some(())
        }
        // The last requests of an operation are removals that nobody awaits.
        Ok(_) => burnt.then_some(()),
    }
}

/// After `op` was cut off at any point, another contender gets the lock as soon as a lease is over, and the file is one
/// director's all the time. Returns at how many points.
async fn check(prepare: impl Fn(&Path), op: impl Fn(&Path) -> Op) -> usize {
    let rig = Rig::new();
    for requests in 0.. {
        let dir = tempfile::tempdir_in(rig.dir.path()).unwrap();
        let path = dir.path().join("x.lock");
        prepare(&path);
        let was_cut = cut_after(&rig, requests, op(&path)).await;
        if was_cut.is_none() {
            return requests;
        }
        for name in names(dir.path()) {
            grow_old(&dir.path().join(name), 100);
        }
        let mut answer = rig.one(take(&path, "next")).await;
        if let There(Found::File { content, .. }) = &answer {
            let Content::Director(stale) = content else { panic!("after {requests}: {answer:?}") };
            answer = rig.one(replace(&path, "next", &stale.token)).await;
        }
        assert_eq!(answer, Taken, "after {requests}");
        assert_eq!(fs::read_to_string(&path).unwrap(), record("next").encode());
        assert_eq!(rig.perform(&[refresh(&path, "next"), remove(&path, "next")]).await, [Refreshed, Removed]);
        assert!(!path.exists(), "after {requests}");
    }
    unreachable!("some number of requests is enough")
}

fn old_lock(path: &Path) {
    fs::write(path, record("a").encode()).unwrap();
    grow_old(path, 100);
}

#[tokio::test]
async fn a_take_that_is_cut_off_anywhere_holds_nobody_up() {
    let points = check(|_| (), |path| take(path, "a")).await;
    assert!(points >= 7, "{points}");
    let below = check(|_| (), |path| take(&path.with_file_name("sub").join("x"), "a")).await;
    assert!(below > points, "{below}");
}

#[tokio::test]
async fn a_take_over_that_is_cut_off_anywhere_holds_nobody_up() {
    let points = check(old_lock, |path| replace(path, "b", "a")).await;
    assert!(points >= 14, "{points}");
}

#[tokio::test]
async fn a_removal_that_is_cut_off_anywhere_holds_nobody_up() {
    let young = check(|path| fs::write(path, record("a").encode()).unwrap(), |path| remove(path, "a")).await;
    let old = check(old_lock, |path| remove(path, "a")).await;
    assert!(young >= 10 && old >= 10, "{young} {old}");
}

#[tokio::test]
async fn a_refresh_that_is_cut_off_anywhere_holds_nobody_up_and_leaves_the_content() {
    let points = check(|path| fs::write(path, record("a").encode()).unwrap(), |path| refresh(path, "a")).await;
    assert!(points >= 8, "{points}");
}

#[tokio::test]
async fn an_operation_that_is_repeated_after_a_cut_is_done() {
    let rig = Rig::new();
    for requests in 0.. {
        let path = rig.dir.path().join(format!("{requests}.lock"));
        let was_cut = cut_after(&rig, requests, take(&path, "a")).await;
        assert_eq!(rig.one(take(&path, "a")).await, Taken, "after {requests}: by the same run");
        assert_eq!(rig.one(remove(&path, "a")).await, Removed);
        if was_cut.is_none() {
            break;
        }
    }
    settles(&rig, &[]).await;
}

#[tokio::test]
async fn a_server_that_stands_still_costs_half_a_lease_and_the_connection() {
    let pid = tempfile::NamedTempFile::new().unwrap();
    let server = format!("{SFTP}\nForceCommand echo $$ > {}; exec /usr/lib/openssh/sftp-server", pid.path().display());
    let rig = Rig::with(&server);
    let path = rig.path();
    let ops = |record: &Record| {
        [
            Op::Take { path: path.clone(), record: record.clone(), replaces: None },
            Op::Refresh { path: path.clone(), record: record.clone() },
            Op::Remove { path: path.clone(), record: record.clone() },
        ]
    };
    let short = Record { lease_seconds: 1, ..record("a") };
    for (op, patient) in ops(&short).into_iter().zip(ops(&record("a"))) {
        let _ = rig.one(look(&path)).await;
        let server = fs::read_to_string(&pid).unwrap();
        let logins = rig.sshd.logins();
        run("kill", &["-STOP", server.trim()]);
        let error = rig.backend.perform(vec![op.clone()]).await.unwrap_err();
        run("kill", &["-KILL", server.trim()]);
        let peer = rig.sshd.peer();
        assert_eq!(error.to_string(), format!("a lock operation on {peer} took longer than 500ms"), "{op:?}");
        let _ = rig.one(patient).await;
        assert_eq!(rig.sshd.logins(), logins + 1);
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_at_any_time_leaves_a_peer_that_works() {
    let rig = Rig::new();
    for microseconds in (0..60).map(|n| n * 50) {
        let dir = tempfile::tempdir_in(rig.dir.path()).unwrap();
        let path = dir.path().join("x.lock");
        old_lock(&path);
        let connection = rig.connection().await;
        let call = rig.backend.perform(vec![replace(&path, "b", "a"), remove(&path, "b")]);
        let _ = tokio::time::timeout(Duration::from_micros(microseconds), call).await;
        connection.done(&rig).await;
        for name in names(dir.path()) {
            grow_old(&dir.path().join(name), 100);
        }
        let mut answer = rig.one(take(&path, "c")).await;
        if let There(Found::File { content: Content::Director(stale), .. }) = answer {
            answer = rig.one(replace(&path, "c", &stale.token)).await;
        }
        assert_eq!(answer, Taken, "after {microseconds} us");
    }
}
