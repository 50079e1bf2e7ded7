//! Events: what happened to an object, for people.

use k8s_openapi::api::core::v1::Event;
use minipod_model::name::dns_subdomain_problem;

use super::Cluster;
use super::strategy::Strategy;
use crate::field::FieldErrors;

pub(super) struct Events;

impl Strategy for Events {
    type Object = Event;

    fn name_problem(name: &str) -> Option<String> {
        dns_subdomain_problem(name)
    }

    fn validate(object: &Event, _cluster: &Cluster, errors: &mut FieldErrors) {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let involved = object.involved_object.namespace.as_deref().unwrap_or_default();
        // What happened to an object without a namespace is noted in `default`.
        let expected = if involved.is_empty() { "default" } else { involved };
        if namespace != expected && !(involved.is_empty() && namespace == "kube-system") {
            errors.invalid("involvedObject.namespace", involved, "does not match event.namespace");
        }
    }
}
