//! How many packets the policies have denied: each signature's chains end with a rule for them, and rules count what they match.

use std::collections::BTreeMap;

use crate::compile::{EGRESS, INGRESS};
use crate::name::ChainName;
use crate::spec::Reason;

/// Packets denied since its chain was written, by the tag of the signature and the direction.
pub type Denied = BTreeMap<(String, Reason), u64>;

/// Reads what `iptables-save -c` printed of mangle, and adds it up. What cannot be read is not ours.
pub fn read_denied(text: &str, denied: &mut Denied) {
    for line in text.lines() {
        if let Some((key, packets)) = read(line) {
            *denied.entry(key).or_default() += packets;
        }
    }
}

fn read(line: &str) -> Option<((String, Reason), u64)> {
    let (packets, rest) = line.strip_prefix('[')?.split_once(':')?;
    let (chain, rule) = rest.split_once("] -A ")?.1.split_once(' ')?;
    // The rule that nothing but the end of the chain leads to.
    let reason = match rule.rsplit(' ').next()? {
        "MP-DENY-EGRESS" => Reason::Egress,
        "MP-DENY-INGRESS" => Reason::Ingress,
        _ => return None,
    };
    let chain = ChainName::parse(chain)?;
    let tag = chain.tag_if(EGRESS).or_else(|| chain.tag_if(INGRESS))?;
    Some(((tag.to_owned(), reason), packets.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Denied, read_denied};
    use crate::spec::Reason;

    #[test]
    fn what_ends_a_signatures_chain_is_counted_over_both_families() {
        let text = "*mangle\n:MP-SI-abc - [0:0]\n[7:420] -A MP-SI-abc -m set --match-set mp-p-x-4 src -j RETURN\n\
                    [3:180] -A MP-SI-abc -g MP-DENY-INGRESS\n[2:99] -A MP-SE-abc -m comment --comment \"mp:0:1\" -g MP-DENY-EGRESS\n\
                    [9:9] -A MP-VERDICT -g MP-DENY-CUT\n[x:y] -A MP-SI-abc -g MP-DENY-INGRESS\nCOMMIT\n";
        let mut denied = Denied::new();
        read_denied(text, &mut denied);
        read_denied("[4:1] -A MP-SI-abc -g MP-DENY-INGRESS\n", &mut denied);
        let expected = [(("abc".to_owned(), Reason::Egress), 2), (("abc".to_owned(), Reason::Ingress), 7)];
        assert_eq!(denied, Denied::from(expected));
    }
}
