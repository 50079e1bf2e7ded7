//! `./scripts/test policy [--ruling N]`: every ruling of docs/semantics.md and every case that it says is proven, with real pods and
//! packets. The cases are data (`integration/policy`), and what passes is written there by hand: nothing here asks the programs
//! under test what they think of a packet.

mod case;
mod coverage;
mod look;
mod play;
mod question;
mod table;
mod world;

use integration::lab::Iptables;
use integration::on_both_variants;

use case::{Case, RULINGS};
use world::World;

/// How many tests share the cases that can share a node.
const SHARES: usize = 3;

/// The ruling that is asked for, if one is.
fn chosen_ruling() -> Option<u8> {
    let text = std::env::var("MINIPOD_TEST_RULING").ok()?;
    let ruling = text.parse().ok().filter(|ruling| RULINGS.contains(ruling));
    Some(ruling.unwrap_or_else(|| unreachable!("MINIPOD_TEST_RULING={text}: give the number of a ruling, 1 to 21")))
}

fn chosen() -> Vec<Case> {
    let ruling = chosen_ruling();
    let mut cases = case::read_all(&case::folder());
    cases.retain(|case| ruling.is_none_or(|ruling| case.rulings.contains(&ruling)));
    cases
}

/// Cases with the same pods come one after the other.
fn on_one_node(iptables: Iptables, share: usize) {
    let mut cases = chosen();
    cases.retain(|case| !case.needs_own_node());
    cases.sort_by_key(|case| (case.pods.len(), case.pods.keys().cloned().collect::<Vec<_>>(), case.name.clone()));
    let size = cases.len().div_ceil(SHARES).max(1);
    let Some(cases) = cases.chunks(size).nth(share) else { return };
    let mut world = World::new(iptables, &[]);
    for case in cases {
        play(case, &mut world);
    }
}

fn first_share(iptables: Iptables) {
    on_one_node(iptables, 0);
}

fn second_share(iptables: Iptables) {
    on_one_node(iptables, 1);
}

fn third_share(iptables: Iptables) {
    on_one_node(iptables, 2);
}

/// All at once: they mostly wait.
fn each_on_its_own_node(iptables: Iptables) {
    let cases = chosen();
    std::thread::scope(|scope| {
        let cases = cases.iter().filter(|case| case.needs_own_node());
        let threads = cases.map(|case| scope.spawn(move || play(case, &mut World::new(iptables, &case.node))));
        let threads: Vec<_> = threads.collect();
        for thread in threads {
            thread.join().expect("every case holds");
        }
    });
}

fn play(case: &Case, world: &mut World) {
    let begin = std::time::Instant::now();
    play::play(case, world);
    #[expect(clippy::print_stderr, reason = "the reader of a test's output wants to know what it has shown")]
    {
        eprintln!("{}: {:?}", case.name, begin.elapsed());
    }
}

on_both_variants! {
    first_share second_share third_share each_on_its_own_node
}
