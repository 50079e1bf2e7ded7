//! What runs goes on when the daemon or a shim is killed.

use std::time::{Duration, Instant};

use integration::fixture::{HELLO_ALLOW_FROM_FOO, HELLO_IMAGE};
use integration::lab::{Iptables, Lab};
use integration::wait::until;

const LIMIT: Duration = Duration::from_secs(30);
const SHIMS: &str = "pgrep -x minipod-shim";

fn daemon(lab: &Lab) -> String {
    let file = lab.shell("cat /run/minipod/node.pid").expect_success();
    let json: serde_json::Value = serde_json::from_str(&file).expect("node.pid is JSON");
    json["pid"].to_string()
}

#[test]
fn pods_policies_and_services_outlive_the_daemon() {
    let lab = Lab::with_lesson(Iptables::Nft);
    assert!(lab.wget("foo", "http://hello-web:8080").succeeded());
    let address = lab.pod_ip("hello-web");
    let service = lab.minipod(&["get", "service", "hello-web", "-o", "jsonpath={.spec.clusterIP}"]).expect_success();
    let started = ["get", "pod", "hello-web", "-o", "jsonpath={.status.containerStatuses[0].state.running.startedAt}"];
    let since = lab.minipod(&started).expect_success();

    let killed = daemon(&lab);
    let _ = lab.shell(&format!("kill -KILL {killed}")).expect_success();
    let shims = lab.shell(SHIMS).expect_success();
    assert_eq!(shims.lines().count(), 3, "the shims outlive the daemon");
    // Without a daemon there is no exec: the pods' network namespaces are entered directly.
    let mut reached = 0;
    for shim in shims.lines() {
        let enter = format!("nsenter --net --target {shim} --");
        let own = lab.shell(&format!("{enter} ip -o address")).expect_success();
        if own.contains(&format!("{address}/")) {
            continue;
        }
        let ask =
            |to: &str| lab.shell(&format!("{enter} minipod-hello wget -qO- --timeout=2 http://{to}:8080")).succeeded();
        let by_address = ask(&address);
        assert_eq!(by_address, ask(service.trim()), "the pod's address and its service's let the same pods in");
        reached += u32::from(by_address);
    }
    assert_eq!(reached, 1, "foo reaches hello-web and other does not, with no daemon running");

    lab.start_node().expect("a new daemon");
    lab.wait_ready("hello-web");
    assert_ne!(daemon(&lab), killed);
    assert_eq!(lab.pod_ip("hello-web"), address);
    assert_eq!(lab.minipod(&started).expect_success(), since, "adopted, not restarted");
    assert!(lab.wget("foo", "http://hello-web:8080").succeeded(), "adopted: exec works again");
    assert!(!lab.wget("other", "http://hello-web:8080").succeeded(), "the policy still holds");
    let _ = lab.minipod(&["delete", "networkpolicy", "hello-allow-from-foo"]).expect_success();
    until("the policy to go", LIMIT, || lab.wget("other", "http://hello-web:8080").succeeded().then_some(()))
        .expect("open");
}

#[test]
fn a_daemon_starts_in_the_moment_in_which_the_one_before_is_killed() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    for round in 0..20 {
        // Every other time with a pod that is being started.
        if round % 2 == 1 {
            let name = format!("p{round}");
            lab.apply(&format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: a, image: {HELLO_IMAGE}}}]}}}}"
            ));
        }
        let killed = daemon(&lab);
        let begin = Instant::now();
        let started = lab.shell(&format!("kill -KILL {killed}; minipod node start"));
        assert!(started.succeeded(), "round {round}: {started}\n{}", lab.node_log());
        assert_ne!(daemon(&lab), killed, "round {round}: {started}");
        assert!(begin.elapsed() < LIMIT, "round {round}: after {:?}", begin.elapsed());
    }
}

#[test]
fn a_node_started_with_the_other_iptables_has_the_rules_of_one_and_reset_leaves_none() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    for (name, labels) in [("hello-web", "app=hello"), ("foo", "app=foo"), ("other", "app=other")] {
        lab.pod(name, labels);
    }
    let url = format!("http://{}:8080", lab.pod_ip("hello-web"));
    let rules = |variant: &str| {
        let count = format!("(iptables-{variant}-save; ip6tables-{variant}-save) | grep -c MP- || true");
        lab.shell(&count).expect_success().trim().parse::<u32>().expect("a number")
    };
    let restart = |variant: &str| {
        let _ = lab.minipod(&["node", "stop"]).expect_success();
        let _ = lab.minipod(&["node", "start", "--iptables", variant]).expect_success();
    };
    restart("legacy");
    assert!(rules("legacy") > 0 && rules("nft") == 0, "{} and {}", rules("legacy"), rules("nft"));
    // Rules of the first variant would know nothing of a policy that is made now.
    lab.apply(HELLO_ALLOW_FROM_FOO);
    for variant in ["legacy", "nft"] {
        restart(variant);
        until("the policy", LIMIT, || (!lab.wget("other", &url).succeeded()).then_some(())).expect("denied");
        assert!(lab.wget("foo", &url).succeeded(), "what is allowed works with {variant}");
    }
    assert!(rules("nft") > 0 && rules("legacy") == 0, "{} and {}", rules("nft"), rules("legacy"));
    // As after a start that was interrupted: rules of ours in both.
    let copy = "iptables-nft-save | sed 's/ (nf_tables)//' | iptables-legacy-restore";
    let _ = lab.shell(copy).expect_success();
    assert!(rules("legacy") > 0);
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    let _ = lab.minipod(&["node", "reset", "--yes"]).expect_success();
    assert_eq!((rules("nft"), rules("legacy")), (0, 0));
    assert_eq!(lab.shell("ipset list -n | grep -c mp- || true").expect_success().trim(), "0");
}

#[test]
fn a_pod_whose_shim_is_killed_runs_again_and_its_network_is_released() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    lab.pod("web", "app=web");
    let before = lab.pod_ip("web");
    let links = "ip -o link | grep -c mpod || true";
    assert_eq!(lab.shell(links).expect_success().trim(), "1");
    let _ = lab.shell(&format!("kill -KILL $({SHIMS})")).expect_success();
    let ip = ["get", "pod", "web", "-o", "jsonpath={.status.podIP}"];
    until("the pod to run again with a new network", LIMIT, || {
        let ip = lab.minipod(&ip).stdout.trim().to_owned();
        (!ip.is_empty() && ip != before).then_some(())
    })
    .unwrap_or_else(|error| unreachable!("{error}\n{}", lab.minipod(&["get", "pod", "web", "-o", "yaml"])));
    lab.wait_ready("web");
    let count = ["get", "pod", "web", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
    assert_ne!(lab.minipod(&count).expect_success().trim(), "0", "the restart is counted");
    assert_eq!(lab.shell(links).expect_success().trim(), "1", "the old link is gone");
    let routes = lab.shell("ip route show proto 109").expect_success();
    assert!(!routes.contains(&format!("{before} ")), "the old address has no route: {routes}");
    assert_eq!(lab.shell("pgrep -cf [h]ello-app").expect_success().trim(), "1", "the old container is gone");
}

#[test]
fn a_pod_that_never_restarts_fails_when_its_shim_is_killed() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    let run = ["run", "once", "--image", HELLO_IMAGE, "--restart=Never", "--", "sleep", "infinity"];
    let _ = lab.minipod(&run).expect_success();
    lab.wait_ready("once");
    let _ = lab.shell(&format!("kill -KILL $({SHIMS})")).expect_success();
    let phase = ["get", "pod", "once", "-o", "jsonpath={.status.phase}"];
    until("the pod to fail", LIMIT, || (lab.minipod(&phase).stdout.trim() == "Failed").then_some(())).expect("Failed");
    until("the network to be released", LIMIT, || {
        (lab.shell("ip -o link | grep -c mpod || true").stdout.trim() == "0").then_some(())
    })
    .expect("no link is left");
    assert!(!lab.shell("pgrep -f '[s]leep infinity'").succeeded(), "the container is gone");
}

#[test]
fn routes_and_links_that_others_take_away_are_back_before_the_periodic_look() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    lab.pod("web", "app=web");
    let address = lab.pod_ip("web");
    let route = format!("ip route show {address} | grep .");
    // The look comes every 5 s: if it alone brought them back, the second and the third would take that long each.
    let begin = Instant::now();
    for _ in 0..3 {
        let _ = lab.shell(&format!("ip route del {address}")).expect_success();
        until("the pod's route", LIMIT, || lab.shell(&route).succeeded().then_some(())).expect("repaired");
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "repaired after {:?}", begin.elapsed());
    for damage in ["ip link set dev minipod-svc down", "ip link del dev minipod-svc"] {
        let _ = lab.shell(damage).expect_success();
        let routes = "ip route show dev minipod-svc | grep . && ip -6 route show dev minipod-svc | grep fd00";
        until("the services' routes", LIMIT, || lab.shell(routes).succeeded().then_some(())).expect("repaired");
    }
    let off = "ip link set dev $(ip -o link | grep -o 'mpod[0-9a-f]*') down";
    let _ = lab.shell(off).expect_success();
    let ask = format!("minipod-hello wget -qO- --timeout=2 http://{address}:8080");
    until("the pod to answer again", LIMIT, || lab.shell(&ask).succeeded().then_some(())).expect("repaired");
}

#[test]
fn a_pods_link_that_somebody_deletes_is_made_anew_with_its_policy_in_force() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    for (name, labels) in [("hello-web", "app=hello"), ("foo", "app=foo"), ("other", "app=other")] {
        lab.pod(name, labels);
    }
    lab.apply(HELLO_ALLOW_FROM_FOO);
    let address = lab.pod_ip("hello-web");
    let url = format!("http://{address}:8080");
    until("the policy", LIMIT, || (!lab.wget("other", &url).succeeded()).then_some(())).expect("denied");
    let delete = format!("ip link del dev $(ip -o route get {address} | grep -o 'mpod[0-9a-f]*')");
    let works_again = || {
        until("foo to reach hello-web again", LIMIT, || lab.wget("foo", &url).succeeded().then_some(()))
            .unwrap_or_else(|error| unreachable!("{error}\n{}", lab.node_log()));
        assert!(!lab.wget("other", &url).succeeded(), "the policy holds for the new link");
        assert_eq!(lab.pod_ip("hello-web"), address);
    };
    let _ = lab.shell(&delete).expect_success();
    works_again();
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    let _ = lab.shell(&delete).expect_success();
    lab.start_node().expect("a new daemon");
    works_again();
    let log = lab.node_log();
    assert_eq!(log.matches("somebody else deleted a pod's interface; made it anew").count(), 2, "{log}");
    assert!(!log.contains("the sandbox is gone"), "{log}");
}

/// The look comes every 5 s: if it alone brought rules back, all but the first would take that long each.
fn rules_are_back_before_the_periodic_look(iptables: Iptables) {
    let lab = Lab::started("n1", iptables).expect("a lab");
    let variant = iptables.as_str();
    let begin = Instant::now();
    for (program, table) in [("ip6tables", "mangle"), ("iptables", "raw"), ("iptables", "filter")] {
        let tool = format!("{program}-{variant}");
        let _ = lab.shell(&format!("{tool} -t {table} -F")).expect_success();
        let jump = format!("{tool}-save -t {table} | grep -e '-A [A-Z]* .*-j MP-'");
        until("the rules", LIMIT, || lab.shell(&jump).succeeded().then_some(()))
            .unwrap_or_else(|error| unreachable!("{error}\n{}", lab.node_log()));
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "repaired after {:?}", begin.elapsed());
}

#[test]
fn flushed_rules_are_back_before_the_periodic_look_with_nft() {
    rules_are_back_before_the_periodic_look(Iptables::Nft);
}

#[test]
fn flushed_rules_are_back_before_the_periodic_look_with_legacy() {
    rules_are_back_before_the_periodic_look(Iptables::Legacy);
}

#[test]
fn a_repair_that_fails_is_told_by_status_and_tried_again_until_it_works() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    let status =
        r#"echo '{"cniVersion":"1.1.0","name":"n","type":"minipod-cni"}' | CNI_COMMAND=STATUS CNI_PATH=/ minipod-cni"#;
    let _ = lab.shell(status).expect_success();
    let program = "program=$(readlink -f $(command -v iptables-nft))";
    let break_it = format!(
        "{program}; mkdir /run/copy; cp $program /run/copy/iptables-nft; mount --bind /bin/false $program
         /run/copy/iptables-nft -F FORWARD"
    );
    let _ = lab.shell(&break_it).expect_success();
    let said = until("STATUS to tell", LIMIT, || Some(lab.shell(status)).filter(|ran| !ran.succeeded()))
        .unwrap_or_else(|error| unreachable!("{error}\n{}", lab.node_log()));
    assert!(said.stdout.contains("the kernel does not enforce the newest state"), "{said}");
    let _ = lab.shell(&format!("{program}; umount $program")).expect_success();
    until("STATUS to be well again", LIMIT, || lab.shell(status).succeeded().then_some(()))
        .unwrap_or_else(|error| unreachable!("{error}: {}\n{}", lab.shell(status), lab.node_log()));
    let _ = lab.shell("iptables-nft -S FORWARD | grep MP-FORWARD").expect_success();
}

#[test]
fn a_new_shim_runs_no_container_again_that_has_succeeded_under_on_failure() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    lab.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata:
  name: job
spec:
  restartPolicy: OnFailure
  initContainers:
  - name: first
    image: {HELLO_IMAGE}
    command: [sleep, '0']
  containers:
  - name: short
    image: {HELLO_IMAGE}
    command: [sleep, '0']
  - name: long
    image: {HELLO_IMAGE}
    command: [sleep, infinity]
"
    ));
    let of = |list: &str, name: &str, field: &str| {
        let path = format!("jsonpath={{.status.{list}[?(@.name==\"{name}\")].{field}}}");
        lab.minipod(&["get", "pod", "job", "-o", &path]).stdout.trim().to_owned()
    };
    let short = || of("containerStatuses", "short", "state.terminated.reason");
    let restarts = |list: &str, name: &str| of(list, name, "restartCount");
    let settled = |restarts_of_long: &str| {
        let long = of("containerStatuses", "long", "state.running.startedAt");
        let again = restarts("containerStatuses", "long") == restarts_of_long;
        (short() == "Completed" && !long.is_empty() && again).then_some(())
    };
    let state = || lab.minipod(&["get", "pod", "job", "-o", "yaml"]);
    until("one to end and one to run", LIMIT, || settled("0"))
        .unwrap_or_else(|error| unreachable!("{error}\n{}", state()));
    let finished = of("containerStatuses", "short", "state.terminated.finishedAt");
    let _ = lab.shell(&format!("kill -KILL $({SHIMS})")).expect_success();
    until("one to run again", LIMIT, || settled("1")).unwrap_or_else(|error| unreachable!("{error}\n{}", state()));
    assert_eq!(restarts("containerStatuses", "short"), "0");
    assert_eq!(of("containerStatuses", "short", "state.terminated.finishedAt"), finished);
    assert_eq!(restarts("initContainerStatuses", "first"), "1", "a new sandbox begins with the init containers");
    let runs = lab.shell("ls -d /run/state/logs/*/short/* | wc -l").expect_success();
    assert_eq!(runs.trim(), "1", "it left the log of one start");
    let _ = lab.shell("pkill -TERM -f '[s]leep infinity'").expect_success();
    let phase = ["get", "pod", "job", "-o", "jsonpath={.status.phase}"];
    until("the pod to succeed", LIMIT, || (lab.minipod(&phase).stdout.trim() == "Succeeded").then_some(()))
        .unwrap_or_else(|error| unreachable!("{error}\n{}", state()));
}

#[test]
fn a_command_that_is_not_in_the_image_is_said_before_anything_is_made() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    let run = ["run", "typo", "--image", HELLO_IMAGE, "--restart=Never", "--rm", "-i", "--command", "--", "slep", "1"];
    let error = lab.minipod(&run).expect_failure();
    let said =
        "command `slep` is not in the image `minipod.local/hello-app:1.0`: no executable file has this name in PATH";
    assert!(error.contains(said), "{error}");
    assert!(error.contains("set `command` to a program of the image"), "the next step is missing: {error}");
    let _ = lab.minipod(&["run", "typo", "--image", HELLO_IMAGE, "--command", "--", "/srv/slep"]).expect_success();
    let waiting = "jsonpath={.status.containerStatuses[0].state.waiting.reason} {.status.containerStatuses[0].state.waiting.message}";
    let status = || lab.minipod(&["get", "pod", "typo", "-o", waiting]).stdout;
    let seen = until("the status", LIMIT, || Some(status()).filter(|s| s.starts_with("CreateContainerError")));
    let seen = seen.unwrap_or_else(|error| unreachable!("{error}: {}", status()));
    assert!(seen.contains("command `/srv/slep` is not in the image"), "{seen}");
    assert_eq!(lab.shell("ip -o link | grep -c mpod || true").expect_success().trim(), "0", "it has a network already");
}

#[test]
fn one_bad_command_keeps_no_other_container_of_the_pod_from_running() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    lab.apply(&format!(
        "{{kind: Pod, apiVersion: v1, metadata: {{name: three}}, spec: {{containers: [\
         {{name: c, image: \"{HELLO_IMAGE}\", args: [sleep, infinity]}}, {{name: e, image: \"{HELLO_IMAGE}\", command: [/etc/passwd]}}, \
         {{name: d, image: \"{HELLO_IMAGE}\", args: [sleep, infinity]}}]}}}}"
    ));
    let of = |name: &str, field: &str| {
        let path = format!("jsonpath={{.status.containerStatuses[?(@.name==\"{name}\")].state.{field}}}");
        lab.minipod(&["get", "pod", "three", "-o", &path]).stdout
    };
    let runs = |name: &str| !of(name, "running.startedAt").is_empty();
    let seen = until("the others to run", LIMIT, || {
        (runs("c") && runs("d") && of("e", "waiting.reason") == "CreateContainerError").then_some(())
    });
    seen.unwrap_or_else(|error| unreachable!("{error}\n{}", lab.minipod(&["get", "pod", "three", "-o", "yaml"])));
    assert!(of("e", "waiting.message").contains("command `/etc/passwd` is not in the image"), "{}", of("e", "waiting"));
    assert!(!lab.pod_ip("three").is_empty());
    let _ = lab.minipod(&["delete", "pod", "three", "--now"]).expect_success();
}

#[test]
fn a_shim_that_hangs_keeps_no_pod_from_being_deleted() {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    for pod in ["slow", "forced"] {
        lab.pod(pod, "app=x");
    }
    let _ = lab.shell(&format!("kill -STOP $({SHIMS})")).expect_success();
    let _ = lab.minipod(&["delete", "pod", "forced", "--force", "--grace-period=0"]).expect_success();
    let _ = lab.minipod(&["delete", "pod", "slow", "--grace-period=1"]).expect_success();
    let left = || {
        lab.shell(&format!("{SHIMS}; pgrep -x hello-app; ip -o link | grep mpod; ls /run/minipod/pods; true")).stdout
    };
    until("nothing to be left", LIMIT, || left().is_empty().then_some(()))
        .unwrap_or_else(|error| unreachable!("{error}: {}", left()));
}

#[test]
fn the_daemon_may_open_many_files_and_what_runs_in_pods_as_many_as_before() {
    let lab = Lab::new("n1", Iptables::Nft).expect("a lab");
    let _ = lab.shell("ulimit -S -n 512; minipod node start").expect_success();
    lab.pod("web", "app=x");
    let limits = |pid: &str| {
        let said = lab.shell(&format!("grep '^Max open files' /proc/$({pid})/limits")).expect_success();
        let words: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
        (words[3].clone(), words[4].clone())
    };
    let (soft, hard) = limits("sed 's/[^0-9]*\\([0-9]*\\).*/\\1/' /run/minipod/node.pid");
    assert_eq!(soft, hard);
    assert_eq!(limits("pgrep -x hello-app").0, "512");
}
