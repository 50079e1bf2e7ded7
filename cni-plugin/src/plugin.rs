//! One call from its input to its output, without a process around it.

use std::io::Read;

use serde_json::{Value, json};

use crate::config::{Config, LATEST, VERSIONS, version_of};
use crate::environment::{Environment, Verb};
use crate::failure::{CANNOT_DECODE, Failure};
use crate::verbs::carry_out;

/// The largest configuration that is read, in bytes.
const MAX_STDIN: u64 = 4 << 20;

/// What the call prints and how it ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) success: bool,
}

/// Carries out the call that the environment and stdin describe.
pub(crate) fn run(variable: &dyn Fn(&str) -> Option<String>, stdin: &mut dyn Read) -> Outcome {
    let verb = variable("CNI_COMMAND").unwrap_or_default();
    if verb.is_empty() {
        let about = format!(
            "minipod-cni {}: the CNI plugin of Minipod; CNI versions {}; a container runtime runs it with CNI_COMMAND set\n",
            env!("CARGO_PKG_VERSION"),
            VERSIONS.join(", ")
        );
        return Outcome { stdout: String::new(), stderr: about, success: true };
    }
    let mut version = LATEST;
    let result = call(&verb, variable, stdin, &mut version);
    match result {
        Ok(Some(document)) => Outcome { stdout: format!("{document}\n"), stderr: String::new(), success: true },
        Ok(None) => Outcome { stdout: String::new(), stderr: String::new(), success: true },
        Err(failure) => Outcome {
            stderr: format!("minipod-cni: {verb}: {}\n", failure.message),
            stdout: format!("{}\n", failure.to_json(version)),
            success: false,
        },
    }
}

/// `version` becomes the configuration's own as soon as that is known, so that also an error is told in it.
fn call(
    verb: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    stdin: &mut dyn Read,
    version: &mut &'static str,
) -> Result<Option<Value>, Failure> {
    let mut input = Vec::new();
    stdin.take(MAX_STDIN).read_to_end(&mut input).map_err(|error| {
        Failure::new(CANNOT_DECODE, format!("cannot read the network configuration from stdin: {error}"))
    })?;
    if let Ok(Value::Object(document)) = serde_json::from_slice::<Value>(&input)
        && let Ok(known) = version_of(&document)
    {
        *version = known;
    }
    let environment = Environment::read(verb, variable)?;
    if environment.verb == Verb::Version {
        return Ok(Some(json!({ "cniVersion": *version, "supportedVersions": VERSIONS })));
    }
    carry_out(&environment, &Config::read(&input)?)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    use minipod_protocol::netd::{Code, Envelope, Error, Request, Response};
    use minipod_protocol::{line, queue};
    use serde_json::{Value, json};

    use super::{Outcome, run};
    use crate::answer::tests::attached;

    /// A directory for one test, removed with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("minipod-cni-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).expect("directory");
            Self(path)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("netd.sock")
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _removed = std::fs::remove_dir_all(&self.0);
        }
    }

    /// A netd that answers one request and tells what it was.
    fn netd(socket: &Path, response: Response) -> JoinHandle<Request> {
        let listener = UnixListener::bind(socket).expect("socket");
        thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a caller");
            let mut reader = BufReader::new(stream);
            let mut text = String::new();
            reader.read_line(&mut text).expect("a request");
            reader.get_mut().write_all(&line::encode(&response).expect("json")).expect("answered");
            line::decode::<Envelope>(text.as_bytes()).expect("an envelope").request
        })
    }

    fn call(verb: &str, socket: &Path, more: Value) -> Outcome {
        let mut config = json!({ "cniVersion": "1.1.0", "name": "pods", "type": "minipod-cni", "socket": socket });
        if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more);
        }
        let variable = |name: &str| {
            let value = match name {
                "CNI_COMMAND" => verb,
                "CNI_CONTAINERID" => "c1",
                "CNI_NETNS" => "/run/netns/x",
                "CNI_IFNAME" => "eth0",
                "CNI_ARGS" => "K8S_POD_NAMESPACE=web;K8S_POD_NAME=a;K8S_POD_UID=u",
                _ => return None,
            };
            Some(value.to_owned())
        };
        run(&variable, &mut config.to_string().as_bytes())
    }

    fn document(outcome: &Outcome) -> Value {
        serde_json::from_str(&outcome.stdout).expect("one document on stdout")
    }

    /// Gives an ADD that does not wait the time to fail.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "that nothing happens has no condition to wait for")]
    fn caller_is_waiting(caller: &JoinHandle<Outcome>) {
        thread::sleep(Duration::from_millis(100));
        assert!(!caller.is_finished(), "an ADD that waits");
    }

    #[test]
    fn add_asks_for_the_pod_and_prints_the_result() {
        let directory = Directory::new("add");
        let netd = netd(&directory.socket(), Response::Attached(attached()));
        let outcome = call("ADD", &directory.socket(), json!({}));
        assert!(outcome.success, "{outcome:?}");
        assert_eq!(document(&outcome)["ips"][0]["address"], "10.244.1.5/32");
        let Request::Attach(attach) = netd.join().expect("netd") else { unreachable!("an attach") };
        let pod = attach.pod.expect("a pod");
        assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_deref()), ("web", "a", Some("u")));
        assert_eq!((attach.sandbox.container_id.as_str(), attach.netns.to_str()), ("c1", Some("/run/netns/x")));
    }

    #[test]
    fn a_refusal_is_told_on_stdout_with_its_code() {
        let directory = Directory::new("refused");
        let error =
            Error { code: Code::TryAgainLater, message: "no address".into(), details: vec!["range full".into()] };
        let netd = netd(&directory.socket(), Response::Error(error));
        let outcome = call("ADD", &directory.socket(), json!({}));
        let expected = json!({ "cniVersion": "1.1.0", "code": 11, "msg": "no address", "details": "range full" });
        assert_eq!((outcome.success, document(&outcome)), (false, expected));
        netd.join().expect("netd");
    }

    #[test]
    fn add_waits_for_a_netd_that_comes_back_and_no_longer_than_it_is_told() {
        let directory = Directory::new("wait");
        let outcome = call("ADD", &directory.socket(), json!({ "waitSeconds": 0 }));
        assert_eq!((outcome.success, document(&outcome)["code"].as_u64()), (false, Some(11)));
        let socket = directory.socket();
        let caller = thread::spawn(move || call("ADD", &socket, json!({ "waitSeconds": 60 })));
        caller_is_waiting(&caller);
        let netd = netd(&directory.socket(), Response::Attached(attached()));
        assert!(caller.join().expect("caller").success);
        assert!(matches!(netd.join().expect("netd"), Request::Attach(_)));
    }

    #[test]
    fn del_succeeds_while_netd_is_away_and_the_release_is_queued() {
        let directory = Directory::new("del");
        for _ in 0..2 {
            let outcome = call("DEL", &directory.socket(), json!({}));
            assert_eq!(outcome, Outcome { stdout: String::new(), stderr: String::new(), success: true });
        }
        let queued = queue::pending(&queue::directory(&directory.socket())).expect("queue");
        assert_eq!(queued.len(), 1, "queued once: {queued:?}");
        assert_eq!(queued[0].1.container_id, "c1");
    }

    #[test]
    fn del_of_what_netd_does_not_know_succeeds() {
        let directory = Directory::new("del-unknown");
        let error = Error { code: Code::UnknownContainer, message: "unknown".into(), details: vec![] };
        let netd = netd(&directory.socket(), Response::Error(error));
        assert!(call("DEL", &directory.socket(), json!({})).success);
        assert!(matches!(netd.join().expect("netd"), Request::Detach(_)));
    }

    #[test]
    fn check_needs_a_result_and_hands_it_on() {
        let directory = Directory::new("check");
        assert_eq!(document(&call("CHECK", &directory.socket(), json!({})))["code"], 7);
        let add = {
            let netd = netd(&directory.socket(), Response::Attached(attached()));
            let outcome = call("ADD", &directory.socket(), json!({}));
            netd.join().expect("netd");
            std::fs::remove_file(directory.socket()).expect("socket");
            document(&outcome)
        };
        let netd = netd(&directory.socket(), Response::Done);
        assert!(call("CHECK", &directory.socket(), json!({ "prevResult": add })).success);
        let Request::Check(check) = netd.join().expect("netd") else { unreachable!("a check") };
        assert_eq!((check.attached.addresses.len(), check.attached.mtu), (2, 1500));
    }

    #[test]
    fn status_tells_that_netd_is_away_and_gc_never_guesses() {
        let directory = Directory::new("status");
        assert_eq!(document(&call("STATUS", &directory.socket(), json!({})))["code"], 50);
        assert_eq!(document(&call("GC", &directory.socket(), json!({})))["code"], 7);
        let netd = netd(&directory.socket(), Response::Done);
        assert!(call("GC", &directory.socket(), json!({ "cni.dev/valid-attachments": [] })).success);
        assert!(matches!(netd.join().expect("netd"), Request::Gc { valid } if valid.is_empty()));
    }

    #[test]
    fn version_and_no_command_need_nothing() {
        let variable = |verb: &'static str| move |name: &str| (name == "CNI_COMMAND").then(|| verb.to_owned());
        let outcome = run(&variable("VERSION"), &mut br#"{"cniVersion":"0.4.0"}"#.as_slice());
        assert_eq!(document(&outcome)["cniVersion"], "0.4.0");
        assert_eq!(document(&outcome)["supportedVersions"].as_array().map(Vec::len), Some(5));
        assert!(run(&variable("VERSION"), &mut b"".as_slice()).success);
        let about = run(&variable(""), &mut b"".as_slice());
        assert!(about.success && about.stdout.is_empty() && about.stderr.contains("Minipod"));
    }

    #[test]
    fn an_error_is_told_in_the_callers_version() {
        let variable = |name: &str| (name == "CNI_COMMAND").then(|| "ADD".to_owned());
        let outcome = run(&variable, &mut br#"{"cniVersion":"0.4.0","name":"x"}"#.as_slice());
        assert_eq!(
            (document(&outcome)["cniVersion"].as_str(), document(&outcome)["code"].as_u64()),
            (Some("0.4.0"), Some(4))
        );
    }
}
