//! What the objects of each kind say to the index.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use netd_policy::object;
use netd_policy::{Change, Listed};

use super::{Watched, key};
use crate::policy_document::PolicyDocument;
use crate::versions::Kind;

impl Watched for Pod {
    const KIND: Kind = Kind::Pod;

    fn present(&self) -> Change {
        Change::Pod(object::Pod::read(self))
    }

    fn gone(&self) -> Change {
        let key = key(self);
        Change::PodRemoved(minipod_model::PodKey::new(key.namespace, key.name), self.metadata.uid.clone())
    }

    fn listed(all: &[Self]) -> Listed {
        Listed::Pods(all.iter().map(object::Pod::read).collect())
    }
}

impl Watched for Namespace {
    const KIND: Kind = Kind::Namespace;

    fn present(&self) -> Change {
        Change::Namespace(object::Namespace::read(self))
    }

    fn gone(&self) -> Change {
        Change::NamespaceRemoved(key(self).name)
    }

    fn listed(all: &[Self]) -> Listed {
        Listed::Namespaces(all.iter().map(object::Namespace::read).collect())
    }
}

impl Watched for PolicyDocument {
    const KIND: Kind = Kind::NetworkPolicy;

    fn present(&self) -> Change {
        Change::Policy(self.read())
    }

    fn gone(&self) -> Change {
        Change::PolicyRemoved(key(self))
    }

    fn listed(all: &[Self]) -> Listed {
        Listed::Policies(all.iter().map(Self::read).collect())
    }
}

impl Watched for Service {
    const KIND: Kind = Kind::Service;

    fn present(&self) -> Change {
        Change::Service(object::Service::read(self))
    }

    fn gone(&self) -> Change {
        Change::ServiceRemoved(key(self))
    }

    fn listed(all: &[Self]) -> Listed {
        Listed::Services(all.iter().map(object::Service::read).collect())
    }
}

impl Watched for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;

    fn present(&self) -> Change {
        Change::Slice(object::EndpointSlice::read(self))
    }

    fn gone(&self) -> Change {
        Change::SliceRemoved(key(self))
    }

    fn listed(all: &[Self]) -> Listed {
        Listed::Slices(all.iter().map(object::EndpointSlice::read).collect())
    }
}

impl Watched for Node {
    const KIND: Kind = Kind::Node;

    fn present(&self) -> Change {
        Change::Node(object::Node::read(self))
    }

    fn gone(&self) -> Change {
        Change::NodeRemoved(key(self).name)
    }

    fn listed(all: &[Self]) -> Listed {
        Listed::Nodes(all.iter().map(object::Node::read).collect())
    }
}
