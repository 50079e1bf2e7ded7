//! The numbers under which a packet mark carries "this signature" from a set's look-up to the rules.
//!
//! A number is the hash of what it stands for, so that equal intents get equal numbers. Where two hashes collide the one that was
//! there first keeps its number: rules and sets do not change in one step, and a number that changed its meaning between the two
//! would judge a pod by another pod's rules.

use std::collections::{BTreeMap, BTreeSet};

use minipod_model::hash::short_hash;

/// Numbers by the tag that ends the chain's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes {
    /// of signatures
    pub signatures: BTreeMap<String, u32>,
}

/// There are more things than numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} {things} are more than the {available} that one node can have: spread the pods over more nodes, or merge policies"
)]
pub struct OutOfIndexes {
    /// `signatures`
    pub things: &'static str,
    /// how many are wanted, those about to go included
    pub wanted: usize,
    /// how many numbers there are
    pub available: u32,
}

/// Numbers for `tags`, none twice, each in `1..=max`. A tag of `previous` keeps its number; a number of `previous` gets no new
/// meaning.
pub(crate) fn assign<'a>(
    things: &'static str,
    previous: &BTreeMap<String, u32>,
    tags: impl IntoIterator<Item = &'a str>,
    max: u32,
) -> Result<BTreeMap<String, u32>, OutOfIndexes> {
    let tags: BTreeSet<&str> = tags.into_iter().collect();
    let known = |tag: &str| previous.get(tag).copied().filter(|index| (1..=max).contains(index));
    let mut taken: BTreeSet<u32> = previous.values().copied().collect();
    let wanted = taken.len() + tags.iter().filter(|tag| known(tag).is_none()).count();
    if u32::try_from(wanted).is_ok_and(|wanted| wanted > max) {
        return Err(OutOfIndexes { things, wanted, available: max });
    }
    let mut assigned = BTreeMap::new();
    for tag in tags {
        let index = known(tag).unwrap_or_else(|| {
            let mut index = preferred(tag, max);
            while taken.contains(&index) {
                index = index % max + 1;
            }
            index
        });
        taken.insert(index);
        assigned.insert(tag.to_owned(), index);
    }
    Ok(assigned)
}

fn preferred(tag: &str, max: u32) -> u32 {
    // Eight hexadecimal digits always fit.
    u32::from_str_radix(&short_hash([tag], 8), 16).unwrap_or(0) % max + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{assign, preferred};

    #[test]
    fn a_number_never_changes_its_meaning() {
        let tags: Vec<String> = (0..12).map(|n| format!("t{n}")).collect();
        let all = assign("things", &BTreeMap::new(), tags.iter().map(String::as_str), 15).expect("enough numbers");
        let mut numbers: Vec<u32> = all.values().copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 12);
        let next = assign("things", &all, ["t3", "new", "new2"], 15).expect("enough numbers");
        assert_eq!(next["t3"], all["t3"]);
        assert!(!all.values().any(|index| *index == next["new"] || *index == next["new2"]));
    }

    #[test]
    fn without_collisions_history_does_not_matter() {
        let max = 0xffff;
        let first = assign("things", &BTreeMap::from([("x".to_owned(), preferred("x", max))]), ["a", "b"], max);
        assert_eq!(first, assign("things", &BTreeMap::new(), ["b", "a"], max));
    }

    #[test]
    fn running_out_is_an_error() {
        let error = assign("signatures", &BTreeMap::new(), ["a", "b"], 1).expect_err("one number for two");
        assert_eq!((error.wanted, error.available), (2, 1));
    }
}
