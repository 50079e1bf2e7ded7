//! The one place that knows how `iptables` spells things: chains to `iptables-restore` text, and `iptables-save` text back to what
//! is there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use minipod_model::defaults::DROPS_GROUP;
use minipod_model::hash::short_hash;
use minipod_model::link::{POD_LINK_PREFIX, VXLAN_LINK};
use minipod_model::{IpFamily, Protocol};

use crate::name::ChainName;
use crate::observed::{HookKey, Observed, ObservedJump};
use crate::spec::{
    Chain, ChainKey, ConnState, Directions, Hook, Interface, Jump, MarkValue, Match, Reason, Reject, Rule, Table,
    Target,
};

/// Comments of ours begin with this.
const COMMENT_PREFIX: &str = "mp:";
/// The longest label in a comment; the kernel takes 255 bytes (`XT_MAX_COMMENT_LEN`).
const LABEL_MAX: usize = 160;

/// Of dropped packets of one pod so many are told of in a second, and so many after a while without any.
const TOLD_OF_A_POD: u32 = 10;
const TOLD_OF_A_POD_AT_ONCE: u32 = 20;
/// The same of all pods together, for each reason and family.
const TOLD: u32 = 50;
const TOLD_AT_ONCE: u32 = 100;
/// So much of a packet is told: its headers.
const TOLD_BYTES: u32 = 128;

/// The name of a built-in chain.
#[must_use]
pub fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "PREROUTING",
        Hook::Input => "INPUT",
        Hook::Forward => "FORWARD",
        Hook::Output => "OUTPUT",
        Hook::Postrouting => "POSTROUTING",
    }
}

/// By what a chain is judged: a hash over its label and its rules, and their number.
#[must_use]
pub fn chain_hash(family: IpFamily, name: &ChainName, chain: &Chain) -> String {
    let rules: Vec<String> = chain.rules.iter().map(|rule| normal(&rule_text(family, rule, None))).collect();
    hash_of(name, &label_of(chain), &rules)
}

fn hash_of(name: &ChainName, label: &str, rules: &[String]) -> String {
    let hash = short_hash([name.as_str(), label].into_iter().chain(rules.iter().map(String::as_str)), 16);
    format!("{hash}:{}", rules.len())
}

/// A rule in the form in which rules are compared, the same for what we write and for what `iptables-save` prints of it: its options in
/// one order, without the comment.
fn normal(rule: &str) -> String {
    let mut options: Vec<String> = Vec::new();
    let mut is_negated = false;
    for word in words(rule) {
        match word {
            "!" => is_negated = true,
            word if word.starts_with('-') => {
                let not = if std::mem::take(&mut is_negated) { "! " } else { "" };
                options.push(format!("{not}{word}"));
            }
            word => match options.last_mut() {
                Some(option) => *option = format!("{option} {}", normal_value(option, word)),
                None => options.push(word.to_owned()),
            },
        }
    }
    options.retain(|option| option != "-m comment" && !option.starts_with("--comment "));
    options.sort_unstable();
    options.join(" ")
}

/// A rule's words; what is in quotes is one.
fn words(rule: &str) -> impl Iterator<Item = &str> {
    let mut rest = rule;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        let is_over = rest.is_empty();
        rest = after;
        (!is_over).then_some(word)
    })
}

/// Where the kernel keeps a value otherwise than we write it.
fn normal_value(option: &str, value: &str) -> String {
    match option.trim_start_matches("! ") {
        // Kept in parts of 2^31.
        "--probability" => value.parse().map_or_else(|_| value.to_owned(), |share: f64| format!("{share:.6}")),
        "--ctstate" => {
            let mut states: Vec<&str> = value.split(',').collect();
            states.sort_unstable();
            states.join(",")
        }
        // Programs differ in the name that they print.
        "-p" if value == "icmpv6" => "ipv6-icmp".to_owned(),
        _ => value.to_owned(),
    }
}

/// Input for `iptables-restore --noflush` that replaces some chains of a table and removes others, all or nothing.
#[must_use]
pub fn restore_text<'a>(
    family: IpFamily,
    table: Table,
    replace: impl IntoIterator<Item = (&'a ChainName, &'a Arc<Chain>)> + Clone,
    delete: impl IntoIterator<Item = &'a ChainName> + Clone,
) -> String {
    let mut text = format!("*{table}\n");
    let declared = replace.clone().into_iter().map(|(name, _)| name).chain(delete.clone());
    for name in declared {
        line(&mut text, &format!(":{name} - [0:0]"));
    }
    for (name, chain) in replace {
        let comment = comment_of(family, name, chain);
        for (number, rule) in chain.rules.iter().enumerate() {
            let comment = (number == chain.told_by).then_some(comment.as_str());
            line(&mut text, &format!("-A {name}{}", rule_text(family, rule, comment)));
        }
    }
    for name in delete {
        line(&mut text, &format!("-X {name}"));
    }
    line(&mut text, "COMMIT");
    text
}

/// The rule of a jump in its built-in chain, as `iptables -C` and `-I` take it.
#[must_use]
pub fn jump_text(jump: &Jump) -> String {
    let rule = Rule::new(jump.matches.clone(), Target::Jump(jump.chain.clone()));
    rule_text(jump.family, &rule, None).trim_start().to_owned()
}

/// Input for `iptables-restore --noflush` that puts a jump at the end of its built-in chain.
#[must_use]
pub(crate) fn append_text(jump: &Jump) -> String {
    format!("*{}\n-A {} {}\nCOMMIT\n", jump.table, hook_name(jump.hook), jump_text(jump))
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn comment_of(family: IpFamily, name: &ChainName, chain: &Chain) -> String {
    let mut comment = format!("{COMMENT_PREFIX}{}", chain_hash(family, name, chain));
    if chain.label.is_some() {
        comment.push(' ');
        comment.push_str(&label_of(chain));
    }
    comment
}

/// A chain's label as it is in a comment. A quote or backslash would end the comment early or change it; labels are for people only.
fn label_of(chain: &Chain) -> String {
    let plain = |c: char| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '_' };
    chain.label.iter().flat_map(|label| label.chars()).take(LABEL_MAX).map(plain).collect()
}

/// A rule with a blank before each word.
fn rule_text(family: IpFamily, rule: &Rule, comment: Option<&str>) -> String {
    let mut text = String::new();
    // `-p` has to come before what depends on it.
    let protocol = |m: &&Match| matches!(m, Match::Protocol(_) | Match::Icmp | Match::Icmpv6Type(_) | Match::NotSyn);
    let given = rule.matches.iter().find(protocol);
    if let Some(m) = given {
        let _ = write!(text, " -p {}", protocol_of(family, m));
    }
    let mut ports_of = None;
    for m in &rule.matches {
        if let Match::Protocol(protocol) = m {
            ports_of = Some(*protocol);
        }
        match_text(&mut text, m, ports_of);
    }
    if let Some(comment) = comment {
        let _ = write!(text, " -m comment --comment \"{comment}\"");
    }
    target_text(&mut text, family, &rule.target);
    text
}

fn protocol_of(family: IpFamily, m: &Match) -> &'static str {
    match (m, family) {
        (Match::Protocol(Protocol::Udp), _) => "udp",
        (Match::Protocol(Protocol::Sctp), _) => "sctp",
        (Match::Icmp, IpFamily::V4) => "icmp",
        (Match::Icmp | Match::Icmpv6Type(_), _) => "ipv6-icmp",
        _ => "tcp",
    }
}

fn match_text(text: &mut String, m: &Match, protocol: Option<Protocol>) {
    // Writing to a `String` cannot fail.
    let _ = match m {
        Match::In(interface) => write!(text, " -i {}", interface_name(*interface)),
        Match::NotIn(interface) => write!(text, " ! -i {}", interface_name(*interface)),
        Match::Out(interface) => write!(text, " -o {}", interface_name(*interface)),
        Match::NotOut(interface) => write!(text, " ! -o {}", interface_name(*interface)),
        Match::Source(net) => write!(text, " -s {net}"),
        Match::NotSource(net) => write!(text, " ! -s {net}"),
        Match::Destination(net) => write!(text, " -d {net}"),
        Match::NotDestination(net) => write!(text, " ! -d {net}"),
        Match::Protocol(_) | Match::Icmp => Ok(()),
        Match::Icmpv6Type(kind) => write!(text, " -m icmp6 --icmpv6-type {kind}"),
        Match::HopLimit(limit) => write!(text, " -m hl --hl-eq {limit}"),
        Match::NotSyn => write!(text, " -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN"),
        Match::State(states) => {
            let names: Vec<&str> = states.iter().map(|state| state_name(*state)).collect();
            write!(text, " -m conntrack --ctstate {}", names.join(","))
        }
        Match::Translated => write!(text, " -m conntrack --ctstate DNAT"),
        Match::ConnMark(mark) => write!(text, " -m connmark --mark {:#x}/{:#x}", mark.value, mark.mask),
        Match::Mark(mark) => write!(text, " -m mark --mark {:#x}/{:#x}", mark.value, mark.mask),
        Match::DestinationPorts(ranges) => ports_text(text, ranges, protocol),
        Match::Set(set, sides) => write!(text, " -m set --match-set {set} {}", directions(*sides)),
        Match::NotSet(set, sides) => write!(text, " -m set ! --match-set {set} {}", directions(*sides)),
        Match::Share(some, all) => {
            let probability = f64::from(*some) / f64::from(*all);
            write!(text, " -m statistic --mode random --probability {probability:.9}")
        }
        Match::Seldom(reason) => seldom_text(text, *reason),
    };
}

/// So many packets of each pod, and of all together. Where the pod is not known for sure, only the second.
fn seldom_text(text: &mut String, reason: Reason) -> std::fmt::Result {
    let pod = match reason {
        Reason::Egress => Some("srcip"),
        Reason::Ingress => Some("dstip"),
        Reason::Cut | Reason::Spoofed => None,
    };
    if let Some(pod) = pod {
        let name = reason.prefix().replace(':', "-");
        write!(text, " -m hashlimit --hashlimit-upto {TOLD_OF_A_POD}/sec --hashlimit-burst {TOLD_OF_A_POD_AT_ONCE}")?;
        write!(text, " --hashlimit-mode {pod} --hashlimit-name {name}")?;
    }
    write!(text, " -m limit --limit {TOLD}/sec --limit-burst {TOLD_AT_ONCE}")
}

fn ports_text(text: &mut String, ranges: &[(u16, u16)], protocol: Option<Protocol>) -> std::fmt::Result {
    let range = |(low, high): &(u16, u16)| if low == high { low.to_string() } else { format!("{low}:{high}") };
    let protocol = match protocol {
        Some(Protocol::Udp) => "udp",
        Some(Protocol::Sctp) => "sctp",
        Some(Protocol::Tcp) | None => "tcp",
    };
    match ranges {
        [only] => write!(text, " -m {protocol} --dport {}", range(only)),
        several => {
            let several: Vec<String> = several.iter().map(range).collect();
            write!(text, " -m multiport --dports {}", several.join(","))
        }
    }
}

fn target_text(text: &mut String, family: IpFamily, target: &Target) {
    let _ = match target {
        Target::Accept => write!(text, " -j ACCEPT"),
        Target::Drop => write!(text, " -j DROP"),
        Target::Return => write!(text, " -j RETURN"),
        Target::Jump(chain) => write!(text, " -j {chain}"),
        Target::Goto(chain) => write!(text, " -g {chain}"),
        Target::SetMark(mark) => write!(text, " -j MARK --set-xmark {:#x}/{:#x}", mark.value, mark.mask),
        Target::SetConnMark(mark) => write!(text, " -j CONNMARK --set-xmark {:#x}/{:#x}", mark.value, mark.mask),
        Target::MapMark(set, sides) => write!(text, " -j SET --map-set {set} {} --map-mark", directions(*sides)),
        Target::Remember(set, seconds) => {
            write!(text, " -j SET --add-set {set} src --exist --timeout {seconds}")
        }
        Target::DestinationNat(endpoint) => write!(text, " -j DNAT --to-destination {endpoint}"),
        Target::Masquerade => write!(text, " -j MASQUERADE --random-fully"),
        Target::Reject(reject) => write!(text, " -j REJECT --reject-with {}", answer_name(*reject, family)),
        Target::Tell(reason) => {
            let prefix = reason.prefix();
            write!(text, " -j NFLOG --nflog-prefix {prefix} --nflog-group {DROPS_GROUP} --nflog-size {TOLD_BYTES}")
        }
    };
}

fn answer_name(reject: Reject, family: IpFamily) -> &'static str {
    match (reject, family) {
        (Reject::TcpReset, _) => "tcp-reset",
        (Reject::PortUnreachable, IpFamily::V4) => "icmp-port-unreachable",
        (Reject::PortUnreachable, IpFamily::V6) => "icmp6-port-unreachable",
        (Reject::AdminProhibited, IpFamily::V4) => "icmp-admin-prohibited",
        (Reject::AdminProhibited, IpFamily::V6) => "icmp6-adm-prohibited",
    }
}

fn interface_name(interface: Interface) -> String {
    match interface {
        Interface::AnyPod => format!("{POD_LINK_PREFIX}+"),
        Interface::Loopback => "lo".to_owned(),
        Interface::Vxlan => VXLAN_LINK.to_owned(),
    }
}

fn state_name(state: ConnState) -> &'static str {
    match state {
        ConnState::New => "NEW",
        ConnState::Established => "ESTABLISHED",
        ConnState::Related => "RELATED",
        ConnState::Invalid => "INVALID",
        ConnState::Untracked => "UNTRACKED",
    }
}

fn directions(directions: Directions) -> &'static str {
    match directions {
        Directions::Src => "src",
        Directions::Dst => "dst",
        Directions::SrcSrc => "src,src",
        Directions::DstDst => "dst,dst",
        Directions::SrcDst => "src,dst",
    }
}

/// What a jump matches, as `iptables` prints it.
#[must_use]
pub(crate) fn jump_matches(jump: &Jump) -> String {
    let mut text = String::new();
    for m in &jump.matches {
        match_text(&mut text, m, None);
    }
    text.trim_start().to_owned()
}

/// Reads what `iptables-save` printed of a family. Never fails: what cannot be read is not ours or not as we left it.
pub fn read_save(family: IpFamily, text: &str, observed: &mut Observed) {
    let mut reader = Reader { family, table: None, positions: BTreeMap::new(), rules: BTreeMap::new(), observed };
    for line in text.lines() {
        reader.line(line);
    }
    reader.finish();
}

struct Reader<'a> {
    family: IpFamily,
    table: Option<Table>,
    /// rules of built-in chains so far
    positions: BTreeMap<HookKey, usize>,
    /// our chains
    rules: BTreeMap<ChainKey, Printed>,
    observed: &'a mut Observed,
}

/// A chain as it was printed.
#[derive(Default)]
struct Printed {
    /// the hash and the label that one of its rules carries
    comment: Option<(String, String)>,
    /// every rule, in the form in which rules are compared
    rules: Vec<String>,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix('*') {
            self.table = Table::ALL.into_iter().find(|table| table.as_str() == name.trim());
            return;
        }
        let Some(table) = self.table else { return };
        if let Some(name) = line.strip_prefix(':').and_then(|rest| rest.split_whitespace().next()) {
            if let Some(name) = ChainName::parse(name) {
                let key = ChainKey { family: self.family, table, name };
                self.rules.entry(key.clone()).or_default();
                self.observed.chains.entry(key).or_default();
            }
            return;
        }
        let Some(rest) = line.strip_prefix("-A ") else { return };
        let Some((chain, rule)) = rest.split_once(' ') else { return };
        if let Some(name) = ChainName::parse(chain) {
            self.rule(ChainKey { family: self.family, table, name }, rule);
        } else if let Some(hook) = HOOKS.into_iter().find(|hook| hook_name(*hook) == chain) {
            self.built_in(HookKey { family: self.family, table, hook }, rule);
        }
    }

    fn rule(&mut self, key: ChainKey, rule: &str) {
        let printed = self.rules.entry(key.clone()).or_default();
        if let Some(comment) = comment_in(rule) {
            printed.comment = Some(comment);
        }
        printed.rules.push(normal(rule));
        if let Some(leaf) = leaf_in(rule) {
            self.observed.chains.entry(key).or_default().leaves.push(leaf);
        }
    }

    fn built_in(&mut self, hook: HookKey, rule: &str) {
        let position = self.positions.entry(hook).or_default();
        *position += 1;
        let mut words = rule.split_whitespace();
        let target = words.find(|word| matches!(*word, "-j" | "-g")).and_then(|_| words.next());
        if let Some(chain) = target.and_then(ChainName::parse) {
            let jump = ObservedJump { position: *position, chain, text: rule.trim().to_owned() };
            self.observed.jumps.entry(hook).or_default().push(jump);
        }
    }

    fn finish(self) {
        for (key, Printed { comment, rules }) in self.rules {
            if let Some(chain) = self.observed.chains.get_mut(&key) {
                chain.hash =
                    comment.filter(|(hash, label)| *hash == hash_of(&key.name, label, &rules)).map(|(hash, _)| hash);
            }
        }
    }
}

const HOOKS: [Hook; 5] = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];

/// The hash and the label in a rule's comment.
fn comment_in(rule: &str) -> Option<(String, String)> {
    let comment = words(rule).skip_while(|word| *word != "--comment").nth(1)?;
    let (hash, label) = comment.split_once(' ').unwrap_or((comment, ""));
    Some((hash.strip_prefix(COMMENT_PREFIX)?.to_owned(), label.to_owned()))
}

/// The mark and the chain of a rule that leads from one to the other, whatever comment it has.
fn leaf_in(rule: &str) -> Option<(MarkValue, ChainName)> {
    let rest = rule.strip_prefix("-m mark --mark ")?;
    let (bits, rest) = rest.split_once(' ')?;
    let (value, mask) = bits.split_once('/').unwrap_or((bits, "0xffffffff"));
    let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let words: Vec<&str> = rest.split_whitespace().collect();
    let chain = match words.as_slice() {
        ["-g", chain] | ["-m", "comment", "--comment", _, "-g", chain] => ChainName::parse(chain)?,
        _ => return None,
    };
    Some((MarkValue { value: number(value)?, mask: number(mask)? }, chain))
}
