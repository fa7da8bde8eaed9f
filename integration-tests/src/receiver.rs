//! A receiver of POSTs on the loopback interface that answers as a test wants, or not at all.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::wait::{self, DEADLINE};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// This status.
    Status(u16),
    /// None, on a connection that stays open.
    Hang,
    /// None, on a connection that is closed.
    Close,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `POST /path`.
    pub line: String,
    /// The header lines, with names in small letters.
    pub head: String,
    /// The body.
    pub body: String,
}

/// The receiver. Its thread ends with the process.
pub struct Receiver {
    addr: SocketAddr,
    came: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// One that gives its first requests these answers, and the last of them to all that follow.
    ///
    /// # Panics
    /// When there is no port to be had, or no answer.
    pub fn answering(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let came = Arc::new(Mutex::new(Vec::new()));
        let (kept, answers) = (Arc::clone(&came), answers.to_vec());
        thread::spawn(move || {
            let mut open = Vec::new();
            for (index, stream) in listener.incoming().flatten().enumerate() {
                let answer = *answers.get(index).or(answers.last()).expect("an answer");
                open.extend(serve(stream, answer, &kept).ok().flatten());
            }
        });
        Self { addr, came }
    }

    /// One that takes everything.
    pub fn new() -> Self {
        Self::answering(&[Answer::Status(200)])
    }

    /// Its URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What came so far.
    ///
    /// # Panics
    /// When its thread has.
    pub fn requests(&self) -> Vec<Request> {
        self.came.lock().expect("no panic").clone()
    }

    /// Waits until so many have come.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Request> {
        wait::until(&format!("{count} requests"), || self.requests().len() >= count);
        self.requests()
    }
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

/// Serves one; the connection if it is to stay open.
fn serve(mut stream: TcpStream, answer: Answer, came: &Mutex<Vec<Request>>) -> io::Result<Option<TcpStream>> {
    stream.set_read_timeout(Some(DEADLINE))?;
    let request = read(&mut stream)?;
    came.lock().expect("no panic").push(request);
    match answer {
        Answer::Hang => Ok(Some(stream)),
        Answer::Close => Ok(None),
        Answer::Status(status) => {
            write!(
                stream,
                "HTTP/1.1 {status} Said\r\nContent-Length: 2\r\nLocation: http://elsewhere/secret\r\n\r\nok"
            )?;
            Ok(None)
        }
    }
}

fn read(stream: &mut TcpStream) -> io::Result<Request> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let so_far = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = so_far.split_once("\r\n\r\n") {
            let (line, head) = head.split_once("\r\n").unwrap_or((head, ""));
            let head = head.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                let line = line.trim_end_matches(" HTTP/1.1").to_owned();
                return Ok(Request { line, head, body: body.to_owned() });
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => text.extend_from_slice(&buffer[..n]),
        }
    }
}
