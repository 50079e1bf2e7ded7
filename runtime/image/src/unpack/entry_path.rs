//! Decides what the name of a layer's entry means: a place, a whiteout, an opaque mark, or nothing that may be unpacked. Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use thiserror::Error;

/// The longest path of an entry in bytes, as `PATH_MAX` without its terminator.
pub(super) const MAX_PATH: usize = 4095;
/// The longest component of a path in bytes, as `NAME_MAX`.
pub(super) const MAX_COMPONENT: usize = 255;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";
const METADATA_PREFIX: &[u8] = b".wh..wh.";

/// The parent directory's components and the last one, all plain names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) parent: Vec<Vec<u8>>,
    pub(super) name: Vec<u8>,
}

/// What an entry's name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// the layer's root directory itself
    Root,
    /// something is there
    At(Place),
    /// what lower layers have there is gone
    Whiteout(Place),
    /// what lower layers have in this directory is gone
    Opaque(Vec<Vec<u8>>),
    /// bookkeeping of aufs, of no meaning for us
    AufsMetadata,
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadPath {
    /// it has a `..`
    #[error("its path has a `..` component")]
    Ascends,
    /// the path is too long
    #[error("its path is longer than {MAX_PATH} bytes")]
    TooLong,
    /// a component is too long
    #[error("its path has a component longer than {MAX_COMPONENT} bytes")]
    ComponentTooLong,
    /// it has a NUL byte
    #[error("its path has a NUL byte")]
    Nul,
    /// `.wh.`, `.wh..`, `.wh...`: a whiteout of nothing, of a directory itself or of its parent
    #[error("it is a whiteout without a name")]
    NamelessWhiteout,
    /// a directory is called like a whiteout
    #[error("its path leads through a whiteout")]
    ThroughWhiteout,
    /// the name is empty where one is needed
    #[error("it has no name")]
    Empty,
}

/// The meaning of a path in a layer. A leading `/` means the layer's root, as it does everywhere in images.
pub(super) fn meaning_of(path: &[u8]) -> Result<Meaning, BadPath> {
    let mut parent = components(path)?;
    let Some(name) = parent.pop() else {
        return Ok(Meaning::Root);
    };
    if parent.iter().any(|component| component.starts_with(WHITEOUT_PREFIX)) {
        return Err(BadPath::ThroughWhiteout);
    }
    if name == OPAQUE_MARK {
        return Ok(Meaning::Opaque(parent));
    }
    match name.strip_prefix(WHITEOUT_PREFIX) {
        Some(b"" | b"." | b"..") => Err(BadPath::NamelessWhiteout),
        Some(_) if name.starts_with(METADATA_PREFIX) => Ok(Meaning::AufsMetadata),
        Some(hidden) => Ok(Meaning::Whiteout(Place { parent, name: hidden.to_vec() })),
        None => Ok(Meaning::At(Place { parent, name })),
    }
}

/// The place that a hard link points at.
pub(super) fn link_target(path: &[u8]) -> Result<Place, BadPath> {
    match meaning_of(path)? {
        Meaning::At(place) => Ok(place),
        Meaning::Root => Err(BadPath::Empty),
        Meaning::Whiteout(_) | Meaning::Opaque(_) | Meaning::AufsMetadata => Err(BadPath::ThroughWhiteout),
    }
}

/// The components as a relative path, `.` for none.
pub(super) fn join(components: &[Vec<u8>]) -> Vec<u8> {
    if components.is_empty() { b".".to_vec() } else { components.join(&b'/') }
}

/// A component as the system wants it.
pub(super) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

fn components(path: &[u8]) -> Result<Vec<Vec<u8>>, BadPath> {
    if path.len() > MAX_PATH {
        return Err(BadPath::TooLong);
    }
    if path.contains(&0) {
        return Err(BadPath::Nul);
    }
    let mut components = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(BadPath::Ascends),
            long if long.len() > MAX_COMPONENT => return Err(BadPath::ComponentTooLong),
            name => components.push(name.to_vec()),
        }
    }
    Ok(components)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BadPath, Meaning, Place, link_target, meaning_of};

    fn place(parent: &[&str], name: &str) -> Place {
        Place { parent: parent.iter().map(|part| part.as_bytes().to_vec()).collect(), name: name.as_bytes().to_vec() }
    }

    #[test]
    fn names_mean_places_whiteouts_and_marks() {
        let cases = [
            ("./", Meaning::Root),
            ("/", Meaning::Root),
            ("", Meaning::Root),
            ("./etc/passwd", Meaning::At(place(&["etc"], "passwd"))),
            ("/etc//passwd/", Meaning::At(place(&["etc"], "passwd"))),
            ("etc/.wh.passwd", Meaning::Whiteout(place(&["etc"], "passwd"))),
            ("etc/.wh..wh..opq", Meaning::Opaque(vec![b"etc".to_vec()])),
            (".wh..wh..opq", Meaning::Opaque(vec![])),
            (".wh..wh.plnk", Meaning::AufsMetadata),
            ("...", Meaning::At(place(&[], "..."))),
        ];
        for (path, expected) in cases {
            assert_eq!(meaning_of(path.as_bytes()), Ok(expected), "{path}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let cases = [
            ("../x", BadPath::Ascends),
            ("a/../../x", BadPath::Ascends),
            ("a/..", BadPath::Ascends),
            (".wh.", BadPath::NamelessWhiteout),
            ("a/.wh..", BadPath::NamelessWhiteout),
            ("a/.wh...", BadPath::NamelessWhiteout),
            (".wh.a/b", BadPath::ThroughWhiteout),
            ("a\0b", BadPath::Nul),
        ];
        for (path, expected) in cases {
            assert_eq!(meaning_of(path.as_bytes()), Err(expected), "{path}");
        }
        assert_eq!(meaning_of(&[b'a'; 256]), Err(BadPath::ComponentTooLong));
        assert_eq!(meaning_of(&b"a/".repeat(2048)), Err(BadPath::TooLong));
        assert_eq!(link_target(b"a/.wh.b"), Err(BadPath::ThroughWhiteout));
        assert_eq!(link_target(b"/"), Err(BadPath::Empty));
    }

    proptest! {
        #[test]
        fn no_place_has_a_component_that_means_something_else(path in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Meaning::At(place) | Meaning::Whiteout(place)) = meaning_of(&path) {
                for component in place.parent.iter().chain([&place.name]) {
                    prop_assert!(!component.is_empty() && !component.contains(&b'/') && !component.contains(&0));
                    prop_assert!(!matches!(component.as_slice(), b"." | b".."));
                }
            }
        }
    }
}
