//! A pod that changes its labels leaves groups of peers and enters others. Leaving first would deny it for a moment what it may do before and
//! after. So where one address of a family is all that changes it enters first: while it is in the groups of both its old and its new labels
//! its peers allow it what the one or the other allow, and its own rules what both allow (`mp-next`), which is never more than the old or the new
//! state alone. With two addresses this does not hold: one end could judge by the old labels and the other by the new ones.

use std::collections::BTreeSet;
use std::net::IpAddr;

use minipod_model::IpFamily;

use crate::plan::SetEdit;
use crate::spec::Entry;

/// Edits of groups of peers, taken out of the phases in which elements are first removed and then added.
#[derive(Debug, Default)]
pub(crate) struct Crossing {
    /// to be done first
    pub(crate) enter: Vec<SetEdit>,
    /// to be done then
    pub(crate) leave: Vec<SetEdit>,
}

/// Takes out what a single address does, if that is all; the phases hold every edit of the change.
pub(crate) fn take(tighten: &mut Vec<SetEdit>, loosen: &mut Vec<SetEdit>) -> Crossing {
    let has_peers = |edits: &[SetEdit]| edits.iter().any(|edit| edit.set().is_of_peers());
    let is_of_pods = |edit: &SetEdit| edit.set().is_of_peers() || edit.set().is_of_signatures();
    let all = || tighten.iter().chain(&*loosen);
    let is_one = IpFamily::ALL.iter().all(|family| addresses(all(), *family).len() <= 1);
    if !has_peers(tighten) || !has_peers(loosen) || !all().all(is_of_pods) || !is_one {
        return Crossing::default();
    }
    let is_peers = |edit: &mut SetEdit| edit.set().is_of_peers();
    Crossing { enter: loosen.extract_if(.., is_peers).collect(), leave: tighten.extract_if(.., is_peers).collect() }
}

/// The addresses of a family that edits are about.
fn addresses<'a>(edits: impl Iterator<Item = &'a SetEdit>, family: IpFamily) -> BTreeSet<IpAddr> {
    let entries = edits.flat_map(|edit| -> Box<dyn Iterator<Item = &Entry>> {
        match edit {
            SetEdit::Remove(_, entries) => Box::new(entries.iter()),
            SetEdit::Add(_, entries) => Box::new(entries.keys()),
        }
    });
    let addresses = entries.filter_map(|entry| match entry {
        Entry::Ip(address) | Entry::IpPort(address, ..) => Some(*address),
        Entry::Net(_) | Entry::NetIface(..) | Entry::Port(_) => None,
    });
    addresses.filter(|address| IpFamily::of(*address) == family).collect()
}
