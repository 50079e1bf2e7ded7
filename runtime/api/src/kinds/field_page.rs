//! Every field of `spec` that Kubernetes knows is carried out, taken because it changes nothing, or refused by name; the page
//! `docs/fields.md` says which. The page is made here: `MINIPOD_WRITE_DOCS=1 cargo test field_page` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use k8s_openapi::api::core::v1::{NamespaceSpec, NodeSpec, PodSpec, ServiceSpec};
use k8s_openapi::api::networking::v1::NetworkPolicySpec;

use super::every_field::{Leaf, leaves};
use super::support::{Support, Table, refuse_unsupported};
use super::{namespace, network_policy, node, pod_fields, service};
use crate::field::FieldErrors;

/// One kind with its table.
struct Kind {
    name: &'static str,
    table: Table,
    aliases: &'static [(&'static str, &'static str)],
    leaves: Vec<Leaf>,
}

fn kinds() -> Vec<Kind> {
    let kind = |name, table, leaves| Kind { name, table, aliases: &[], leaves };
    vec![
        Kind {
            aliases: &[("initContainers", "containers")],
            ..kind("Pod", pod_fields::SUPPORTED, leaves::<PodSpec>("spec"))
        },
        kind("Service", service::SUPPORTED, leaves::<ServiceSpec>("spec")),
        kind("NetworkPolicy", network_policy::SUPPORTED, leaves::<NetworkPolicySpec>("spec")),
        kind("Namespace", namespace::SUPPORTED, leaves::<NamespaceSpec>("spec")),
        kind("Node", node::SUPPORTED, leaves::<NodeSpec>("spec")),
    ]
}

impl Kind {
    /// The path under which the table judges a field.
    fn judged(&self, path: &str) -> String {
        let alias = self.aliases.iter().find_map(|(alias, entry)| {
            let rest = path.strip_prefix(&format!("spec.{alias}"))?;
            rest.starts_with('[').then(|| format!("spec.{entry}{rest}"))
        });
        alias.unwrap_or_else(|| path.to_owned())
    }

    fn support(&self, path: &str) -> Option<Support> {
        let judged = self.judged(path);
        self.table.iter().find(|(entry, _)| leads_to(entry, &judged)).map(|(_, support)| *support)
    }

    /// The fields that the server names when it refuses this one with the value that it was found with.
    fn refused(&self, leaf: &Leaf) -> Vec<String> {
        let mut errors = FieldErrors::default();
        refuse_unsupported(self.table, self.aliases, &leaf.object(), &mut errors);
        errors.0.iter().filter_map(|error| error.cause()["field"].as_str().map(str::to_owned)).collect()
    }
}

/// Whether `path` is the field `entry` or one below it.
fn leads_to(entry: &str, path: &str) -> bool {
    path.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[test]
fn every_field_of_kubernetes_is_taken_for_a_reason_or_refused_by_name() {
    for kind in kinds() {
        for leaf in &kind.leaves {
            let refused = kind.refused(leaf);
            let expected = usize::from(!matches!(kind.support(&leaf.path), Some(Support::Any | Support::Idle(_))));
            assert_eq!(refused.len(), expected, "{} {}: {refused:?}", kind.name, leaf.path);
            let there = leaf.path.replace("[]", "[0]");
            assert!(refused.iter().all(|named| leads_to(named, &there)), "{} {there}: {refused:?}", kind.name);
        }
    }
}

#[test]
fn tables_of_fields_name_only_fields_of_kubernetes() {
    for kind in kinds() {
        for (entry, _) in kind.table {
            let (parent, _) = entry.rsplit_once('.').expect("a path");
            let key = format!("{parent}.*");
            let known = kind.leaves.iter().any(|leaf| leads_to(entry, &leaf.path) || leaf.path == key);
            assert!(known, "{} has no field {entry}", kind.name);
        }
    }
}

#[test]
fn the_page_of_fields_says_what_the_server_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fields.md");
    let page = page();
    if std::env::var_os("MINIPOD_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, page, "docs/fields.md is not up to date: run this test with MINIPOD_WRITE_DOCS=1");
}

const HEAD: &str = "\
# Fields

What Minipod makes of each field of `spec` that Kubernetes 1.36 knows. A field that is not carried out is refused by name, in the
object that the server gets as well as in one that the command line sends; nothing is ignored. A test holds this page to the code.
`[]` stands for each item of a list. Fields of `containers` are those of `initContainers` as well.

Two things are taken although they say nothing here. `terminationMessagePath` and `terminationMessagePolicy` may have their defaults,
which objects from other clusters carry: nothing reads what a container writes to `/dev/termination-log`, and a terminated
state has no message of it. Annotations `container.apparmor.security.beta.kubernetes.io/CONTAINER` may be `runtime/default` or
`unconfined`, and no profile of AppArmor is put in force by either; other values are refused.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for kind in kinds() {
        let _ = write!(page, "\n## {}\n\n| field | |\n| --- | --- |\n", kind.name);
        for (entry, support) in kind.table {
            let field = entry.trim_start_matches("spec.");
            let _ = match support {
                Support::Any => writeln!(page, "| `{field}` | carried out |"),
                Support::Only(values) => writeln!(page, "| `{field}` | only `{}` |", values.join("`, `")),
                Support::Idle(why) => writeln!(page, "| `{field}` | taken without effect: {why} |"),
            };
        }
        let refused: BTreeSet<String> = kind
            .leaves
            .iter()
            .filter(|leaf| kind.support(&leaf.path).is_none() && kind.judged(&leaf.path) == leaf.path)
            .flat_map(|leaf| kind.refused(leaf))
            .map(|field| field.trim_start_matches("spec.").replace("[0]", "[]"))
            .collect();
        if !refused.is_empty() {
            let list: Vec<_> = refused.iter().map(|field| format!("`{field}`")).collect();
            let _ = write!(page, "\nRefused: {}.\n", list.join(", "));
        }
    }
    page
}
