//! From a mark to the chain of what it stands for: chains of mark matches, at most 16 rules a level and one level for each four
//! bits, so that a packet's way does not grow with the number of leaves.

use std::collections::BTreeMap;

use crate::facts::MarkBits;
use crate::name::ChainName;
use crate::spec::{Chain, MarkValue, Match, Rule, Target};

/// Bits that one level decides.
const LEVEL_BITS: u32 = 4;
/// Leaves that one chain lists without a further level.
const LEAVES_MAX: usize = 16;

/// The leaves of a tree: chains by index.
pub type Leaves = BTreeMap<u32, ChainName>;

/// A tree of chains as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// where marks lead
    pub leaves: Leaves,
    /// the bits of a mark that are an index
    pub marks: MarkBits,
    /// what a mark meets that no leaf has; the last is for every packet
    pub otherwise: Vec<Rule>,
}

impl Tree {
    /// The chains of the tree below and including `root`.
    #[must_use]
    pub fn chains(&self, root: &ChainName) -> BTreeMap<ChainName, Chain> {
        let mut chains = BTreeMap::new();
        let leaves: Vec<(u32, &ChainName)> = self.leaves.iter().map(|(index, chain)| (*index, chain)).collect();
        self.node(root, root, &leaves, self.marks.index_bits(), &mut chains);
        chains
    }

    /// One chain: leaves that differ in their low `bits` bits only, sorted.
    fn node(
        &self,
        root: &ChainName,
        name: &ChainName,
        leaves: &[(u32, &ChainName)],
        bits: u32,
        chains: &mut BTreeMap<ChainName, Chain>,
    ) {
        let mut rules = Vec::new();
        if leaves.len() <= LEAVES_MAX {
            rules.extend(leaves.iter().map(|(index, chain)| self.rule(*index, 0, chain)));
        } else {
            let below = next_level(bits);
            for group in leaves.chunk_by(|a, b| a.0 >> below == b.0 >> below) {
                if let [(index, chain)] = group {
                    rules.push(self.rule(*index, 0, chain));
                    continue;
                }
                let first = group[0].0;
                let digits = (self.marks.index_bits() - below).div_ceil(LEVEL_BITS) as usize;
                let child = root.child(&format!("{:0digits$x}", first >> below));
                rules.push(self.rule(first, below, &child));
                self.node(root, &child, group, below, chains);
            }
        }
        rules.extend_from_slice(&self.otherwise);
        chains.insert(name.clone(), Chain::new(rules));
    }

    /// Sends marks that agree with `index` in all but the low `below` bits to `chain`.
    fn rule(&self, index: u32, below: u32, chain: &ChainName) -> Rule {
        let mask = self.marks.mark_of(self.marks.index_max() >> below << below);
        let value = self.marks.mark_of(index) & mask;
        Rule::new(vec![Match::Mark(MarkValue { value, mask })], Target::Goto(chain.clone()))
    }
}

/// The bits that are left below the level that begins at `bits`: levels end at multiples of four.
fn next_level(bits: u32) -> u32 {
    bits.saturating_sub(1) / LEVEL_BITS * LEVEL_BITS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Tree;
    use crate::facts::MarkBits;
    use crate::name::ChainName;
    use crate::spec::{Chain, Match, Rule, Target};

    fn leaf(index: u32) -> ChainName {
        ChainName::of("L", &format!("l{index}"))
    }

    /// Where a mark leads, and how many rules it meets on the way.
    fn walk(chains: &BTreeMap<ChainName, Chain>, root: &ChainName, mark: u32) -> (Option<ChainName>, usize) {
        let (mut at, mut met) = (root.clone(), 0);
        'chain: while let Some(chain) = chains.get(&at) {
            for rule in &chain.rules {
                met += 1;
                let hit = rule.matches.iter().all(|m| matches!(m, Match::Mark(v) if mark & v.mask == v.value));
                match &rule.target {
                    Target::Goto(next) if hit => {
                        at = next.clone();
                        continue 'chain;
                    }
                    Target::Drop => return (None, met),
                    _ => {}
                }
            }
        }
        (Some(at), met)
    }

    #[track_caller]
    fn check(marks: MarkBits, indexes: &[u32], bound: usize) {
        let root = ChainName::fixed("T");
        let leaves = indexes.iter().map(|index| (*index, leaf(*index))).collect();
        let tree = Tree { leaves, marks, otherwise: vec![Rule::always(Target::Drop)] };
        let chains = tree.chains(&root);
        for index in 0..=marks.index_max().min(5000) {
            let expected = tree.leaves.get(&index).cloned();
            let (found, met) = walk(&chains, &root, marks.mark_of(index) | 0x1234);
            assert_eq!(found, expected, "index {index:#x}");
            assert!(met <= bound, "index {index:#x} meets {met} rules");
        }
    }

    #[test]
    fn every_index_leads_to_its_own_leaf_within_the_bound() {
        let marks = MarkBits::default();
        check(marks, &[], 1);
        check(marks, &[1, 2, 0xffff], 4);
        check(marks, &(1..=300).collect::<Vec<_>>(), 65);
        check(marks, &(1..=4000).map(|n| n * 16 + n % 7).collect::<Vec<_>>(), 65);
        let odd = MarkBits::new(0x3ff0_0000, 1).expect("ten bits");
        check(odd, &(1..=1023).collect::<Vec<_>>(), 37);
    }
}
