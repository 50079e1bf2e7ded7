//! `policy matrix`: who reaches whom, on which ports.
//!
//! This file fetches; [`reach`] asks the reference evaluator, [`text`] and [`page`] show what it says.

mod page;
pub(in crate::cli) mod reach;
mod text;

use clap::ValueEnum;

use super::super::args::switch;
use super::super::cluster::{self, Seen};
use super::super::context::Context;
use super::super::out;
use reach::{Matrix, Port};

/// Options of `policy matrix`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Between the pods of all namespaces
    #[arg(short = 'A', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    all_namespaces: bool,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,

    /// Ask every pod for this port, too; may be given several times
    #[arg(long = "port", value_name = "NUMBER[/PROTOCOL]", value_parser = Port::parse)]
    ports: Vec<Port>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Sources below one another, destinations side by side
    Table,
    /// Every pair with every port
    Json,
    /// One page with a picture and the table, which needs nothing else
    Html,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = context.client().await?;
        let namespace = (!self.all_namespaces).then(|| context.namespace());
        let Seen { pods, index } = cluster::read(&client).await?;
        let asked = pods.iter().filter(|pod| namespace.is_none() || pod.metadata.namespace.as_deref() == namespace);
        let matrix = Matrix::of(index.cluster(), asked, &self.ports);
        match self.output {
            Format::Json => out::print(&text::json(&matrix)),
            Format::Html => out::print(&page::render(&matrix, namespace)),
            Format::Table if matrix.pods.is_empty() && matrix.not_shown.is_empty() => {
                let place = namespace.map_or_else(String::new, |namespace| format!(" in {namespace} namespace"));
                out::say(&format!("No pods found{place}."));
                Ok(())
            }
            Format::Table => out::print(&text::tables(&matrix, namespace)),
        }
    }
}
