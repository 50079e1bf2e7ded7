//! How a command fails: what is printed, and the exit code.
//!
//! What the server says is printed in kubectl's shape; what this program says itself begins with `error:`.

use std::fmt::Write as _;

use kube::core::Status;

use super::client::ConnectError;

/// The command ends with this code, and with this message if there is one. Used where the code is not 1: the exit code of
/// a process in a container.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Exit {
    /// the exit code
    pub(crate) code: u8,
    /// printed as it is, unless empty
    pub(crate) message: String,
}

/// The server refused an object of a manifest.
#[derive(Debug, thiserror::Error)]
#[error("error when {verb} \"{place}\"")]
pub(crate) struct AtPlace {
    /// `creating`, `applying patch to`
    pub(crate) verb: &'static str,
    /// file, and line and column where they are known
    pub(crate) place: String,
    /// what the server said
    #[source]
    pub(crate) source: kube::Error,
}

/// Several objects failed, the others did not.
#[derive(Debug, thiserror::Error)]
#[error("{} objects failed", .0.len())]
pub(crate) struct Several(pub(crate) Vec<anyhow::Error>);

/// What to print on standard error, and the exit code.
pub(crate) fn report(error: &anyhow::Error) -> (String, u8) {
    if let Some(exit) = error.downcast_ref::<Exit>() {
        return (exit.message.clone(), exit.code);
    }
    if let Some(Several(errors)) = error.downcast_ref() {
        let lines: Vec<String> = errors.iter().map(|e| report(e).0).collect();
        return (lines.join("\n"), 1);
    }
    if let Some(AtPlace { verb, place, source: kube::Error::Api(status) }) = error.downcast_ref() {
        return (server_error(status, &format!("error when {verb} \"{place}\": ")), 1);
    }
    if let Some(kube::Error::Api(status)) = error.downcast_ref() {
        return (server_error(status, ""), 1);
    }
    (format!("error: {}", chain(error)), 1)
}

/// Collects the failures of independent steps: none, the one, or all of them.
pub(crate) fn all(mut errors: Vec<anyhow::Error>) -> anyhow::Result<()> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(Several(errors).into()),
    }
}

/// What the server said, in kubectl's words.
fn server_error(status: &Status, context: &str) -> String {
    let details = status.details.as_ref();
    if status.reason == "Invalid"
        && let Some(details) = details
    {
        if context.is_empty()
            && details.causes.len() > 1
            && let Some((head, _)) = status.message.split_once(" is invalid: ")
        {
            let mut text = format!("The {head} is invalid:");
            for cause in &details.causes {
                let _ = write!(text, "\n* {}: {}", cause.field, cause.message);
            }
            return text;
        }
        return match context {
            "" => format!("The {}", status.message),
            _ => format!("{context}{}", status.message),
        };
    }
    let next = if status.reason == "AlreadyExists" { "; choose another name, or delete it first" } else { "" };
    let reason = if status.reason.is_empty() { String::new() } else { format!(" ({})", status.reason) };
    format!("Error from server{reason}: {context}{}{next}", status.message)
}

/// The message with its causes. Some libraries repeat the cause in their own message; it is not printed twice. What lies
/// behind a broken connection is what counts there, so that the wrapping of the client library is left out.
fn chain(error: &anyhow::Error) -> String {
    if let Some(gone) = error.chain().find_map(|cause| cause.downcast_ref::<ConnectError>()) {
        return gone.to_string();
    }
    let mut text = String::new();
    for cause in error.chain() {
        let line = cause.to_string();
        if text.is_empty() {
            text = line;
        } else if !text.ends_with(&line) {
            let _ = write!(text, ": {line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use kube::core::response::{StatusCause, StatusDetails};

    use super::{AtPlace, Exit, all, report};

    fn status(reason: &str, message: &str, causes: &[(&str, &str)]) -> kube::Error {
        let causes = causes
            .iter()
            .map(|(field, message)| StatusCause {
                reason: String::new(),
                field: (*field).to_owned(),
                message: (*message).to_owned(),
            })
            .collect();
        let details = StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes,
            retry_after_seconds: 0,
        };
        kube::Error::Api(Box::new(Status::failure(message, reason).with_details(details)))
    }

    #[track_caller]
    fn check(error: impl Into<anyhow::Error>, expected: &str, code: u8) {
        assert_eq!(report(&error.into()), (expected.to_owned(), code));
    }

    #[test]
    fn what_the_server_says_is_printed_as_kubectl_does() {
        check(status("NotFound", "pods \"x\" not found", &[]), "Error from server (NotFound): pods \"x\" not found", 1);
        check(
            status("Invalid", "Pod \"X\" is invalid: metadata.name: no", &[("metadata.name", "no")]),
            "The Pod \"X\" is invalid: metadata.name: no",
            1,
        );
        check(
            status("Invalid", "Pod \"X\" is invalid: [a: no, b: never]", &[("a", "no"), ("b", "never")]),
            "The Pod \"X\" is invalid:\n* a: no\n* b: never",
            1,
        );
    }

    #[test]
    fn the_place_in_a_manifest_is_part_of_the_message() {
        let source = status("BadRequest", "unknown field \"spec.x\"", &[]);
        check(
            AtPlace { verb: "creating", place: "a.yaml:3:5".to_owned(), source },
            "Error from server (BadRequest): error when creating \"a.yaml:3:5\": unknown field \"spec.x\"",
            1,
        );
    }

    #[test]
    fn own_errors_begin_with_error_and_codes_of_processes_pass_through() {
        check(anyhow::anyhow!("no").context("cannot read `a`"), "error: cannot read `a`: no", 1);
        let exit = || Exit { code: 7, message: "command terminated with exit code 7".to_owned() };
        check(exit(), "command terminated with exit code 7", 7);
        let several = all(vec![anyhow::anyhow!("a"), exit().into()]).expect_err("two failures");
        check(several, "error: a\ncommand terminated with exit code 7", 1);
    }
}
