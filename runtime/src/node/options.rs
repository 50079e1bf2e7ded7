//! What a person may say about a node: the options of `minipod node`, and what they mean once checked.
//!
//! [`Options`] is what was typed, [`Settings`] what it means. Decides nothing about the machine: whether a range overlaps
//! a route, or whether iptables is there, is found out when the daemon starts.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use minipod_model::{defaults, name};
use netd::{MarkBits, MarkBitsError};

/// Below this cgroup are the pods', unless said otherwise.
const CGROUP_PARENT: &str = "minipod";

/// Where a person says that the node keeps its things. Commands that only talk to the daemon need no more than this.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct GivenDirectories {
    /// Directory of the sockets and of what lives for one boot
    #[arg(long, global = true, env = "MINIPOD_RUN_DIR", value_name = "DIR", default_value = defaults::RUN_DIR)]
    pub run_dir: PathBuf,

    /// Directory of the store, the images and the logs [default: that of the node's start, or /var/lib/minipod]
    #[arg(long, global = true, env = "MINIPOD_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

impl GivenDirectories {
    /// The default in the place of what is not given.
    #[must_use]
    pub fn or_default(&self) -> Directories {
        let state_dir = self.state_dir.clone().unwrap_or_else(|| defaults::STATE_DIR.into());
        Directories { run_dir: self.run_dir.clone(), state_dir }
    }
}

/// Where the node keeps its things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// what lives for one boot, and the sockets
    pub run_dir: PathBuf,
    /// the store, the images and the logs
    pub state_dir: PathBuf,
}

impl Default for Directories {
    fn default() -> Self {
        Self { run_dir: defaults::RUN_DIR.into(), state_dir: defaults::STATE_DIR.into() }
    }
}

impl Directories {
    /// The API server's socket.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.run_dir.join(defaults::API_SOCKET)
    }

    /// netd's socket.
    #[must_use]
    pub fn netd_socket(&self) -> PathBuf {
        self.run_dir.join(defaults::NETD_SOCKET)
    }

    /// The running daemon's process: one line of JSON, [`super::lock::Daemon`].
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.run_dir.join("node.pid")
    }

    /// The name of the node, as its first start chose it.
    #[must_use]
    pub fn node_name(&self) -> PathBuf {
        self.state_dir.join("node-name")
    }

    /// Where a daemon that was started in the background writes its log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.state_dir.join("node.log")
    }

    /// One directory per pod, named by UID, with `pod.json`, `state.json` and `shim.sock`.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.run_dir.join("pods")
    }

    /// One directory per pod, named by UID: writable layers of its containers.
    #[must_use]
    pub fn pod_data(&self) -> PathBuf {
        self.state_dir.join("pods")
    }

    /// One directory per pod, named by UID, with one per container: `N.log`.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.state_dir.join("logs")
    }

    /// The image store.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.state_dir.join("images")
    }

    /// The API server's store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.state_dir.join("store.redb")
    }

    fn check(&self) -> Result<(), OptionsError> {
        for (flag, dir) in [("--run-dir", &self.run_dir), ("--state-dir", &self.state_dir)] {
            let wrong = |problem, next| OptionsError { flag, value: dir.display().to_string(), problem, next };
            if !dir.is_absolute() {
                return Err(wrong("not an absolute path", "give the whole path, e.g. `/run/minipod`"));
            }
            if dir == Path::new("/") {
                return Err(wrong("the root directory", "give a directory of its own: `node reset` removes it"));
            }
        }
        if self.run_dir.starts_with(&self.state_dir) || self.state_dir.starts_with(&self.run_dir) {
            return Err(OptionsError {
                flag: "--state-dir",
                value: self.state_dir.display().to_string(),
                problem: "inside `--run-dir` or around it",
                next: "give two separate directories",
            });
        }
        // `sockaddr_un` holds 108 bytes; the longest is a shim's: `pods/<36>/shim.sock`.
        if self.run_dir.as_os_str().len() > 108 - 54 {
            return Err(OptionsError {
                flag: "--run-dir",
                value: self.run_dir.display().to_string(),
                problem: "too long for the sockets below it (at most 54 bytes)",
                next: "give a shorter directory",
            });
        }
        Ok(())
    }
}

/// The options of `minipod node`, `node start` and `node reset`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// where things are kept
    #[command(flatten)]
    pub directories: GivenDirectories,

    /// Name of this node [default: that of the first start, which is the host name unless given]
    #[arg(long, env = "MINIPOD_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,

    /// Address of this node, one per family, comma separated [default: the addresses of the default routes' links]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,

    /// Pod addresses of the cluster, one range per family, comma separated
    #[arg(long, env = "MINIPOD_CLUSTER_CIDR", value_name = "CIDR", value_delimiter = ',',
          default_values_t = [net(defaults::CLUSTER_CIDR_V4), net(defaults::CLUSTER_CIDR_V6)])]
    pub cluster_cidr: Vec<IpNet>,

    /// Prefix length of a node's share of the IPv4 cluster range
    #[arg(long, value_name = "BITS", default_value_t = defaults::NODE_CIDR_MASK_V4)]
    pub node_cidr_mask_ipv4: u8,

    /// Prefix length of a node's share of the IPv6 cluster range
    #[arg(long, value_name = "BITS", default_value_t = defaults::NODE_CIDR_MASK_V6)]
    pub node_cidr_mask_ipv6: u8,

    /// This node's share of the cluster range, one per family, comma separated [default: the first that no Node object has]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub pod_cidr: Vec<IpNet>,

    /// Cluster IPs of services, one range per family, comma separated
    #[arg(long, env = "MINIPOD_SERVICE_CIDR", value_name = "CIDR", value_delimiter = ',',
          default_values_t = [net(defaults::SERVICE_CIDR_V4), net(defaults::SERVICE_CIDR_V6)])]
    pub service_cidr: Vec<IpNet>,

    /// Which iptables to use; `auto` takes the one in use on this machine
    #[arg(long, env = "MINIPOD_IPTABLES", value_enum, default_value_t = Iptables::Auto)]
    pub iptables: Iptables,

    /// What the host's own firewall means for pod traffic that policy allows
    #[arg(long, value_enum, default_value_t = HostFirewall::Accept)]
    pub host_firewall: HostFirewall,

    /// Whether a pod's traffic to this node follows its egress policy
    #[arg(long, value_enum, default_value_t = PodToNode::Enforce)]
    pub pod_to_node: PodToNode,

    /// How packets reach the pods of other nodes: `auto` by a route where the node is on a link of this one, else by VXLAN; `none`
    /// where something else routes them
    #[arg(long, value_enum, default_value_t = Routing::Auto)]
    pub routing: Routing,

    /// What becomes of a packet that policy denies
    #[arg(long, value_enum, default_value_t = DenyAction::Drop)]
    pub deny_action: DenyAction,

    /// Where Prometheus metrics are told over HTTP, e.g. 127.0.0.1:9475 [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_address: Option<SocketAddr>,

    /// Bits of the packet mark that our rules use while they look at a packet, e.g. where another program has these
    #[arg(long, value_name = "MASK", value_parser = bits, default_value = "0xffff0000")]
    pub packet_mark_mask: u32,

    /// Bit of the connection mark that says that a connection is revoked
    #[arg(long, value_name = "BIT", value_parser = bits, default_value = "0x80000000")]
    pub connection_mark_bit: u32,

    /// Cgroup below which the pods' cgroups are made [default: that of the node's start, or minipod]
    #[arg(long, env = "MINIPOD_CGROUP_PARENT", value_name = "PATH")]
    pub cgroup_parent: Option<String>,

    /// Registry mirrors [default: /etc/minipod/registries.toml if it is there]
    #[arg(long, env = "MINIPOD_REGISTRIES", value_name = "FILE")]
    pub registries: Option<PathBuf>,

    /// What to log, e.g. `info` or `warn,netd=debug`
    #[arg(long, env = "MINIPOD_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// Which iptables programs to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Iptables {
    /// the one in use on this machine
    Auto,
    /// iptables-nft
    Nft,
    /// iptables-legacy
    Legacy,
}

impl From<Iptables> for netd::Iptables {
    fn from(iptables: Iptables) -> Self {
        match iptables {
            Iptables::Auto => Self::Auto,
            Iptables::Nft => Self::Nft,
            Iptables::Legacy => Self::Legacy,
        }
    }
}

/// Whether allowed pod traffic is accepted past the host's own firewall (semantics, ruling 21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HostFirewall {
    /// accept what policy allows
    Accept,
    /// leave it to the host's rules
    Respect,
}

/// What a pod may send to its own node (semantics, ruling 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PodToNode {
    /// what its egress policy allows
    Enforce,
    /// everything
    Allow,
}

/// How packets reach the pods of other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Routing {
    /// by a route where the node is on a link of this one, else by VXLAN
    Auto,
    /// by a route; not at all where the node is not on a link
    Direct,
    /// by VXLAN
    Vxlan,
    /// not by Minipod
    None,
}

impl From<Routing> for netd::Routing {
    fn from(routing: Routing) -> Self {
        match routing {
            Routing::Auto => Self::Auto,
            Routing::Direct => Self::Direct,
            Routing::Vxlan => Self::Vxlan,
            Routing::None => Self::None,
        }
    }
}

/// What the sender of a denied packet hears (semantics, ruling 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DenyAction {
    /// nothing
    Drop,
    /// a refusal, at once
    Reject,
}

impl From<DenyAction> for netd::DenyAction {
    fn from(action: DenyAction) -> Self {
        match action {
            DenyAction::Drop => Self::Drop,
            DenyAction::Reject => Self::Reject,
        }
    }
}

/// Options that make sense together.
#[derive(Debug, Clone)]
pub struct Settings {
    /// where things are kept
    pub directories: Directories,
    /// `metadata.name` of the Node
    pub node_name: String,
    /// given addresses of the node; empty: found at start
    pub node_ips: Vec<IpAddr>,
    /// the cluster's pod addresses, IPv4
    pub cluster_v4: Option<Ipv4Net>,
    /// the cluster's pod addresses, IPv6
    pub cluster_v6: Option<Ipv6Net>,
    /// prefix length of the node's IPv4 range
    pub node_mask_v4: u8,
    /// prefix length of the node's IPv6 range
    pub node_mask_v6: u8,
    /// given ranges of the node; of a family without one the first free range
    pub pod_cidrs: Vec<IpNet>,
    /// cluster IPs, IPv4
    pub service_v4: Option<Ipv4Net>,
    /// cluster IPs, IPv6
    pub service_v6: Option<Ipv6Net>,
    /// which iptables
    pub iptables: Iptables,
    /// what the host's firewall means
    pub host_firewall: HostFirewall,
    /// what a pod may send to its node
    pub pod_to_node: PodToNode,
    /// how pods of other nodes are reached
    pub routing: Routing,
    /// what becomes of what policy denies
    pub deny_action: DenyAction,
    /// where metrics are told
    pub metrics_address: Option<SocketAddr>,
    /// mark bits of the rules
    pub marks: MarkBits,
    /// absolute below each controller's root, e.g. `/minipod`
    pub cgroup_parent: String,
    /// registry mirrors
    pub registries: Option<PathBuf>,
    /// log filter
    pub log: String,
}

/// An option that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{flag} {value}`: {problem}; {next}")]
pub struct OptionsError {
    /// the option
    pub flag: &'static str,
    /// what was given
    pub value: String,
    /// what is wrong with it
    pub problem: &'static str,
    /// what to do
    pub next: &'static str,
}

impl Options {
    /// What the options mean, or the first that cannot work. `default_name`, in lower case, serves where no node name is given.
    ///
    /// # Errors
    /// The flag, its value, what is wrong and what to do.
    pub fn check(&self, default_name: &str) -> Result<Settings, OptionsError> {
        let directories = self.directories.or_default();
        directories.check()?;
        let (cluster_v4, cluster_v6) = per_family("--cluster-cidr", &self.cluster_cidr)?;
        let (service_v4, service_v6) = per_family("--service-cidr", &self.service_cidr)?;
        check_overlap(&self.cluster_cidr, &self.service_cidr)?;
        check_mask("--node-cidr-mask-ipv4", self.node_cidr_mask_ipv4, cluster_v4.map(|n| n.prefix_len()), 30)?;
        check_mask("--node-cidr-mask-ipv6", self.node_cidr_mask_ipv6, cluster_v6.map(|n| n.prefix_len()), 120)?;
        self.check_pod_cidrs()?;
        check_service_size(service_v4.map(IpNet::V4))?;
        check_service_size(service_v6.map(IpNet::V6))?;
        check_node_ips(&self.node_ip)?;
        Ok(Settings {
            directories,
            node_name: self.checked_node_name(default_name)?,
            node_ips: self.node_ip.clone(),
            cluster_v4,
            cluster_v6,
            node_mask_v4: self.node_cidr_mask_ipv4,
            node_mask_v6: self.node_cidr_mask_ipv6,
            pod_cidrs: self.pod_cidr.clone(),
            service_v4,
            service_v6,
            iptables: self.iptables,
            host_firewall: self.host_firewall,
            pod_to_node: self.pod_to_node,
            routing: self.routing,
            deny_action: self.deny_action,
            metrics_address: self.metrics_address,
            marks: self.checked_marks()?,
            cgroup_parent: check_cgroup(self.cgroup_parent.as_deref().unwrap_or(CGROUP_PARENT))?,
            registries: self.registries.clone(),
            log: self.log.clone(),
        })
    }

    fn check_pod_cidrs(&self) -> Result<(), OptionsError> {
        let flag = "--pod-cidr";
        if self.pod_cidr.is_empty() {
            return Ok(());
        }
        per_family(flag, &self.pod_cidr)?;
        for net in &self.pod_cidr {
            let wrong = |problem, next| Err(OptionsError { flag, value: net.to_string(), problem, next });
            let mask = if net.addr().is_ipv4() { self.node_cidr_mask_ipv4 } else { self.node_cidr_mask_ipv6 };
            if !self.cluster_cidr.iter().any(|cluster| cluster.contains(net)) {
                return wrong("not in `--cluster-cidr`", "give a part of the cluster's range");
            }
            if net.prefix_len() != mask {
                return wrong(
                    "not as wide as `--node-cidr-mask-ipv4` or `-ipv6` says",
                    "give a range with that prefix length, or that option as well",
                );
            }
        }
        Ok(())
    }

    fn checked_marks(&self) -> Result<MarkBits, OptionsError> {
        MarkBits::new(self.packet_mark_mask, self.connection_mark_bit).map_err(|error| {
            let packet = "--packet-mark-mask";
            let (flag, bits, problem) = match error {
                MarkBitsError::Scratch(bits) => (packet, bits, "not one run of at least 4 adjacent bits"),
                MarkBitsError::KubeProxy(bits) => (packet, bits, "overlaps kube-proxy's 0x4000 or 0x8000"),
                MarkBitsError::Revoked(bits) => ("--connection-mark-bit", bits, "not a single bit"),
            };
            let next = "use for example 0xffff0000 and 0x80000000";
            OptionsError { flag, value: format!("{bits:#x}"), problem, next }
        })
    }

    fn checked_node_name(&self, default_name: &str) -> Result<String, OptionsError> {
        let name = self.node_name.clone().unwrap_or_else(|| default_name.to_ascii_lowercase());
        if name::dns_subdomain_problem(&name).is_some() {
            return Err(OptionsError {
                flag: "--node-name",
                value: name,
                problem: "not a name that a Node can have",
                next: "give one of lower case letters, digits, `-` and `.`",
            });
        }
        Ok(name)
    }
}

/// A number as masks are written: `0xff00`, or in decimal.
fn bits(text: &str) -> Result<u32, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|error| format!("{error}; give 32 bits, e.g. 0xffff0000"))
}

/// A range from the table of defaults, which a test holds valid.
fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_default()
}

fn per_family(flag: &'static str, nets: &[IpNet]) -> Result<(Option<Ipv4Net>, Option<Ipv6Net>), OptionsError> {
    let wrong = |value: &IpNet, problem, next| Err(OptionsError { flag, value: value.to_string(), problem, next });
    let (mut v4, mut v6) = (None, None);
    for net in nets {
        if net.trunc() != *net {
            return wrong(net, "has bits set behind its prefix", "give the first address of the range");
        }
        let twice = match net {
            IpNet::V4(net) => v4.replace(*net).is_some(),
            IpNet::V6(net) => v6.replace(*net).is_some(),
        };
        if twice {
            return wrong(net, "a second range of the same family", "give at most one range per family");
        }
    }
    if v4.is_none() && v6.is_none() {
        return Err(OptionsError {
            flag,
            value: String::new(),
            problem: "no range",
            next: "give one range per family, or leave the option out",
        });
    }
    Ok((v4, v6))
}

fn check_overlap(cluster: &[IpNet], service: &[IpNet]) -> Result<(), OptionsError> {
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    match service.iter().find(|s| cluster.iter().any(|c| overlaps(c, s))) {
        None => Ok(()),
        Some(net) => Err(OptionsError {
            flag: "--service-cidr",
            value: net.to_string(),
            problem: "overlaps `--cluster-cidr`",
            next: "give two ranges that share no address",
        }),
    }
}

fn check_mask(flag: &'static str, mask: u8, cluster: Option<u8>, most: u8) -> Result<(), OptionsError> {
    let wrong = |problem, next| Err(OptionsError { flag, value: mask.to_string(), problem, next });
    if mask > most {
        return wrong("leaves a node no addresses to give", "give fewer bits, e.g. 24 (IPv4) or 64 (IPv6)");
    }
    if cluster.is_some_and(|cluster| mask < cluster) {
        return wrong(
            "a node's range would be wider than `--cluster-cidr`",
            "give at least the cluster's prefix length",
        );
    }
    if cluster.is_some_and(|cluster| mask - cluster > 16) {
        return wrong("more than 65536 nodes", "give at most 16 bits more than `--cluster-cidr` has");
    }
    Ok(())
}

fn check_service_size(net: Option<IpNet>) -> Result<(), OptionsError> {
    let Some(net) = net else { return Ok(()) };
    let bits = net.max_prefix_len() - net.prefix_len();
    if (5..=20).contains(&bits) {
        return Ok(());
    }
    Err(OptionsError {
        flag: "--service-cidr",
        value: net.to_string(),
        problem: "a service range has between 32 and 1048576 addresses",
        next: "give a prefix length between /12 and /27 (IPv4) or /108 and /123 (IPv6)",
    })
}

fn check_node_ips(addresses: &[IpAddr]) -> Result<(), OptionsError> {
    let wrong = |address: &IpAddr, problem, next| {
        Err(OptionsError { flag: "--node-ip", value: address.to_string(), problem, next })
    };
    for (index, address) in addresses.iter().enumerate() {
        if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
            return wrong(address, "not an address that other nodes can reach", "give an address of an uplink");
        }
        if addresses[..index].iter().any(|a| a.is_ipv4() == address.is_ipv4()) {
            return wrong(address, "a second address of the same family", "give at most one address per family");
        }
    }
    Ok(())
}

fn check_cgroup(parent: &str) -> Result<String, OptionsError> {
    let path = parent.trim_matches('/');
    let ok = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    if path.split('/').all(ok) {
        return Ok(format!("/{path}"));
    }
    Err(OptionsError {
        flag: "--cgroup-parent",
        value: parent.to_owned(),
        problem: "not the path of a cgroup of its own",
        next: "give names of letters, digits, `-`, `_` and `.`, e.g. `minipod`",
    })
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::Options;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    /// The options of a command line, without the program's name.
    pub(in crate::node) fn options(args: &[&str]) -> Options {
        let args = ["minipod"].iter().chain(args);
        Command::try_parse_from(args).expect("options that clap takes").options
    }

    #[track_caller]
    fn refused(args: &[&str], expected: &str) {
        let error = options(args).check("host").expect_err("refused");
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn the_defaults_are_two_ranges_per_kind_and_the_host_name() {
        let settings = options(&[]).check("Box.Example").expect("the defaults work");
        assert_eq!(settings.node_name, "box.example");
        assert_eq!(settings.cluster_v4.map(|n| n.to_string()).as_deref(), Some("10.244.0.0/16"));
        assert_eq!(settings.cluster_v6.map(|n| n.to_string()).as_deref(), Some("fd00:10:244::/48"));
        assert_eq!(settings.service_v4.map(|n| n.to_string()).as_deref(), Some("10.96.0.0/16"));
        assert_eq!(settings.service_v6.map(|n| n.to_string()).as_deref(), Some("fd00:10:96::/112"));
        assert_eq!(settings.cgroup_parent, "/minipod");
    }

    #[test]
    fn one_family_alone_is_fine() {
        let settings = options(&["--cluster-cidr", "10.1.0.0/16", "--service-cidr", "10.2.0.0/20"])
            .check("host")
            .expect("IPv4 only");
        assert!(settings.cluster_v6.is_none() && settings.service_v6.is_none());
    }

    #[test]
    fn what_cannot_work_is_refused_by_flag_and_value() {
        refused(
            &["--cluster-cidr", "10.1.2.3/16"],
            "`--cluster-cidr 10.1.2.3/16`: has bits set behind its prefix; give the first address of the range",
        );
        refused(
            &["--cluster-cidr", "10.1.0.0/16,10.2.0.0/16"],
            "`--cluster-cidr 10.2.0.0/16`: a second range of the same family; give at most one range per family",
        );
        refused(
            &["--service-cidr", "10.244.8.0/24"],
            "`--service-cidr 10.244.8.0/24`: overlaps `--cluster-cidr`; give two ranges that share no address",
        );
        refused(
            &["--pod-cidr", "10.1.0.0/24"],
            "`--pod-cidr 10.1.0.0/24`: not in `--cluster-cidr`; give a part of the cluster's range",
        );
        refused(
            &["--pod-cidr", "10.244.0.0/20"],
            "`--pod-cidr 10.244.0.0/20`: not as wide as `--node-cidr-mask-ipv4` or `-ipv6` says; give a range with that prefix length, or \
             that option as well",
        );
        refused(
            &["--node-cidr-mask-ipv4", "12"],
            "`--node-cidr-mask-ipv4 12`: a node's range would be wider than `--cluster-cidr`; give at least the cluster's prefix length",
        );
        refused(
            &["--packet-mark-mask", "0xff00"],
            "`--packet-mark-mask 0xff00`: overlaps kube-proxy's 0x4000 or 0x8000; use for example 0xffff0000 and 0x80000000",
        );
        refused(
            &["--connection-mark-bit", "3"],
            "`--connection-mark-bit 0x3`: not a single bit; use for example 0xffff0000 and 0x80000000",
        );
        refused(
            &["--node-name", "a_b"],
            "`--node-name a_b`: not a name that a Node can have; give one of lower case letters, digits, `-` and `.`",
        );
        refused(
            &["--node-ip", "127.0.0.1"],
            "`--node-ip 127.0.0.1`: not an address that other nodes can reach; give an address of an uplink",
        );
        refused(
            &["--cgroup-parent", "../x"],
            "`--cgroup-parent ../x`: not the path of a cgroup of its own; give names of letters, digits, `-`, `_` and `.`, e.g. `minipod`",
        );
        refused(
            &["--run-dir", "run"],
            "`--run-dir run`: not an absolute path; give the whole path, e.g. `/run/minipod`",
        );
        refused(
            &["--run-dir", "/a", "--state-dir", "/a/b"],
            "`--state-dir /a/b`: inside `--run-dir` or around it; give two separate directories",
        );
    }
}
