//! Ranges of addresses that are used up, or that something else routes.

use integration::fixture::HELLO_IMAGE;
use integration::lab::Lab;
use integration::wait::until;

use crate::{LIMIT, assert_nothing_left, assert_nothing_made, assert_refused, assert_says, fresh, started};

const NOT_STARTED: &str = "error: `minipod node` did not start (exit status: 1):\nerror: ";

#[test]
fn a_range_that_something_else_routes_is_refused_and_the_advice_works() {
    let lab = fresh();
    let _ = lab.shell("ip link add up0 type veth peer name up1; for end in up0 up1; do ip link set $end addrgenmode none up; done").expect_success();
    let route =
        |change: &str, route: &str| drop(lab.shell(&format!("ip route {change} {route} dev up0")).expect_success());
    for (there, what, range, flag) in [
        ("10.244.3.0/24", "the cluster's pod range", "10.244.0.0/16", "--cluster-cidr"),
        ("10.0.0.0/8", "the service range", "10.96.0.0/16", "--service-cidr"),
        ("fd00:10:96::/64", "the service range", "fd00:10:96::/112", "--service-cidr"),
    ] {
        route("add", there);
        let said = format!(
            "{NOT_STARTED}{what} `{range}` overlaps the existing route `{there} dev up0`; choose another with `{flag}`, or remove the route"
        );
        assert_refused(&lab, &[(&["node", "start"], &said)]);
        route("del", there);
    }
    route("add", "10.244.3.0/24");
    let started = lab.minipod(&["node", "start", "--cluster-cidr", "10.200.0.0/16,fd00:10:244::/48"]);
    assert!(started.succeeded(), "nothing remembers the range that was refused:\n{started}");
}

#[test]
fn a_node_without_a_free_address_says_so_and_leaves_nothing_of_the_pod() {
    let lab = fresh();
    let start = ["node", "start", "--cluster-cidr", "10.244.0.0/29", "--node-cidr-mask-ipv4", "30"];
    let _ = lab.minipod(&start).expect_success();
    assert_eq!(fill(&lab), 1, "a /30 has one address for a pod, beside the node's and the range's ends");
    assert_nothing_left(&lab, || {
        let run = ["run", "more", "--image", HELLO_IMAGE, "--rm", "-i", "--pod-running-timeout", "2s"];
        let said = "error: container more has not started: ContainerCreating: node range `10.244.0.0/30` has no free address \
                    (1 in use, 0 released less than 60 s ago, 0 of Pod objects that are not attached); delete pods, or make the node anew with \
                    a wider range: `minipod node reset --yes`, then `minipod node start` with fewer bits for `--node-cidr-mask-ipv4`, \
                    and for `--cluster-cidr` where that is no wider: timed out waiting for the condition after 2s";
        let refused = || {
            let ran = lab.minipod(&run);
            assert_eq!((ran.code, ran.stderr.trim_end()), (Some(1), said), "{ran}");
        };
        assert_nothing_made(&lab, refused, "the pod that does not fit");
    });
    let _ = lab.minipod(&["node", "reset", "--yes"]).expect_success();
    let _ = lab.minipod(&[&start[..4], &["--node-cidr-mask-ipv4", "29"]].concat()).expect_success();
    assert!(fill(&lab) > 1, "the advice works");
}

/// Runs pods until one gets no address; how many did.
fn fill(lab: &Lab) -> usize {
    (0..4)
        .take_while(|number| {
            let name = format!("fill{number}");
            let _ = lab.minipod(&["run", &name, "--image", HELLO_IMAGE]).expect_success();
            let state = until("an address or a refusal", LIMIT, || {
                let seen =
                    lab.minipod(&["get", "pod", &name, "-o", "jsonpath={.status.podIP} {.status.message}"]).stdout;
                (seen.trim() != "").then(|| seen.trim().to_owned())
            });
            state.is_ok_and(|seen| !seen.contains("no free address"))
        })
        .count()
}

#[test]
fn services_beyond_the_range_are_refused() {
    let lab = fresh();
    let start = ["node", "start", "--service-cidr", "10.96.0.0/27"];
    let _ = lab.minipod(&start).expect_success();
    let service = |number: usize| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\nspec: {{ports: [{{port: 80}}]}}\n")
    };
    let full = (0..32).find(|number| !lab.minipod_with_input(&["apply", "-f", "-"], &service(*number)).succeeded());
    let full = full.expect("the range is used up");
    crate::assert_manifests_refused(
        &lab,
        &[(
            &service(full),
            &format!(
                "error when creating \"STDIN:4:1\": Service \"s{full}\" is invalid: spec.clusterIPs: Invalid value: []: failed to allocate a serviceIP: range 10.96.0.0/27 is full; delete services that are not needed"
            ),
        )],
    );
}

#[test]
fn another_service_range_than_that_of_the_first_start_is_refused() {
    let lab = started();
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    let other = ["node", "start", "--service-cidr", "10.97.0.0/16,fd00:10:96::/112"];
    let said = "node `n1` has the service range `10.96.0.0/16`, which is not in `--service-cidr` [10.97.0.0/16, fd00:10:96::/112]: its \
                services and pods keep addresses of it; give the options of the first start, or remove everything with \
                `minipod node reset --yes`";
    assert_nothing_left(&lab, || assert_says(&lab.minipod(&other), &format!("{NOT_STARTED}{said}")));
    lab.start_node().expect("with its own range it starts");
}

#[test]
fn an_address_or_a_file_that_is_not_there_is_refused() {
    let lab = fresh();
    let _ = lab.shell("ip link add up0 type veth peer name up1; ip address add 192.0.2.1/32 dev up0").expect_success();
    let address = "`--node-ip 192.0.2.2`: not an address of this machine; give one that `ip address` shows, or leave the option out";
    let file = "`--registries /nosuch`: no such file; give one that is there, or leave the option (and `MINIPOD_REGISTRIES`) out";
    assert_refused(
        &lab,
        &[
            (&["node", "start", "--node-ip", "192.0.2.2"], &format!("{NOT_STARTED}{address}")),
            (&["node", "start", "--registries", "/nosuch"], &format!("{NOT_STARTED}{file}")),
            (&["image", "ls", "--registries", "/nosuch"], &format!("error: {file}")),
        ],
    );
    let _ = lab.minipod(&["node", "start", "--node-ip", "192.0.2.1"]).expect_success();
}

#[test]
fn another_node_name_than_that_of_the_first_start_is_refused() {
    let lab = started();
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    let other = ["node", "start", "--node-name", "n2"];
    let said = "`--node-name n2`: the state directory `/run/state` is the one of node `n1`, to which its pods are bound: leave the option \
                out or give `--node-name n1`, or remove everything with `minipod node reset --yes`";
    assert_nothing_left(&lab, || assert_says(&lab.minipod(&other), &format!("{NOT_STARTED}{said}")));
    let _ = lab.minipod(&["node", "start", "--node-name", "n1"]).expect_success();
    assert_eq!(lab.minipod(&["get", "nodes", "-o", "name"]).expect_success(), "node/n1\n");
}
