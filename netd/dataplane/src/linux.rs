//! The real kernel: sets over netlink, rules through the iptables programs of the variant in use.

use std::thread;

use ipnet::IpNet;
use minipod_kernel::ipset::{self, Batch, Edit, Element, Ipset, Mark, SetHeader, SetType};
use minipod_kernel::iptables::{self, Generation, Generations, Iptables, Table, Variant};
use minipod_model::defaults::SET_PREFIX;
use minipod_model::{IpFamily, LinkName, Protocol};

use crate::compile::SET_ELEMENTS_MAX;
use crate::denied::{Denied, read_denied};
use crate::kernel::{Kernel, KernelError};
use crate::name::{ChainName, SetName};
use crate::observed::{HookKey, Observed, ObservedSet};
use crate::plan::{Entries, SetEdit, TableRestore};
use crate::spec::{Entry, Jump, MarkValue, Place, SetKind};
use crate::text::{append_text, hook_name, jump_matches, read_save, restore_text};

/// The kernel of the network namespace in which it was opened. The iptables programs run in the namespace of the calling thread, so the
/// thread must be in the same one.
#[derive(Debug)]
pub struct LinuxKernel {
    sets: Ipset,
    rules: Iptables,
    generations: Generations,
    /// of the rules as they were read last, or as we left them
    seen: Option<Generation>,
}

impl LinuxKernel {
    /// Opens the kernel with the iptables variant in use, or the forced one.
    ///
    /// # Errors
    /// Missing programs, kernel support or privileges.
    pub fn open(variant: Option<Variant>) -> Result<Self, KernelError> {
        let rules = Iptables::detect(variant)?;
        let generations = Generations::open(rules.variant());
        Ok(Self { rules, sets: Ipset::open()?, generations, seen: None })
    }

    /// The variant in use.
    #[must_use]
    pub fn variant(&self) -> Variant {
        self.rules.variant()
    }

    /// Asks the kernel for a table that not every kernel has. Where there is one it is made, without rules.
    ///
    /// # Errors
    /// There is none.
    pub fn require(&self, table: Table) -> Result<(), KernelError> {
        for family in IpFamily::ALL.into_iter().filter(|family| self.rules.supports(*family)) {
            self.rules.save(family, table)?;
        }
        Ok(())
    }

    /// How many packets each signature has denied. It costs as much as reading the rules.
    ///
    /// # Errors
    /// The rules cannot be read.
    pub fn denied(&self) -> Result<Denied, KernelError> {
        let mut denied = Denied::new();
        for family in IpFamily::ALL.into_iter().filter(|family| self.rules.supports(*family)) {
            read_denied(&self.rules.save_counted(family, Table::Mangle)?, &mut denied);
        }
        Ok(denied)
    }

    /// Whether somebody else may have changed rules since they were read; cheap, however many there are. Sets do not count, and who changes rules in the
    /// very moment in which we do is noticed by the next reading only.
    pub fn may_have_changed(&mut self) -> bool {
        self.generations.observe() != self.seen
    }

    /// Changes rules; what is different afterwards is our doing.
    fn change(&mut self, work: impl FnOnce(&Iptables) -> Result<(), KernelError>) -> Result<(), KernelError> {
        let undisturbed = !self.may_have_changed();
        let result = work(&self.rules);
        if undisturbed {
            self.seen = self.generations.observe();
        }
        result
    }
}

impl Kernel for LinuxKernel {
    fn observe(&mut self) -> Result<Observed, KernelError> {
        let mut observed = Observed::default();
        self.seen = self.generations.observe();
        for family in IpFamily::ALL.into_iter().filter(|family| self.rules.supports(*family)) {
            read_save(family, &self.rules.save_all(family)?, &mut observed);
        }
        for (header, elements) in self.sets.dump(SET_PREFIX)? {
            let Some(name) = SetName::parse(&header.name) else { continue };
            observed.sets.insert(name, observed_set(&header, &elements));
        }
        Ok(observed)
    }

    fn create_set(&mut self, name: &SetName, kind: SetKind) -> Result<(), KernelError> {
        Ok(self.sets.create(&set_name(name)?, &set_spec(kind))?)
    }

    fn edit_sets(&mut self, edits: &[SetEdit]) -> Result<(), KernelError> {
        let mut lists = Vec::with_capacity(edits.len());
        for edit in edits {
            lists.push(match edit {
                SetEdit::Remove(set, entries) => {
                    (set_name(set)?, Edit::Remove, entries.iter().map(|entry| element(entry, None)).collect::<Vec<_>>())
                }
                SetEdit::Add(set, entries) => {
                    (set_name(set)?, Edit::Add, entries.iter().map(|(entry, mark)| element(entry, *mark)).collect())
                }
            });
        }
        let batches: Vec<Batch<'_>> =
            lists.iter().map(|(set, edit, elements)| Batch { set, edit: *edit, elements }).collect();
        Ok(self.sets.edit(&batches)?)
    }

    fn rename_set(&mut self, from: &SetName, to: &SetName) -> Result<(), KernelError> {
        Ok(self.sets.rename(&set_name(from)?, &set_name(to)?)?)
    }

    fn swap_sets(&mut self, one: &SetName, other: &SetName) -> Result<(), KernelError> {
        Ok(self.sets.swap(&set_name(one)?, &set_name(other)?)?)
    }

    fn destroy_set(&mut self, name: &SetName) -> Result<(), KernelError> {
        Ok(self.sets.ensure_destroyed(&set_name(name)?)?)
    }

    fn restore(&mut self, tables: &[TableRestore]) -> Result<(), KernelError> {
        let text = |family| -> String {
            let of_family = tables.iter().filter(|table| table.family == family);
            of_family.map(|t| restore_text(family, t.table, &t.replace, &t.delete)).collect()
        };
        self.change(|rules| {
            each_family(|family| {
                let text = text(family);
                if !text.is_empty() {
                    rules.restore(family, &text)?;
                }
                Ok(())
            })
        })
    }

    fn ensure_jumps(&mut self, jumps: &[Jump]) -> Result<(), KernelError> {
        self.change(|rules| {
            each_family(|family| {
                for jump in jumps.iter().filter(|jump| jump.family == family) {
                    let there = iptables::Jump {
                        table: jump.table,
                        chain: hook_name(jump.hook).to_owned(),
                        target: jump.chain.to_string(),
                        matches: jump_matches(jump),
                    };
                    match jump.place {
                        Place::First => drop(rules.ensure_first(family, &there)?),
                        Place::Last if rules.positions(family, &there)?.len() == 1 => {}
                        Place::Last => {
                            rules.remove_jump(family, &there)?;
                            rules.restore(family, &append_text(jump))?;
                        }
                    }
                }
                Ok(())
            })
        })
    }

    fn remove_jump(&mut self, hook: HookKey, chain: &ChainName) -> Result<(), KernelError> {
        let there = iptables::Jump {
            table: hook.table,
            chain: hook_name(hook.hook).to_owned(),
            target: chain.to_string(),
            matches: String::new(),
        };
        self.change(|rules| Ok(rules.remove_jump(hook.family, &there).map(drop)?))
    }
}

/// Does the same for both families at once: they know nothing of each other, and most of a program's time is waiting. A new thread is in
/// the network namespace of the one that made it.
fn each_family(work: impl Fn(IpFamily) -> Result<(), KernelError> + Sync) -> Result<(), KernelError> {
    let (first, second) = thread::scope(|scope| {
        let second = scope.spawn(|| work(IpFamily::V6));
        (work(IpFamily::V4), second.join())
    });
    first?;
    second.map_err(|_| KernelError::Thread)?
}

fn set_name(name: &SetName) -> Result<ipset::SetName, KernelError> {
    ipset::SetName::new(name.as_str()).map_err(|_| KernelError::SetName(name.to_string()))
}

fn set_spec(kind: SetKind) -> ipset::SetSpec {
    // The family of a bitmap is ignored.
    let family = kind.family().unwrap_or(IpFamily::V4);
    let mut spec = ipset::SetSpec::new(set_type(kind), family);
    if kind.family().is_some() {
        spec.maxelem = u32::try_from(SET_ELEMENTS_MAX).ok();
    }
    spec.skbinfo = kind.has_marks();
    spec.timeout = matches!(kind, SetKind::HashIpTimeout(_)).then_some(0);
    spec
}

fn set_type(kind: SetKind) -> SetType {
    match kind {
        SetKind::HashIp(_) | SetKind::HashIpMark(_) | SetKind::HashIpTimeout(_) => SetType::HashIp,
        SetKind::HashNet(_) => SetType::HashNet,
        SetKind::HashIpPort(_) => SetType::HashIpPort,
        SetKind::HashNetIface(_) => SetType::HashNetIface,
        SetKind::BitmapPort => SetType::BitmapPort,
    }
}

fn observed_set(header: &SetHeader, elements: &[Element]) -> ObservedSet {
    let kind = observed_kind(header);
    let is_hash = kind.is_some_and(|kind| kind.family().is_some());
    let is_small = is_hash && header.maxelem.is_some_and(|max| (max as usize) < SET_ELEMENTS_MAX);
    // What the kernel put in itself comes and goes by itself.
    let ours = !matches!(kind, Some(SetKind::HashIpTimeout(_)) | None);
    let entries = elements.iter().filter(|_| ours).filter_map(|element| {
        let mark = element.mark.filter(|_| header.skbinfo);
        Some((entry(&element.entry)?, mark.map(|mark| MarkValue { value: mark.value, mask: mark.mask })))
    });
    ObservedSet { kind, is_small, entries: entries.collect::<Entries>() }
}

fn observed_kind(header: &SetHeader) -> Option<SetKind> {
    let plain = !header.skbinfo && header.timeout.is_none();
    let marked = header.skbinfo && header.timeout.is_none();
    match (header.kind?, header.family) {
        (SetType::HashIp, Some(family)) if plain => Some(SetKind::HashIp(family)),
        (SetType::HashIp, Some(family)) if marked => Some(SetKind::HashIpMark(family)),
        (SetType::HashIp, Some(family)) if !header.skbinfo => Some(SetKind::HashIpTimeout(family)),
        (SetType::HashNet, Some(family)) if plain => Some(SetKind::HashNet(family)),
        (SetType::HashIpPort, Some(family)) if plain => Some(SetKind::HashIpPort(family)),
        (SetType::HashNetIface, Some(family)) if plain => Some(SetKind::HashNetIface(family)),
        (SetType::BitmapPort, _) if plain => Some(SetKind::BitmapPort),
        _ => None,
    }
}

fn element(entry: &Entry, mark: Option<MarkValue>) -> Element {
    let entry = match entry {
        Entry::Ip(address) => ipset::Entry::Ip(*address),
        Entry::Net(net) => ipset::Entry::Net(*net),
        Entry::IpPort(address, protocol, port) => ipset::Entry::IpPort(*address, protocol.number(), *port),
        Entry::NetIface(net, link) => ipset::Entry::NetIface(*net, link.as_str().to_owned()),
        Entry::Port(port) => ipset::Entry::Port(*port),
    };
    Element { entry, timeout: None, mark: mark.map(|mark| Mark { value: mark.value, mask: mark.mask }) }
}

/// An element as we write it; `None` for one that we never write and so cannot name. It stays.
fn entry(entry: &ipset::Entry) -> Option<Entry> {
    Some(match entry {
        ipset::Entry::Ip(address) => Entry::Ip(*address),
        ipset::Entry::Net(net) => Entry::Net(*net),
        ipset::Entry::IpPort(address, number, port) => {
            let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.number() == *number)?;
            Entry::IpPort(*address, protocol, *port)
        }
        ipset::Entry::NetIface(net, link) => {
            Entry::NetIface(IpNet::new(net.addr(), net.prefix_len()).ok()?, LinkName::parse(link)?)
        }
        ipset::Entry::Port(port) => Entry::Port(*port),
        _ => return None,
    })
}
