//! What of the address allocation outlives a restart: the cursor (also a reboot) and the quarantine (one boot).
//!
//! Nothing is written on the attach path but, once in many attaches, a few bytes of the cursor: it is written ahead, so that a crash skips
//! addresses instead of repeating them.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use minipod_kernel::file::{Durability, read_if_present, write_atomically};
use serde::{Deserialize, Serialize};

use super::AttachError;
use crate::ipam::Ipam;

/// How far ahead the cursor is written.
const AHEAD: u32 = 16;

#[derive(Debug)]
pub(super) struct Memory {
    cursor_file: PathBuf,
    quarantine_file: PathBuf,
    boot_id: String,
    /// the cursor on the disk
    written: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Quarantine {
    boot_id: String,
    /// addresses with the time of their release in milliseconds since boot
    released: Vec<(IpAddr, u64)>,
}

impl Memory {
    /// The cursor of the last run, and a way to keep the next.
    pub(super) fn open(
        cursor_file: PathBuf,
        quarantine_file: PathBuf,
        boot_id: String,
    ) -> Result<(Self, u32), AttachError> {
        let directory = cursor_file.parent().map_or(Ok(()), fs::create_dir_all);
        directory.map_err(|source| failed("write", &cursor_file, source))?;
        let contents = read_if_present(&cursor_file).map_err(|source| failed("read", &cursor_file, source))?;
        // A damaged cursor costs nothing but the order.
        let cursor = contents.and_then(|c| String::from_utf8(c).ok()?.trim().parse().ok()).unwrap_or(0);
        Ok((Self { cursor_file, quarantine_file, boot_id, written: cursor }, cursor))
    }

    /// Tells a new allocator what the last run released in this boot.
    pub(super) fn restore(&self, ipam: &mut Ipam) {
        let contents = read_if_present(&self.quarantine_file).ok().flatten();
        let Some(found) = contents.and_then(|contents| serde_json::from_slice::<Quarantine>(&contents).ok()) else {
            return;
        };
        if found.boot_id == self.boot_id {
            for (address, released) in found.released {
                ipam.release(&[address], Duration::from_millis(released));
            }
        }
    }

    /// Keeps the cursor if it has come as far as what is on the disk.
    pub(super) fn keep_cursor(&mut self, ipam: &Ipam) -> Result<(), AttachError> {
        let cursor = ipam.cursor();
        // Also after it went round and is far behind.
        if self.written.checked_sub(cursor).is_some_and(|ahead| (1..=AHEAD).contains(&ahead)) {
            return Ok(());
        }
        self.written = cursor.saturating_add(AHEAD);
        write_atomically(&self.cursor_file, self.written.to_string().as_bytes(), Durability::Volatile)
            .map_err(|source| failed("write", &self.cursor_file, source))
    }

    /// Keeps the quarantine.
    pub(super) fn keep_quarantine(&self, ipam: &Ipam, now: Duration) -> Result<(), AttachError> {
        let released = ipam
            .quarantined(now)
            .into_iter()
            .map(|(address, at)| (address, u64::try_from(at.as_millis()).unwrap_or(u64::MAX)))
            .collect();
        let contents = serde_json::to_vec(&Quarantine { boot_id: self.boot_id.clone(), released })
            .map_err(|source| failed("write", &self.quarantine_file, source.into()))?;
        write_atomically(&self.quarantine_file, &contents, Durability::Volatile)
            .map_err(|source| failed("write", &self.quarantine_file, source))
    }
}

fn failed(verb: &'static str, path: &std::path::Path, source: std::io::Error) -> AttachError {
    AttachError::Record { verb, path: path.to_owned(), source }
}
