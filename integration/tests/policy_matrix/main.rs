//! `./scripts/test policy-matrix`: real pods and packets against the reference evaluator, for every field of the `NetworkPolicy` API. Each
//! case makes policies for nine pods in three namespaces; then every pod dials every pod, itself included, over TCP, UDP and SCTP,
//! IPv4 and IPv6, by the pods' addresses and by those of their services, and what answers must be what `policy matrix` says.

mod cases;
mod scene;

use integration::lab::Iptables;
use integration::on_both_variants;

use cases::{Case, Direction};
use scene::Scene;

fn run(iptables: Iptables, cases: Vec<Case>) {
    let mut scene = Scene::new(iptables);
    scene.check("before any policy");
    let count = cases.len();
    for case in cases {
        case.run(&mut scene);
    }
    scene.check("after all policies");
    #[expect(clippy::print_stderr, reason = "the reader of a test's output wants to know how much it has shown")]
    {
        eprintln!("{count} cases, {} questions", scene.probes());
    }
}

fn targets(iptables: Iptables) {
    run(iptables, cases::targets());
}

fn rules(iptables: Iptables) {
    run(iptables, cases::rules());
}

fn peers_of_ingress(iptables: Iptables) {
    run(iptables, cases::peers(Direction::Ingress));
}

fn peers_of_egress(iptables: Iptables) {
    run(iptables, cases::peers(Direction::Egress));
}

fn ports_of_ingress(iptables: Iptables) {
    run(iptables, cases::ports(Direction::Ingress));
}

fn ports_of_egress(iptables: Iptables) {
    run(iptables, cases::ports(Direction::Egress));
}

fn combined(iptables: Iptables) {
    run(iptables, cases::combined());
}

fn conflicts(iptables: Iptables) {
    run(iptables, cases::conflicts());
}

fn actions(iptables: Iptables) {
    run(iptables, cases::actions());
}

on_both_variants! {
    targets rules peers_of_ingress peers_of_egress ports_of_ingress ports_of_egress combined conflicts actions
}
