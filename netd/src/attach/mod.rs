//! Attaching a sandbox: a veth pair with addresses, routes and neighbours, and the record of it.
//!
//! Model: [`Attacher::prepare`] chooses name and addresses and touches nothing in the kernel; the caller then puts gate and policy in
//! force for them; [`Attacher::connect`] makes the link and everything on it, or nothing; [`Attacher::restore`] does so again where others
//! deleted the link of a pod that lives. Ownership: links named `mpod*`, routes with protocol 109 to pods, records in
//! `RUN_DIR/attachments`. Threads: one caller at a time, in the node's network namespace. Rules and sets
//! are not touched here.

mod error;
mod host_side;
mod pod_side;
mod quarantine;
mod reaper;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use minipod_kernel::netlink::{Mac, Rtnl};
use minipod_kernel::netns::NetNs;
use minipod_kernel::process::boot_id;
use minipod_model::{IpFamily, LinkName};
use minipod_protocol::netd::{Address, Attach, Attached, Check, Dns, Sandbox};

pub use error::AttachError;
pub use record::Record;

use crate::ipam::{Ipam, Taken};
use crate::links::{host_mac, is_valid_ifname, pod_mac};
use crate::routes::PodRoute;
use quarantine::Memory;
use reaper::Reaper;
use record::Records;

/// The directory of the records in `RUN_DIR`.
const RECORDS: &str = "attachments";
/// The addresses released a moment ago, in `RUN_DIR`.
const QUARANTINE_FILE: &str = "released-addresses.json";
/// Where the next address is taken from, in `STATE_DIR`.
const CURSOR_FILE: &str = "address-cursor";

/// See the module.
#[derive(Debug)]
pub struct Attacher {
    rtnl: Rtnl,
    own_netns: u64,
    ipam: Ipam,
    memory: Memory,
    records: Records,
    boot_id: String,
    mtu: u32,
    attachments: BTreeMap<Sandbox, Record>,
    /// names of links that are being deleted
    dying: BTreeSet<LinkName>,
    reaper: Reaper,
}

/// What was found at start besides attachments that are as they were.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// records of an earlier boot
    pub earlier_boot: usize,
    /// attachments whose namespace is gone, and with it the link
    pub gone: Vec<Record>,
    /// links that no record knows: what a crash left half-made
    pub unknown_links: Vec<LinkName>,
    /// records that cannot be read; they are left where they are
    pub damaged: Vec<PathBuf>,
}

/// An attachment with its name and addresses, not yet in the kernel. Its addresses are taken until it is connected or cancelled.
#[derive(Debug)]
#[must_use = "connect it or cancel it: its addresses are taken"]
pub struct Prepared {
    record: Record,
    netns: NetNs,
}

impl Prepared {
    /// The name that the interface on the node will have.
    #[must_use]
    pub fn link(&self) -> &LinkName {
        &self.record.link
    }

    /// The addresses that the pod will have.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.record.addresses
    }

    /// What will be recorded.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }
}

impl Attacher {
    /// Reads the records, forgets those of an earlier boot and those whose link and namespace are gone, deletes links that no record
    /// knows. A link that is gone alone is left to [`Attacher::restore`].
    ///
    /// `run_dir` lives for one boot, `state_dir` for ever. `now` is the time since boot, here and everywhere.
    ///
    /// # Errors
    /// No netlink, unusable ranges, unreadable directories.
    pub fn open(
        run_dir: &Path,
        state_dir: &Path,
        ranges: &[IpNet],
        mtu: u32,
        now: Duration,
    ) -> Result<(Self, Swept), AttachError> {
        let records = Records::open(run_dir.join(RECORDS))?;
        let proc = |source| AttachError::Record { verb: "read", path: "/proc".into(), source };
        let boot_id = boot_id().map_err(proc)?;
        let (memory, cursor) =
            Memory::open(state_dir.join(CURSOR_FILE), run_dir.join(QUARANTINE_FILE), boot_id.clone())?;
        let mut ipam = Ipam::new(ranges, cursor)?;
        memory.restore(&mut ipam);
        let own_netns = NetNs::current()?.inode().map_err(proc)?;
        let mut attacher = Self {
            rtnl: Rtnl::open()?,
            own_netns,
            ipam,
            memory,
            records,
            boot_id,
            mtu,
            attachments: BTreeMap::new(),
            dying: BTreeSet::new(),
            reaper: Reaper::start()?,
        };
        let swept = attacher.adopt(now)?;
        Ok((attacher, swept))
    }

    /// The attachments.
    pub fn attachments(&self) -> impl Iterator<Item = &Record> {
        self.attachments.values()
    }

    /// The attachment of a sandbox.
    #[must_use]
    pub fn attachment(&self, sandbox: &Sandbox) -> Option<&Record> {
        self.attachments.get(sandbox)
    }

    /// The pods' ways in, for [`crate::routes::compile_routes`].
    #[must_use]
    pub fn pod_routes(&self) -> Vec<PodRoute> {
        let of_record = |record: &Record| {
            let link = record.link_index;
            record.addresses.iter().map(move |&address| PodRoute { address, link }).collect::<Vec<_>>()
        };
        self.attachments.values().flat_map(of_record).collect()
    }

    /// Addresses in use and the ranges that they come from.
    #[must_use]
    pub fn ipam(&self) -> &Ipam {
        &self.ipam
    }

    /// The MTU of attachments from now on.
    pub fn set_mtu(&mut self, mtu: u32) {
        self.mtu = mtu;
    }

    /// Chooses name and addresses. `taken` are the addresses of this node's Pod objects that are not terminal.
    ///
    /// # Errors
    /// An invalid request, an unusable namespace, no address; nothing is changed then.
    pub fn prepare(&mut self, request: &Attach, taken: &Taken, now: Duration) -> Result<Prepared, AttachError> {
        let sandbox = &request.sandbox;
        if !is_valid_ifname(&sandbox.ifname) {
            return Err(AttachError::InterfaceName(sandbox.ifname.clone()));
        }
        let link = LinkName::for_sandbox(&sandbox.container_id, &sandbox.ifname);
        let mac = requested_mac(request.mac.as_deref())?.unwrap_or_else(|| pod_mac(&link));
        if self.attachments.contains_key(sandbox) {
            let (container_id, ifname) = (sandbox.container_id.clone(), sandbox.ifname.clone());
            return Err(AttachError::Exists { container_id, ifname, link });
        }
        let netns = NetNs::open(&request.netns)?;
        let netns_inode = netns.inode().ok();
        if netns_inode == Some(self.own_netns) {
            return Err(AttachError::NodeNamespace(request.netns.clone()));
        }
        if self.dying.contains(&link) {
            self.finish_deletions();
        }
        let addresses = if request.addresses.is_empty() {
            self.ipam.allocate(taken, now)?
        } else {
            self.ipam.allocate_requested(&request.addresses, taken, now)?
        };
        let record = Record {
            boot_id: self.boot_id.clone(),
            sandbox: sandbox.clone(),
            pod: request.pod.clone(),
            labels: request.labels.clone(),
            netns: request.netns.clone(),
            netns_inode,
            host_mac: host_mac(&link),
            link,
            link_index: 0,
            mac,
            mtu: self.mtu,
            addresses,
        };
        let prepared = Prepared { record, netns };
        match self.memory.keep_cursor(&self.ipam) {
            Ok(()) => Ok(prepared),
            Err(error) => {
                self.cancel(prepared, now);
                Err(error)
            }
        }
    }

    /// Gives the addresses of a prepared attachment back.
    pub fn cancel(&mut self, prepared: Prepared, now: Duration) {
        let Prepared { record, .. } = prepared;
        self.ipam.release(&record.addresses, now);
    }

    /// Makes the link. Packets flow as far as gate and policy let them from here on.
    ///
    /// # Errors
    /// What the kernel refused; nothing is left of the attachment then, its addresses are in quarantine.
    pub fn connect(&mut self, prepared: Prepared, dns: Dns, now: Duration) -> Result<Attached, AttachError> {
        let Prepared { mut record, netns } = prepared;
        let made = self.make(&mut record, &netns);
        if let Err(error) = made {
            if record.link_index != 0 {
                self.undo(&record);
            }
            self.ipam.release(&record.addresses, now);
            return Err(error);
        }
        let attached = describe(&record, dns);
        self.attachments.insert(record.sandbox.clone(), record);
        Ok(attached)
    }

    /// Releases a sandbox's interface: its routes are gone on return and its addresses in quarantine, its link and its tracked
    /// connections are gone some milliseconds later. `None`: there was nothing to release.
    ///
    /// # Errors
    /// What the kernel or the record's file refused; called again, it goes on.
    pub fn detach(&mut self, sandbox: &Sandbox, now: Duration) -> Result<Option<Record>, AttachError> {
        let Some(record) = self.attachments.get(sandbox).cloned() else { return Ok(None) };
        host_side::withdraw(&mut self.rtnl, &record)?;
        self.delete_link(&record.link, record.link_index);
        self.reaper.forget_connections(record.addresses.clone());
        self.records.remove(&record.link)?;
        self.attachments.remove(sandbox);
        self.ipam.release(&record.addresses, now);
        self.memory.keep_quarantine(&self.ipam, now)?;
        Ok(Some(record))
    }

    /// Compares an attachment with what was answered when it was made, and with the kernel.
    ///
    /// # Errors
    /// [`AttachError::Unknown`], or the first [`AttachError::Differs`].
    pub fn check(&mut self, request: &Check) -> Result<(), AttachError> {
        let sandbox = &request.sandbox;
        let Some(record) = self.attachments.get(sandbox) else {
            let (container_id, ifname) = (sandbox.container_id.clone(), sandbox.ifname.clone());
            return Err(AttachError::Unknown { container_id, ifname });
        };
        compare(record, &request.attached)?;
        host_side::check(&mut self.rtnl, record)?;
        NetNs::open(&request.netns)?.run(|| pod_side::check(record))?
    }

    /// The sandboxes that are not among `valid`, for the caller to detach.
    #[must_use]
    pub fn not_among(&self, valid: &[Sandbox]) -> Vec<Sandbox> {
        self.attachments.keys().filter(|sandbox| !valid.contains(sandbox)).cloned().collect()
    }

    /// The sandboxes whose link is gone: the pod's namespace was deleted without a word, or somebody deleted the link alone.
    ///
    /// # Errors
    /// The links cannot be listed.
    pub fn vanished(&mut self) -> Result<Vec<Sandbox>, AttachError> {
        let present: BTreeSet<u32> =
            self.rtnl.links().map_err(AttachError::List)?.into_iter().map(|link| link.index).collect();
        let gone = self.attachments.values().filter(|record| !present.contains(&record.link_index));
        Ok(gone.map(|record| record.sandbox.clone()).collect())
    }

    /// Makes the link of a sandbox anew, as it was, if its namespace is still there; says whether it is. Name and addresses stay, so rules
    /// and sets hold for the new link as they did for the old one.
    ///
    /// # Errors
    /// What the kernel refused; nothing is left of the link then, and the sandbox is still attached.
    pub fn restore(&mut self, sandbox: &Sandbox) -> Result<bool, AttachError> {
        let Some(mut record) = self.attachments.get(sandbox).cloned() else { return Ok(false) };
        let Some(netns) = record.living_netns()? else { return Ok(false) };
        // A restoration that was interrupted, or somebody who gave the node's end another namespace.
        if let Some(stray) = self.rtnl.link(record.link.as_str()).map_err(AttachError::List)? {
            host_side::delete(&mut self.rtnl, &record, stray.index)?;
        }
        netns.run(|| pod_side::remove_stray(&record))??;
        record.link_index = 0;
        if let Err(error) = self.make(&mut record, &netns) {
            if record.link_index != 0 {
                host_side::delete(&mut self.rtnl, &record, record.link_index)?;
            }
            return Err(error);
        }
        self.attachments.insert(sandbox.clone(), record);
        Ok(true)
    }

    /// Switches the node's ends on that others switched off, with everything that the kernel forgot of them; which they were.
    ///
    /// # Errors
    /// The links cannot be listed, or the kernel refuses one; the others were tried.
    pub fn repair_links(&mut self) -> Result<Vec<LinkName>, AttachError> {
        let links = self.rtnl.links().map_err(AttachError::List)?;
        let down: BTreeSet<u32> = links.into_iter().filter(|link| !link.up).map(|link| link.index).collect();
        let mut repaired = Vec::new();
        let mut refused = None;
        for record in self.attachments.values().filter(|record| down.contains(&record.link_index)) {
            match host_side::switch_on(&mut self.rtnl, record) {
                Ok(()) => repaired.push(record.link.clone()),
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(repaired), Err)
    }

    /// Waits until the links and tracked connections of detached sandboxes are gone.
    pub fn finish_deletions(&mut self) {
        self.reaper.wait();
        self.dying.clear();
    }

    fn make(&mut self, record: &mut Record, netns: &NetNs) -> Result<(), AttachError> {
        record.link_index = host_side::create(&mut self.rtnl, record, netns)?;
        // The node's end first: it must not make itself a link-local address once the pod's end is switched on.
        host_side::configure(&mut self.rtnl, record)?;
        let made: &Record = record;
        netns.run(|| pod_side::configure(made))??;
        host_side::settle(&mut self.rtnl, record)?;
        self.records.write(record)
    }

    /// Takes back what was made of a failed attachment. The failure is what the caller hears of.
    fn undo(&mut self, record: &Record) {
        for result in [host_side::withdraw(&mut self.rtnl, record), self.records.remove(&record.link)] {
            if let Err(error) = result {
                tracing::warn!(link = %record.link, error = %error, "cannot undo a failed attachment");
            }
        }
        self.delete_link(&record.link, record.link_index);
        self.finish_deletions();
    }

    fn delete_link(&mut self, link: &LinkName, index: u32) {
        self.reaper.delete_link(index);
        self.dying.insert(link.clone());
    }

    fn adopt(&mut self, now: Duration) -> Result<Swept, AttachError> {
        let (found, damaged) = self.records.read()?;
        let mut swept = Swept { damaged, ..Swept::default() };
        let links: BTreeMap<String, u32> =
            self.rtnl.links().map_err(AttachError::List)?.into_iter().map(|link| (link.name, link.index)).collect();
        for record in found {
            if record.boot_id != self.boot_id {
                self.records.remove(&record.link)?;
                swept.earlier_boot += 1;
            } else if links.get(record.link.as_str()) == Some(&record.link_index)
                // Where that cannot be told, the restoration says why.
                || !matches!(record.living_netns(), Ok(None))
            {
                self.ipam.adopt(&record.addresses);
                self.attachments.insert(record.sandbox.clone(), record);
            } else {
                self.reaper.forget_connections(record.addresses.clone());
                self.records.remove(&record.link)?;
                self.ipam.release(&record.addresses, now);
                swept.gone.push(record);
            }
        }
        let known: BTreeSet<&LinkName> = self.attachments.values().map(|record| &record.link).collect();
        let ours = links.iter().filter_map(|(name, index)| Some((LinkName::parse(name)?, *index)));
        let unknown: Vec<(LinkName, u32)> = ours.filter(|(link, _)| !known.contains(link)).collect();
        for (link, index) in unknown {
            self.delete_link(&link, index);
            swept.unknown_links.push(link);
        }
        Ok(swept)
    }
}

fn requested_mac(text: Option<&str>) -> Result<Option<Mac>, AttachError> {
    let Some(text) = text else { return Ok(None) };
    let mac: Mac = text.parse()?;
    if mac.is_unicast() { Ok(Some(mac)) } else { Err(AttachError::GroupMac(text.to_owned())) }
}

fn describe(record: &Record, dns: Dns) -> Attached {
    Attached {
        host_ifname: record.link.to_string(),
        host_mac: record.host_mac.to_string(),
        mac: record.mac.to_string(),
        mtu: record.mtu,
        addresses: record
            .addresses
            .iter()
            .map(|&address| Address { address, gateway: pod_side::gateway(IpFamily::of(address)) })
            .collect(),
        dns,
    }
}

/// What the caller remembers must be what the record says.
fn compare(record: &Record, told: &Attached) -> Result<(), AttachError> {
    let expected = describe(record, Dns::default());
    let pairs: [(&str, &str, &str); 3] = [
        ("the interface on the node", &expected.host_ifname, &told.host_ifname),
        ("the MAC address on the node", &expected.host_mac, &told.host_mac),
        ("the MAC address in the pod", &expected.mac, &told.mac),
    ];
    for (what, found, told) in pairs {
        if !found.eq_ignore_ascii_case(told) {
            return Err(AttachError::differs(what, &found, &told));
        }
    }
    let list = |addresses: &[Address]| addresses.iter().map(|a| a.address).collect::<BTreeSet<_>>();
    if list(&expected.addresses) != list(&told.addresses) {
        let text = |addresses: &[Address]| AttachError::addresses(&list(addresses).into_iter().collect::<Vec<_>>());
        return Err(AttachError::differs("the pod's addresses", &text(&expected.addresses), &text(&told.addresses)));
    }
    Ok(())
}
