//! Pods (`pkg/apis/core/validation`, `pkg/apis/core/v1/defaults.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use minipod_model::name::{dns_label_problem, dns_subdomain_problem, port_name_problem};
use serde_json::Value;

use super::network_policy::PROTOCOLS;
use super::pod_fields::SUPPORTED;
use super::quantity::thousandths;
use super::strategy::Strategy;
use super::{Cluster, support};
use crate::field::FieldErrors;

pub(super) struct Pods;

const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const DNS_POLICIES: &[&str] = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const DEFAULT_GRACE_SECONDS: i64 = 30;
/// Followed by the name of a container.
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Ask for nothing that is not so anyway.
const IDLE_PROFILES: &[&str] = &["runtime/default", "unconfined"];
/// What resolvers read (`resolv.conf(5)`, `MAXNS`).
const MAX_NAMESERVERS: usize = 3;

impl Strategy for Pods {
    type Object = Pod;

    fn name_problem(name: &str) -> Option<String> {
        dns_subdomain_problem(name)
    }

    fn normalise(value: &mut Value) {
        for list in ["containers", "initContainers"] {
            let containers = value.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                for field in ["limits", "requests"] {
                    quantities_as_text(container.pointer_mut(&format!("/resources/{field}")));
                }
            }
        }
    }

    fn begin(object: &mut Pod) {
        let qos_class = object.spec.as_ref().map(|spec| qos_class(spec).to_owned());
        object.status = Some(PodStatus { phase: Some("Pending".to_owned()), qos_class, ..PodStatus::default() });
    }

    fn default(object: &mut Pod, _cluster: &Cluster) {
        let Some(spec) = &mut object.spec else { return };
        spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
        spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
        spec.termination_grace_period_seconds.get_or_insert(DEFAULT_GRACE_SECONDS);
        spec.security_context.get_or_insert_default();
        for container in containers_mut(spec) {
            default_container(container);
        }
    }

    fn refuse_unsupported(value: &Value, errors: &mut FieldErrors) {
        support::refuse_unsupported(SUPPORTED, &[("initContainers", "containers")], value, errors);
    }

    fn validate(object: &Pod, _cluster: &Cluster, errors: &mut FieldErrors) {
        let Some(spec) = &object.spec else {
            return errors.required("spec.containers", "");
        };
        validate_spec(spec, errors);
        validate_profiles(object, errors);
    }

    fn inherit(new: &mut Pod, old: &Pod) {
        // Set by `binding`; an object that was written before the pod got its node still updates.
        let (Some(new), Some(old)) = (&mut new.spec, &old.spec) else { return };
        if new.node_name.is_none() {
            new.node_name.clone_from(&old.node_name);
        }
    }

    fn validate_update(new: &Pod, old: &Pod, errors: &mut FieldErrors) {
        let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return };
        let kept = old.tolerations.iter().flatten().all(|t| new.tolerations.iter().flatten().any(|n| n == t));
        let mut expected = old.clone();
        if kept {
            expected.tolerations.clone_from(&new.tolerations);
        }
        if *new != expected {
            errors.forbidden(
                "spec",
                "pod updates may not change fields other than `spec.tolerations` (only additions to existing tolerations); delete \
                 the pod and create it again",
            );
        }
    }

    fn validate_status(new: &Pod, errors: &mut FieldErrors) {
        let Some(status) = &new.status else { return };
        for (index, address) in status.pod_ips.iter().flatten().enumerate() {
            if address.ip.parse::<IpAddr>().is_err() {
                errors.invalid(format!("status.podIPs[{index}]"), address.ip.as_str(), "must be a valid IP address");
            }
        }
    }
}

/// The annotations by which profiles of `AppArmor` were chosen before there was a field for it; no other profile is put in force.
fn validate_profiles(pod: &Pod, errors: &mut FieldErrors) {
    for (key, profile) in pod.metadata.annotations.iter().flatten() {
        if key.starts_with(APPARMOR_ANNOTATION) && !IDLE_PROFILES.contains(&profile.as_str()) {
            let detail = format!(
                "the AppArmor profile \"{profile}\" is not supported by minipod; use {} or remove the annotation",
                IDLE_PROFILES.join(" or ")
            );
            errors.forbidden(format!("metadata.annotations[{key}]"), detail);
        }
    }
}

/// Kubernetes takes `cpu: 1` as well as `cpu: "1"`; the type only the latter.
pub(super) fn quantities_as_text(map: Option<&mut Value>) {
    for (_, quantity) in map.and_then(Value::as_object_mut).into_iter().flatten() {
        if quantity.is_number() {
            *quantity = Value::String(quantity.to_string());
        }
    }
}

fn containers_mut(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.init_containers.iter_mut().flatten().chain(&mut spec.containers)
}

fn default_container(container: &mut Container) {
    if let Some(image) = container.image.as_deref().filter(|image| !image.is_empty()) {
        let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
        container.image_pull_policy.get_or_insert_with(|| policy.to_owned());
    }
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
    }
    let Some(resources) = &mut container.resources else { return };
    let limits = resources.limits.clone().unwrap_or_default();
    if !limits.is_empty() {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}

/// Whether an image reference means the tag `latest`: neither digest nor another tag.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn validate_spec(spec: &PodSpec, errors: &mut FieldErrors) {
    if spec.containers.is_empty() {
        errors.required("spec.containers", "");
    }
    let mut names = BTreeSet::new();
    for (list, containers) in
        [("initContainers", spec.init_containers.as_deref().unwrap_or_default()), ("containers", &spec.containers)]
    {
        let mut port_names = BTreeSet::new();
        for (index, container) in containers.iter().enumerate() {
            let field = format!("spec.{list}[{index}]");
            validate_container(&field, container, spec.host_network == Some(true), errors);
            if !container.name.is_empty() && !names.insert(container.name.as_str()) {
                errors.duplicate(format!("{field}.name"), container.name.as_str());
            }
            for (number, port) in container.ports.iter().flatten().enumerate() {
                if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty())
                    && !port_names.insert((name, port.protocol.as_deref()))
                {
                    errors.duplicate(format!("{field}.ports[{number}].name"), name);
                }
            }
        }
    }
    check_one_of("spec.restartPolicy", spec.restart_policy.as_deref(), RESTART_POLICIES, errors);
    check_one_of("spec.dnsPolicy", spec.dns_policy.as_deref(), DNS_POLICIES, errors);
    validate_dns(spec, errors);
    check_not_negative("spec.terminationGracePeriodSeconds", spec.termination_grace_period_seconds, errors);
    if let Some(hostname) = spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        errors.check("spec.hostname", hostname, dns_label_problem(hostname));
    }
    if let Some(node) = spec.node_name.as_deref().filter(|name| !name.is_empty()) {
        errors.check("spec.nodeName", node, dns_subdomain_problem(node));
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let field = format!("spec.hostAliases[{index}]");
        if alias.ip.parse::<IpAddr>().is_err() {
            errors.invalid(format!("{field}.ip"), alias.ip.as_str(), "must be a valid IP address");
        }
        for (number, name) in alias.hostnames.iter().flatten().enumerate() {
            errors.check(format!("{field}.hostnames[{number}]"), name, dns_subdomain_problem(name));
        }
    }
    if let Some(context) = &spec.security_context {
        let field = "spec.securityContext";
        check_id(&format!("{field}.runAsUser"), context.run_as_user, errors);
        check_id(&format!("{field}.runAsGroup"), context.run_as_group, errors);
        for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
            check_id(&format!("{field}.supplementalGroups[{index}]"), Some(*group), errors);
        }
    }
}

fn validate_dns(spec: &PodSpec, errors: &mut FieldErrors) {
    let config = spec.dns_config.clone().unwrap_or_default();
    let nameservers = config.nameservers.unwrap_or_default();
    if spec.dns_policy.as_deref() == Some("None") && nameservers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.required("spec.dnsConfig.nameservers", detail);
    }
    if nameservers.len() > MAX_NAMESERVERS {
        let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        errors.invalid("spec.dnsConfig.nameservers", nameservers.clone(), detail);
    }
    for (index, address) in nameservers.iter().enumerate().filter(|(_, address)| address.parse::<IpAddr>().is_err()) {
        errors.invalid(format!("spec.dnsConfig.nameservers[{index}]"), address.as_str(), "must be a valid IP address");
    }
    for (index, search) in config.searches.iter().flatten().enumerate().filter(|(_, search)| *search != ".") {
        let problem = dns_subdomain_problem(search.trim_end_matches('.'));
        errors.check(format!("spec.dnsConfig.searches[{index}]"), search, problem);
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            errors.required(format!("spec.dnsConfig.options[{index}]"), "must not be empty");
        }
    }
}

fn validate_container(field: &str, container: &Container, host_network: bool, errors: &mut FieldErrors) {
    if container.name.is_empty() {
        errors.required(format!("{field}.name"), "");
    } else {
        errors.check(format!("{field}.name"), &container.name, dns_label_problem(&container.name));
    }
    match container.image.as_deref().unwrap_or_default() {
        "" => errors.required(format!("{field}.image"), ""),
        image if image.trim() != image => {
            errors.invalid(format!("{field}.image"), image, "must not have leading or trailing whitespace");
        }
        _ => {}
    }
    check_one_of(&format!("{field}.imagePullPolicy"), container.image_pull_policy.as_deref(), PULL_POLICIES, errors);
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let field = format!("{field}.ports[{index}]");
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            errors.check(format!("{field}.name"), name, port_name_problem(name));
        }
        match port.container_port {
            0 => errors.required(format!("{field}.containerPort"), ""),
            number if !(1..=65535).contains(&number) => {
                errors.invalid(format!("{field}.containerPort"), number, "must be between 1 and 65535, inclusive");
            }
            _ => {}
        }
        match port.host_port {
            None | Some(0) => {}
            Some(number) if host_network && number == port.container_port => {}
            Some(number) if host_network => {
                errors.invalid(
                    format!("{field}.hostPort"),
                    number,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
            Some(_) => errors.forbidden(
                format!("{field}.hostPort"),
                "the field is not supported by minipod; remove it and reach the pod by its address or a service",
            ),
        }
        check_one_of(&format!("{field}.protocol"), port.protocol.as_deref(), PROTOCOLS, errors);
    }
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let field = format!("{field}.env[{index}].name");
        if variable.name.is_empty() {
            errors.required(field, "");
        } else if variable.name.bytes().any(|b| b == b'=' || !(b' '..=b'~').contains(&b)) {
            let detail =
                "a valid environment variable name must consist only of printable ASCII characters other than '='";
            errors.invalid(field, variable.name.as_str(), detail);
        }
    }
    validate_resources(field, container, errors);
    validate_security(&format!("{field}.securityContext"), container, errors);
}

/// The smallest memory limit, in bytes: what the process needs that becomes the container's. Other runtimes set the same bound.
const LEAST_MEMORY: i128 = 6 << 20;

fn validate_resources(field: &str, container: &Container, errors: &mut FieldErrors) {
    let Some(resources) = &container.resources else { return };
    let mut read = |list: &str, quantities: Option<&BTreeMap<String, Quantity>>| {
        let mut amounts = BTreeMap::new();
        for (name, quantity) in quantities.into_iter().flatten() {
            let field = format!("{field}.resources.{list}[{name}]");
            match thousandths(&quantity.0) {
                None => errors.invalid(
                    field,
                    quantity.0.as_str(),
                    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                ),
                Some(amount) if amount < 0 => {
                    errors.invalid(field, quantity.0.as_str(), "must be greater than or equal to 0");
                }
                Some(amount) if list == "limits" && name == "memory" && (1..LEAST_MEMORY * 1000).contains(&amount) => {
                    let least =
                        "must be at least 6Mi: no container starts with less; give it more, or leave the limit out";
                    errors.invalid(field, quantity.0.as_str(), least);
                }
                Some(amount) => drop(amounts.insert(name.clone(), (amount, quantity.0.clone()))),
            }
        }
        amounts
    };
    let limits = read("limits", resources.limits.as_ref());
    let requests = read("requests", resources.requests.as_ref());
    for (name, (amount, text)) in requests {
        if let Some((limit, limit_text)) = limits.get(&name)
            && amount > *limit
        {
            let detail = format!("must be less than or equal to {name} limit of {limit_text}");
            errors.invalid(format!("{field}.resources.requests"), text, detail);
        }
    }
}

fn validate_security(field: &str, container: &Container, errors: &mut FieldErrors) {
    let Some(context) = &container.security_context else { return };
    check_id(&format!("{field}.runAsUser"), context.run_as_user, errors);
    check_id(&format!("{field}.runAsGroup"), context.run_as_group, errors);
    let added = context.capabilities.as_ref().and_then(|c| c.add.as_deref()).unwrap_or_default();
    let admin = added.iter().any(|c| c.trim_start_matches("CAP_") == "SYS_ADMIN");
    if admin && context.allow_privilege_escalation == Some(false) {
        errors.invalid(
            field,
            Value::Null,
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        );
    }
}

fn check_one_of(field: &str, value: Option<&str>, valid: &[&'static str], errors: &mut FieldErrors) {
    if let Some(value) = value.filter(|value| !valid.contains(value)) {
        errors.not_supported(field, value, valid);
    }
}

fn check_not_negative(field: &str, value: Option<i64>, errors: &mut FieldErrors) {
    if let Some(value) = value.filter(|value| *value < 0) {
        errors.invalid(field, value, "must be greater than or equal to 0");
    }
}

fn check_id(field: &str, id: Option<i64>, errors: &mut FieldErrors) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        errors.invalid(field, id, "must be between 0 and 2147483647, inclusive");
    }
}

/// `status.qosClass` (`pkg/apis/core/v1/helper/qos`).
fn qos_class(spec: &PodSpec) -> &'static str {
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let amount = |list: &Option<BTreeMap<String, Quantity>>, name: &str| {
        list.as_ref().and_then(|l| l.get(name)).and_then(|q| thousandths(&q.0)).filter(|amount| *amount > 0)
    };
    let any = |container: &Container| {
        container.resources.as_ref().is_some_and(|r| {
            ["cpu", "memory"].iter().any(|n| amount(&r.limits, n).is_some() || amount(&r.requests, n).is_some())
        })
    };
    let guaranteed = |container: &Container| {
        container.resources.as_ref().is_some_and(|r| {
            ["cpu", "memory"].iter().all(|name| {
                let limit = amount(&r.limits, name);
                limit.is_some() && amount(&r.requests, name).is_none_or(|request| Some(request) == limit)
            })
        })
    };
    if !containers().any(any) {
        "BestEffort"
    } else if containers().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
