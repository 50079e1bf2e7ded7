//! A service in words.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::text::Text;
use super::{labels, port_text};

/// As many endpoints of a port are shown.
const SHOWN: usize = 3;

/// The description; the slices are those of the service.
pub(super) fn describe(service: &Service, slices: &[EndpointSlice]) -> String {
    let spec = service.spec.clone().unwrap_or_default();
    let mut text = Text::default();
    text.field(0, "Name", service.metadata.name.as_deref().unwrap_or_default());
    text.field(0, "Namespace", service.metadata.namespace.as_deref().unwrap_or_default());
    text.list(0, "Labels", labels(service.metadata.labels.as_ref()));
    text.list(0, "Annotations", super::annotations(&service.metadata));
    text.field(0, "Selector", super::super::columns::pairs(spec.selector.as_ref(), ","));
    text.field(0, "Type", spec.type_.as_deref().unwrap_or("ClusterIP"));
    text.field(0, "IP Family Policy", spec.ip_family_policy.as_deref().unwrap_or("<none>"));
    text.field(0, "IP Families", spec.ip_families.as_ref().map_or("<none>".to_owned(), |f| f.join(",")));
    text.field(0, "IP", spec.cluster_ip.as_deref().unwrap_or("<none>"));
    text.field(0, "IPs", spec.cluster_ips.as_ref().map_or("<none>".to_owned(), |ips| ips.join(",")));
    if let Some(name) = &spec.external_name {
        text.field(0, "External Name", name);
    }
    for port in spec.ports.iter().flatten() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let name = port.name.as_deref().filter(|n| !n.is_empty()).unwrap_or("<unset>");
        text.line(format!("Port:\t{name}\t{}/{protocol}", port.port));
        text.field(0, "TargetPort", format!("{}/{protocol}", target(port)));
        if let Some(node_port) = port.node_port.filter(|p| *p != 0) {
            text.line(format!("NodePort:\t{name}\t{node_port}/{protocol}"));
        }
        text.field(0, "Endpoints", endpoints(slices, port));
    }
    text.field(0, "Session Affinity", spec.session_affinity.as_deref().unwrap_or("None"));
    if let Some(policy) = &spec.external_traffic_policy {
        text.field(0, "External Traffic Policy", policy);
    }
    text.field(0, "Internal Traffic Policy", spec.internal_traffic_policy.as_deref().unwrap_or("Cluster"));
    text.render()
}

fn target(port: &ServicePort) -> String {
    port.target_port.as_ref().map_or_else(|| port.port.to_string(), port_text)
}

/// Ready endpoints of the port.
fn endpoints(slices: &[EndpointSlice], port: &ServicePort) -> String {
    let same_name = |name: Option<&str>| name.unwrap_or_default() == port.name.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    for slice in slices {
        let Some(number) = slice.ports.iter().flatten().find(|p| same_name(p.name.as_deref())).and_then(|p| p.port)
        else {
            continue;
        };
        let ready =
            slice.endpoints.iter().flatten().filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
        for address in ready.flat_map(|e| &e.addresses) {
            found.push(if address.contains(':') {
                format!("[{address}]:{number}")
            } else {
                format!("{address}:{number}")
            });
        }
    }
    match found.len() {
        0 => "<none>".to_owned(),
        n if n > SHOWN => format!("{} + {} more...", found[..SHOWN].join(","), n - SHOWN),
        _ => found.join(","),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::describe;

    #[test]
    fn a_service_with_its_endpoints() {
        let service = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"type": "ClusterIP", "selector": {"app": "hello"}, "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
                     "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
                     "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]},
        }))
        .expect("a service");
        let slice = serde_json::from_value(json!({
            "metadata": {}, "addressType": "IPv4", "ports": [{"port": 8080}],
            "endpoints": [{"addresses": ["10.244.0.5"], "conditions": {"ready": true}}, {"addresses": ["10.244.0.6"], "conditions": {"ready": false}}],
        }))
        .expect("a slice");
        let expected = "\
Name:                     web
Namespace:                default
Labels:                   <none>
Annotations:              <none>
Selector:                 app=hello
Type:                     ClusterIP
IP Family Policy:         SingleStack
IP Families:              IPv4
IP:                       10.96.0.7
IPs:                      10.96.0.7
Port:                     <unset>  80/TCP
TargetPort:               8080/TCP
Endpoints:                10.244.0.5:8080
Session Affinity:         None
Internal Traffic Policy:  Cluster
";
        assert_eq!(describe(&service, &[slice]), expected);
    }
}
