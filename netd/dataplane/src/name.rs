//! Names of chains and sets. A name that the kernel would refuse, or that nobody could recognise as ours, cannot be made.

use std::fmt;

use minipod_model::IpFamily;
use minipod_model::defaults::{CHAIN_PREFIX, SET_PREFIX};
use minipod_model::hash::short_hash;

use crate::compile::{next_set, signature_set};

/// The longest chain name in bytes (`XT_EXTENSION_MAXNAMELEN` less the final zero, `include/uapi/linux/netfilter/x_tables.h`).
pub const CHAIN_NAME_MAX: usize = 28;
/// The longest set name in bytes (`IPSET_MAXNAMELEN` less the final zero, `include/uapi/linux/netfilter/ipset/ip_set.h`).
pub const SET_NAME_MAX: usize = 31;
/// Characters of an identifier that fit into a chain or set name.
const TAG_MAX: usize = 16;

/// The name of a chain of ours: begins with `MP-`, at most 28 bytes of letters, digits and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainName(String);

/// The name of a set of ours: begins with `mp-`, at most 31 bytes of letters, digits and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName(String);

impl ChainName {
    /// The name, if it is one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        is_ours(name, CHAIN_PREFIX, CHAIN_NAME_MAX).then(|| Self(name.to_owned()))
    }

    /// A chain of which there is one: `MP-` and a word of the code.
    pub(crate) fn fixed(word: &'static str) -> Self {
        let name = format!("{CHAIN_PREFIX}{word}");
        debug_assert!(Self::parse(&name).is_some(), "{name}");
        Self(name)
    }

    /// The chain of `kind` (at most 3 bytes) for the thing called `id`.
    pub(crate) fn of(kind: &'static str, id: &str) -> Self {
        let name = format!("{CHAIN_PREFIX}{kind}-{}", tag(id));
        debug_assert!(Self::parse(&name).is_some(), "{name}");
        Self(name)
    }

    /// A chain below this one. Where the name would be too long it ends in a hash.
    pub(crate) fn child(&self, suffix: &str) -> Self {
        let name = format!("{}-{suffix}", self.0);
        if name.len() <= CHAIN_NAME_MAX {
            return Self(name);
        }
        let kept = self.0.len().min(CHAIN_NAME_MAX - 12);
        Self(format!("{}{}", &self.0[..kept], short_hash([self.0.as_str(), suffix], 12)))
    }

    /// The tag of a chain made by [`ChainName::of`] with this kind.
    pub(crate) fn tag_if(&self, kind: &str) -> Option<&str> {
        self.0.strip_prefix(CHAIN_PREFIX)?.strip_prefix(kind)?.strip_prefix('-')
    }

    /// Whether the chain is `root` or one that [`ChainName::child`] made of it.
    pub(crate) fn is_at_or_below(&self, root: &Self) -> bool {
        self.0.strip_prefix(&root.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// The name as the kernel spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SetName {
    /// The name, if it is one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        is_ours(name, SET_PREFIX, SET_NAME_MAX).then(|| Self(name.to_owned()))
    }

    /// A set of which there is one in each family: `mp-`, a word of the code and the family's digit.
    pub(crate) fn fixed(word: &'static str, family: IpFamily) -> Self {
        let name = format!("{SET_PREFIX}{word}{}", family.digit());
        debug_assert!(Self::parse(&name).is_some(), "{name}");
        Self(name)
    }

    /// The set of `kind` for the thing called `id`, in a family.
    pub(crate) fn of(kind: &'static str, id: &str, family: IpFamily) -> Self {
        let name = format!("{SET_PREFIX}{kind}-{}-{}", tag(id), family.digit());
        debug_assert!(Self::parse(&name).is_some(), "{name}");
        Self(name)
    }

    /// A set that serves both families.
    pub(crate) fn shared(kind: &'static str, id: &str) -> Self {
        Self(format!("{SET_PREFIX}{kind}-{}", tag(id)))
    }

    /// The family of the set, if it has one.
    pub(crate) fn family(&self) -> Option<IpFamily> {
        if self.0.starts_with("mp-b-") {
            return None;
        }
        IpFamily::ALL.into_iter().find(|family| self.0.ends_with(family.digit()))
    }

    /// Whether it holds addresses of peers, with or without a port.
    pub(crate) fn is_of_peers(&self) -> bool {
        self.0.starts_with("mp-p-") || self.0.starts_with("mp-q-")
    }

    /// Whether it leads from addresses to signatures.
    pub(crate) fn is_of_signatures(&self) -> bool {
        IpFamily::ALL.into_iter().any(|family| *self == signature_set(family) || *self == next_set(family))
    }

    /// The name under which a set's replacement is built before the two are swapped.
    pub(crate) fn replacement(&self) -> Self {
        Self(format!("{SET_PREFIX}new-{}", short_hash([self.0.as_str()], TAG_MAX)))
    }

    /// The name as the kernel spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An identifier as part of a name: itself where it is short and plain (so that a person finds it again), its hash otherwise.
pub(crate) fn tag(id: &str) -> String {
    let plain =
        !id.is_empty() && id.len() <= TAG_MAX && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if plain { id.to_owned() } else { short_hash([id], TAG_MAX) }
}

fn is_ours(name: &str, prefix: &str, max: usize) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    name.len() > prefix.len() && name.len() <= max && name.starts_with(prefix) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use minipod_model::IpFamily;

    use super::{CHAIN_NAME_MAX, ChainName, SET_NAME_MAX, SetName};

    #[test]
    fn names_fit_the_kernel_whatever_the_identifier() {
        for id in ["a", "0123456789abcdef", "0123456789abcdef0", "with space", "", &"x".repeat(300)] {
            let chain = ChainName::of("SE", id);
            assert!(chain.as_str().len() <= CHAIN_NAME_MAX && ChainName::parse(chain.as_str()).is_some(), "{chain}");
            let below = chain.child("0123").child("4567").child("89");
            assert!(below.as_str().len() <= CHAIN_NAME_MAX && ChainName::parse(below.as_str()).is_some(), "{below}");
            for set in [SetName::of("p", id, IpFamily::V6), SetName::shared("b", id).replacement()] {
                assert!(set.as_str().len() <= SET_NAME_MAX && SetName::parse(set.as_str()).is_some(), "{set}");
            }
        }
    }

    #[test]
    fn names_of_others_are_not_ours() {
        assert_eq!(ChainName::parse("DOCKER"), None);
        assert_eq!(ChainName::parse("MP-"), None);
        assert_eq!(ChainName::parse("MP-a b"), None);
        assert_eq!(SetName::parse("mpx"), None);
    }
}
