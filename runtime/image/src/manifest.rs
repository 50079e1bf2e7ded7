//! Manifests and indexes of the OCI image specification and of Docker, as far as they are needed: which configuration and
//! which layers an image has, and which of several platforms is ours. Pure.

use serde::Deserialize;
use thiserror::Error;

use crate::config::host_architecture;
use crate::digest::Digest;

/// The largest manifest, index or configuration that is read, in bytes.
pub(crate) const MAX_DOCUMENT: u64 = 8 << 20;
/// The largest number of layers: overlayfs takes no more.
pub const MAX_LAYERS: usize = 500;

/// A pointer to content.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: std::collections::BTreeMap<String, String>,
}

/// For which machines something is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) variant: String,
}

/// A manifest or an index of manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

/// The parts of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    /// lowest first
    pub(crate) layers: Vec<Descriptor>,
}

/// Why a manifest cannot be used.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// it is not JSON of the right shape
    #[error("the manifest cannot be decoded")]
    Decode(#[source] serde_json::Error),
    /// an old or foreign form
    #[error("the manifest has schema version {0}; only version 2 is known")]
    SchemaVersion(u64),
    /// it is neither a manifest nor an index
    #[error("the document is neither an image manifest nor an index of manifests")]
    Neither,
    /// it is something else than a container image
    #[error("this is no container image: its configuration is of type `{0}`")]
    NotAnImage(String),
    /// a layer that cannot be unpacked
    #[error("layer `{digest}` is of the unsupported type `{media_type}`")]
    LayerType {
        /// the layer
        digest: Digest,
        /// its type
        media_type: String,
    },
    /// no manifest for this machine
    #[error("the image is not there for `linux/{host}`, only for {available}", host = host_architecture())]
    Platform {
        /// what there is
        available: String,
    },
    /// too many layers
    #[error("the image has {0} layers; overlayfs takes up to {MAX_LAYERS}")]
    TooManyLayers(usize),
    /// manifest and configuration do not agree
    #[error("the manifest lists {layers} layers, the configuration {diff_ids}")]
    LayerCount {
        /// in the manifest
        layers: usize,
        /// in the configuration
        diff_ids: usize,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u64,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

impl Document {
    /// Decodes a manifest or an index, by its contents: media types of registries and archives are not reliable.
    pub(crate) fn decode(json: &[u8]) -> Result<Self, ManifestError> {
        let raw: Raw = serde_json::from_slice(json).map_err(ManifestError::Decode)?;
        if raw.schema_version != 2 {
            return Err(ManifestError::SchemaVersion(raw.schema_version));
        }
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, None) => Ok(Self::Index(manifests)),
            (None, Some(config), Some(layers)) => Manifest::checked(config, layers).map(Self::Manifest),
            _ => Err(ManifestError::Neither),
        }
    }
}

impl Manifest {
    fn checked(config: Descriptor, layers: Vec<Descriptor>) -> Result<Self, ManifestError> {
        let image = matches!(
            config.media_type.as_str(),
            "" | "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
        );
        if !image {
            return Err(ManifestError::NotAnImage(config.media_type));
        }
        if layers.len() > MAX_LAYERS {
            return Err(ManifestError::TooManyLayers(layers.len()));
        }
        if let Some(layer) = layers.iter().find(|layer| !is_tar(&layer.media_type)) {
            return Err(ManifestError::LayerType {
                digest: layer.digest.clone(),
                media_type: layer.media_type.clone(),
            });
        }
        Ok(Self { config, layers })
    }
}

/// The manifest for this machine.
pub(crate) fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, ManifestError> {
    choose_for(manifests, host_architecture())
}

fn choose_for<'a>(manifests: &'a [Descriptor], architecture: &str) -> Result<&'a Descriptor, ManifestError> {
    let ours = |descriptor: &&Descriptor| match &descriptor.platform {
        Some(platform) => platform.os == "linux" && platform.architecture == architecture,
        None => false,
    };
    // Of several variants the first without one runs everywhere.
    let plain =
        |descriptor: &&Descriptor| descriptor.platform.as_ref().is_some_and(|platform| platform.variant.is_empty());
    let chosen = manifests.iter().filter(ours).find(plain).or_else(|| manifests.iter().find(ours));
    let only = match manifests {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    };
    chosen.or(only).ok_or_else(|| ManifestError::Platform { available: platforms(manifests) })
}

fn platforms(manifests: &[Descriptor]) -> String {
    let names: Vec<String> = manifests
        .iter()
        .filter_map(|descriptor| descriptor.platform.as_ref())
        .filter(|platform| platform.os != "unknown")
        .map(|platform| format!("`{}/{}`", platform.os, platform.architecture))
        .collect();
    if names.is_empty() { "an unnamed platform".to_owned() } else { names.join(", ") }
}

/// Layers of old Windows images ("foreign") and encrypted ones are not for us.
fn is_tar(media_type: &str) -> bool {
    let base = media_type.strip_suffix("+gzip").or_else(|| media_type.strip_suffix("+zstd")).unwrap_or(media_type);
    matches!(
        base,
        "" | "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
    )
}

#[cfg(test)]
mod tests {
    use super::{Document, ManifestError, choose_for};

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn index(platforms: &[(&str, &str, &str)]) -> Document {
        let manifests: Vec<String> = platforms
            .iter()
            .enumerate()
            .map(|(size, (os, architecture, variant))| {
                format!(
                    r#"{{"digest":"{DIGEST}","size":{size},
                        "platform":{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}}}"#
                )
            })
            .collect();
        let json = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, manifests.join(","));
        Document::decode(json.as_bytes()).expect("valid")
    }

    #[test]
    fn this_machines_platform_is_chosen_and_a_plain_variant_first() {
        let Document::Index(manifests) = index(&[
            ("windows", "amd64", ""),
            ("linux", "amd64", "v3"),
            ("linux", "amd64", ""),
            ("linux", "arm64", "v8"),
        ]) else {
            unreachable!("an index")
        };
        assert_eq!(choose_for(&manifests, "amd64").expect("there").size, 2);
        assert_eq!(choose_for(&manifests, "arm64").expect("there").size, 3);
        let error = choose_for(&manifests, "riscv64").expect_err("not there");
        assert!(matches!(error, ManifestError::Platform { available } if available.contains("`linux/arm64`")));
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        let check = |json: String, expected: &str| {
            let error = Document::decode(json.as_bytes()).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(r#"{"schemaVersion":1}"#.into(), "schema version 1");
        check(r#"{"schemaVersion":2}"#.into(), "neither");
        let descriptor = |kind: &str| format!(r#"{{"mediaType":"{kind}","digest":"{DIGEST}","size":1}}"#);
        let manifest = |config: &str, layer: &str| {
            format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, descriptor(config), descriptor(layer))
        };
        let oci = "application/vnd.oci.image.config.v1+json";
        check(manifest("application/vnd.cncf.helm.config.v1+json", ""), "helm");
        check(manifest(oci, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "foreign");
        for layer in
            ["application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.gzip"]
        {
            assert!(matches!(Document::decode(manifest(oci, layer).as_bytes()), Ok(Document::Manifest(_))), "{layer}");
        }
    }
}
