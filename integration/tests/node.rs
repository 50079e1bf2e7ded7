//! What happens to pods when something happens to their node: a reboot, a full disk, a stop; and when their namespace goes.

use std::time::Duration;

use integration::fixture::{DENY_ALL, HELLO_ALLOW_FROM_FOO, HELLO_IMAGE};
use integration::lab::{Iptables, Lab};
use integration::snapshot::Snapshot;
use integration::wait::until;

const LIMIT: Duration = Duration::from_secs(30);
/// The back-off of an image is 10 s, then 20 s.
const AFTER_BACK_OFF: Duration = Duration::from_secs(60);

fn run(lab: &Lab, args: &[&str]) -> integration::ran::Ran {
    lab.minipod(&[&["run"], args, &["--image", HELLO_IMAGE]].concat())
}

fn wait_running(lab: &Lab, pod: &str, limit: Duration) {
    let phase = ["get", "pod", pod, "-o", "jsonpath={.status.phase}"];
    until("the pod to run", limit, || (lab.minipod(&phase).stdout.trim() == "Running").then_some(())).unwrap_or_else(
        |error| unreachable!("{error}\n{}\n{}", lab.minipod(&["describe", "pod", pod]), lab.node_log()),
    );
}

/// What pods are made of: shims, links, writable layers, cgroups.
fn traces(lab: &Lab) -> [usize; 4] {
    let count = |script: &str| lab.shell(script).expect_success().lines().count();
    let cgroups = integration::snapshot::cgroups(&lab.cgroup());
    let pods: std::collections::BTreeSet<&str> =
        cgroups.lines().flat_map(|path| path.split('/')).filter(|name| name.starts_with("pod")).collect();
    [
        count("pgrep -x minipod-shim || true"),
        count("ip -o link | grep mpod || true"),
        count("ls /run/state/pods 2>/dev/null || true"),
        pods.iter().filter(|name| name.len() > 20).count(),
    ]
}

#[test]
fn a_reboot_leaves_nothing_of_the_old_boot_and_pods_run_again() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    lab.pod("web", "app=web");
    let _ = run(&lab, &["once", "--restart=Never"]).expect_success();
    wait_running(&lab, "once", LIMIT);
    let before = lab.pod_ip("web");
    // What a machine that loses power forgets: processes, links, rules, sets, routes; and it comes back with another boot ID. The run
    // directory stays, as on machines where `/run` is on a disk: then only the boot ID tells.
    let forget = "
        minipod node stop
        pkill -KILL -x minipod-shim
        for link in $(ip -o link | grep -o 'mpod[0-9a-f]*'); do ip link del $link; done
        for f in iptables ip6tables; do for t in raw mangle nat filter; do $f-nft -t $t -F; $f-nft -t $t -X; done; done
        ipset destroy
        ip link del minipod-svc; ip route flush proto 109; ip -6 route flush proto 109
        cat /proc/sys/kernel/random/uuid > /run/boot-id
        mount --bind /run/boot-id /proc/sys/kernel/random/boot_id";
    let _ = lab.shell(forget).expect_success();
    lab.start_node().expect("the node after the reboot");
    // Until the agent has looked, the status is the one of the old boot.
    let restarts = ["get", "pod", "web", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
    until("the restart to be counted", LIMIT, || (lab.minipod(&restarts).stdout.trim() == "1").then_some(()))
        .unwrap_or_else(|error| unreachable!("{error}"));
    lab.wait_ready("web");
    until("an answer", LIMIT, || lab.wget("web", "http://localhost:8080").succeeded().then_some(()))
        .expect("it serves");
    assert_ne!(lab.pod_ip("web"), before, "a new network, with an address that nobody had a moment ago");
    let phase = ["get", "pod", "once", "-o", "jsonpath={.status.phase}"];
    until("the other to have failed", LIMIT, || (lab.minipod(&phase).stdout == "Failed").then_some(()))
        .expect("Failed");
    until("one of everything", LIMIT, || (traces(&lab) == [1; 4]).then_some(()))
        .unwrap_or_else(|error| unreachable!("{error}: {:?}", traces(&lab)));
    let _ = lab.shell("umount /proc/sys/kernel/random/boot_id; rm /run/boot-id").expect_success();
}

#[test]
fn a_node_makes_no_tables_of_the_iptables_that_it_does_not_use() {
    for (used, other) in [(Iptables::Nft, Iptables::Legacy), (Iptables::Legacy, Iptables::Nft)] {
        let lab = Lab::started("n1", used).expect("a lab");
        lab.pod("web", "app=web");
        // Without `-t` they print the tables that are there, and make none.
        let tables = |variant: Iptables| {
            let print =
                format!("for f in iptables ip6tables; do $f-{}-save | grep '^\\*' || true; done", variant.as_str());
            lab.shell(&print).expect_success()
        };
        assert!(tables(used).contains("*mangle"), "with {used:?}:\n{}", tables(used));
        assert_eq!(tables(other), "", "with {used:?}");
    }
}

#[test]
fn a_service_without_endpoints_refuses_connections_at_once_and_no_routing_rule_is_made() {
    let lab = Lab::new("n1", Iptables::Nft).expect("a lab");
    let rules = || lab.shell("ip rule; ip -6 rule").expect_success();
    let before = rules();
    lab.start_node().expect("a node");
    lab.pod("web", "app=web");
    lab.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: nobody}, spec: {ipFamilyPolicy: RequireDualStack, ports: [{port: 80}], \
         selector: {app: nobody}}}",
    );
    let addresses = lab.minipod(&["get", "service", "nobody", "-o", "jsonpath={.spec.clusterIPs[*]}"]).expect_success();
    let addresses: Vec<&str> = addresses.split_whitespace().collect();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    for address in addresses {
        let dial = ["tcp", "connect", "-T", "2", address, "80"];
        let of_node = lab.shell(&format!("minipod-hello {}", dial.join(" ")));
        for said in [lab.exec("web", &dial), of_node] {
            assert!(!said.succeeded() && said.stderr.contains("Connection refused"), "{address}: {said}");
        }
    }
    assert_eq!(rules(), before);
}

#[test]
fn a_node_and_a_dns_service_that_somebody_deletes_come_back_as_they_were() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    let node = ["get", "node", "n1", "-o", "jsonpath={.spec.podCIDRs} {.status.conditions[0].status}"];
    let dns = ["get", "service", "kube-dns", "-n", "kube-system", "-o", "jsonpath={.spec.clusterIPs}"];
    for (object, delete) in [
        (&node[..], &["delete", "node", "n1"][..]),
        (&dns[..], &["delete", "service", "kube-dns", "-n", "kube-system"][..]),
    ] {
        // A node that has just started is not ready yet.
        let settled = || Some(lab.minipod(object).expect_success()).filter(|said| !said.ends_with("False"));
        let before = until("the object as it stays", LIMIT, settled).expect("settled");
        let _ = lab.minipod(delete).expect_success();
        until("the object to come back", LIMIT, || (lab.minipod(object).stdout == before).then_some(()))
            .unwrap_or_else(|error| unreachable!("{error}: {}\n{}", lab.minipod(object), lab.node_log()));
    }
    lab.pod("web", "app=web");
}

#[test]
fn addresses_that_come_and_go_are_those_of_the_node_and_of_pods_on_its_network() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: hn}}, spec: {{hostNetwork: true, containers: [{{name: c, image: {HELLO_IMAGE}}}]}}}}"
    );
    lab.apply(&pod);
    lab.wait_ready("hn");
    let told = |wanted: bool| {
        until("the Node and the pod to say it", LIMIT, || {
            let node = lab.minipod(&["get", "node", "n1", "-o", "jsonpath={.status.addresses[*].address}"]).stdout;
            let pod = lab.minipod(&["get", "pod", "hn", "-o", "jsonpath={.status.podIPs[*].ip}"]).stdout;
            let is_there = |said: &str| said.split_whitespace().any(|word| word == "192.0.2.5");
            (is_there(&node) == wanted && is_there(&pod) == wanted).then_some(())
        })
        .unwrap_or_else(|error| unreachable!("{error}, wanted: {wanted}\n{}", lab.node_log()));
    };
    let _ = lab
        .shell("ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up; ip address add 192.0.2.5/24 dev up0")
        .expect_success();
    told(true);
    let _ = lab.shell("ip address del 192.0.2.5/24 dev up0; ip address add 192.0.2.6/24 dev up0").expect_success();
    told(false);
}

#[test]
fn a_pod_that_gets_no_node_says_why_while_a_person_waits() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    let _ = lab
        .shell(r"minipod get node n1 -o yaml | sed 's/^spec:/spec:\n  unschedulable: true/' | minipod apply -f -")
        .expect_success();
    let wait = ["run", "web", "--image", HELLO_IMAGE, "-i", "--rm", "--restart=Never", "--pod-running-timeout=3s"];
    let said = lab.minipod(&wait).expect_failure();
    let why = "0/1 nodes are available: 1 node(s) were unschedulable.";
    assert!(said.contains(&format!("pod web waits for a node: {why}")), "{said}");
    let _ = lab.minipod(&["run", "web", "--image", HELLO_IMAGE]).expect_success();
    let describe = ["describe", "pod", "web"];
    until("the event", LIMIT, || lab.minipod(&describe).stdout.contains("FailedScheduling").then_some(()))
        .unwrap_or_else(|error| unreachable!("{error}: {}", lab.minipod(&describe)));
    assert!(lab.minipod(&describe).stdout.contains(&format!("PodScheduled  False   {why}")));
}

#[test]
fn a_changed_host_name_is_still_the_same_node_and_its_pods_go_on() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    lab.pod("web", "app=web");
    let shim = lab.shell("pgrep -x minipod-shim").expect_success();
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    let _ = lab.shell("hostname other").expect_success();
    lab.start_node().expect("the node under another host name");
    lab.wait_ready("web");
    assert_eq!(lab.minipod(&["get", "nodes", "-o", "name"]).expect_success(), "node/n1\n");
    let labels = r"jsonpath={.metadata.labels.kubernetes\.io/hostname}";
    assert_eq!(lab.minipod(&["get", "node", "n1", "-o", labels]).expect_success(), "other");
    assert_eq!(lab.shell("pgrep -x minipod-shim").expect_success(), shim, "the same shim runs it");
    let _ = lab.minipod(&["delete", "pod", "web"]).expect_success();
    assert_eq!(traces(&lab), [0; 4]);
}

#[test]
fn a_running_pod_whose_object_is_bound_to_another_node_is_left_alone() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    lab.pod("web", "app=web");
    let shim = lab.shell("pgrep -x minipod-shim").expect_success();
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    // As when the state directory's store is put in the place of another node's.
    let _ = lab.shell("rm /run/state/node-name; hostname other").expect_success();
    lab.start_node().expect("the other node");
    let told = "a pod of another node runs here";
    until("it to be told", LIMIT, || lab.node_log().contains(told).then_some(())).expect("in the log");
    // The agent has seen every pod once it runs one of its own.
    lab.pod("own", "app=own");
    let running = lab.shell("pgrep -x minipod-shim").expect_success();
    assert!(running.contains(shim.trim()), "{running}\n{}", lab.node_log());
}

#[test]
fn lookups_of_pods_leave_no_line_in_the_log() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    lab.pod("web", "app=web");
    let ask = || lab.wget("web", "http://nosuch.default.svc.cluster.local").expect_failure();
    let _ = ask();
    let before = lab.node_log();
    for _ in 0..5 {
        let _ = ask();
    }
    let after = lab.node_log();
    assert!(!after.contains("hickory"), "{after}");
    assert_eq!(after, before);
}

#[test]
fn a_host_that_loses_ipv6_and_has_it_again_serves_what_it_has() {
    let lab = Lab::new("n1", Iptables::Nft).expect("a lab");
    let ipv6 = |off: u8| drop(lab.shell(&format!("sysctl -qw net.ipv6.conf.all.disable_ipv6={off}")).expect_success());
    let service = |name: &str, more: &str| {
        let spec = format!("selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}], {more}");
        let manifest = format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}}}}}");
        lab.minipod_with_input(&["apply", "-f", "-"], &manifest)
    };
    let dual = "ipFamilyPolicy: PreferDualStack";
    let families = |name: &str| {
        let path = ["get", "service", name, "-o", "jsonpath={.spec.ipFamilies[*]}"];
        lab.minipod(&path).expect_success().trim().to_owned()
    };
    // The one pod's.
    let resolvers =
        || lab.shell("find /run/minipod/pods /run/state/pods -name resolv.conf -exec cat {} +").expect_success();
    let reaches = |name: &str| {
        until("an answer", LIMIT, || lab.wget("old", &format!("http://{name}")).succeeded().then_some(()))
            .unwrap_or_else(|error| unreachable!("{name}: {error}\n{}", lab.node_log()));
    };

    lab.start_node().expect("a node with both families");
    lab.pod("old", "app=web");
    assert!(resolvers().contains("fd00:10:96::a"), "{}", resolvers());
    let _ = service("both", dual).expect_success();
    assert_eq!(families("both"), "IPv4 IPv6");
    let _ = lab.minipod(&["node", "stop", "--pods"]).expect_success();

    ipv6(1);
    lab.start_node().expect("the same node without IPv6");
    lab.pod("old", "app=web");
    assert!(resolvers().contains("10.96.0.10") && !resolvers().contains("fd00:"), "{}", resolvers());
    let _ = service("four", dual).expect_success();
    assert_eq!(families("four"), "IPv4");
    let refused = service("six", "ipFamilies: [IPv6]").expect_failure();
    assert!(refused.contains("not configured on this cluster"), "{refused}");
    reaches("four");
    reaches("both");
    let _ = lab.minipod(&["node", "stop", "--pods"]).expect_success();

    ipv6(0);
    lab.start_node().expect("the same node with IPv6 again");
    lab.pod("old", "app=web");
    assert!(resolvers().contains("fd00:10:96::a"), "{}", resolvers());
    let _ = service("again", dual).expect_success();
    assert_eq!(families("again"), "IPv4 IPv6");
    reaches("four");
    reaches("both");
}

#[test]
fn a_stop_with_pods_leaves_no_pod() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    lab.pod("web", "app=web");
    assert_eq!(traces(&lab), [1; 4]);
    let _ = lab.minipod(&["node", "stop", "--pods"]).expect_success();
    assert_eq!(traces(&lab), [0; 4]);
    lab.start_node().expect("a new daemon");
    assert_eq!(lab.minipod(&["get", "pods", "-A", "-o", "name"]).expect_success().trim(), "");
}

#[test]
fn a_namespace_takes_its_pods_with_it() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    lab.apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}");
    let _ = run(&lab, &["web", "-n", "shop"]).expect_success();
    lab.pod("other", "app=other");
    until("two pods", LIMIT, || (traces(&lab) == [2; 4]).then_some(())).expect("both run");
    let _ = lab.minipod(&["delete", "namespace", "shop"]).expect_success();
    assert!(!lab.minipod(&["get", "namespace", "shop"]).succeeded());
    assert_eq!(traces(&lab), [1; 4], "the pod of another namespace stays");
}

#[test]
fn a_second_daemon_on_the_same_directories_is_refused() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    let error = lab.minipod(&["node", "run"]).expect_failure();
    assert!(error.contains("already serves `/run/minipod`") && error.contains("minipod node stop"), "{error}");
    let error = lab.minipod(&["node", "run", "--run-dir", "/run/second"]).expect_failure();
    assert!(error.contains("/run/state"), "it does not name the state directory: {error}");
    let _ = lab.minipod(&["get", "nodes"]).expect_success();
}

#[test]
fn a_node_with_other_directories_touches_nothing_of_the_one_that_runs_here() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    lab.pod("web", "app=web");
    let pid = lab.shell("pgrep -x minipod").expect_success();
    let said = format!(
        "another node has this network namespace (process {}), and a second one would remove its pods' network: use that one with \
         `--run-dir /run/minipod --state-dir /run/state`, or remove it with `minipod node reset --yes --run-dir /run/minipod \
         --state-dir /run/state`",
        pid.trim()
    );
    let before = Snapshot::of(&lab);
    let other = ["--run-dir", "/run/second", "--state-dir", "/run/second-state"];
    for command in [
        ["node", "run"].as_slice(),
        &["node", "start"],
        &["node", "reset", "--yes"],
        &["run", "other", "--image", HELLO_IMAGE],
    ] {
        let error = lab.minipod(&[&other, command].concat()).expect_failure();
        assert_eq!(error.trim_end(), format!("error: {said}"), "{command:?}");
        let left = before.differences(&Snapshot::of(&lab));
        assert!(left.is_empty(), "{command:?}:\n{left}");
    }
    assert!(lab.wget("web", "http://localhost:8080").succeeded());
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    lab.start_node().expect("the name is free again");
    assert!(lab.wget("web", "http://localhost:8080").succeeded());
}

#[test]
fn a_full_disk_is_named_and_nothing_is_half_made_and_space_is_all_it_needs() {
    let lab = Lab::new("n1", Iptables::Nft).expect("a lab");
    let _ = lab.shell("mount -t tmpfs -o size=40m tmpfs /run/state").expect_success();
    lab.start_node().expect("a node");
    // Room for the objects, none for an image.
    let fill = "dd if=/dev/zero of=/run/state/fill bs=4k 2> /dev/null || truncate -s -512k /run/state/fill";
    let _ = lab.shell(fill).expect_success();
    let _ = run(&lab, &["web"]).expect_success();
    let waiting = ["get", "pod", "web", "-o", "jsonpath={.status.containerStatuses[0].state.waiting.message}"];
    until("the reason in the status", LIMIT, || lab.minipod(&waiting).stdout.contains("no space left").then_some(()))
        .unwrap_or_else(|error| {
            unreachable!("{error}\n{}\n{}", lab.minipod(&["get", "pods", "-o", "yaml"]), lab.node_log())
        });
    assert_eq!(traces(&lab), [0; 4]);
    let layers = lab.shell("ls /run/state/images/layers /run/state/images/work").expect_success();
    assert!(!layers.contains("sha256"), "half a layer is there: {layers}");

    // And none for objects.
    let _ = lab.shell("dd if=/dev/zero of=/run/state/more bs=4k 2> /dev/null || true").expect_success();
    let large = "x".repeat(100_000);
    let refusal = (0..40).find_map(|number| {
        let object =
            format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: n{number}, annotations: {{a: {large}}}}}}}");
        let ran = lab.minipod_with_input(&["apply", "-f", "-"], &object);
        (!ran.succeeded()).then_some((number, ran.stderr))
    });
    let (number, error) = refusal.expect("the store cannot grow");
    assert!(error.contains("cannot write to the store `/run/state/store.redb`; free space"), "{error}");
    assert!(!lab.minipod(&["get", "namespace", &format!("n{number}")]).succeeded(), "it was refused");

    let _ = lab.shell("rm /run/state/fill /run/state/more").expect_success();
    wait_running(&lab, "web", AFTER_BACK_OFF);
    let _ = run(&lab, &["second"]).expect_success();
    wait_running(&lab, "second", LIMIT);
    let _ = lab.minipod(&["node", "reset", "--yes"]);
    let _ = lab.shell("umount /run/state").expect_success();
}

#[test]
fn a_pod_reaches_its_node_as_its_policy_says_or_always_where_the_node_allows_it() {
    let lab = Lab::new("n1", Iptables::Nft).expect("a lab");
    for (choice, reached) in [("enforce", false), ("allow", true)] {
        let _ = lab.minipod(&["node", "start", "--pod-to-node", choice]).expect_success();
        if !reached {
            lab.apply(DENY_ALL);
            lab.pod("a", "app=a");
        }
        let mut listener = lab.command("minipod-hello");
        let mut listener = listener.args(["tcp", "listen", "2222"]).spawn().expect("a listener");
        // The node reaches itself whatever is chosen: the listener is there.
        until("the listener", LIMIT, || {
            let answer = lab.shell("minipod-hello tcp connect -T 1 10.244.0.1 2222 x");
            answer.succeeded().then_some(())
        })
        .expect("it listens");
        let answer = lab.exec("a", &["tcp", "connect", "-T", "1", "10.244.0.1", "2222", "x"]);
        assert_eq!(answer.code, Some(if reached { 0 } else { 3 }), "{choice}: {answer}");
        listener.kill().expect("ended");
        listener.wait().expect("reaped");
        let _ = lab.minipod(&["node", "stop"]).expect_success();
    }
}

#[test]
fn rules_use_the_mark_bits_that_they_are_given_and_no_others() {
    let lab = Lab::new("n1", Iptables::Nft).expect("a lab");
    let marks = ["--packet-mark-mask", "0xff0000", "--connection-mark-bit", "0x1000000"];
    let _ = lab.minipod(&[&["node", "start"], marks.as_slice()].concat()).expect_success();
    lab.apply(HELLO_ALLOW_FROM_FOO);
    for (name, labels) in [("hello", "app=hello"), ("foo", "app=foo"), ("other", "app=other")] {
        lab.pod(name, labels);
    }
    let url = format!("http://{}:8080", lab.pod_ip("hello"));
    assert!(lab.wget("foo", &url).succeeded());
    assert!(!lab.wget("other", &url).succeeded());
    let marks = lab.shell("iptables-nft-save | grep -oE '/0x[0-9a-f]+' | sort -u").expect_success();
    assert_eq!(marks, "/0x1000000\n/0xff0000\n");
}
