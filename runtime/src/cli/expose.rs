//! `expose`: gives a pod, or the pods of a service, a service.

use std::collections::BTreeMap;

use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};

use super::apply::{DryRun, FIELD_MANAGER};
use super::context::Context;
use super::kind::SERVICE;
use super::output::{self, Format};
use super::target::Target;
use super::{args, out};

/// Options of `expose`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to expose: `pod web`, `pod/web`, `service web`
    #[arg(value_name = "KIND[/NAME]", required = true)]
    target: Vec<String>,

    /// Port of the service [default: the ports of what is exposed]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Port of the pods, a number or a name [default: the port of the service]
    #[arg(long, value_name = "PORT")]
    target_port: Option<String>,

    /// TCP, UDP or SCTP
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<String>,

    /// Name of the service [default: the name of what is exposed]
    #[arg(long)]
    name: Option<String>,

    /// Pods of the service [default: those with the labels of what is exposed]
    #[arg(long, value_name = "LABELS")]
    selector: Option<String>,

    /// Labels of the service
    #[arg(short = 'l', long, value_name = "LABELS", value_delimiter = ',')]
    labels: Vec<String>,

    /// Type of the service: `ClusterIP`
    #[arg(long = "type", value_name = "TYPE")]
    service_type: Option<String>,

    /// Address of the service; `None` for a headless one
    #[arg(long, value_name = "ADDRESS")]
    cluster_ip: Option<String>,

    /// Only print what would be done
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_value = "none", default_missing_value = "client")]
    dry_run: DryRun,

    /// Format: yaml, json, name, jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT", value_parser = Format::parse)]
    output: Option<Format>,
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Target::Named(names) = Target::parse(&self.target)? else {
            anyhow::bail!("give the name of what to expose, e.g. `pod/web`");
        };
        let client = context.client().await?;
        for (kind, name) in names {
            anyhow::ensure!(
                matches!(kind.kind, "Pod" | "Service"),
                "cannot expose a {}: expose a pod or a service",
                kind.kind
            );
            let source = kind.api(client.clone(), Some(context.namespace())).get(&name).await?;
            let service = self.service(kind.kind, &name, context.namespace(), &source)?;
            let mut object: DynamicObject = serde_json::from_value(service)?;
            if self.dry_run != DryRun::Client {
                let params = PostParams {
                    dry_run: self.dry_run == DryRun::Server,
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                };
                object = SERVICE.api(client.clone(), Some(context.namespace())).create(&params, &object).await?;
            }
            let created = object.metadata.name.clone().unwrap_or_default();
            match &self.output {
                Some(format) => out::print(&output::render(format, &[(&SERVICE, object)], true))?,
                None => out::print(&format!("{} exposed{}\n", SERVICE.object_name(&created), self.dry_run.suffix()))?,
            }
        }
        Ok(())
    }

    /// The service for `source`.
    fn service(&self, kind: &str, name: &str, namespace: &str, source: &DynamicObject) -> anyhow::Result<Value> {
        let selector = match &self.selector {
            Some(text) => args::pairs("selector", std::slice::from_ref(text))?,
            None => selector_of(kind, source)?,
        };
        let labels = if self.labels.is_empty() {
            source.metadata.labels.clone().unwrap_or_default()
        } else {
            args::pairs("label", &self.labels)?
        };
        let mut spec = json!({"selector": selector, "ports": self.ports(kind, source)?});
        if let Some(service_type) = &self.service_type {
            spec["type"] = json!(service_type);
        }
        if let Some(address) = &self.cluster_ip {
            spec["clusterIP"] = json!(address);
        }
        let name = self.name.as_deref().unwrap_or(name);
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": spec,
        }))
    }

    fn ports(&self, kind: &str, source: &DynamicObject) -> anyhow::Result<Vec<Value>> {
        let known = match self.port {
            Some(port) => vec![(port, None)],
            None => ports_of(kind, source),
        };
        anyhow::ensure!(!known.is_empty(), "couldn't find port via --port flag or introspection: give `--port`");
        let several = known.len() > 1;
        let port = |(index, (number, protocol)): (usize, (u16, Option<String>))| {
            let target = match &self.target_port {
                Some(text) => text.parse::<u16>().map_or_else(|_| json!(text), |number| json!(number)),
                None => json!(number),
            };
            let protocol = self.protocol.clone().map(|p| p.to_ascii_uppercase()).or(protocol);
            let mut port =
                json!({"port": number, "protocol": protocol.as_deref().unwrap_or("TCP"), "targetPort": target});
            if several {
                port["name"] = json!(format!("port-{}", index + 1));
            }
            port
        };
        Ok(known.into_iter().enumerate().map(port).collect())
    }
}

fn selector_of(kind: &str, source: &DynamicObject) -> anyhow::Result<BTreeMap<String, String>> {
    let selector = match kind {
        "Pod" => source.metadata.labels.clone().unwrap_or_default(),
        _ => serde_json::from_value(source.data.pointer("/spec/selector").cloned().unwrap_or_else(|| json!({})))?,
    };
    anyhow::ensure!(
        !selector.is_empty(),
        "couldn't retrieve selectors via --selector flag or introspection: the {} has no labels and cannot be exposed",
        kind.to_ascii_lowercase()
    );
    Ok(selector)
}

fn ports_of(kind: &str, source: &DynamicObject) -> Vec<(u16, Option<String>)> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let (ports, field) = match kind {
        "Pod" => {
            let containers = list(source.data.pointer("/spec/containers"));
            (containers.iter().flat_map(|c| list(c.get("ports"))).collect(), "containerPort")
        }
        _ => (list(source.data.pointer("/spec/ports")), "port"),
    };
    let read = |port: &Value| {
        let number = u16::try_from(port.get(field)?.as_u64()?).ok()?;
        Some((number, port.get("protocol").and_then(Value::as_str).map(str::to_owned)))
    };
    ports.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::{Value, json};

    use super::super::{Cli, Command};

    #[track_caller]
    fn service(args: &[&str], source: Value) -> anyhow::Result<Value> {
        let cli = Cli::try_parse_from(["minipod", "expose", "pod", "web"].iter().chain(args)).expect("options");
        let Command::Expose(args) = cli.command else { unreachable!("expose was parsed") };
        args.service("Pod", "web", "default", &serde_json::from_value(source).expect("an object"))
    }

    fn pod() -> Value {
        json!({"metadata": {"name": "web", "labels": {"app": "hello"}},
               "spec": {"containers": [{"name": "a", "ports": [{"containerPort": 8080}]}]}})
    }

    #[test]
    fn a_pod_is_exposed_by_its_labels_and_ports() {
        let expected = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "default", "labels": {"app": "hello"}},
            "spec": {"selector": {"app": "hello"}, "ports": [{"port": 8080, "protocol": "TCP", "targetPort": 8080}]}});
        assert_eq!(service(&[], pod()).expect("a service"), expected);
        let other = service(&["--port", "80", "--target-port", "http", "--name", "x", "--protocol", "udp"], pod());
        let other = other.expect("a service");
        assert_eq!(other["spec"]["ports"], json!([{"port": 80, "protocol": "UDP", "targetPort": "http"}]));
        assert_eq!(other["metadata"]["name"], "x");
    }

    #[test]
    fn a_pod_without_labels_or_ports_cannot_be_exposed() {
        let error = service(&[], json!({"metadata": {"name": "web"}, "spec": {}})).expect_err("no labels").to_string();
        assert!(error.ends_with("the pod has no labels and cannot be exposed"), "{error}");
        let error = service(&[], json!({"metadata": {"labels": {"a": "b"}}, "spec": {}})).expect_err("no ports");
        assert!(error.to_string().starts_with("couldn't find port via --port flag or introspection"));
    }
}
