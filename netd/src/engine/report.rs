//! What `minipod node status` and tests are told. For people: its shape may change.

use netd_dataplane::facts::DenyAction;
use serde_json::{Value, json};

use super::Engine;

impl Engine {
    pub(super) fn report(&mut self) -> Value {
        let revoked = self.revoker.counts();
        let cluster = self.objects.index().cluster();
        let attachments: Vec<Value> = self
            .attacher
            .attachments()
            .map(|record| {
                json!({
                    "containerId": record.sandbox.container_id,
                    "pod": record.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name)),
                    "link": record.link.as_str(),
                    "addresses": record.addresses,
                })
            })
            .collect();
        let problems: Vec<String> = self
            .objects
            .index()
            .problems()
            .map(|(policy, problem)| {
                format!("{}/{}: {}: {}", policy.namespace, policy.name, problem.path, problem.problem)
            })
            .collect();
        let drops: Vec<Value> = self
            .drops
            .counts()
            .map(|(pod, reason, told)| json!({"pod": pod, "reason": reason.as_str(), "told": told}))
            .collect();
        json!({
            "node": cluster.options.node,
            "iptables": self.dataplane.kernel().variant().to_string(),
            "denyAction": match self.facts.deny_action {
                DenyAction::Drop => "drop",
                DenyAction::Reject => "reject",
            },
            "enforcing": !self.is_failing() && self.objects.complete(),
            "failure": self.failure(),
            "attachments": attachments,
            "addressesInUse": self.attacher.ipam().in_use(),
            "repairs": self.repairs,
            "drops": drops,
            "policies": cluster.policies.len(),
            "changes": {"count": self.changes.0, "lastMilliseconds": self.changes.1.as_secs_f64() * 1000.0},
            "problems": problems,
            "unreached": self.others.problems().collect::<Vec<_>>(),
            "connections": {
                "cut": revoked.cut,
                "restored": revoked.restored,
                "forbidden": revoked.forbidden,
                "failure": revoked.failure,
            },
        })
    }
}
