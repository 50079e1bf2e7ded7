//! `probe`: real connections from inside the pods of this node, compared with what the reference evaluator says of them.
//!
//! This file fetches and goes on until nothing differs or has been tried twice; [`source`] finds the pods' networks, [`question`] says what
//! is tried, [`dial`] tries it, [`compare`] judges what came of it, [`text`] is what is said.

mod compare;
mod dial;
mod question;
mod source;
mod text;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use minipod_protocol::netd::{self, Request, Response};

use super::args::switch;
use super::cluster::{self, Seen};
use super::context::Context;
use super::failure::Exit;
use super::out;
use super::policy::explain::ends::Word;
use super::policy::matrix::reach::Port;
use super::verdict;
use compare::Tried;
use question::{Question, questions};
use source::Source;

/// Options of `probe`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// From this pod; may be given several times [default: every pod of the namespace that runs on this node]
    #[arg(long, value_name = "POD", value_parser = Word::parse)]
    from: Vec<Word>,

    /// To this pod or service (`NAME`, `pod/NAME`, `service/NAME`, `NAMESPACE/pod/NAME`); may be given several times
    /// [default: every pod and service of the namespace]
    #[arg(long, value_name = "POD|SERVICE", value_parser = Word::parse)]
    to: Vec<Word>,

    /// Ask every pod for this port, too; may be given several times
    #[arg(long = "port", value_name = "NUMBER[/PROTOCOL]", value_parser = Port::parse)]
    ports: Vec<Port>,

    /// Between the pods of all namespaces
    #[arg(short = 'A', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    all_namespaces: bool,

    /// Output format: json
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = context.client().await?;
        let netd = Netd::ask(context)?;
        let (sources, questions) = self.ask(&client, context).await?;
        let mut tried = self.attempt(&client, &netd, &sources, questions).await?;
        // Policies may have changed meanwhile, and a packet may be lost: what differs is asked once more.
        let again: Vec<Question> = tried.iter().filter(|tried| tried.differs()).map(|t| t.question.clone()).collect();
        if !again.is_empty() {
            tried.retain(|tried| !tried.differs());
            tried.extend(self.attempt(&client, &netd, &sources, again).await?);
        }
        out::print(&if self.output.is_some() { text::json(&tried) } else { text::lines(&tried) })?;
        if tried.iter().any(Tried::differs) {
            return Err(Exit { code: 1, message: String::new() }.into());
        }
        Ok(())
    }

    /// From where and what.
    async fn ask(&self, client: &Client, context: &Context) -> anyhow::Result<(Vec<Source>, Vec<Question>)> {
        let Seen { pods, .. } = cluster::read(client).await?;
        let services: Vec<Service> = Api::all(client.clone()).list(&ListParams::default()).await?.items;
        let slices: Vec<EndpointSlice> = Api::all(client.clone()).list(&ListParams::default()).await?.items;
        let is_meant = |namespace: &str| self.all_namespaces || namespace == context.namespace();
        let named = |words: &[Word], namespace: &str, kind: &str, name: &str| {
            let names = words.iter().filter_map(|word| word.name_in(context.namespace(), kind));
            names.into_iter().any(|meant| meant.namespace == namespace && meant.name == name)
        };
        let all = source::all(&context.directories.pods())?;
        let sources = all.into_iter().filter(|source| match self.from.as_slice() {
            [] => is_meant(&source.pod.namespace),
            words => named(words, &source.pod.namespace, "pod", &source.pod.name),
        });
        let sources: Vec<Source> = sources.collect();
        if let Some(missing) = self.from.iter().find(|word| {
            let name = word.name_in(context.namespace(), "pod");
            !name.is_some_and(|name| {
                sources.iter().any(|s| s.pod.namespace == name.namespace && s.pod.name == name.name)
            })
        }) {
            anyhow::bail!(
                "--from `{missing}`: no pod of that name runs on this node with a network of its own: see `minipod get pods`"
            );
        }
        let targets = question::targets(&pods, &services, &slices, &self.ports, |kind, namespace, name| {
            if self.to.is_empty() { is_meant(namespace) } else { named(&self.to, namespace, kind, name) }
        });
        if let Some(missing) = self.to.iter().find(|word| {
            let is = |target: &question::Target| {
                let name = word.name_in(context.namespace(), target.kind);
                name.is_some_and(|name| target.namespace == name.namespace && target.name == name.name)
            };
            !targets.iter().any(is)
        }) {
            anyhow::bail!(
                "--to `{missing}`: there is no pod with an address and a port, and no service with a ready endpoint, of that name; \
                 `--port` names ports that are not declared"
            );
        }
        let questions = questions(&sources, &targets);
        Ok((sources, questions))
    }

    /// Tries connections, and compares them with what the policies say at that time.
    async fn attempt(
        &self,
        client: &Client,
        netd: &Netd,
        sources: &[Source],
        questions: Vec<Question>,
    ) -> anyhow::Result<Vec<Tried>> {
        let outcomes = dial::all(sources, &questions)?;
        let mut cluster = cluster::read(client).await?.index.cluster().clone();
        cluster.options.cluster_dns.clone_from(&netd.node.cluster_dns);
        let tried = questions.into_iter().zip(outcomes);
        Ok(tried.map(|(question, outcome)| Tried::new(question, outcome, &cluster, netd)).collect())
    }
}

/// What netd says of this node.
pub(super) struct Netd {
    node: minipod_protocol::judge::OwnNode,
    /// what policy denies is answered: a refusal says nothing of who refused
    rejects: bool,
}

impl Netd {
    fn ask(context: &Context) -> anyhow::Result<Self> {
        let socket = context.directories.netd_socket();
        let (_, _, node) = verdict::connections(&socket)?;
        let answer = netd::ask(&socket, Request::Report, verdict::PATIENCE)
            .with_context(|| format!("netd does not answer on `{}`; see `minipod node status`", socket.display()))?;
        let Response::Report { report } = answer else {
            anyhow::bail!("netd gives an answer that belongs to another question: use programs of one release")
        };
        Ok(Self { node, rejects: report["denyAction"] == "reject" })
    }
}
