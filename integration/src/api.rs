//! Requests to a lab node's API server, as they are on the wire: what the command line does not make, and the moment of the answer.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::lab::Lab;

const PATIENCE: Duration = Duration::from_secs(10);

/// The media type of most requests.
pub const JSON: &str = "application/json";
/// The media type of a change of some fields.
pub const MERGE: &str = "application/merge-patch+json";

/// Makes the request and says when it was acknowledged.
///
/// # Panics
/// When it is refused, with what the server says.
#[expect(clippy::must_use_candidate, reason = "most callers need the change, not its moment")]
pub fn request(lab: &Lab, method: &str, path: &str, content: &str, body: &str) -> Instant {
    // The node's `/run` is another one than the machine's.
    let socket = format!("/proc/{}/root/run/minipod/api.sock", lab.anchor());
    let mut stream = UnixStream::connect(socket).expect("the API server's socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: minipod\r\nConnection: close\r\nContent-Type: {content}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("a request");
    let mut first = [0; 12];
    stream.read_exact(&mut first).expect("an answer");
    let acknowledged = Instant::now();
    let mut rest = String::new();
    let _ = stream.read_to_string(&mut rest);
    assert!(first.starts_with(b"HTTP/1.1 2"), "{method} {path}: {}{rest}", String::from_utf8_lossy(&first));
    acknowledged
}
