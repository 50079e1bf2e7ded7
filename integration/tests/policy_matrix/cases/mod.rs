//! The cases, made from the definition of the `NetworkPolicy` API: every field alone, and the fields that act on one another together. The
//! categories are those of the Cyclonus conformance suite.

mod actions;
mod combined;
mod conflicts;
mod peers;
mod ports;
mod rules;
mod targets;

use serde_json::{Value, json};

use crate::scene::Scene;

pub(crate) use actions::actions;
pub(crate) use combined::combined;
pub(crate) use conflicts::conflicts;
pub(crate) use peers::peers;
pub(crate) use ports::ports;
pub(crate) use rules::rules;
pub(crate) use targets::targets;

/// What a case does before packets are compared.
pub(crate) type Step = Box<dyn FnOnce(&mut Scene)>;

/// Steps, after each of which packets and evaluator agree.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
}

impl Case {
    fn of(name: impl Into<String>, policies: Vec<Value>) -> Self {
        Self::steps(name, vec![put(policies)])
    }

    fn steps(name: impl Into<String>, steps: Vec<Step>) -> Self {
        Self { name: name.into(), steps }
    }

    /// Runs it, and leaves no policy.
    pub(crate) fn run(self, scene: &mut Scene) {
        for (number, step) in self.steps.into_iter().enumerate() {
            step(scene);
            scene.check(&format!("{}, step {}", self.name, number + 1));
        }
        scene.delete_policies();
    }
}

fn put(policies: Vec<Value>) -> Step {
    Box::new(move |scene| scene.put(&policies))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    fn policy_type(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }

    /// The field of a policy's rules.
    fn rules(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// The field of a rule's peers.
    fn peers(self) -> &'static str {
        match self {
            Self::Ingress => "from",
            Self::Egress => "to",
        }
    }
}

/// A policy that isolates one direction of the selected pods but for these rules.
fn policy(namespace: &str, name: &str, pods: &Value, direction: Direction, rules: &Value) -> Value {
    let spec = json!({"podSelector": pods, "policyTypes": [direction.policy_type()], direction.rules(): rules});
    object(namespace, name, &spec)
}

fn object(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
           "metadata": {"namespace": namespace, "name": name}, "spec": spec})
}

/// Selects everything.
fn all() -> Value {
    json!({})
}

fn labelled(key: &str, value: &str) -> Value {
    json!({"matchLabels": {key: value}})
}

fn expression(key: &str, operator: &str, values: &[&str]) -> Value {
    if values.is_empty() {
        return json!({"matchExpressions": [{"key": key, "operator": operator}]});
    }
    json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
}
