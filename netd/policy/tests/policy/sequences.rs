//! Any order of events gives the same intent, as long as those of one object come in theirs; repeating or leaving out what a later
//! one replaces changes nothing.

use minipod_model::LinkName;
use netd_policy::object::ObjectKey;
use netd_policy::{Change, Index, Listed};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use crate::support::{addresses, attachment, key, namespace, options, pod, pod_object, policy_of};

/// The history of one object: every event replaces the one before.
type History = Vec<Change>;

fn pod_history(name: &'static str) -> impl Strategy<Value = History> {
    let labels = prop_oneof![Just("a"), Just("b"), Just("c")];
    let event = (any::<bool>(), labels, prop_oneof![Just("1"), Just("2")], 1_u16..4).prop_map(
        move |(there, label, uid, port)| {
            if !there {
                return Change::PodRemoved(key(name), None);
            }
            let mut object = pod_object(name);
            object["metadata"]["uid"] = json!(uid);
            object["metadata"]["labels"]["pod"] = json!(label);
            object["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(port);
            if name.starts_with("z/") {
                object["spec"]["nodeName"] = json!("there");
                object["status"]["podIPs"] = json!([{"ip": "10.244.2.1"}]);
            }
            Change::Pod(pod(object))
        },
    );
    vec(event, 1..4)
}

fn attachment_history(name: &'static str) -> impl Strategy<Value = History> {
    let event = (any::<bool>(), prop_oneof![Just("1"), Just("2")]).prop_map(move |(there, uid)| {
        let mut attached = attachment(name, &addresses(name));
        attached.uid = Some(uid.to_owned());
        if there { Change::Attached(attached) } else { Change::Detached(LinkName::for_sandbox(name, "eth0")) }
    });
    vec(event, 1..4)
}

fn namespace_history(name: &'static str) -> impl Strategy<Value = History> {
    let event = prop_oneof![
        Just(Change::NamespaceRemoved(name.to_owned())),
        prop_oneof![Just("x"), Just("y")].prop_map(move |label| {
            Change::Namespace(namespace(json!({"metadata": {"name": name, "labels": {"ns": label}}})))
        }),
    ];
    vec(event, 1..3)
}

fn policy_history(name: &'static str) -> impl Strategy<Value = History> {
    let label = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let event = prop_oneof![
        Just(Change::PolicyRemoved(ObjectKey::new("x", name))),
        (label(), label(), any::<bool>()).prop_map(move |(subject, peer, named)| {
            let port = if named { json!("http") } else { json!(80) };
            let peers = json!([{"podSelector": {"matchLabels": {"pod": peer}}, "namespaceSelector": {"matchLabels": {"ns": "y"}}}]);
            Change::Policy(policy_of("x", name, &json!({
                "podSelector": {"matchLabels": {"pod": subject}},
                "ingress": [{"from": peers, "ports": [{"port": port}]}],
                "egress": [{"to": peers, "ports": [{"port": port}]}],
            })))
        }),
    ];
    vec(event, 1..4)
}

fn histories() -> impl Strategy<Value = Vec<History>> {
    (
        (pod_history("x/a"), pod_history("x/b"), pod_history("y/a"), pod_history("z/a")),
        (attachment_history("x/a"), attachment_history("x/b"), attachment_history("y/a")),
        (namespace_history("x"), namespace_history("y"), namespace_history("z")),
        (policy_history("one"), policy_history("two")),
    )
        .prop_map(|(pods, attached, namespaces, policies)| {
            vec![
                pods.0,
                pods.1,
                pods.2,
                pods.3,
                attached.0,
                attached.1,
                attached.2,
                namespaces.0,
                namespaces.1,
                namespaces.2,
                policies.0,
                policies.1,
            ]
        })
}

/// Interleaves the histories as `choices` say; a choice above the half repeats the event.
fn interleave(mut histories: Vec<History>, choices: &[u16]) -> Vec<Change> {
    let mut events = Vec::new();
    let mut choices = choices.iter().copied().cycle();
    for history in &mut histories {
        history.reverse();
    }
    while !histories.is_empty() {
        let choice = choices.next().unwrap_or_default();
        let place = usize::from(choice) % histories.len();
        match histories[place].pop() {
            Some(event) => {
                if choice > u16::MAX / 2 {
                    events.push(event.clone());
                }
                events.push(event);
            }
            None => {
                histories.swap_remove(place);
            }
        }
    }
    events
}

fn after(events: impl IntoIterator<Item = Change>) -> Index {
    let mut index = Index::new(options());
    for event in events {
        index.apply(event);
    }
    index
}

proptest! {
    #![proptest_config(crate::support::cases(200))]

    #[test]
    fn any_path_to_the_same_state_gives_the_same_intent(
        histories in histories(),
        choices in vec(any::<u16>(), 1..40),
    ) {
        let mut in_order = after(histories.iter().flatten().cloned());
        let mut shuffled = after(interleave(histories.clone(), &choices));
        prop_assert_eq!(shuffled.intent(), in_order.intent());
        let mut squashed = after(histories.iter().filter_map(|history| history.last().cloned()));
        prop_assert_eq!(squashed.intent(), in_order.intent());
    }

    #[test]
    fn what_is_kept_up_to_date_is_what_would_be_made_from_nothing(
        histories in histories(),
        choices in vec(any::<u16>(), 1..40),
        looks in vec(any::<bool>(), 1..10),
    ) {
        let mut index = Index::new(options());
        for (event, look) in interleave(histories, &choices).into_iter().zip(looks.into_iter().cycle()) {
            index.apply(event);
            if look {
                prop_assert_eq!(index.intent(), index.intent_from_nothing());
            }
        }
        prop_assert_eq!(index.intent(), index.intent_from_nothing());
    }

    #[test]
    fn a_complete_list_replaces_what_was_known(before in histories(), now in histories()) {
        let mut expected = after(now.into_iter().flatten());
        let mut index = after(before.into_iter().flatten());
        let cluster = expected.cluster().clone();
        for listed in [
            Listed::Policies(cluster.policies.into_values().collect()),
            Listed::Pods(cluster.pods.into_values().collect()),
            Listed::Namespaces(cluster.namespaces.into_values().collect()),
            Listed::Services(cluster.services.into_values().collect()),
            Listed::Slices(cluster.slices.into_values().collect()),
            Listed::Nodes(cluster.nodes.into_values().collect()),
            Listed::Attachments(cluster.attachments.into_values().collect()),
        ] {
            index.apply(Change::Listed(listed));
        }
        prop_assert_eq!(index.cluster(), expected.cluster());
        prop_assert_eq!(index.intent(), expected.intent());
    }
}

#[test]
fn an_event_that_tells_nothing_new_is_no_change() {
    let mut index = Index::new(options());
    let change = Change::Pod(pod(pod_object("x/a")));
    assert!(index.apply(change.clone()));
    assert!(!index.apply(change));
    assert!(!index.apply(Change::PodRemoved(key("x/b"), None)));
}
