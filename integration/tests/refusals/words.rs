//! The command line itself: words that it does not have, and values that mean nothing. No daemon is started for them.

use integration::fixture::HELLO_IMAGE;

use crate::{assert_refused, fresh};

#[test]
fn options_of_other_programs_are_refused_with_the_way_to_do_it_here() {
    let lab = fresh();
    let run = ["run", "web", "--image", HELLO_IMAGE];
    let with = |more: &[&'static str]| [&run[..], more].concat();
    assert_refused(
        &lab,
        &[
            (
                &with(&["--privileged"]),
                "error: unknown option `--privileged` of `minipod run`: privileged containers are not supported; add single capabilities in a manifest, in `securityContext.capabilities.add`",
            ),
            (
                &with(&["-v", "/srv:/srv"]),
                "error: unknown option `-v` of `minipod run`: volumes are not supported; put the files into the image, or send them with `minipod exec -i POD -- sh -c 'cat > FILE'`",
            ),
            (
                &with(&["-p", "80:8080"]),
                "error: unknown option `-p` of `minipod run`: nothing has to be published; this machine reaches the pod's own address, and `--port PORT --expose` makes a service of its name",
            ),
            (
                &with(&["--network=host"]),
                "error: unknown option `--network` of `minipod run`: every pod has a network of its own; for the machine's write `hostNetwork: true` in a manifest",
            ),
            (
                &["get", "pods", "--context", "other"],
                "error: unknown option `--context` of `minipod get`: minipod only talks to the node on this machine, over its socket; `--run-dir` says where that is",
            ),
            (&["ps"], "error: unknown command `ps`: `minipod get pods` lists the pods"),
            (
                &["scale", "deployment", "web", "--replicas=3"],
                "error: unknown command `scale`: there are pods only, no Deployments; apply a manifest for each pod",
            ),
        ],
    );
}

#[test]
fn values_that_mean_nothing_are_refused() {
    let lab = fresh();
    let run = |option, value| ["run", "web", "--image", HELLO_IMAGE, option, value];
    let more = "\n\nFor more information, try '--help'.";
    assert_refused(
        &lab,
        &[
            (
                &run("--port", "99999"),
                &format!("error: invalid value '99999' for '--port <PORT>': 99999 is not in 1..=65535{more}"),
            ),
            (
                &run("--restart", "Sometimes"),
                &format!(
                    "error: invalid value 'Sometimes' for '--restart <RESTART>'\n  [possible values: Always, OnFailure, Never]{more}"
                ),
            ),
            (
                &["node", "start", "--deny-action", "foo"],
                &format!(
                    "error: invalid value 'foo' for '--deny-action <DENY_ACTION>'\n  [possible values: drop, reject]{more}"
                ),
            ),
            (&run("--env", "FOO"), "error: invalid env: `FOO`: give `NAME=VALUE`"),
            (&["run", "web", "--image", HELLO_IMAGE, "--expose"], "error: --port must be set when exposing a service"),
            (
                &["get", "pods"],
                "error: no `minipod node` answers on /run/minipod/api.sock: start one with `sudo minipod node start`",
            ),
            (&["apply", "-f", "/nosuch.yaml"], "error: the path \"/nosuch.yaml\" does not exist"),
        ],
    );
}

#[test]
fn options_of_the_node_that_cannot_work_are_refused() {
    let lab = fresh();
    let start = |option, value| ["node", "start", option, value];
    assert_refused(
        &lab,
        &[
            (
                &start("--cluster-cidr", "10.244.0.1/16"),
                "error: `--cluster-cidr 10.244.0.1/16`: has bits set behind its prefix; give the first address of the range",
            ),
            (
                &start("--cluster-cidr", "10.96.0.0/16"),
                "error: `--service-cidr 10.96.0.0/16`: overlaps `--cluster-cidr`; give two ranges that share no address",
            ),
            (
                &start("--service-cidr", "10.96.0.0/30"),
                "error: `--service-cidr 10.96.0.0/30`: a service range has between 32 and 1048576 addresses; give a prefix length between /12 and /27 (IPv4) or /108 and /123 (IPv6)",
            ),
            (
                &start("--node-cidr-mask-ipv4", "31"),
                "error: `--node-cidr-mask-ipv4 31`: leaves a node no addresses to give; give fewer bits, e.g. 24 (IPv4) or 64 (IPv6)",
            ),
            (
                &start("--node-name", "A_b"),
                "error: `--node-name A_b`: not a name that a Node can have; give one of lower case letters, digits, `-` and `.`",
            ),
            (
                &start("--state-dir", "state"),
                "error: `--state-dir state`: not an absolute path; give the whole path, e.g. `/run/minipod`",
            ),
            (
                &start("--cgroup-parent", ".."),
                "error: `--cgroup-parent ..`: not the path of a cgroup of its own; give names of letters, digits, `-`, `_` and `.`, e.g. `minipod`",
            ),
        ],
    );
}
