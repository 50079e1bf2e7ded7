//! Endpoint slices: the addresses behind a service (`pkg/apis/discovery/validation`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use minipod_model::name::{dns_label_problem, dns_subdomain_problem};

use super::Cluster;
use super::network_policy::PROTOCOLS;
use super::strategy::Strategy;
use crate::field::FieldErrors;

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 100;

pub(super) struct EndpointSlices;

impl Strategy for EndpointSlices {
    type Object = EndpointSlice;

    // The endpoints controller does, for the services that it makes slices for.
    const FOLLOWS_OWNERS: bool = true;

    fn name_problem(name: &str) -> Option<String> {
        dns_subdomain_problem(name)
    }

    fn default(object: &mut EndpointSlice, _cluster: &Cluster) {
        for port in object.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn validate(object: &EndpointSlice, _cluster: &Cluster, errors: &mut FieldErrors) {
        let is_v4 = match object.address_type.as_str() {
            "IPv4" => true,
            "IPv6" => false,
            "" => return errors.required("addressType", ""),
            other => return errors.not_supported("addressType", other, &["IPv4", "IPv6"]),
        };
        let endpoints = object.endpoints.as_deref().unwrap_or_default();
        if endpoints.len() > MAX_ENDPOINTS {
            errors.too_many("endpoints", endpoints.len(), MAX_ENDPOINTS);
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            let field = format!("endpoints[{index}]");
            match endpoint.addresses.len() {
                0 => errors.required(format!("{field}.addresses"), "must contain at least 1 address"),
                count if count > MAX_ADDRESSES => errors.too_many(format!("{field}.addresses"), count, MAX_ADDRESSES),
                _ => {}
            }
            for (number, address) in endpoint.addresses.iter().enumerate() {
                let field = format!("{field}.addresses[{number}]");
                // An IPv4-mapped address is an IPv4 address, wherever Kubernetes asks.
                match address.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
                    Ok(ip) if ip.is_ipv4() != is_v4 => {
                        errors.invalid(
                            field,
                            address.as_str(),
                            format!("must be a valid {} address", object.address_type),
                        );
                    }
                    Ok(ip) => errors.check(field, address, endpoint_problem(ip)),
                    Err(_) => errors.invalid(field, address.as_str(), "must be a valid IP address"),
                }
            }
            if let Some(hostname) = &endpoint.hostname {
                errors.check(format!("{field}.hostname"), hostname, dns_label_problem(hostname));
            }
        }
        let ports = object.ports.as_deref().unwrap_or_default();
        if ports.len() > MAX_PORTS {
            errors.too_many("ports", ports.len(), MAX_PORTS);
        }
        let mut names = BTreeSet::new();
        for (index, port) in ports.iter().enumerate() {
            let name = port.name.as_deref().unwrap_or_default();
            if !name.is_empty() {
                errors.check(format!("ports[{index}].name"), name, dns_label_problem(name));
            }
            if !names.insert(name) {
                errors.duplicate(format!("ports[{index}].name"), name);
            }
            if let Some(protocol) = port.protocol.as_deref().filter(|p| !PROTOCOLS.contains(p)) {
                errors.not_supported(format!("ports[{index}].protocol"), protocol, PROTOCOLS);
            }
            if let Some(number) = port.port.filter(|number| !(1..=65535).contains(number)) {
                errors.invalid(format!("ports[{index}].port"), number, "must be between 1 and 65535, inclusive");
            }
        }
    }

    fn validate_update(new: &EndpointSlice, old: &EndpointSlice, errors: &mut FieldErrors) {
        if new.address_type != old.address_type {
            errors.invalid("addressType", new.address_type.as_str(), "field is immutable");
        }
    }
}

/// Why nothing may be sent to this address for a service (`ValidateEndpointIP`, `pkg/apis/core/validation`): what only this node
/// itself answers on, such as the metadata service of a cloud, is no endpoint.
fn endpoint_problem(ip: IpAddr) -> Option<String> {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let kind = match ip {
        _ if ip.is_unspecified() => format!("unspecified ({ip})"),
        _ if ip.is_loopback() => "in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        _ if link_local => "in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        _ if ip.is_multicast() => "in the multicast range (224.0.0.0/4, ff00::/8)".to_owned(),
        _ => return None,
    };
    Some(format!("may not be {kind}"))
}

#[cfg(test)]
mod tests {
    use super::endpoint_problem;

    #[test]
    fn addresses_that_lead_to_the_node_itself_or_to_many_are_no_endpoints() {
        let problem = |ip: &str| endpoint_problem(ip.parse().expect("an address"));
        for ip in ["0.0.0.0", "::", "127.0.0.1", "::1", "169.254.169.254", "fe80::1", "224.0.0.251", "ff02::1"] {
            assert!(problem(ip).is_some(), "{ip}");
        }
        for ip in ["10.0.0.1", "192.0.2.7", "2001:db8::1", "fd00::1"] {
            assert_eq!(problem(ip), None, "{ip}");
        }
        assert_eq!(
            problem("169.254.169.254").as_deref(),
            Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
        );
    }
}
