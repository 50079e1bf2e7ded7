//! The name of a set.

use std::fmt;

/// `IPSET_MAXNAMELEN` without the closing zero byte.
const LONGEST: usize = 31;

/// The name of a set: 1 to 31 bytes of printable ASCII without blanks, so that it can stand in a rule unquoted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName(String);

/// Not a set's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a set: 1 to {LONGEST} printable ASCII characters without blanks, quotes or commas are allowed"
)]
pub struct InvalidSetName(pub String);

impl SetName {
    /// The name, if it can be one.
    ///
    /// # Errors
    /// [`InvalidSetName`]
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidSetName> {
        let name = name.into();
        let fits = (1..=LONGEST).contains(&name.len());
        if fits && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b',')) {
            Ok(Self(name))
        } else {
            Err(InvalidSetName(name))
        }
    }

    /// The name as the kernel spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<&str> for SetName {
    type Error = InvalidSetName;

    fn try_from(name: &str) -> Result<Self, InvalidSetName> {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::SetName;

    #[test]
    fn a_name_that_the_kernel_would_refuse_cannot_be_made() {
        assert!(SetName::new("mp-gate").is_ok());
        assert!(SetName::new("a".repeat(31)).is_ok());
        for bad in ["", "a b", "a,b", "a\"", "ä", &"a".repeat(32)] {
            assert!(SetName::new(bad).is_err(), "{bad}");
        }
    }
}
