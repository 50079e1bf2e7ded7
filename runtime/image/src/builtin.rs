//! The built-in image: the one static program `minipod-hello` under the names of its tools, so that the lesson and the tests
//! need no registry.
//!
//! Only names of ours are built in; a name of somebody else, also one whose program we could stand in for, is never answered
//! with it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tar::{Builder, EntryType, Header};
use thiserror::Error;

use crate::config::{NewConfig, NewRootfs, NewSettings, host_architecture};
use crate::digest::Digest;
use crate::reference::Reference;
use crate::store::{ImageRef, LayerError, Store, StoreError};

/// The registry part of the names that are built in.
pub const REGISTRY: &str = "minipod.local";
/// Answers HTTP as the lesson's `hello-app:1.0` does.
pub const HELLO_APP: &str = "minipod.local/hello-app:1.0";
/// The same program without an entrypoint: give it a command such as `wget -qO- http://hello-web:8080`.
pub const TOOLS: &str = "minipod.local/tools:1.0";

/// The names under which the program is found in the image; `docs/hello.md` says what each does.
pub const PROGRAMS: &[&str] = &[
    "sleep", "wget", "nslookup", "dns", "tcp", "udp", "env", "cat", "id", "hostname", "now", "exit", "sh", "true",
    "false",
];

/// Raised when the layout of the image changes, so that an older one in a store is replaced.
const LAYOUT: u32 = 2;

/// Why the built-in image cannot be had.
#[derive(Debug, Error)]
pub enum BuiltinError {
    /// the name looks like ours and is not
    #[error("no built-in image `{reference}`; there are `{HELLO_APP}` and `{TOOLS}`")]
    Unknown {
        /// what was asked for
        reference: Reference,
    },
    /// nobody said where the program is
    #[error("the built-in image `{reference}` is not available here: the program `minipod-hello` is not installed")]
    NotInstalled {
        /// what was asked for
        reference: Reference,
    },
    /// the program cannot be read
    #[error("cannot read the program of the built-in image, `{path}`; install `minipod-hello` beside `minipod`")]
    Program {
        /// where it should be
        path: PathBuf,
        /// what the system says
        #[source]
        source: io::Error,
    },
    /// the layer
    #[error("cannot unpack the built-in image")]
    Layer(#[from] LayerError),
    /// the store
    #[error(transparent)]
    Store(#[from] StoreError),
    /// the configuration cannot be written
    #[error("cannot encode the configuration of the built-in image")]
    Encode(#[from] serde_json::Error),
}

/// Which program the image in the store was made of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    layout: u32,
    path: PathBuf,
    inode: u64,
    size: u64,
    mtime: i64,
    mtime_nsec: i64,
}

/// Whether a name is one of ours.
#[must_use]
pub fn is_builtin(reference: &Reference) -> bool {
    reference.registry() == REGISTRY
}

/// The image of a built-in name, made of the program if the store does not have it yet or has an older one.
pub(crate) fn ensure(store: &Store, program: Option<&Path>, reference: &Reference) -> Result<ImageRef, BuiltinError> {
    if !names_of(HELLO_APP).chain(names_of(TOOLS)).any(|name| name == *reference) {
        return Err(BuiltinError::Unknown { reference: reference.clone() });
    }
    let Some(program) = program else {
        return Err(BuiltinError::NotInstalled { reference: reference.clone() });
    };
    let unreadable = |source| BuiltinError::Program { path: program.to_owned(), source };
    let stamp = stamp_of(program).map_err(unreadable)?;
    let stamp_path = store.root().join("builtin.json");
    let recorded = fs::read(&stamp_path).ok().and_then(|json| serde_json::from_slice::<Stamp>(&json).ok());
    if recorded.as_ref() == Some(&stamp)
        && let Some(image) = store.by_name(reference)?
    {
        return Ok(image);
    }
    let _hold = store.hold()?;
    let layer = layer_of(program).map_err(unreadable)?;
    let diff_id = store.publish_layer(store.stage_layer(layer.as_slice())?, None)?;
    store.add_image(&config_of(&diff_id, true)?, &names_of(HELLO_APP).collect::<Vec<_>>())?;
    store.add_image(&config_of(&diff_id, false)?, &names_of(TOOLS).collect::<Vec<_>>())?;
    store.write_beside_index("builtin.json", &serde_json::to_vec(&stamp)?)?;
    store.by_name(reference)?.ok_or_else(|| StoreError::NotFound(reference.to_string()).into())
}

/// A built-in name with its tag and with `latest`.
fn names_of(name: &str) -> impl Iterator<Item = Reference> {
    let untagged = name.split_once(':').map_or(name, |(name, _)| name);
    [name, untagged].into_iter().filter_map(|name| name.parse().ok())
}

fn stamp_of(program: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(program)?;
    Ok(Stamp {
        layout: LAYOUT,
        path: program.to_owned(),
        inode: metadata.ino(),
        size: metadata.size(),
        mtime: metadata.mtime(),
        mtime_nsec: metadata.mtime_nsec(),
    })
}

/// The image's only layer as a tar stream. It depends on the program alone, so equal programs give equal images.
fn layer_of(program: &Path) -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for (directory, mode) in [
        ("bin/", 0o755),
        ("etc/", 0o755),
        ("root/", 0o700),
        ("tmp/", 0o1777),
        ("dev/", 0o755),
        ("proc/", 0o755),
        ("sys/", 0o755),
    ] {
        tar.append_data(&mut header(EntryType::Directory, mode, 0), directory, io::empty())?;
    }
    let mut file = File::open(program)?;
    let size = file.metadata()?.len();
    tar.append_data(&mut header(EntryType::Regular, 0o755, size), "hello-app", &mut file)?;
    for name in PROGRAMS {
        tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), format!("bin/{name}"), "/hello-app")?;
    }
    for (path, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
        ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ] {
        tar.append_data(&mut header(EntryType::Regular, 0o644, text.len() as u64), path, text.as_bytes())?;
    }
    tar.into_inner()
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn config_of(diff_id: &Digest, server: bool) -> Result<Vec<u8>, serde_json::Error> {
    let settings = if server {
        NewSettings {
            entrypoint: vec!["/hello-app".to_owned()],
            exposed_ports: std::iter::once(("8080/tcp".to_owned(), json!({}))).collect(),
            ..NewSettings::default()
        }
    } else {
        NewSettings { cmd: vec!["/bin/sleep".to_owned(), "infinity".to_owned()], ..NewSettings::default() }
    };
    serde_json::to_vec(&NewConfig {
        created: "1970-01-01T00:00:00Z",
        architecture: host_architecture(),
        os: "linux",
        config: settings,
        rootfs: NewRootfs { kind: "layers", diff_ids: vec![diff_id.clone()] },
    })
}
