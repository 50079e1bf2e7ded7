//! Streams of an exec or attach session: `[channel: u8][length: u32 big endian][payload]`. The channel numbers are those of
//! Kubernetes' remote command protocol (`v5.channel.k8s.io`), so that the API server passes payloads through unchanged.

use std::io::{self, Read, Write};

/// The longest payload of one frame in bytes.
pub const MAX_PAYLOAD: usize = 64 << 10;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Channel {
    /// bytes for the process; an empty payload closes its standard input
    Stdin = 0,
    /// bytes from the process
    Stdout = 1,
    /// bytes from the process; unused with a terminal
    Stderr = 2,
    /// the end: a JSON [`crate::shim::Exit`], the last frame of the session
    Exit = 3,
    /// a JSON [`crate::shim::TerminalSize`]
    Resize = 4,
}

impl Channel {
    /// The channel of that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Stdin, Self::Stdout, Self::Stderr, Self::Exit, Self::Resize].into_iter().find(|c| *c as u8 == number)
    }
}

/// Writes one frame.
///
/// # Errors
/// What the writer says; `InvalidInput` for a payload longer than [`MAX_PAYLOAD`].
pub fn write(writer: &mut impl Write, channel: Channel, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD);
    let Some(length) = length else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut frame = Vec::with_capacity(5 + payload.len());
    frame.push(channel as u8);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(payload);
    writer.write_all(&frame)
}

/// Reads one frame.
///
/// # Errors
/// `UnexpectedEof` at the end of the stream, `InvalidData` for an unknown channel or a payload that is too long.
pub fn read(reader: &mut impl Read) -> io::Result<(Channel, Vec<u8>)> {
    let mut head = [0; 5];
    reader.read_exact(&mut head)?;
    let (channel, length) = parse_head(head)?;
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload)?;
    Ok((channel, payload))
}

/// Channel and payload length from a frame's first five bytes.
///
/// # Errors
/// `InvalidData` for an unknown channel or a payload longer than [`MAX_PAYLOAD`].
pub fn parse_head(head: [u8; 5]) -> io::Result<(Channel, usize)> {
    let [number, a, b, c, d] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    match Channel::from_number(number) {
        Some(channel) if length <= MAX_PAYLOAD => Ok((channel, length)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Channel, MAX_PAYLOAD, read, write};

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let mut bytes = Vec::new();
        write(&mut bytes, Channel::Stdout, b"hello").expect("written");
        assert_eq!(read(&mut bytes.as_slice()).expect("read"), (Channel::Stdout, b"hello".to_vec()));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert!(read(&mut [9, 0, 0, 0, 0].as_slice()).is_err());
        assert!(read(&mut [1, 255, 0, 0, 0].as_slice()).is_err());
        assert!(write(&mut Vec::new(), Channel::Stdout, &vec![0; MAX_PAYLOAD + 1]).is_err());
    }
}
