//! Peers that behave badly: one that drops packets, one that accepts and says nothing, and a proxy before a good one.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};

use crate::wait;

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
        let flags = SocketFlags::CLOEXEC;
        let listener = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("a socket");
        bind(&listener, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        listen(&listener, 0).expect("listen");
        let addr = getsockname(&listener).ok().and_then(|addr| SocketAddr::try_from(addr).ok()).expect("its address");
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

/// A TCP proxy before an sshd that can stop passing bytes, pass them again, and cut connections.
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
    stalled: bool,
    refusing: bool,
    streams: Vec<TcpStream>,
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

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Passes nothing on from now on: what comes in is kept.
    pub fn stall(&self) {
        self.line.set(|state| state.stalled = true);
    }

    /// Passes on again, first what was kept.
    pub fn resume(&self) {
        self.line.set(|state| state.stalled = false);
    }

    /// Cuts every connection of this moment.
    pub fn cut(&self) {
        self.line.set(State::cut);
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.line.state.lock().expect("no pump panics").streams.len() / 2
    }

    /// Cuts every connection and closes each new one at once, until [`Self::accept`].
    pub fn refuse(&self) {
        self.line.set(|state| {
            state.refusing = true;
            state.cut();
        });
    }

    /// Takes connections again.
    pub fn accept(&self) {
        self.line.set(|state| state.refusing = false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.line.set(|state| {
            state.stalled = false;
            state.refusing = true;
            state.cut();
        });
    }
}

impl State {
    fn cut(&mut self) {
        for stream in self.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Line {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("no pump panics"));
        self.changed.notify_all();
    }

    /// Takes connections until the process ends: the listener lives as long as its test.
    fn accept(self: Arc<Self>, listener: &TcpListener, target: SocketAddr) {
        for near in listener.incoming().flatten() {
            let mut state = self.state.lock().expect("no pump panics");
            if state.refusing {
                continue;
            }
            let Ok(far) = TcpStream::connect_timeout(&target, wait::DEADLINE) else { continue };
            let pairs = [(near.try_clone(), far.try_clone()), (far.try_clone(), near.try_clone())];
            state.streams.extend([near, far]);
            for (from, to) in pairs {
                let (Ok(from), Ok(to)) = (from, to) else { continue };
                let line = Arc::clone(&self);
                thread::spawn(move || line.pump(from, to));
            }
        }
    }

    /// Passes one direction on until an end closes.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            self.while_stalled();
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        self.while_stalled();
        let _ = to.shutdown(Shutdown::Write);
    }

    fn while_stalled(&self) {
        let state = self.state.lock().expect("no pump panics");
        drop(self.changed.wait_while(state, |state| state.stalled).expect("no pump panics"));
    }
}
