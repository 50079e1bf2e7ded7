//! `policy explain`: whether connections pass, which policies and rules decide that, and whether the installed rules agree.
//!
//! This file asks; [`ends`] finds out which first packets are meant, [`text`] what is said of them.

pub(in crate::cli) mod ends;
mod text;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use minipod_protocol::judge::Judgement;
use minipod_protocol::netd::{self, Request, Response};

use super::super::context::Context;
use super::super::failure::Exit;
use super::super::out;
use ends::{Name, Question, To, Transport, Word};

/// netd answers between two changes of the node's rules.
const PATIENCE: Duration = Duration::from_secs(30);
/// The kernel does not do what the policies say.
const DISAGREES: u8 = 3;

/// Options of `policy explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Who opens the connection: a pod's name (`NAME`, `pod/NAME`, `NAMESPACE/pod/NAME`) or an address
    #[arg(long, value_name = "POD|ADDRESS", value_parser = Word::parse)]
    from: Word,

    /// To whom: a pod's or a service's name (`NAME`, `pod/NAME`, `service/NAME`, `NAMESPACE/service/NAME`) or an address
    #[arg(long, value_name = "POD|SERVICE|ADDRESS", value_parser = Word::parse)]
    to: Word,

    /// The destination port, a number or a name [default: all that the pod or the service declares]
    #[arg(long, value_name = "PORT")]
    port: Option<String>,

    /// TCP, UDP, SCTP or ICMP
    #[arg(long, value_name = "PROTOCOL", default_value = "TCP", value_parser = Transport::parse)]
    protocol: Transport,

    /// Output format: json
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = context.client().await?;
        let from = match self.from.name_in(context.namespace(), "pod") {
            None => ends::from_address(&self.from)?,
            Some(name) => ends::from_pod(&find_pod(&client, &name).await?)?,
        };
        let to = find(&client, context, &self.to).await?;
        let questions = ends::questions(&from, &to, self.port.as_deref(), self.protocol)?;
        let (judgements, differences) = ask(&context.directories.netd_socket(), &questions)?;
        match self.output {
            Some(_) => out::print(&text::json(&questions, &judgements, &differences))?,
            None => out::print(&text::lines(&questions, &judgements, &differences))?,
        }
        let disagrees = judgements.iter().any(text::disagrees) || !differences.is_empty();
        match (disagrees, judgements.iter().all(|judgement| judgement.allowed)) {
            (true, _) => Err(Exit { code: DISAGREES, message: text::ALARM.to_owned() }.into()),
            (false, true) => Ok(()),
            (false, false) => Err(Exit { code: 1, message: String::new() }.into()),
        }
    }
}

async fn find_pod(client: &Client, name: &Name) -> anyhow::Result<Pod> {
    Ok(Api::namespaced(client.clone(), &name.namespace).get(&name.name).await?)
}

/// A destination; a name without a kind is a pod's, else a service's.
async fn find(client: &Client, context: &Context, word: &Word) -> anyhow::Result<To> {
    if let Some(name) = word.name_in(context.namespace(), "pod") {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &name.namespace);
        match pods.get_opt(&name.name).await? {
            Some(pod) => return Ok(To::Pod(Box::new(pod))),
            None if word.is_kind("pod") => return Ok(To::Pod(Box::new(pods.get(&name.name).await?))),
            None => {}
        }
    }
    let Some(name) = word.name_in(context.namespace(), "service") else {
        return ends::to_address(word);
    };
    let services: Api<Service> = Api::namespaced(client.clone(), &name.namespace);
    let Some(service) = services.get_opt(&name.name).await? else {
        anyhow::bail!(
            "there is no pod and no service \"{}\" in namespace \"{}\": see `minipod get pods,services -n {}`",
            name.name,
            name.namespace,
            name.namespace
        );
    };
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &name.namespace);
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={}", name.name));
    Ok(To::Service(Box::new(service), slices.list(&of_service).await?.items))
}

fn ask(socket: &Path, questions: &[Question]) -> anyhow::Result<(Vec<Judgement>, Vec<String>)> {
    let packets = questions.iter().map(|question| question.packet.clone()).collect();
    let answer = netd::ask(socket, Request::Judge { packets }, PATIENCE)
        .with_context(|| format!("netd does not answer on `{}`; see `minipod node status`", socket.display()))?;
    match answer {
        Response::Judged { judgements, differences } => Ok((judgements, differences)),
        Response::Error(error) => Err(error.into()),
        _ => anyhow::bail!("netd gives an answer that belongs to another question: use programs of one release"),
    }
}
