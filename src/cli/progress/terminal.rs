//! A terminal for the bars that cannot fail them: a write to a terminal that is gone is dropped, where indicatif's own
//! would end in a panic.

use std::fmt::{self, Debug};
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::TermLike;

/// Asks for (columns, rows); `None` if the terminal does not tell.
type Size = fn() -> Option<(u16, u16)>;

/// Moves the cursor by ECMA-48 sequences, writes at each flush.
pub(super) struct Terminal<W> {
    state: Mutex<(Vec<u8>, W)>,
    size: Option<Size>,
}

impl<W: Write + Send> Terminal<W> {
    /// Without a size it has 80 columns and 24 rows.
    pub fn new(writer: W, size: Option<Size>) -> Self {
        Self { state: Mutex::new((Vec::new(), writer)), size }
    }

    fn size(&self) -> (u16, u16) {
        self.size.and_then(|ask| ask()).unwrap_or((80, 24))
    }

    fn put(&self, text: fmt::Arguments<'_>) -> io::Result<()> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.write_fmt(text)
    }

    fn go(&self, n: usize, direction: char) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.put(format_args!("\x1b[{n}{direction}")) }
    }
}

/// The size of the terminal at standard error.
pub(super) fn stderr_size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

impl<W: Write + Send> TermLike for Terminal<W> {
    fn width(&self) -> u16 {
        self.size().0
    }

    fn height(&self) -> u16 {
        self.size().1
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.put(format_args!("{s}\n"))
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        self.put(format_args!("{s}"))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.put(format_args!("\r\x1b[2K"))
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (buffer, writer) = &mut *state;
        let bytes = std::mem::take(buffer);
        // Bars are a courtesy: a terminal that does not take them goes without.
        let _ = writer.write_all(&bytes).and_then(|()| writer.flush());
        Ok(())
    }
}

impl<W> Debug for Terminal<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terminal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_is_gone_is_no_error() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let terminal = Terminal::new(Gone, None);
        terminal.write_line("nobody sees this").expect("buffered");
        terminal.flush().expect("dropped");
        assert_eq!((terminal.width(), terminal.height()), (80, 24));
    }
}
