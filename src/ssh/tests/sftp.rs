//! SFTP sessions on pooled connections.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::super::test_sshd::{TestSshd, run};
use super::super::{Mode, Sftp, SftpError, Status};
use super::*;

const ONLY_SFTP: &str = "Subsystem sftp internal-sftp\nForceCommand internal-sftp";

async fn open(fixture: &Fixture, sshd: &TestSshd) -> Sftp {
    fixture.pool.sftp(&sshd.peer(), LONG).await.unwrap()
}

fn status<T>(result: Result<T, SftpError>) -> Option<Status> {
    match result {
        Err(SftpError::Status { status, .. }) => Some(status),
        _ => None,
    }
}

#[tokio::test]
async fn files_are_made_read_linked_renamed_and_removed() {
    let sshd = TestSshd::start_with(ONLY_SFTP);
    let fixture = Fixture::new(sshd.policy());
    let sftp = open(&fixture, &sshd).await;
    assert!(sftp.can_hardlink() && sftp.can_rename_over());
    let dir = tempfile::tempdir().unwrap();
    let name = |name: &str| dir.path().join(name).as_os_str().as_bytes().to_vec();

    let file = sftp.open(&name("a"), Mode::CreateNew).await.unwrap();
    // Sent together, done in order.
    let (write, stat) = (file.write(0, b"text"), file.stat());
    write.await.unwrap();
    assert_eq!(stat.await.unwrap().size, Some(4));
    file.close().await.unwrap();
    assert_eq!(status(sftp.open(&name("a"), Mode::CreateNew).await), Some(Status::Failure));
    assert_eq!(status(sftp.open(&name("none"), Mode::Read).await), Some(Status::NoSuchFile));

    sftp.hardlink(&name("a"), &name("b")).await.unwrap();
    assert_eq!(status(sftp.hardlink(&name("a"), &name("b")).await), Some(Status::Failure));
    fs::write(dir.path().join("c"), "old").unwrap();
    sftp.rename_over(&name("b"), &name("c")).await.unwrap();
    let file = sftp.open(&name("c"), Mode::Update).await.unwrap();
    assert_eq!(file.read(1, 100).await.unwrap(), b"ext");
    assert_eq!(file.read(4, 100).await.unwrap(), b"");
    sftp.mkdir(&name("d")).await.unwrap();
    std::os::unix::fs::symlink(dir.path().join("d"), dir.path().join("l")).unwrap();
    assert!(sftp.lstat(&name("l")).await.unwrap().is_link() && sftp.stat(&name("l")).await.unwrap().is_dir());
    sftp.remove(&name("c")).await.unwrap();
    assert_eq!(status(sftp.lstat(&name("c")).await), Some(Status::NoSuchFile));
    assert_eq!(sshd.logins(), 1);
}

#[tokio::test]
async fn a_connection_has_one_session_with_room_for_many_requests_at_once() {
    let sshd = TestSshd::start_with(&format!("{ONLY_SFTP}\nMaxSessions 1"));
    let fixture = Fixture::new(sshd.policy());
    let sessions = futures_util::future::join_all((0..20).map(|_| open(&fixture, &sshd))).await;
    let stats = sessions.iter().cycle().take(2000).map(|sftp| sftp.lstat(b"/"));
    for stat in futures_util::future::join_all(stats).await {
        assert!(stat.unwrap().is_dir());
    }
    // More handles than fit into seven bits, which is where a handle of OpenSSH stops being text.
    let handles = futures_util::future::join_all((0..200).map(|_| sessions[0].open(b"/etc/passwd", Mode::Read))).await;
    assert!(handles.last().unwrap().as_ref().unwrap().read(0, 1).await.unwrap().len() == 1);
    assert_eq!(sshd.logins(), 1);
}

#[tokio::test]
async fn a_session_that_ended_is_replaced_and_so_is_a_connection() {
    let pid = tempfile::NamedTempFile::new().unwrap();
    let command = format!("echo $$ > {}; exec /usr/lib/openssh/sftp-server", pid.path().display());
    let sshd = TestSshd::start_with(&format!("Subsystem sftp {command}"));
    let fixture = Fixture::new(sshd.policy());
    for round in 0..3 {
        let sftp = open(&fixture, &sshd).await;
        let connection = text(&fixture.run(&sshd.peer(), "echo $PPID").await.stdout).trim().to_owned();
        run("kill", &["-KILL", fs::read_to_string(&pid).unwrap().trim()]);
        let lost = loop {
            // The kill travels by another way than the request.
            if let Err(error) = sftp.lstat(b"/").await {
                break error;
            }
        };
        assert!(matches!(lost, SftpError::Broken(SshError::Lost { .. })), "{lost:?}");
        assert!(open(&fixture, &sshd).await.lstat(b"/").await.unwrap().is_dir());
        assert_eq!(sshd.logins(), round + 1, "the connection was kept");
        run("kill", &["-KILL", &connection]);
    }
}

#[tokio::test]
async fn a_session_that_nobody_waited_for_is_closed() {
    let sshd = TestSshd::start_with(&format!("{ONLY_SFTP}\nMaxSessions 1"));
    let fixture = Fixture::new(sshd.policy());
    fixture.pool.warm(&sshd.peer()).await.unwrap();
    for microseconds in (0..40).map(|n| n * 100) {
        let peer = sshd.peer();
        let call = fixture.pool.sftp(&peer, LONG);
        let _ = tokio::time::timeout(Duration::from_micros(microseconds), call).await;
    }
    assert!(open(&fixture, &sshd).await.lstat(b"/").await.unwrap().is_dir());
    assert_eq!(sshd.logins(), 1);
}

#[tokio::test]
async fn a_peer_without_sftp_says_so() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let Err(error) = fixture.pool.sftp(&sshd.peer(), LONG).await else { panic!("there is no subsystem") };
    let text = crate::error_chain(&error);
    assert_eq!(text, format!("opening an SFTP session on {} failed: the peer has no SFTP", sshd.peer()));
    let sshd = TestSshd::start_with("Subsystem sftp /bin/false");
    let fixture = Fixture::new(sshd.policy());
    let Err(error) = fixture.pool.sftp(&sshd.peer(), LONG).await else { panic!("it is no SFTP server") };
    assert_eq!(error.reason(), "protocol");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_cut_off_is_never_done() {
    let sshd = TestSshd::start_with(ONLY_SFTP);
    let fixture = Fixture::new(sshd.policy());
    let sftp = open(&fixture, &sshd).await;
    let dir = tempfile::tempdir().unwrap();
    sftp.lstat(b"/").await.unwrap();
    sftp.cut();
    let late = sftp.mkdir(dir.path().join("late").as_os_str().as_bytes());
    assert!(matches!(late.await, Err(SftpError::Broken(SshError::Lost { .. }))));
    sshd.wait_for_log("Connection reset by");
    assert!(!Path::new(&dir.path().join("late")).exists());
    assert!(open(&fixture, &sshd).await.lstat(b"/").await.unwrap().is_dir());
}
