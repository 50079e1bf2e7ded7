//! A writer that is killed at any moment: what was acknowledged is there, and nothing is half-made.
//!
//! The test starts itself again as the writer, reads from its output what was tried and what was acknowledged, kills it with
//! SIGKILL after a random number of acknowledgements, and looks into the store. `MINIPOD_CRASH_ROUNDS` sets the number of rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use minipod_api::store::{RedbStore, Store as _};
use minipod_api::{Config, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

const ROUNDS: &str = "MINIPOD_CRASH_ROUNDS";
const STORE: &str = "MINIPOD_CRASH_STORE";
const SEED: &str = "MINIPOD_CRASH_SEED";
const DEFAULT_ROUNDS: u64 = 200;
/// A writer is killed after at most so many acknowledgements.
const MOST: u64 = 40;
/// A writer that acknowledges nothing for so long is stuck.
const DEADLINE: Duration = Duration::from_secs(30);
/// Writers at the same time in one process, and objects of each.
const TASKS: u64 = 4;
const OBJECTS: u64 = 4;
const SERVICES: &str = "/api/v1/namespaces/default/services";

#[test]
fn api_crash_loses_nothing_that_was_acknowledged() {
    let rounds = std::env::var(ROUNDS).map_or(DEFAULT_ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("store.redb");
    let mut random = Random(rounds);
    let mut told = Told::default();
    for round in 0..rounds {
        run_writer(&path, round, random.below(MOST), &mut told);
        told.check(&path, round);
    }
    assert!(told.acknowledged > rounds, "only {} writes were acknowledged", told.acknowledged);
}

/// Starts a writer, kills it after `count` acknowledgements, and takes in all that it said.
fn run_writer(path: &Path, round: u64, count: u64, told: &mut Told) {
    let mut writer = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "api_crash_writer", "--ignored", "--nocapture"])
        .env(STORE, path)
        .env(SEED, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a writer");
    let output = BufReader::new(writer.stdout.take().expect("its output"));
    let (lines, received) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        // A line that was cut off says nothing.
        for line in output.split(b'\n').map_while(Result::ok) {
            if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let before = told.acknowledged;
    while told.acknowledged - before < count {
        match received.recv_timeout(DEADLINE) {
            Ok(line) => told.hear(&line),
            Err(error) => {
                let _ = writer.kill();
                assert_eq!(error, mpsc::RecvTimeoutError::Disconnected, "round {round}: the writer is stuck");
                break;
            }
        }
    }
    writer.kill().expect("killed");
    let status = writer.wait().expect("its end");
    assert!(status.code().is_none(), "round {round}: the writer ended by itself: {status}");
    reader.join().expect("a reader");
    for line in received.try_iter() {
        told.hear(&line);
    }
}

/// What the writers said. A state is the label of a service, or `None` where there is no service.
#[derive(Default)]
struct Told {
    done: BTreeMap<String, Option<String>>,
    /// under way when the writer was killed: it may be there or not
    tried: BTreeMap<String, Option<String>>,
    acknowledged: u64,
    revision: u64,
}

impl Told {
    fn hear(&mut self, line: &str) {
        let state = |label: &str| Some(label.to_owned()).filter(|label| label != "-");
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["try", name, label, "."] => drop(self.tried.insert((*name).to_owned(), state(label))),
            ["done", name, label, revision, "."] => {
                self.tried.remove(*name);
                self.done.insert((*name).to_owned(), state(label));
                self.revision = self.revision.max(revision.parse().expect("a revision"));
                self.acknowledged += 1;
            }
            // What the test harness of the writer has to say.
            _ => {}
        }
    }

    fn check(&mut self, path: &Path, round: u64) {
        let store = RedbStore::open(path).expect("the store opens");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let listing = runtime.block_on(store.list("/registry/services/default/", None)).expect("services");
        assert!(listing.revision >= self.revision, "round {round}: revision {} of {}", listing.revision, self.revision);
        let mut found = BTreeMap::new();
        let mut addresses = BTreeSet::new();
        for (key, record) in &listing.records {
            assert!(record.mod_revision <= listing.revision, "round {round}: {key}");
            let object: Value = serde_json::from_slice(&record.value).expect("an object");
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).expect("a field").to_owned();
            found.insert(text("/metadata/name"), text("/metadata/labels/state"));
            assert!(addresses.insert(text("/spec/clusterIP")), "round {round}: {object}");
        }
        for (name, done) in self.done.clone() {
            let is = found.get(&name).cloned();
            let tried = self.tried.remove(&name);
            assert!(
                is == done || Some(&is) == tried.as_ref(),
                "round {round}: {name} is {is:?}, told {done:?}, tried {tried:?}"
            );
            self.done.insert(name, is);
        }
        for (name, tried) in std::mem::take(&mut self.tried) {
            let is = found.get(&name).cloned();
            assert!(is.is_none() || is == tried, "round {round}: {name} is {is:?}, tried {tried:?}");
            self.done.insert(name, is);
        }
        let claims = runtime.block_on(store.list("/claims/clusterip/", None)).expect("claims");
        let claims: BTreeSet<_> =
            claims.records.iter().map(|(key, _)| key.rsplit('/').next().unwrap_or_default()).collect();
        let dns = ["10.96.0.10"];
        let expected: BTreeSet<_> = addresses.iter().map(String::as_str).chain(dns).collect();
        assert_eq!(claims, expected, "round {round}: an address without a service, or a service without its address");
    }
}

#[tokio::test]
#[ignore = "the writer that the other test starts and kills"]
async fn api_crash_writer() {
    let store = std::env::var_os(STORE).expect("started by `api_crash_loses_nothing_that_was_acknowledged`").into();
    let seed: u64 = std::env::var(SEED).expect("a seed").parse().expect("a number");
    let service_cidrs = vec!["10.96.0.0/24".parse().expect("a range")];
    let server = Server::open(Config { store, service_cidrs }).await.expect("a server");
    let tasks: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(write(server.clone(), task, seed * TASKS + task + 1))).collect();
    for task in tasks {
        task.await.expect("a task that goes on for ever");
    }
}

/// Creates, changes and deletes its services for ever.
async fn write(server: Server, task: u64, seed: u64) {
    let mut random = Random(seed);
    loop {
        let name = format!("s{task}-{}", random.below(OBJECTS));
        let path = format!("{SERVICES}/{name}");
        let label = format!("x{}", random.next());
        let (exists, _) = send(&server, Method::GET, &path, None).await;
        let labels = json!({"labels": {"state": label}});
        let (method, path, body, label) = match exists {
            404 => {
                let body =
                    json!({"metadata": {"name": name, "labels": labels["labels"]}, "spec": {"ports": [{"port": 80}]}});
                (Method::POST, SERVICES.to_owned(), Some(body), label)
            }
            _ if random.below(3) == 0 => (Method::DELETE, path, None, "-".to_owned()),
            _ => (Method::PATCH, path, Some(json!({"metadata": labels})), label),
        };
        say(&format!("try {name} {label} ."));
        let (code, answer) = send(&server, method, &path, body).await;
        assert!(code < 300, "{name}: {answer}");
        let revision = answer["metadata"]["resourceVersion"].as_str().unwrap_or("0");
        say(&format!("done {name} {label} {revision} ."));
    }
}

fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).expect("someone listens");
}

async fn send(server: &Server, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let content_type = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let request = Request::builder().method(method).uri(path).header("content-type", content_type).body(body);
    let response = server.router().oneshot(request.expect("a request")).await.expect("infallible");
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// xorshift64*: reproducible, and good enough to pick moments.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
