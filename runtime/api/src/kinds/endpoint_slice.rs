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
                match address.parse::<IpAddr>() {
                    Ok(ip) if ip.is_ipv4() != is_v4 => {
                        errors.invalid(
                            field,
                            address.as_str(),
                            format!("must be a valid {} address", object.address_type),
                        );
                    }
                    Ok(ip) if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() => {
                        errors.invalid(field, address.as_str(), "may not be unspecified, loopback or multicast");
                    }
                    Ok(_) => {}
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
