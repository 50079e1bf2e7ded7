//! Sets of the kernel's ipset over netlink (protocol 7), without the `ipset` program: a member costs microseconds, not a process.
//!
//! Model: a set is created, its members are edited in batches, it is swapped with one built beside it. Ownership: an [`Ipset`] works in
//! the network namespace in which it was opened. Atomicity: a single member is; a batch is not: members before a refused one are in
//! effect. Threads: one caller at a time.

mod codec;
mod error;
mod name;
mod types;

use std::collections::HashMap;

use minipod_model::IpFamily;

pub use error::{IpsetError, Reason};
pub use name::{InvalidSetName, SetName};
pub use types::{Edit, Element, Entry, Mark, SetHeader, SetSpec, SetType};

use crate::netlink::message::{Message, NFGEN_LEN, NLM_F_EXCL, attribute};
use crate::netlink::{Failure, Socket};

/// The longest list of members in one message: an attribute's length has 16 bits.
const BATCH_BYTES: usize = 60_000;

/// A connection to the kernel's sets.
#[derive(Debug)]
pub struct Ipset {
    socket: Socket,
    /// the newest revision of each type that the kernel has
    revisions: HashMap<(SetType, u8), u8>,
}

/// Members to add to or remove from one set.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// the set
    pub set: &'a SetName,
    /// what to do
    pub edit: Edit,
    /// with which members
    pub elements: &'a [Element],
}

impl Ipset {
    /// Opens a connection for the current thread's network namespace.
    ///
    /// # Errors
    /// No netlink, no ipset in the kernel, or a kernel that speaks neither protocol 6 nor 7.
    pub fn open() -> Result<Self, IpsetError> {
        let mut socket = Socket::open(netlink_sys::protocols::NETLINK_NETFILTER)?;
        let answer = socket.query(codec::request(codec::CMD_PROTOCOL, 0), |received| {
            attribute(received.payload.get(NFGEN_LEN..)?, codec::ATTR_PROTOCOL)?.first().copied()
        })?;
        match answer {
            Ok(Some(codec::PROTOCOL..)) => Ok(Self { socket, revisions: HashMap::new() }),
            Ok(kernel) => Err(IpsetError::Version { kernel: kernel.unwrap_or(0) }),
            Err(failure) if failure.errno == libc::EPERM => Err(IpsetError::Permission { set: "*".into() }),
            Err(failure) => Err(set_error("speak of", "*", &failure)),
        }
    }

    /// Makes an empty set; an existing one of that name is refused.
    ///
    /// # Errors
    /// [`Reason::SetExists`], [`Reason::UnknownType`] and others.
    pub fn create(&mut self, name: &SetName, spec: &SetSpec) -> Result<(), IpsetError> {
        let revision = self.revision(name, spec.kind, spec.family)?;
        let mut message = codec::request(codec::CMD_CREATE, NLM_F_EXCL);
        message.text(codec::ATTR_SETNAME, name.as_str());
        message.text(codec::ATTR_TYPENAME, spec.kind.as_str());
        message.u8(codec::ATTR_REVISION, revision);
        message.u8(codec::ATTR_FAMILY, codec::nfproto(spec.kind, spec.family));
        codec::put_spec(&mut message, spec);
        self.command("create", name.as_str(), message)
    }

    /// Destroys a set that nothing refers to.
    ///
    /// # Errors
    /// [`Reason::Busy`] while a rule or a list names it, [`Reason::NoSuchSet`].
    pub fn destroy(&mut self, name: &SetName) -> Result<(), IpsetError> {
        self.command("destroy", name.as_str(), on_set(codec::CMD_DESTROY, name))
    }

    /// Destroys a set unless it is gone already.
    ///
    /// # Errors
    /// [`Reason::Busy`] while a rule or a list names it.
    pub fn ensure_destroyed(&mut self, name: &SetName) -> Result<(), IpsetError> {
        absent_is_fine(self.destroy(name))
    }

    /// Removes all members.
    ///
    /// # Errors
    /// [`Reason::NoSuchSet`]
    pub fn flush(&mut self, name: &SetName) -> Result<(), IpsetError> {
        self.command("flush", name.as_str(), on_set(codec::CMD_FLUSH, name))
    }

    /// Renames a set that nothing refers to.
    ///
    /// # Errors
    /// [`Reason::Referenced`], [`Reason::SecondName`], [`Reason::NoSuchSet`]
    pub fn rename(&mut self, from: &SetName, to: &SetName) -> Result<(), IpsetError> {
        let mut message = on_set(codec::CMD_RENAME, from);
        message.text(codec::ATTR_SETNAME2, to.as_str());
        self.command("rename", from.as_str(), message)
    }

    /// Exchanges the contents of two sets of one type; rules keep naming what they named and see the other contents at once.
    ///
    /// # Errors
    /// [`Reason::TypeMismatch`], [`Reason::NoSuchSet`], [`Reason::SecondName`]
    pub fn swap(&mut self, one: &SetName, other: &SetName) -> Result<(), IpsetError> {
        let mut message = on_set(codec::CMD_SWAP, one);
        message.text(codec::ATTR_SETNAME2, other.as_str());
        self.command("swap", one.as_str(), message)
    }

    /// Adds members; those present get the new timeout and mark.
    ///
    /// # Errors
    /// The first refusal; members before it are in.
    pub fn add(&mut self, set: &SetName, elements: &[Element]) -> Result<(), IpsetError> {
        self.edit(&[Batch { set, edit: Edit::Add, elements }])
    }

    /// Removes members; absent ones are fine.
    ///
    /// # Errors
    /// The first refusal; members before it are out.
    pub fn remove(&mut self, set: &SetName, elements: &[Element]) -> Result<(), IpsetError> {
        self.edit(&[Batch { set, edit: Edit::Remove, elements }])
    }

    /// Edits several sets, in order, in as few system calls as possible.
    ///
    /// # Errors
    /// The first refusal; the kernel goes on with the other sets, so the caller reads back what it needs to know.
    pub fn edit(&mut self, batches: &[Batch<'_>]) -> Result<(), IpsetError> {
        let mut messages = Vec::new();
        let mut origin = Vec::new();
        for (index, batch) in batches.iter().enumerate() {
            let mut rest = batch.elements;
            while !rest.is_empty() {
                let (message, taken) = pack(batch.set, batch.edit, rest);
                messages.push(message);
                origin.push((index, batch.elements.len() - rest.len()));
                rest = &rest[taken..];
            }
        }
        let outcomes = self.socket.transact(&mut messages)?;
        for (outcome, (index, offset)) in outcomes.into_iter().zip(origin) {
            if let Err(failure) = outcome {
                return Err(entry_error(&batches[index], offset, &failure));
            }
        }
        Ok(())
    }

    /// The same for sets that already exist or not, in one acknowledged exchange each: makes `name` as `spec` says unless it is there.
    ///
    /// # Errors
    /// As [`Ipset::create`]; an existing set is not compared with `spec`.
    pub fn ensure_created(&mut self, name: &SetName, spec: &SetSpec) -> Result<(), IpsetError> {
        match self.create(name, spec) {
            Err(error) if error.reason() == Some(Reason::SetExists) => Ok(()),
            other => other,
        }
    }

    /// All sets, also those of others, without their members.
    ///
    /// # Errors
    /// No answer.
    pub fn list(&mut self) -> Result<Vec<SetHeader>, IpsetError> {
        let mut message = codec::request(codec::CMD_LIST, 0);
        message.be32(codec::ATTR_FLAGS, codec::FLAG_LIST_HEADER);
        Ok(self.socket.dump(&message, |found, received| {
            found.extend(received.payload.get(NFGEN_LEN..).and_then(codec::read_header));
        })?)
    }

    /// A set with its members, sorted; `None` if it is not there.
    ///
    /// # Errors
    /// [`IpsetError::Unreadable`] if it is of a type that is not spoken here.
    pub fn members(&mut self, name: &SetName) -> Result<Option<(SetHeader, Vec<Element>)>, IpsetError> {
        let mut message = codec::request(codec::CMD_LIST, 0);
        message.text(codec::ATTR_SETNAME, name.as_str());
        match self.read(&message) {
            Err(IpsetError::Socket(crate::netlink::NetlinkError::Dump(failure))) if failure.errno == libc::ENOENT => {
                Ok(None)
            }
            other => Ok(other?.pop()),
        }
    }

    /// The sets whose name begins with `prefix`, with their members, each sorted.
    ///
    /// # Errors
    /// As [`Ipset::members`].
    pub fn dump(&mut self, prefix: &str) -> Result<Vec<(SetHeader, Vec<Element>)>, IpsetError> {
        let headers = self.list()?;
        let mut sets = Vec::new();
        for header in headers.into_iter().filter(|header| header.name.starts_with(prefix)) {
            let Ok(name) = SetName::new(&header.name) else { continue };
            sets.extend(self.members(&name)?);
        }
        Ok(sets)
    }

    fn read(&mut self, request: &Message) -> Result<Vec<(SetHeader, Vec<Element>)>, IpsetError> {
        let parts = self.socket.dump(request, |found: &mut Vec<Part>, received| {
            let Some(bytes) = received.payload.get(NFGEN_LEN..) else { return };
            if let Some(header) = codec::read_header(bytes) {
                found.push(Part { header, elements: Vec::new() });
            }
            // Only the first message of a set describes it.
            let Some(part) = found.last_mut() else { return };
            match part.header.kind {
                Some(kind) => part.elements.extend(codec::read_elements(bytes, kind)),
                None => part.elements.push(None),
            }
        })?;
        parts.into_iter().map(Part::finish).collect()
    }

    fn command(&mut self, verb: &'static str, set: &str, message: Message) -> Result<(), IpsetError> {
        self.socket.execute(message)?.map_err(|failure| set_error(verb, set, &failure))
    }

    fn revision(&mut self, name: &SetName, kind: SetType, family: IpFamily) -> Result<u8, IpsetError> {
        let nfproto = codec::nfproto(kind, family);
        if let Some(&revision) = self.revisions.get(&(kind, nfproto)) {
            return Ok(revision);
        }
        let mut message = codec::request(codec::CMD_TYPE, 0);
        message.text(codec::ATTR_TYPENAME, kind.as_str());
        message.u8(codec::ATTR_FAMILY, nfproto);
        let answer = self.socket.query(message, |received| {
            attribute(received.payload.get(NFGEN_LEN..)?, codec::ATTR_REVISION)?.first().copied()
        })?;
        let revision = answer
            .map_err(|failure| match failure.errno {
                libc::ENOENT | libc::EINVAL => {
                    IpsetError::Set { verb: "create", set: name.to_string(), reason: Reason::UnknownType }
                }
                _ => set_error("create", name.as_str(), &failure),
            })?
            .unwrap_or(0);
        self.revisions.insert((kind, nfproto), revision);
        Ok(revision)
    }
}

struct Part {
    header: SetHeader,
    elements: Vec<Option<Element>>,
}

impl Part {
    fn finish(self) -> Result<(SetHeader, Vec<Element>), IpsetError> {
        let mut elements: Vec<Element> = self
            .elements
            .into_iter()
            .collect::<Option<_>>()
            .ok_or_else(|| IpsetError::Unreadable { set: self.header.name.clone() })?;
        elements.sort_unstable();
        Ok((self.header, elements))
    }
}

fn on_set(command: u8, name: &SetName) -> Message {
    let mut message = codec::request(command, NLM_F_EXCL);
    message.text(codec::ATTR_SETNAME, name.as_str());
    message
}

/// As many of `elements` as fit into one message, and how many these are. Without `NLM_F_EXCL` the kernel takes a present member to
/// add and an absent one to remove as done.
fn pack(set: &SetName, edit: Edit, elements: &[Element]) -> (Message, usize) {
    let command = match edit {
        Edit::Add => codec::CMD_ADD,
        Edit::Remove => codec::CMD_DEL,
    };
    let mut message = codec::request(command, 0);
    message.text(codec::ATTR_SETNAME, set.as_str());
    message.be32(codec::ATTR_LINENO, 0);
    let mut taken = 0;
    message.nest(codec::ATTR_ADT, |list| {
        for element in elements {
            if list.len() > BATCH_BYTES {
                break;
            }
            taken += 1;
            codec::put_element(list, element, u32::try_from(taken).unwrap_or(u32::MAX));
        }
    });
    (message, taken)
}

fn absent_is_fine(result: Result<(), IpsetError>) -> Result<(), IpsetError> {
    match result {
        Err(error) if error.reason() == Some(Reason::NoSuchSet) => Ok(()),
        other => other,
    }
}

fn set_error(verb: &'static str, set: &str, failure: &Failure) -> IpsetError {
    if failure.errno == libc::EPERM {
        return IpsetError::Permission { set: set.to_owned() };
    }
    IpsetError::Set { verb, set: set.to_owned(), reason: Reason::of(failure.errno, None) }
}

fn entry_error(batch: &Batch<'_>, offset: usize, failure: &Failure) -> IpsetError {
    let set = batch.set.to_string();
    let (verb, preposition) = match batch.edit {
        Edit::Add => ("add", "to"),
        Edit::Remove => ("remove", "from"),
    };
    // ENOENT speaks of the set, before any member was looked at.
    if failure.errno == libc::ENOENT {
        return IpsetError::Set {
            verb: if batch.edit == Edit::Add { "add to" } else { "remove from" },
            set,
            reason: Reason::NoSuchSet,
        };
    }
    if failure.errno == libc::EPERM {
        return IpsetError::Permission { set };
    }
    let refused = codec::refused_line(&failure.request)
        .and_then(|line| (line as usize).checked_sub(1))
        .and_then(|line| batch.elements.get(offset + line));
    let list = matches!(refused, Some(Element { entry: Entry::Set(_), .. }));
    IpsetError::Entry {
        verb,
        preposition,
        set,
        entry: refused.map_or_else(|| "?".to_owned(), |element| element.entry.to_string()),
        reason: Reason::of(failure.errno, list.then_some(SetType::ListSet)),
    }
}
