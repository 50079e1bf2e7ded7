//! What packets do, compared with what a case says that they do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use integration::packets::probe::answering;
use integration::packets::target::Target;
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
        dialled.extend(ways.iter().filter_map(|way| Some((to, *way, target(*way, actor)?))));
    }
    let seen = seen(world, &dialled, patience);
    let mut differences = Vec::new();
    for (from, source) in &world.actors {
        for (to, way, target) in &dialled {
            let Some(expected) = table.passes.get(&(from.clone(), (*to).clone(), *way)) else { continue };
            if way.by_service && !source.reaches_services(from) {
                continue;
            }
            if seen[from].contains(target) != *expected {
                let does = if *expected { "is to pass and does not" } else { "is not to pass and does" };
                let told = format!("{from} -> {to}, {}: {does}", told(*way));
                differences.push(Difference { told, is_missing: *expected });
            }
        }
    }
    differences
}

/// Who answers whom.
fn seen(world: &World, dialled: &[(&String, Way, Target)], patience: Duration) -> BTreeMap<String, BTreeSet<Target>> {
    let all: Vec<Target> = dialled.iter().map(|(_, _, target)| *target).collect();
    let own: Vec<Target> = dialled.iter().filter(|(_, way, _)| !way.by_service).map(|(_, _, target)| *target).collect();
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

fn target(way: Way, actor: &Actor) -> Option<Target> {
    let addresses = if way.by_service { &actor.services } else { &actor.place.addresses };
    let address: IpAddr = *addresses.iter().find(|address| address.is_ipv6() == way.is_v6)?;
    Some(Target { protocol: way.protocol, address: SocketAddr::new(address, way.port) })
}
