//! The numbers and names that all parts agree on, and that a person finds in the kernel.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Pod addresses of the cluster; a node gets a /24 of it.
pub const CLUSTER_CIDR_V4: &str = "10.244.0.0/16";
/// Pod addresses of the cluster; a node gets a /64 of it.
pub const CLUSTER_CIDR_V6: &str = "fd00:10:244::/48";
/// Prefix length of a node's IPv4 range.
pub const NODE_CIDR_MASK_V4: u8 = 24;
/// Prefix length of a node's IPv6 range.
pub const NODE_CIDR_MASK_V6: u8 = 64;
/// Cluster IPs of services.
pub const SERVICE_CIDR_V4: &str = "10.96.0.0/16";
/// Cluster IPs of services.
pub const SERVICE_CIDR_V6: &str = "fd00:10:96::/112";
/// The cluster DNS is the tenth address of the service range, as with kubeadm.
pub const CLUSTER_DNS_OFFSET: u32 = 10;
/// The domain that the cluster DNS answers for.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// A pod's IPv4 default gateway: link-local, the same in every pod, bound to no interface of the node.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// A pod's IPv6 default gateway.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The routing protocol number of our routes (`rtm_protocol`, shown by `ip route` as `proto 109`); free in
/// `/etc/iproute2/rt_protos` of the common distributions.
pub const ROUTE_PROTOCOL: u8 = 109;

/// Where VXLAN is spoken between nodes: the port that IANA gave it (RFC 7348, section 8), which firewalls and network cards
/// know. Linux' own default, 8472, is older than the RFC.
pub const VXLAN_PORT: u16 = 4789;
/// The network identifier between nodes: "mp" in ASCII, hardly anybody else's.
pub const VXLAN_ID: u32 = 0x6d70;

/// The group (NFLOG) to which the kernel tells of dropped packets: "mp" in ASCII, hardly anybody else's.
pub const DROPS_GROUP: u16 = 0x6d70;

/// Chains of ours begin with this.
pub const CHAIN_PREFIX: &str = "MP-";
/// Sets of ours begin with this.
pub const SET_PREFIX: &str = "mp-";

/// Sockets and what lives for one boot.
pub const RUN_DIR: &str = "/run/minipod";
/// The store, images and logs.
pub const STATE_DIR: &str = "/var/lib/minipod";
/// The API server's socket in [`RUN_DIR`].
pub const API_SOCKET: &str = "api.sock";
/// netd's socket in [`RUN_DIR`].
pub const NETD_SOCKET: &str = "netd.sock";

/// Namespace of the virtual pod that stands for the cluster DNS (semantics, ruling 19).
pub const DNS_NAMESPACE: &str = "kube-system";
/// Name of the cluster DNS service and of the virtual pod.
pub const DNS_NAME: &str = "kube-dns";
/// Label of the virtual pod that stands for the cluster DNS.
pub const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");

/// The default of where a CNI configuration puts the pod's interface.
pub const POD_IFNAME: &str = "eth0";
