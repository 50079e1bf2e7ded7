//! Failures as the CNI specification wants them told, and the one mapping from ours to its codes.

use std::io;

use minipod_protocol::netd;
use serde_json::{Value, json};

/// A failure with its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u32,
    /// names the thing, the value and the next step
    pub(crate) message: String,
    pub(crate) details: String,
}

/// 1: the configuration's version is not ours.
pub(crate) const INCOMPATIBLE_VERSION: u32 = 1;
/// 2: a field that we do not support; the message names key and value.
pub(crate) const UNSUPPORTED_FIELD: u32 = 2;
/// 4: the environment; the message lists everything that is wrong with it.
pub(crate) const INVALID_ENVIRONMENT: u32 = 4;
/// 5: netd could not be talked to.
pub(crate) const IO: u32 = 5;
/// 6: not JSON.
pub(crate) const CANNOT_DECODE: u32 = 6;
/// 7: the configuration cannot work.
pub(crate) const INVALID_CONFIG: u32 = 7;
/// 11: the same call may succeed later.
pub(crate) const TRY_AGAIN_LATER: u32 = 11;
/// 50: an ADD would not work now.
pub(crate) const NOT_AVAILABLE: u32 = 50;

impl Failure {
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    /// netd's own refusal: its codes are the specification's.
    pub(crate) fn refused(error: netd::Error) -> Self {
        Self { code: error.code.number(), message: error.message, details: error.details.join(": ") }
    }

    /// netd did not answer.
    pub(crate) fn unanswered(socket: &std::path::Path, error: &io::Error) -> Self {
        let socket = socket.display();
        let (code, message) = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                (TRY_AGAIN_LATER, format!("netd does not run: nobody listens at `{socket}`; start netd on this node"))
            }
            io::ErrorKind::PermissionDenied => (IO, format!("netd's socket `{socket}` is for root only")),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                (TRY_AGAIN_LATER, format!("netd does not answer at `{socket}`; look at its log"))
            }
            io::ErrorKind::UnexpectedEof => (TRY_AGAIN_LATER, format!("netd at `{socket}` ended before it answered")),
            _ => (IO, format!("cannot talk to netd at `{socket}`")),
        };
        Self { code, message, details: error.to_string() }
    }

    /// As it is written to stdout.
    pub(crate) fn to_json(&self, version: &str) -> Value {
        let mut document = json!({ "cniVersion": version, "code": self.code, "msg": self.message });
        if !self.details.is_empty() {
            document["details"] = json!(self.details);
        }
        document
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use minipod_protocol::netd::{Code, Error};

    use super::Failure;

    #[test]
    fn netds_codes_are_the_specifications() {
        for (code, number) in [(Code::UnknownContainer, 3), (Code::TryAgainLater, 11), (Code::Differs, 100)] {
            let error = Error { code, message: "m".into(), details: vec!["a".into(), "b".into()] };
            let failure = Failure::refused(error);
            assert_eq!(failure, Failure { code: number, message: "m".into(), details: "a: b".into() });
        }
    }

    #[test]
    fn a_netd_that_does_not_run_is_a_reason_to_try_again() {
        for (kind, code) in [
            (io::ErrorKind::NotFound, 11),
            (io::ErrorKind::ConnectionRefused, 11),
            (io::ErrorKind::WouldBlock, 11),
            (io::ErrorKind::PermissionDenied, 5),
            (io::ErrorKind::InvalidData, 5),
        ] {
            let failure = Failure::unanswered(Path::new("/run/minipod/netd.sock"), &kind.into());
            assert_eq!(failure.code, code, "{kind}");
            assert!(failure.message.contains("/run/minipod/netd.sock"), "{}", failure.message);
        }
    }
}
