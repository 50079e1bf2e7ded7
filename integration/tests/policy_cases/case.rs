//! A case as its file writes it (`integration/policy/README.md`), and what is wrong with a file that cannot be one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use integration::packets::target::Protocol;
use serde::Deserialize;

use crate::question::{self, Pair};
use crate::table::{Expectation, Table};

/// The rulings of the contract.
pub(crate) const RULINGS: std::ops::RangeInclusive<u8> = 1..=21;

pub(crate) type Labels = BTreeMap<String, String>;

/// What a file says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// the file's name, without what it ends in
    #[serde(skip)]
    pub(crate) name: String,
    /// which it shows
    #[serde(default)]
    pub(crate) rulings: BTreeSet<u8>,
    /// which lines of "What every build proves" it shows, word by word
    #[serde(default)]
    pub(crate) proves: BTreeSet<String>,
    /// what must hold, in a sentence
    pub(crate) says: String,
    /// options of `minipod node start`
    #[serde(default)]
    pub(crate) node: Vec<String>,
    /// labels of namespaces, besides `ns: NAME`
    #[serde(default)]
    pub(crate) namespaces: BTreeMap<String, Labels>,
    /// by `NAMESPACE/NAME`
    #[serde(default = "usual_pods")]
    pub(crate) pods: BTreeMap<String, Pod>,
    /// who else has a row and a column
    #[serde(default)]
    pub(crate) also: BTreeSet<Other>,
    pub(crate) steps: Vec<Step>,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pod {
    /// besides `pod: NAME`
    pub(crate) labels: Labels,
    /// number and protocol by name: `80/TCP`
    pub(crate) ports: BTreeMap<String, String>,
    #[serde(rename = "hostNetwork")]
    pub(crate) is_on_host_network: bool,
    /// addresses of a pod of another node, one of each family
    pub(crate) remote: Vec<IpAddr>,
    /// of a pod of another node
    pub(crate) phase: Option<String>,
}

/// Who is no pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Other {
    /// the node, at its own addresses
    Node,
    /// a host beyond the cluster; it is another node as well where a case has pods of one
    Outside,
}

impl Other {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Outside => "outside",
        }
    }
}

/// What is done, in this order, and then what must be seen.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Step {
    /// for whom reads a failure
    pub(crate) does: Option<String>,
    /// a shell script on the node
    pub(crate) host: Option<String>,
    /// shell scripts in pods' networks
    pub(crate) within: BTreeMap<String, String>,
    /// manifests
    pub(crate) apply: Option<String>,
    /// manifests that are refused
    pub(crate) refused: Option<Refused>,
    /// `KIND NAMESPACE/NAME`
    pub(crate) delete: Vec<String>,
    /// `pod NAMESPACE/NAME KEY=VALUE` or `namespace NAME KEY-`
    pub(crate) label: Vec<String>,
    /// pods that are told to end, and still do not
    pub(crate) terminate: Vec<String>,
    /// pods, or `namespace NAME`
    pub(crate) remove: Vec<String>,
    /// labels of namespaces that are made, or made again
    pub(crate) namespaces: BTreeMap<String, Labels>,
    pub(crate) add: BTreeMap<String, Pod>,
    pub(crate) daemon: Option<Daemon>,
    /// whether at every moment of it packets do what they did before
    pub(crate) steadily: bool,
    /// live connections, by name: `FROM -> TO`
    pub(crate) open: BTreeMap<String, String>,
    /// `FROM as WHOM -> TO`
    pub(crate) spoof: Vec<String>,
    /// pods whose containers must have ended
    pub(crate) ended: Vec<String>,

    /// pods that must have an address of one that is gone
    pub(crate) reuses: BTreeMap<String, String>,
    /// tables, `everything` or `as before`
    pub(crate) expect: Option<String>,
    /// `FROM -> TO PORT/PROTOCOL: OUTCOME`
    pub(crate) ask: Vec<String>,
    pub(crate) cut: Vec<String>,
    pub(crate) alive: Vec<String>,
    /// texts of datagrams that have come since the last step
    pub(crate) heard: BTreeMap<String, BTreeSet<String>>,
}

/// Manifests, and what is said of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    pub(crate) apply: String,
    pub(crate) says: String,
}

/// What becomes of the node's daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Daemon {
    Kill,
    Stop,
    Start,
}

/// Two pods in each of two namespaces.
fn usual_pods() -> BTreeMap<String, Pod> {
    ["x/a", "x/b", "y/a", "y/b"].map(|name| (name.to_owned(), Pod::default())).into()
}

/// Where the cases are.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policy")
}

/// All cases of a folder, by name.
///
/// # Panics
/// With what is wrong with a file.
pub(crate) fn read_all(folder: &Path) -> Vec<Case> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| unreachable!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let cases = paths.iter().filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    cases
        .map(|path| {
            let text = std::fs::read_to_string(path).expect("a readable file");
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            Case::read(&name, &text).unwrap_or_else(|error| unreachable!("{}: {error}", path.display()))
        })
        .collect()
}

impl Case {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, by field.
    pub(crate) fn read(name: &str, text: &str) -> Result<Self, String> {
        let mut case: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        name.clone_into(&mut case.name);
        case.check()?;
        Ok(case)
    }

    /// Whether what it does to its node outlasts it.
    pub(crate) fn needs_own_node(&self) -> bool {
        !self.node.is_empty() || self.steps.iter().any(|step| step.host.is_some())
    }

    fn check(&self) -> Result<(), String> {
        if self.rulings.is_empty() && self.proves.is_empty() {
            return Err("rulings: name at least one, or a line of the contract in `proves`".to_owned());
        }
        if let Some(ruling) = self.rulings.iter().find(|ruling| !RULINGS.contains(ruling)) {
            return Err(format!("rulings: there is no ruling {ruling}"));
        }
        let mut actors = Actors::of(self)?;
        let mut flows = BTreeSet::new();
        for (number, step) in self.steps.iter().enumerate() {
            let at = |field: &str, error: String| format!("steps[{number}].{field}: {error}");
            actors.change(step).map_err(|(field, error)| at(field, error))?;
            flows.extend(step.open.keys());
            step.check(&actors, &flows, number == 0).map_err(|(field, error)| at(field, error))?;
        }
        if !self.steps.iter().any(|step| step.expect.is_some()) {
            return Err("steps: at least one must say what to `expect`".to_owned());
        }
        Ok(())
    }
}

impl Step {
    fn check(&self, actors: &Actors, flows: &BTreeSet<&String>, is_first: bool) -> Result<(), (&'static str, String)> {
        match self.expect.as_deref().map(Expectation::of) {
            Some(Expectation::AsBefore) if is_first => {
                return Err(("expect", "nothing is before the first step".into()));
            }
            Some(Expectation::Tables(text)) => {
                Table::read(text, &actors.all, &actors.local).map_err(|error| ("expect", error))?;
            }
            Some(Expectation::AsBefore | Expectation::Everything) | None => {}
        }
        let known = |name: &str| actors.all.contains(name);
        for line in &self.ask {
            let question = question::Question::read(line).map_err(|error| ("ask", error))?;
            for name in [&question.from, &question.to] {
                if !known(name) && name != question::DNS && !name.starts_with("service ") {
                    return Err(("ask", format!("`{line}`: `{name}` is not there")));
                }
            }
        }
        for pair in self.open.values() {
            let pair = Pair::read(pair).map_err(|error| ("open", error))?;
            if let Some(name) = [&pair.from, &pair.to].into_iter().find(|name| !known(name)) {
                return Err(("open", format!("`{name}` is not there")));
            }
        }
        for (field, names) in [("cut", &self.cut), ("alive", &self.alive)] {
            if let Some(name) = names.iter().find(|name| !flows.contains(name)) {
                return Err((field, format!("no step opens `{name}`")));
            }
        }
        if let Some(name) = self.heard.keys().find(|name| !known(name)) {
            return Err(("heard", format!("`{name}` is not there")));
        }
        for line in &self.spoof {
            question::Spoof::read(line).map_err(|error| ("spoof", error))?;
        }
        if self.steadily && self.daemon.is_none() {
            return Err(("steadily", "only what happens to the daemon is watched: give `daemon` too".into()));
        }
        Ok(())
    }
}

/// Who is there at a step.
struct Actors {
    all: BTreeSet<String>,
    /// pods with a network of their own on this node
    local: BTreeSet<String>,
}

impl Actors {
    fn of(case: &Case) -> Result<Self, String> {
        let mut actors =
            Self { all: case.also.iter().map(|other| other.as_str().to_owned()).collect(), local: BTreeSet::new() };
        for (name, pod) in &case.pods {
            actors.add(name, pod).map_err(|error| format!("pods: {error}"))?;
        }
        Ok(actors)
    }

    fn change(&mut self, step: &Step) -> Result<(), (&'static str, String)> {
        for name in &step.remove {
            let of_namespace = name.strip_prefix("namespace ").map(|namespace| format!("{namespace}/"));
            let goes = |actor: &String| of_namespace.as_ref().map_or(actor == name, |prefix| actor.starts_with(prefix));
            if !self.all.iter().any(goes) {
                return Err(("remove", format!("`{name}` is not there")));
            }
            self.all.retain(|actor| !goes(actor));
            self.local.retain(|actor| !goes(actor));
        }
        for (name, pod) in &step.add {
            self.add(name, pod).map_err(|error| ("add", error))?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, pod: &Pod) -> Result<(), String> {
        if name.split('/').filter(|part| !part.is_empty()).count() != 2 {
            return Err(format!("`{name}`: write NAMESPACE/NAME"));
        }
        if let Some((port, value)) = pod.ports.iter().find(|(_, value)| port(value).is_none()) {
            return Err(format!("`{name}`: ports.{port}: `{value}`: write NUMBER/PROTOCOL, for example 80/TCP"));
        }
        let is_local = !pod.is_on_host_network && pod.remote.is_empty();
        if !pod.remote.is_empty() && pod.remote.iter().filter(|address| address.is_ipv6()).count() != 1 {
            return Err(format!("`{name}`: remote: give one address of each family"));
        }
        if is_local && pod.phase.is_some() {
            return Err(format!("`{name}`: phase: only that of a pod of another node can be given"));
        }
        if !self.all.insert(name.to_owned()) {
            return Err(format!("`{name}` is there already"));
        }
        if is_local {
            self.local.insert(name.to_owned());
        }
        Ok(())
    }
}

/// Number and protocol of a port: `80/TCP`.
pub(crate) fn port(text: &str) -> Option<(u16, Protocol)> {
    let (number, protocol) = text.split_once('/')?;
    Some((number.parse().ok()?, Protocol::ALL.into_iter().find(|known| known.as_str() == protocol)?))
}
