//! What a pod's containers share, and what they are kept from.

use std::fs;

use minipod_protocol::shim::Seccomp;

use crate::harness::{Pod, terminated};

/// Runs the script as the only container of a pod and returns the log.
fn output_of(change: impl FnOnce(&mut minipod_protocol::shim::Container), script: &str) -> Vec<String> {
    let mut pod = Pod::new().with("a", script).tuned(change).start();
    let state = pod.wait_end();
    assert_eq!(terminated(&state, "a").exit_code, 0, "{}", pod.raw_log("a", 0));
    pod.log("a", 0)
}

#[test]
fn containers_share_network_ipc_and_host_name_but_not_processes() {
    let script = "for n in net ipc uts pid mnt cgroup; do readlink /proc/self/ns/$n; done";
    let mut pod = Pod::new().with("a", script).with("b", script).start();
    pod.wait_end();
    let (a, b) = (pod.log("a", 0), pod.log("b", 0));
    let own = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).expect("link").display().to_string();
    for (index, (name, shared)) in
        [("net", true), ("ipc", true), ("uts", true), ("pid", false), ("mnt", false), ("cgroup", false)]
            .into_iter()
            .enumerate()
    {
        assert_eq!(a[index] == b[index], shared, "{name}: {} {}", a[index], b[index]);
        assert_ne!(a[index], own(name), "{name} is the node's");
    }
}

#[test]
fn one_container_reaches_the_other_on_localhost() {
    let mut pod = Pod::new()
        .with("server", "httpd -p 127.0.0.1:8080 -h /etc; until [ -e /dev/shm/done ]; do sleep 0.05; done")
        .with("client", "until wget -q -O - http://127.0.0.1:8080/hostname; do sleep 0.05; done; touch /dev/shm/done")
        .start();
    pod.wait_end();
    assert_eq!(pod.log("client", 0).last().map(String::as_str), Some("web-host"));
}

#[test]
fn the_pods_files_are_in_etc() {
    let lines = output_of(|_| {}, "hostname; cat /etc/hostname; cat /etc/resolv.conf; grep web-host /etc/hosts");
    let expected = [
        "web-host",
        "web-host",
        "nameserver 10.96.0.10",
        "search default.svc.cluster.local",
        "options ndots:5",
        "10.244.1.7\tweb-host",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_pod_on_the_nodes_network_asks_nobody() {
    let mut pod = Pod::new().with("a", "readlink /proc/self/ns/net; hostname");
    pod.sandbox.netd_socket = None;
    let mut pod = pod.start();
    let state = pod.wait_end();
    let own = fs::read_link("/proc/self/ns/net").expect("link").display().to_string();
    assert_eq!(pod.log("a", 0), [own, "web-host".into()]);
    assert_eq!((state.network, state.network_released), (None, true));
    assert_eq!(pod.netd.heard(), Vec::<String>::new());
}

#[test]
fn the_filter_is_active_for_the_first_process_and_for_an_exec() {
    let pod = Pod::new()
        .with("a", "grep Seccomp: /proc/self/status; unshare -U true 2>&1; echo ready; exec sleep 1000")
        .start();
    pod.wait_log("a", "ready");
    let log = pod.log("a", 0);
    assert_eq!(log[0], "Seccomp:\t2");
    assert!(log[1].contains("Operation not permitted"), "{log:?}");
    let (status, _, _) = pod.exec("a", &["grep", "Seccomp:", "/proc/self/status"]);
    assert_eq!(status, "Seccomp:\t2\n");
    let (_, refused, code) = pod.exec("a", &["unshare", "-U", "true"]);
    assert!(code != 0 && refused.contains("Operation not permitted"), "{refused}");
    pod.stop(0);
    let mut pod = pod;
    pod.wait_end();
}

#[test]
fn an_unconfined_container_has_no_filter() {
    assert_eq!(output_of(|c| c.seccomp = Seccomp::Unconfined, "grep Seccomp: /proc/self/status"), ["Seccomp:\t0"]);
}

/// The mask of these capability numbers as `/proc/PID/status` shows it.
fn mask(numbers: &[u32]) -> String {
    format!("{:016x}", numbers.iter().fold(0_u64, |mask, number| mask | 1 << number))
}

#[test]
fn capabilities_are_exactly_those_asked_for() {
    let script = "grep Cap /proc/self/status";
    let few = |c: &mut minipod_protocol::shim::Container| c.capabilities = vec!["CAP_CHOWN".into(), "CAP_KILL".into()];
    let (none, both) = (mask(&[]), mask(&[0, 5]));
    let lines = |sets: [&String; 5]| -> Vec<String> {
        ["Inh", "Prm", "Eff", "Bnd", "Amb"].iter().zip(sets).map(|(name, set)| format!("Cap{name}:\t{set}")).collect()
    };
    assert_eq!(output_of(few, script), lines([&none, &both, &both, &both, &none]));
    // a program that is not root has none until it is given one by a file
    let few_not_root = |c: &mut minipod_protocol::shim::Container| {
        few(c);
        c.uid = 1000;
    };
    assert_eq!(output_of(few_not_root, script), lines([&none, &none, &none, &both, &none]));
}

#[test]
fn an_exec_has_the_containers_capabilities() {
    let mut pod =
        Pod::new().with("a", "echo ready; exec sleep 1000").tuned(|c| c.capabilities = vec!["CAP_KILL".into()]).start();
    pod.wait_log("a", "ready");
    let (status, _, _) = pod.exec("a", &["grep", "-E", "CapEff|CapBnd", "/proc/self/status"]);
    assert_eq!(status, format!("CapEff:\t{0}\nCapBnd:\t{0}\n", mask(&[5])));
    pod.stop(0);
    pod.wait_end();
}

#[test]
fn no_new_privileges_is_as_asked_for() {
    let script = "grep NoNewPrivs /proc/self/status; grep Seccomp: /proc/self/status";
    for (asked, shown) in [(true, "1"), (false, "0")] {
        let lines = output_of(|c| c.no_new_privileges = asked, script);
        assert_eq!(lines, [format!("NoNewPrivs:\t{shown}"), "Seccomp:\t2".into()]);
    }
}

#[test]
fn a_read_only_root_cannot_be_written() {
    let script = "touch /file 2>&1 || echo refused; touch /dev/shm/file && echo shared";
    let lines = output_of(|c| c.read_only = true, script);
    assert!(lines[0].contains("Read-only file system"), "{lines:?}");
    assert_eq!(lines[1..], ["refused", "shared"]);
}

#[test]
fn what_tells_about_the_node_is_hidden() {
    let script = "wc -c < /proc/keys; wc -c < /proc/timer_list; ls /sys/firmware | wc -l; \
                  echo 1 > /proc/sys/kernel/panic || echo refused; touch /sys/x || echo refused; \
                  echo b > /proc/sysrq-trigger || echo refused";
    let lines: Vec<String> = output_of(|_| {}, script)
        .into_iter()
        .filter(|line| !line.starts_with("sh:") && !line.contains("touch"))
        .collect();
    assert_eq!(lines, ["0", "0", "0", "refused", "refused", "refused"]);
}

#[test]
fn a_device_node_opens_nothing() {
    let script = "mknod /tmp/disk b 8 0; head -c 1 /tmp/disk 2>/dev/null || echo refused; \
                  mknod /dev/disk b 8 0; head -c 1 /dev/disk 2>/dev/null || echo refused; \
                  mknod /dev/memory c 1 1; head -c 1 /dev/memory 2>/dev/null || echo refused; \
                  head -c 4 /dev/zero | wc -c; echo x > /dev/null; head -c 1 /dev/urandom | wc -c";
    let lines: Vec<String> = output_of(|_| {}, script).into_iter().filter(|line| !line.contains("mknod")).collect();
    assert_eq!(lines, ["refused", "refused", "refused", "4", "1"]);
}

#[test]
fn the_starters_groups_and_descriptors_do_not_come_along() {
    let lines = output_of(|_| {}, "id -G; ls /proc/self/fd | tr '\\n' ' '");
    assert_eq!(lines[0], "0");
    // 3 is the directory that `ls` reads
    assert_eq!(lines[1].trim(), "0 1 2 3");
}

#[test]
fn signals_begin_as_for_any_program() {
    let lines = output_of(|_| {}, "exec grep -E 'SigBlk|SigIgn' /proc/self/status");
    assert_eq!(lines[0], "SigBlk:\t0000000000000000");
    // the C library keeps 32 and 33 to itself
    let ignored = u64::from_str_radix(lines[1].trim_start_matches("SigIgn:\t"), 16).expect("a mask");
    assert_eq!(ignored & 0x7fff_ffff, 0, "{lines:?}");
}

#[test]
fn a_user_can_write_to_its_own_streams_and_directory() {
    let change = |c: &mut minipod_protocol::shim::Container| {
        c.uid = 1000;
        c.gid = 1000;
        c.working_dir = "/made/for/it".into();
    };
    assert_eq!(output_of(change, "echo one > /dev/stdout; pwd"), ["one", "/made/for/it"]);
}

#[test]
fn a_user_may_bind_low_ports() {
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; httpd -p 127.0.0.1:80 && echo bound";
    let change = |c: &mut minipod_protocol::shim::Container| {
        c.uid = 1000;
        c.capabilities = Vec::new();
    };
    let own = || fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("read");
    let before = own();
    assert_eq!(output_of(change, script), ["0", "bound"]);
    assert_eq!(own(), before, "the node's setting has changed");
}

#[test]
fn files_of_the_node_are_shown_read_only() {
    let mut pod = Pod::new();
    let file = pod.directory.join("config");
    fs::write(&file, "content\n").expect("written");
    let container = pod.container("a", "cat /etc/app/config; echo x > /etc/app/config || echo refused");
    pod.sandbox.containers.push(container);
    let mut pod = pod.tuned(|c| c.binds = vec![(file, "/etc/app/config".into())]).start();
    pod.wait_end();
    let log = pod.log("a", 0);
    // the shell's own complaint is in between, or last
    assert!(log[0] == "content" && log.iter().any(|line| line == "refused"), "{log:?}");
}

#[test]
fn a_capability_that_does_not_exist_is_named() {
    let mut pod = Pod::new().with("a", "true").tuned(|c| c.capabilities = vec!["CAP_FLY".into()]).start();
    let state = pod
        .wait_state("the failure", |state| format!("{:?}", state.containers[0].phase).contains("CreateContainerError"));
    let phase = format!("{:?}", state.containers[0].phase);
    assert!(phase.contains("container `a` asks for the unknown capability `CAP_FLY`"), "{phase}");
    pod.stop(0);
    pod.wait_end();
}

#[test]
fn a_container_sees_its_own_control_groups_and_cannot_change_them() {
    let script = "
        memory=/sys/fs/cgroup/memory
        if [ -d $memory ]; then file=$memory/memory.limit_in_bytes; else file=/sys/fs/cgroup/memory.max; fi
        cat $file
        echo 1 > $file || echo refused
        mkdir ${file%/*}/more || echo refused
        touch /sys/fs/cgroup/new || echo refused
        grep -q $$ ${file%/*}/cgroup.procs && echo inside";
    let limit = |c: &mut minipod_protocol::shim::Container| c.resources.memory_bytes = Some(64 << 20);
    let lines = output_of(limit, script);
    let said: Vec<&str> = lines.iter().map(String::as_str).filter(|line| !line.contains("Read-only")).collect();
    assert_eq!(said, ["67108864", "refused", "refused", "refused", "inside"], "{lines:?}");
}
