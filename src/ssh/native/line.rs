//! A connection's byte stream, with three judgements that the SSH library leaves to us.
//!
//! **Is the peer alive?** Who uses the line asks for a sign of life in each [`super::KEEPALIVE_INTERVAL`] of silence: for commands the library, for data
//! `pipe`. A peer that says nothing for [`SILENCE_MAX`] is taken for dead. While our own bytes do not fit into the line nobody asks or
//! listens; then a line that takes no byte for [`STUCK_MAX`] decides. So a line that fails is noticed within the sum of both, 45 s,
//! whatever goes on. The library's own count of unanswered questions is not used, since it also counts while we do not listen.
//!
//! **May more come?** The library opens a channel's window anew as bytes come in, not as they are taken, and when its queue for a channel is full, it
//! stops altogether: no question is asked or answered any more, and sshd takes us for dead (ClientAliveInterval). So no bytes
//! are read while as much as [`FULL`] packets wait ([`Intake`]): TCP holds the peer back, and all that we have to say is still said.
//!
//! Still, what we have to say may itself wait for the peer's word: for room in its window, or for its part in a renewal of keys, and that
//! word comes behind what we do not read. An rsync that cannot write does not read either, so neither would ever go on. When the output was not
//! taken for [`PATIENCE`] and there is something to say, reading goes on until that is said, and what comes is kept here (`pipe`).
//!
//! **May we go on?** While an rsync has the connection, each write asks whether the warrant by which it acts still holds, by the clock that goes
//! on while a host sleeps. Here is the last place before the kernel: whatever waits in buffers of rsync's, ours or the library's while a host
//! is suspended is not said to the peer when it wakes and the locks may be another's.
//!
//! Not here: the channel through which a host on the way carries the peer's connection (`way`). Nobody counts what waits there, so a peer
//! behind another host does not learn that we live while its output is not taken. And a line that drops packets while bytes are under way is
//! noticed by the kernel (TCP_USER_TIMEOUT, `dial`).

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::warrant::Warrant;

/// A peer that is asked for a sign of life and gives none for this long is dead.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(30);
/// A line that takes no byte for this long, while nothing is heard either, is dead.
const STUCK_MAX: Duration = Duration::from_secs(15);
/// A timer that is late by this much says that we did not run ourselves (SIGSTOP): the peer gets another chance.
const ABSENT: Duration = Duration::from_secs(5);

/// So many packets that nobody has taken yet keep us from reading. The library's queue has place for 100.
const FULL: isize = 64;
/// When so few are left, reading goes on.
const LOW: isize = FULL / 2;
/// Output that nobody takes for this long may wait for what we have to say.
const PATIENCE: Duration = Duration::from_secs(1);

/// What has come in for a channel and was not taken yet.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Packets. Below zero while one was taken before it was counted.
    waiting: AtomicIsize,
    /// Their bytes.
    bytes: AtomicIsize,
    /// Reading goes on up to so many bytes while it must.
    most: AtomicIsize,
    /// Whether what came in was not taken for [`PATIENCE`].
    is_stuck: AtomicBool,
    /// Whether something is to be said that cannot be said yet.
    has_to_say: AtomicBool,
    held: AtomicBool,
    reader: AtomicWaker,
}

impl Intake {
    /// Another command begins, of whose output so many bytes may wait here while it must be read.
    pub(super) fn begin(&self, most: isize) {
        self.most.store(most, Ordering::Release);
        // The one before may have been given up.
        self.is_stuck.store(false, Ordering::Release);
        self.has_to_say.store(false, Ordering::Release);
    }

    /// A packet of so many bytes has come in.
    pub(super) fn came(&self, bytes: usize) {
        self.bytes.fetch_add(signed(bytes), Ordering::AcqRel);
        self.waiting.fetch_add(1, Ordering::AcqRel);
    }

    /// A packet of so many bytes was taken.
    pub(super) fn taken(&self, bytes: usize) {
        self.bytes.fetch_sub(signed(bytes), Ordering::AcqRel);
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == LOW + 1 {
            self.reader.wake();
        }
    }

    /// Waits for who takes a packet.
    pub(super) async fn until_taken<T>(&self, taking: impl Future<Output = T>) -> T {
        tokio::pin!(taking);
        if let Ok(taken) = tokio::time::timeout(PATIENCE, &mut taking).await {
            return taken;
        }
        self.note(&self.is_stuck, true);
        let taken = taking.await;
        self.note(&self.is_stuck, false);
        taken
    }

    /// Waits until something is said.
    pub(super) async fn until_said<T>(&self, saying: impl Future<Output = T>) -> T {
        self.note(&self.has_to_say, true);
        let said = saying.await;
        self.note(&self.has_to_say, false);
        said
    }

    fn note(&self, what: &AtomicBool, is_so: bool) {
        what.store(is_so, Ordering::Release);
        if self.must_read() {
            self.reader.wake();
        }
    }

    /// Whether reading goes on, however much waits.
    fn must_read(&self) -> bool {
        self.is_stuck.load(Ordering::Acquire)
            && self.has_to_say.load(Ordering::Acquire)
            && self.bytes.load(Ordering::Acquire) < self.most.load(Ordering::Acquire)
    }

    /// Whether reading waits.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Ready when there is room; who has to wait is woken when little is left.
    fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let enough = if self.is_held() { LOW + 1 } else { FULL };
        let mut waits = self.waiting.load(Ordering::Acquire) >= enough;
        if waits {
            self.reader.register(cx.waker());
            // It may have been taken before we could be woken.
            waits = self.waiting.load(Ordering::Acquire) > LOW && !self.must_read();
        }
        self.held.store(waits, Ordering::Release);
        if waits { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// A packet's length.
fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

/// What the user of a line knows of it.
#[derive(Debug, Default)]
pub(super) struct Terms {
    pub(super) intake: Intake,
    /// Whether the peer is being asked for signs of life.
    asked: AtomicBool,
    /// Whether it has said anything since this was last looked at.
    heard: AtomicBool,
    /// By which right something is said to the peer, where it takes one.
    warrant: Mutex<Option<Warrant>>,
}

impl Terms {
    /// From now on silence counts, or does not: while nobody asks, it has no reason to say anything.
    pub(super) fn ask(&self, asked: bool) {
        self.asked.store(asked, Ordering::Release);
    }

    /// From now on something is said to the peer only as long as this warrant is not lost.
    pub(super) fn lend(&self, warrant: Option<Warrant>) {
        *self.warrant.lock().unwrap_or_else(PoisonError::into_inner) = warrant;
    }

    fn may_go_on(&self) -> io::Result<()> {
        match &*self.warrant.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(warrant) if warrant.is_lost() => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "a lock was lost"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the peer has said anything since the last call.
    pub(super) fn heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }
}

/// The stream.
pub(super) struct Line<S> {
    stream: S,
    terms: Arc<Terms>,
    /// When the peer last gave a sign of life, or could not have been heard.
    alive: Instant,
    /// Since when the line takes nothing.
    stuck: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S> Line<S> {
    pub(super) fn new(stream: S, terms: Arc<Terms>) -> Self {
        let alive = Instant::now();
        Self { stream, terms, alive, stuck: None, timer: Box::pin(sleep_until(alive + SILENCE_MAX)) }
    }

    /// Ready with an error when the peer is dead.
    fn poll_death(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            let was_absent = now >= self.timer.deadline() + ABSENT;
            if was_absent || !self.terms.asked.load(Ordering::Acquire) {
                (self.alive, self.stuck) = (now, self.stuck.map(|_| now));
            }
            let deadline = self.deadline();
            if now >= deadline {
                let seconds = (now - self.alive).as_secs();
                let why = format!("nothing was heard of it for {seconds} s");
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            self.timer.as_mut().reset(deadline);
        }
    }

    fn deadline(&self) -> Instant {
        let silence = self.alive + SILENCE_MAX;
        self.stuck.map_or(silence, |since| silence.max(since + STUCK_MAX))
    }

    /// Notes what became of a write, and whether it says that the peer is dead.
    fn after_write(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => {
                self.stuck.get_or_insert_with(Instant::now);
                self.poll_death(cx).map(Err)
            }
            written => {
                // The peer made room.
                if self.stuck.take().is_some() {
                    self.alive = Instant::now();
                }
                written
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let was_held = self.terms.intake.is_held();
        ready!(self.terms.intake.poll_room(cx));
        if was_held {
            self.alive = Instant::now();
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            return self.poll_death(cx).map(Err);
        }
        self.alive = Instant::now();
        self.terms.heard.store(true, Ordering::Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.terms.may_go_on()?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.after_write(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.terms.may_go_on()?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.after_write(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinSet;
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// A line whose buffers have place for 16 bytes, the peer's end of it, and its terms.
    fn line() -> (Line<DuplexStream>, DuplexStream, Arc<Terms>) {
        let (near, far) = duplex(16);
        let terms = Arc::<Terms>::default();
        terms.ask(true);
        (Line::new(near, Arc::clone(&terms)), far, terms)
    }

    /// The seconds until the line says that the peer is dead.
    async fn death(line: &mut Line<DuplexStream>, writing: bool) -> u64 {
        let started = Instant::now();
        let result = match writing {
            true => line.write_all(&[0; 1000]).await,
            false => line.read_exact(&mut [0; 1000]).await.map(drop),
        };
        assert_eq!(result.expect_err("it does not end otherwise").kind(), io::ErrorKind::TimedOut);
        started.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_dead() {
        let (mut line, mut far, _) = line();
        assert_eq!(death(&mut line, false).await, 30);
        far.write_all(b"12345").await.unwrap();
        line.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(death(&mut line, false).await, 30, "counted from its last word");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_nobody_asks_may_be_silent() {
        let (near, _far) = duplex(16);
        let mut line = Line::new(near, Arc::default());
        assert!(timeout(LONG, line.read_u8()).await.is_err(), "a login has a bound of its own");
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_takes_nothing_is_dead() {
        let (mut line, _far, _) = line();
        assert_eq!(death(&mut line, true).await, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn the_worst_case_is_45_seconds() {
        let (mut line, _far, _) = line();
        assert!(timeout(Duration::from_secs(29), line.read_u8()).await.is_err());
        assert_eq!(death(&mut line, true).await, 15);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_lives() {
        let (mut line, mut far, _) = line();
        let writing = async {
            for _ in 0..3 {
                line.write_all(&[0; 20]).await.expect("it takes a byte now and then");
            }
            assert!(timeout(Duration::from_secs(29), line.read_u8()).await.is_err(), "an answer comes later");
        };
        let reading = async {
            while timeout(LONG, far.read_u8()).await.is_ok() {
                sleep(Duration::from_secs(14)).await;
            }
        };
        tokio::select! {
            () = writing => {}
            () = reading => panic!("nothing is written"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_while_much_waits() {
        let (mut line, mut far, terms) = line();
        (0..FULL).for_each(|_| terms.intake.came(1));
        far.write_all(b"x").await.unwrap();
        assert!(timeout(LONG, line.read_u8()).await.is_err());
        let mut reading = JoinSet::new();
        reading.spawn(async move { line.read_u8().await });
        assert!(timeout(LONG, reading.join_next()).await.is_err());
        (0..FULL - LOW - 1).for_each(|_| terms.intake.taken(1));
        assert!(timeout(LONG, reading.join_next()).await.is_err());
        assert!(terms.intake.is_held(), "until little is left");
        terms.intake.taken(1);
        let read = timeout(LONG, reading.join_next()).await.expect("it is woken").expect("it runs");
        assert_eq!(read.unwrap().unwrap(), b'x');
        assert!(!terms.intake.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn reading_goes_on_while_what_we_say_waits_and_nobody_takes() {
        let (mut line, mut far, terms) = line();
        let intake = &terms.intake;
        intake.begin(FULL + 10);
        (0..FULL).for_each(|_| intake.came(1));
        let never = || intake.until_taken(std::future::pending::<()>());
        far.write_all(b"xyz").await.unwrap();
        let read = tokio::select! {
            () = never() => None,
            read = timeout(LONG, line.read_u8()) => read.ok(),
        };
        assert!(read.is_none(), "nothing is to be said");
        intake.begin(FULL + 10);
        let read = tokio::select! {
            () = intake.until_said(std::future::pending()) => None,
            read = timeout(LONG, line.read_u8()) => read.ok(),
        };
        assert!(read.is_none(), "nobody was given the time to take it");
        intake.begin(FULL + 10);
        let reading = async {
            assert_eq!(line.read_u8().await.unwrap(), b'x');
            intake.came(9);
            assert_eq!(line.read_u8().await.unwrap(), b'y');
            intake.came(1);
            assert!(timeout(LONG, line.read_u8()).await.is_err(), "as much as may wait does");
        };
        let said = tokio::select! {
            () = never() => false,
            () = intake.until_said(reading) => true,
        };
        assert!(said, "woken when it was stuck");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_while_much_waits_is_our_own() {
        let (mut line, mut far, terms) = line();
        for pause in [10, 31, 3600] {
            assert!(timeout(Duration::from_secs(1), line.read_u8()).await.is_err());
            (0..FULL).for_each(|_| terms.intake.came(1));
            assert!(timeout(Duration::from_secs(pause), line.read_u8()).await.is_err());
            (0..FULL).for_each(|_| terms.intake.taken(1));
            assert!(timeout(Duration::from_secs(29), line.read_u8()).await.is_err(), "after {pause} s");
            far.write_u8(b'x').await.unwrap();
            line.read_u8().await.unwrap();
        }
    }

    #[tokio::test]
    async fn nothing_is_written_when_the_warrant_is_lost() {
        let (mut line, mut far, terms) = line();
        let warrant = Warrant::new(1, crate::clock::Ticks::now(), LONG, LONG);
        terms.lend(Some(warrant.clone()));
        line.write_all(b"ours").await.expect("it holds");
        warrant.taken();
        assert_eq!(line.write_all(b"theirs").await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        // As on a host that was suspended: nobody has looked at the locks yet.
        terms.lend(Some(Warrant::new(1, crate::clock::Ticks::now(), Duration::ZERO, LONG)));
        assert_eq!(line.write_all(b"theirs").await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        terms.lend(None);
        line.write_all(b"!").await.expect("it is idle");
        let mut said = [0; 5];
        far.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"ours!");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_stopped_itself_asks_again() {
        let (mut line, _far, _) = line();
        assert!(timeout(Duration::from_secs(1), line.read_u8()).await.is_err());
        advance(Duration::from_secs(60)).await;
        assert_eq!(death(&mut line, false).await, 30);
    }
}
