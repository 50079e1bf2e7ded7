//! `image`: the images of this node, straight on the node's image store; no daemon is needed.

mod progress;
mod rm;
mod size;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;
use minipod_image::import::{Imported, RootfsSettings};
use minipod_image::{ImageSummary, Images, PullPolicy};
use minipod_kernel::host::effective_uid;

use super::context::Context;
use super::out;
use super::table::Table;
use crate::node::directory::ensure_state_dir;
use crate::node::files::{check_registries, image_options};
use progress::Bar;

/// Options of `image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Registry mirrors [default: /etc/minipod/registries.toml if it is there]
    #[arg(long, global = true, env = "MINIPOD_REGISTRIES", value_name = "FILE")]
    registries: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch images from their registries
    Pull {
        /// Names, e.g. `alpine`, `quay.io/prometheus/busybox:latest`
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,

        /// Print only the images' IDs
        #[arg(short, long)]
        quiet: bool,
    },

    /// Bring in an image archive (docker save or OCI), or a plain root file system
    Import {
        /// The archive; with `--rootfs` a directory or tar file
        path: PathBuf,

        /// The image's name [default: the names in the archive]
        #[arg(value_name = "IMAGE", required_if_eq("rootfs", "true"))]
        name: Option<String>,

        /// The path is a plain root file system
        #[arg(long)]
        rootfs: bool,

        /// Command of the image, word by word
        #[arg(long, value_name = "WORD", requires = "rootfs")]
        cmd: Vec<String>,

        /// Entrypoint of the image, word by word
        #[arg(long, value_name = "WORD", requires = "rootfs")]
        entrypoint: Vec<String>,

        /// Environment of the image
        #[arg(long, value_name = "NAME=VALUE", requires = "rootfs")]
        env: Vec<String>,
    },

    /// List the images
    #[command(visible_alias = "list")]
    Ls {
        /// Print only IDs
        #[arg(short, long)]
        quiet: bool,
    },

    /// Remove images
    #[command(visible_alias = "remove")]
    Rm {
        /// Names or IDs
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let images = self.open(context)?;
        match self.command {
            Command::Pull { images: names, quiet } => {
                for name in names {
                    pull(&images, &name, quiet).await?;
                }
                Ok(())
            }
            Command::Import { path, name, rootfs: false, .. } => {
                let imported = images.import_archive(&path, name.as_deref()).await?;
                imported.iter().try_for_each(|image| out::print(&imported_lines(image)))
            }
            Command::Import { path, name, cmd, entrypoint, env, .. } => {
                let settings = RootfsSettings { entrypoint, cmd, env };
                let name = name.unwrap_or_default();
                out::print(&imported_lines(&images.import_rootfs(&path, &name, settings).await?))
            }
            Command::Ls { quiet: true } => {
                let ids: Vec<String> = images.list()?.iter().map(|image| format!("{}\n", image.id)).collect();
                out::print(&ids.concat())
            }
            Command::Ls { quiet: false } => out::print(&table(&images.list()?).render()),
            Command::Rm { images: names } => rm::run(context, &images, &names).await,
        }
    }

    fn open(&self, context: &Context) -> anyhow::Result<Images> {
        let uid = effective_uid();
        anyhow::ensure!(uid == 0, "the image store belongs to root (this is user {uid}): use `sudo minipod image ...`");
        check_registries(self.registries.as_deref())?;
        ensure_state_dir(&context.directories)?;
        let options = image_options(&context.directories, self.registries.clone());
        let directory = options.directory.clone();
        Images::open(options).with_context(|| format!("cannot open the image store `{}`", directory.display()))
    }
}

async fn pull(images: &Images, name: &str, quiet: bool) -> anyhow::Result<()> {
    let bar = Arc::new(if quiet { Bar::hidden() } else { Bar::new() });
    let result = images.ensure(name, PullPolicy::Always, Arc::clone(&bar) as Arc<_>).await;
    bar.finish();
    let image = result?;
    if quiet {
        return out::print(&format!("{}\n", image.id));
    }
    let reference: minipod_image::Reference = name.parse()?;
    out::print(&format!("{reference}: {}\n", image.id))
}

/// One line per name, and what was left out of the layers.
fn imported_lines(imported: &Imported) -> String {
    for skipped in &imported.skipped {
        out::say(&format!("left out `{}`: {:?}", skipped.entry, skipped.what));
    }
    let id = &imported.image.id;
    match imported.names.as_slice() {
        [] => format!("imported {id}\n"),
        names => names.iter().map(|name| format!("imported {name}: {id}\n")).collect::<Vec<_>>().concat(),
    }
}

/// One line per name; an image without a name has a line as well.
fn table(images: &[ImageSummary]) -> Table {
    let mut table = Table::new(&["IMAGE", "TAG", "IMAGE ID", "SIZE"]);
    for image in images {
        let size = size::text(image.size);
        if image.names.is_empty() {
            table.push(["<none>", "<none>", image.id.short(), &size]);
        }
        for name in &image.names {
            table.push([&name.name(), name.tag().unwrap_or("<none>"), image.id.short(), &size]);
        }
    }
    table.rows.sort();
    table
}

#[cfg(test)]
mod tests {
    use minipod_image::{Digest, ImageSummary};

    use super::table;

    #[test]
    fn every_name_is_a_line() {
        let image = |names: &[&str], content: &[u8]| ImageSummary {
            id: Digest::of(content),
            names: names.iter().map(|name| name.parse().expect("a name")).collect(),
            size: 3_500_000,
            added_at: 0,
            created: None,
        };
        let text = table(&[image(&["nginx", "alpine:3"], b"a"), image(&[], b"b")]).render();
        let expected = "\
IMAGE                     TAG      IMAGE ID       SIZE
<none>                    <none>   3e23e8160039   3.5MB
docker.io/library/alpine  3        ca978112ca1b   3.5MB
docker.io/library/nginx   latest   ca978112ca1b   3.5MB
";
        let squeeze = |text: &str| -> Vec<Vec<String>> {
            text.lines()
                .map(|l| l.split("  ").filter(|c| !c.is_empty()).map(|c| c.trim().to_owned()).collect())
                .collect()
        };
        assert_eq!(squeeze(&text), squeeze(expected));
    }
}
