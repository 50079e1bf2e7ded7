//! Container images: names, registries, archives, unpacked layers.
//!
//! [`Images::ensure`] turns a name into an [`ImageRef`]: layer directories for overlayfs and the configuration. Everything that
//! comes from outside is checked before it becomes visible: names ([`reference`]), digests ([`digest`]), and above all layers,
//! which may be hostile ([`unpack`]). Mounting the layers and starting programs is the shim's; choosing when to pull is the
//! caller's.

pub mod config;
pub mod digest;
pub mod import;
pub mod manifest;
pub mod progress;
pub mod reference;
pub mod registries;
pub mod rootfs;
pub mod store;
pub mod unpack;
pub mod user;

pub mod builtin;
mod compression;
mod images;
mod pull;

pub use config::ImageConfig;
pub use digest::Digest;
pub use images::{ImageError, Images, Options, PullPolicy};
pub use import::{ImportError, Imported, RootfsSettings};
pub use progress::{Event, Progress, Quiet};
pub use pull::PullError;
pub use reference::Reference;
pub use registries::Registries;
pub use rootfs::Rootfs;
pub use store::{ImageRef, ImageSummary, Removed, StoreError};
pub use user::{User, resolve_user};
