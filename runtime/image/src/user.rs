//! Who a container runs as: an image's `User` (or a pod's numbers) resolved with the image's own `/etc/passwd` and `/etc/group`.
//!
//! The forms are those of the OCI image specification: `user`, `uid`, `user:group`, `uid:gid`, `uid:group`, `user:gid`. A name
//! must be in the file; a number need not be.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::rootfs::Rootfs;

/// The largest `/etc/passwd` or `/etc/group` that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// A user, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// user ID
    pub uid: u32,
    /// group ID
    pub gid: u32,
    /// groups whose members include the user, without `gid`; none when a group was given
    pub additional_gids: Vec<u32>,
    /// home directory, `/` where the image does not say
    pub home: String,
}

/// Why a user cannot be resolved.
#[derive(Debug, Error)]
pub enum UserError {
    /// the user name is not in the image
    #[error("the image has no user `{0}` in `/etc/passwd`; give a number or another user")]
    UnknownUser(String),
    /// the group name is not in the image
    #[error("the image has no group `{0}` in `/etc/group`; give a number or another group")]
    UnknownGroup(String),
    /// a file of the image cannot be read
    #[error("cannot read `{path}` in the image")]
    Read {
        /// which
        path: &'static str,
        /// what the system says
        #[source]
        source: io::Error,
    },
}

/// Resolves a user against the layers of an image, topmost first. An empty text means root.
pub fn resolve_user(layers: &[PathBuf], user: &str) -> Result<User, UserError> {
    let read = |path: &'static str| {
        let rootfs = Rootfs::open(layers).map_err(|source| UserError::Read { path, source })?;
        let contents = rootfs.read(path, MAX_FILE).map_err(|source| UserError::Read { path, source })?;
        Ok(String::from_utf8_lossy(&contents.unwrap_or_default()).into_owned())
    };
    resolve_in(&read("/etc/passwd")?, &read("/etc/group")?, user)
}

/// The same with the files' contents. Pure.
pub fn resolve_in(passwd: &str, group: &str, user: &str) -> Result<User, UserError> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group_name)) => (name, Some(group_name).filter(|group_name| !group_name.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let entry = find_user(passwd, name);
    let uid = match (&entry, name.parse::<u32>()) {
        (Some(entry), _) => entry.uid,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => return Err(UserError::UnknownUser(name.to_owned())),
    };
    let home = entry.as_ref().map(|entry| entry.home).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
    let gid = match group_name {
        Some(group_name) => find_group(group, group_name)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let additional_gids = match (group_name, &entry) {
        (None, Some(entry)) => memberships(group, entry.name).filter(|member| *member != gid).collect(),
        _ => Vec::new(),
    };
    Ok(User { uid, gid, additional_gids, home })
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// By name first, then by number, as the usual runtimes do.
fn find_user<'a>(passwd: &'a str, wanted: &str) -> Option<PasswdEntry<'a>> {
    let number = wanted.parse::<u32>().ok();
    let entries = || passwd.lines().filter_map(passwd_entry);
    entries().find(|entry| entry.name == wanted).or_else(|| entries().find(|entry| Some(entry.uid) == number))
}

fn passwd_entry(line: &str) -> Option<PasswdEntry<'_>> {
    let mut fields = line.split(':');
    let (name, _password) = (fields.next()?, fields.next()?);
    let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let home = fields.nth(1).unwrap_or("/");
    Some(PasswdEntry { name, uid, gid, home })
}

fn find_group(group: &str, wanted: &str) -> Result<u32, UserError> {
    let by_name = group_entries(group).find(|(name, ..)| *name == wanted).map(|(_, gid, _)| gid);
    by_name.or_else(|| wanted.parse().ok()).ok_or_else(|| UserError::UnknownGroup(wanted.to_owned()))
}

fn memberships<'a>(group: &'a str, user: &'a str) -> impl Iterator<Item = u32> + 'a {
    group_entries(group)
        .filter(move |(.., members)| members.split(',').any(|member| member == user))
        .map(|(_, gid, _)| gid)
}

fn group_entries(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        Some((name, fields.next()?.parse().ok()?, fields.next().unwrap_or("").trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::{User, resolve_in};

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:101:102:,:/srv/web:/bin/false\n1000:x:7:8::/odd:\n";
    const GROUP: &str = "root:x:0:\naudio:x:29:web,root\nweb:x:102:web\nstaff:x:50:\n";

    fn check(user: &str, uid: u32, gid: u32, additional_gids: &[u32], home: &str) {
        let expected = User { uid, gid, additional_gids: additional_gids.to_vec(), home: home.to_owned() };
        assert_eq!(resolve_in(PASSWD, GROUP, user).expect(user), expected, "{user}");
    }

    #[test]
    fn all_forms_of_the_image_specification_resolve() {
        check("", 0, 0, &[29], "/root");
        check("root", 0, 0, &[29], "/root");
        check("web", 101, 102, &[29], "/srv/web");
        check("101", 101, 102, &[29], "/srv/web");
        check("web:staff", 101, 50, &[], "/srv/web");
        check("web:7", 101, 7, &[], "/srv/web");
        check("4242", 4242, 0, &[], "/");
        check("4242:audio", 4242, 29, &[], "/");
        check("web:", 101, 102, &[29], "/srv/web");
        check("1000", 7, 8, &[], "/odd");
    }

    #[test]
    fn unknown_names_are_refused_by_name() {
        assert_eq!(
            resolve_in(PASSWD, GROUP, "nobody").expect_err("user").to_string(),
            "the image has no user `nobody` in `/etc/passwd`; give a number or another user"
        );
        assert!(resolve_in(PASSWD, GROUP, "web:wheel").expect_err("group").to_string().contains("`wheel`"));
        assert!(resolve_in("", "", "99999999999").is_err());
    }
}
