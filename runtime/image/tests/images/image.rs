//! Whole images in memory, and the archives that carry them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use minipod_image::Digest;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::layer::Layer;

/// An image: layers as plain tar streams, lowest first.
pub(crate) struct Image {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) settings: Value,
}

impl Image {
    /// Two layers, the upper one changing the lower.
    pub(crate) fn small() -> Self {
        let lower = Layer::new().file("hello", "below").file("gone", "x").file("etc/passwd", "web:x:7:8::/:\n");
        let upper = Layer::new().file("hello", "above").file(".wh.gone", "");
        let settings = json!({ "Cmd": ["/hello"], "User": "web", "Env": ["A=1"] });
        Self { layers: vec![lower.finish(), upper.finish()], settings }
    }

    pub(crate) fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        json!({
            "architecture": minipod_image::config::host_architecture(), "os": "linux", "config": self.settings,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        })
        .to_string()
        .into_bytes()
    }

    pub(crate) fn id(&self) -> Digest {
        Digest::of(&self.config())
    }

    /// Compressed layers, the first with gzip, the second with zstd, and so on.
    pub(crate) fn blobs(&self) -> Vec<Vec<u8>> {
        let compress = |(number, layer): (usize, &Vec<u8>)| match number % 2 {
            0 => gzip(layer),
            _ => zstd::stream::encode_all(layer.as_slice(), 1).expect("zstd"),
        };
        self.layers.iter().enumerate().map(compress).collect()
    }

    pub(crate) fn manifest(&self) -> Vec<u8> {
        let config = self.config();
        let layers: Vec<Value> = self
            .blobs()
            .iter()
            .enumerate()
            .map(|(number, blob)| {
                let kind = if number % 2 == 0 { "gzip" } else { "zstd" };
                descriptor(blob, &format!("application/vnd.oci.image.layer.v1.tar+{kind}"))
            })
            .collect();
        json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor(&config, "application/vnd.oci.image.config.v1+json"), "layers": layers,
        })
        .to_string()
        .into_bytes()
    }

    /// As `docker save` wrote it for years, with the second layer as a link where both are the same.
    pub(crate) fn docker_archive(&self, names: &[&str]) -> Vec<u8> {
        let config = self.config();
        let mut archive = Archive::new();
        let mut paths = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let path = format!("layer{number}/layer.tar");
            match self.layers.iter().take(number).position(|other| other == layer) {
                Some(same) => archive.link(&path, &format!("../layer{same}/layer.tar")),
                None => archive.add(&path, layer),
            }
            paths.push(path);
        }
        let config_path = format!("{}.json", Digest::of(&config).hex());
        archive.add(&config_path, &config);
        let manifest = json!([{ "Config": config_path, "RepoTags": names, "Layers": paths }]);
        archive.add("manifest.json", manifest.to_string().as_bytes());
        archive.finish()
    }

    /// An OCI archive with an index of two platforms, one of them ours.
    pub(crate) fn oci_archive(&self, name: Option<&str>) -> Vec<u8> {
        let mut archive = Archive::new();
        archive.add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        for blob in self.blobs().iter().chain([&self.config(), &self.manifest()]) {
            archive.blob(blob);
        }
        let mut ours = descriptor(&self.manifest(), "application/vnd.oci.image.manifest.v1+json");
        ours["platform"] = json!({ "os": "linux", "architecture": minipod_image::config::host_architecture() });
        let foreign = json!({ "digest": Digest::of(b"elsewhere"), "size": 1, "platform": { "os": "plan9", "architecture": "mips" } });
        let platforms = json!({ "schemaVersion": 2, "manifests": [foreign, ours] }).to_string();
        archive.blob(platforms.as_bytes());
        let mut entry = descriptor(platforms.as_bytes(), "application/vnd.oci.image.index.v1+json");
        if let Some(name) = name {
            entry["annotations"] =
                json!({ "org.opencontainers.image.ref.name": "1.0", "io.containerd.image.name": name });
        }
        archive.add("index.json", json!({ "schemaVersion": 2, "manifests": [entry] }).to_string().as_bytes());
        archive.finish()
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

pub(crate) fn descriptor(content: &[u8], kind: &str) -> Value {
    json!({ "mediaType": kind, "digest": Digest::of(content), "size": content.len() })
}

struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn add(&mut self, path: &str, content: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        self.0.append_data(&mut header, path, content).expect("entry");
    }

    fn blob(&mut self, content: &[u8]) {
        self.add(&format!("blobs/sha256/{}", Digest::of(content).hex()), content);
    }

    fn link(&mut self, path: &str, target: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        self.0.append_link(&mut header, path, target).expect("link");
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("archive")
    }
}
