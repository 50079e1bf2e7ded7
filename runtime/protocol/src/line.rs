//! One JSON document a line.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest line that is read: a larger one is refused before it fills the memory.
pub const MAX_LINE: u64 = 4 << 20;

/// A client's end of a connection.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<UnixStream>,
}

impl Connection {
    /// Connects to the socket; every single read and write is given up after `timeout`.
    ///
    /// # Errors
    /// What `connect(2)` says: `NotFound` or `ConnectionRefused` when nobody listens, `PermissionDenied` when not root.
    pub fn open(socket: &Path, timeout: Option<Duration>) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(timeout)?;
        stream.set_write_timeout(timeout)?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// What `write(2)` says.
    pub fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        self.reader.get_mut().write_all(&encode(message)?)
    }

    /// Waits for one message.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other side closed, `InvalidData` when it said something else, `WouldBlock` or `TimedOut` when
    /// it said nothing in time.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut line = String::new();
        let read = io::Read::take(&mut self.reader, MAX_LINE).read_line(&mut line)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        decode(line.as_bytes())
    }

    /// The stream, when the conversation goes on in frames. Nothing that was sent after the last line is lost: what was
    /// already read is returned beside it.
    ///
    /// The bytes come first, then the stream.
    #[must_use]
    pub fn into_stream(self) -> (Vec<u8>, UnixStream) {
        let rest = self.reader.buffer().to_vec();
        (rest, self.reader.into_inner())
    }
}

/// A message as its line, newline included.
///
/// # Errors
/// `InvalidData` when the message cannot be written as JSON.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A message from its line.
///
/// # Errors
/// `InvalidData` when it is something else.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> io::Result<T> {
    serde_json::from_slice(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
