//! Sandboxes for tests; those in `tests/` include this file too.

use std::path::PathBuf;

use minipod_protocol::shim::{Container, Resources, RestartPolicy, Sandbox, Seccomp};

/// A pod without containers.
pub(crate) fn sandbox() -> Sandbox {
    Sandbox {
        uid: "11111111-2222-3333-4444-555555555555".into(),
        namespace: "default".into(),
        name: "web".into(),
        hostname: "web".into(),
        netd_socket: None,
        cgroup: "/minipod-test/pod".into(),
        resources: Resources::default(),
        restart_policy: RestartPolicy::Always,
        grace_period_seconds: 30,
        host_aliases: Vec::new(),
        resolv_conf: None,
        init_containers: Vec::new(),
        containers: Vec::new(),
    }
}

/// A container that does nothing special.
pub(crate) fn container(name: &str) -> Container {
    Container {
        name: name.into(),
        layers: vec![PathBuf::from("/layer")],
        directory: PathBuf::from("/pod").join(name),
        log_directory: PathBuf::from("/log").join(name),
        args: vec!["/bin/true".into()],
        env: vec!["PATH=/bin".into()],
        working_dir: "/".into(),
        uid: 0,
        gid: 0,
        additional_gids: Vec::new(),
        capabilities: vec!["CAP_CHOWN".into()],
        no_new_privileges: false,
        read_only: false,
        seccomp: Seccomp::RuntimeDefault,
        resources: Resources::default(),
        tty: false,
        stdin: false,
        stdin_once: false,
        stop_signal: 15,
        binds: Vec::new(),
        unstartable: None,
    }
}
