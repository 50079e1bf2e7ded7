//! What the server can do, in Kubernetes' (not aggregated) discovery form, made from the table of kinds.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kinds::{KINDS, Kind};

/// The Kubernetes version whose API this is; clients choose features by it.
const MINOR: &str = "36";

/// A page of discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    /// `/version`
    Version,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`
    Resources(String, String),
    /// `/openapi/v3`: where the schemas are
    Schemas,
    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`: no schemas, but that the server itself judges fields, which is what
    /// `kubectl apply` looks for before it leaves that to the server
    Schema(String, String),
}

impl Page {
    pub(crate) fn parse(segments: &[&str]) -> Option<Self> {
        let known = |group: &str| KINDS.iter().any(|kind| kind.resource.group == group);
        match segments {
            ["version"] => Some(Self::Version),
            ["api"] => Some(Self::CoreVersions),
            ["apis"] => Some(Self::Groups),
            ["openapi", "v3"] => Some(Self::Schemas),
            ["openapi", "v3", rest @ ..] => match Self::parse(rest) {
                Some(Self::Resources(group, version)) => Some(Self::Schema(group, version)),
                _ => None,
            },
            ["api", "v1"] => Some(Self::Resources(String::new(), "v1".to_owned())),
            ["apis", group] if known(group) => Some(Self::Group((*group).to_owned())),
            ["apis", group, version] if versions(group).contains(version) => {
                Some(Self::Resources((*group).to_owned(), (*version).to_owned()))
            }
            _ => None,
        }
    }

    pub(crate) fn render(&self) -> Value {
        match self {
            Self::Version => json!({
                "major": "1",
                "minor": MINOR,
                "gitVersion": format!("v1.{MINOR}.0+minipod.{}", env!("CARGO_PKG_VERSION")),
                "gitCommit": "",
                "gitTreeState": "clean",
                "buildDate": "1970-01-01T00:00:00Z",
                "goVersion": "none",
                "compiler": "rustc",
                "platform": format!("linux/{}", std::env::consts::ARCH),
            }),
            Self::CoreVersions => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
            Self::Groups => {
                let groups: BTreeMap<_, _> = KINDS
                    .iter()
                    .map(|kind| kind.resource.group)
                    .filter(|g| !g.is_empty())
                    .map(|g| (g, group(g)))
                    .collect();
                json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups.into_values().collect::<Vec<_>>()})
            }
            Self::Group(name) => {
                let mut page = json!({"kind": "APIGroup", "apiVersion": "v1"});
                if let (Value::Object(page), Value::Object(group)) = (&mut page, group(name)) {
                    page.extend(group);
                }
                page
            }
            Self::Resources(group, version) => resources(group, version),
            Self::Schemas => {
                let paths: serde_json::Map<_, _> = KINDS
                    .iter()
                    .map(api_root)
                    .map(|root| {
                        let url = format!("/openapi/v3/{root}");
                        (root, json!({"serverRelativeURL": url}))
                    })
                    .collect();
                json!({"paths": paths})
            }
            Self::Schema(group, version) => {
                let kinds = KINDS.iter().filter(|kind| kind.resource.group == group && kind.version == version);
                let paths: serde_json::Map<_, _> = kinds.map(patch_operation).collect();
                json!({"openapi": "3.0.0", "info": {"title": "Minipod", "version": env!("CARGO_PKG_VERSION")}, "paths": paths})
            }
        }
    }
}

/// `api/v1`, `apis/networking.k8s.io/v1`
fn api_root(kind: &Kind) -> String {
    let root = if kind.resource.group.is_empty() { "api" } else { "apis" };
    format!("{root}/{}", kind.api_version())
}

/// The patch of a kind in the form of `OpenAPI`, with the parameters that clients look for.
fn patch_operation(kind: &Kind) -> (String, Value) {
    let namespace = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let path = format!("/{}{namespace}/{}/{{name}}", api_root(kind), kind.resource.plural);
    let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
    let operation = json!({"patch": {
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind":
            {"group": kind.resource.group, "version": kind.version, "kind": kind.resource.kind},
        "parameters": [parameter("dryRun"), parameter("fieldValidation")],
        "responses": {"200": {"description": "OK"}},
    }});
    (path, operation)
}

fn versions(group: &str) -> Vec<&'static str> {
    let mut versions: Vec<_> =
        KINDS.iter().filter(|kind| kind.resource.group == group).map(|kind| kind.version).collect();
    versions.dedup();
    versions
}

fn group(name: &str) -> Value {
    let version = |version: &str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<_> = versions(name).into_iter().map(version).collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

fn resources(group: &str, version: &str) -> Value {
    let kinds = KINDS.iter().filter(|kind| kind.resource.group == group && kind.version == version);
    let resources: Vec<_> = kinds.clone().flat_map(entries).collect();
    let group_version = kinds.map(Kind::api_version).next().unwrap_or_default();
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
}

fn entries(kind: &Kind) -> Vec<Value> {
    let mut all = vec![json!({
        "name": kind.resource.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.resource.kind,
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "shortNames": kind.short_names,
        "categories": if matches!(kind.resource.kind, "Pod" | "Service") { &["all"][..] } else { &[] },
    })];
    all.extend(kind.subresources.iter().map(|part| {
        json!({
            "name": format!("{}/{}", kind.resource.plural, part.as_str()),
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": part.kind().unwrap_or(kind.resource.kind),
            "verbs": part.verbs(),
        })
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn every_group_leads_to_its_resources() {
        let groups = Page::Groups.render();
        for group in groups["groups"].as_array().into_iter().flatten() {
            let path = group["preferredVersion"]["groupVersion"].as_str().unwrap_or_default();
            let (name, version) = path.split_once('/').expect("group/version");
            let page = Page::parse(&["apis", name, version]).expect("a page").render();
            assert_eq!(page["groupVersion"], path);
            assert!(page["resources"].as_array().is_some_and(|r| !r.is_empty()), "{path}");
        }
        assert_eq!(Page::parse(&["apis", "apps", "v1"]), None);
    }

    #[test]
    fn every_kind_says_that_the_server_judges_its_fields() {
        for (root, entry) in Page::Schemas.render()["paths"].as_object().into_iter().flatten() {
            let url = entry["serverRelativeURL"].as_str().expect("a path").trim_start_matches('/');
            assert_eq!(url, format!("openapi/v3/{root}"));
            let page = Page::parse(&url.split('/').collect::<Vec<_>>()).expect("a page").render();
            for (path, operations) in page["paths"].as_object().into_iter().flatten() {
                assert!(path.starts_with(&format!("/{root}/")), "{path}");
                assert_eq!(operations["patch"]["parameters"][1]["name"], "fieldValidation");
            }
        }
    }
}
