//! The redb store: transactions, watches, and what it does with a file that is not what it wrote.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;

use bytes::Bytes;
use minipod_api::store::{OpenStoreError, Precondition, RedbStore, Store as _, StoreError, Transaction, Write};
use tempfile::TempDir;

fn directory() -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("store.redb");
    (directory, path)
}

fn put(key: &str, value: &'static str) -> Write {
    Write::Put(key.to_owned(), Bytes::from_static(value.as_bytes()))
}

fn absent(key: &str) -> Precondition {
    Precondition::Absent(key.to_owned())
}

fn transaction(preconditions: Vec<Precondition>, writes: Vec<Write>) -> Transaction {
    Transaction { preconditions, writes }
}

#[tokio::test]
async fn a_transaction_happens_as_a_whole_or_not_at_all() {
    let (_directory, path) = directory();
    let store = RedbStore::open(&path).expect("a store");
    let first =
        store.commit(transaction(vec![absent("/a")], vec![put("/a", "1"), put("/b", "1")])).await.expect("done");
    for preconditions in [
        vec![absent("/a")],
        vec![absent("/c"), Precondition::Unchanged("/b".to_owned(), first + 1)],
        vec![Precondition::Unchanged("/c".to_owned(), first)],
    ] {
        let refused = store.commit(transaction(preconditions, vec![put("/a", "2"), put("/c", "2")])).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    }
    assert_eq!(store.get("/c").await.expect("an answer"), None);
    let unchanged = Precondition::Unchanged("/a".to_owned(), first);
    let second = store
        .commit(transaction(vec![unchanged], vec![Write::Delete("/a".to_owned()), put("/c", "3")]))
        .await
        .expect("done");
    assert_eq!(second, first + 1);
    let listing = store.list("/", None).await.expect("a list");
    let keys: Vec<_> = listing.records.iter().map(|(key, record)| (key.as_str(), record.mod_revision)).collect();
    assert_eq!((listing.revision, keys), (second, vec![("/b", first), ("/c", second)]));
}

#[tokio::test]
async fn commits_at_the_same_time_are_judged_one_after_the_other() {
    let (_directory, path) = directory();
    let store = std::sync::Arc::new(RedbStore::open(&path).expect("a store"));
    let writers: Vec<_> = (0..50)
        .map(|_| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move {
                store.commit(transaction(vec![absent("/one")], vec![put("/one", "x")])).await.is_ok()
            })
        })
        .collect();
    let mut winners = 0;
    for writer in writers {
        winners += usize::from(writer.await.expect("a writer"));
    }
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn a_watch_gives_each_change_once_and_in_order() {
    let (_directory, path) = directory();
    let store = RedbStore::open(&path).expect("a store");
    let start = store.commit(transaction(vec![], vec![put("/a/0", "x")])).await.expect("done");
    let mut watch = store.watch("/a/", start).await.expect("a watch");
    store.commit(transaction(vec![], vec![put("/a/1", "x")])).await.expect("done");
    store.commit(transaction(vec![], vec![put("/b/1", "x")])).await.expect("done");
    let last = store.commit(transaction(vec![], vec![Write::Delete("/a/0".to_owned())])).await.expect("done");
    let mut seen = Vec::new();
    while watch.revision() < last {
        seen.extend(watch.next().await.expect("changes"));
    }
    let seen: Vec<_> =
        seen.iter().map(|c| (c.key.as_str(), c.revision - start, c.before.is_some(), c.after.is_some())).collect();
    assert_eq!(seen, [("/a/1", 1, false, true), ("/a/0", 3, true, false)]);
    assert!(matches!(store.watch("/a/", last + 1).await.err(), Some(StoreError::Future { .. })));
}

#[tokio::test]
async fn revisions_go_on_after_the_store_was_closed() {
    let (_directory, path) = directory();
    let store = RedbStore::open(&path).expect("a store");
    store.commit(transaction(vec![], vec![put("/a", "1")])).await.expect("done");
    let last = store.commit(transaction(vec![], vec![Write::Delete("/a".to_owned())])).await.expect("done");
    drop(store);
    let store = RedbStore::open(&path).expect("a store");
    assert_eq!(store.list("/", None).await.expect("a list").revision, last);
    assert!(matches!(store.watch("/", last - 1).await.err(), Some(StoreError::Compacted { .. })));
    assert!(store.watch("/", last).await.is_ok());
}

#[test]
fn one_process_has_the_store() {
    let (_directory, path) = directory();
    let _store = RedbStore::open(&path).expect("a store");
    assert!(matches!(RedbStore::open(&path).err(), Some(OpenStoreError::InUse { .. })));
}

/// A store with some content, closed.
fn written(path: &std::path::Path) {
    let store = RedbStore::open(path).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for number in 0..100 {
        let write = Write::Put(format!("/registry/pods/default/{number}"), vec![b'x'; 500].into());
        runtime.block_on(store.commit(transaction(vec![], vec![write]))).expect("done");
    }
}

#[track_caller]
fn check_refused(path: &std::path::Path) {
    let before = fs::read(path).expect("the file");
    let error = RedbStore::open(path).expect_err("a damaged store");
    assert!(matches!(error, OpenStoreError::Damaged { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains(&path.display().to_string()) && message.contains("backup"), "{message}");
    assert_eq!(fs::read(path).expect("the file"), before, "the file was touched");
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_as_it_is() {
    let (_directory, path) = directory();
    for content in [
        &b""[..],
        b"hello",
        &[0; 8192],
        b"#!/bin/sh\necho a file that is long enough to have a header, one would think\n",
    ] {
        fs::write(&path, content).expect("written");
        check_refused(&path);
    }
}

#[test]
fn a_store_that_was_cut_off_is_refused() {
    let (_directory, path) = directory();
    written(&path);
    let length = fs::metadata(&path).expect("the file").len();
    for left in [length / 2, 4096, 100] {
        let file = fs::OpenOptions::new().write(true).open(&path).expect("the file");
        file.set_len(left).expect("cut");
        check_refused(&path);
    }
}

#[test]
fn a_store_with_changed_bytes_is_refused_or_complete() {
    let (_directory, path) = directory();
    written(&path);
    let original = fs::read(&path).expect("the file");
    let mut refused = 0;
    for place in (0..original.len() as u64).step_by(4096) {
        fs::write(&path, &original).expect("written");
        let file = fs::OpenOptions::new().write(true).open(&path).expect("the file");
        file.write_all_at(&[0xa5; 64], place + 32).expect("damaged");
        drop(file);
        match RedbStore::open(&path) {
            Err(OpenStoreError::Damaged { .. }) => refused += 1,
            Err(other) => assert_eq!(other.to_string(), "", "at {place}"),
            // A page that holds nothing: everything is there.
            Ok(store) => {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                let listing = runtime.block_on(store.list("/", None)).expect("a list");
                assert_eq!(listing.records.len(), 100, "damage at {place} was not noticed");
                assert!(listing.records.iter().all(|(_, r)| r.value.iter().all(|b| *b == b'x')), "at {place}");
            }
        }
    }
    assert!(refused > 0, "no damage was noticed");
}

/// Runs itself again in a mount namespace of its own with a file system of 1 MiB at `MINIPOD_FULL`.
#[test]
fn a_full_disk_is_an_error_and_leaves_nothing_half_made() {
    let directory = TempDir::new().expect("a directory");
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs {0} && MINIPOD_FULL={0} exec {1} --exact full_disk --ignored --nocapture",
        directory.path().display(),
        std::env::current_exe().expect("this program").display(),
    );
    let output = Command::new("unshare").args(["--mount", "--propagation", "private", "sh", "-c", &script]).output();
    let output = output.expect("`unshare` of util-linux, run by root");
    assert!(
        output.status.success(),
        "this test needs root for a mount namespace:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
#[ignore = "run in a small file system by the test above"]
async fn full_disk() {
    let directory = PathBuf::from(std::env::var_os("MINIPOD_FULL").expect("started by the test above"));
    let path = directory.join("store.redb");
    let store = RedbStore::open(&path).expect("a store");
    let filler = directory.join("filler");
    let mut written = 0;
    let refused = loop {
        // Both or neither.
        let both = vec![Write::Put(format!("/a/{written:04}"), vec![b'x'; 4000].into()), put("/last", "x")];
        match store.commit(transaction(vec![], both)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        if written == 3 {
            // Whatever is left of the file system; the write fails when it is full.
            let _ = fs::write(&filler, vec![0; 2 << 20]);
        }
        assert!(written < 1000, "the disk is never full");
    };
    assert!(matches!(refused, StoreError::Write { .. }), "{refused:?}");
    assert!(refused.to_string().contains("free space"), "{refused}");
    assert!(written >= 3);
    assert_eq!(store.list("/a/", None).await.expect("a list").records.len(), written);

    fs::remove_file(&filler).expect("removed");
    store.commit(transaction(vec![], vec![put("/b", "x")])).await.expect("it goes on once there is space");
    drop(store);
    let store = RedbStore::open(&path).expect("a store");
    assert_eq!(store.list("/a/", None).await.expect("a list").records.len(), written);
    assert!(store.get("/b").await.expect("an answer").is_some());
}
