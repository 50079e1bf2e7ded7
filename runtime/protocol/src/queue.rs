//! Releases that were asked for while netd was away: a file each in a directory beside its socket. The directory lives for one
//! boot, as the attachments do. netd carries them out when it is back, before it answers anybody.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::netd::Sandbox;

/// The directory that belongs to a socket.
#[must_use]
pub fn directory(socket: &Path) -> PathBuf {
    socket.with_file_name("released")
}

/// Queues a release and tells its file; once more is the same as once.
///
/// Whoever queues asks netd once more afterwards: a netd that came up in between may have looked here already.
///
/// # Errors
/// What the file system says.
pub fn put(directory: &Path, sandbox: &Sandbox) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    // Container IDs and interface names have no `/` and no `:`, so this is one file name and means one sandbox.
    let name = format!("{}:{}.json", sandbox.container_id, sandbox.ifname);
    let temporary = directory.join(format!(".{}.{name}", std::process::id()));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(sandbox)?)?;
    file.sync_all()?;
    let path = directory.join(name);
    fs::rename(&temporary, &path)?;
    Ok(path)
}

/// What is queued, each with the file to remove once it is carried out. Half-written files are passed over.
///
/// # Errors
/// What the file system says; a directory that is not there has nothing.
pub fn pending(directory: &Path) -> io::Result<Vec<(PathBuf, Sandbox)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut pending = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        let sandbox = serde_json::from_slice(&fs::read(&path)?)?;
        pending.push((path, sandbox));
    }
    pending.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(pending)
}
