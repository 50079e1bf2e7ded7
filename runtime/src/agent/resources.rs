//! Limits and requests: a container's for its cgroup, the pod's for the cgroup around them, and the pod's quality of service
//! (kubelet `cm/helpers_linux.go`, `apis/core/v1/helper/qos`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use minipod_model::Quantity;
use minipod_model::quantity::InvalidQuantity;
use minipod_protocol::shim::Resources;

/// Processes and threads of a whole pod: enough for anything that serves, and a fork bomb ends there.
pub(super) const POD_PIDS: u64 = 8192;

/// The limits of one container.
pub(super) fn of_container(container: &Container) -> Result<Resources, InvalidQuantity> {
    let limit = |name| amount(container, Side::Limits, name);
    let request = |name| amount(container, Side::Requests, name);
    Ok(Resources {
        memory_bytes: limit("memory")?.map(units).filter(|bytes| *bytes > 0),
        cpu_millis: limit("cpu")?.map(millis).filter(|millis| *millis > 0),
        cpu_request_millis: request("cpu")?.or(limit("cpu")?).map(millis),
        pids: None,
    })
}

/// The limits of a pod: a limit holds for the whole pod only if every container has one.
pub(super) fn of_pod(spec: &PodSpec) -> Result<Resources, InvalidQuantity> {
    let containers = spec.containers.iter().map(of_container).collect::<Result<Vec<_>, _>>()?;
    let inits = spec.init_containers.iter().flatten().map(of_container).collect::<Result<Vec<_>, _>>()?;
    // Init containers run one after the other and before the others: the largest of them or the sum of the others.
    let total = |field: fn(&Resources) -> Option<u64>| {
        let sum = containers.iter().map(field).sum::<Option<u64>>()?;
        let init = inits.iter().map(field).collect::<Option<Vec<_>>>()?.into_iter().max().unwrap_or(0);
        Some(sum.max(init))
    };
    let requests = containers.iter().filter_map(|r| r.cpu_request_millis).sum::<u64>();
    Ok(Resources {
        memory_bytes: total(|r| r.memory_bytes),
        cpu_millis: total(|r| r.cpu_millis),
        cpu_request_millis: (requests > 0).then_some(requests),
        pids: Some(POD_PIDS),
    })
}

/// `status.qosClass`.
pub(super) fn qos_class(spec: &PodSpec) -> &'static str {
    let all: Vec<&Container> = spec.containers.iter().chain(spec.init_containers.iter().flatten()).collect();
    let value = |container, side, name| amount(container, side, name).ok().flatten().filter(|q| q.millis() > 0);
    let names = ["cpu", "memory"];
    let none = all.iter().all(|c| {
        names.iter().all(|name| value(c, Side::Limits, name).is_none() && value(c, Side::Requests, name).is_none())
    });
    if none {
        return "BestEffort";
    }
    let guaranteed = all.iter().all(|c| {
        names.iter().all(|name| {
            let limit = value(c, Side::Limits, name);
            limit.is_some() && value(c, Side::Requests, name).or(limit) == limit
        })
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

#[derive(Clone, Copy)]
enum Side {
    Limits,
    Requests,
}

fn amount(container: &Container, side: Side, name: &str) -> Result<Option<Quantity>, InvalidQuantity> {
    let Some(resources) = &container.resources else { return Ok(None) };
    let map: Option<&BTreeMap<String, Text>> = match side {
        Side::Limits => resources.limits.as_ref(),
        Side::Requests => resources.requests.as_ref(),
    };
    map.and_then(|map| map.get(name)).map(|text| text.0.parse()).transpose()
}

fn units(quantity: Quantity) -> u64 {
    u64::try_from(quantity.units()).unwrap_or(0)
}

fn millis(quantity: Quantity) -> u64 {
    u64::try_from(quantity.millis()).unwrap_or(0)
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases are written in place")]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;
    use minipod_protocol::shim::Resources;
    use serde_json::json;

    use super::{POD_PIDS, of_container, of_pod, qos_class};

    fn spec(containers: serde_json::Value, inits: serde_json::Value) -> PodSpec {
        serde_json::from_value(json!({"containers": containers, "initContainers": inits})).expect("a spec")
    }

    #[test]
    fn a_container_gets_its_limits() {
        let spec = spec(
            json!([{"name": "a", "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}, "requests": {"cpu": "0.1"}}}]),
            json!([]),
        );
        let expected = Resources {
            memory_bytes: Some(64 << 20),
            cpu_millis: Some(500),
            cpu_request_millis: Some(100),
            pids: None,
        };
        assert_eq!(of_container(&spec.containers[0]), Ok(expected));
    }

    #[test]
    fn a_pod_is_limited_where_all_its_containers_are() {
        let limits = |memory: &str, cpu: &str| json!({"limits": {"memory": memory, "cpu": cpu}});
        let both = spec(
            json!([{"name": "a", "resources": limits("1Mi", "1")}, {"name": "b", "resources": limits("2Mi", "1")}]),
            json!([{"name": "i", "resources": limits("8Mi", "500m")}]),
        );
        let expected = Resources {
            memory_bytes: Some(8 << 20),
            cpu_millis: Some(2000),
            cpu_request_millis: Some(2000),
            pids: Some(POD_PIDS),
        };
        assert_eq!(of_pod(&both), Ok(expected));
        let one = spec(json!([{"name": "a", "resources": limits("1Mi", "1")}, {"name": "b"}]), json!([]));
        assert_eq!(of_pod(&one).map(|r| (r.memory_bytes, r.cpu_millis)), Ok((None, None)));
    }

    #[test]
    fn the_quality_of_service_is_kubernetes() {
        #[track_caller]
        fn check(resources: serde_json::Value, expected: &str) {
            assert_eq!(qos_class(&spec(json!([{"name": "a", "resources": resources}]), json!([]))), expected);
        }
        check(json!({}), "BestEffort");
        check(json!({"requests": {"cpu": "0"}}), "BestEffort");
        check(json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed");
        check(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}), "Guaranteed");
        check(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}), "Burstable");
        check(json!({"limits": {"memory": "1Gi"}}), "Burstable");
        check(json!({"requests": {"memory": "1Gi"}}), "Burstable");
    }

    #[test]
    fn a_limit_that_is_no_quantity_is_an_error() {
        let spec = spec(json!([{"name": "a", "resources": {"limits": {"memory": "much"}}}]), json!([]));
        assert!(of_pod(&spec).is_err());
    }
}
