//! The store of one node: a redb file, with its content mirrored in memory.
//!
//! Model: reads never touch the file; they see the mirror, which only ever shows commits that are on disk. Writes go through one
//! thread that owns the file; commits that wait at the same time share one durable commit of the file (each still all or nothing
//! on its own). Ownership: the file belongs to one process at a time, by redb's lock. A file that is damaged is refused, never
//! recreated; a missing file is made under another name and renamed when it is complete. After a failed write the file is opened
//! again before the next one, so that freeing space is enough to go on. The log of recent changes is kept in memory only: a watch
//! that wants to resume from before a restart is answered as one from before a compaction, and lists again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::thread;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};
use tokio::sync::{oneshot, watch};

use super::log::{Bounds, Log};
use super::{Change, Listing, Precondition, Record, Store, StoreError, Transaction, Watch, Write};

const RECORDS: TableDefinition<'static, &str, (u64, &[u8])> = TableDefinition::new("records");
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";
const REVISION_KEY: &str = "revision";
/// Version of the two tables above.
const FORMAT: u64 = 1;
/// The mirror serves reads; redb's own cache only needs to hold what a commit touches.
const CACHE_BYTES: usize = 1 << 20;
/// Commits that share one durable commit at most.
const GROUP: usize = 128;

/// Why the store's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// another process has it
    #[error("the store `{}` is in use by another process; stop the other `minipod node` first", path.display())]
    InUse {
        /// the file
        path: PathBuf,
    },
    /// its content is not what was written
    #[error(
        "the store `{}` is damaged: {problem}; it was left as it is. Put a copy from a backup in its place, or remove \
         everything with `minipod node reset --yes`", path.display()
    )]
    Damaged {
        /// the file
        path: PathBuf,
        /// what was found
        problem: String,
    },
    /// it was written by a later version
    #[error("the store `{}` has format {found}, this program knows {FORMAT}; use the version that wrote it", path.display())]
    Format {
        /// the file
        path: PathBuf,
        /// its format
        found: u64,
    },
    /// the file system refused
    #[error("cannot open the store `{}`; check its directory's permissions and free space", path.display())]
    Io {
        /// the file
        path: PathBuf,
        /// why
        #[source]
        source: std::io::Error,
    },
}

/// A [`Store`] in one redb file.
#[derive(Debug)]
pub struct RedbStore {
    shared: Arc<Shared>,
    /// `None` only while dropping
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: RwLock<State>,
    /// the latest revision; wakes watches
    revision: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    records: BTreeMap<String, Record>,
    log: Log,
}

struct Job {
    transaction: Transaction,
    answer: oneshot::Sender<Result<u64, StoreError>>,
}

impl RedbStore {
    /// Opens the store, and makes it if there is no file.
    ///
    /// # Errors
    /// See [`OpenStoreError`]; the file is left as it is.
    pub fn open(path: &Path) -> Result<Self, OpenStoreError> {
        Self::open_with(path, Bounds::default())
    }

    fn open_with(path: &Path, bounds: Bounds) -> Result<Self, OpenStoreError> {
        let io = |source| OpenStoreError::Io { path: path.to_owned(), source };
        if !path.try_exists().map_err(io)? {
            create_file(path)?;
        }
        let (database, content) = open_file(path)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            revision: watch::Sender::new(content.revision),
            state: RwLock::new(State { records: content.records, log: Log::new(bounds, content.revision) }),
        });
        let (jobs, queue) = mpsc::channel();
        let mut writer = Writer { shared: Arc::clone(&shared), database: Some(database) };
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|source| OpenStoreError::Io { path: path.to_owned(), source })?;
        Ok(Self { shared, jobs: Some(jobs), writer: Some(thread) })
    }
}

impl Drop for RedbStore {
    /// Waits until the writer has closed the file.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for RedbStore {
    async fn get(&self, key: &str) -> Result<Option<Record>, StoreError> {
        Ok(self.shared.read().records.get(key).cloned())
    }

    async fn list(&self, prefix: &str, revision: Option<u64>) -> Result<Listing, StoreError> {
        let state = self.shared.read();
        let below = state
            .records
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, record)| (key.clone(), record.clone()));
        let current = state.log.revision();
        match revision {
            Some(revision) if revision != current => {
                let mut records = below.collect();
                state.log.rewind(revision, prefix, &mut records)?;
                Ok(Listing { revision, records: records.into_iter().collect() })
            }
            _ => Ok(Listing { revision: current, records: below.collect() }),
        }
    }

    async fn commit(&self, transaction: Transaction) -> Result<u64, StoreError> {
        let closed = || StoreError::Closed { path: self.shared.path.clone() };
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(closed)?;
        jobs.send(Job { transaction, answer }).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    async fn watch(&self, prefix: &str, revision: u64) -> Result<Box<dyn Watch>, StoreError> {
        let latest = self.shared.revision.subscribe();
        self.shared.read().log.check(revision)?;
        Ok(Box::new(LogWatch { shared: Arc::clone(&self.shared), prefix: prefix.to_owned(), revision, latest }))
    }
}

/// A cursor in the log; it holds no queue of its own, so that a slow reader costs nothing.
struct LogWatch {
    shared: Arc<Shared>,
    prefix: String,
    revision: u64,
    latest: watch::Receiver<u64>,
}

#[async_trait]
impl Watch for LogWatch {
    async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        let wanted = self.revision;
        if self.latest.wait_for(|latest| *latest > wanted).await.is_err() {
            return Err(StoreError::Closed { path: self.shared.path.clone() });
        }
        let state = self.shared.read();
        let changes = state.log.after(self.revision, &self.prefix)?;
        self.revision = state.log.revision();
        Ok(changes)
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}

/// Owner of the file.
struct Writer {
    shared: Arc<Shared>,
    /// `None` after a failed write, until it is open again
    database: Option<Database>,
}

/// What the commits of one group change, on top of the mirror.
#[derive(Default)]
struct Group {
    records: BTreeMap<String, Option<Record>>,
    changes: Vec<Change>,
    revision: u64,
}

impl Writer {
    fn run(&mut self, queue: &mpsc::Receiver<Job>) {
        while let Ok(first) = queue.recv() {
            let jobs = std::iter::once(first).chain(queue.try_iter()).take(GROUP).collect();
            self.commit_group(jobs);
        }
    }

    fn commit_group(&mut self, jobs: Vec<Job>) {
        let mut group = Group { revision: self.shared.read().log.revision(), ..Group::default() };
        let mut accepted = Vec::new();
        for job in jobs {
            let result = group.add(&self.shared.read().records, job.transaction);
            match result {
                Ok(revision) => accepted.push((job.answer, revision)),
                // A receiver that is gone no longer wants the answer.
                Err(error) => drop(job.answer.send(Err(error))),
            }
        }
        if accepted.is_empty() {
            return;
        }
        match self.persist(&group) {
            Ok(()) => {
                self.publish(group);
                for (answer, revision) in accepted {
                    drop(answer.send(Ok(revision)));
                }
            }
            Err(source) => {
                self.database = None;
                let source: Arc<dyn std::error::Error + Send + Sync> = Arc::from(source);
                for (answer, _) in accepted {
                    let path = self.shared.path.clone();
                    drop(answer.send(Err(StoreError::Write { path, source: Arc::clone(&source) })));
                }
            }
        }
    }

    fn persist(&mut self, group: &Group) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopen()?,
        };
        let database = self.database.insert(database);
        let transaction = database.begin_write()?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for (key, record) in &group.records {
                match record {
                    Some(record) => drop(records.insert(key.as_str(), (record.mod_revision, record.value.as_ref()))?),
                    None => drop(records.remove(key.as_str())?),
                }
            }
            transaction.open_table(META)?.insert(REVISION_KEY, group.revision)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Opens the file again after a failed write. If that write is found to be on disk after all, its callers were told
    /// otherwise; a commit on top of it would be judged by an outdated mirror, so the store takes it over first and refuses once.
    fn reopen(&mut self) -> Result<Database, Box<dyn std::error::Error + Send + Sync>> {
        let (database, content) = open_file(&self.shared.path)?;
        let revision = self.shared.read().log.revision();
        if content.revision == revision {
            return Ok(database);
        }
        let group = difference(&self.shared.read().records, &content);
        self.publish(group);
        self.database = Some(database);
        Err("an earlier write that had failed was found to be complete; try again".into())
    }

    fn publish(&self, group: Group) {
        let mut state = self.shared.write();
        for (key, record) in group.records {
            match record {
                Some(record) => drop(state.records.insert(key, record)),
                None => drop(state.records.remove(&key)),
            }
        }
        state.log.push(Instant::now(), group.revision, group.changes);
        drop(state);
        self.shared.revision.send_replace(group.revision);
    }
}

impl Group {
    fn get<'a>(&'a self, mirror: &'a BTreeMap<String, Record>, key: &str) -> Option<&'a Record> {
        match self.records.get(key) {
            Some(changed) => changed.as_ref(),
            None => mirror.get(key),
        }
    }

    /// Judges a transaction against the mirror and the transactions before it in the group.
    fn add(&mut self, mirror: &BTreeMap<String, Record>, transaction: Transaction) -> Result<u64, StoreError> {
        for precondition in &transaction.preconditions {
            let record = self.get(mirror, precondition.key());
            let holds = match precondition {
                Precondition::Absent(_) => record.is_none(),
                Precondition::Unchanged(_, revision) => record.is_some_and(|r| r.mod_revision == *revision),
            };
            if !holds {
                return Err(StoreError::Conflict { key: precondition.key().to_owned() });
            }
        }
        self.revision += 1;
        let revision = self.revision;
        for write in transaction.writes {
            let (key, after) = match write {
                Write::Put(key, value) => (key, Some(value)),
                Write::Delete(key) => (key, None),
            };
            let before = self.get(mirror, &key).cloned();
            if before.is_none() && after.is_none() {
                continue;
            }
            let record = after.clone().map(|value| Record { value, mod_revision: revision });
            self.records.insert(key.clone(), record);
            self.changes.push(Change { revision, key, before, after });
        }
        Ok(revision)
    }
}

/// What takes the mirror to the content of the file, as changes of the file's revision.
fn difference(mirror: &BTreeMap<String, Record>, content: &Content) -> Group {
    let mut group = Group { revision: content.revision, ..Group::default() };
    let mut change = |key: &str, before: Option<Record>, record: Option<Record>| {
        let after = record.as_ref().map(|r| r.value.clone());
        group.changes.push(Change { revision: content.revision, key: key.to_owned(), before, after });
        group.records.insert(key.to_owned(), record);
    };
    for (key, record) in mirror.iter().filter(|(key, _)| !content.records.contains_key(*key)) {
        change(key, Some(record.clone()), None);
    }
    for (key, record) in &content.records {
        let before = mirror.get(key);
        if before != Some(record) {
            change(key, before.cloned(), Some(record.clone()));
        }
    }
    group
}

/// What a file holds.
struct Content {
    records: BTreeMap<String, Record>,
    revision: u64,
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Makes an empty store beside `path` and renames it: a file at `path` is complete, or was not made here.
fn create_file(path: &Path) -> Result<(), OpenStoreError> {
    let io = |source| OpenStoreError::Io { path: path.to_owned(), source };
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(io)?;
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    if let Err(error) = create_empty(&temporary) {
        // Its space may be what is missing.
        let _ = fs::remove_file(&temporary);
        return Err(refuse(path, error));
    }
    fs::rename(&temporary, path).and_then(|()| File::open(directory)?.sync_all()).map_err(io)
}

fn create_empty(path: &Path) -> Result<(), redb::Error> {
    let database = builder().create(path)?;
    let transaction = database.begin_write()?;
    {
        transaction.open_table(RECORDS)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT_KEY, FORMAT)?;
        meta.insert(REVISION_KEY, 1)?;
    }
    transaction.commit()?;
    Ok(database.close()?)
}

/// Opens a file; a damaged one is left as it was.
fn open_file(path: &Path) -> Result<(Database, Content), OpenStoreError> {
    let io = |source| OpenStoreError::Io { path: path.to_owned(), source };
    let before = fs::read(path).map_err(io)?;
    if before.is_empty() {
        return Err(OpenStoreError::Damaged { path: path.to_owned(), problem: "it is empty".to_owned() });
    }
    let opened = open_and_read(path);
    // redb may have begun to repair before it found what cannot be repaired.
    if matches!(opened, Err(OpenStoreError::Damaged { .. })) && fs::read(path).map_err(io)? != before {
        put_back(path, &before).map_err(io)?;
    }
    opened
}

fn put_back(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)?;
    file.sync_all()
}

fn open_and_read(path: &Path) -> Result<(Database, Content), OpenStoreError> {
    let damaged = |problem: String| OpenStoreError::Damaged { path: path.to_owned(), problem };
    // redb checks the whole file and reports what it finds; a panic there would be a damage that it did not foresee, and must
    // not take the process down.
    let opened = thread::scope(|scope| {
        scope.spawn(|| builder().open(path).map_err(redb::Error::from).and_then(|d| Ok((read(&d)?, d)))).join()
    });
    let (content, database) = match opened {
        Ok(Ok((content, database))) => (content, database),
        Ok(Err(error)) => return Err(refuse(path, error)),
        Err(_) => return Err(damaged("its structure cannot be read".to_owned())),
    };
    match content {
        Ok(content) => Ok((database, content)),
        Err(NoContent::Format(found)) => Err(OpenStoreError::Format { path: path.to_owned(), found }),
        Err(NoContent::Missing(what)) => {
            Err(damaged(format!("it has no {what}, so it is not a store of this program")))
        }
    }
}

enum NoContent {
    Format(u64),
    Missing(&'static str),
}

fn read(database: &Database) -> Result<Result<Content, NoContent>, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Err(NoContent::Missing("table `meta`"))),
        table => table?,
    };
    match meta.get(FORMAT_KEY)?.map(|found| found.value()) {
        Some(FORMAT) => {}
        Some(found) => return Ok(Err(NoContent::Format(found))),
        None => return Ok(Err(NoContent::Missing("format"))),
    }
    let Some(revision) = meta.get(REVISION_KEY)?.map(|revision| revision.value()) else {
        return Ok(Err(NoContent::Missing("revision")));
    };
    let mut records = BTreeMap::new();
    let table = match transaction.open_table(RECORDS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Err(NoContent::Missing("table `records`"))),
        table => table?,
    };
    for entry in table.iter()? {
        let (key, value) = entry?;
        let (mod_revision, value) = value.value();
        records.insert(key.value().to_owned(), Record { value: Bytes::copy_from_slice(value), mod_revision });
    }
    Ok(Ok(Content { records, revision }))
}

fn refuse(path: &Path, error: impl Into<redb::Error>) -> OpenStoreError {
    let path = path.to_owned();
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => OpenStoreError::InUse { path },
        redb::Error::Io(source)
            if !matches!(source.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) =>
        {
            OpenStoreError::Io { path, source }
        }
        other => OpenStoreError::Damaged { path, problem: other.to_string() },
    }
}
