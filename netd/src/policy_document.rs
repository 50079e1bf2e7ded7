//! A `NetworkPolicy` as it comes from an API server, together with the fields of it that this version does not know: an ordinary typed
//! object would lose them, and what they restrict would be allowed (semantics, "Reading the object", last row).

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use netd_policy::object::{Policy, Problem};
use netd_policy::read::unknown_fields;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// The object and what is not known of it.
#[derive(Debug, Clone, Default)]
pub struct PolicyDocument {
    object: NetworkPolicy,
    unknown: Vec<Problem>,
}

impl PolicyDocument {
    /// What the document means.
    #[must_use]
    pub fn read(&self) -> Policy {
        Policy::read(&self.object).distrusting(self.unknown.clone())
    }
}

impl From<NetworkPolicy> for PolicyDocument {
    fn from(object: NetworkPolicy) -> Self {
        Self { object, unknown: Vec::new() }
    }
}

impl<'de> Deserialize<'de> for PolicyDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = serde_json::Value::deserialize(deserializer)?;
        let unknown = unknown_fields(&document);
        let object = serde_json::from_value(document).map_err(D::Error::custom)?;
        Ok(Self { object, unknown })
    }
}

impl Resource for PolicyDocument {
    const API_VERSION: &'static str = NetworkPolicy::API_VERSION;
    const GROUP: &'static str = NetworkPolicy::GROUP;
    const KIND: &'static str = NetworkPolicy::KIND;
    const VERSION: &'static str = NetworkPolicy::VERSION;
    const URL_PATH_SEGMENT: &'static str = NetworkPolicy::URL_PATH_SEGMENT;
    type Scope = <NetworkPolicy as Resource>::Scope;
}

impl Metadata for PolicyDocument {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.object.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.object.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::PolicyDocument;

    #[test]
    fn a_field_that_a_newer_server_knows_does_not_widen_a_rule() {
        let text = r#"{"metadata": {"name": "p", "namespace": "x"}, "spec": {"podSelector": {}, "ingress": [{"fromNodes": []}]}}"#;
        let document: PolicyDocument = serde_json::from_str(text).expect("a policy");
        let policy = document.read();
        assert_eq!(policy.key.name, "p");
        assert_eq!(policy.ingress, Some(vec![]));
        assert_eq!(policy.problems[0].path, "spec.ingress[0].fromNodes");
    }
}
