//! One kind: listed, then watched from there on for good.
//!
//! Not `kube`'s own watcher, because that one keeps bookmarks to itself, and an attach waits for what they say.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::runtime::utils::Backoff as _;
use kube::runtime::watcher::DefaultBackoff;
use kube::{Api, Error};
use netd_policy::Change;

use super::{News, Progress, Watched, policy_versions, revision};

/// Objects in one answer to a list.
const PAGE: u32 = 500;
/// After this time the server ends a watch.
const WATCH_SECONDS: u32 = 290;
/// A server that has not ended a watch by then, and is silent, is not there any more.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 5);
/// A watch that has lasted this long has worked, and is resumed without a wait.
const WORKED: Duration = Duration::from_secs(10);

/// Lists and watches until nobody listens.
pub(super) async fn follow<K: Watched>(api: Api<K>, tell: impl Fn(News) -> bool, progress: Progress) {
    let mut back_off = DefaultBackoff::default();
    let mut follower = Follower { api, tell, progress, reached: None };
    loop {
        let begin = Instant::now();
        let end = match follower.reached.clone() {
            None => follower.list().await,
            Some(version) => follower.watch(&version).await,
        };
        match end {
            Ok(()) => continue,
            Err(End::NobodyListens) => return,
            Err(End::Expired) => follower.reached = None,
            Err(End::Closed) => {}
            Err(End::Broken(error)) => {
                tracing::warn!(kind = ?K::KIND, error = %error, "watch interrupted; what is known stays in force");
            }
        }
        if begin.elapsed() >= WORKED {
            back_off.reset();
        } else {
            tokio::time::sleep(back_off.next().unwrap_or(WORKED)).await;
        }
    }
}

/// Why a list or a watch came to its end.
enum End {
    NobodyListens,
    /// the server does not know any more what changed since
    Expired,
    /// without an error
    Closed,
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(status) if status.code == 410 => Self::Expired,
            error => Self::Broken(error.into()),
        }
    }
}

struct Follower<K, T> {
    api: Api<K>,
    tell: T,
    progress: Progress,
    /// the resource version up to which everything was told
    reached: Option<String>,
}

impl<K: Watched, T: Fn(News) -> bool> Follower<K, T> {
    /// Tells a complete list.
    async fn list(&mut self) -> Result<(), End> {
        // Page by page: of a large cluster's objects only what netd needs of them is ever held.
        let (mut listed, mut policies) = (K::listed(&[]), Vec::new());
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = self.api.list(&page).await?;
            policies.extend(policy_versions(&list.items));
            if !listed.append(K::listed(&list.items)) {
                return Err(End::Broken("a list holds another kind than was asked for".into()));
            }
            page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
            if page.continue_token.is_none() {
                let version = list.metadata.resource_version.unwrap_or_default();
                let change = Change::Listed(listed);
                let news = News::List { kind: K::KIND, version: revision(&version), change, policies };
                return self.tell(news, version);
            }
        }
    }

    /// Tells what changes after `version`.
    async fn watch(&mut self, version: &str) -> Result<(), End> {
        let params = WatchParams::default().timeout(WATCH_SECONDS);
        let mut events = pin!(self.api.watch(&params, version).await?);
        loop {
            let silent = |_| End::Broken("the API server is silent".into());
            let event = tokio::time::timeout(SILENCE, events.next()).await.map_err(silent)?;
            match event.ok_or(End::Closed)?? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => self.tell_of(&object, false)?,
                WatchEvent::Deleted(object) => self.tell_of(&object, true)?,
                WatchEvent::Bookmark(bookmark) => self.arrive(bookmark.metadata.resource_version),
                WatchEvent::Error(status) => return Err(Error::Api(status).into()),
            }
        }
    }

    fn tell_of(&mut self, object: &K, gone: bool) -> Result<(), End> {
        let version = object.meta().resource_version.clone().unwrap_or_default();
        self.tell(News::Object(object.report(gone)), version)
    }

    fn tell(&mut self, news: News, version: String) -> Result<(), End> {
        if !(self.tell)(news) {
            return Err(End::NobodyListens);
        }
        self.arrive(version);
        Ok(())
    }

    fn arrive(&mut self, version: String) {
        self.progress.note(K::KIND, revision(&version));
        self.reached = Some(version);
    }
}
