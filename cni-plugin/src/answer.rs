//! The result of an ADD in the form of each version of the specification, added to what plugins before us made. Pure.

use minipod_protocol::netd::{Attached, Dns};
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::environment::Environment;

/// The result document.
pub(crate) fn result(config: &Config, environment: &Environment, attached: &Attached) -> Value {
    let mut document = config.previous.clone().unwrap_or_default();
    let with_mtu = config.version == "1.1.0";
    let interface = |name: &str, mac: &str, sandbox: Option<&str>| {
        let mut interface = json!({ "name": name, "mac": mac });
        if with_mtu {
            interface["mtu"] = json!(attached.mtu);
        }
        if let Some(sandbox) = sandbox {
            interface["sandbox"] = json!(sandbox);
        }
        interface
    };
    let interfaces = list(&mut document, "interfaces");
    interfaces.push(interface(&attached.host_ifname, &attached.host_mac, None));
    let inside = interfaces.len();
    interfaces.push(interface(&environment.ifname, &attached.mac, Some(&environment.netns)));
    for address in &attached.addresses {
        let v4 = address.address.is_ipv4();
        let length = if v4 { 32 } else { 128 };
        let mut ip = json!({
            "address": format!("{}/{length}", address.address), "gateway": address.gateway, "interface": inside,
        });
        if config.version.starts_with('0') {
            ip["version"] = json!(if v4 { "4" } else { "6" });
        }
        list(&mut document, "ips").push(ip);
        let anywhere = if v4 { "0.0.0.0/0" } else { "::/0" };
        list(&mut document, "routes").push(json!({ "dst": anywhere, "gw": address.gateway }));
    }
    let dns = config.dns.as_ref().unwrap_or(&attached.dns);
    if document.get("dns").and_then(Value::as_object).is_none_or(Map::is_empty) {
        document.insert("dns".to_owned(), dns_of(dns));
    }
    document.insert("cniVersion".to_owned(), json!(config.version));
    Value::Object(document)
}

fn dns_of(dns: &Dns) -> Value {
    let mut document = Map::new();
    for (key, value, empty) in [
        ("nameservers", json!(dns.nameservers), dns.nameservers.is_empty()),
        ("search", json!(dns.search), dns.search.is_empty()),
        ("options", json!(dns.options), dns.options.is_empty()),
    ] {
        if !empty {
            document.insert(key.to_owned(), value);
        }
    }
    Value::Object(document)
}

/// The list under a key, made where it is missing.
fn list<'a>(document: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let value = document.entry(key).or_insert_with(|| json!([]));
    if !value.is_array() {
        *value = json!([]);
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("made a list one line above"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use minipod_protocol::netd::{Address, Attached, Dns};
    use serde_json::json;

    use super::result;
    use crate::config::Config;
    use crate::environment::{Args, Environment, Verb};

    pub(crate) fn attached() -> Attached {
        let address = |address: &str, gateway: &str| Address {
            address: address.parse().expect("ip"),
            gateway: gateway.parse().expect("ip"),
        };
        Attached {
            host_ifname: "mpod0123456789a".into(),
            host_mac: "02:00:00:00:00:01".into(),
            mac: "02:00:00:00:00:02".into(),
            mtu: 1500,
            addresses: vec![address("10.244.1.5", "169.254.1.1"), address("fd00::5", "fe80::1")],
            dns: Dns {
                nameservers: vec!["10.96.0.10".parse().expect("ip")],
                search: vec!["svc".into()],
                options: vec![],
            },
        }
    }

    fn environment() -> Environment {
        Environment {
            verb: Verb::Add,
            container_id: "c1".into(),
            netns: "/run/netns/x".into(),
            ifname: "eth0".into(),
            args: Args::default(),
        }
    }

    fn config(version: &str, previous: &serde_json::Value) -> Config {
        let document = json!({ "cniVersion": version, "name": "pods", "type": "minipod-cni", "prevResult": previous });
        Config::read(document.to_string().as_bytes()).expect("valid")
    }

    #[test]
    fn the_result_has_both_ends_addresses_routes_and_dns() {
        let expected = json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                { "name": "mpod0123456789a", "mac": "02:00:00:00:00:01", "mtu": 1500 },
                { "name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1500, "sandbox": "/run/netns/x" },
            ],
            "ips": [
                { "address": "10.244.1.5/32", "gateway": "169.254.1.1", "interface": 1 },
                { "address": "fd00::5/128", "gateway": "fe80::1", "interface": 1 },
            ],
            "routes": [{ "dst": "0.0.0.0/0", "gw": "169.254.1.1" }, { "dst": "::/0", "gw": "fe80::1" }],
            "dns": { "nameservers": ["10.96.0.10"], "search": ["svc"] },
        });
        assert_eq!(result(&config("1.1.0", &json!(null)), &environment(), &attached()), expected);
    }

    #[test]
    fn older_versions_have_their_own_form() {
        let old = result(&config("0.4.0", &json!(null)), &environment(), &attached());
        assert_eq!((&old["ips"][0]["version"], &old["ips"][1]["version"]), (&json!("4"), &json!("6")));
        let newer = result(&config("1.0.0", &json!(null)), &environment(), &attached());
        assert!(newer["ips"][0].get("version").is_none() && newer["interfaces"][0].get("mtu").is_none());
        assert_eq!(newer["cniVersion"], "1.0.0");
    }

    #[test]
    fn what_earlier_plugins_made_is_kept_and_ours_comes_after() {
        let previous = json!({
            "cniVersion": "1.0.0", "interfaces": [{ "name": "other" }], "routes": [{ "dst": "1.2.3.0/24" }],
            "dns": { "nameservers": ["9.9.9.9"] }, "ips": [],
        });
        let result = result(&config("1.0.0", &previous), &environment(), &attached());
        assert_eq!(result["interfaces"][0]["name"], "other");
        assert_eq!((&result["ips"][0]["interface"], &result["routes"][0]["dst"]), (&json!(2), &json!("1.2.3.0/24")));
        assert_eq!(result["dns"]["nameservers"][0], "9.9.9.9");
    }
}
