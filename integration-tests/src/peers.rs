//! Peers that behave badly: one that drops packets, one that accepts and says nothing, and a proxy before a good one.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};

use crate::sshd::peer_at;
use crate::{Sandbox, Sshd, wait};

/// An address whose host drops every packet of a new connection: a listener whose queue is full.
pub struct BlackHole {
    addr: SocketAddr,
    _listener: OwnedFd,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// Opens one on loopback.
    ///
    /// # Panics
    /// When the kernel goes on accepting.
    pub fn open() -> Self {
        let (listener, addr) = bound();
        listen(&listener, 0).expect("listen");
        let mut queue = Vec::new();
        while let Ok(connection) = TcpStream::connect_timeout(&addr, Duration::from_millis(300)) {
            queue.push(connection);
            assert!(queue.len() < 16, "the queue of {addr} does not fill");
        }
        Self { addr, _listener: listener, _queue: queue }
    }

    /// Where nothing answers.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// A port that refuses connections, and that nobody else gets meanwhile: bound, without a listener.
pub struct Refusing {
    addr: SocketAddr,
    _socket: OwnedFd,
}

impl Refusing {
    /// Takes one on loopback.
    ///
    /// # Panics
    /// When no port is free.
    pub fn open() -> Self {
        let (socket, addr) = bound();
        Self { addr, _socket: socket }
    }

    /// Where nobody listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// A socket that has a port on loopback and does not listen yet.
fn bound() -> (OwnedFd, SocketAddr) {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    let addr = getsockname(&socket).ok().and_then(|addr| SocketAddr::try_from(addr).ok()).expect("its address");
    (socket, addr)
}

/// A host that accepts connections and never says a word.
pub struct Mute {
    listener: TcpListener,
}

impl Mute {
    /// Opens one on loopback.
    ///
    /// # Panics
    /// When no port is free.
    pub fn open() -> Self {
        Self { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port") }
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never, as it is bound.
    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("its address")
    }
}

/// One way through a [`Proxy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From who connects to the peer.
    ToPeer,
    /// From the peer to who has connected.
    FromPeer,
}

/// A TCP proxy before an sshd that can stop passing bytes, pass them later or again, and cut connections.
///
/// An end that closes while the other cannot hear of it is heard of when bytes pass again; what was kept from it is then
/// dropped, as a reset does, unless [`Self::deliver_late`] says otherwise.
pub struct Proxy {
    addr: SocketAddr,
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stalled: [bool; 2],
    frozen: HashSet<u64>,
    delay: Duration,
    late: bool,
    refusing: bool,
    busy: usize,
    closed: bool,
    accepted: u64,
    connections: HashMap<u64, Connection>,
}

/// Both streams, and how many directions still pass.
struct Connection {
    streams: [TcpStream; 2],
    pumps: usize,
}

impl Proxy {
    /// Opens one on loopback that passes everything on to `target`.
    ///
    /// # Panics
    /// When no port is free.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let line = Arc::new(Line::default());
        let accepting = Arc::clone(&line);
        thread::spawn(move || accepting.accept(&listener, target));
        Self { addr, line }
    }

    /// Opens one before an sshd and makes that one's host key known at its address.
    pub fn before(sandbox: &Sandbox, sshd: &Sshd) -> Self {
        let proxy = Self::to(sshd.addr());
        let known = sandbox.read("known_hosts") + &sshd.known_hosts_line_at(proxy.addr());
        sandbox.write("known_hosts", known);
        proxy
    }

    /// Starts an sshd with more lines of `sshd_config` behind a proxy, which a configuration names as `<name>`.
    pub fn before_new(sandbox: &Sandbox, name: &str, options: &str) -> (Sshd, Self) {
        let sshd = Sshd::start_with(sandbox, &format!("{name}-behind"), options);
        let proxy = Self::before(sandbox, &sshd);
        sandbox.define(name, proxy.peer(sandbox));
        (sshd, proxy)
    }

    /// The peer keys of a configuration.
    pub fn peer(&self, sandbox: &Sandbox) -> String {
        peer_at(self.addr, &sandbox.user_key().display().to_string())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Passes nothing on from now on: what comes in is kept.
    pub fn stall(&self) {
        self.line.set(|state| state.stalled = [true; 2]);
    }

    /// The same in one direction; the other is as it was.
    pub fn stall_only(&self, direction: Direction) {
        self.line.set(|state| state.stalled[direction as usize] = true);
    }

    /// The connections of this moment pass nothing on from now on and stay open; later ones pass.
    pub fn freeze(&self) {
        self.line.set(|state| state.frozen.extend(state.connections.keys()));
    }

    /// Passes on again, first what was kept.
    pub fn resume(&self) {
        self.line.set(State::resume);
    }

    /// Passes on later by this much, each way; zero ends it. A connection that is made meanwhile is not delayed itself.
    pub fn delay(&self, by: Duration) {
        self.line.set(|state| state.delay = by);
    }

    /// Passes on what was kept from an end that has closed meanwhile: the kernel of its host tries to send it for minutes.
    pub fn deliver_late(&self) {
        self.line.set(|state| state.late = true);
    }

    /// Cuts every connection of this moment.
    pub fn cut(&self) {
        self.line.set(State::cut);
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.line.lock().connections.len()
    }

    /// Cuts every connection and closes each new one at once, until [`Self::accept`].
    pub fn refuse(&self) {
        self.line.set(|state| {
            state.refusing = true;
            state.cut();
        });
    }

    /// Closes the next connections as an sshd does that is busy with logins.
    pub fn be_busy_for(&self, connections: usize) {
        self.line.set(|state| state.busy = connections);
    }

    /// Takes connections again.
    pub fn accept(&self) {
        self.line.set(|state| state.refusing = false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.line.set(|state| {
            state.resume();
            state.closed = true;
            state.cut();
        });
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(self.addr);
    }
}

impl State {
    fn resume(&mut self) {
        self.stalled = [false; 2];
        self.frozen.clear();
    }

    fn is_stalled(&self, id: u64, direction: Direction) -> bool {
        self.stalled[direction as usize] || self.frozen.contains(&id)
    }

    fn cut(&mut self) {
        for (_, connection) in self.connections.drain() {
            for stream in connection.streams {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// A direction of a connection passes nothing more.
    fn pump_ended(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.pumps -= 1;
            if connection.pumps == 0 {
                self.connections.remove(&id);
            }
        }
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no pump panics")
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Takes connections as long as the proxy lives.
    fn accept(self: Arc<Self>, listener: &TcpListener, target: SocketAddr) {
        for near in listener.incoming().flatten() {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            if state.refusing {
                continue;
            }
            if state.busy > 0 {
                state.busy -= 1;
                let _ = (&near).write_all(b"Exceeded MaxStartups\r\n");
                continue;
            }
            let Ok(far) = TcpStream::connect_timeout(&target, wait::DEADLINE) else { continue };
            let clones = |stream: &TcpStream| [stream.try_clone(), stream.try_clone()];
            let ([Ok(near_in), Ok(near_out)], [Ok(far_in), Ok(far_out)]) = (clones(&near), clones(&far)) else {
                continue;
            };
            let id = state.accepted;
            state.accepted += 1;
            state.connections.insert(id, Connection { streams: [near, far], pumps: 2 });
            for (direction, from, to) in
                [(Direction::ToPeer, near_in, far_out), (Direction::FromPeer, far_in, near_out)]
            {
                let line = Arc::clone(&self);
                thread::spawn(move || {
                    line.pump(id, direction, from, to);
                    line.lock().pump_ended(id);
                });
            }
        }
    }

    /// Passes one direction on until an end closes.
    fn pump(&self, id: u64, direction: Direction, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            self.delay_one();
            if self.while_stalled(id, direction) && has_closed(&from) && !self.lock().late {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        self.while_stalled(id, direction);
        let _ = to.shutdown(Shutdown::Write);
    }

    /// Waits as long as the delay of this moment says.
    fn delay_one(&self) {
        let delay = self.lock().delay;
        if !delay.is_zero() {
            thread::sleep(delay);
        }
    }

    /// Waits until the direction passes; tells whether it had to.
    fn while_stalled(&self, id: u64, direction: Direction) -> bool {
        let state = self.lock();
        let waited = state.is_stalled(id, direction);
        drop(self.changed.wait_while(state, |state| state.is_stalled(id, direction)).expect("no pump panics"));
        waited
    }
}

/// Whether the end that writes to the stream has closed it, even though there may be bytes left to be read.
fn has_closed(stream: &TcpStream) -> bool {
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(1..)) && fds[0].revents().intersects(gone)
}
