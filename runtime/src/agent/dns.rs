//! A pod's `resolv.conf` by `dnsPolicy` and `dnsConfig` (kubelet `network/dns/dns.go`).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};
use minipod_model::defaults::CLUSTER_DOMAIN;

/// What the node knows about names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodeDns {
    /// addresses of the cluster DNS
    pub(super) cluster: Vec<IpAddr>,
    /// the node's own `resolv.conf`
    pub(super) resolv_conf: String,
}

/// A `resolv.conf` that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DnsError {
    /// `dnsPolicy: None` without name servers
    #[error("`dnsPolicy: None` needs at least one address in `dnsConfig.nameservers`")]
    NoNameservers,
    /// an unknown policy
    #[error("unknown `dnsPolicy: {0}`: use ClusterFirst, ClusterFirstWithHostNet, Default or None")]
    UnknownPolicy(String),
}

#[derive(Debug, Default)]
struct Resolver {
    nameservers: Vec<String>,
    search: Vec<String>,
    options: Vec<(String, Option<String>)>,
}

/// The pod's `resolv.conf`; `None` where netd's answer to the attach says it all.
pub(super) fn resolv_conf(spec: &PodSpec, namespace: &str, node: &NodeDns) -> Result<Option<String>, DnsError> {
    let host_network = spec.host_network.unwrap_or(false);
    let config = spec.dns_config.as_ref();
    let mut resolver = match (spec.dns_policy.as_deref().unwrap_or("ClusterFirst"), host_network) {
        ("ClusterFirst" | "ClusterFirstWithHostNet", false) if config.is_none() => return Ok(None),
        ("ClusterFirst", false) | ("ClusterFirstWithHostNet", _) => cluster_first(namespace, node),
        ("ClusterFirst", true) | ("Default", _) => parse(&node.resolv_conf),
        ("None", _) if config.and_then(|c| c.nameservers.as_ref()).is_none_or(Vec::is_empty) => {
            return Err(DnsError::NoNameservers);
        }
        ("None", _) => Resolver::default(),
        (other, _) => return Err(DnsError::UnknownPolicy(other.to_owned())),
    };
    if let Some(config) = config {
        append(&mut resolver, config);
    }
    Ok(Some(write(&resolver)))
}

fn cluster_first(namespace: &str, node: &NodeDns) -> Resolver {
    let mut search =
        vec![format!("{namespace}.svc.{CLUSTER_DOMAIN}"), format!("svc.{CLUSTER_DOMAIN}"), CLUSTER_DOMAIN.to_owned()];
    search.extend(parse(&node.resolv_conf).search);
    Resolver {
        nameservers: node.cluster.iter().map(ToString::to_string).collect(),
        search,
        options: vec![("ndots".to_owned(), Some("5".to_owned()))],
    }
}

fn append(resolver: &mut Resolver, config: &PodDNSConfig) {
    resolver.nameservers.extend(config.nameservers.iter().flatten().cloned());
    resolver.search.extend(config.searches.iter().flatten().cloned());
    for option in config.options.iter().flatten() {
        let Some(name) = &option.name else { continue };
        let value = option.value.clone().filter(|value| !value.is_empty());
        match resolver.options.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => resolver.options.push((name.clone(), value)),
        }
    }
}

/// resolv.conf(5); unknown keywords are left out.
fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_owned)),
            // The last of several counts.
            Some("search") => resolver.search = words.filter(|word| *word != ".").map(str::to_owned).collect(),
            Some("options") => resolver.options.extend(words.map(|word| match word.split_once(':') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            })),
            _ => {}
        }
    }
    resolver
}

fn write(resolver: &Resolver) -> String {
    let mut seen = Vec::new();
    let mut unique = |word: &String| {
        !seen.contains(word) && {
            seen.push(word.clone());
            true
        }
    };
    // glibc reads three name servers.
    let nameservers: Vec<&String> = resolver.nameservers.iter().filter(|word| unique(word)).take(3).collect();
    let search: Vec<&str> = resolver.search.iter().filter(|word| unique(word)).map(String::as_str).collect();
    let mut lines: Vec<String> = nameservers.iter().map(|address| format!("nameserver {address}")).collect();
    if !search.is_empty() {
        lines.push(format!("search {}", search.join(" ")));
    }
    if !resolver.options.is_empty() {
        let option = |(name, value): &(String, Option<String>)| match value {
            Some(value) => format!("{name}:{value}"),
            None => name.clone(),
        };
        lines.push(format!("options {}", resolver.options.iter().map(option).collect::<Vec<_>>().join(" ")));
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases are written in place")]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;
    use serde_json::json;

    use super::{DnsError, NodeDns, resolv_conf};

    const HOST: &str = "# by hand\nnameserver 192.0.2.53\nsearch example.org\noptions edns0 ndots:1\n";

    #[track_caller]
    fn check(spec: serde_json::Value, expected: Result<Option<&str>, DnsError>) {
        let mut whole = json!({"containers": []});
        whole.as_object_mut().expect("a map").extend(spec.as_object().expect("a map").clone());
        let spec: PodSpec = serde_json::from_value(whole).expect("a spec");
        let node = NodeDns { cluster: vec!["10.96.0.10".parse().expect("an address")], resolv_conf: HOST.into() };
        assert_eq!(resolv_conf(&spec, "shop", &node), expected.map(|text| text.map(str::to_owned)));
    }

    #[test]
    fn each_policy_has_its_resolv_conf() {
        check(json!({}), Ok(None));
        check(json!({"dnsPolicy": "ClusterFirst"}), Ok(None));
        let host = "nameserver 192.0.2.53\nsearch example.org\noptions edns0 ndots:1\n";
        check(json!({"dnsPolicy": "Default"}), Ok(Some(host)));
        check(json!({"hostNetwork": true}), Ok(Some(host)));
        let cluster = "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local example.org\noptions ndots:5\n";
        check(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), Ok(Some(cluster)));
    }

    #[test]
    fn dns_config_is_added_and_its_options_win() {
        check(
            json!({"dnsConfig": {"nameservers": ["192.0.2.1"], "searches": ["a.example"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
            Ok(Some(
                "nameserver 10.96.0.10\nnameserver 192.0.2.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local example.org a.example\noptions ndots:2 edns0\n",
            )),
        );
        check(
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"]}}),
            Ok(Some("nameserver 192.0.2.1\n")),
        );
    }

    #[test]
    fn what_cannot_be_resolved_is_refused() {
        check(json!({"dnsPolicy": "None"}), Err(DnsError::NoNameservers));
        check(json!({"dnsPolicy": "Often"}), Err(DnsError::UnknownPolicy("Often".into())));
    }
}
