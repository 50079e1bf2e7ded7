//! Messages of Kubernetes' remote command protocol (`v5.channel.k8s.io`, KEP 4006): one byte, the channel, and its data.
//!
//! Pure.

use bytes::Bytes;
use kube::core::Status;
use minipod_model::channel::{CLOSE, ERROR, RESIZE, STDERR, STDIN, STDOUT};
use serde_json::json;

/// What the server says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// the process wrote this
    Stdout(Bytes),
    /// the process wrote this
    Stderr(Bytes),
    /// how the process ended; nothing follows
    End(Box<Status>),
    /// that the streams are open, or something of a later version
    Nothing,
}

/// Reads a message of the server.
///
/// # Errors
/// The end of the session cannot be understood.
pub(super) fn read(message: &Bytes) -> serde_json::Result<Said> {
    let Some(channel) = message.first() else { return Ok(Said::Nothing) };
    let data = message.slice(1..);
    Ok(match *channel {
        STDOUT => Said::Stdout(data),
        STDERR => Said::Stderr(data),
        ERROR if !data.is_empty() => Said::End(Box::new(serde_json::from_slice(&data)?)),
        _ => Said::Nothing,
    })
}

/// Bytes for standard input.
pub(super) fn stdin(bytes: &[u8]) -> Bytes {
    message(STDIN, bytes)
}

/// Standard input ends here.
pub(super) fn end_of_stdin() -> Bytes {
    message(CLOSE, &[STDIN])
}

/// The terminal has this many columns and lines.
pub(super) fn size((width, height): (u16, u16)) -> Bytes {
    message(RESIZE, json!({"Width": width, "Height": height}).to_string().as_bytes())
}

fn message(channel: u8, data: &[u8]) -> Bytes {
    [&[channel], data].concat().into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kube::core::response::StatusSummary;

    use super::{Said, end_of_stdin, read, size, stdin};

    fn said(message: &'static [u8]) -> Said {
        read(&Bytes::from_static(message)).expect("understood")
    }

    #[test]
    fn the_channel_says_what_the_data_is() {
        assert_eq!(said(b"\x01out"), Said::Stdout(Bytes::from_static(b"out")));
        assert_eq!(said(b"\x02err"), Said::Stderr(Bytes::from_static(b"err")));
        let Said::End(status) = said(b"\x03{\"status\": \"Success\"}") else {
            unreachable!("the end was not understood");
        };
        assert_eq!(status.status, Some(StatusSummary::Success));
        for other in [&b""[..], b"\x03", b"\x07x", b"\xff\x01"] {
            assert_eq!(said(other), Said::Nothing);
        }
        assert!(read(&Bytes::from_static(b"\x03{")).is_err());
    }

    #[test]
    fn what_is_sent_begins_with_its_channel() {
        assert_eq!(stdin(b"abc"), "\0abc");
        assert_eq!(end_of_stdin(), &b"\xff\0"[..]);
        assert_eq!(size((80, 24)), "\x04{\"Width\":80,\"Height\":24}");
    }
}
