//! `resolv.conf`: what a pod gets, and which resolvers the node has (resolv.conf(5)).

use std::net::IpAddr;

use minipod_model::defaults::CLUSTER_DOMAIN;
use minipod_protocol::netd::Dns;

/// The resolver settings of a pod of `namespace`: the cluster DNS, and a search list that finds services by `NAME`, `NAME.NAMESPACE` and
/// `NAME.NAMESPACE.svc`. Without a cluster DNS there is nothing to say.
#[must_use]
pub fn pod_dns(namespace: &str, cluster_dns: &[IpAddr]) -> Dns {
    if cluster_dns.is_empty() {
        return Dns::default();
    }
    Dns {
        nameservers: cluster_dns.to_vec(),
        search: vec![
            format!("{namespace}.svc.{CLUSTER_DOMAIN}"),
            format!("svc.{CLUSTER_DOMAIN}"),
            CLUSTER_DOMAIN.to_owned(),
        ],
        options: vec!["ndots:5".to_owned()],
    }
}

/// The `nameserver` lines of a `resolv.conf`. Link-local addresses with a scope (`fe80::1%eth0`) are left out: they mean something on one link
/// only.
#[must_use]
pub fn nameservers(text: &str) -> Vec<IpAddr> {
    let values = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    values.filter_map(|value| value.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{nameservers, pod_dns};

    #[test]
    fn a_pod_searches_its_namespace_first() {
        let dns = pod_dns("web", &["10.96.0.10".parse().expect("an address")]);
        assert_eq!(dns.search, ["web.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!(dns.options, ["ndots:5"]);
        assert_eq!(pod_dns("web", &[]), minipod_protocol::netd::Dns::default());
    }

    #[test]
    fn only_nameserver_lines_count() {
        let text = "# nameserver 192.0.2.9\nsearch example.com\nnameserver 192.0.2.1\n  nameserver\t2001:db8::1 # second\n\
                    nameserver fe80::1%eth0\nnameserver\nnameservers 192.0.2.8\n";
        let expected: Vec<IpAddr> =
            ["192.0.2.1", "2001:db8::1"].iter().map(|ip| ip.parse().expect("an address")).collect();
        assert_eq!(nameservers(text), expected);
    }
}
