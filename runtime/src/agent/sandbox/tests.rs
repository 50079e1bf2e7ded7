//! Pods in, what their shims are told out.

#![expect(clippy::needless_pass_by_value, reason = "cases are written in place")]

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use minipod_image::ImageConfig;
use minipod_image::user::User;
use minipod_protocol::shim::{Container, RestartPolicy, Sandbox, Seccomp};
use serde_json::{Value, json};

use super::{ContainerImage, NodeFacts, Refusal, Turn, compile_sandbox, user_wanted};
use crate::agent::dns::NodeDns;

fn config() -> ImageConfig {
    let json = json!({
        "os": "linux",
        "config": {
            "Entrypoint": ["/hello"],
            "Cmd": ["serve"],
            "Env": ["PATH=/bin", "MODE=image"],
            "WorkingDir": "/srv",
            "User": "nobody:nogroup",
            "StopSignal": "SIGQUIT",
        },
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    ImageConfig::decode(json.to_string().as_bytes()).expect("a configuration")
}

fn image(uid: u32) -> ContainerImage {
    let user = User { uid, gid: 7, additional_gids: vec![8], home: "/".into() };
    ContainerImage { layers: vec!["/images/top".into(), "/images/base".into()], config: config(), user }
}

fn node() -> NodeFacts {
    NodeFacts {
        hostname: "box".into(),
        netd_socket: "/run/minipod/netd.sock".into(),
        cgroup_parent: "/minipod".into(),
        pod_data: "/var/lib/minipod/pods".into(),
        logs: "/var/lib/minipod/logs".into(),
        dns: NodeDns { cluster: Vec::new(), resolv_conf: "nameserver 192.0.2.53\n".into() },
        hosts: "127.0.0.1 localhost\n# by hand\n192.0.2.9 printer\n".into(),
    }
}

fn pod(spec: Value) -> Pod {
    let pod = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u1"}, "spec": spec});
    serde_json::from_value(pod).expect("a pod")
}

fn turn() -> Turn {
    let services = vec![("DB_SERVICE_HOST".to_owned(), "10.96.0.7".to_owned())];
    Turn { run: 2, done: BTreeSet::from(["finished".to_owned()]), services }
}

fn compile_as(spec: Value, uid: u32) -> Result<Sandbox, Refusal> {
    let images = ["a", "i"].map(|name| (name.to_owned(), image(uid)));
    compile_sandbox(&pod(spec), &BTreeMap::from(images), &node(), &turn())
}

fn compile(spec: Value) -> Sandbox {
    compile_as(spec, 65534).expect("a pod that can be run")
}

/// The container `a` with these fields.
fn container(fields: Value) -> Container {
    let mut container = json!({"name": "a", "image": "x"});
    container.as_object_mut().expect("a map").extend(fields.as_object().expect("a map").clone());
    compile(json!({"containers": [container]})).containers.remove(0)
}

#[track_caller]
fn refused(spec: Value, container: Option<&str>, expected: &str) {
    let refusal = compile_as(spec, 0).expect_err("refused");
    assert_eq!((refusal.container.as_deref(), refusal.message.as_str()), (container, expected));
}

#[test]
fn a_plain_pod_runs_its_image_safely() {
    let sandbox = compile(json!({"containers": [{"name": "a", "image": "x"}]}));
    assert_eq!((sandbox.namespace.as_str(), sandbox.name.as_str(), sandbox.uid.as_str()), ("shop", "web", "u1"));
    assert_eq!(sandbox.hostname, "web");
    assert_eq!(sandbox.netd_socket.as_deref(), Some("/run/minipod/netd.sock".as_ref()));
    assert_eq!(sandbox.cgroup, "/minipod/podu1");
    assert_eq!((sandbox.restart_policy, sandbox.grace_period_seconds), (RestartPolicy::Always, 30));
    assert_eq!(sandbox.resolv_conf, None, "netd's answer says it");
    let container = &sandbox.containers[0];
    assert_eq!(container.args, ["/hello", "serve"]);
    assert_eq!(container.env, ["HOSTNAME=web", "PATH=/bin", "MODE=image", "DB_SERVICE_HOST=10.96.0.7"]);
    assert_eq!(container.working_dir, "/srv");
    assert_eq!((container.uid, container.gid, container.additional_gids.as_slice()), (65534, 7, &[8][..]));
    assert_eq!(container.stop_signal, 3);
    assert_eq!(container.seccomp, Seccomp::RuntimeDefault);
    assert_eq!(container.capabilities.len(), 14);
    assert!(!container.no_new_privileges, "as Kubernetes, where allowPrivilegeEscalation is not given");
    assert_eq!(container.directory, std::path::Path::new("/var/lib/minipod/pods/u1/a"));
    assert_eq!(container.log_directory, std::path::Path::new("/var/lib/minipod/logs/u1/a/2"));
    assert_eq!(container.layers.len(), 2);
}

#[test]
fn command_args_and_env_are_the_pods() {
    let both = container(json!({
        "command": ["/bin/sh", "-c", "echo $(NAME) $(MODE) $$(NAME)"],
        "args": ["$(GREETING)"],
        "env": [{"name": "NAME", "value": "you"}, {"name": "GREETING", "value": "hi $(NAME)"}, {"name": "PATH", "value": "/x"}],
    }));
    assert_eq!(both.args, ["/bin/sh", "-c", "echo you $(MODE) $(NAME)", "hi you"]);
    let environment =
        ["HOSTNAME=web", "PATH=/x", "MODE=image", "DB_SERVICE_HOST=10.96.0.7", "NAME=you", "GREETING=hi you"];
    assert_eq!(both.env, environment);
    assert_eq!(container(json!({"args": ["x"]})).args, ["/hello", "x"]);
    let terminal = container(json!({"tty": true, "stdin": true, "stdinOnce": true, "workingDir": "/tmp"}));
    assert_eq!(terminal.env[1], "TERM=xterm");
    assert!(terminal.tty && terminal.stdin && terminal.stdin_once);
    assert_eq!(terminal.working_dir, "/tmp");
}

#[test]
fn a_containers_own_variables_win_over_services_and_those_over_the_image() {
    let compile = |env: Value| {
        let services = [("MODE", "of a service"), ("DB_SERVICE_HOST", "10.96.0.7")];
        let services = services.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let images = BTreeMap::from([("a".to_owned(), image(1))]);
        let pod = pod(json!({"containers": [{"name": "a", "image": "x", "env": env}]}));
        let sandbox = compile_sandbox(&pod, &images, &node(), &Turn { services, ..turn() }).expect("a sandbox");
        sandbox.containers[0].env[2..].to_vec()
    };
    assert_eq!(compile(json!([])), ["MODE=of a service", "DB_SERVICE_HOST=10.96.0.7"]);
    let env = json!([{"name": "DB_SERVICE_HOST", "value": "mine"}, {"name": "MODE", "value": "$(MODE)!"}]);
    assert_eq!(compile(env), ["MODE=of a service!", "DB_SERVICE_HOST=mine"]);
}

#[test]
fn a_container_that_has_done_its_work_is_left_out() {
    let sandbox = compile(json!({"containers": [{"name": "finished", "image": "x"}, {"name": "a", "image": "x"}]}));
    assert_eq!(sandbox.containers.iter().map(|container| container.name.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn the_security_context_is_kept() {
    let strict = container(json!({
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            "seccompProfile": {"type": "Unconfined"},
        },
        "resources": {"limits": {"memory": "1Mi"}},
    }));
    assert!(strict.no_new_privileges && strict.read_only);
    assert_eq!(strict.capabilities, ["CAP_NET_BIND_SERVICE"]);
    assert_eq!(strict.seccomp, Seccomp::Unconfined);
    assert_eq!(strict.resources.memory_bytes, Some(1 << 20));
    let groups = compile(json!({
        "securityContext": {"supplementalGroups": [9, 8], "fsGroup": 10},
        "containers": [{"name": "a", "image": "x"}],
    }));
    assert_eq!(groups.containers[0].additional_gids, [8, 9, 10]);
}

#[test]
fn the_user_is_the_containers_then_the_pods_then_the_images() {
    #[track_caller]
    fn check(pod_context: Value, container_context: Value, expected: &str) {
        let pod = pod(json!({
            "securityContext": pod_context,
            "containers": [{"name": "a", "image": "x", "securityContext": container_context}],
        }));
        let spec = pod.spec.expect("a spec");
        assert_eq!(user_wanted(&spec, &spec.containers[0], &config()), expected);
    }
    check(json!({}), json!({}), "nobody:nogroup");
    check(json!({"runAsUser": 5}), json!({}), "5");
    check(json!({"runAsUser": 5, "runAsGroup": 6}), json!({"runAsUser": 1}), "1:6");
    check(json!({}), json!({"runAsGroup": 6}), "nobody:6");
}

#[test]
fn a_host_network_pod_has_the_nodes_names() {
    let sandbox = compile(json!({
        "hostNetwork": true,
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["db", "db.example"]}],
        "containers": [{"name": "a", "image": "x"}],
    }));
    assert_eq!(sandbox.netd_socket, None);
    assert_eq!(sandbox.hostname, "box");
    assert_eq!(sandbox.resolv_conf.as_deref(), Some("nameserver 192.0.2.53\n"));
    assert_eq!(sandbox.host_aliases, ["127.0.0.1 localhost", "192.0.2.9 printer", "192.0.2.1\tdb\tdb.example"]);
}

#[test]
fn init_containers_come_first_and_the_policy_is_the_pods() {
    let sandbox = compile(json!({
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 5,
        "hostname": "front",
        "initContainers": [{"name": "i", "image": "x"}],
        "containers": [{"name": "a", "image": "x"}],
    }));
    assert_eq!(sandbox.init_containers[0].name, "i");
    assert_eq!((sandbox.restart_policy, sandbox.grace_period_seconds), (RestartPolicy::OnFailure, 5));
    assert_eq!(sandbox.hostname, "front");
}

#[test]
fn what_cannot_be_run_as_it_says_is_refused_by_name() {
    let with = |fields: Value| {
        let mut container = json!({"name": "a", "image": "x"});
        container.as_object_mut().expect("a map").extend(fields.as_object().expect("a map").clone());
        json!({"containers": [container]})
    };
    refused(
        with(json!({"securityContext": {"privileged": true}})),
        Some("a"),
        "`securityContext.privileged` is not supported: leave it out",
    );
    refused(
        with(json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]})),
        Some("a"),
        "`env[].valueFrom` is not supported: leave it out",
    );
    refused(
        with(json!({"securityContext": {"runAsNonRoot": true}})),
        Some("a"),
        "container has runAsNonRoot and would run as root: set `runAsUser` to another user",
    );
    refused(with(json!({"workingDir": "srv"})), Some("a"), "workingDir `srv` is not absolute: begin it with `/`");
    refused(
        with(json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}})),
        Some("a"),
        "seccomp profile `Localhost` is not supported: use RuntimeDefault or Unconfined",
    );
    refused(json!({"hostPID": true, "containers": []}), None, "`spec.hostPID` is not supported: leave it out");
    refused(
        json!({"dnsPolicy": "None", "containers": []}),
        None,
        "`dnsPolicy: None` needs at least one address in `dnsConfig.nameservers`",
    );
}
