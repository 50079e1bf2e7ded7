//! What each verb asks netd, and what it makes of the answer.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use minipod_protocol::netd::{self, Attach, Check, PodRef, Request, Response, Sandbox};
use minipod_protocol::queue;
use serde_json::Value;

use crate::answer;
use crate::config::Config;
use crate::environment::{Environment, Verb};
use crate::failure::{Failure, INVALID_CONFIG, IO, NOT_AVAILABLE, TRY_AGAIN_LATER};
use crate::previous;

/// An ADD waits for the pod's policy; runtimes give up after some minutes themselves.
const ATTACH: Duration = Duration::from_secs(90);
/// How soon an attach looks again for a netd that does not run.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const OTHER: Duration = Duration::from_secs(30);
const STATUS: Duration = Duration::from_secs(5);

/// Carries out a verb. A result is printed, `None` is an empty success.
pub(crate) fn carry_out(environment: &Environment, config: &Config) -> Result<Option<Value>, Failure> {
    config.check_for(environment.verb)?;
    match environment.verb {
        Verb::Add => add(environment, config).map(Some),
        Verb::Del => del(environment, config).map(|()| None),
        Verb::Check => check(environment, config).map(|()| None),
        Verb::Status => status(config).map(|()| None),
        Verb::Gc => gc(config).map(|()| None),
        Verb::Version => Ok(None),
    }
}

fn add(environment: &Environment, config: &Config) -> Result<Value, Failure> {
    let args = &environment.args;
    let pod = match (&args.namespace, &args.name) {
        (Some(namespace), Some(name)) => {
            Some(PodRef { namespace: namespace.clone(), name: name.clone(), uid: args.uid.clone() })
        }
        // Podman gives a container's name without a namespace: no API object describes it.
        _ => None,
    };
    let request = Request::Attach(Attach {
        sandbox: sandbox(environment),
        netns: PathBuf::from(&environment.netns),
        pod,
        labels: config.labels.clone(),
        addresses: config.addresses.clone(),
        mac: config.mac.clone(),
    });
    match ask_patiently(&config.socket, &request, ATTACH, config.wait)? {
        Response::Attached(attached) => Ok(answer::result(config, environment, &attached)),
        other => Err(unexpected(&other)),
    }
}

/// Succeeds also when there is nothing left, and while netd is away: then the release waits in a queue.
fn del(environment: &Environment, config: &Config) -> Result<(), Failure> {
    let sandbox = sandbox(environment);
    let Err(failure) = detach(config, &sandbox) else {
        return Ok(());
    };
    if failure.code != TRY_AGAIN_LATER {
        return Err(failure);
    }
    let directory = queue::directory(&config.socket);
    let queued = queue::put(&directory, &sandbox).map_err(|error| Failure {
        code: IO,
        message: format!("{}; the release cannot be queued in `{}` either", failure.message, directory.display()),
        details: error.to_string(),
    })?;
    // A netd that came up meanwhile may have looked into the queue before.
    if detach(config, &sandbox).is_ok() {
        let _removed = std::fs::remove_file(queued);
    }
    Ok(())
}

/// What netd does not know is released already.
fn detach(config: &Config, sandbox: &Sandbox) -> Result<(), Failure> {
    match done(&config.socket, &Request::Detach(sandbox.clone()), OTHER) {
        Err(failure) if failure.code == netd::Code::UnknownContainer.number() => Ok(()),
        other => other,
    }
}

fn check(environment: &Environment, config: &Config) -> Result<(), Failure> {
    let Some(result) = &config.previous else {
        return Err(Failure::new(INVALID_CONFIG, "CHECK needs `prevResult` in the network configuration"));
    };
    let attached = previous::attached(result, environment)?;
    let request =
        Request::Check(Check { sandbox: sandbox(environment), netns: PathBuf::from(&environment.netns), attached });
    done(&config.socket, &request, OTHER)
}

/// A netd that does not run cannot attach; the pods that run keep their rules.
fn status(config: &Config) -> Result<(), Failure> {
    done(&config.socket, &Request::Status, STATUS).map_err(|failure| match failure.code {
        TRY_AGAIN_LATER | IO => Failure { code: NOT_AVAILABLE, ..failure },
        _ => failure,
    })
}

fn gc(config: &Config) -> Result<(), Failure> {
    let Some(valid) = config.valid.clone() else {
        let message =
            "GC needs `cni.dev/valid-attachments` in the network configuration; without it nothing is removed";
        return Err(Failure::new(INVALID_CONFIG, message));
    };
    done(&config.socket, &Request::Gc { valid }, OTHER)
}

fn done(socket: &Path, request: &Request, timeout: Duration) -> Result<(), Failure> {
    match ask(socket, request, timeout)? {
        Response::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn ask(socket: &Path, request: &Request, timeout: Duration) -> Result<Response, Failure> {
    ask_patiently(socket, request, timeout, Duration::ZERO)
}

/// While nobody listens it is tried again, for `patience` at most: a netd that is being restarted or replaced is back in a
/// moment. Nothing has been asked then, so nothing is asked twice.
fn ask_patiently(socket: &Path, request: &Request, timeout: Duration, patience: Duration) -> Result<Response, Failure> {
    let begin = Instant::now();
    loop {
        let error = match netd::ask(socket, request.clone(), timeout) {
            Ok(Response::Error(error)) => return Err(Failure::refused(error)),
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let nobody_listens = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
        let left = patience.saturating_sub(begin.elapsed());
        if !nobody_listens || left.is_zero() {
            return Err(Failure::unanswered(socket, &error));
        }
        // A socket that is not there yet cannot be waited for without a watch of its directory, which may not be there either.
        #[expect(clippy::disallowed_methods, reason = "the loop has a deadline")]
        thread::sleep(LOOK_AGAIN.min(left));
    }
}

fn unexpected(response: &Response) -> Failure {
    Failure::new(IO, format!("netd gave an answer to another question: {response:?}; use programs of one release"))
}

fn sandbox(environment: &Environment) -> Sandbox {
    Sandbox { container_id: environment.container_id.clone(), ifname: environment.ifname.clone() }
}
