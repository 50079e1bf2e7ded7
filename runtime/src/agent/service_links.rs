//! The environment variables that tell a container of services (Kubernetes `pkg/kubelet/envvars/envvars.go`): host and port of each, and
//! what Docker's links once said. Pure.

use k8s_openapi::api::core::v1::{Service, ServicePort};

/// The variables of these services, in their order. A service without a cluster address has none.
pub(super) fn variables<'a>(services: impl IntoIterator<Item = &'a Service>) -> Vec<(String, String)> {
    services.into_iter().flat_map(of_service).collect()
}

fn of_service(service: &Service) -> Vec<(String, String)> {
    let spec = service.spec.as_ref();
    let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).filter(|ip| !matches!(*ip, "" | "None"));
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let (Some(address), Some(first)) = (address, ports.first()) else { return Vec::new() };
    let prefix = variable_name(service.metadata.name.as_deref().unwrap_or_default());
    let mut variables = vec![
        (format!("{prefix}_SERVICE_HOST"), address.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            variables.push((format!("{prefix}_SERVICE_PORT_{}", variable_name(name)), port.port.to_string()));
        }
    }
    variables.push((format!("{prefix}_PORT"), url(address, first)));
    variables.extend(ports.iter().flat_map(|port| of_link(&prefix, address, port)));
    variables
}

fn of_link(prefix: &str, address: &str, port: &ServicePort) -> [(String, String); 4] {
    let protocol = protocol(port);
    let prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
    [
        (prefix.clone(), url(address, port)),
        (format!("{prefix}_PROTO"), protocol),
        (format!("{prefix}_PORT"), port.port.to_string()),
        (format!("{prefix}_ADDR"), address.to_owned()),
    ]
}

fn url(address: &str, port: &ServicePort) -> String {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("{}://{host}:{}", protocol(port), port.port)
}

fn protocol(port: &ServicePort) -> String {
    port.protocol.as_deref().unwrap_or("TCP").to_lowercase()
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    use super::variables;

    fn lines(name: &str, spec: &Value) -> Vec<String> {
        let service: Service =
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a service");
        variables([&service]).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn a_service_is_told_as_kubernetes_tells_it() {
        let ports = json!([{"name": "http-x", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
        let expected = [
            "HELLO_WEB_SERVICE_HOST=10.96.0.7",
            "HELLO_WEB_SERVICE_PORT=80",
            "HELLO_WEB_SERVICE_PORT_HTTP_X=80",
            "HELLO_WEB_SERVICE_PORT_DNS=53",
            "HELLO_WEB_PORT=tcp://10.96.0.7:80",
            "HELLO_WEB_PORT_80_TCP=tcp://10.96.0.7:80",
            "HELLO_WEB_PORT_80_TCP_PROTO=tcp",
            "HELLO_WEB_PORT_80_TCP_PORT=80",
            "HELLO_WEB_PORT_80_TCP_ADDR=10.96.0.7",
            "HELLO_WEB_PORT_53_UDP=udp://10.96.0.7:53",
            "HELLO_WEB_PORT_53_UDP_PROTO=udp",
            "HELLO_WEB_PORT_53_UDP_PORT=53",
            "HELLO_WEB_PORT_53_UDP_ADDR=10.96.0.7",
        ];
        assert_eq!(lines("hello-web", &json!({"clusterIP": "10.96.0.7", "ports": ports})), expected);
    }

    #[test]
    fn an_ipv6_address_is_bracketed_where_a_port_follows() {
        let lines = lines("a", &json!({"clusterIP": "fd00::7", "ports": [{"port": 80}]}));
        assert_eq!(lines[0], "A_SERVICE_HOST=fd00::7");
        assert_eq!(lines[2], "A_PORT=tcp://[fd00::7]:80");
    }

    #[test]
    fn what_has_no_cluster_address_is_not_told() {
        for spec in [
            json!({"clusterIP": "None", "ports": [{"port": 80}]}),
            json!({"type": "ExternalName", "externalName": "example.com"}),
            json!({"clusterIP": "", "ports": [{"port": 80}]}),
        ] {
            assert_eq!(lines("a", &spec), Vec::<String>::new(), "{spec}");
        }
    }
}
