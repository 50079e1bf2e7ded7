//! Finds our own part in a result that a caller hands back for CHECK. Pure.

use minipod_protocol::netd::{Address, Attached, Dns};
use serde_json::{Map, Value};

use crate::environment::Environment;
use crate::failure::{Failure, INVALID_CONFIG};

/// The attachment that the result tells of. What later plugins added is not looked at.
pub(crate) fn attached(result: &Map<String, Value>, environment: &Environment) -> Result<Attached, Failure> {
    let missing = |what: &str| Failure::new(INVALID_CONFIG, format!("`prevResult` does not have {what}"));
    let interfaces = result.get("interfaces").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let inside = interfaces
        .iter()
        .position(|interface| {
            interface["name"] == environment.ifname.as_str()
                && interface["sandbox"].as_str().is_some_and(|path| !path.is_empty())
        })
        .ok_or_else(|| missing(&format!("the interface `{}` in a sandbox", environment.ifname)))?;
    let is_ours = |interface: &&Value| {
        let outside = interface["sandbox"].as_str().is_none_or(str::is_empty);
        outside && interface["name"].as_str().is_some_and(|name| name.starts_with("mpod"))
    };
    let host = interfaces.iter().find(is_ours).ok_or_else(|| missing("the interface on the node"))?;
    let text = |interface: &Value, key: &str| interface[key].as_str().unwrap_or_default().to_owned();
    let pod = interfaces.get(inside).unwrap_or(&Value::Null);
    let ips = result.get("ips").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let addresses = ips.iter().filter(|ip| ip["interface"] == inside).filter_map(address).collect();
    Ok(Attached {
        host_ifname: text(host, "name"),
        host_mac: text(host, "mac"),
        mac: text(pod, "mac"),
        // Results before 1.1.0 have none; netd compares with its own record.
        mtu: pod["mtu"].as_u64().and_then(|mtu| u32::try_from(mtu).ok()).unwrap_or(0),
        addresses,
        dns: Dns::default(),
    })
}

fn address(ip: &Value) -> Option<Address> {
    let address = ip["address"].as_str()?.split('/').next()?.parse().ok()?;
    Some(Address { address, gateway: ip["gateway"].as_str()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use minipod_protocol::netd::Dns;
    use serde_json::{Value, json};

    use super::attached;
    use crate::answer;
    use crate::config::Config;
    use crate::environment::{Args, Environment, Verb};

    #[test]
    fn what_an_add_answered_is_found_again_among_others() {
        let environment = Environment {
            verb: Verb::Check,
            container_id: "c1".into(),
            netns: "/run/netns/x".into(),
            ifname: "eth0".into(),
            args: Args::default(),
        };
        let document =
            json!({ "cniVersion": "1.1.0", "name": "pods", "prevResult": { "interfaces": [{ "name": "eth0" }] } });
        let config = Config::read(document.to_string().as_bytes()).expect("valid");
        let made = answer::tests::attached();
        let Value::Object(mut result) = answer::result(&config, &environment, &made) else { unreachable!("an object") };
        result["ips"].as_array_mut().expect("ips").push(json!({ "address": "1.2.3.4/24", "interface": 0 }));
        let mut expected = made;
        expected.dns = Dns::default();
        assert_eq!(attached(&result, &environment).expect("found"), expected);
        result.remove("interfaces");
        assert_eq!(attached(&result, &environment).map_err(|failure| failure.code), Err(7));
    }
}
