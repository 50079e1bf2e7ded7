//! The one table of kinds: names, scope, subresources, selectable fields, and each kind's functions for defaulting and
//! validation. Everything else in the server is generic over a row of it.

mod cluster;
mod endpoint_slice;
mod event;
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

const fn core(kind: &'static str, plural: &'static str) -> Resource {
    Resource { group: "", kind, plural }
}

/// All kinds.
pub(crate) static KINDS: &[Kind] = &[
    Kind {
        resource: core("Namespace", "namespaces"),
        version: "v1",
        singular: "namespace",
        short_names: &["ns"],
        namespaced: false,
        subresources: &[Subresource::Status, Subresource::Finalize],
        selectable: &["status.phase"],
        generations: false,
        deletion: Deletion::Finalized,
        claims: None,
        ops: Ops::of::<namespace::Namespaces>(),
    },
    Kind {
        resource: core("Node", "nodes"),
        version: "v1",
        singular: "node",
        short_names: &["no"],
        namespaced: false,
        subresources: &[Subresource::Status],
        selectable: &["spec.unschedulable"],
        generations: false,
        deletion: Deletion::AtOnce,
        claims: None,
        ops: Ops::of::<node::Nodes>(),
    },
    Kind {
        resource: core("Pod", "pods"),
        version: "v1",
        singular: "pod",
        short_names: &["po"],
        namespaced: true,
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
        claims: None,
        ops: Ops::of::<pod::Pods>(),
    },
    Kind {
        resource: core("Service", "services"),
        version: "v1",
        singular: "service",
        short_names: &["svc"],
        namespaced: true,
        subresources: &[Subresource::Status],
        selectable: &["spec.clusterIP", "spec.type"],
        generations: false,
        deletion: Deletion::AtOnce,
        claims: Some(service::CLAIMS),
        ops: Ops::of::<service::Services>(),
    },
    Kind {
        resource: core("Event", "events"),
        version: "v1",
        singular: "event",
        short_names: &["ev"],
        namespaced: true,
        subresources: &[],
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
        generations: false,
        deletion: Deletion::AtOnce,
        claims: None,
        ops: Ops::of::<event::Events>(),
    },
    Kind {
        resource: Resource { group: "discovery.k8s.io", kind: "EndpointSlice", plural: "endpointslices" },
        version: "v1",
        singular: "endpointslice",
        short_names: &[],
        namespaced: true,
        subresources: &[],
        selectable: &[],
        generations: true,
        deletion: Deletion::AtOnce,
        claims: None,
        ops: Ops::of::<endpoint_slice::EndpointSlices>(),
    },
    Kind {
        resource: Resource { group: "networking.k8s.io", kind: "NetworkPolicy", plural: "networkpolicies" },
        version: "v1",
        singular: "networkpolicy",
        short_names: &["netpol"],
        namespaced: true,
        subresources: &[],
        selectable: &[],
        generations: true,
        deletion: Deletion::AtOnce,
        claims: None,
        ops: Ops::of::<network_policy::NetworkPolicies>(),
    },
    Kind {
        resource: Resource { group: "coordination.k8s.io", kind: "Lease", plural: "leases" },
        version: "v1",
        singular: "lease",
        short_names: &[],
        namespaced: true,
        subresources: &[],
        selectable: &[],
        generations: false,
        deletion: Deletion::AtOnce,
        claims: None,
        ops: Ops::of::<lease::Leases>(),
    },
];

/// The kind behind a path.
pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|k| k.resource.group == group && k.version == version && k.resource.plural == plural)
}

/// The kind of that name; for kinds that the server itself needs.
pub(crate) fn named(kind: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|k| k.resource.kind == kind)
}
