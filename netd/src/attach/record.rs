//! What is remembered of an attachment: one small JSON file each, true for one boot, so never synced to disk.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use minipod_kernel::file::{Durability, ensure_removed, write_atomically};
use minipod_kernel::netlink::Mac;
use minipod_kernel::netns::{NetNs, NetNsError};
use minipod_model::LinkName;
use minipod_protocol::netd::{PodRef, Sandbox};
use serde::{Deserialize, Serialize};

use super::AttachError;

/// An attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// the boot in which it was made
    pub boot_id: String,
    /// whose interface it is
    pub sandbox: Sandbox,
    /// the pod in the API, if the caller named one
    pub pod: Option<PodRef>,
    /// labels of a container without an API object
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// the path of the network namespace at the time
    pub netns: PathBuf,
    /// the identity of that namespace, by which another one at the same path is told from it
    #[serde(default)]
    pub netns_inode: Option<u64>,
    /// the node's end
    pub link: LinkName,
    /// the number of the node's end
    pub link_index: u32,
    /// the hardware address of the node's end
    pub host_mac: Mac,
    /// the hardware address of the pod's end
    pub mac: Mac,
    /// the largest packet of both ends in bytes
    pub mtu: u32,
    /// the pod's addresses, IPv4 first
    pub addresses: Vec<IpAddr>,
}

impl Record {
    /// The sandbox's namespace; `None` when it is gone.
    pub(super) fn living_netns(&self) -> Result<Option<NetNs>, NetNsError> {
        match NetNs::open(&self.netns) {
            Ok(netns) => Ok(Some(netns).filter(|netns| netns.inode().ok() == self.netns_inode)),
            Err(NetNsError::Gone(_) | NetNsError::NotANamespace(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The directory of the records.
#[derive(Debug, Clone)]
pub(super) struct Records {
    directory: PathBuf,
}

impl Records {
    /// Opens the directory, makes it where it is absent.
    pub(super) fn open(directory: PathBuf) -> Result<Self, AttachError> {
        match fs::create_dir_all(&directory) {
            Ok(()) => Ok(Self { directory }),
            Err(source) => Err(AttachError::Record { verb: "make the directory of", path: directory, source }),
        }
    }

    /// All readable records; what cannot be read is no record of ours to act on and is reported.
    pub(super) fn read(&self) -> Result<(Vec<Record>, Vec<PathBuf>), AttachError> {
        let failed = |source| AttachError::Record { verb: "read", path: self.directory.clone(), source };
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read_one(&path) {
                Ok(record) => records.push(record),
                Err(_) => damaged.push(path),
            }
        }
        Ok((records, damaged))
    }

    pub(super) fn write(&self, record: &Record) -> Result<(), AttachError> {
        let path = self.path(&record.link);
        let contents = serde_json::to_vec(record).map_err(io::Error::from);
        contents
            .and_then(|contents| write_atomically(&path, &contents, Durability::Volatile))
            .map_err(|source| AttachError::Record { verb: "write", path, source })
    }

    pub(super) fn remove(&self, link: &LinkName) -> Result<(), AttachError> {
        let path = self.path(link);
        ensure_removed(&path).map_err(|source| AttachError::Record { verb: "remove", path, source })
    }

    fn path(&self, link: &LinkName) -> PathBuf {
        self.directory.join(format!("{link}.json"))
    }
}

fn read_one(path: &Path) -> io::Result<Record> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
