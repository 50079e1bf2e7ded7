//! What a kernel in a given state does with one packet: the chains walked in Rust, rule by rule. For tests, and to show the bound on the
//! rules that a first packet meets; nothing decides by it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use minipod_model::{IpFamily, LinkName};
use netd_policy::Transport;

use crate::facts::MarkBits;
use crate::fake::FakeKernel;
use crate::name::{ChainName, SetName};
use crate::observed::HookKey;
use crate::spec::{
    Chain, ChainKey, ConnState, Directions, Entry, Hook, Interface, Jump, MarkValue, Match, Rule, SetSpec, Spec, Table,
    Target,
};

/// A kernel's state to walk.
#[derive(Debug, Clone)]
pub struct State<'a> {
    chains: &'a BTreeMap<ChainKey, Arc<Chain>>,
    jumps: BTreeMap<HookKey, Vec<&'a Jump>>,
    sets: &'a BTreeMap<SetName, SetSpec>,
    marks: MarkBits,
}

/// Where a packet comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// through a pod's interface
    Pod(LinkName),
    /// through any other interface but `lo` and the next
    Uplink,
    /// encapsulated, from another node
    Vxlan,
    /// from the node itself
    Node,
}

/// Where a destination is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// the node itself
    Local,
    /// behind a pod's interface
    Pod(LinkName),
    /// a pod of another node, through VXLAN
    Vxlan,
    /// behind any other interface
    Uplink,
}

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// where it comes from
    pub origin: Origin,
    /// its source
    pub source: IpAddr,
    /// its destination
    pub destination: IpAddr,
    /// protocol and destination port
    pub transport: Transport,
    /// the type of ICMP, if [`Transport::Other`] is that
    pub icmp: Option<u8>,
    /// hop limit or time to live
    pub hop_limit: u8,
    /// TCP with a lone SYN
    pub is_syn: bool,
    /// what connection tracking says
    pub state: ConnState,
    /// the connection's mark
    pub connection_mark: u32,
    /// bits of the packet's mark that others set
    pub mark: u32,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// whether it arrives, and where it ends otherwise
    pub end: End,
    /// its destination after translation
    pub destination: (IpAddr, Option<u16>),
    /// its source is translated to the node's
    pub is_masqueraded: bool,
    /// its mark when it left the last hook
    pub mark: u32,
    /// a hook was left with scratch bits set that were not set when it was entered
    pub leaks_scratch: bool,
    /// rules that it met, those in built-in chains included
    pub rules_met: usize,
}

/// How a packet ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// at its destination
    Arrives,
    /// dropped here
    Dropped(Table, Hook),
    /// refused here
    Rejected(Table, Hook),
}

impl Packet {
    /// A packet that opens a connection (or any packet of a protocol without).
    #[must_use]
    pub fn first(origin: Origin, source: IpAddr, destination: IpAddr, transport: Transport) -> Self {
        Self {
            origin,
            source,
            destination,
            transport,
            icmp: None,
            hop_limit: 64,
            is_syn: true,
            state: ConnState::New,
            connection_mark: 0,
            mark: 0,
        }
    }
}

impl Outcome {
    /// Whether the packet arrives.
    #[must_use]
    pub fn arrives(&self) -> bool {
        self.end == End::Arrives
    }
}

impl<'a> State<'a> {
    /// The state that a spec describes.
    #[must_use]
    pub fn of_spec(spec: &'a Spec, marks: MarkBits) -> Self {
        let mut jumps: BTreeMap<HookKey, Vec<&Jump>> = BTreeMap::new();
        for jump in &spec.jumps {
            jumps.entry(HookKey { family: jump.family, table: jump.table, hook: jump.hook }).or_default().push(jump);
        }
        Self { chains: &spec.chains, jumps, sets: &spec.sets, marks }
    }

    /// The state of a fake kernel.
    #[must_use]
    pub fn of_fake(kernel: &'a FakeKernel, marks: MarkBits) -> Self {
        let jumps = kernel.jumps.iter().map(|(hook, jumps)| (*hook, jumps.iter().collect())).collect();
        Self { chains: &kernel.chains, jumps, sets: &kernel.sets, marks }
    }

    /// The same with somebody else's ACCEPT on top of every built-in chain of a table.
    #[must_use]
    pub fn accepting_in(mut self, table: Table) -> Self {
        self.jumps.retain(|hook, _| hook.table != table);
        self
    }

    /// Walks a packet through. `route` says where an address is; `choose` whether a rule hits that hits so many times out of so many.
    pub fn walk(
        &self,
        packet: &Packet,
        route: impl Fn(IpAddr) -> Route,
        choose: impl FnMut(u32, u32) -> bool,
    ) -> Outcome {
        let mut walk = Walk {
            state: self,
            packet,
            family: IpFamily::of(packet.source),
            destination: packet.destination,
            transport: packet.transport,
            input: None,
            output: None,
            mark: packet.mark,
            connection_mark: has_connection(packet).then_some(packet.connection_mark),
            is_translated: false,
            is_masqueraded: false,
            leaks_scratch: false,
            rules_met: 0,
            choose,
        };
        let end = walk.all(route).err().unwrap_or(End::Arrives);
        let port = match walk.transport {
            Transport::Port(_, port) => Some(port),
            Transport::Other => None,
        };
        Outcome {
            end,
            destination: (walk.destination, port),
            is_masqueraded: walk.is_masqueraded,
            mark: walk.mark,
            leaks_scratch: walk.leaks_scratch,
            rules_met: walk.rules_met,
        }
    }
}

/// An interface as rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Link {
    Pod(LinkName),
    Loopback,
    Vxlan,
    Other,
}

/// An element, with its mark if it has one.
struct Found(Option<MarkValue>);

/// How a chain ends.
enum Flow {
    /// the rules of the chain that jumped here go on
    Return,
    /// the packet passes the table
    Accept,
    /// it ends here
    Drop,
    /// it ends here
    Reject,
}

struct Walk<'a, C> {
    state: &'a State<'a>,
    packet: &'a Packet,
    family: IpFamily,
    destination: IpAddr,
    transport: Transport,
    input: Option<Link>,
    output: Option<Link>,
    mark: u32,
    /// `None`: the packet has no connection
    connection_mark: Option<u32>,
    is_translated: bool,
    is_masqueraded: bool,
    leaks_scratch: bool,
    rules_met: usize,
    choose: C,
}

impl<C: FnMut(u32, u32) -> bool> Walk<'_, C> {
    fn all(&mut self, route: impl Fn(IpAddr) -> Route) -> Result<(), End> {
        let routed = match &self.packet.origin {
            Origin::Node => {
                self.output = Some(link_of(&route(self.destination)));
                self.hook(Hook::Output)?;
                let routed = route(self.destination);
                if routed == Route::Local {
                    self.output = None;
                    self.input = Some(Link::Loopback);
                    return self.hook(Hook::Input);
                }
                routed
            }
            origin => {
                self.input = Some(match origin {
                    Origin::Pod(link) => Link::Pod(link.clone()),
                    Origin::Vxlan => Link::Vxlan,
                    _ => Link::Other,
                });
                self.hook(Hook::Prerouting)?;
                let routed = route(self.destination);
                if routed == Route::Local {
                    return self.hook(Hook::Input);
                }
                self.output = Some(link_of(&routed));
                self.hook(Hook::Forward)?;
                routed
            }
        };
        self.output = Some(link_of(&routed));
        // A packet that leaves has no input interface any more.
        self.input = None;
        self.hook(Hook::Postrouting)
    }

    fn hook(&mut self, hook: Hook) -> Result<(), End> {
        let before = self.mark & self.state.marks.scratch();
        let tables: &[Table] = match hook {
            Hook::Prerouting => &[Table::Raw, Table::Mangle, Table::Nat],
            Hook::Output => &[Table::Raw, Table::Mangle, Table::Nat, Table::Filter, Table::Security],
            Hook::Input | Hook::Forward => &[Table::Mangle, Table::Filter, Table::Security],
            Hook::Postrouting => &[Table::Mangle, Table::Nat],
        };
        for &table in tables {
            // Only the first packet of a connection meets the nat table.
            if table == Table::Nat && self.packet.state != ConnState::New {
                continue;
            }
            let jumps = self.state.jumps.get(&HookKey { family: self.family, table, hook });
            for jump in jumps.into_iter().flatten() {
                self.rules_met += 1;
                if !self.all_match(&jump.matches) {
                    continue;
                }
                match self.chain(table, &jump.chain) {
                    Flow::Return => {}
                    Flow::Accept => break,
                    Flow::Drop => return Err(End::Dropped(table, hook)),
                    Flow::Reject => return Err(End::Rejected(table, hook)),
                }
            }
        }
        let after = self.mark & self.state.marks.scratch();
        self.leaks_scratch |= after != 0 && after != before;
        Ok(())
    }

    fn chain(&mut self, table: Table, name: &ChainName) -> Flow {
        let key = ChainKey { family: self.family, table, name: name.clone() };
        let Some(chain) = self.state.chains.get(&key) else { return Flow::Return };
        for rule in &chain.rules {
            self.rules_met += 1;
            if !self.all_match(&rule.matches) {
                continue;
            }
            if let Some(flow) = self.target(table, rule) {
                return flow;
            }
        }
        Flow::Return
    }

    /// `None`: the next rule of the chain.
    fn target(&mut self, table: Table, rule: &Rule) -> Option<Flow> {
        match &rule.target {
            Target::Accept => return Some(Flow::Accept),
            Target::Drop => return Some(Flow::Drop),
            Target::Reject(_) => return Some(Flow::Reject),
            Target::Return => return Some(Flow::Return),
            Target::Goto(chain) => return Some(self.chain(table, chain)),
            Target::Jump(chain) => match self.chain(table, chain) {
                Flow::Return => {}
                other => return Some(other),
            },
            Target::SetMark(mark) => self.set_mark(*mark),
            Target::SetConnMark(mark) => {
                self.connection_mark = self.connection_mark.map(|there| there & !mark.mask | mark.value);
            }
            Target::MapMark(set, sides) => {
                if let Some(Found(Some(mark))) = self.found(set, *sides) {
                    self.set_mark(mark);
                }
            }
            Target::Remember(..) | Target::Tell(_) => {}
            Target::DestinationNat(endpoint) => {
                self.destination = endpoint.ip();
                if let Transport::Port(protocol, _) = self.transport {
                    self.transport = Transport::Port(protocol, endpoint.port());
                }
                self.is_translated = true;
                return Some(Flow::Accept);
            }
            Target::Masquerade => {
                self.is_masqueraded = true;
                return Some(Flow::Accept);
            }
        }
        None
    }

    fn set_mark(&mut self, mark: MarkValue) {
        self.mark = self.mark & !mark.mask | mark.value;
    }

    fn all_match(&mut self, matches: &[Match]) -> bool {
        matches.iter().all(|m| self.matches(m))
    }

    fn matches(&mut self, m: &Match) -> bool {
        match m {
            Match::In(interface) => is_link(self.input.as_ref(), *interface),
            Match::NotIn(interface) => !is_link(self.input.as_ref(), *interface),
            Match::Out(interface) => is_link(self.output.as_ref(), *interface),
            Match::NotOut(interface) => !is_link(self.output.as_ref(), *interface),
            Match::Source(net) => net.contains(&self.packet.source),
            Match::NotSource(net) => !net.contains(&self.packet.source),
            Match::Destination(net) => net.contains(&self.destination),
            Match::NotDestination(net) => !net.contains(&self.destination),
            Match::Protocol(protocol) => matches!(self.transport, Transport::Port(other, _) if other == *protocol),
            Match::Icmp => self.packet.icmp.is_some(),
            Match::Icmpv6Type(kind) => self.packet.icmp == Some(*kind),
            Match::HopLimit(limit) => self.packet.hop_limit == *limit,
            Match::NotSyn => !self.packet.is_syn,
            Match::State(states) => states.contains(&self.packet.state),
            Match::Translated => self.is_translated,
            Match::ConnMark(mark) => self.connection_mark.is_some_and(|there| there & mark.mask == mark.value),
            Match::Mark(mark) => self.mark & mark.mask == mark.value,
            Match::DestinationPorts(ranges) => match self.transport {
                Transport::Port(_, port) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&port)),
                Transport::Other => false,
            },
            Match::Set(set, sides) => self.found(set, *sides).is_some(),
            Match::NotSet(set, sides) => self.found(set, *sides).is_none(),
            Match::Share(some, all) => (self.choose)(*some, *all),
            Match::Seldom(_) => true,
        }
    }

    /// The element of a set that the packet matches.
    fn found(&self, set: &SetName, sides: Directions) -> Option<Found> {
        let set = self.state.sets.get(set)?;
        let elements = set.elements()?;
        let address = match sides {
            Directions::Src | Directions::SrcSrc | Directions::SrcDst => self.packet.source,
            Directions::Dst | Directions::DstDst => self.destination,
        };
        let link = match sides {
            Directions::SrcDst | Directions::DstDst => &self.output,
            _ => &self.input,
        };
        if self.family != set.kind.family().unwrap_or(self.family) {
            return None;
        }
        elements.iter().find(|(entry, _)| self.is_entry(entry, address, link.as_ref())).map(|(_, mark)| Found(mark))
    }

    fn is_entry(&self, entry: &Entry, address: IpAddr, link: Option<&Link>) -> bool {
        match entry {
            Entry::Ip(ip) => *ip == address,
            Entry::Net(net) => net.contains(&address),
            Entry::IpPort(ip, protocol, port) => *ip == address && self.transport == Transport::Port(*protocol, *port),
            Entry::NetIface(net, name) => {
                net.contains(&address) && matches!(link, Some(Link::Pod(other)) if other == name)
            }
            Entry::Port(port) => matches!(self.transport, Transport::Port(_, other) if other == *port),
        }
    }
}

fn has_connection(packet: &Packet) -> bool {
    !matches!(packet.state, ConnState::Invalid | ConnState::Untracked)
}

fn link_of(route: &Route) -> Link {
    match route {
        Route::Local => Link::Loopback,
        Route::Pod(link) => Link::Pod(link.clone()),
        Route::Vxlan => Link::Vxlan,
        Route::Uplink => Link::Other,
    }
}

fn is_link(link: Option<&Link>, interface: Interface) -> bool {
    match interface {
        Interface::AnyPod => matches!(link, Some(Link::Pod(_))),
        Interface::Loopback => matches!(link, Some(Link::Loopback)),
        Interface::Vxlan => matches!(link, Some(Link::Vxlan)),
    }
}
