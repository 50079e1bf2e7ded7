//! The one table of kinds: names, scope, subresources, selectable fields, and each kind's functions for defaulting and
//! validation. Everything else in the server is generic over a row of it.

mod cluster;
mod endpoint_slice;
mod event;
#[cfg(test)]
mod every_field;
#[cfg(test)]
mod field_page;
mod lease;
mod namespace;
mod network_policy;
mod node;
mod pod;
mod pod_fields;
mod quantity;
mod service;
mod strategy;
mod support;

pub(crate) use cluster::Cluster;
pub(crate) use namespace::PERMANENT as PERMANENT_NAMESPACES;
pub(crate) use strategy::{Context, Ops, Part};

use crate::status::Resource;

/// A part of an object, or an action on it, with a path of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subresource {
    Status,
    Log,
    Exec,
    Attach,
    Binding,
    Finalize,
}

impl Subresource {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::Binding => "binding",
            Self::Finalize => "finalize",
        }
    }

    /// The kind of what is exchanged, where it is not the object's own.
    pub(crate) fn kind(self) -> Option<&'static str> {
        match self {
            Self::Status | Self::Log | Self::Finalize => None,
            Self::Exec => Some("PodExecOptions"),
            Self::Attach => Some("PodAttachOptions"),
            Self::Binding => Some("Binding"),
        }
    }

    /// Verbs for discovery.
    pub(crate) fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Status => &["get", "patch", "update"],
            Self::Log => &["get"],
            Self::Exec | Self::Attach => &["create", "get"],
            Self::Binding => &["create"],
            Self::Finalize => &["update"],
        }
    }
}

/// How objects of a kind go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletion {
    /// when the last of `metadata.finalizers` has gone
    AtOnce,
    /// a pod: marked with its grace period; whoever runs it deletes it again with a period of 0 when it has ended
    Graceful,
    /// a namespace: marked as terminating until `spec.finalizers` is empty
    Finalized,
}

/// One row of the table.
pub(crate) struct Kind {
    pub(crate) resource: Resource,
    pub(crate) version: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) namespaced: bool,
    pub(crate) subresources: &'static [Subresource],
    /// what a field selector can name besides `metadata.name` and `metadata.namespace`
    pub(crate) selectable: &'static [&'static str],
    /// whether `metadata.generation` counts changes of `spec`
    pub(crate) generations: bool,
    pub(crate) deletion: Deletion,
    /// prefix of the keys that objects of this kind claim for themselves
    pub(crate) claims: Option<&'static str>,
    pub(crate) ops: Ops,
}

impl Kind {
    /// A namespaced kind of version `v1` that has nothing but what every kind has.
    const fn plain(
        group: &'static str,
        kind: &'static str,
        plural: &'static str,
        singular: &'static str,
        ops: Ops,
    ) -> Self {
        Self {
            resource: Resource { group, kind, plural },
            version: "v1",
            singular,
            short_names: &[],
            namespaced: true,
            subresources: &[],
            selectable: &[],
            generations: false,
            deletion: Deletion::AtOnce,
            claims: None,
            ops,
        }
    }

    /// `v1`, `networking.k8s.io/v1`
    pub(crate) fn api_version(&self) -> String {
        match self.resource.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Prefix of the keys of all objects, or those of one namespace.
    pub(crate) fn prefix(&self, namespace: Option<&str>) -> String {
        let group = match self.resource.group {
            "" => String::new(),
            group => format!("{group}/"),
        };
        let namespace = namespace.filter(|_| self.namespaced).map(|n| format!("{n}/")).unwrap_or_default();
        format!("/registry/{group}{}/{namespace}", self.resource.plural)
    }

    /// The key of an object.
    pub(crate) fn key(&self, namespace: Option<&str>, name: &str) -> String {
        format!("{}{name}", self.prefix(namespace))
    }

    pub(crate) fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }
}

/// All kinds.
pub(crate) static KINDS: &[Kind] = &[
    Kind {
        short_names: &["ns"],
        namespaced: false,
        subresources: &[Subresource::Status, Subresource::Finalize],
        selectable: &["status.phase"],
        deletion: Deletion::Finalized,
        ..Kind::plain("", "Namespace", "namespaces", "namespace", Ops::of::<namespace::Namespaces>())
    },
    Kind {
        short_names: &["no"],
        namespaced: false,
        subresources: &[Subresource::Status],
        selectable: &["spec.unschedulable"],
        ..Kind::plain("", "Node", "nodes", "node", Ops::of::<node::Nodes>())
    },
    Kind {
        short_names: &["po"],
        subresources: &[
            Subresource::Status,
            Subresource::Log,
            Subresource::Exec,
            Subresource::Attach,
            Subresource::Binding,
        ],
        selectable: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.hostNetwork",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
        ],
        generations: true,
        deletion: Deletion::Graceful,
        ..Kind::plain("", "Pod", "pods", "pod", Ops::of::<pod::Pods>())
    },
    Kind {
        short_names: &["svc"],
        subresources: &[Subresource::Status],
        selectable: &["spec.clusterIP", "spec.type"],
        claims: Some(service::CLAIMS),
        ..Kind::plain("", "Service", "services", "service", Ops::of::<service::Services>())
    },
    Kind {
        short_names: &["ev"],
        selectable: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ..Kind::plain("", "Event", "events", "event", Ops::of::<event::Events>())
    },
    Kind {
        generations: true,
        ..Kind::plain(
            "discovery.k8s.io",
            "EndpointSlice",
            "endpointslices",
            "endpointslice",
            Ops::of::<endpoint_slice::EndpointSlices>(),
        )
    },
    Kind {
        short_names: &["netpol"],
        generations: true,
        ..Kind::plain(
            "networking.k8s.io",
            "NetworkPolicy",
            "networkpolicies",
            "networkpolicy",
            Ops::of::<network_policy::NetworkPolicies>(),
        )
    },
    Kind::plain("coordination.k8s.io", "Lease", "leases", "lease", Ops::of::<lease::Leases>()),
];

/// The kind behind a path.
pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|k| k.resource.group == group && k.version == version && k.resource.plural == plural)
}

/// The kind of that name; for kinds that the server itself needs.
pub(crate) fn named(kind: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|k| k.resource.kind == kind)
}
