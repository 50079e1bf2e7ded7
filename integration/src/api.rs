//! Requests to a lab node's API server, as they are on the wire: what the command line does not make, and the moment of the answer.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::lab::Lab;

const PATIENCE: Duration = Duration::from_secs(10);

/// The media type of most requests.
pub const JSON: &str = "application/json";
/// The media type of a change of some fields.
pub const MERGE: &str = "application/merge-patch+json";

/// What the server said.
#[derive(Debug)]
pub struct Answer {
    /// when it began to answer
    pub acknowledged: Instant,
    /// whether it did what was asked
    pub is_accepted: bool,
    /// the answer
    pub text: String,
}

/// Makes the request and says when it was acknowledged.
///
/// # Panics
/// When it is refused, with what the server says.
#[expect(clippy::must_use_candidate, reason = "most callers need the change, not its moment")]
pub fn request(lab: &Lab, method: &str, path: &str, content: &str, body: &str) -> Instant {
    let answer = try_request(lab, method, path, content, body).expect("an answer of the API server");
    assert!(answer.is_accepted, "{method} {path}: {}", answer.text);
    answer.acknowledged
}

/// Makes the request of a server that may end before it answers.
///
/// # Errors
/// It does not answer.
pub fn try_request(lab: &Lab, method: &str, path: &str, content: &str, body: &str) -> io::Result<Answer> {
    // The node's `/run` is another one than the machine's.
    let socket = format!("/proc/{}/root/run/minipod/api.sock", lab.anchor());
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: minipod\r\nConnection: close\r\nContent-Type: {content}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut first = [0; 12];
    stream.read_exact(&mut first)?;
    let acknowledged = Instant::now();
    let mut text = String::from_utf8_lossy(&first).into_owned();
    let _ = stream.read_to_string(&mut text);
    Ok(Answer { acknowledged, is_accepted: first.starts_with(b"HTTP/1.1 2"), text })
}
