//! Namespaces: always labelled with their own name; they go in two steps, so that their content goes first.

use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use minipod_model::label::NAMESPACE_NAME_LABEL;
use minipod_model::name::dns_label_problem;
use serde_json::Value;

use super::Cluster;
use super::strategy::Strategy;
use super::support::{self, Support, Table};
use crate::field::FieldErrors;

/// The finalizer that keeps a namespace until its content is gone.
pub(crate) const FINALIZER: &str = "kubernetes";
/// Namespaces that cannot be deleted.
pub(crate) const PERMANENT: &[&str] = &["default", "kube-system", "kube-public"];

pub(super) const SUPPORTED: Table = &[("spec.finalizers", Support::Any)];

pub(super) struct Namespaces;

impl Strategy for Namespaces {
    type Object = Namespace;

    fn name_problem(name: &str) -> Option<String> {
        dns_label_problem(name)
    }

    fn begin(object: &mut Namespace) {
        let finalizers = &mut object.spec.get_or_insert_default().finalizers;
        let finalizers = finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        object.status = Some(NamespaceStatus { phase: Some("Active".to_owned()), conditions: None });
    }

    fn default(object: &mut Namespace, _cluster: &Cluster) {
        if let Some(name) = object.metadata.name.clone().filter(|name| !name.is_empty()) {
            object.metadata.labels.get_or_insert_default().insert(NAMESPACE_NAME_LABEL.to_owned(), name);
        }
    }

    fn refuse_unsupported(value: &Value, errors: &mut FieldErrors) {
        support::refuse_unsupported(SUPPORTED, &[], value, errors);
    }

    fn inherit(new: &mut Namespace, old: &Namespace) {
        // Only `/finalize` changes them.
        new.spec.clone_from(&old.spec);
    }
}
