//! Whatever comes in from outside is answered, never a panic.

use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::decode::{self, parse_json};
use crate::fields::FieldSelector;
use crate::kinds::{self, Cluster, Context, KINDS, Part};
use crate::merge::{merge, strategic_merge};
use crate::request::Route;

/// JSON made of names that objects have, so that it gets past the first check now and then.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..70_000).prop_map(Value::from),
        "[a-zA-Z0-9./:-]{0,8}".prop_map(Value::from),
        prop_oneof![Just("None"), Just("ClusterIP"), Just("IPv4"), Just("10.96.0.9"), Just("TCP"), Just("replace")]
            .prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("metadata"),
        Just("name"),
        Just("spec"),
        Just("status"),
        Just("labels"),
        Just("containers"),
        Just("image"),
        Just("ports"),
        Just("port"),
        Just("targetPort"),
        Just("containerPort"),
        Just("protocol"),
        Just("type"),
        Just("clusterIP"),
        Just("clusterIPs"),
        Just("ipFamilies"),
        Just("selector"),
        Just("podSelector"),
        Just("ingress"),
        Just("from"),
        Just("ipBlock"),
        Just("cidr"),
        Just("except"),
        Just("resources"),
        Just("limits"),
        Just("cpu"),
        Just("endpoints"),
        Just("addresses"),
        Just("addressType"),
        Just("finalizers"),
        Just("$patch"),
        Just("podCIDRs"),
    ];
    leaf.prop_recursive(6, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..5).prop_map(|fields| fields
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #[test]
    fn paths_and_selectors(text in ".{0,60}", path in "(/(api|apis|v1|pods|namespaces|log|[a-z.]{0,4})){0,7}") {
        let _ = Route::parse(&text);
        let _ = Route::parse(&path);
        if let Some(pods) = kinds::named("Pod") {
            let _ = FieldSelector::parse(&text, pods);
        }
    }

    #[test]
    fn bodies(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_json(&bytes);
        let _ = decode::parse(&bytes, Some("application/yaml"));
    }

    #[test]
    fn patches(mut target in json(), patch in json()) {
        let mut other = target.clone();
        merge(&mut target, &patch);
        let _ = strategic_merge(&mut other, &patch);
    }

    #[test]
    fn objects(spec in json(), old in json()) {
        let cluster = Cluster::new(&["10.96.0.0/24".parse().expect("a range")]).expect("a cluster");
        let context = Context { cluster: &cluster, taken: &std::collections::BTreeSet::new() };
        for kind in KINDS {
            let object = |spec: &Value| {
                let mut object = serde_json::json!({"metadata": {"name": "a"}, "spec": spec});
                merge(&mut object, spec);
                (kind.ops.normalise)(&mut object);
                object
            };
            let (new, old) = (object(&spec), object(&old));
            let _ = (kind.ops.unknown_fields)(&new);
            let _ = (kind.ops.create)(&new, &context);
            for part in [Part::Main, Part::Status, Part::Finalizers] {
                let _ = (kind.ops.update)(&new, &old, part, &context);
            }
            let _ = (kind.ops.claims)(&new);
        }
    }
}
