//! The files of `/etc` that a pod's containers share: `resolv.conf`, `hosts`, `hostname`. Pure, except [`ensure_all`] and [`write_all`].

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use minipod_protocol::netd::Dns;
use minipod_protocol::shim::Sandbox;

/// File name in the pod's directory and path in a container.
const FILES: [(&str, &str); 3] =
    [("resolv.conf", "/etc/resolv.conf"), ("hosts", "/etc/hosts"), ("hostname", "/etc/hostname")];

/// What the files say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EtcFiles {
    resolv_conf: String,
    hosts: String,
    hostname: String,
}

/// The files of a pod with a network of its own.
pub(crate) fn compile_files(sandbox: &Sandbox, addresses: &[IpAddr], dns: &Dns) -> EtcFiles {
    let mut hosts = String::from(
        "# Written by Minipod.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    for address in addresses {
        append_line(&mut hosts, &format!("{address}\t{}", sandbox.hostname));
    }
    append_aliases(&mut hosts, sandbox);
    EtcFiles {
        resolv_conf: sandbox.resolv_conf.clone().unwrap_or_else(|| resolv_conf(dns)),
        hosts,
        hostname: format!("{}\n", sandbox.hostname),
    }
}

/// The files of a pod on the node's network: the node's, with the pod's own settings.
pub(crate) fn compile_host_files(sandbox: &Sandbox, node_hosts: &str, node_resolv_conf: &str) -> EtcFiles {
    let mut hosts = node_hosts.to_owned();
    if !hosts.is_empty() && !hosts.ends_with('\n') {
        hosts.push('\n');
    }
    append_aliases(&mut hosts, sandbox);
    EtcFiles {
        resolv_conf: sandbox.resolv_conf.clone().unwrap_or_else(|| node_resolv_conf.to_owned()),
        hosts,
        hostname: format!("{}\n", sandbox.hostname),
    }
}

/// Makes the files, still empty, and returns what is to be bound where: `(file of the node, path in a container)`.
pub(crate) fn ensure_all(directory: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    fs::create_dir_all(directory)?;
    let ensure = |(name, inside): &(&str, &str)| {
        let path = directory.join(name);
        fs::File::options().create(true).append(true).open(&path)?;
        Ok((path, PathBuf::from(inside)))
    };
    FILES.iter().map(ensure).collect()
}

/// Writes the files in place: they may be bound into a container already.
pub(crate) fn write_all(directory: &Path, files: &EtcFiles) -> io::Result<()> {
    let contents = [&files.resolv_conf, &files.hosts, &files.hostname];
    FILES.iter().zip(contents).try_for_each(|((name, _), content)| fs::write(directory.join(name), content))
}

fn resolv_conf(dns: &Dns) -> String {
    let mut text = String::new();
    for nameserver in &dns.nameservers {
        append_line(&mut text, &format!("nameserver {nameserver}"));
    }
    if !dns.search.is_empty() {
        append_line(&mut text, &format!("search {}", dns.search.join(" ")));
    }
    if !dns.options.is_empty() {
        append_line(&mut text, &format!("options {}", dns.options.join(" ")));
    }
    text
}

fn append_aliases(hosts: &mut String, sandbox: &Sandbox) {
    for line in &sandbox.host_aliases {
        append_line(hosts, line);
    }
}

fn append_line(text: &mut String, line: &str) {
    // writing to a `String` cannot fail
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use minipod_protocol::netd::Dns;

    use super::{compile_files, compile_host_files};
    use crate::testing::sandbox;

    #[test]
    fn the_files_say_what_netd_answered() {
        let dns = Dns {
            nameservers: vec!["10.96.0.10".parse().expect("address")],
            search: vec!["default.svc.cluster.local".into(), "svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        };
        let mut sandbox = sandbox();
        sandbox.host_aliases = vec!["192.0.2.1\tdb".into()];
        let addresses = ["10.244.1.7".parse().expect("address"), "fd00::7".parse().expect("address")];
        let files = compile_files(&sandbox, &addresses, &dns);
        assert_eq!(
            files.resolv_conf,
            "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local\noptions ndots:5\n"
        );
        assert!(files.hosts.starts_with("# Written by Minipod.\n127.0.0.1\tlocalhost\n"), "{}", files.hosts);
        assert!(files.hosts.ends_with("10.244.1.7\tweb\nfd00::7\tweb\n192.0.2.1\tdb\n"), "{}", files.hosts);
        assert_eq!(files.hostname, "web\n");
    }

    #[test]
    fn a_resolv_conf_of_the_pods_own_wins() {
        let mut sandbox = sandbox();
        sandbox.resolv_conf = Some("nameserver 192.0.2.53\n".into());
        assert_eq!(compile_files(&sandbox, &[], &Dns::default()).resolv_conf, "nameserver 192.0.2.53\n");
    }

    #[test]
    fn a_pod_on_the_nodes_network_sees_the_nodes_files() {
        let files = compile_host_files(&sandbox(), "127.0.0.1 localhost", "nameserver 192.0.2.1\n");
        assert_eq!(
            (files.hosts.as_str(), files.resolv_conf.as_str()),
            ("127.0.0.1 localhost\n", "nameserver 192.0.2.1\n")
        );
    }
}
