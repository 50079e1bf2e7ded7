//! Pulls from a real registry (Debian's `docker-registry`) on loopback, and from one that misbehaves.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use minipod_image::{Digest, Event, ImageError, PullError, PullPolicy};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use serde_json::json;
use tempfile::TempDir;

use crate::image::{Image, descriptor, gzip};
use crate::layer::Layer;
use crate::node::{Node, chain};

/// A running `docker-registry`, ended with the test.
struct Registry {
    process: Child,
    address: String,
    storage: TempDir,
    /// it speaks HTTPS
    secure: bool,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _killed = self.process.kill();
        let _reaped = self.process.wait();
    }
}

impl Registry {
    fn start() -> Self {
        Self::start_with(TempDir::new().expect("temporary directory"), &json!({ "addr": "127.0.0.1:0" }))
    }

    fn start_with(storage: TempDir, http: &serde_json::Value) -> Self {
        let config = json!({
            "version": 0.1, "log": { "formatter": "json", "level": "info" },
            "storage": { "filesystem": { "rootdirectory": storage.path().join("data") } },
            "http": http,
        });
        let path = storage.path().join("config.yml");
        std::fs::write(&path, config.to_string()).expect("config");
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry runs (scripts/setup installs it)");
        let mut log = BufReader::new(process.stderr.take().expect("log"));
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("log"), 0, "the registry ended");
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split(['"', ',', ' ']).next().expect("address").trim().to_owned();
            }
        };
        // A full pipe would stop it.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { process, address, secure: config["http"].get("tls").is_some(), storage }
    }

    async fn push(&self, name: &str, image: &Image) {
        let manifest = image.manifest();
        let mut blobs = image.blobs();
        blobs.push(image.config());
        self.push_raw(name, &blobs, &manifest, "application/vnd.oci.image.manifest.v1+json").await;
    }

    async fn push_raw(&self, name: &str, blobs: &[Vec<u8>], manifest: &[u8], kind: &str) {
        let client = Client::new(ClientConfig {
            protocol: if self.secure { ClientProtocol::Https } else { ClientProtocol::Http },
            accept_invalid_certificates: true,
            ..ClientConfig::default()
        });
        let place = format!("{}/{name}", self.address).parse().expect("reference");
        client.auth(&place, &RegistryAuth::Anonymous, RegistryOperation::Push).await.expect("auth");
        for blob in blobs {
            client.push_blob(&place, blob.clone(), &Digest::of(blob).to_string()).await.expect("blob");
        }
        let kind = kind.parse().expect("media type");
        client.push_manifest_raw(&place, manifest.to_vec(), kind).await.expect("manifest");
    }

    /// The file in which the registry keeps a blob.
    fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.storage.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    /// A node for which this registry stands in for Docker's.
    fn node(&self) -> Node {
        mirrored(&self.address)
    }
}

fn mirrored(address: &str) -> Node {
    provide_cryptography();
    let node = Node::new();
    let mirror = format!("[[registry]]\nprefix = \"docker.io\"\nlocation = \"{address}\"\ninsecure = true\n");
    node.write("registries.toml", mirror.as_bytes());
    node
}

/// The tests' own client needs it before the crate's first pull installs it.
fn provide_cryptography() {
    let _installed = rustls::crypto::ring::default_provider().install_default();
}

fn pull_error(error: ImageError) -> PullError {
    match error {
        ImageError::Pull(error) => error,
        other => unreachable!("no pull: {}", chain(&other)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_through_its_mirror_once() {
    provide_cryptography();
    let registry = Registry::start();
    let small = Image::small();
    registry.push("library/small:1", &small).await;
    let node = registry.node();
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    let progress = Arc::new(move |event: Event| sink.lock().expect("lock").push(event));
    let pulled = node.images.ensure("small:1", PullPolicy::IfNotPresent, progress.clone()).await.expect("pulled");
    assert_eq!((pulled.id.clone(), pulled.layers.len()), (small.id(), 2));
    let events_of_first = std::mem::take(&mut *events.lock().expect("lock"));
    let received: u64 = small
        .blobs()
        .iter()
        .map(|blob| {
            let layer = Digest::of(blob);
            let last = events_of_first.iter().filter_map(|event| match event {
                Event::Received { layer: of, received } if *of == layer => Some(*received),
                _ => None,
            });
            last.max().expect("progress")
        })
        .sum();
    assert_eq!(received, small.blobs().iter().map(|blob| blob.len() as u64).sum::<u64>());
    assert_eq!(events_of_first.iter().filter(|event| matches!(event, Event::Stored { .. })).count(), 2);

    let again = node.images.ensure("small:1", PullPolicy::Always, progress).await.expect("asked again");
    assert_eq!(again, pulled);
    assert!(matches!(&events.lock().expect("lock")[1], Event::Resolved { missing, present: 2 } if missing.is_empty()));
    assert_eq!(node.work(), 0);

    let by_digest = format!("small@{}", Digest::of(&small.manifest()));
    assert_eq!(node.ensure(&by_digest, PullPolicy::IfNotPresent).await.expect("by digest").id, small.id());
    drop(registry);
    node.ensure("small:1", PullPolicy::IfNotPresent).await.expect("from the store");
    let error = pull_error(node.ensure("small:1", PullPolicy::Always).await.expect_err("the registry is gone"));
    assert!(matches!(&error, PullError::Unreachable { insecure: true, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_of_one_image_at_once_are_one() {
    provide_cryptography();
    let registry = Registry::start();
    registry.push("library/small:1", &Image::small()).await;
    let node = registry.node();
    let stored = Arc::new(Mutex::new(0));
    let pulls = (0..8).map(|_| {
        let stored = Arc::clone(&stored);
        let progress = move |event: Event| {
            if matches!(event, Event::Stored { .. }) {
                *stored.lock().expect("lock") += 1;
            }
        };
        node.images.ensure("small:1", PullPolicy::IfNotPresent, Arc::new(progress))
    });
    for pulled in futures::future::join_all(pulls).await {
        assert_eq!(pulled.expect("pulled").id, Image::small().id());
    }
    assert_eq!((*stored.lock().expect("lock"), node.layers(), node.work()), (2, 2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_of_this_machine_is_chosen() {
    provide_cryptography();
    let registry = Registry::start();
    let small = Image::small();
    registry.push("library/many:amd", &small).await;
    let mut ours = descriptor(&small.manifest(), "application/vnd.oci.image.manifest.v1+json");
    ours["platform"] = json!({ "os": "linux", "architecture": minipod_image::config::host_architecture() });
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": [ours] }).to_string();
    registry.push_raw("library/many:1", &[], index.as_bytes(), kind).await;
    let node = registry.node();
    assert_eq!(node.ensure("many:1", PullPolicy::Always).await.expect("pulled").id, small.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_image_is_told_from_an_unreachable_registry() {
    let registry = Registry::start();
    let node = registry.node();
    let error = pull_error(node.ensure("nothing:1", PullPolicy::IfNotPresent).await.expect_err("unknown"));
    assert!(matches!(&error, PullError::NotFound { .. }), "{}", chain(&error));
    assert!(error.to_string().contains("docker.io/library/nothing:1") && error.to_string().contains(&registry.address));
    // HTTPS is asked where the mirror does not say otherwise.
    let secure = format!("[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\n", registry.address);
    node.write("registries.toml", secure.as_bytes());
    let error = node.ensure("nothing:1", PullPolicy::IfNotPresent).await.expect_err("no TLS there");
    assert_eq!(error.reason(), "RegistryUnavailable");
    assert!(error.to_string().contains("`insecure = true`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_with_a_wrong_digest_are_refused_by_name_and_leave_nothing() {
    provide_cryptography();
    let small = Image::small();
    let forged = gzip(&Layer::new().file("forged", "x").finish());
    let original = small.blobs()[0].clone();
    let mut longer = original.clone();
    longer.extend_from_slice(b"more");
    for bytes in [forged, longer, original[..original.len() - 9].to_vec(), b"not even gzip".to_vec()] {
        let registry = Registry::start();
        registry.push("library/small:1", &small).await;
        let digest = Digest::of(&original);
        std::fs::write(registry.blob(&digest), &bytes).expect("forged");
        let node = registry.node();
        let error = pull_error(node.ensure("small:1", PullPolicy::IfNotPresent).await.expect_err("forged"));
        let text = error.to_string();
        assert!(
            matches!(&error, PullError::WrongDigest { expected, actual, .. }
            if **expected == digest.to_string() && **actual == Digest::of(&bytes).to_string()),
            "{}",
            chain(&error)
        );
        assert!(text.contains(&format!("layer `{digest}`")) && text.contains("docker.io/library/small:1"), "{text}");
        assert!(node.images.list().expect("list").is_empty());
        assert_eq!(node.work(), 0);
    }
    let registry = Registry::start();
    registry.push("library/small:1", &small).await;
    std::fs::write(registry.blob(&small.id()), b"{}").expect("forged");
    let error = pull_error(registry.node().ensure("small:1", PullPolicy::Always).await.expect_err("forged"));
    assert!(matches!(&error, PullError::WrongDigest { what, .. } if what == "the configuration"), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_whose_contents_are_not_the_configurations_is_refused() {
    provide_cryptography();
    let registry = Registry::start();
    let (small, mut other) = (Image::small(), Image::small());
    other.layers[0] = Layer::new().file("hello", "another").finish();
    // The manifest and all its digests are right, only the configuration belongs to another image.
    let config = other.config();
    let mut manifest: serde_json::Value = serde_json::from_slice(&small.manifest()).expect("manifest");
    manifest["config"] = descriptor(&config, "application/vnd.oci.image.config.v1+json");
    let mut blobs = small.blobs();
    blobs.push(config);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    registry.push_raw("library/mixed:1", &blobs, manifest.to_string().as_bytes(), kind).await;
    let node = registry.node();
    let error = pull_error(node.ensure("mixed:1", PullPolicy::Always).await.expect_err("mixed"));
    assert!(
        matches!(error, PullError::Layer { .. }) && chain(&error).contains("the image's configuration says"),
        "{}",
        chain(&error)
    );
    assert_eq!(node.work(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_layer_of_a_registry_is_refused_with_layer_and_entry() {
    provide_cryptography();
    let registry = Registry::start();
    let image = Image { layers: vec![Layer::new().file("../../../../escaped", "x").finish()], settings: json!({}) };
    registry.push("library/hostile:1", &image).await;
    let node = registry.node();
    let error = pull_error(node.ensure("hostile:1", PullPolicy::Always).await.expect_err("hostile"));
    let text = chain(&error);
    assert!(
        text.contains("../../../../escaped") && text.contains(&Digest::of(&image.blobs()[0]).to_string()),
        "{text}"
    );
    assert_eq!((node.work(), node.layers()), (0, 0));
}

/// A registry that serves one image and hangs up in the middle of the first layer as often as it is told.
fn faltering(image: &Image, times: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("address").to_string();
    let mut contents = image.blobs();
    contents.extend([image.config(), image.manifest()]);
    let layer = Digest::of(&image.blobs()[0]).to_string();
    let left = Arc::new(Mutex::new(times));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (contents, layer, left) = (contents.clone(), layer.clone(), Arc::clone(&left));
            thread::spawn(move || answer(stream, &contents, &layer, &left));
        }
    });
    address
}

fn answer(mut stream: TcpStream, contents: &[Vec<u8>], layer: &str, left: &Mutex<usize>) -> Option<()> {
    let mut request = String::new();
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    reader.read_line(&mut request).ok()?;
    let path = request.split_whitespace().nth(1)?.to_owned();
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let wanted = path.rsplit('/').next()?;
    let content = if path.contains("/manifests/") {
        contents.last()
    } else {
        contents.iter().find(|content| Digest::of(content).to_string() == wanted)
    };
    let Some(content) = content else {
        return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
    stream.write_all(head.as_bytes()).ok()?;
    let mut left = left.lock().ok()?;
    if wanted == layer && *left > 0 {
        *left -= 1;
        stream.write_all(&content[..content.len() / 2]).ok()?;
        return stream.shutdown(std::net::Shutdown::Both).ok();
    }
    stream.write_all(content).ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    stream.read_to_end(&mut Vec::new()).ok().map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_tried_again_and_then_told() {
    let small = Image::small();
    let node = mirrored(&faltering(&small, 2));
    assert_eq!(node.ensure("small:1", PullPolicy::Always).await.expect("third time").id, small.id());
    let node = mirrored(&faltering(&small, 1000));
    let error = pull_error(node.ensure("small:1", PullPolicy::Always).await.expect_err("never whole"));
    let layer = Digest::of(&small.blobs()[0]).to_string();
    assert!(matches!(&error, PullError::Interrupted { what, .. } if what.contains(&layer)), "{}", chain(&error));
    assert_eq!(node.work(), 0);
}

/// A certificate authority and a certificate of it for 127.0.0.1, made by `openssl`.
fn make_certificates(directory: &std::path::Path) {
    let script = "set -e
        new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2'
        openssl req -x509 $new -keyout ca.key -out ca.pem -subj '/CN=test authority' -addext basicConstraints=critical,CA:TRUE
        openssl req $new -keyout key.pem -out request.pem -subj /CN=registry
        printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' > extensions
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out cert.pem";
    let output = Command::new("sh").args(["-c", script]).current_dir(directory).output().expect("sh runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn https_is_the_default_and_an_unknown_certificate_is_refused() {
    // The trusted authorities come from the environment, so this test binary runs again inside another one.
    const INSIDE: &str = "MINIPOD_TEST_AUTHORITY";
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        return runtime.block_on(pull_over_https(std::env::var_os("SSL_CERT_FILE").is_some()));
    }
    let directory = TempDir::new().expect("temporary directory");
    make_certificates(directory.path());
    for trusted in [true, false] {
        let mut command = Command::new(std::env::current_exe().expect("own path"));
        command
            .args(["--exact", "registry::https_is_the_default_and_an_unknown_certificate_is_refused"])
            .env(INSIDE, directory.path())
            .env_remove("SSL_CERT_FILE");
        if trusted {
            command.env("SSL_CERT_FILE", directory.path().join("ca.pem"));
        }
        assert!(command.status().expect("runs").success(), "trusted: {trusted}");
    }
}

async fn pull_over_https(trusted: bool) {
    provide_cryptography();
    let certificates = PathBuf::from(std::env::var_os("MINIPOD_TEST_AUTHORITY").expect("set above"));
    let tls = json!({ "certificate": certificates.join("cert.pem"), "key": certificates.join("key.pem") });
    let storage = TempDir::new().expect("temporary directory");
    let registry = Registry::start_with(storage, &json!({ "addr": "127.0.0.1:0", "tls": tls }));
    registry.push("small:1", &Image::small()).await;
    let node = Node::new();
    let pulled = node.ensure(&format!("{}/small:1", registry.address), PullPolicy::IfNotPresent).await;
    match (trusted, pulled) {
        (true, pulled) => assert_eq!(pulled.expect("pulled").id, Image::small().id()),
        (false, Err(error)) => {
            assert!(matches!(pull_error(error), PullError::Unreachable { insecure: false, .. }));
        }
        (false, Ok(_)) => unreachable!("an unknown certificate was taken"),
    }
}

/// Stands before a registry and gives its contents only to who fetched a token first, as Docker's registry does.
fn guarded(image: &Image) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("address").to_string();
    let mut contents = image.blobs();
    contents.extend([image.config(), image.manifest()]);
    let own = address.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (contents, own) = (contents.clone(), own.clone());
            thread::spawn(move || answer_with_token(stream, &contents, &own));
        }
    });
    address
}

fn answer_with_token(mut stream: TcpStream, contents: &[Vec<u8>], own: &str) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut request = String::new();
    while reader.read_line(&mut request).ok()? > 2 {}
    let path = request.split_whitespace().nth(1)?.to_owned();
    let authorised = request.to_ascii_lowercase().contains("authorization: bearer anybodys");
    let wanted = path.rsplit('/').next()?;
    let (status, header, body) = if path.starts_with("/token") && path.contains("repository%3Alibrary%2Fsmall%3Apull") {
        ("200 OK", String::new(), br#"{"token":"anybodys"}"#.to_vec())
    } else if !authorised {
        let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"test\"\r\n");
        ("401 Unauthorized", challenge, Vec::new())
    } else if path.contains("/manifests/") {
        ("200 OK", String::new(), contents.last()?.clone())
    } else {
        ("200 OK", String::new(), contents.iter().find(|content| Digest::of(content).to_string() == wanted)?.clone())
    };
    let head = format!("HTTP/1.1 {status}\r\n{header}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), &body].concat()).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_a_token_gets_an_anonymous_one() {
    let node = mirrored(&guarded(&Image::small()));
    assert_eq!(node.ensure("small:1", PullPolicy::Always).await.expect("pulled").id, Image::small().id());
    let error = pull_error(node.ensure("private:1", PullPolicy::Always).await.expect_err("no token for that"));
    assert!(matches!(&error, PullError::Unauthorized { .. }), "{}", chain(&error));
}
