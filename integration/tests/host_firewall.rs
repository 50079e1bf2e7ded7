//! What policy allows works, and what it denies stays denied, beside the rule sets that hosts have (semantics, ruling 21;
//! datapath, "Hooks"): each in the shape in which its owner writes it, put on top of ours while the node runs.

use integration::lab::{HELLO_URL, Iptables, Lab};

/// Nothing is forwarded or taken in that no rule allows.
const POLICY_DROP: &str = "
for t in iptables ip6tables; do
  $t-$MINIPOD_IPTABLES -w -P FORWARD DROP
  $t-$MINIPOD_IPTABLES -w -P INPUT DROP
done
";

/// Docker: policy DROP, its own chains jumped to from the top of FORWARD, everything towards its bridge dropped.
const DOCKER: &str = "
ipt() { iptables-$MINIPOD_IPTABLES -w \"$@\"; }
ipt -P FORWARD DROP
ipt -N DOCKER; ipt -N DOCKER-USER; ipt -N DOCKER-ISOLATION-STAGE-1; ipt -N DOCKER-ISOLATION-STAGE-2
ipt -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
ipt -A DOCKER-ISOLATION-STAGE-1 -j RETURN
ipt -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
ipt -A DOCKER-ISOLATION-STAGE-2 -j RETURN
ipt -A DOCKER-USER -j RETURN
ipt -I FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
ipt -I FORWARD -o docker0 -j DOCKER
ipt -I FORWARD -i docker0 ! -o docker0 -j ACCEPT
ipt -I FORWARD -j DOCKER-ISOLATION-STAGE-1
ipt -I FORWARD -j DOCKER-USER
";

/// ufw: policies DROP, chains before and after the user's, invalid packets dropped, the rest logged and left to the policy.
const UFW: &str = "
for t in iptables ip6tables; do
  ipt() { $t-$MINIPOD_IPTABLES -w \"$@\"; }
  ipt -P INPUT DROP; ipt -P FORWARD DROP
  for c in input forward; do
    C=$(echo $c | tr a-z A-Z)
    for stage in before user after reject; do ipt -N ufw-$stage-$c; done
    ipt -A ufw-before-$c -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    ipt -A ufw-before-$c -m conntrack --ctstate INVALID -j DROP
    ipt -A ufw-before-$c -j ufw-user-$c
    for stage in reject after before; do ipt -I $C -j ufw-$stage-$c; done
  done
  ipt -I ufw-before-input -i lo -j ACCEPT
done
";

/// firewalld with its iptables back end: zones by interface, and whatever is left is rejected.
const FIREWALLD: &str = "
ipt() { iptables-$MINIPOD_IPTABLES -w \"$@\"; }
for c in INPUT FORWARD; do
  ipt -N ${c}_direct; ipt -N ${c}_ZONES; ipt -N ${c}_IN_public
  ipt -A ${c}_ZONES -i up0 -g ${c}_IN_public
  ipt -A ${c}_IN_public -p tcp --dport 22 -j ACCEPT
  ipt -A $c -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
  ipt -A $c -i lo -j ACCEPT
  ipt -A $c -j ${c}_direct
  ipt -A $c -j ${c}_ZONES
  ipt -A $c -m conntrack --ctstate INVALID -j DROP
  ipt -A $c -j REJECT --reject-with icmp-host-prohibited
done
";

/// kube-proxy: its chain at the top of FORWARD accepts what it marked; and a host that accepts everything before anyone else.
const KUBE_PROXY: &str = "
ipt() { iptables-$MINIPOD_IPTABLES -w \"$@\"; }
ipt -N KUBE-FORWARD
ipt -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
ipt -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
ipt -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
ipt -I FORWARD -m conntrack --ctstate NEW -j KUBE-FORWARD
ipt -I FORWARD -j ACCEPT
ipt -I INPUT -j ACCEPT
ipt -t nat -N KUBE-POSTROUTING
ipt -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
ipt -t nat -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
ipt -t nat -A KUBE-POSTROUTING -j MASQUERADE
ipt -t nat -I POSTROUTING -j KUBE-POSTROUTING
";

fn holds_beside(rules: &str, iptables: Iptables) {
    let lab = Lab::with_lesson(iptables);
    let url = HELLO_URL;
    let _ = lab.shell(rules).expect_success();
    let by_address = format!("http://{}:8080", lab.pod_ip("hello-web"));
    for target in [url, &by_address] {
        let allowed = lab.wget("foo", target);
        assert!(allowed.succeeded(), "{target} should work beside the host's rules:\n{allowed}");
        assert!(!lab.wget("other", target).succeeded(), "{target} should stay denied");
    }
    // What the node itself sends to its pods is not the firewall's business either (ruling 7).
    let node = lab.shell(&format!("minipod-hello wget -qO- --timeout=2 {by_address}"));
    assert!(node.succeeded(), "the node reaches its own pod:\n{node}");
    // A pod made now works as well.
    lab.pod("late", "app=foo");
    let late = lab.wget("late", url);
    assert!(late.succeeded(), "a later pod works:\n{late}");
}

macro_rules! rule_sets {
    ($($name:ident: $rules:expr;)*) => {
        mod nft {
            $(#[test] fn $name() { super::holds_beside($rules, integration::lab::Iptables::Nft); })*
        }
        mod legacy {
            $(#[test] fn $name() { super::holds_beside($rules, integration::lab::Iptables::Legacy); })*
        }
    };
}

rule_sets! {
    forward_policy_drop: super::POLICY_DROP;
    docker: super::DOCKER;
    ufw: super::UFW;
    firewalld: super::FIREWALLD;
    kube_proxy: super::KUBE_PROXY;
}
