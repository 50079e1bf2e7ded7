//! Leases.

use k8s_openapi::api::coordination::v1::Lease;
use minipod_model::name::dns_subdomain_problem;

use super::Cluster;
use super::strategy::Strategy;
use crate::field::FieldErrors;

pub(super) struct Leases;

impl Strategy for Leases {
    type Object = Lease;

    fn name_problem(name: &str) -> Option<String> {
        dns_subdomain_problem(name)
    }

    fn validate(object: &Lease, _cluster: &Cluster, errors: &mut FieldErrors) {
        let Some(spec) = &object.spec else { return };
        if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            errors.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0");
        }
        if let Some(transitions) = spec.lease_transitions.filter(|transitions| *transitions < 0) {
            errors.invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0");
        }
    }
}
