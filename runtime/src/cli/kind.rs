//! The kinds that the command line knows: how they are called, where the API serves them, how they are printed.
//!
//! One table; a word that is not in it is refused by name together with the words that are.

use kube::Api;
use kube::api::{ApiResource, DynamicObject};

/// A kind of object.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "`kind` is what Kubernetes calls it")]
pub(crate) struct Kind {
    /// API group, empty for the core group
    pub(crate) group: &'static str,
    /// API version
    pub(crate) version: &'static str,
    /// as in `kind:`
    pub(crate) kind: &'static str,
    /// as in the URL
    pub(crate) plural: &'static str,
    /// as people say it
    pub(crate) singular: &'static str,
    /// short names
    pub(crate) short: &'static [&'static str],
    /// whether its objects live in namespaces
    pub(crate) namespaced: bool,
}

macro_rules! kind {
    ($name:ident, $group:literal, $kind:literal, $plural:literal, $singular:literal, $short:expr, $namespaced:literal) => {
        #[doc = concat!("`", $kind, "`")]
        pub(crate) static $name: Kind = Kind {
            group: $group,
            version: "v1",
            kind: $kind,
            plural: $plural,
            singular: $singular,
            short: &$short,
            namespaced: $namespaced,
        };
    };
}

kind!(POD, "", "Pod", "pods", "pod", ["po"], true);
kind!(SERVICE, "", "Service", "services", "service", ["svc"], true);
kind!(NAMESPACE, "", "Namespace", "namespaces", "namespace", ["ns"], false);
kind!(NODE, "", "Node", "nodes", "node", ["no"], false);
kind!(EVENT, "", "Event", "events", "event", ["ev"], true);
kind!(NETWORK_POLICY, "networking.k8s.io", "NetworkPolicy", "networkpolicies", "networkpolicy", ["netpol"], true);
kind!(ENDPOINT_SLICE, "discovery.k8s.io", "EndpointSlice", "endpointslices", "endpointslice", ["eps"], true);

/// Every kind, in the order in which a list of them is printed.
pub(crate) static KINDS: [&Kind; 7] = [&POD, &SERVICE, &NAMESPACE, &NODE, &EVENT, &NETWORK_POLICY, &ENDPOINT_SLICE];

/// What the word `all` stands for.
pub(crate) static ALL: [&Kind; 2] = [&POD, &SERVICE];

/// A word or object that names no known kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnknownKind {
    /// on the command line
    #[error("the server doesn't have a resource type \"{word}\"; it has {}", supported_words())]
    Word {
        /// what was typed
        word: String,
    },
    /// in a manifest
    #[error("no matches for kind \"{kind}\" in version \"{api_version}\"; supported are {}", supported_kinds())]
    Object {
        /// `kind`
        kind: String,
        /// `apiVersion`
        api_version: String,
    },
}

fn supported_words() -> String {
    let words: Vec<String> = KINDS.iter().map(|k| format!("{} ({})", k.plural, k.short.join(", "))).collect();
    words.join(", ")
}

fn supported_kinds() -> String {
    let kinds: Vec<String> = KINDS.iter().map(|k| format!("{} ({})", k.kind, k.api_version())).collect();
    kinds.join(", ")
}

impl Kind {
    /// The kind that a word of the command line means: plural, singular, short name, kind, or plural with group.
    pub(crate) fn find(word: &str) -> Result<&'static Self, UnknownKind> {
        let lower = word.to_ascii_lowercase();
        KINDS
            .iter()
            .find(|k| {
                lower == k.plural
                    || lower == k.singular
                    || k.short.contains(&lower.as_str())
                    || (!k.group.is_empty()
                        && [k.plural, k.singular].iter().any(|name| lower == format!("{name}.{}", k.group)))
            })
            .copied()
            .ok_or_else(|| UnknownKind::Word { word: word.to_owned() })
    }

    /// The kind of an object.
    pub(crate) fn of_object(api_version: &str, kind: &str) -> Result<&'static Self, UnknownKind> {
        KINDS
            .iter()
            .find(|k| k.kind == kind && k.api_version() == api_version)
            .copied()
            .ok_or_else(|| UnknownKind::Object { kind: kind.to_owned(), api_version: api_version.to_owned() })
    }

    /// `apiVersion` of its objects.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// How one of its objects is called in messages: `pod/web`, `networkpolicy.networking.k8s.io/web`.
    pub(crate) fn object_name(&self, name: &str) -> String {
        format!("{}/{name}", self.qualified())
    }

    /// `pod`, `networkpolicy.networking.k8s.io`
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() { self.singular.to_owned() } else { format!("{}.{}", self.singular, self.group) }
    }

    /// The client for its objects: in one namespace, or everywhere.
    pub(crate) fn api(&self, client: kube::Client, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = self.api_resource();
        match namespace {
            Some(namespace) if self.namespaced => Api::namespaced_with(client, namespace, &resource),
            _ => Api::all_with(client, &resource),
        }
    }

    fn api_resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version: self.api_version(),
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, NETWORK_POLICY, POD};

    #[test]
    fn a_kind_has_many_names() {
        for word in ["pod", "pods", "po", "Pod", "PODS"] {
            assert_eq!(Kind::find(word), Ok(&POD), "{word}");
        }
        for word in ["netpol", "networkpolicy", "NetworkPolicy", "networkpolicies.networking.k8s.io"] {
            assert_eq!(Kind::find(word), Ok(&NETWORK_POLICY), "{word}");
        }
    }

    #[test]
    fn an_unknown_kind_is_refused_by_name_with_the_known_ones() {
        let error = Kind::find("ingress").expect_err("refused").to_string();
        assert!(
            error.starts_with("the server doesn't have a resource type \"ingress\"; it has pods (po), services (svc)"),
            "{error}"
        );
        let error = Kind::of_object("apps/v1", "Deployment").expect_err("refused").to_string();
        assert!(
            error.starts_with("no matches for kind \"Deployment\" in version \"apps/v1\"; supported are Pod (v1)"),
            "{error}"
        );
    }
}
