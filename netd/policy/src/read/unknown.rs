//! Fields of a policy that this version does not know. A typed object has lost them already, so they are looked for in the document.

use serde_json::Value;

use crate::object::{Policy, Problem};

/// What may be somewhere in the document.
enum Shape {
    /// a value, or an object whose content the API server has checked
    Anything,
    /// an object with these fields
    Object(&'static [(&'static str, Shape)]),
    /// a list of these
    List(&'static Shape),
}

use Shape::{Anything, List, Object};

const SELECTOR: Shape = Object(&[
    ("matchLabels", Anything),
    ("matchExpressions", List(&Object(&[("key", Anything), ("operator", Anything), ("values", Anything)]))),
]);
const PEERS: Shape = List(&Object(&[
    ("podSelector", SELECTOR),
    ("namespaceSelector", SELECTOR),
    ("ipBlock", Object(&[("cidr", Anything), ("except", Anything)])),
]));
const PORTS: Shape = List(&Object(&[("protocol", Anything), ("port", Anything), ("endPort", Anything)]));
const SPEC: Shape = Object(&[
    ("podSelector", SELECTOR),
    ("policyTypes", Anything),
    ("ingress", List(&Object(&[("from", PEERS), ("ports", PORTS)]))),
    ("egress", List(&Object(&[("to", PEERS), ("ports", PORTS)]))),
]);

/// The fields below `spec` of a `NetworkPolicy` document that this version does not know.
#[must_use]
pub fn unknown_fields(policy: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(spec) = policy.get("spec") {
        walk("spec", spec, &SPEC, &mut problems);
    }
    problems
}

fn walk(path: &str, value: &Value, shape: &Shape, problems: &mut Vec<Problem>) {
    match (shape, value) {
        (Object(known), Value::Object(fields)) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match known.iter().find(|(known, _)| known == name) {
                    Some((_, shape)) => walk(&path, value, shape, problems),
                    None => {
                        problems.push(Problem { path, value: value.to_string(), problem: "unknown field".to_owned() });
                    }
                }
            }
        }
        (List(item), Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                walk(&format!("{path}[{index}]"), value, item, problems);
            }
        }
        // A value of another kind does not make a typed object.
        (Anything | Object(_) | List(_), _) => {}
    }
}

impl Policy {
    /// The policy, with [`unknown_fields`] of its document reported and nothing allowed by the rules around them. An unknown field beside the
    /// rules may mean anything for all of them.
    #[must_use]
    pub fn distrusting(mut self, unknown: Vec<Problem>) -> Self {
        for problem in &unknown {
            let mut beside = true;
            for (direction, rules) in [("spec.ingress[", &mut self.ingress), ("spec.egress[", &mut self.egress)] {
                let index = problem.path.strip_prefix(direction).and_then(|rest| rest.split_once(']'));
                let Some(index) = index.and_then(|(index, _)| index.parse::<usize>().ok()) else { continue };
                beside = false;
                if let Some(rules) = rules {
                    rules.retain(|rule| rule.index != index);
                }
            }
            if beside {
                [&mut self.ingress, &mut self.egress].into_iter().flatten().for_each(Vec::clear);
            }
        }
        self.problems.extend(unknown);
        self
    }
}
