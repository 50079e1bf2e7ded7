//! What packets do, compared with what a case says that they do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use integration::packets::probe::answering;
use integration::packets::target::{Protocol, Target};
use integration::wait::until;

use crate::table::{Table, Way, told};
use crate::world::{Actor, World};

/// What is allowed answers within this time; a look that finds less is repeated with more.
const PATIENCE: Duration = Duration::from_millis(250);
/// On a machine as busy as tests make it.
const LONGEST: Duration = Duration::from_secs(2);
/// Packets do what the policies say within this time.
const LIMIT: Duration = Duration::from_secs(10);
/// A change that shows nowhere has been carried out by then.
const SETTLED: Duration = Duration::from_millis(500);

/// How somebody is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Dialled {
    way: Way,
    by_service: bool,
}

/// Looks until packets do what the table says. Where it says what the one before said, they must still do so a while later.
///
/// # Errors
/// What they do otherwise after [`LIMIT`].
pub(crate) fn settles(world: &World, table: &Table, before: Option<&Table>) -> Result<(), String> {
    let begin = Instant::now();
    let mut patience = PATIENCE;
    let mut last = Vec::new();
    let settled = until("packets to do what is said", LIMIT, || {
        last = differences(world, table, patience);
        if last.iter().any(|difference| difference.is_missing) {
            patience = (patience * 2).min(LONGEST);
        }
        last.is_empty().then_some(())
    });
    settled.map_err(|_| told_all(&last))?;
    if before != Some(table) {
        return Ok(());
    }
    until("the change to be carried out", LIMIT, || (begin.elapsed() > SETTLED).then_some(())).expect("time passes");
    match &differences(world, table, patience)[..] {
        [] => Ok(()),
        differences => Err(told_all(differences)),
    }
}

/// Something that packets do otherwise than a table says.
pub(crate) struct Difference {
    told: String,
    /// whether it is to pass
    is_missing: bool,
}

/// The differences, a line each.
pub(crate) fn told_all(differences: &[Difference]) -> String {
    differences.iter().map(|difference| difference.told.as_str()).collect::<Vec<_>>().join("\n")
}

/// What passes otherwise than the table says.
pub(crate) fn differences(world: &World, table: &Table, patience: Duration) -> Vec<Difference> {
    let ways: BTreeSet<Way> = table.passes.keys().map(|(_, _, way)| *way).collect();
    let mut dialled = Vec::new();
    for (to, actor) in &world.actors {
        for way in &ways {
            for by_service in [false, true] {
                let how = Dialled { way: *way, by_service };
                dialled.extend(how.target(actor).map(|target| (to, how, target)));
            }
        }
    }
    let seen = seen(world, &dialled, patience);
    let mut differences = Vec::new();
    for (from, source) in &world.actors {
        for (to, how, target) in &dialled {
            let Some(expected) = table.passes.get(&(from.clone(), (*to).clone(), how.way)) else { continue };
            if how.by_service && !source.reaches_services(from) {
                continue;
            }
            if seen[from].contains(target) != *expected {
                let service = if how.by_service { " by its service" } else { "" };
                let does = if *expected { "is to pass and does not" } else { "is not to pass and does" };
                let told = format!("{from} -> {to}{service}, {}: {does}", told(how.way));
                differences.push(Difference { told, is_missing: *expected });
            }
        }
    }
    differences
}

/// Who answers whom.
fn seen(
    world: &World,
    dialled: &[(&String, Dialled, Target)],
    patience: Duration,
) -> BTreeMap<String, BTreeSet<Target>> {
    let all: Vec<Target> = dialled.iter().map(|(_, _, target)| *target).collect();
    let own: Vec<Target> = dialled.iter().filter(|(_, how, _)| !how.by_service).map(|(_, _, target)| *target).collect();
    std::thread::scope(|scope| {
        let (all, own) = (&all, &own);
        let threads = world.actors.iter().map(|(name, actor)| {
            let targets = if actor.reaches_services(name) { all } else { own };
            (name.clone(), scope.spawn(move || answering(&actor.place, targets, patience)))
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|(name, thread)| (name, thread.join().expect("no panic"))).collect()
    })
}

impl Dialled {
    fn target(self, actor: &Actor) -> Option<Target> {
        let Way { protocol, port, is_v6 } = self.way;
        let addresses = if self.by_service { &actor.services } else { &actor.place.addresses };
        // Services of the scene have ports of TCP and UDP alone.
        if self.by_service && !matches!(protocol, Protocol::Tcp | Protocol::Udp) {
            return None;
        }
        let address: IpAddr = *addresses.iter().find(|address| address.is_ipv6() == is_v6)?;
        Some(Target { protocol, address: SocketAddr::new(address, port) })
    }
}
