//! What changes while policies are in force: policies, labels of pods and of namespaces, pods themselves.

use serde_json::{Value, json};

use super::{Case, Direction, Step, all, labelled, policy, put};
use crate::scene::Scene;

pub(crate) fn actions() -> Vec<Case> {
    let mut cases = Vec::new();
    for direction in Direction::BOTH {
        let a = labelled("pod", "a");
        let with = move |rules: &Value| policy("x", "acting", &labelled("pod", "a"), direction, rules);
        let peers = move |peers: Value| json!([{direction.peers(): peers}]);
        let of_ns_y = move || with(&peers(json!([{"namespaceSelector": labelled("ns", "y")}])));
        let case = |name: &str, steps: Vec<Step>| Case::steps(format!("actions: {name}, {direction:?}"), steps);

        cases.push(case(
            "make, change, delete a policy",
            vec![
                put(vec![with(&json!([]))]),
                put(vec![of_ns_y()]),
                put(vec![with(&json!([{"ports": [{"port": 80}]}]))]),
                step(|scene| scene.delete_policy("x", "acting")),
            ],
        ));
        cases.push(case(
            "change whom a policy is for",
            vec![
                put(vec![of_ns_y()]),
                put(vec![policy("x", "acting", &labelled("pod", "b"), direction, &json!([]))]),
                put(vec![policy("x", "acting", &all(), direction, &json!([]))]),
            ],
        ));
        cases.push(case(
            "a pod becomes a peer, and is none any more",
            vec![
                put(vec![with(&peers(
                    json!([{"podSelector": {"matchLabels": {"friend": "yes"}}, "namespaceSelector": all()}]),
                ))]),
                command(&["label", "pod", "-n", "y", "b", "friend=yes"]),
                command(&["label", "pod", "-n", "y", "b", "friend-"]),
            ],
        ));
        cases.push(case(
            "a pod becomes a target, and is none any more",
            vec![
                put(vec![policy("x", "acting", &labelled("closed", "yes"), direction, &json!([]))]),
                command(&["label", "pod", "-n", "x", "c", "closed=yes"]),
                command(&["label", "pod", "-n", "x", "c", "closed-"]),
            ],
        ));
        cases.push(case(
            "a namespace becomes a peer, and is none any more",
            vec![
                put(vec![with(&peers(json!([{"namespaceSelector": {"matchLabels": {"team": "one"}}}])))]),
                command(&["label", "namespace", "z", "team=one"]),
                command(&["label", "namespace", "z", "team-"]),
            ],
        ));
        cases.push(case(
            "a pod goes, and another of the same name comes",
            vec![
                put(vec![of_ns_y()]),
                step(|scene| scene.remove_pod("y", "c")),
                step(|scene| scene.add_pods(&[("y", "c")])),
            ],
        ));
        cases.push(case(
            "a pod of a closed namespace comes",
            vec![
                put(vec![policy("x", "acting", &all(), direction, &json!([]))]),
                step(|scene| scene.remove_pod("x", "b")),
                step(|scene| scene.add_pods(&[("x", "b")])),
            ],
        ));
        cases.push(case(
            "a policy for all, then one more for some",
            vec![
                put(vec![policy("x", "closed", &all(), direction, &json!([]))]),
                put(vec![policy("x", "acting", &a, direction, &json!([{}]))]),
                step(|scene| scene.delete_policy("x", "closed")),
            ],
        ));
    }
    cases
}

fn step(step: impl FnOnce(&mut Scene) + 'static) -> Step {
    Box::new(step)
}

fn command(args: &'static [&'static str]) -> Step {
    step(move |scene| scene.run(args))
}
