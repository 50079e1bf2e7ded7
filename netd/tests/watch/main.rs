//! The watches and what an attach waits for, against an API server that says what the test lets it say.

mod server;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use minipod_protocol::netd::PodRef;
use netd::consistent::Source;
use netd::versions::Kind;
use netd::watch::{News, Progress, start};
use serde_json::json;
use tokio::task::JoinSet;

use server::{ApiServer, policy};

const LONG: Duration = Duration::from_secs(60);

/// What the engine was told, in short.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn of(&self, kind: Kind) -> Vec<String> {
        let start = format!("{kind:?} ");
        let all = self.0.lock().expect("no panic");
        all.iter().filter_map(|line| line.strip_prefix(&start)).map(ToOwned::to_owned).collect()
    }
}

fn watch(api: &ApiServer) -> (JoinSet<()>, Progress, Told) {
    let told = Told::default();
    let (tasks, progress) = start(&api.client(), {
        let told = told.clone();
        move |news| {
            told.0.lock().expect("no panic").push(match news {
                News::List { kind, version, .. } => format!("{kind:?} list {version}"),
                News::Object(object) => format!("{:?} {} {}", object.kind, object.key.name, object.version),
            });
            true
        }
    });
    (tasks, progress, told)
}

#[tokio::test]
async fn an_attach_waits_until_every_watch_has_come_as_far_as_the_api_server() {
    let api = ApiServer::at(5);
    let (_tasks, progress, told) = watch(&api);
    progress.reaches(5, LONG).await.expect("lists");
    // A policy of another namespace is written; the pod is attached before any watch has heard of it.
    api.is_at(7);
    let source = Source { client: api.client(), progress: Some(progress.clone()) };
    let pod = PodRef { namespace: "default".into(), name: "web".into(), uid: None };
    let attach = tokio::spawn(async move { source.read(Some(&pod)).await });
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::NetworkPolicy) {
        api.bookmark(kind, 7).await;
    }
    let behind = progress.reaches(7, Duration::from_millis(50)).await.expect_err("one kind is behind");
    assert_eq!((behind.kind, behind.reached), (Kind::NetworkPolicy, 5));
    assert!(!attach.is_finished(), "the policy is not known yet");
    api.event(Kind::NetworkPolicy, "ADDED", policy("elsewhere", "p", 7)).await;
    let fresh = attach.await.expect("no panic").expect("read");
    assert!(fresh.objects.is_empty() && fresh.policies.is_none(), "the watches have told everything");
    assert_eq!(told.of(Kind::NetworkPolicy), ["list 5", "p 7"]);
}

#[tokio::test]
async fn an_attach_reads_what_concerns_it_where_the_watches_may_be_behind() {
    let api = ApiServer::at(5);
    let source = Source { client: api.client(), progress: None };
    let pod = PodRef { namespace: "default".into(), name: "web".into(), uid: None };
    let fresh = source.read(Some(&pod)).await.expect("read");
    let read: Vec<_> = fresh.objects.iter().map(|object| object.key.name.as_str()).collect();
    assert_eq!(read, ["web", "default"]);
    let policies = fresh.policies.expect("policies");
    assert_eq!((policies.namespace.as_str(), policies.version), ("default", 5));
    assert_eq!(policies.all[0].key.name, "there");
}

#[tokio::test(start_paused = true)]
async fn an_attach_is_refused_by_name_when_a_watch_stays_behind() {
    let api = ApiServer::at(5);
    let (_tasks, progress, _) = watch(&api);
    progress.reaches(5, LONG).await.expect("lists");
    api.is_at(6);
    let source = Source { client: api.client(), progress: Some(progress) };
    let pod = PodRef { namespace: "default".into(), name: "web".into(), uid: None };
    let error = source.read(Some(&pod)).await.expect_err("refused");
    assert_eq!(
        error.message,
        "cannot attach pod `default/web`: the watch of Pod objects has come to resource version 5, the API server is at 6; try again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_from_its_last_bookmark() {
    let api = ApiServer::at(5);
    let (_tasks, progress, told) = watch(&api);
    progress.reaches(5, LONG).await.expect("lists");
    api.bookmark(Kind::Pod, 9).await;
    api.close(Kind::Pod).await;
    assert_eq!(api.next_watch(Kind::Pod).await, "9");
    assert_eq!(told.of(Kind::Pod), ["list 5"], "what was known is not told again");
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_revision_is_compacted_lists_anew() {
    let api = ApiServer::at(5);
    let (_tasks, progress, told) = watch(&api);
    progress.reaches(5, LONG).await.expect("lists");
    api.is_at(20);
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old"});
    api.event(Kind::Pod, "ERROR", gone).await;
    assert_eq!(api.next_watch(Kind::Pod).await, "20");
    assert_eq!(told.of(Kind::Pod), ["list 5", "list 20"]);
}
