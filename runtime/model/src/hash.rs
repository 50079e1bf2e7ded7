//! Short stable names for long things: links, chains and sets have 15, 28 and 31 bytes for a name.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The first `length` (at most 64) hexadecimal characters of the SHA-256 of `parts`, each part closed by a zero byte so that
/// `["ab", "c"]` and `["a", "bc"]` differ.
#[must_use]
pub fn short_hash<'a>(parts: impl IntoIterator<Item = &'a str>, length: usize) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use super::short_hash;

    #[test]
    fn parts_are_kept_apart() {
        assert_ne!(short_hash(["ab", "c"], 11), short_hash(["a", "bc"], 11));
        assert_eq!(short_hash(["ab", "c"], 11).len(), 11);
    }
}
