//! The kernel state that is wanted: chains, jumps and sets as values. Nothing here knows how `iptables` spells a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use minipod_model::{IpFamily, LinkName, Protocol};
use netd_policy::intent::Pair;
use netd_policy::shared::SharedSet;

pub use minipod_kernel::iptables::Table;

use crate::contents::Contents;
use crate::index::Indexes;
use crate::name::{ChainName, SetName};
use crate::plan::Entries;
use crate::tree::Tree;

/// Everything of ours that the kernel should hold. Equal specs are equal kernel states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// our chains
    pub chains: BTreeMap<ChainKey, Arc<Chain>>,
    /// our jumps out of built-in chains, in the order in which they are made
    pub jumps: Vec<Jump>,
    /// our sets
    pub sets: BTreeMap<SetName, SetSpec>,
    /// of [`Spec::chains`], those that lead from a mark to the chain of what it stands for, by their root
    pub trees: BTreeMap<ChainKey, Tree>,
    /// the numbers under which rules find signatures
    pub indexes: Indexes,
}

/// A built-in chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// every packet that arrives
    Prerouting,
    /// for the node itself
    Input,
    /// through the node
    Forward,
    /// from the node itself
    Output,
    /// every packet that leaves
    Postrouting,
}

/// Where a chain is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainKey {
    /// `iptables` or `ip6tables`
    pub family: IpFamily,
    /// the table
    pub table: Table,
    /// the chain
    pub name: ChainName,
}

/// The rules of a chain, never empty: one of them carries the hash by which the chain is judged, in a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// for people: what the chain is for
    pub label: Option<String>,
    /// in the order in which a packet meets them
    pub rules: Vec<Rule>,
    /// the rule with the comment, counted from 0; the comment costs every packet for which all matches of this rule hold
    pub told_by: usize,
}

/// A rule of ours in a built-in chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    /// `iptables` or `ip6tables`
    pub family: IpFamily,
    /// the table
    pub table: Table,
    /// the built-in chain
    pub hook: Hook,
    /// where in it
    pub place: Place,
    /// what must hold
    pub matches: Vec<Match>,
    /// our chain
    pub chain: ChainName,
}

/// The place of a jump in its built-in chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// before everybody else's rules; kept there
    First,
    /// after the rules that were there when it was made; not moved afterwards
    Last,
}

/// One rule: if all matches hold, the target is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// all must hold
    pub matches: Vec<Match>,
    /// what happens
    pub target: Target,
}

/// What a rule asks of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// came in by
    In(Interface),
    /// did not come in by
    NotIn(Interface),
    /// goes out by
    Out(Interface),
    /// does not go out by
    NotOut(Interface),
    /// source address
    Source(IpNet),
    /// any other source address
    NotSource(IpNet),
    /// destination address
    Destination(IpNet),
    /// any other destination address
    NotDestination(IpNet),
    /// transport protocol
    Protocol(Protocol),
    /// ICMP of the chain's family
    Icmp,
    /// a type of ICMP for IPv6
    Icmpv6Type(u8),
    /// IPv6 hop limit
    HopLimit(u8),
    /// TCP without a lone SYN (of SYN, ACK, FIN, RST)
    NotSyn,
    /// conntrack state is one of
    State(BTreeSet<ConnState>),
    /// the connection's destination was translated
    Translated,
    /// bits of the connection mark
    ConnMark(MarkValue),
    /// bits of the packet mark
    Mark(MarkValue),
    /// destination port in one of the inclusive ranges; needs [`Match::Protocol`] before it
    DestinationPorts(Vec<(u16, u16)>),
    /// in a set
    Set(SetName, Directions),
    /// not in a set
    NotSet(SetName, Directions),
    /// at random, so many times out of so many
    Share(u32, u32),
    /// not more often than packets of this reason are told of
    Seldom(Reason),
}

/// Why a packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// the policies of the pod that sends it do not let it out
    Egress,
    /// the policies of the pod that it is for do not let it in
    Ingress,
    /// its connection was allowed and is not any more
    Cut,
    /// its source is not the address of the pod that sends it
    Spoofed,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// the packet passes this table
    Accept,
    /// the packet is gone
    Drop,
    /// back to the chain that jumped here
    Return,
    /// into a chain and back
    Jump(ChainName),
    /// into a chain; it returns to where this chain would
    Goto(ChainName),
    /// set bits of the packet mark
    SetMark(MarkValue),
    /// set bits of the connection mark; nothing for a packet without a connection
    SetConnMark(MarkValue),
    /// set bits of the packet mark to what a set holds for the packet; nothing if it is not in there
    MapMark(SetName, Directions),
    /// put the packet's source address into a set for so many seconds
    Remember(SetName, u32),
    /// translate the destination; needs [`Match::Protocol`]
    DestinationNat(SocketAddr),
    /// translate the source to the node's address
    Masquerade,
    /// refuse
    Reject(Reject),
    /// tell whoever listens of the packet, which goes on
    Tell(Reason),
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// with a TCP reset
    TcpReset,
    /// with ICMP port unreachable
    PortUnreachable,
    /// with ICMP administratively prohibited
    AdminProhibited,
}

/// Interfaces that rules name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interface {
    /// any pod's
    AnyPod,
    /// `lo`
    Loopback,
    /// what came encapsulated from another node
    Vxlan,
}

/// A state of connection tracking (`ctstate` in iptables-extensions(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnState {
    /// the first packets, no answer seen
    New,
    /// answered
    Established,
    /// an error about, or a child of, another connection
    Related,
    /// nothing that makes sense
    Invalid,
    /// exempt from tracking
    Untracked,
}

/// Some bits and what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MarkValue {
    /// the bits' values
    pub value: u32,
    /// which bits
    pub mask: u32,
}

/// Which sides of a packet a set match compares, one for each dimension of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Directions {
    /// `src`
    Src,
    /// `dst`
    Dst,
    /// `src,src`
    SrcSrc,
    /// `dst,dst`
    DstDst,
    /// `src,dst`
    SrcDst,
}

/// A set and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    /// what its elements are
    pub kind: SetKind,
    /// what is in it
    pub content: Content,
}

/// The type and options of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetKind {
    /// `hash:ip`
    HashIp(IpFamily),
    /// `hash:ip skbinfo`: an address and the mark it stands for
    HashIpMark(IpFamily),
    /// `hash:ip timeout`
    HashIpTimeout(IpFamily),
    /// `hash:net`
    HashNet(IpFamily),
    /// `hash:ip,port`
    HashIpPort(IpFamily),
    /// `hash:net,iface`
    HashNetIface(IpFamily),
    /// `bitmap:port range 0-65535`, for both families
    BitmapPort,
}

/// What is in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// exactly these
    Entries(Arc<Entries>),
    /// exactly these addresses, of the set's family
    Addresses(SharedSet<IpAddr>),
    /// exactly these addresses with a port, of the set's family
    Pairs(SharedSet<Pair>),
    /// what the kernel puts in itself; left alone
    Kernel,
}

/// An element.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// an address
    Ip(IpAddr),
    /// a network, never a /0 (the kernel takes none)
    Net(IpNet),
    /// an address, a protocol and a port
    IpPort(IpAddr, Protocol, u16),
    /// a network behind an interface
    NetIface(IpNet, LinkName),
    /// a port
    Port(u16),
}

impl SetSpec {
    /// A set of entries without marks.
    pub fn of(kind: SetKind, entries: impl IntoIterator<Item = Entry>) -> Self {
        Self { kind, content: Content::of(entries.into_iter().map(|entry| (entry, None))) }
    }

    /// What is in it; `None` where the kernel fills the set.
    #[must_use]
    pub fn elements(&self) -> Option<Contents<'_>> {
        self.content.elements()
    }
}

impl Rule {
    /// A rule.
    #[must_use]
    pub fn new(matches: Vec<Match>, target: Target) -> Self {
        Self { matches, target }
    }

    /// A rule for every packet.
    #[must_use]
    pub fn always(target: Target) -> Self {
        Self { matches: Vec::new(), target }
    }

    /// The sets that the rule names. The kernel refuses a rule that names an unknown one.
    pub fn sets(&self) -> impl Iterator<Item = &SetName> {
        let matched = self.matches.iter().filter_map(|m| match m {
            Match::Set(set, _) | Match::NotSet(set, _) => Some(set),
            _ => None,
        });
        matched.chain(match &self.target {
            Target::MapMark(set, _) | Target::Remember(set, _) => Some(set),
            _ => None,
        })
    }

    /// The chain that the rule leads to.
    #[must_use]
    pub fn chain(&self) -> Option<&ChainName> {
        match &self.target {
            Target::Jump(chain) | Target::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Egress, Self::Ingress, Self::Cut, Self::Spoofed];

    /// What the kernel says when it tells of a packet.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Egress => "mp:egress",
            Self::Ingress => "mp:ingress",
            Self::Cut => "mp:cut",
            Self::Spoofed => "mp:spoofed",
        }
    }

    /// The reason that the kernel says.
    #[must_use]
    pub fn of_prefix(prefix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.prefix() == prefix)
    }
}

impl Target {
    /// Whether the kernel takes the target in a table.
    #[must_use]
    pub fn is_allowed_in(&self, table: Table) -> bool {
        match self {
            Self::Drop => table != Table::Nat,
            Self::Reject(_) => table == Table::Filter,
            Self::DestinationNat(_) | Self::Masquerade => table == Table::Nat,
            Self::MapMark(..) => table == Table::Mangle,
            _ => true,
        }
    }
}

impl Chain {
    /// A chain without a label.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        debug_assert!(!rules.is_empty(), "a chain without rules carries no hash");
        // Most chains end with what hardly a packet comes to.
        let told_by = rules.len().saturating_sub(1);
        Self { label: None, rules, told_by }
    }

    /// The chain with the comment in the first rule that hardly a packet matches.
    #[must_use]
    pub fn told_by(mut self, is_rare: impl Fn(&Rule) -> bool) -> Self {
        self.told_by = self.rules.iter().position(is_rare).unwrap_or(self.told_by);
        self
    }

    /// The chain with a label for people.
    #[must_use]
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }
}

impl SetKind {
    /// The family of the elements; bitmaps have none.
    #[must_use]
    pub fn family(self) -> Option<IpFamily> {
        match self {
            Self::HashIp(family)
            | Self::HashIpMark(family)
            | Self::HashIpTimeout(family)
            | Self::HashNet(family)
            | Self::HashIpPort(family)
            | Self::HashNetIface(family) => Some(family),
            Self::BitmapPort => None,
        }
    }

    /// Whether an entry is of the set's type and family.
    #[must_use]
    pub fn holds(self, entry: &Entry) -> bool {
        let family = |address: &IpAddr| self.family() == Some(IpFamily::of(*address));
        match (self, entry) {
            (Self::HashIp(_) | Self::HashIpMark(_) | Self::HashIpTimeout(_), Entry::Ip(address))
            | (Self::HashIpPort(_), Entry::IpPort(address, ..)) => family(address),
            (Self::HashNet(_), Entry::Net(net)) | (Self::HashNetIface(_), Entry::NetIface(net, _)) => {
                family(&net.addr()) && net.prefix_len() > 0
            }
            (Self::BitmapPort, Entry::Port(_)) => true,
            _ => false,
        }
    }

    /// Whether the entries carry marks.
    #[must_use]
    pub fn has_marks(self) -> bool {
        matches!(self, Self::HashIpMark(_))
    }
}
