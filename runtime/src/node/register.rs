//! The Node object of this machine: which ranges its pods get, and what it says of the machine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::machine::Machine;
use super::options::Settings;

/// Pods that a node is said to take; nothing enforces it but the size of its range.
const PODS: &str = "250";

/// The Node's annotation with its service ranges, comma separated.
const SERVICES: &str = "minipod.local/service-cidrs";

/// Why the node is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// the store knows this node with another range
    #[error(
        "node `{node}` has the pod range `{stored}`, which is not in `--cluster-cidr` {cluster:?} with `{flag} {mask}`: give the options \
         of the first start, or remove everything with `minipod node reset --yes`"
    )]
    OtherRange {
        /// the node
        node: String,
        /// in the store
        stored: IpNet,
        /// as configured
        cluster: Vec<IpNet>,
        /// the option of the prefix length
        flag: &'static str,
        /// its value
        mask: u8,
    },
    /// the store knows this node with another range than is given
    #[error(
        "node `{node}` has the pod range `{stored}`, not `--pod-cidr {given}`: leave the option out, or remove everything with \
         `minipod node reset --yes`"
    )]
    OtherPodCidr {
        /// the node
        node: String,
        /// in the store
        stored: IpNet,
        /// as configured
        given: IpNet,
    },
    /// the range is another node's
    #[error("`--pod-cidr {range}` of node `{node}` overlaps the range of another Node: give one that is free")]
    Taken {
        /// the node
        node: String,
        /// the range
        range: IpNet,
    },
    /// the store knows this node with another service range
    #[error(
        "node `{node}` has the service range `{stored}`, which is not in `--service-cidr` {given:?}: its services and pods keep addresses \
         of it; give the options of the first start, or remove everything with `minipod node reset --yes`"
    )]
    OtherServices {
        /// the node
        node: String,
        /// in the store
        stored: IpNet,
        /// as configured
        given: Vec<IpNet>,
    },
    /// the store is that of another node than the state directory says
    #[error(
        "`{}` says that this is node `{node}`, but the store knows only `{}`: write that into the file, or remove everything with \
         `minipod node reset --yes`", .file.display(), .known.join("`, `")
    )]
    OtherNode {
        /// what the file says
        node: String,
        /// where the name is kept
        file: PathBuf,
        /// the nodes in the store
        known: Vec<String>,
    },
    /// no range is left
    #[error(
        "the cluster range `{cluster}` has no free `/{mask}` for node `{node}`: widen `--cluster-cidr` or remove Node objects that are gone"
    )]
    Exhausted {
        /// the node
        node: String,
        /// the range
        cluster: IpNet,
        /// the prefix length
        mask: u8,
    },
    /// the API refused
    #[error("cannot write the Node object `{node}`")]
    Api {
        /// the node
        node: String,
        /// what it said
        #[source]
        source: Box<kube::Error>,
    },
}

/// What a registration has to agree with.
pub(super) struct Earlier {
    /// the service ranges of the options, also those of a family that the host does not have now
    pub(super) services: Vec<IpNet>,
    /// whether an earlier start has kept the node's name
    pub(super) named: bool,
    /// the ranges that this node's pods have, where it was registered before by this daemon
    pub(super) ranges: Vec<IpNet>,
}

/// What the Node says of itself in its condition `Ready`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readiness {
    /// the daemon is starting
    Starting,
    /// the node takes pods
    Ready,
    /// the kernel does not enforce policies as it should: why
    NotEnforcing(String),
    /// the daemon was stopped
    Stopped,
}

/// Writes the Node object, and says which pod ranges the node has, IPv4 first. Ranges that it has had before stay, and those that its
/// pods have.
pub(super) async fn register(
    client: &Client,
    settings: &Settings,
    earlier: &Earlier,
    machine: &Machine,
    addresses: &[IpAddr],
    hostname: &str,
) -> Result<Vec<IpNet>, RegisterError> {
    let name = &settings.node_name;
    let failed = |error: kube::Error| RegisterError::Api { node: name.clone(), source: Box::new(error) };
    let api: Api<Node> = Api::all(client.clone());
    let all = api.list(&kube::api::ListParams::default()).await.map_err(failed)?.items;
    let own = all.iter().find(|node| node.name_any() == *name);
    if earlier.named && own.is_none() && earlier.ranges.is_empty() && !all.is_empty() {
        let known = all.iter().map(kube::ResourceExt::name_any).collect();
        return Err(RegisterError::OtherNode { node: name.clone(), file: settings.directories.node_name(), known });
    }
    let annotations = annotations(name, own, &earlier.services)?;
    let known = [own.map(pod_cidrs), Some(earlier.ranges.clone())];
    let ranges = if let Some(ranges) = known.into_iter().flatten().find(|ranges| !ranges.is_empty()) {
        check_ranges(ranges, settings)?
    } else {
        let taken: Vec<IpNet> = all.iter().flat_map(pod_cidrs).collect();
        choose_ranges(settings, &taken)?
    };
    let labels = labels(settings, hostname);
    let cidrs: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    if own.is_some() {
        let patch = json!({
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs},
        });
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(failed)?;
    } else {
        let spec = NodeSpec { pod_cidr: cidrs.first().cloned(), pod_cidrs: Some(cidrs), ..NodeSpec::default() };
        let (labels, annotations) = (Some(labels), Some(annotations));
        let metadata = ObjectMeta { name: Some(name.clone()), labels, annotations, ..ObjectMeta::default() };
        let node = Node { metadata, spec: Some(spec), status: None };
        api.create(&PostParams::default(), &node).await.map_err(failed)?;
    }
    write_status(client, settings, machine, addresses, hostname, &Readiness::Starting).await?;
    Ok(ranges)
}

/// Says in the Node's status what the machine is, and whether the node is ready.
pub(super) async fn write_status(
    client: &Client,
    settings: &Settings,
    machine: &Machine,
    addresses: &[IpAddr],
    hostname: &str,
    ready: &Readiness,
) -> Result<(), RegisterError> {
    let name = &settings.node_name;
    let failed = |error: kube::Error| RegisterError::Api { node: name.clone(), source: Box::new(error) };
    let api: Api<Node> = Api::all(client.clone());
    let old = api.get(name).await.map_err(failed)?;
    let status = compile_status(&old, machine, addresses, hostname, ready, Timestamp::now());
    let patch = json!({"status": status});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(failed)?;
    Ok(())
}

fn labels(settings: &Settings, hostname: &str) -> BTreeMap<String, String> {
    let os = "linux";
    let arch = minipod_image::config::host_architecture();
    let pairs = [
        ("kubernetes.io/hostname", if hostname.is_empty() { settings.node_name.as_str() } else { hostname }),
        ("kubernetes.io/os", os),
        ("kubernetes.io/arch", arch),
    ];
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// What the Node keeps beside its spec: the service ranges, from which services and resolvers of pods have their addresses. A
/// family may be added.
fn annotations(name: &str, own: Option<&Node>, services: &[IpNet]) -> Result<BTreeMap<String, String>, RegisterError> {
    let kept = own.and_then(|node| node.annotations().get(SERVICES)).map(String::as_str).unwrap_or_default();
    let missing = kept.split(',').filter_map(|text| text.parse::<IpNet>().ok()).find(|net| !services.contains(net));
    if let Some(stored) = missing {
        return Err(RegisterError::OtherServices { node: name.to_owned(), stored, given: services.to_vec() });
    }
    let text: Vec<String> = services.iter().map(ToString::to_string).collect();
    Ok([(SERVICES.to_owned(), text.join(","))].into())
}

fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten().filter_map(|cidr| cidr.parse().ok()).collect()
}

fn check_ranges(ranges: Vec<IpNet>, settings: &Settings) -> Result<Vec<IpNet>, RegisterError> {
    for given in &settings.pod_cidrs {
        let of_family = |stored: &&IpNet| stored.addr().is_ipv4() == given.addr().is_ipv4();
        if let Some(stored) = ranges.iter().find(of_family).filter(|stored| *stored != given) {
            return Err(RegisterError::OtherPodCidr {
                node: settings.node_name.clone(),
                stored: *stored,
                given: *given,
            });
        }
    }
    let cluster: Vec<IpNet> =
        settings.cluster_v4.map(IpNet::V4).into_iter().chain(settings.cluster_v6.map(IpNet::V6)).collect();
    for stored in &ranges {
        let (flag, mask) = match stored {
            IpNet::V4(_) => ("--node-cidr-mask-ipv4", settings.node_mask_v4),
            IpNet::V6(_) => ("--node-cidr-mask-ipv6", settings.node_mask_v6),
        };
        if stored.prefix_len() != mask || !cluster.iter().any(|net| net.contains(stored)) {
            let node = settings.node_name.clone();
            return Err(RegisterError::OtherRange { node, stored: *stored, cluster, flag, mask });
        }
    }
    Ok(ranges)
}

fn choose_ranges(settings: &Settings, taken: &[IpNet]) -> Result<Vec<IpNet>, RegisterError> {
    let free = |candidate: &IpNet| !taken.iter().any(|t| t.contains(candidate) || candidate.contains(t));
    let given = |v4: bool| settings.pod_cidrs.iter().copied().find(|net| net.addr().is_ipv4() == v4);
    if let Some(range) = settings.pod_cidrs.iter().find(|given| !free(given)) {
        return Err(RegisterError::Taken { node: settings.node_name.clone(), range: *range });
    }
    let exhausted = |cluster: IpNet, mask| RegisterError::Exhausted { node: settings.node_name.clone(), cluster, mask };
    let mut ranges = Vec::new();
    if let Some(cluster) = settings.cluster_v4 {
        let mask = settings.node_mask_v4;
        let subnets = cluster.subnets(mask).into_iter().flatten().map(|net: Ipv4Net| IpNet::V4(net));
        let range = given(true).or_else(|| subnets.into_iter().find(free));
        ranges.push(range.ok_or_else(|| exhausted(cluster.into(), mask))?);
    }
    if let Some(cluster) = settings.cluster_v6 {
        let mask = settings.node_mask_v6;
        let subnets = cluster.subnets(mask).into_iter().flatten().map(|net: Ipv6Net| IpNet::V6(net));
        let range = given(false).or_else(|| subnets.into_iter().find(free));
        ranges.push(range.ok_or_else(|| exhausted(cluster.into(), mask))?);
    }
    Ok(ranges)
}

fn compile_status(
    old: &Node,
    machine: &Machine,
    addresses: &[IpAddr],
    hostname: &str,
    ready: &Readiness,
    now: Timestamp,
) -> NodeStatus {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let mut shown: Vec<NodeAddress> = addresses.iter().map(|ip| address("InternalIP", ip.to_string())).collect();
    if !hostname.is_empty() {
        shown.push(address("Hostname", hostname.to_owned()));
    }
    let capacity: BTreeMap<String, Quantity> =
        [("cpu", machine.cpus.to_string()), ("memory", format!("{}Ki", machine.memory_kib)), ("pods", PODS.to_owned())]
            .map(|(name, value)| (name.to_owned(), Quantity(value)))
            .into();
    let version = format!("minipod://{}", env!("CARGO_PKG_VERSION"));
    NodeStatus {
        addresses: Some(shown),
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        conditions: Some(vec![ready_condition(old, ready, now)]),
        daemon_endpoints: Some(NodeDaemonEndpoints::default()),
        node_info: Some(NodeSystemInfo {
            architecture: minipod_image::config::host_architecture().to_owned(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: version,
            kernel_version: machine.kernel_version.clone(),
            // No part of Kubernetes runs here: the version is the one whose API is served.
            kube_proxy_version: String::new(),
            kubelet_version: format!("v1.36.0+minipod-{}", env!("CARGO_PKG_VERSION")),
            machine_id: machine.id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

fn ready_condition(old: &Node, ready: &Readiness, now: Timestamp) -> NodeCondition {
    let (status, reason, message) = match ready {
        Readiness::Starting => ("False", "NodeStarting", "the node's daemon is starting".to_owned()),
        Readiness::Ready => ("True", "NodeReady", "the node takes pods".to_owned()),
        Readiness::NotEnforcing(why) => {
            ("False", "NetworkNotEnforced", format!("the kernel does not enforce the newest state: {why}"))
        }
        Readiness::Stopped => ("False", "NodeStopped", "the node's daemon was stopped; its pods go on".to_owned()),
    };
    let time = Timestamp::from_second(now.as_second()).ok().map(Time);
    let known = old.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let same = known.into_iter().find(|condition| condition.type_ == "Ready" && condition.status == status);
    NodeCondition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_heartbeat_time: time.clone(),
        last_transition_time: same.and_then(|condition| condition.last_transition_time.clone()).or(time),
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use k8s_openapi::api::core::v1::Node;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::{RegisterError, annotations, check_ranges, choose_ranges};
    use crate::node::options::Settings;
    use crate::node::options::tests::options;

    fn settings(args: &[&str]) -> Settings {
        options(args).check("n1").expect("options that work")
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a range")).collect()
    }

    #[test]
    fn another_service_range_than_before_is_refused_and_a_family_may_be_added() {
        let (v4, both) = (nets(&["10.96.0.0/16"]), nets(&["10.96.0.0/16", "fd00:10:96::/112"]));
        let node = |services: &[IpNet]| {
            let annotations = Some(annotations("n1", None, services).expect("a new node"));
            Node { metadata: ObjectMeta { annotations, ..ObjectMeta::default() }, ..Node::default() }
        };
        annotations("n1", Some(&node(&v4)), &v4).expect("the same");
        annotations("n1", Some(&node(&v4)), &both).expect("one more");
        annotations("n1", Some(&Node::default()), &v4).expect("nothing is kept");
        for (kept, given, stored) in
            [(&v4, nets(&["10.97.0.0/16"]), "`10.96.0.0/16`"), (&both, v4.clone(), "`fd00:10:96::/112`")]
        {
            let error = annotations("n1", Some(&node(kept)), &given).expect_err("another").to_string();
            assert!(error.contains(stored), "{error}");
        }
    }

    #[test]
    fn a_node_takes_the_first_free_ranges() {
        let settings = settings(&[]);
        let first = choose_ranges(&settings, &[]).expect("free");
        assert_eq!(first, nets(&["10.244.0.0/24", "fd00:10:244::/64"]));
        let second = choose_ranges(&settings, &first).expect("free");
        assert_eq!(second, nets(&["10.244.1.0/24", "fd00:10:244:1::/64"]));
    }

    #[test]
    fn a_node_takes_the_ranges_that_it_is_given_and_keeps_them() {
        let given = settings(&["--pod-cidr", "10.244.7.0/24"]);
        let ranges = choose_ranges(&given, &[]).expect("free");
        assert_eq!(ranges, nets(&["10.244.7.0/24", "fd00:10:244::/64"]));
        check_ranges(ranges.clone(), &given).expect("the same");
        check_ranges(ranges.clone(), &settings(&[])).expect("nothing is given");
        let error = check_ranges(ranges.clone(), &settings(&["--pod-cidr", "10.244.8.0/24"])).expect_err("another");
        assert!(matches!(error, RegisterError::OtherPodCidr { .. }), "{error}");
        let error = choose_ranges(&given, &ranges).expect_err("taken");
        assert!(matches!(error, RegisterError::Taken { .. }), "{error}");
    }

    #[test]
    fn a_full_cluster_range_is_an_error() {
        let settings = settings(&["--cluster-cidr", "10.1.0.0/24"]);
        let error = choose_ranges(&settings, &nets(&["10.1.0.0/24"])).expect_err("full");
        assert!(matches!(error, RegisterError::Exhausted { .. }), "{error}");
    }

    #[test]
    fn other_ranges_than_before_are_refused() {
        let stored = nets(&["10.244.0.0/24", "fd00:10:244::/64"]);
        assert_eq!(check_ranges(stored.clone(), &settings(&[])).expect("the same"), stored);
        let moved = settings(&["--cluster-cidr", "10.9.0.0/16,fd00:10:244::/48"]);
        assert!(check_ranges(stored.clone(), &moved).expect_err("moved").to_string().contains("`10.244.0.0/24`"));
        let wider = settings(&["--node-cidr-mask-ipv4", "23"]);
        assert!(check_ranges(stored, &wider).is_err());
    }
}
