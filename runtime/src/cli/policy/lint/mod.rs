//! `policy lint`: what is probably not meant so, found in the objects alone.
//!
//! This file fetches; [`objects`] says who is selected, [`nobody`], [`ports`], [`dns`] and [`shadow`] what is wrong, [`text`] how it is
//! told.

mod covers;
mod dns;
mod finding;
mod nobody;
mod objects;
mod ports;
mod shadow;
mod text;

use netd_policy::object::Policy;

use super::super::args::switch;
use super::super::cluster;
use super::super::context::Context;
use super::super::failure::Exit;
use super::super::out;
use finding::{Finding, Level};
use objects::Objects;

/// Options of `policy lint`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Tell about these policies only
    #[arg(value_name = "POLICY")]
    names: Vec<String>,

    /// The policies of all namespaces
    #[arg(short = 'A', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch, conflicts_with = "names")]
    all_namespaces: bool,

    /// Output format: json
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = context.client().await?;
        let namespace = (!self.all_namespaces).then(|| context.namespace());
        let index = cluster::read(&client).await?.index;
        let there = index.cluster();
        let policies = there.policies.values();
        let policies = policies.filter(|policy| namespace.is_none_or(|namespace| policy.key.namespace == namespace));
        // Peers may be in any namespace.
        let objects = Objects::new(policies.cloned(), there.pods.values().cloned(), there.namespaces.values().cloned());
        if let Some(unknown) = self.names.iter().find(|name| !objects.policies.iter().any(|p| p.key.name == **name)) {
            let namespace = context.namespace();
            anyhow::bail!(
                "there is no network policy \"{unknown}\" in namespace \"{namespace}\": see `minipod policy list -n {namespace}`"
            );
        }
        let findings = find(&objects, &self.names);
        if self.output.is_some() {
            out::print(&text::json(&findings))?;
        } else if findings.is_empty() {
            let of = namespace.map(|namespace| format!(" of namespace {namespace}")).unwrap_or_default();
            out::say(&format!("No findings in the network policies{of} ({}).", objects.policies.len()));
        } else {
            out::print(&text::table(&findings).render())?;
        }
        if findings.iter().any(|finding| finding.level == Level::Warning) {
            return Err(Exit { code: 1, message: String::new() }.into());
        }
        Ok(())
    }
}

/// Everything that is found, in the order of the policies; with `names` only what concerns these.
fn find(objects: &Objects, names: &[String]) -> Vec<Finding> {
    let asked: Vec<&Policy> =
        objects.policies.iter().filter(|policy| names.is_empty() || names.contains(&policy.key.name)).collect();
    let mut findings: Vec<Finding> = Vec::new();
    for policy in &asked {
        findings.extend(nobody::find(objects, policy));
        findings.extend(ports::find(objects, policy));
        findings.extend(shadow::find(objects, policy));
    }
    findings.extend(dns::find(objects, &asked));
    // Stable: what is found of one policy stays in the order of its fields.
    findings.sort_by(|a, b| a.policy.cmp(&b.policy));
    findings
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1;
    use netd_policy::object::{Namespace, Pod, Policy};
    use serde_json::{Value, json};

    use super::objects::Objects;
    use super::{find, text};

    fn policy(name: &str, spec: &Value) -> Policy {
        let object = serde_json::from_value(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}));
        Policy::read(&object.expect("a policy"))
    }

    fn pod(namespace: &str, name: &str, ports: &Value) -> Pod {
        let object = serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "ports": ports}]}, "status": {"podIPs": [{"ip": "10.244.0.5"}]},
        }));
        Pod::read(&object.expect("a pod"))
    }

    fn namespace(name: &str, team: &str) -> Namespace {
        let object: v1::Namespace =
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"team": team}}})).expect("a namespace");
        Namespace::read(&object)
    }

    /// What is found, without the next steps.
    #[track_caller]
    fn check(policies: &[(&str, Value)], names: &[&str], expected: &[&str]) {
        let http =
            json!([{"name": "http", "containerPort": 80}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]);
        let objects = Objects::new(
            policies.iter().map(|(name, spec)| policy(name, spec)),
            [pod("shop", "web", &http), pod("shop", "db", &json!([])), pod("ops", "probe", &json!([]))].into_iter(),
            [namespace("shop", "a"), namespace("ops", "b")].into_iter(),
        );
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let table = text::table(&find(&objects, &names));
        let found: Vec<String> = table.rows.iter().map(|row| row[..4].join(" | ")).collect();
        assert_eq!(found, expected);
    }

    fn labels(app: &str) -> Value {
        json!({"matchLabels": {"app": app}})
    }

    #[test]
    fn what_is_written_as_it_works_is_not_found_fault_with() {
        let ingress = json!({"podSelector": labels("web"), "ingress": [
            {"from": [{"podSelector": labels("db")}, {"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": "http"}]},
            {"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}, "podSelector": labels("probe")}]},
        ]});
        let egress = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [
            {"to": [{"podSelector": labels("web")}], "ports": [{"port": "http"}]},
            {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
             "ports": [{"port": "dns", "protocol": "UDP"}, {"port": 53}]},
        ]});
        check(&[("in", ingress), ("out", egress), ("deny", json!({"podSelector": {}}))], &[], &[]);
    }

    #[test]
    fn selectors_that_match_nobody_are_told_with_their_field() {
        let spec = json!({"podSelector": labels("wbe"), "ingress": [{"from": [
            {"podSelector": labels("probe")},
            {"namespaceSelector": {"matchLabels": {"team": "c"}}},
            {"namespaceSelector": {"matchLabels": {"team": "b"}}, "podSelector": labels("web")},
            {"namespaceSelector": {}},
        ]}]});
        check(
            &[("a", spec)],
            &[],
            &[
                "warning | shop/a | podSelector | selects no pod: namespace shop has none with app=wbe",
                "warning | shop/a | ingress[0].from[0] | matches no pod: none in namespace shop with app=probe",
                "warning | shop/a | ingress[0].from[1] | matches no namespace: none with team=c",
                "warning | shop/a | ingress[0].from[2] | matches no pod: none in the namespaces team=b with app=web",
            ],
        );
    }

    #[test]
    fn a_field_that_was_not_understood_is_told() {
        let spec = json!({"podSelector": {}, "ingress": [{}, {"from": [{"ipBlock": {"cidr": "10.0.0.0/99"}}]}]});
        let expected = "warning | shop/a | ingress[1].from[0].ipBlock.cidr | not understood, allows nothing: \
            must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64) (value `10.0.0.0/99`)";
        check(&[("a", spec)], &[], &[expected]);
    }

    #[test]
    fn a_port_name_is_looked_for_at_the_destination() {
        let spec = json!({"podSelector": labels("db"), "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"port": "http"}]}],
            "egress": [{"ports": [{"port": "http"}, {"port": 53}, {"port": 53, "protocol": "UDP"}]},
                       {"to": [{"podSelector": labels("web")}], "ports": [{"port": "http"}, {"port": "dns"}]},
                       {"to": [{"podSelector": labels("nobody")}], "ports": [{"port": "http"}]},
                       {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": "http"}]}]});
        check(
            &[("a", spec)],
            &[],
            &[
                "warning | shop/a | egress[2].to[0] | matches no pod: none in namespace shop with app=nobody",
                "warning | shop/a | ingress[0].ports[0] | no selected pod has a TCP port `http`: allows nothing",
                "warning | shop/a | egress[1].ports[1] | no pod among the peers has a TCP port `dns`: allows nothing; there is one for UDP",
                "warning | shop/a | egress[3].ports[0] | no pod among the peers has a TCP port `http`: allows nothing",
                "note | shop/a | egress[2] | egress[0] allows all that it allows",
                "note | shop/a | egress[3] | egress[0] allows all that it allows",
            ],
        );
    }

    #[test]
    fn egress_without_dns_is_judged_by_all_policies_of_a_pod() {
        let out =
            |app: &str, rules: Value| json!({"podSelector": labels(app), "policyTypes": ["Egress"], "egress": rules});
        let to_db = || out("web", json!([{"to": [{"podSelector": labels("db")}]}]));
        let udp = || {
            json!({"podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]})
        };
        let none = || json!({"podSelector": {}, "policyTypes": ["Egress"]});
        let blocks = out("web", json!([{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]}]));
        let web = "web may not reach the cluster DNS: no rule allows port 53 over UDP and TCP";
        check(
            &[("a", none()), ("b", to_db())],
            &[],
            &[
                "note | shop/a | egress | nothing at all may leave db, so names do not resolve there either",
                &format!("warning | shop/b | egress | {web}"),
            ],
        );
        check(
            &[("a", to_db()), ("b", udp())],
            &[],
            &[
                "warning | shop/a | egress | web may not reach the cluster DNS: no rule allows port 53 over TCP",
                "warning | shop/b | egress | db may not reach the cluster DNS: no rule allows port 53 over TCP",
            ],
        );
        check(
            &[("a", to_db()), ("b", none())],
            &["b"],
            &[
                &format!("warning | shop/b | egress | {web}"),
                "note | shop/b | egress | nothing at all may leave db, so names do not resolve there either",
            ],
        );
        check(&[("a", blocks)], &[], &[&format!("warning | shop/a | egress | {web}")]);
    }

    #[test]
    fn of_rules_that_allow_the_same_the_first_stays() {
        let from = |peers: Value, ports: Value| json!({"from": peers, "ports": ports});
        let all = json!({"podSelector": {}, "ingress": [
            from(json!([{"podSelector": labels("db")}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]),
                 json!([{"port": 80, "endPort": 90}, {"port": "http"}])),
        ]});
        let web = json!({"podSelector": labels("web"), "ingress": [
            // The same namespace, in other words.
            from(json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}, "podSelector": labels("db")}]),
                 json!([{"port": 85}, {"port": "http"}])),
            from(json!([{"podSelector": labels("db")}]), json!([{"port": 80, "protocol": "UDP"}])),
            from(json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]), json!([{"port": 80}])),
            from(json!([{"ipBlock": {"cidr": "10.2.0.0/16"}}]), json!([{"port": 90}])),
            from(json!([{"podSelector": {}}]), json!([])),
            from(json!([{"podSelector": {}}]), json!([])),
        ]});
        check(
            &[("all", all.clone()), ("web", web)],
            &[],
            &[
                "note | shop/web | ingress[0] | ingress[0] of policy all allows all that it allows",
                "note | shop/web | ingress[1] | ingress[4] allows all that it allows",
                "note | shop/web | ingress[3] | ingress[0] of policy all allows all that it allows",
                "note | shop/web | ingress[5] | ingress[4] allows all that it allows",
            ],
        );
        check(
            &[("all", all.clone()), ("twin", all)],
            &[],
            &["note | shop/twin | ingress[0] | ingress[0] of policy all allows all that it allows"],
        );
    }
}
