//! `create`: the objects of manifests, or a namespace, as new objects.

use std::path::PathBuf;

use clap::Subcommand;
use kube::api::PostParams;
use serde_json::json;

use super::apply::{self, FIELD_MANAGER};
use super::context::Context;
use super::kind::NAMESPACE;
use super::{failure, manifest, out};

/// Options of `create`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    /// File or directory with manifests, or `-` for standard input; may be given several times
    #[arg(short, long = "filename", value_name = "FILE", required = true, value_delimiter = ',')]
    filename: Vec<PathBuf>,

    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Create a namespace
    #[command(visible_alias = "ns")]
    Namespace {
        /// Its name
        name: String,
    },
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        match &self.what {
            Some(What::Namespace { name }) => namespace(context, name).await,
            None => self.manifests(context).await,
        }
    }

    async fn manifests(&self, context: &Context) -> anyhow::Result<()> {
        let manifests = apply::with_kinds(manifest::read(&self.filename, false, "create")?)?;
        let client = context.client().await?;
        let mut errors = Vec::new();
        for (kind, manifest) in &manifests {
            let (api, object) = apply::addressed(&client, context, kind, manifest)?;
            match apply::create(&api, &object, &params()).await {
                Ok(_) => out::print(&format!("{} created\n", kind.object_name(manifest.name())))?,
                Err(error) => errors.push(apply::at_place(manifest, "creating", error)),
            }
        }
        failure::all(errors)
    }
}

async fn namespace(context: &Context, name: &str) -> anyhow::Result<()> {
    let api = NAMESPACE.api(context.client().await?, None);
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    api.create(&params(), &serde_json::from_value(object)?).await?;
    out::print(&format!("{} created\n", NAMESPACE.object_name(name)))
}

fn params() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) }
}
