//! Starts of a daemon that find something else than they want: the daemon is killed before each operation of its first change, too.

use integration::api::JSON;
use integration::lab::Iptables;
use serde_json::json;

use crate::scene::{Change, Scene, Start, Verdict, ask, open};

integration::on_both_variants! {
    starts_that_change_rules_or_sets
}

/// The sets of pods take as few elements as somebody may have made them with.
const MAKE_SETS_SMALL: &str = r"
for set in $(ipset list -n | grep '^mp-p-'); do
    ipset save $set | sed -e 's/maxelem [0-9]*/maxelem 64/' -e s/$set/small/ | ipset restore
    ipset swap small $set
    ipset destroy small
done
ipset list | grep -q 'maxelem 64'
";

fn starts_that_change_rules_or_sets(iptables: Iptables) {
    let mut scene = Scene::new(iptables);
    let passes: Verdict = |way| open(way) && (!matches!(way.to, "s1" | "s2") || way.from == "friend");
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web"},
        "spec": {"podSelector": {"matchLabels": {"app": "server"}},
                 "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}]},
    });
    let path = "/apis/networking.k8s.io/v1/namespaces/x/networkpolicies";
    scene.make(&Change::new("a policy is made", passes, |lab| ask(lab, "POST", path, JSON, &policy)));
    let start = |name, options, before| Start { name, options, before };
    scene.sweep_starts(&[
        start("denied packets are answered from now on", &["--deny-action", "reject"], "true"),
        start("denied packets are dropped again", &["--deny-action", "drop"], "true"),
        start("sets take too few elements", &[], MAKE_SETS_SMALL),
    ]);
}
